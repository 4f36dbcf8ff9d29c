"""What trained weights are worth on few pictures of other classes: the same training from scratch
and from a model that comes with the package.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terminator.classification.networks import load_named
from terminator.classification.presets import PHOTOGRAPHS
from terminator.classification.runs import ClassificationRun, own_images
from terminator.config import SHAPE
from terminator.data import catalogue
from terminator.data.decoding import write_class_folders
from terminator.data.images import ImageData, load
from terminator.runs import comparison
from terminator.runtime import shipped

SCRATCH = "from scratch"
FEW = {"smoke": (3, 12, 10), "laptop": (3, 60, 100), "paper": (3, 60, 100)}  # see few_pictures


def few_pictures(profile: str, folder: Path, data_dir: str | None = None) -> str:
    """Write a few pictures of a few classes as class folders: photographs of CIFAR-10 where they
    are on this machine, else the embedded digits.

    Of every class FEW says: how many classes, pictures to train, pictures to test at most.

    Returns:
        the name of the model of the package whose weights suit them.
    """
    classes, count, tested = FEW[profile]
    there = catalogue.ready(data_dir)
    photographs = next((name for name in PHOTOGRAPHS if name in there), None)
    with_photographs = profile != "smoke" and photographs and "cifar10" in shipped.names()
    data = load(photographs if with_photographs and photographs else "digits", data_dir=data_dir)
    write_some(data, folder, classes, count, tested)
    return "cifar10" if with_photographs else "digits"


def write_some(
    data: ImageData, folder: Path, classes: int, train: int | None = None, test: int | None = None
) -> None:
    """Write the first pictures of the first classes as class folders, folder/{train,test}/CLASS.

    Args:
        classes: how many.
        train, test: pictures of each at most; None: all.
    """
    for split, most in (("train", train), ("test", test)):
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        for kind in range(classes):
            chosen = (labels == kind).nonzero()[:, 0][:most]
            write_class_folders(
                folder / split, images[chosen].numpy(), labels[chosen].numpy(), data.info.classes
            )


def both_ways(
    folder: Path, name: str, profile: str, seeds: Sequence[int] = (0,), **changes: Any
) -> dict[str, list[ClassificationRun]]:
    """The same network on the same pictures, {from scratch: runs, from NAME: runs}, a run a seed.

    Args:
        folder: class folders.
        name: of a model of the package, or its file.
        changes: settings, as for presets.preset, of both.
    """
    model: Any = load_named(name)
    of_data = (*SHAPE, "trained_size")
    network = {
        key: value
        for key, value in model.info.get("config", {}).get("model", {}).items()
        if key not in of_data
    }
    form = {"image_size": model.config.size, "channels": model.config.in_channels}
    ways = {
        SCRATCH: {"model": network},
        f"from {name}": {"pretrained": {"load": True, "filename": name}},
    }

    def settings(way: dict[str, Any], seed: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for given in ({"dataset": form}, changes, way, {"train": {"seed": seed}}):
            for group, values in given.items():
                merged[group] = {**merged.get(group, {}), **values}
        return merged

    return {
        label: [own_images(folder, profile, **settings(way, seed)) for seed in seeds]
        for label, way in ways.items()
    }


def sentence(runs: dict[str, list[ClassificationRun]]) -> str:
    """What the weights are worth, by the rule of proof."""
    data = next(iter(runs.values()))[0].record["data"]
    said = comparison.ranking({label: [r.record for r in group] for label, group in runs.items()})
    return (
        f"{len(data['classes'])} classes, {data['train_size']} pictures to train, "
        f"{data['test_size']} to test (accuracy as released):\n{said}"
    )
