"""Named configurations, and which of them make up an experiment in each profile.

A preset holds only what differs from the defaults: the released CIFAR-10 settings, but for the
schedule and how a local context starts, which the presets of the released runs set.
"""

from typing import Any

from terminator.classification.config import Config
from terminator.runtime.settings import from_preset

_DIGITS = {
    "dataset": {"name": "digits", "channels": 3, "crop_padding": 0, "flip": False},
    "optimizer": {"lr": 0.0012},
    "scheduler": {"warmup_epochs": 1},
}
_CIFAR = {"scheduler": {"name": "released"}, "model": {"local_context_init": "torch"}}
_VIEWS = {"s": "sequence", "p": "permuted"}  # the first letter of sMNIST and pMNIST
_READ = {"crop_padding": 0, "flip": False}  # sequences are not augmented


def _short(epochs: int) -> dict[str, Any]:
    return {"scheduler": {"warmup_epochs": 0.5}, "train": {"epochs": epochs, "observe": True}}


PRESETS: dict[str, dict[str, Any]] = {
    "digits": {**_DIGITS, "train": {"epochs": 6}},
    "tour": {
        **_DIGITS,
        "dataset": {**_DIGITS["dataset"], "train_size": 480},
        "train": {"epochs": 3},
    },
    "mnist": {"dataset": {"name": "MNIST", "crop_padding": 2, "flip": False}},
    # 9,984 images, as logged
    "cifar10": {"dataset": {"name": "CIFAR10"}, **_CIFAR, "test": {"drop_last": True}},
    "cifar100": {
        "dataset": {"name": "CIFAR100"},
        **_CIFAR,
        "optimizer": {"lr": 0.00120925, "betas": [0.75, 0.99], "l2_reg": 4e-5},
    },
    "stl10": {"dataset": {"name": "STL10", "crop_padding": 12}},
    "mnist-laptop": {
        "dataset": {
            "name": "MNIST",
            "image_size": 14,
            "train_size": 6000,
            "test_size": 2000,
            "crop_padding": 1,
            "flip": False,
        },
        "scheduler": {"warmup_epochs": 0.5},
        "train": {"epochs": 3},
    },
    # with dataset.name=FOLDER
    "own": {
        "dataset": {"channels": 3, "image_size": 16, "crop_padding": 1, "flip": False},
        "optimizer": {"lr": 0.0012},
        "scheduler": {"warmup_epochs": 1},
        "train": {"epochs": 6},
    },
    "cifar10-laptop": {
        "dataset": {
            "name": "CIFAR10",
            "image_size": 16,
            "train_size": 12000,
            "test_size": 2000,
            "crop_padding": 2,
        },
        "scheduler": {"warmup_epochs": 0.5},
        "train": {"epochs": 3},
    },
    **{
        f"{letter}digits": {
            "dataset": {"name": "digits", "view": view, "train_size": 800, **_READ},
            "model": {"factors": [12, 3]},
            "optimizer": {"lr": 0.0012},
            **_short(2),
        }
        for letter, view in _VIEWS.items()
    },
    **{
        f"{letter}mnist": {
            "dataset": {"name": "MNIST", "view": view, **_READ},
            "train": {"observe": True},
        }
        for letter, view in _VIEWS.items()
    },
    **{
        f"{letter}mnist-laptop": {
            "dataset": {
                "name": "MNIST",
                "view": view,
                "image_size": 14,
                "train_size": 2000,
                "test_size": 1000,
                **_READ,
            },
            **_short(2),
        }
        for letter, view in _VIEWS.items()
    },
    "scifar10": {
        "dataset": {"name": "CIFAR10", "view": "sequence", **_READ},
        "train": {"observe": True},
    },
    "scifar10-laptop": {
        "dataset": {
            "name": "CIFAR10",
            "view": "sequence",
            "image_size": 16,
            "train_size": 2500,
            "test_size": 1000,
            **_READ,
        },
        **_short(2),
    },
}


def preset(name: str, **changes: Any) -> Config:
    """A named configuration, with changes: preset("digits", train={"epochs": 2}).

    Raises:
        ConfigError: for an unknown name, listing the known ones.
    """
    return from_preset(Config, PRESETS, name, changes)


# the same images in another form, where the original is not on this machine
SUBSTITUTES = {"CIFAR10": "cifar10-jpeg"}
PHOTOGRAPHS = ("CIFAR10", SUBSTITUTES["CIFAR10"])  # CIFAR-10, as it may be here
# the model that the first notebooks look at, per profile
TOUR = {"smoke": "tour", "laptop": "cifar10-laptop", "paper": "cifar10"}
# the presets of the 2-D table, per profile
IMAGES = {
    "smoke": ("tour",),  # trained once, for this table and for the first notebooks
    "laptop": ("digits", "mnist-laptop", "cifar10-laptop"),
    "paper": ("mnist", "cifar10", "cifar100", "stl10"),
}
