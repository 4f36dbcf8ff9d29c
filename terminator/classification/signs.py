"""What bf16 changes in a step of training: the signs of its gradients, which are all that Kar2 and
Kar3 take of them.

Source: of the optimisers' rule, terminator/optim.py; the release trains in float32.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.tasks import Classification
from terminator.data.augment import normalize
from terminator.runs import measurements
from terminator.runtime import digests, shipped
from terminator.runtime.provenance import device_name
from terminator.runtime.settings import require_one_of

EXPERIMENT = "gradient_signs"
ALL = "all"
BATCH, BATCHES = 64, 4  # images, as the released batch; of training images, in one order
# profile: the model of the package that is looked at, and what changes in its data
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "smoke": ("digits", {"name": "digits", "image_size": 16, "train_size": BATCH * BATCHES}),
    "laptop": ("cifar10", {}),
    "paper": ("cifar10", {}),
}
PARTS = {  # of a parameter's name, behind the block's number
    "slow_net": "global slow networks",
    "rgu_slow": "gated units",
    "rgu_fast": "gated units",
    "mixer": "channel mixers",
    "hyper_channel_interaction": "hyper-channel interaction",
    "hyper_interaction": "hyper interaction",
    "locals": "local branches",
    "bottleneck": "bottlenecks",
    "bias": "scalars after G-IBS",
}


def recorded(profile: str) -> dict[str, Any]:
    """The record of this profile's model, made now where it is missing; other weights are another
    measurement.

    Raises:
        ConfigError: for an unknown profile.
        DatasetNotFound: without the record and without the data of the model.
    """
    require_one_of("profile", profile, MODELS)
    name = MODELS[profile][0]
    run = f"{name}-{profile}-{digests.of_file(shipped.path(name))[:8]}"
    return measurements.named(EXPERIMENT, run, "signs", profile, lambda: _measured(profile))


def _measured(profile: str) -> dict[str, Any]:
    name, changes = MODELS[profile]
    model, trained_with = CLASSIFICATION.load(shipped.path(name))
    assert trained_with is not None  # models of the package say it
    config = trained_with.updated(dataset=changes)
    data = CLASSIFICATION.load_data(config)
    of_model = model.info["data"]
    order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(0))
    batches = [
        (
            normalize(data.train_images[part], of_model["mean"], of_model["std"]),
            data.train_labels[part],
        )
        for part in order[: BATCH * BATCHES].split(BATCH)
    ]
    return {
        "data": {"title": data.info.title, "fingerprint": data.info.fingerprint},
        "results": {
            "model": name,
            "batches": len(batches),
            "rows": compared(model, config, batches),
        },
        "device": device_name("cpu"),
    }


def gradients(
    model: torch.nn.Module, config: Config, x: Tensor, labels: Tensor, precision: str
) -> dict[str, Tensor]:
    """The gradient of the whole loss by parameter, on one batch; dropout draws the same every time.

    Args:
        x: (N, C, H, W), normalised.
        precision: float32 or bf16 (autocast).
    """
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            terms, _ = Classification(model, config).loss_terms(model, x, labels)
        sum(terms.values()).backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def compared(
    model: torch.nn.Module, config: Config, batches: Sequence[tuple[Tensor, Tensor]]
) -> list[dict[str, Any]]:
    """A row per part of the network, and one of all: numbers whose gradient is not zero, and how
    many of them (%) have the same sign in bf16 as in float32, and in the next batch.
    """
    model.train()
    exact = [gradients(model, config, x, labels, "float32") for x, labels in batches]
    rounded = [gradients(model, config, x, labels, "bf16") for x, labels in batches]
    model.eval()
    groups: dict[str, list[str]] = {}
    for name in exact[0]:
        groups.setdefault(part_of(name), []).append(name)
    groups[ALL] = list(exact[0])
    return [
        {
            "part": part,
            "numbers": sum(int(exact[0][name].count_nonzero()) for name in names),
            "in bf16": _same(exact, rounded, names),
            "in the next batch": _same(exact, exact[1:], names),
        }
        for part, names in groups.items()
    ]


def part_of(parameter: str) -> str:
    """What a parameter belongs to, by its name: blocks.0.rgu_fast.k.weight to gated units.

    By modules of a block, where analysis.part_of goes by kinds of network and has the channel nets
    of both interactions in one.
    """
    words = parameter.split(".")
    return PARTS.get(words[2], words[2]) if words[0] == "blocks" else words[0]


def _same(
    some: Sequence[dict[str, Tensor]], others: Sequence[dict[str, Tensor]], names: Sequence[str]
) -> float:
    """Percent of the numbers that are not zero in the first whose sign is the same in the second,
    over all pairs.
    """
    same = total = 0
    for one, other in zip(some, others, strict=False):
        for name in names:
            there = one[name] != 0
            same += int((one[name].sign() == other[name].sign())[there].sum())
            total += int(there.sum())
    return 100 * same / max(1, total)


def table(record: dict[str, Any]) -> pd.DataFrame:
    """The rows of a record by part, the whole last."""
    rows = pd.DataFrame(record["results"]["rows"]).set_index("part")
    return rows.rename(index={"scalars between blocks": PARTS["bias"]})  # as older records have it


def sentence(record: dict[str, Any]) -> str:
    """What bf16 changes, in words."""
    rows, found = table(record), record["results"]
    whole, parts = rows.loc[ALL], rows.drop(index=ALL).sort_values("in bf16")
    least = parts.iloc[0]
    return (
        f"Model {found['model']}, {found['batches']} batches of {BATCH} training images: of all "
        f"gradients' signs {whole['in bf16']:.1f} % are in bf16 what they are in float32, and "
        f"{whole['in the next batch']:.1f} % what they are in the next batch. The least by parts: "
        f"{least.name} ({least['in bf16']:.1f} %), {least['numbers'] / whole['numbers']:.1%} of "
        f"all; of every other part at least {parts['in bf16'].iloc[1]:.1f} %."
    )
