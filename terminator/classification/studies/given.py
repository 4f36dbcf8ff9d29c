"""What is shown and given away: the headline, what its files cost, models of the package."""

from terminator.classification.presets import SUBSTITUTES, preset
from terminator.classification.studies.bases import SMOKE
from terminator.runs.study import Study, of_profile

_HEADLINE = preset("cifar10", train={"precision": "bf16"})
_ON_COPIES = _HEADLINE.updated(dataset={"name": SUBSTITUTES[_HEADLINE.dataset.name]})
_DIGITS = preset(
    "mnist-laptop",
    dataset={"image_size": 16, "train_size": 20_000, "test_size": None},
    model={"factors": [12, 2, 2, 1, 1]},
    train={"precision": "bf16"},
)


def headline(profile: str) -> Study:
    """CIFAR-10 at full size with the released settings, in float32 as the release computes, and in
    bf16; on the published pixels and on JPEG files.
    """
    variants = {
        "Terminator, released settings": preset("cifar10"),
        "Terminator, released settings in bf16": _HEADLINE,
        "Terminator, released settings in bf16, JPEG files": _ON_COPIES,
        "Terminator, local context started wider, in bf16, JPEG files": _ON_COPIES.updated(
            model={"local_context_init": "linear"}  # our first reading
        ),
    }
    return Study("headline", variants, (0,))


_JPEG_QUALITY = 75  # as the headline's files
AS_THEY_ARE, AS_JPEG = "as they are", f"as JPEG of quality {_JPEG_QUALITY}"


def jpeg(profile: str) -> Study:
    """What JPEG costs a small network on all of CIFAR-10, trained and tested on its pixels, and on
    the same encoded as the headline's files are.
    """
    base = of_profile(
        {
            "smoke": SMOKE.updated(network={"name": "cnn"}, optimizer={"name": "AdamW"}),
            "laptop": preset(
                "cifar10",
                network={"name": "cnn"},
                optimizer={"name": "AdamW", "lr": 0.003, "weight_decay": 1e-4},
                scheduler={"warmup_epochs": 0.5},
                train={"epochs": 3},
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
    again = base.updated(dataset={"jpeg_quality": _JPEG_QUALITY})
    seeds = {"smoke": (0,), "laptop": (0, 1, 2), "paper": (0, 1, 2)}
    return Study("jpeg", {AS_THEY_ARE: base, AS_JPEG: again}, seeds[profile])


def shipped(profile: str) -> Study:
    """Small models that come with the package, {name: ...}."""
    return Study("shipped", {"digits": _DIGITS}, (0,))
