"""Run it, or read what is there: what every kind of experiment has in common.

A run is identified by its resolved configuration, its data's fingerprint and its profile. Its
folder holds record.json, metrics.csv and model.safetensors, and while it trains checkpoint.pt.
Every kind of experiment derives from `System`, which brings run, find, identity, index and table.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from torch import nn

from terminator.data.sources import DatasetNotFound
from terminator.data.summary import announce_notes
from terminator.model import count_parameters
from terminator.runs import records
from terminator.runs.finished import FinishedRun, check_names, describe, file_record, run_name
from terminator.runs.folders import (
    divergence,
    divergences,
    finished_record,
    index_alone,
    once,
    told,
    trained_again,
)
from terminator.runs.starts import starts, starts_alike, with_starts
from terminator.runtime import locks, provenance, weights
from terminator.runtime.deterministic import deterministic_algorithms
from terminator.runtime.distributed import first_alone, processes, rank
from terminator.runtime.machine import memory_bytes
from terminator.runtime.paths import results_dir
from terminator.runtime.progress import say, say_once
from terminator.runtime.settings import ConfigError, from_dict, identity, to_dict, without_places
from terminator.trainer import Callback, Loop, Row

READERS = ("torch", "torchvision", "pillow")  # their versions decide on the last bits of data


@functools.lru_cache(8192)
def _identity(config: Any) -> dict[str, Any]:
    """The identity of settings; those of a record are asked for by every study."""
    return identity(without_places(config))


def _check_memory(system: "System", config: Any) -> None:
    """Raise ConfigError for a network that this machine cannot hold, before it is made."""
    try:
        found = system.sketch(config)
    except RuntimeError as error:  # sizes beyond all bounds
        raise ConfigError(
            f"the network of these settings is too large: {error}; allowed: smaller settings of it"
        ) from error
    count = sum(p.numel() for p in found.parameters())
    kept = sum(t.numel() * t.element_size() for t in (*found.parameters(), *found.buffers()))
    needed, memory = 4 * kept, memory_bytes()  # with gradients and an optimiser's two averages
    if memory is not None and needed > memory:
        raise ConfigError(
            f"the network of these settings has {count:,} parameters, which take "
            f"{needed / 2**30:,.0f} GiB to train; this machine has {memory / 2**30:,.0f} GiB; "
            "allowed: smaller settings of the network"
        )


def _alike(record: Mapping[str, Any]) -> str:
    """What a record says of its settings, first weights and data, but for the seed."""
    config = record["config"]
    train = {key: value for key, value in config["train"].items() if key != "seed"}
    what = [config | {"train": train}, record.get("starts"), record.get("data")]
    return json.dumps(what, sort_keys=True)


# -- systems --------------------------------------------------------------------------------------


class System(ABC):
    """A kind of experiment with settings, data and networks of its own. A subclass says what they
    are.

    task: what its records, model files and messages call it.
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

    def identity(self, config: Any) -> dict[str, Any]:
        """What makes an experiment this one, wherever its data lie, but for the files that it
        starts from; see settings.identity.
        """
        return identity(without_places(config))

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

    def ready(self, config: Any, profile: str) -> Any:
        """The configuration as a study runs it here: on data, say, that may stand for its own."""
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

    # what follows is the same for all

    def run(
        self,
        config: Any,
        experiment: str,
        profile: str = "smoke",
        *,
        data: Any = None,
        data_dir: str | None = None,
        folder: Path | None = None,
        need_model: bool = False,
        force: bool = False,
        wait: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> Any:
        """Read the record of this experiment, go on with it, or train it.

        Args:
            config: the experiment.
            experiment: the folder below results/runs.
            profile: goes into the record.
            data: already loaded, else by the configuration (and data_dir).
            folder: instead of the run's own.
            need_model: train again if only the record is here, not the weights.
            force: train again in any case.
            wait: for another process that trains it.
            callbacks: called with the rows so far after every epoch; see trainer.Loop. One that has
                a method `start` is told the run's id and folder before.

        A record of this configuration is enough even where its data are not.

        Raises:
            ConfigError: as its message says.
            DatasetNotFound: as its message says.
            CheckpointError: as its message says.
            TrainingDiverged: as its message says.
            PermissionError: if nothing can be written there.
            Busy: if another process trains it, and it is not waited for.
        """
        check_names(experiment, profile)
        with processes(config.train):
            try:
                data = self.load_data(config, data_dir) if data is None else data
            except DatasetNotFound:
                if force or need_model or folder:
                    raise
                if (record := self.find_record(config, experiment, profile)) is not None:
                    return self.of_record(record)
                for said in divergences(experiment, profile):
                    if self.is_of(said, config):
                        raise divergence(said) from None
                raise
            config = self.resolve(config, data)
            starting = starts(self, config)
            name = self.run_id(config, data, profile, starting)
            asked, folder = folder, folder or results_dir() / "runs" / experiment / name
            if not (force or need_model or asked or finished_record(folder)):
                record = self.find_read_otherwise(config, data, experiment, profile)
                if record is not None:
                    return self.of_record(record, asked=config)
            trained: list[bool] = []

            def train() -> dict[str, Any]:
                began = {"provenance": provenance.provenance(), "started": provenance.now()}
                began |= {"starts": starting} if starting else {}
                about = {
                    **self._head(name, experiment, profile),
                    "config": to_dict(without_places(config)),
                    "data": dataclasses.asdict(data.info),
                    **began,
                }
                again = force or trained_again(folder)
                with deterministic_algorithms(config.train.deterministic), told(folder, about):
                    trained.append(True)
                    return self._train(
                        config, data, experiment, profile, folder, not again, began, callbacks
                    )

            record = once(folder, train, need_model, force, self.rebuild_index, wait, name)
            if record["run_id"] != name:
                raise ConfigError(
                    f"{folder} holds the finished run {record['run_id']} of other settings or data "
                    f"than {name}; allowed: another folder, or --force to replace it"
                )
            return self.of_record(record, folder, config, bool(trained))

    def of_record(
        self,
        record: dict[str, Any],
        folder: Path | None = None,
        asked: Any = None,
        trained: bool = False,
    ) -> Any:
        """The finished run of a record of this system, from its own folder or another."""
        return self.run_type(record, folder or self.folder_of(record), self, trained, asked)

    def run_id(
        self, config: Any, data: Any, profile: str, starting: Mapping[str, Any] | None = None
    ) -> str:
        """`<names>-<profile>-s<seed>-<hash>`, of a resolved configuration.

        Args:
            starting: as starts.starts gives it, where it is known: of a record, say.
        """
        starting = starts(self, config) if starting is None else starting
        return run_name(
            with_starts(self, self.identity(config), starting),
            data.info.fingerprint,
            profile,
            config.train.seed,
            *self.names(config, data),
        )

    def run_folder(self, config: Any, data: Any, experiment: str, profile: str) -> Path:
        """Where the run of a resolved configuration lies."""
        return results_dir() / "runs" / experiment / self.run_id(config, data, profile)

    def find_record(self, config: Any, experiment: str, profile: str) -> dict[str, Any] | None:
        """A finished record of this configuration, whatever the data's fingerprint; for machines
        without the data.
        """
        return next(self._records_like(config, experiment, profile), None)

    def _records_like(self, config: Any, experiment: str, profile: str) -> Iterator[dict[str, Any]]:
        there = records.load_records(experiment, profile)
        return (record for record in there if self.is_of(record, config))

    def find_read_otherwise(
        self, config: Any, data: Any, experiment: str, profile: str
    ) -> dict[str, Any] | None:
        """A finished record that is evidence, of this configuration and the same data, as other
        versions of the libraries decoded or resized them: their last bits may differ. It is said.
        """
        if not records.is_evidence({"experiment": experiment, "profile": profile}):
            return None
        info = json.loads(json.dumps(dataclasses.asdict(data.info), default=str))  # as in a record
        for record in self._records_like(config, experiment, profile):
            known, here = record["provenance"].get("versions", {}), provenance.versions()
            read_by = {name: known[name] for name in READERS if name in known}
            if any(
                here.get(name) != version for name, version in read_by.items()
            ) and records.same_data(record["data"], info):
                by = ", ".join(f"{name} {version}" for name, version in read_by.items())
                say_once(
                    f"note: runs of {record['data']['title']} in {experiment} are read that were "
                    f"made of the data as {by} read them; others would differ in last bits"
                )
                return record
        return None

    def records_of(
        self, variants: Mapping[Any, Any], found: Iterable[dict[str, Any]]
    ) -> dict[Any, list[dict[str, Any]]]:
        """Which of these records are of named configurations, {label: one or more, of any seed};
        trains nothing.
        """
        groups: dict[str, list[dict[str, Any]]] = {}  # alike but for the seed: one speaks for all
        for record in found:
            if records.task_of(record) == self.task:
                groups.setdefault(_alike(record), []).append(record)
        chosen: dict[Any, list[dict[str, Any]]] = {label: [] for label in variants}
        for label, config in variants.items():
            for first, *rest in groups.values():
                if self.is_of(first, config.updated(train={"seed": first["seed"]})):
                    chosen[label] += [first, *rest]
        return chosen

    def is_of(self, record: dict[str, Any], config: Any) -> bool:
        """Whether a record is of a configuration, whatever the data's fingerprint."""
        if records.task_of(record) != self.task:
            return False
        with contextlib.suppress(ConfigError):
            theirs = _identity(records.config_of(record, self.config))
            alike = theirs == _identity(self.resolve_like(config, record))
            return alike and starts_alike(self, record, config)
        return False

    def but_seed(self, record: dict[str, Any]) -> str:
        """What a record's settings change, but for the seed, and its data's fingerprint, as
        JSON.
        """
        standard = self.config().train.seed
        config = records.config_of(record, self.config)
        what = [_identity(config.updated(train={"seed": standard})), record["data"]["fingerprint"]]
        what += [record["starts"]] if record.get("starts") else []
        return json.dumps(what, sort_keys=True)

    def setting(self, record: dict[str, Any]) -> str:
        """What makes a record's experiment this one, but for the seed: runs that may be averaged
        share it.
        """
        return f"{record['profile']} {self.but_seed(record)}"

    def setting_name(self, record: dict[str, Any]) -> str:
        """A short name of what is the same for all seeds, as the index has it."""
        return hashlib.sha256(self.but_seed(record).encode()).hexdigest()[:6]

    def folder_of(self, record: dict[str, Any]) -> Path:
        """Where a record lies."""
        return records.path_of(record).parent

    def _head(self, name: str, experiment: str, profile: str) -> dict[str, Any]:
        """What everything that is written of a run begins with."""
        return {"run_id": name, "experiment": experiment, "task": self.task, "profile": profile}

    def _train(
        self,
        config: Any,
        data: Any,
        experiment: str,
        profile: str,
        folder: Path,
        keep_record: bool,
        began: dict[str, Any],
        callbacks: Sequence[Callback] = (),
    ) -> dict[str, Any]:
        """Train, evaluate, write model and record; a record that is there already is kept, if so
        wished.

        Args:
            began: when, by what code, and from which files.
        """
        if rank() == 0:
            self.announce(data)
        _check_memory(self, config)
        name = self.run_id(config, data, profile, began.get("starts", {}))
        trainer = self.trainer(self.start(config, data), config, data, folder)
        provenance.forget_peak_memory(trainer.device.type)
        head = self._head(name, experiment, profile)

        def so_far(rows: list[Row]) -> None:
            """Keep what there is of a run that is not finished; never in a finished one's place."""
            locks.check_held(folder)
            if len(rows) == config.train.epochs or finished_record(folder):
                return
            record = {
                **head,
                "status": records.RUNNING,
                **describe(trainer, rows),
                "results": {},
                **began,
                "finished": provenance.now(),
            }
            records.write_record(folder / "record.json", json.loads(json.dumps(record)))

        records.check_writable_record({**head, **describe(trainer, []), **began})
        for call in callbacks if rank() == 0 else ():
            if start := getattr(call, "start", None):
                start(name, folder)
        trainer.callbacks = (*trainer.callbacks, so_far, *callbacks)
        # nothing to train: only tested
        rows = trainer.fit() if count_parameters(trainer.model) else []
        record: dict[str, Any] = {
            **head,
            "status": records.FINISHED,
            **describe(trainer, rows),
            **self.details(trainer, rows),
            "results": self.results(trainer),
            **began,
            "finished": provenance.now(),
        }
        record = json.loads(json.dumps(record))  # as it will be read again
        if rank() > 0:
            return record
        locks.check_held(folder)
        self.save(folder / "model.safetensors", trainer.model, config, **self.about(record))
        in_index = records.is_evidence(record) or not (results_dir() / self.index).is_file()
        rebuild = self.rebuild_index if in_index else lambda: None  # it takes seconds
        record = file_record(folder, record, rows, keep_record, rebuild, trainer.observed)
        say(f"{name}: {self.summary(record)}, {record['wall_s']:.0f} s of training")
        return record

    def about(self, record: dict[str, Any]) -> dict[str, Any]:
        """What a run's model file says of it, beside weights and configuration."""
        return {"run_id": record["run_id"]}

    def save(self, path: Path, model: Any, config: Any, **info: Any) -> None:
        """Write one self-describing safetensors file: weights and the resolved configuration."""
        weights.write(
            path,
            model.state_dict(),
            {
                "format": f"terminator {self.task}",
                "config": json.dumps(to_dict(without_places(config))),
                "info": json.dumps(info),
            },
        )

    def load(self, path: Path) -> tuple[nn.Module, Any]:
        """The network in a file that `save` wrote, in evaluation mode, and its configuration.

        Raises:
            FileNotFoundError: as its message says.
            ValueError: if the file is corrupt, or no model of this system.
        """
        tensors, metadata = weights.read(path)
        if metadata["format"] != f"terminator {self.task}":
            raise ValueError(
                f"{path} is no {self.task} model: its metadata says format={metadata['format']}"
            )
        with weights.understood(path):
            config = from_dict(self.config, weights.values(metadata["config"], "config"))
            weights.values(metadata.get("info", "{}"), "info")
            model = weights.fitted(path, lambda: self.build(config), tensors)
        return model.eval(), config

    def runs_table(self, found: Sequence[dict[str, Any]]) -> pd.DataFrame:
        """One row per record: what it was, how well, how long, on what."""
        rows = pd.DataFrame([self.index_row(record) for record in found])
        return rows[list(self.columns)] if self.columns and len(rows) else rows

    def index_row(self, record: dict[str, Any]) -> dict[str, Any]:
        """A run's whole row of the index."""
        return {
            "run_id": record["run_id"],
            "experiment": record["experiment"],
            "profile": record["profile"],
            "data": record["data"]["title"],
            **self.row(record),
            "parameters": record["parameters"],
            "seed": record["seed"],
            "wall_s": record["wall_s"],
            "device": record["device"],
            "commit": (record["provenance"]["commit"] or "")[:10],
            "dirty": record["provenance"]["dirty"],
            "finished": record["finished"],
        }

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """What a reader calls the configurations of an experiment, {name: configuration}."""
        return {}

    def index_table(self, found: Sequence[dict[str, Any]]) -> pd.DataFrame:
        """`runs_table` with the name of every run's variant in its last column."""
        names: dict[int, str] = {}
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in found:
            groups.setdefault((record["experiment"], record["profile"]), []).append(record)
        for of, group in groups.items():
            for name, config in self.variants(*of).items():
                group = [record for record in group if id(record) not in names]
                for record in self.records_of({name: config}, group)[name]:
                    names[id(record)] = name
        variant = [names.get(id(record)) or self.label(record) for record in found]
        return self.runs_table(found).assign(variant=variant)

    def rebuild_index(self) -> Path | None:
        """Write the index, one row per run that is evidence; nothing where there is none."""
        with index_alone(results_dir() / self.index):
            found = records.evidence(self.task)
            if not found:
                return None
            return records.write_csv(results_dir() / self.index, self.index_table(found))
