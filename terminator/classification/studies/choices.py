"""One choice at a time: number format, reading of the global operator, global mixer."""

from terminator.classification.presets import preset
from terminator.classification.studies.bases import BENCH, SMALL, SMOKE
from terminator.mixers.registry import MAP_MIXERS
from terminator.runs.study import Study, default_seeds, of_profile


def precision(profile: str) -> Study:
    """The same trainings with float32 and with bf16 autocast, {(data, precision): ...}."""
    bases = of_profile(
        {
            "smoke": {"digits": SMOKE.updated(**SMALL)},
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


_BENCHES = {
    "smoke": preset(
        "digits",
        dataset={"channels": 1, "train_size": 320, "test_size": 180},
        train={"epochs": 3, "batch_size": 32},
        **BENCH,
    ),
    "laptop": preset(
        "cifar10-laptop",
        dataset={"image_size": 12, "train_size": 2000, "test_size": 1000},
        train={"epochs": 8},
        **BENCH,
    ),
    "paper": preset("cifar10", train={"epochs": 30}, scheduler={"name": "cosine"}, **BENCH),
}
LONG_WAYS = ("local", "performer", "luna", "synthesizer", "nystromformer")


def mixers(profile: str) -> Study:
    """The small host network with each of the global mixers, {mixer: ...}; one recipe for all,
    tuned for none.

    In smoke without a few: with 64 positions, local attention is attention and the others are no
    shorter way.
    """
    base = of_profile(_BENCHES, profile)
    names = [name for name in MAP_MIXERS if profile != "smoke" or name not in LONG_WAYS]
    seeds = {"smoke": (0,), "laptop": (0, 1), "paper": (0, 1, 2)}[profile]
    return Study(
        "mixers",
        {name: base.updated(network={"name": "host", "mixer": name}) for name in names},
        seeds,
    )
