"""Trainings that are seen from inside, epoch by epoch."""

from terminator.classification.presets import preset
from terminator.classification.studies.bases import baseline
from terminator.runs.study import Study, default_seeds, of_profile

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
    resnet = baseline(
        base,
        network={"name": "resnet18"},
        optimizer={"name": "SGD", "lr": 0.03, "weight_decay": 5e-4},
    )
    return Study("inside", {"Terminator": base, "ResNet-18": resnet}, default_seeds(profile)[:2])
