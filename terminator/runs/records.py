"""Run records: the evidence behind every number, and the tables made from them.

results/runs/<experiment>/<run_id>/record.json and metrics.csv are written once a run has finished; tables
are computed from these files alone. Published numbers live in results/literature.csv, each with its source.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from terminator.runtime import text
from terminator.runtime.paths import atomic_write, results_dir

REQUIRED = {"run_id", "experiment", "status", "profile", "seed", "config", "data", "results"}  # else it is no record
CLASSIFICATION = "classification"  # what a record is of that names no task
SMOKE, OWN = "smoke", "cli"  # a profile and an experiment (runs of the command line) that are nobody's evidence


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table, whole or not at all, and return its path; text from outside becomes no formula."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, frame.map(text.csv).rename(columns=text.csv).to_csv(index=False))
    return path


# -- reading -------------------------------------------------------------------------------------------------


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with the SHA-256 of its content, so that a changed digit is not read as a result."""
    write_json(path, {**record, "digest": _digest(record)})


def read_record(path: Path) -> dict[str, Any]:
    """Read one record.json, without its digest; the first records have none.

    Raises:  ValueError if it is no record (truncated, say) or not as it was written, naming the file.
    """
    try:
        record = json.loads(path.read_text(encoding="utf8"))
        digest = record.pop("digest", None) if isinstance(record, dict) else None
        if digest is not None and digest != _digest(record):
            raise ValueError("its content is not what was written (damaged, or edited by hand)")
        if missing := REQUIRED - (record.keys() if isinstance(record, dict) else set()):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no readable run record: {error}. "
                         "Remove its folder to make that run again.") from error
    return record


def load_records(experiment: str | None = None, profile: str | None = None) -> list[dict[str, Any]]:
    """All finished records below results/runs, sorted by run id; of one experiment or profile, if named."""
    paths = sorted((results_dir() / "runs").glob(f"{experiment or '*'}/*/record.json"))
    records = [read_record(path) for path in paths]
    return [record for record in records if profile in (None, record["profile"])]


def evidence(task: str = CLASSIFICATION) -> list[dict[str, Any]]:
    """The records of a task that are kept with the project: laptop and paper runs of named experiments."""
    return [record for record in load_records() if record["profile"] != SMOKE and record["experiment"] != OWN
            and record.get("task", CLASSIFICATION) == task]


def check_writable(folder: Path) -> None:
    """Raise PermissionError, naming the folder, if no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # new and of no foreseeable name: no link is followed
            pass
    except OSError as error:
        raise PermissionError(f"cannot write to the results folder {folder}: {error.strerror}. Choose another one "
                              "with the environment variable TERMINATOR_RESULTS.") from error
