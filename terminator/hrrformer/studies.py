"""What is trained beside the long range tasks: Pathfinder seen as pictures."""

from terminator.classification.config import Config
from terminator.runs.study import Study, default_seeds, of_profile


def pathfinder_pictures(profile: str) -> Study:
    """What sees Pathfinder as pictures rather than sequences; none in smoke, whose few images teach
    nothing.
    """
    laptop = Config().updated(
        dataset={
            "name": "pathfinder-easy",
            "train_size": 40_000,
            "test_size": 2_000,
            "crop_padding": 0,
            "flip": False,
        },
        train={"batch_size": 64},
    )
    paper = laptop.updated(
        dataset={"name": "pathfinder-hard", "train_size": 160_000, "test_size": 20_000}
    )
    base, epochs = of_profile(
        {"smoke": (laptop, ()), "laptop": (laptop, (2, 1)), "paper": (paper, (10, 10))}, profile
    )
    adam = {"name": "AdamW", "weight_decay": 0.01}
    networks = {
        "small CNN": {"network": {"name": "cnn"}, "optimizer": {**adam, "lr": 0.004}},
        "ResNet-18": {"network": {"name": "resnet18"}, "optimizer": {**adam, "lr": 0.001}},
    }
    variants = {
        label: base.updated(train={"epochs": count}, **changes)
        for (label, changes), count in zip(networks.items(), epochs)
    }
    return Study("pathfinder_pictures", variants, default_seeds(profile)[:1])
