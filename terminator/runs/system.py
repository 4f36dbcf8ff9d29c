"""Run it, or read what is there: what every kind of experiment has in common.

A run is identified by its resolved configuration, its data's fingerprint and its profile. Its
folder holds record.json, metrics.csv and model.safetensors, and while it trains checkpoint.pt.
Every kind of experiment derives from `System`, which brings run, find, identity, index and table.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from terminator.data.errors import DatasetNotFound
from terminator.model import count_parameters
from terminator.runs import records
from terminator.runs.finished import check_names, describe, file_record
from terminator.runs.folders import (
    divergence,
    divergences,
    finished_record,
    index_alone,
    once,
    told,
    trained_again,
)
from terminator.runs.matching import Matched
from terminator.runs.starts import starts
from terminator.runs.threads import one_training
from terminator.runtime import locks, provenance, weights
from terminator.runtime.deterministic import deterministic_algorithms
from terminator.runtime.distributed import choose_device, processes, rank
from terminator.runtime.machine import memory_bytes
from terminator.runtime.paths import results_dir
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError, from_dict, to_dict, without_places
from terminator.runtime.torch_state import own_draws
from terminator.trainer import Callback, Row


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


class System(Matched):
    """A kind of experiment with what all have in common: run it, or read what is there; its files,
    and the index. A subclass says what `Described` asks for.
    """

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
        with torch.inference_mode(False), processes(config.train):
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
            given = folder is not None
            folder = Path(folder) if folder else results_dir() / "runs" / experiment / name
            if not (force or need_model or given or finished_record(folder)):
                record = self.find_read_otherwise(config, data, experiment, profile)
                if record is not None:
                    return self.of_record(record, asked=config)
            trained: list[bool] = []

            def train() -> dict[str, Any]:
                began = {"provenance": provenance.provenance(), "started": provenance.now()}
                began |= {"starts": starting} if starting else {}
                head = {
                    "run_id": name,
                    "experiment": experiment,
                    "task": self.task,
                    "profile": profile,
                }
                about = {
                    **head,
                    "config": to_dict(without_places(config)),
                    "data": dataclasses.asdict(data.info),
                    **began,
                }
                again = force or trained_again(folder)
                ready = self.prepared(config, data, profile)  # may be a training of its own
                with (
                    one_training(choose_device(config.train.device).type == "cuda", wait),
                    deterministic_algorithms(config.train.deterministic),
                    told(folder, about),
                ):
                    trained.append(True)
                    return self._train(config, ready, head, folder, not again, began, callbacks)

            record = once(
                folder,
                train,
                need_model=need_model,
                force=force,
                rebuild_index=self.rebuild_index,
                wait=wait,
                run=name,
                given=given,
            )
            if record["run_id"] != name:
                raise ConfigError(
                    f"{folder} holds the finished run {record['run_id']} of other settings or data "
                    f"than {name}; allowed: another folder, or --force to replace it"
                )
            return self.of_record(record, folder, config, bool(trained))

    def _train(
        self,
        config: Any,
        data: Any,
        head: dict[str, str],
        folder: Path,
        keep_record: bool,
        began: dict[str, Any],
        callbacks: Sequence[Callback] = (),
    ) -> dict[str, Any]:
        """Train, evaluate, write model and record; a record that is there already is kept, if so
        wished.

        Args:
            head: what everything that is written of the run begins with.
            began: when, by what code, and from which files.
        """
        if rank() == 0:
            self.announce(data)
        _check_memory(self, config)
        trainer = self.trainer(self.start(config, data), config, data, folder)
        provenance.forget_peak_memory(trainer.device.type)

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
        with own_draws():
            for call in callbacks if rank() == 0 else ():
                if start := getattr(call, "start", None):
                    start(head["run_id"], folder)
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
        # it takes seconds
        rebuild = self.rebuild_index if records.is_evidence(record) else lambda: None
        record = file_record(folder, record, rows, keep_record, rebuild, trainer.observed)
        say(f"{head['run_id']}: {self.summary(record)}, {record['wall_s']:.0f} s of training")
        return record

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
        """Write the index, one row per run that is evidence; nothing where there is none, and was
        none.
        """
        with index_alone(results_dir() / self.index):
            found = records.evidence(self.task)
            path = results_dir() / self.index
            if not found and not path.is_file():
                return None
            return records.write_csv(path, self.index_table(found) if found else pd.DataFrame())
