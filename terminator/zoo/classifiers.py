"""Classifiers of images that are given away: calibrated, so that one image has one answer."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from terminator.classification import networks
from terminator.classification.commands import SETTINGS
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION, OF_MODEL_FILES
from terminator.config import SHAPE
from terminator.data.images import ImageData
from terminator.runs import comparison
from terminator.runtime import text, weights
from terminator.runtime.progress import say
from terminator.runtime.settings import from_dict, require
from terminator.zoo.kinds import Facts, Kind

PROTOCOLS = {
    "calibrated": "fixed statistics, as `predict` answers",
    "released": "statistics of the test batch",
}


class Classifiers(Kind):
    """See the top of this file."""

    system = CLASSIFICATION
    settings = SETTINGS
    examples = "images"
    use = "predict {name} PICTURE..."
    of_data = frozenset(("model", key) for key in (*SHAPE, "trained_size"))

    def load(self, path: Path) -> Facts:
        model: Any = networks.load(path)
        info = getattr(model, "info", {})
        with weights.understood(path):
            return Facts(path, model, from_dict(Config, info.get("config", {})), info)

    def about(self, data: ImageData) -> dict[str, Any]:
        return {"data": {key: getattr(data.info, key) for key in OF_MODEL_FILES}}

    def as_known(self, model: nn.Module, data: ImageData) -> ImageData:
        return data.normalised_as(getattr(model, "info", {}).get("data", {}))

    def settle(
        self, model: nn.Module, config: Config, data: ImageData
    ) -> tuple[nn.Module, dict[str, dict[str, Any]]]:
        trainer = self.system.trainer(model, config, data)
        seen = trainer.calibrate()
        say(f"statistics are fixed over {seen} training images")
        return trainer.model, {"calibrated": {"calibration_images": seen}}

    def some(self, data: ImageData, count: int) -> ImageData:
        """With so many of its test images, drawn from seed 0."""
        most = len(data.test_labels)
        require(
            2 <= count <= most, "test-images", count, f"2 to {most}, the test images that there are"
        )
        index = torch.randperm(most, generator=torch.Generator().manual_seed(0))[:count]
        return dataclasses.replace(
            data, test_images=data.test_images[index], test_labels=data.test_labels[index]
        )

    def measure(
        self, model: nn.Module, config: Config, data: ImageData
    ) -> dict[str, dict[str, Any]]:
        trainer = self.system.trainer(model, config, data)
        return {protocol: trainer.evaluate(protocol) for protocol in PROTOCOLS}

    def sizes(self, data: ImageData) -> dict[str, int]:
        return {"train": data.info.train_size, "test": data.info.test_size}

    def short(self, found: Facts) -> tuple[str, str]:
        data, answer = found.info["data"], found.card["accuracy"]["calibrated"]
        size = "x".join(map(str, data["shape"]))
        return (
            f"{len(data['classes'])} classes, {size}",
            f"{_percent(answer)} of {answer['images']} test images",
        )

    def table(self, found: Facts) -> list[tuple[str, ...]]:
        measured, rows = found.card["measured"], []
        for protocol, meaning in PROTOCOLS.items():
            answer = found.card["accuracy"][protocol]
            whole = measured["test_images"]
            part = f" of {whole:,}" if answer["images"] != whole else ""
            rows.append(
                (
                    _percent(answer),
                    f"{answer['images']:,}{part}",
                    f"{protocol}: {meaning}, {measured['precision']}",
                )
            )
        return [("accuracy of exactly this file", "test images", "evaluation"), *rows]

    def rows(self, found: Facts) -> dict[str, str]:
        data = found.info["data"]
        return {
            "takes": f"{' x '.join(map(str, data['shape']))} (channels, height, width); pictures "
            "are resized and cropped to it",
            "normalisation": f"mean {_numbers(data['mean'])}, deviation {_numbers(data['std'])}",
            "classes": ", ".join(map(text.markdown, data["classes"])),
        }


def _percent(answer: dict[str, Any]) -> str:
    """An accuracy with half its 95 % interval, for the number of images (normal approximation)."""
    half = comparison.of_examples(answer["accuracy"], answer["images"])
    return f"{answer['accuracy']:.2f} ± {half:.2f} %"


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
