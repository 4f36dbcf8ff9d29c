"""A model file, or a model that comes with the package, tested on a data set."""

import dataclasses
import os
from typing import Any

from torch import nn

from terminator.classification import networks
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.trainer import Trainer
from terminator.data.images import ImageData
from terminator.runtime.distributed import choose_device, processes
from terminator.standardization import is_calibrated


def evaluate_file(
    path: str | os.PathLike, config: Config, data_dir: str | None = None
) -> dict[str, Any]:
    """Evaluate a model file on the configured data set, as released and calibrated.

    Raises:
        ValueError: if the model and the data do not fit each other.
    """
    model: Any = networks.load_named(path)
    with processes(config.train):
        data = CLASSIFICATION.load_data(config, data_dir)
        shape = (model.config.in_channels, *[model.config.size] * model.config.dimensions)
        if tuple(data.info.shape) != shape or len(data.info.classes) != model.config.classes:
            raise ValueError(
                f"{path} takes inputs {shape} of {model.config.classes} classes, {data.info.title} "
                f"has {tuple(data.info.shape)} of {len(data.info.classes)}; set "
                "dataset.image_size, dataset.channels or another dataset.name"
            )
        config = dataclasses.replace(config, model=model.config, network=networks.network_of(model))
        trainer = Trainer(model, config, _as_trained(data, model, path))
        return {
            "model": str(path),
            "data": data.info.title,
            "device": str(choose_device(config.train.device)),
            **CLASSIFICATION.results(trainer, calibrate=not is_calibrated(model)),
        }


def _as_trained(data: ImageData, model: nn.Module, path: str | os.PathLike) -> ImageData:
    """The data with the normalisation that a model of this kit was trained with."""
    saved = getattr(model, "info", {}).get("data")
    if saved is None:
        return data
    if missing := [name for name in ("classes", "mean", "std") if name not in saved]:
        raise ValueError(f"{path} does not say {', '.join(missing)} of the data it was trained on")
    if list(saved["classes"]) != list(data.info.classes):
        raise ValueError(
            f"{path} knows the classes {', '.join(saved['classes'])}; {data.info.title} has "
            f"{', '.join(data.info.classes)}"
        )
    return data.normalised_as(saved)
