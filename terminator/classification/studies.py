"""Studies: sets of named configurations that are compared with one another, as plain data, per
profile.

`study.run_study` trains one; everything here says only what is trained.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from terminator.classification.config import Config
from terminator.classification.presets import preset
from terminator.config import ModelConfig
from terminator.mixers.registry import MAP_MIXERS
from terminator.runs.study import Contest, Study, default_seeds, firsts, of_profile

# -- ablations -------------------------------------------------------------------------------------

FULL = "full network"
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {  # kind: {variant: what it changes}
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


def ablation_kinds() -> dict[str, str]:
    """{variant: kind} of all ablations."""
    return {name: kind for kind, variants in ABLATIONS.items() for name in variants}


def ablations(profile: str) -> Study:
    """The full network and what it is without each of its parts; a few of them in smoke."""
    base = of_profile(_ABLATION_BASES, profile)
    changes = {
        name: change
        for variants in ABLATIONS.values()
        for name, change in variants.items()
        if profile != "smoke" or name in _SMOKE_ABLATIONS
    }
    variants = {FULL: base} | {name: base.updated(**change) for name, change in changes.items()}
    return Study("ablations", variants, _ABLATION_SEEDS[profile])


PARTS: dict[str, dict[str, dict[str, Any]]] = {  # kind: {variant: what it changes}
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
    return {name: kind for kind, variants in PARTS.items() for name in variants}


def parts(profile: str) -> Study:
    """The full network and what it is without each of its main parts, with seeds enough for a
    verdict; the full one is watched from inside, which changes no number of its training.
    """
    base = of_profile(_PARTS_BASES, profile)
    changes = {
        name: change
        for variants in PARTS.values()
        for name, change in variants.items()
        if profile != "smoke" or name in _SMOKE_PARTS
    }
    full = base.updated(train={"observe": True}) if profile == "laptop" else base
    variants = {FULL: full} | {name: base.updated(**change) for name, change in changes.items()}
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
    config = _baseline(base, network={"name": "host", "mixer": "attention_explicit"}, **_BENCH)
    return Study("transformers", {ATTENTION: config}, _INSIDE_SEEDS[profile])


def _baseline(base: Config, **changes: Any) -> Config:
    """Another network in Terminator's place, which takes none of its settings."""
    return dataclasses.replace(base, model=ModelConfig()).updated(**changes)


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
_SMOKE = preset(
    "digits",
    dataset={"train_size": 256, "test_size": 180},
    train={"epochs": 3, "batch_size": 32},
    test={"calibration_images": 128},
)
_SMALL = {"model": {"factors": [4, 3]}}  # a Terminator of two blocks, in smoke
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
            "smoke": (_SMOKE, _SMOKE_SWEEP),
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
        candidates["Terminator, Kar3"] = _SMALL
        del candidates["CCNN-4,140 (plain), AdamW"]
    return _contest("networks", base, candidates, _NETWORK_RATES, sweep, profile)


