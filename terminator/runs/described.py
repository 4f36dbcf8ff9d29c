"""What a kind of experiment says of itself: settings, data, networks, and what they are called."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from terminator.data.summary import announce_notes
from terminator.runs import records
from terminator.runs.finished import FinishedRun
from terminator.runtime import weights
from terminator.runtime.distributed import first_alone
from terminator.trainer import Loop


class Described(ABC):
    """A kind of experiment with settings, data and networks of its own. A subclass says what they
    are.

    task: what its records, model files and messages call it.
    command: that trains it, behind python -m terminator.
    config: the dataclass of all its settings, with a group `train`.
    index: the file below results/ with a row per run that is evidence.
    columns: of that file, where they are not all of `index_row` in its order.
    data_groups: the groups of settings that say which data are loaded.
    started_by: the settings that name a file which a training starts from, as group.key.
    run_type: of its runs.
    measures: {column of `row` that is averaged over seeds: how a table calls it}, the first two the
        most telling; empty: every column of floats.
    """

    task: ClassVar[str]
    command: ClassVar[str]
    config: ClassVar[type]
    index: ClassVar[str]
    columns: ClassVar[Sequence[str]] = ()
    data_groups: ClassVar[Sequence[str]] = ("data",)
    started_by: ClassVar[Sequence[str]] = ()
    run_type: ClassVar[type[FinishedRun]] = FinishedRun
    measures: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def read_data(self, config: Any, data_dir: str | None = None) -> Any:
        """What `load_data` gives, as one process reads it."""

    def load_data(self, config: Any, data_dir: str | None = None) -> Any:
        """The data that the configuration names, with `info` (a DatasetInfo).

        Raises:
            DatasetNotFound: as its message says.
            DatasetCorrupt: as its message says.
        """
        with first_alone():
            return self.read_data(config, data_dir)

    def announce(self, data: Any) -> None:
        """Say on the terminal, before training, what there is to know of the data."""
        announce_notes(data.info.notes)

    def resolve(self, config: Any, data: Any) -> Any:
        """The configuration with what only the data know."""
        return config

    def resolve_like(self, config: Any, record: dict[str, Any]) -> Any:
        """The same from a record, where the data are missing; raises ConfigError if the two cannot
        go together.
        """
        return config

    @abstractmethod
    def build(self, config: Any) -> nn.Module:
        """The network of a resolved configuration, initialised from its seed."""

    def prepared(self, config: Any, data: Any, profile: str) -> Any:
        """The data with what a training needs beside them; asked for right before it."""
        return data

    def start(self, config: Any, data: Any) -> nn.Module:
        """The network as training starts."""
        return self.build(config)

    def sketch(self, config: Any) -> nn.Module:
        """The network of a resolved configuration, without memory; see weights.sketch."""
        return weights.sketch(lambda: self.build(config))

    @abstractmethod
    def trainer(self, model: nn.Module, config: Any, data: Any, folder: Path | None = None) -> Loop:
        """The loop that trains and tests it."""

    @abstractmethod
    def results(self, trainer: Any) -> dict[str, dict[str, Any]]:
        """What was reached, {split or protocol: {measure: value}}; percentages are 0 to 100."""

    def details(self, trainer: Any, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
        """What the record says beside `describe`, images_per_s for instance."""
        return {}

    def start_file(self, config: Any, key: str) -> Path | None:
        """The file that one of `started_by` names, None where it names none."""
        group, name = key.split(".")
        path = getattr(getattr(config, group), name)
        return Path(path) if path else None

    @abstractmethod
    def method(self, config: Any) -> str:
        """A short name of what is trained."""

    def names(self, config: Any, data: Any) -> tuple[str, ...]:
        """What a run's folder is called by, for people to read: data and method."""
        return data.info.name, self.method(config)

    def ready(self, config: Any, profile: str, recorded: Callable[[], bool] = lambda: False) -> Any:
        """The configuration as a study runs it here: on data, say, that may stand for its own.

        Args:
            recorded: whether records are enough, and there for all that is wanted.
        """
        return config

    def judged_by(self, record: dict[str, Any]) -> str:
        """The split or protocol in a record's results that the run is judged by."""
        return "test"

    @abstractmethod
    def summary(self, record: dict[str, Any]) -> str:
        """The line that ends a training: what was reached."""

    @abstractmethod
    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """The run's row of the index, beside what is the same for all; see index_row."""

    def label(self, record: dict[str, Any]) -> str:
        """What a reader of a table calls the run's method."""
        return self.method(records.config_of(record, self.config))

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """What a reader calls the configurations of an experiment, {name: configuration}."""
        return {}

    def about(self, record: dict[str, Any]) -> dict[str, Any]:
        """What a run's model file says of it, beside weights and configuration."""
        return {"run_id": record["run_id"]}
