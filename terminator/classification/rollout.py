"""Attention roll-out of a small Transformer, beside slow scores: where does a network that attends
look, on the same images, trained on the same data?

Source: arXiv 2005.00928, with a mean over positions in the class token's place.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from terminator.classification import control_study, studies
from terminator.classification.controls import inputs_of, object_scores
from terminator.classification.host import Host
from terminator.classification.network_records import NetworkRecord
from terminator.classification.observations import ink
from terminator.classification.runs import ClassificationRun
from terminator.data.augment import normalize
from terminator.data.images import ImageData
from terminator.mixers.base import SoftmaxAttention
from terminator.standardization import set_evaluation

EXPERIMENT = "attention_rollout"
ROLLOUT = "attention roll-out"


def recorded(profile: str, device: str = "auto") -> dict[str, Any]:
    """The record of roll-outs, see NetworkRecord.recorded."""
    return RECORD.recorded(profile, device)


def _one(run: ClassificationRun, data: ImageData, images: int) -> dict[str, Any]:
    """What is measured of one trained Transformer, on the images of control_study."""
    model, pixels = run.model(), data.test_images[:images]
    x, inked = normalize(pixels, data.info.mean, data.info.std), ink(pixels, data.info.name)
    found: dict[str, Any] = {}
    if inked is not None:
        batch = run.config.test.batch_size
        scores = object_scores(lambda part, _: {ROLLOUT: [rollout(model, part)]}, x, inked, batch)
        found = scores[ROLLOUT]
    return {"accuracy": run.accuracy("released"), "object": found}


RECORD = NetworkRecord(EXPERIMENT, "rollout", studies.transformers, studies.ATTENTION, _one)


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
    with inputs_of(attentions) as seen:
        model(x)
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
    control, rolled = control_study.found_record(profile), RECORD.found(profile)
    return None if control is None or rolled is None else joined(control, rolled)
