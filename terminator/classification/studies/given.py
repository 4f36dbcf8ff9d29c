"""What is shown and given away: the headline, what its files cost, models of the package."""

from terminator.classification.presets import preset
from terminator.classification.studies.bases import SMOKE
from terminator.runs.study import Study, of_profile

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
            "smoke": SMOKE.updated(network={"name": "cnn"}, optimizer={"name": "AdamW"}),
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
