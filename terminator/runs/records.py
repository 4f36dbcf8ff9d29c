"""Run records: the evidence behind every number, and the tables made from them.

results/runs/<experiment>/<run_id>/record.json is written after every epoch, and with metrics.csv
once the run has finished; tables are computed from these files alone. Published numbers live in
results/literature.csv, each with its source.
"""

import functools
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from terminator.runtime import text
from terminator.runtime.paths import atomic_write, results_dir
from terminator.runtime.progress import say_once
from terminator.runtime.settings import ConfigError, from_dict

WORDS = {
    str: "text",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "a list",
    type(None): "null",
}
FORM: dict[str, tuple[type, ...]] = {  # without these it is no record
    "run_id": (str,),
    "experiment": (str,),
    "status": (str,),
    "profile": (str,),
    "seed": (int,),
    "config": (dict,),
    "data": (dict,),
    "results": (dict, list),
}
MEASUREMENT: dict[str, tuple[type, ...]] = {"profile": (str,), "machine": (str,), "rows": (list,)}
OPTIONAL: dict[str, tuple[type, ...]] = {  # what some kinds of runs have
    "task": (str,),
    "model": (str,),
    "device": (str,),
    "epochs": (list,),
    "provenance": (dict,),
    "files": (dict,),
    "starts": (dict,),
    "parameters": (int,),
    "wall_s": (int, float),
    "started": (str,),
    "finished": (str,),
}
FINISHED, RUNNING = "ok", "running"  # of a record's status
# a profile and an experiment (runs of the command line) that are nobody's evidence
SMOKE, OWN = ("smoke", "cli")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table, whole or not at all, and return its path; text from outside becomes no
    formula.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, frame.map(text.csv).rename(columns=text.csv).to_csv(index=False))
    return path


# -- reading ---------------------------------------------------------------------------------------


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def check_writable_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it will be read again: written in memory only, before a training starts.

    Raises:
        ValueError: naming the field whose value no record can hold.
    """
    for field, value in _leaves(record):
        try:
            json.dumps(value).encode()
            str(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"the record of this run could not be written: its {field} is {value!r:.100}, "
                f"{error}; rename it, or choose other data or settings"
            ) from error
    return json.loads(json.dumps(record))


def _leaves(value: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested dictionaries and lists with what it is called: data.classes[3]."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{field} key", key
            yield from _leaves(item, f"{field}.{key}" if field else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{field}[{number}]")
    else:
        yield field, value


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with the SHA-256 of its content, so that a changed digit is not read as a
    result.
    """
    write_json(path, {**record, "digest": _digest(record)})


def read_record(path: Path) -> dict[str, Any]:
    """Read one record.json, without its digest; the first records have none.

    Raises:
        ValueError: if it is no record (truncated, say) or not as it was written, naming the file.
    """
    return _read(path, FORM, "run record", "Remove its folder to make that run again.")


def record_in(folder: Path) -> dict[str, Any] | None:
    """The record in a run's folder, None where there is none: it may go as the training diverges.

    Raises:
        ValueError: as read_record.
    """
    try:
        return read_record(folder / "record.json")
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


def read_measurement(path: Path) -> dict[str, Any]:
    """Read one benchmark.json, without its digest; the first ones have none.

    Raises:
        ValueError: naming the file, as read_record.
    """
    return _read(path, MEASUREMENT, "measurement", "Remove its folder to measure again.")


def parse_record(text: bytes, name: str) -> dict[str, Any]:
    """A record from elsewhere, from the bytes of a record.json; its digest must be there.

    Raises:
        ValueError: naming it, as read_record.
    """
    try:
        record = json.loads(text)
        if not isinstance(record, dict) or "digest" not in record:
            raise ValueError("it has no digest")
        return _checked(record, FORM)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no readable run record: {error}") from error


