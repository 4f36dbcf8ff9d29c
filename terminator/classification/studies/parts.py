"""The network without each of its parts, or with another in its place: ablations."""

from collections.abc import Collection
from typing import Any

from terminator.classification.config import Config
from terminator.classification.presets import preset
from terminator.classification.studies.bases import BENCH, baseline
from terminator.runs.study import Study, of_profile

FULL = "full network"
Changes = dict[str, dict[str, dict[str, Any]]]
ABLATIONS: Changes = {  # kind: {variant: what it changes}
    "loss": {
        "without slow neural loss": {"train": {"slow_neural_loss": 0.0}},
        "slow neural loss of channel sums": {"train": {"slow_neural_loss_form": "channel_sum"}},
    },
    "branches": {
        "without RGUs": {"model": {"rgu": False}},
        "without hyper-channel interaction": {"model": {"hyper_channel_interaction": False}},
        "without hyper interaction": {"model": {"hyper_interaction": False}},
        "without Si-GLU": {"model": {"si_glu": False}},
        "without skips": {"model": {"skips": False}},
    },
    "local branches": {
        "without local 3x3": {"model": {"local_sizes": [0, 9, 5, 7]}},
        "without local 9x9": {"model": {"local_sizes": [3, 0, 5, 7]}},
        "without local 5x5": {"model": {"local_sizes": [3, 9, 0, 7]}},
        "without local 7x7": {"model": {"local_sizes": [3, 9, 5, 0]}},
        "without local branches": {"model": {"local_sizes": [0, 0, 0, 0]}},
        "without local context": {"model": {"local_context": False}},
    },
    "standardisation": {
        "batch for G-IBS": {"model": {"standardization": "batch"}},
        "instance for G-IBS": {"model": {"standardization": "instance"}},
        "affine batch for G-IBS": {"model": {"standardization": "batch_affine"}},
    },
    "slow networks": {
        "without s-renormalisation": {"model": {"renormalization": False}},
        "trainable alpha, beta": {"model": {"trainable_renormalization": True}},
        "omega_0 = 2": {"model": {"omega_0": 2.0}},
        "omega_0 = 20": {"model": {"omega_0": 20.0}},
        "omega_0 = 200": {"model": {"omega_0": 200.0}},
        "omega_0 = 20000": {"model": {"omega_0": 20000.0}},
    },
}
_SMOKE_ABLATIONS = (
    "without slow neural loss",
    "without RGUs",
    "without local branches",
    "instance for G-IBS",
)
_ABLATION_BASES = {
    "smoke": preset(
        "digits",
        dataset={"train_size": 320, "test_size": 180},
        model={"factors": [4, 3, 2]},
        train={"epochs": 3},
        test={"calibration_images": 128},
    ),
    "laptop": preset(
        "mnist-laptop", dataset={"image_size": 12, "train_size": 1000, "test_size": 1000}
    ),
    "paper": preset("cifar10", train={"epochs": 30}),
}
_ABLATION_SEEDS = {"smoke": (0, 1), "laptop": (0, 1), "paper": (0, 1, 2)}


def _kinds(changes: Changes) -> dict[str, str]:
    return {name: kind for kind, variants in changes.items() for name in variants}


def _without(
    base: Config, changes: Changes, in_smoke: Collection[str], profile: str
) -> dict[str, Config]:
    """The base with each of the changes; in smoke with a few of them."""
    return {
        name: base.updated(**change)
        for variants in changes.values()
        for name, change in variants.items()
        if profile != "smoke" or name in in_smoke
    }


def ablation_kinds() -> dict[str, str]:
    """{variant: kind} of all ablations."""
    return _kinds(ABLATIONS)


def ablations(profile: str) -> Study:
    """The full network and what it is without each of its parts; a few of them in smoke."""
    base = of_profile(_ABLATION_BASES, profile)
    variants = {FULL: base} | _without(base, ABLATIONS, _SMOKE_ABLATIONS, profile)
    return Study("ablations", variants, _ABLATION_SEEDS[profile])


PARTS: Changes = {  # kind: {variant: what it changes}
    "loss": {"without slow neural loss": {"train": {"slow_neural_loss": 0.0}}},
    "branches": {
        "without global operator": {"model": {"global_mixer": "none"}},  # a linear map in its place
        **ABLATIONS["branches"],
    },
    "local branches": {
        "without local context": ABLATIONS["local branches"]["without local context"]
    },
    "standardisation": {"batch for G-IBS": ABLATIONS["standardisation"]["batch for G-IBS"]},
    "slow networks": {"omega_0 = 30": {"model": {"omega_0": 30.0}}},
}
_SMOKE_PARTS = ("without slow neural loss", "without RGUs")
# three blocks: small enough to be trained many times; ten epochs: after three, seeds of one
# network still lie several points apart
_PARTS_BASES = {
    **_ABLATION_BASES,
    "laptop": preset(
        "mnist-laptop",
        dataset={"image_size": 12, "train_size": 1000, "test_size": 2000},
        model={"factors": [12, 3, 2]},
        optimizer={"lr": 0.0004},
        train={"batch_size": 25, "epochs": 10},
    ),
}
_PARTS_SEEDS = {"smoke": (0, 1), "laptop": (0, 1, 2, 3, 4, 5, 6), "paper": (0, 1, 2)}
# what is measured in trained networks (slow scores against their controls) differs by about a point
# where seeds spread by two: 48 show one point with a chance of nine in ten
_INSIDE_SEEDS = {**_PARTS_SEEDS, "laptop": tuple(range(48))}


def part_kinds() -> dict[str, str]:
    """{variant: kind} of the parts."""
    return _kinds(PARTS)


def parts(profile: str) -> Study:
    """The full network and what it is without each of its main parts, with seeds enough for a
    verdict; the full one is watched from inside, which changes no number of its training.
    """
    base = of_profile(_PARTS_BASES, profile)
    full = base.updated(train={"observe": True}) if profile == "laptop" else base
    variants = {FULL: full} | _without(base, PARTS, _SMOKE_PARTS, profile)
    return Study("ablations", variants, _PARTS_SEEDS[profile])


def full_networks(profile: str) -> Study:
    """The full network of `parts` alone, with as many seeds as its controls take: what it is
    measured against in trained networks (control_study), and a reference of more seeds for parts.
    """
    study = parts(profile)
    return Study(study.experiment, {FULL: study.variants[FULL]}, _INSIDE_SEEDS[profile])


ATTENTION = "small Transformer"


def transformers(profile: str) -> Study:
    """A small network with softmax attention on the data of `parts`, whose attention is rolled out
    (rollout.py).
    """
    base = of_profile(_PARTS_BASES, profile)
    config = baseline(base, network={"name": "host", "mixer": "attention_explicit"}, **BENCH)
    return Study("transformers", {ATTENTION: config}, _INSIDE_SEEDS[profile])


GLOBAL_MIXERS = {"HyperZ.Z.W": "hyperzzw", "Hamburger": "hamburger", "linear map": "none"}


def global_mixers(profile: str) -> Study:
    """Terminator with a Hamburger, or a mere linear map, in its global operator's place: {label:
    ...}.

    The network, data and recipe are the ablations', whose full network is the first variant.
    """
    base = of_profile(_ABLATION_BASES, profile)
    variants = {
        label: base.updated(model={"global_mixer": name}) for label, name in GLOBAL_MIXERS.items()
    }
    return Study("ablations", variants, (0,) if profile == "smoke" else _ABLATION_SEEDS[profile])
