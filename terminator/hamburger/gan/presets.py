"""Named GAN settings, and which of them make up the notebook's experiment in each profile.

A preset holds only what differs from the defaults, which are the released HamGAN-baby's at 128x128
pixels.
"""

from typing import Any

from terminator.hamburger.gan.config import GanConfig
from terminator.runtime.settings import ConfigError, from_preset


def _small(
    name: str, width: int, steps: int, saves: int, batch: int, **data: Any
) -> dict[str, Any]:
    """32x32 pixels, the context at 16x16, R = C/8."""
    return {
        "data": {"name": name, "image_size": 32, **data},
        "model": {"width": width, "context_size": 16, "latent": 64},
        "train": {"train_steps": steps, "steps_between_saves": saves, "batch_size": batch},
    }


PRESETS: dict[str, dict[str, Any]] = {
    # smoke: that every part works
    "digits": {
        **_small("digits", 8, 30, 15, 16, channels=1, train_size=640, test_size=300),
        "test": {
            "samples": 300,
            "samples_per_epoch": 200,
            "repeats": 2,
            "classifier_epochs": 1,
            "grid_rows": 2,
        },
    },
    "mnist": {
        **_small("MNIST", 16, 1200, 200, 32, train_size=10_000, test_size=4000),
        "test": {"samples": 4000, "samples_per_epoch": 1000, "repeats": 3, "classifier_epochs": 3},
    },
    "cifar10-laptop": {
        **_small("cifar10-jpeg", 16, 1800, 200, 32, train_size=10_000, test_size=4000),
        "test": {"samples": 4000, "samples_per_epoch": 1000, "repeats": 3, "classifier_epochs": 4},
    },
    "cifar10": {
        **_small("CIFAR10", 64, 100_000, 5000, 64),
        "test": {"samples": 10_000, "samples_per_epoch": 2000, "classifier_epochs": 20},
    },
}
MAIN = {"smoke": "digits", "laptop": "mnist", "paper": "cifar10"}
SEEDS = {"smoke": (0,), "laptop": (0, 1), "paper": (0, 1, 2)}
ARMS = {
    "smoke": ("none", "NMF"),
    "laptop": ("none", "attention", "NMF"),
    "paper": ("none", "attention", "NMF"),
}


def preset(name: str, **changes: Any) -> GanConfig:
    """A named configuration, with changes: preset("mnist", train={"seed": 1}).

    Raises:
        ConfigError: for an unknown name, listing the known ones.
    """
    return from_preset(GanConfig, PRESETS, name, changes)


def study(profile: str) -> dict[str, GanConfig]:
    """The same GAN with each kind of context, by its name: none, attention, NMF.

    Raises:
        ConfigError: for an unknown profile.
    """
    if profile not in MAIN:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(MAIN)}")
    return {name: preset(MAIN[profile], model={"context": name}) for name in ARMS[profile]}
