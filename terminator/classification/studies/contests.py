"""Candidates that are first given their learning rates: networks, and optimisers."""

from collections.abc import Mapping
from typing import Any

from terminator.classification.config import Config
from terminator.classification.presets import preset
from terminator.classification.studies.bases import SMALL, SMOKE
from terminator.runs.study import Contest, of_profile

_NETWORKS = {  # each with the optimiser that it is usually trained with
    "Terminator, Kar3": {},
    "ResNet-18, SGD": {
        "network": {"name": "resnet18"},
        "optimizer": {"name": "SGD", "weight_decay": 5e-4},
    },
    "CCNN-4,140, AdamW": {  # with its authors' settings for CIFAR-10
        "network": {"name": "ccnn", "form": "released", "dropout": 0.1},
        "model": {"omega_0": 4231.57},
        "optimizer": {"name": "AdamW", "weight_decay": 1e-4},
    },
    "CCNN-4,140 (plain), AdamW": {  # our first reading: at small sizes it learns faster
        "network": {"name": "ccnn"},
        "optimizer": {"name": "AdamW", "weight_decay": 1e-4},
    },
}
_NETWORK_RATES = {
    "Terminator, Kar3": (0.0004, 0.0012, 0.0036),
    "ResNet-18, SGD": (0.005, 0.02, 0.08),
    "CCNN-4,140, AdamW": (0.003, 0.01, 0.03),
    "CCNN-4,140 (plain), AdamW": (0.003, 0.01, 0.03),
}
_OPTIMIZERS = {
    name: {"optimizer": {"name": name}} for name in ("Kar3", "Kar2", "Lion", "AdamW", "SGD")
}
# Kar3 steps by up to three times its rate, Kar2 by two, Lion by one: the same longest steps
_OPTIMIZER_RATES = {
    "Kar3": (0.0004, 0.0012, 0.0036),
    "Kar2": (0.0006, 0.0018, 0.0054),
    "Lion": (0.0012, 0.0036, 0.0108),
    "AdamW": (0.001, 0.003, 0.01),
    "SGD": (0.01, 0.03, 0.1),
}
_SMOKE_SWEEP = {"dataset": {"train_size": 192, "held_out": 96}, "train": {"epochs": 2}}
_PAPER_SWEEP = {
    "dataset": {"held_out": 5000},
    "train": {"epochs": 15},
    "test": {"drop_last": False},
}
_CONTEST_SEEDS = {"smoke": (0,), "laptop": tuple(range(8)), "paper": (0, 1, 2)}


def networks(profile: str) -> Contest:
    """Terminator, ResNet-18 and both forms of CCNN on the same data, batch, augmentation, schedule
    and epochs.
    """
    base, sweep = of_profile(
        {
            "smoke": (SMOKE, _SMOKE_SWEEP),
            "laptop": (
                preset(
                    "cifar10-laptop",
                    dataset={"image_size": 12, "train_size": 2000, "test_size": 1000},
                ),
                {"dataset": {"train_size": 1600, "held_out": 400}},
            ),
            "paper": (preset("cifar10"), _PAPER_SWEEP),
        },
        profile,
    )
    candidates = dict(_NETWORKS)
    if profile == "smoke":
        candidates["Terminator, Kar3"] = SMALL
        del candidates["CCNN-4,140 (plain), AdamW"]
    return _contest("networks", base, candidates, _NETWORK_RATES, sweep, profile)


def optimizers(profile: str) -> Contest:
    """Terminator trained with Kar3, Kar2, Lion, AdamW and SGD with momentum; the rest as in the
    base.
    """
    base, sweep = of_profile(
        {
            "smoke": (SMOKE.updated(**SMALL), _SMOKE_SWEEP),
            "laptop": (preset("digits", train={"epochs": 3}), {"dataset": {"held_out": 360}}),
            "paper": (preset("cifar10"), _PAPER_SWEEP),
        },
        profile,
    )
    return _contest("optimizers", base, _OPTIMIZERS, _OPTIMIZER_RATES, sweep, profile)


def _contest(
    experiment: str,
    base: Config,
    candidates: dict[str, dict[str, Any]],
    rates: Mapping[str, tuple[float, ...]],
    sweep: dict[str, Any],
    profile: str,
) -> Contest:
    rates = {label: rates[label] for label in candidates}
    if profile == "smoke":  # a sweep is seen at work with two rates as well as with three
        rates = {label: found[1:] for label, found in rates.items()}
    return Contest(experiment, base, candidates, rates, sweep, _CONTEST_SEEDS[profile])