def _checked(record: Any, form: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """The record without its digest.

    Raises:
        ValueError: for another digest or form than it should have.
    """
    digest = record.pop("digest", None) if isinstance(record, dict) else None
    if digest is not None and digest != _digest(record):
        raise ValueError("its content is not what was written (damaged, or edited by hand)")
    _check_form(record, form)
    return record


def _read(
    path: Path, form: Mapping[str, tuple[type, ...]], what: str, advice: str
) -> dict[str, Any]:
    try:
        record = _checked(json.loads(path.read_text(encoding="utf8")), form)
    except (ValueError, OSError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{path} is no readable {what}: {reason}. {advice}") from error
    return record


def _check_form(record: Any, form: Mapping[str, tuple[type, ...]]) -> None:
    """Raise ValueError, naming the field, if a record lacks one, or if one is of another type
    than it should be.
    """
    if not isinstance(record, dict) or (missing := [name for name in form if name not in record]):
        raise ValueError(
            f"it lacks {', '.join(sorted(missing if isinstance(record, dict) else form))}"
        )
    for name, types in {**form, **OPTIONAL}.items():
        value = record.get(name)
        if name in record and (
            not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
        ):
            raise ValueError(
                f"its {name} is {json.dumps(value)[:80]}; allowed: "
                f"{' or '.join(WORDS[t] for t in types)}"
            )
    for name in ("experiment", "run_id"):  # folders and files are called by them
        value = str(record.get(name, name))
        if value in ("", ".", "..") or re.search(r"[/\\]", value):
            raise ValueError(f"its {name} is {json.dumps(value)[:80]}; allowed: a folder's name")


def same_data(data: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records' data are the same but for last bits of pixels, which depend on the
    libraries that decoded or resized them.
    """
    pixels = ("mean", "std")
    near = all(np.allclose(data.get(k, ()), other.get(k, ()), atol=1e-3) for k in pixels)
    rest = (*pixels, "fingerprint")
    return near and {**data, **dict.fromkeys(rest)} == {**other, **dict.fromkeys(rest)}


def load_records(
    experiment: str | None = None, profile: str | None = None, status: str = FINISHED
) -> list[dict[str, Any]]:
    """All records below results/runs, sorted by run id; of one experiment or profile, if named.

    Args:
        status: of finished runs, or "running": of those that are not, with the epochs that they
            have.
    """
    runs = results_dir() / "runs"
    paths = sorted(runs.glob(f"{experiment or '*'}/*/record.json"))
    found = [(path, record) for path in paths if (record := record_in(path.parent)) is not None]
    return [
        record
        for record in _each_once(runs, found)
        if profile in (None, record["profile"]) and record["status"] == status
    ]


def _each_once(runs: Path, found: list[tuple[Path, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records, each run once: a folder's name says which run it holds; a copy of a run is no
    second one.
    """
    chosen: dict[tuple[str, str], Path] = {}

    def misplaced(path: Path, record: dict[str, Any]) -> bool:
        return path.parent != runs / record["experiment"] / record["run_id"]

    # the rightly placed first
    for path, record in sorted(found, key=lambda pair: misplaced(*pair)):
        rightly = runs / record["experiment"] / record["run_id"] / "record.json"
        place = chosen.setdefault(
            (record["experiment"], record["run_id"]), rightly if rightly.is_file() else path
        )
        if misplaced(path, record):
            counts = (
                "it counts once"
                if place == path
                else f"it is a copy of {place.parent.relative_to(runs)}, which counts alone"
            )
            line = (
                f"note: runs/{path.parent.relative_to(runs)} holds the run "
                f"{record['experiment']}/{record['run_id']}: {counts}"
            )
            say_once(line)
    return [
        record for path, record in found if chosen[record["experiment"], record["run_id"]] == path
    ]


def path_of(record: Mapping[str, Any]) -> Path:
    """Where a record lies."""
    return results_dir() / "runs" / record["experiment"] / record["run_id"] / "record.json"


def config_of(record: Mapping[str, Any], kind: type) -> Any:
    """The settings of a run, of its system's kind.

    Raises:
        ConfigError: naming the record's file, if this version does not know them.
    """
    try:
        return _settings(kind, json.dumps(record["config"]))
    except ConfigError as error:
        raise ConfigError(
            f"{path_of(record)} holds settings that this version does not read: {error}. "
            "Remove its folder to make that run again."
        ) from error


@functools.lru_cache(8192)
def _settings(kind: type, text: str) -> Any:
    """Settings from JSON; those of a record are asked for by every study."""
    return from_dict(kind, json.loads(text))


def task_of(record: Mapping[str, Any]) -> str:
    """The task of the system that a record is of; classification's first records name none."""
    return record.get("task", "classification")


def is_evidence(record: Mapping[str, Any]) -> bool:
    """Whether a record is of a run that is kept with the project: see `evidence`."""
    return record["profile"] != SMOKE and record["experiment"] != OWN


def evidence(task: str, status: str = FINISHED) -> list[dict[str, Any]]:
    """The records of a task that are kept with the project: laptop and paper runs of named
    experiments.
    """
    return [
        record
        for record in load_records(status=status)
        if is_evidence(record) and task_of(record) == task
    ]


def check_writable(folder: Path) -> None:
    """Raise PermissionError, naming the folder, if no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # new and of no foreseeable name: no link is followed
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(
            f"cannot write to the results folder {folder}: {error.strerror}. Choose another one "
            "with the environment variable TERMINATOR_RESULTS."
        ) from error
