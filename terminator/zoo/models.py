"""A trained model by its name, or in a file, of every kind that is given away."""

from pathlib import Path
from typing import Any

from torch import nn

from terminator.runs.model_files import task_in
from terminator.runtime import shipped, weights
from terminator.zoo.kinds import kind_for


def pretrained(name_or_file: str | Path) -> nn.Module:
    """A trained network that comes with the package, by its name, or one in a file of this kit: a
    classifier, a segmenter or a few-shot learner.

    What was saved beside the weights is its attribute `info` (docs/models.md): a classifier is
    calibrated; a few-shot learner takes support sets, see hypertransformer.fewshot.learner.

    Raises:
        ValueError: for an unknown name, listing the known ones; for a damaged file, and one of
            another kind of model.
        FileNotFoundError: as its message says.
    """
    path = shipped.model_path(name_or_file)
    task = task_in(path) if path.suffix == ".safetensors" else ""
    if task in ("", "classification"):
        from terminator.classification import networks

        return networks.load(path)
    model: Any = kind_for(task).system.load(path)[0]
    model.info = weights.info_of(path)
    return model