def optimizers(profile: str) -> Contest:
    """Terminator trained with Kar3, Kar2, Lion, AdamW and SGD with momentum; the rest as in the
    base.
    """
    base, sweep = of_profile(
        {
            "smoke": (_SMOKE.updated(**_SMALL), _SMOKE_SWEEP),
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


def precision(profile: str) -> Study:
    """The same trainings with float32 and with bf16 autocast, {(data, precision): ...}."""
    bases = of_profile(
        {
            "smoke": {"digits": _SMOKE.updated(**_SMALL)},
            "laptop": {
                "digits": preset("digits"),
                "CIFAR-10": preset(
                    "cifar10-laptop",
                    dataset={"image_size": 12, "train_size": 2000, "test_size": 1000},
                ),
            },
            "paper": {"CIFAR-10": preset("cifar10", train={"epochs": 12})},
        },
        profile,
    )
    return Study(
        "precision",
        {
            (data, kind): base.updated(train={"precision": kind})
            for data, base in bases.items()
            for kind in ("float32", "bf16")
        },
        default_seeds(profile),
    )


# -- sequences -------------------------------------------------------------------------------------

_TWO = ("matrix", "convolution")
_THREE = (*_TWO, "causal_convolution")
_SEQUENCES = {  # profile: {task: (preset, the readings of the global operator that are trained)}
    "smoke": {"sequential digits": ("sdigits", _THREE), "permuted digits": ("pdigits", _TWO)},
    "laptop": {
        "sMNIST": ("smnist-laptop", _THREE),
        "pMNIST": ("pmnist-laptop", _TWO),
        "sCIFAR10": ("scifar10-laptop", _TWO),
    },
    "paper": {
        "sMNIST": ("smnist", _THREE),
        "pMNIST": ("pmnist", _TWO),
        "sCIFAR10": ("scifar10", _TWO),
    },
}


def sequences(profile: str) -> Study:
    """Images as sequences of pixels, {(task, reading of the global operator): ...}."""
    tasks = of_profile(_SEQUENCES, profile)
    return Study(
        "sequences",
        {
            (task, reading): preset(name, model={"operator": reading})
            for task, (name, readings) in tasks.items()
            for reading in readings
        },
        default_seeds(profile),
    )


# -- trainings seen from inside --------------------------------------------------------------------

WITH, WITHOUT = "with slow neural loss", "without slow neural loss"
_INSIDE = {  # the base whose test images and hyper-kernels are observed after every epoch
    "smoke": preset(
        "digits",
        dataset={"train_size": 300, "test_size": 100},
        model={"factors": [4, 3, 2]},
        train={"epochs": 3, "observe": True},
    ),
    "laptop": preset(
        "mnist-laptop",
        dataset={"train_size": 2500, "test_size": 1000},
        train={"epochs": 3, "observe": True},
    ),
    "paper": preset("mnist", train={"observe": True}),
}


def slow_neural_loss(profile: str) -> Study:
    """The same network with and without the slow neural loss, on images whose object is known pixel
    by pixel.
    """
    base = of_profile(_INSIDE, profile)
    return Study(
        "inside",
        {WITH: base, WITHOUT: base.updated(train={"slow_neural_loss": 0.0})},
        default_seeds(profile),
    )


def feature_statistics(profile: str) -> Study:
    """Terminator and a batch-normed ResNet-18 on the same data, each with the optimiser it is
    usually trained with.
    """
    base = of_profile(
        {
            "smoke": _INSIDE["smoke"],  # a run of slow_neural_loss, and so trained once
            "laptop": preset(
                "cifar10-laptop",
                dataset={"train_size": 4000, "test_size": 1000},
                train={"epochs": 2, "observe": True},
            ),
            "paper": preset("cifar10", train={"observe": True}),
        },
        profile,
    )
    resnet = _baseline(
        base,
        network={"name": "resnet18"},
        optimizer={"name": "SGD", "lr": 0.03, "weight_decay": 5e-4},
    )
    return Study("inside", {"Terminator": base, "ResNet-18": resnet}, default_seeds(profile)[:2])


# -- one bench -------------------------------------------------------------------------------------

_BENCH = {"optimizer": {"name": "AdamW", "lr": 0.005, "weight_decay": 0.01}}
_BENCHES = {
    "smoke": preset(
        "digits",
        dataset={"channels": 1, "train_size": 320, "test_size": 180},
        train={"epochs": 3, "batch_size": 32},
        **_BENCH,
    ),
    "laptop": preset(
        "cifar10-laptop",
        dataset={"image_size": 12, "train_size": 2000, "test_size": 1000},
        train={"epochs": 8},
        **_BENCH,
    ),
    "paper": preset("cifar10", train={"epochs": 30}, scheduler={"name": "cosine"}, **_BENCH),
}
_LONG_WAYS = ("local", "performer", "luna", "synthesizer", "nystromformer")


def mixers(profile: str) -> Study:
    """The small host network with each of the global mixers, {mixer: ...}; one recipe for all,
    tuned for none.

    In smoke without a few: with 64 positions, local attention is attention and the others are no
    shorter way.
    """
    base = of_profile(_BENCHES, profile)
    names = [name for name in MAP_MIXERS if profile != "smoke" or name not in _LONG_WAYS]
    seeds = {"smoke": (0,), "laptop": (0, 1), "paper": (0, 1, 2)}[profile]
    return Study(
        "mixers",
        {name: base.updated(network={"name": "host", "mixer": name}) for name in names},
        seeds,
    )


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


# -- what is shown and given away -----------------------------------------------------------------

_HEADLINE = preset("cifar10", dataset={"name": "cifar10-jpeg"}, train={"precision": "bf16"})
_DIGITS = preset(
    "mnist-laptop",
    dataset={"image_size": 16, "train_size": 20_000, "test_size": None},
    model={"factors": [12, 2, 2, 1, 1]},
    train={"precision": "bf16"},
)


def headline(profile: str) -> Study:
    """CIFAR-10 at full size with the released settings, on JPEG files."""
    variants = {
        "Terminator, released settings": _HEADLINE,
        "Terminator, local context started wider": _HEADLINE.updated(
            model={"local_context_init": "linear"}  # our first reading
        ),
    }
    return Study("headline", variants, (0,))


AS_THEY_ARE, AGAIN = "as they are", "as JPEG of quality {}"
_JPEG_QUALITIES = (75, 30)  # 75: as the headline's files


def jpeg(profile: str) -> Study:
    """What JPEG costs a small network: the headline's pictures at half the size, where little of
    their own compression is left, and encoded once more.
    """
    base = of_profile(
        {
            "smoke": _SMOKE.updated(network={"name": "cnn"}, optimizer={"name": "AdamW"}),
            "laptop": preset(
                "cifar10-laptop",
                dataset={"name": "cifar10-jpeg", "train_size": 20_000, "test_size": 10_000},
                network={"name": "cnn"},
                optimizer={"name": "AdamW", "lr": 0.003, "weight_decay": 1e-4},
                train={"epochs": 6},
            ),
            "paper": preset(
                "cifar10",
                network={"name": "resnet18"},
                optimizer={"name": "SGD", "lr": 0.02, "weight_decay": 5e-4},
                train={"epochs": 30},
            ),
        },
        profile,
    )
    again = {
        AGAIN.format(quality): base.updated(dataset={"jpeg_quality": quality})
        for quality in _JPEG_QUALITIES
    }
    seeds = {"smoke": (0,), "laptop": (0, 1, 2), "paper": (0, 1, 2)}
    return Study("jpeg", {AS_THEY_ARE: base, **again}, seeds[profile])


def shipped(profile: str) -> Study:
    """Small models that come with the package, {name: ...}."""
    return Study("shipped", {"digits": _DIGITS}, (0,))


# -- names -----------------------------------------------------------------------------------------


def named(experiment: str, profile: str) -> dict[str, Config]:
    """{what a reader calls it: configuration} of an experiment's variants, at every rate where
    rates are compared.
    """
    found: dict[str, Config] = {}
    if (study := parts(profile)).experiment == experiment:
        alike = study.variants[FULL] == ablations(profile).variants[FULL]
        base = "" if alike else " (three blocks)"
        found |= {f"{label}{base}": config for label, config in study.variants.items()}
    for make in (
        ablations,
        global_mixers,
        sequences,
        slow_neural_loss,
        feature_statistics,
        mixers,
        precision,
        headline,
        jpeg,
        shipped,
        transformers,
    ):
        study = make(profile)
        if study.experiment == experiment:
            found |= {_name(label): config for label, config in study.variants.items()}
    for hold in (networks, optimizers):
        contest = hold(profile)
        first = firsts(contest.rates)
        for label, rates in contest.rates.items():
            for rate in rates:
                made = contest.final({**first, label: rate})
                if made.experiment == experiment:
                    found[f"{label}, rate {rate:g}"] = made.variants[label]
        if (sweep := contest.sweep()).experiment == experiment:
            found |= {
                f"{label}, rate {rate:g}": config
                for (label, rate), config in sweep.variants.items()
            }
    return found


def _name(label: Any) -> str:
    return label if isinstance(label, str) else ", ".join(map(str, label))
