"""What the zoo asks of a system whose models are given away."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from terminator.runs.command_line import Settings
from terminator.runs.model_files import USES
from terminator.runs.system import System
from terminator.runtime.settings import ConfigError

_HOMES = {  # task: module and name of its kind, loaded where it is wanted
    "classification": ("terminator.zoo.classifiers", "Classifiers"),
    "few-shot": ("terminator.zoo.learners", "Learners"),
    "segmentation": ("terminator.zoo.segmenters", "Segmenters"),
}


@dataclass(frozen=True)
class Facts:
    """What a model file is, and says of itself.

    Attributes:
        path: of the file.
        model: the network, in evaluation mode.
        config: the settings of its training.
        info: the rest; `card` in it is what `ship` found.
    """

    path: Path
    model: nn.Module
    config: Any
    info: Mapping[str, Any]

    @property
    def card(self) -> Mapping[str, Any]:
        return self.info["card"]


class Kind(ABC):
    """A kind of models that are given away.

    system: that they are of.
    settings: of the command that trains them.
    use: the command that uses the model {name}.
    examples: what it is trained on.
    of_data: settings that the data decide, so that nobody gives them.
    """

    system: ClassVar[System]
    settings: ClassVar[Settings]
    use: ClassVar[str]
    examples: ClassVar[str]
    of_data: ClassVar[frozenset[tuple[str, str]]] = frozenset()

    @abstractmethod
    def load(self, path: Path) -> Facts:
        """A model file.

        Raises:
            FileNotFoundError: as its message says.
            ValueError: if it is damaged, or says too little of itself.
        """

    def about(self, data: Any) -> dict[str, Any]:
        """What the file says of the data, so that the model can be used without them."""
        return {"data": {"title": data.info.title}}

    def as_known(self, model: nn.Module, data: Any) -> Any:
        """The data as the model was trained on them: normalised as another model had been, say."""
        return data

    def settle(
        self, model: nn.Module, config: Any, data: Any
    ) -> tuple[nn.Module, dict[str, dict[str, Any]]]:
        """The model as it is given away, and what there is to say of how it became so, by ways of
        measuring.
        """
        return model, {}

    def batch(self, config: Any) -> int:
        """Examples that are measured at once."""
        return config.test.batch_size

    def some(self, data: Any, count: int) -> Any:
        """The data with so many test examples.

        Raises:
            ConfigError: if that cannot be.
        """
        raise ConfigError(
            f"test-images is {count}; allowed: nothing for a {self.system.task} model, which is "
            "measured as its settings say"
        )

    @abstractmethod
    def measure(self, model: nn.Module, config: Any, data: Any) -> dict[str, dict[str, Any]]:
        """How good it is, {way of measuring: measures}; percentages are 0 to 100."""

    @abstractmethod
    def sizes(self, data: Any) -> dict[str, int]:
        """How much it was trained and tested on, {"train": ..., "test": ...}."""

    @abstractmethod
    def short(self, found: Facts) -> tuple[str, str]:
        """For one line: what it takes and tells apart; how good it is."""

    @abstractmethod
    def table(self, found: Facts) -> list[tuple[str, ...]]:
        """How good it is, as a table, its head first."""

    @abstractmethod
    def rows(self, found: Facts) -> dict[str, str]:
        """What a card says beside what all cards say, Markdown."""


def kind_for(task: str) -> Kind:
    """The kind of models of a task.

    Raises:
        ConfigError: for a task whose models are not given away.
    """
    if task not in _HOMES:
        raise ConfigError(
            f"models of {task} are not given away; allowed: those of {', '.join(_HOMES)}. To use "
            f"one: {USES.get(task, 'see its record')}"
        )
    module, name = _HOMES[task]
    return getattr(importlib.import_module(module), name)()
