"""A run: its name, what its record says, and what a finished one gives back."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from terminator.model import count_parameters
from terminator.runs import observations, records
from terminator.runs.folders import finished_record
from terminator.runtime import provenance
from terminator.runtime.progress import say
from terminator.runtime.settings import (
    PROFILES,
    ConfigError,
    require_one_of,
    to_dict,
    with_places,
    without_places,
)
from terminator.runtime.text import shortened
from terminator.trainer import Loop


@dataclass(frozen=True)
class FinishedRun:
    """A finished run: its record, folder and system; on demand its settings, epochs and network.

    trained: whether this call trained it, or found it finished.
    """

    record: dict[str, Any]
    folder: Path
    system: Any  # the System that it is of
    trained: bool = False
    asked: Any = None  # the configuration that it was asked for by, if any: it knows paths

    @property
    def config(self) -> Any:
        """The resolved configuration."""
        config = records.config_of(self.record, self.system.config)
        return config if self.asked is None else with_places(config, self.asked)

    def model(self) -> Any:
        """The trained network, in evaluation mode."""
        return self.system.load(self.folder / "model.safetensors")[0]

    def accuracy(self, part: str = "") -> float:
        """Accuracy (%) after the last epoch.

        Args:
            part: a split or protocol; without one, that by which its system judges a run.
        """
        return self.record["results"][part or self.system.judged_by(self.record)]["accuracy"]

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per epoch."""
        # as in metrics.csv, but covered by the record's digest
        return pd.DataFrame(self.record["epochs"])

    @property
    def observations(self) -> pd.DataFrame:
        """What was measured inside the network (train.observe); see observations.read_numbers."""
        return observations.read_numbers(self.folder)

    @property
    def observed_fields(self) -> dict[int, dict[str, Any]]:
        """Fields that were kept at some epochs of the training; see observations.read_fields."""
        return observations.read_fields(self.folder)

    @property
    def has_model(self) -> bool:
        """Whether the weights are on this machine (records travel, weights do not)."""
        return (self.folder / "model.safetensors").is_file()


def check_names(experiment: str, profile: str) -> None:
    """Raise ConfigError for a name that is no folder's, or an unknown profile."""
    if not re.fullmatch(r"[\w-]+", experiment):
        raise ConfigError(f"experiment is {experiment!r}; allowed: letters, digits, - and _")
    require_one_of("profile", profile, PROFILES)


def run_name(what: dict[str, Any], fingerprint: str, profile: str, seed: int, *names: str) -> str:
    """`<names>-<profile>-s<seed>-<hash>`: the same for the same experiment, wherever it runs.

    Args:
        what: the configuration's identity.
        fingerprint: of the data.
        names: of data and method, to be read.
    """
    text = json.dumps([what, fingerprint, profile], sort_keys=True)
    readable = "-".join("".join(c if c.isalnum() else "-" for c in name.lower()) for name in names)
    return (
        f"{shortened(readable)}-{profile}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    )


# -- records ---------------------------------------------------------------------------------------


def describe(trainer: Loop, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The part of every record that says what was trained, on what, for how long, and every epoch
    of it.
    """
    config, kind = trainer.config, trainer.device.type
    return {
        "seed": config.train.seed,
        "model": type(trainer.model).__name__,
        "parameters": count_parameters(trainer.model),
        "config": to_dict(without_places(config)),
        "data": dataclasses.asdict(trainer.data.info),
        "epochs": list(rows),
        "wall_s": round(sum(row["seconds"] for row in rows), 2),
        "peak_memory_bytes": provenance.peak_memory_bytes(kind),
        "device": provenance.device_name(kind),
        "precision": config.train.precision,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "stretches": trainer.history(list(rows)) if rows else [],
    }


def file_record(
    folder: Path,
    record: dict[str, Any],
    rows: Sequence[dict[str, float]],
    keep_old: bool,
    rebuild_index: Callable[[], Any],
    observed: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Write record and metrics, unless an old record is to be kept; return the one that counts,
    drop the checkpoint.
    """
    if keep_old and (old := finished_record(folder)) is not None:
        record = old
        say(f"{folder.name}: the weights are back; its record is kept as it was")
    else:
        records.write_csv(folder / "metrics.csv", pd.DataFrame(rows))
        if observed:
            record = {**record, "files": observations.write(folder, list(observed))}
        records.write_record(folder / "record.json", record)
        rebuild_index()
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return record
