"""Attention roll-out of a small Transformer, beside slow scores: where does a network that attends
look, on the same images, trained on the same data?

Source: arXiv 2005.00928, with a mean over positions in the class token's place.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from terminator.classification import control_study, controls, studies
from terminator.classification.host import Host
from terminator.classification.observations import ink
from terminator.classification.runs import CLASSIFICATION
from terminator.data.augment import normalize
from terminator.mixers.base import SoftmaxAttention
from terminator.runs import measurements, records
from terminator.runtime.paths import results_dir
from terminator.runtime.provenance import device_name
from terminator.standardization import set_evaluation

EXPERIMENT = "attention_rollout"
ROLLOUT = "attention roll-out"


def recorded(profile: str, device: str = "auto") -> dict[str, Any]:
    """The record of roll-outs, made now where it is missing: from the trained Transformers, which
    are trained where their weights are not here.

    Raises:
        as System.run.
    """
    return measurements.named(
        EXPERIMENT, _name(profile), "controls", profile, lambda: _measured(profile, device)
    )


def found_record(profile: str) -> dict[str, Any] | None:
    """The same, if it is there."""
    path = results_dir() / "runs" / EXPERIMENT / _name(profile) / "record.json"
    return records.read_record(path) if path.is_file() else None


def _name(profile: str) -> str:
    study = studies.transformers(profile)
    return control_study.name_of("rollout", profile, study.variants[studies.ATTENTION], study.seeds)


def _measured(profile: str, device: str) -> dict[str, Any]:
    study = studies.transformers(profile)
    config = CLASSIFICATION.ready(study.variants[studies.ATTENTION], profile)
    data, rows = CLASSIFICATION.load_data(config), []
    images = data.test_images[: control_study.IMAGES[profile]]
    x = normalize(images, data.info.mean, data.info.std)
    inked = ink(images, data.info.name)
    for seed in study.seeds:
        of_seed = config.updated(train={"seed": seed, "device": device})
        run = CLASSIFICATION.run(of_seed, study.experiment, profile, data=data, need_model=True)
        found = {} if inked is None else _objects(run.model(), x, inked, config.test.batch_size)
        rows.append({"seed": seed, "accuracy": run.accuracy("released"), "object": found})
    about = {"title": data.info.title, "fingerprint": data.info.fingerprint}
    return {"data": about, "results": {"networks": rows}, "device": device_name("cpu")}


def _objects(model: Any, x: Tensor, inked: Tensor, batch: int) -> dict[str, Any]:
    """AUROC (%) of every image that has ink, and the concentration."""
    scores, dense = [], []
    for part, mask in zip(x.split(batch), inked.split(batch), strict=True):
        use = mask.flatten(1).any(1)
        found, concentration = controls.per_image([rollout(model, part)[use]], mask[use])
        scores += [round(score, 2) for score in found]
        dense.append(concentration)
    return {"auroc": scores, "concentration": sum(dense) / len(dense)}


@torch.no_grad()
def rollout(model: Host, x: Tensor) -> Tensor:
    """How much the output, a mean over positions, draws on every position of x: (N, *positions),
    adding up to 1.

    The product of the blocks' (A + I) / 2, A the mean over heads of the attention's weights.
    Standardisation over the batch uses the statistics of x, as in the evaluation "released".

    Args:
        model: a host whose mixer is softmax attention.
        x: (N, C, H, W), normalised.
    """
    model.eval()
    set_evaluation(model, "released")
    attentions = [m for m in model.modules() if isinstance(m, SoftmaxAttention)]
    seen: list[Tensor] = []
    hooks = [
        attention.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for attention in attentions
    ]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    rolled = torch.eye(x[0, 0].numel(), dtype=x.dtype, device=x.device).expand(len(x), -1, -1)
    for attention, tokens in zip(attentions, seen, strict=True):
        weights = attention.weights(tokens).mean(1)  # (N, T, T)
        rolled = (weights @ rolled + rolled) / 2
    return rolled.mean(1).view(len(x), *x.shape[2:])


def joined(control: dict[str, Any], rolled: Mapping[str, Any]) -> dict[str, Any]:
    """The record of control_study with roll-outs as a further way, of the seeds that both have.

    Args:
        control: of control_study.
        rolled: of this study, on the same images.
    """
    of_seed = {row["seed"]: row["object"] for row in rolled["results"]["networks"]}
    networks = [
        {**row, "object": {**row["object"], ROLLOUT: of_seed[row["seed"]]} if row["object"] else {}}
        for row in control["results"]["networks"]
        if row["seed"] in of_seed
    ]
    return {**control, "results": {**control["results"], "networks": networks}}


def found_joined(profile: str) -> dict[str, Any] | None:
    """Both records as one, if both are there."""
    control, rolled = control_study.found_record(profile), found_record(profile)
    return None if control is None or rolled is None else joined(control, rolled)
