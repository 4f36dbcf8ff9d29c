"""Records of what is measured rather than trained.

Two kinds: evidence of one moment on one machine, of which the newest counts (`latest`,
results/runs/<experiment>/speed-<profile>-<time>-<hash>/benchmark.json), and numbers that come out
the same wherever they are made, once for every name (`named`, results/runs/<experiment>/<name>/
record.json).
"""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pandas as pd

from terminator.runs import records
from terminator.runs.folders import once
from terminator.runtime import provenance
from terminator.runtime.distributed import choose_device
from terminator.runtime.paths import results_dir

BENCHMARK = "benchmark"  # the experiment whose rows make the table of docs/speed.md


def as_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON values, nothing for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


# -- the newest counts -----------------------------------------------------------------------------


def load(profile: str | None = None, experiment: str = BENCHMARK) -> list[dict[str, Any]]:
    """All records of an experiment's measurements in a profile, oldest first (or of all profiles,
    one after the other).
    """
    paths = sorted(results_dir().glob(f"runs/{experiment}/*/benchmark.json"))
    found = [records.read_measurement(path) for path in paths]
    return [record for record in found if profile in (None, record["profile"])]


def newest(experiment: str, profile: str) -> dict[str, Any] | None:
    """The last of them, whatever it was measured on, if there is one."""
    return next(reversed(load(profile, experiment)), None)


def add(experiment: str, profile: str, measured: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure now, write a record and return it as it will be read.

    Args:
        measured: gives `rows`, each with its `device` (cpu, cuda), and whatever else the record is
            to hold; machine, code, begin and end are added.
    """
    started, content = provenance.now(), measured()
    rows = content["rows"]
    device = "cuda" if any(row["device"] == "cuda" for row in rows) else "cpu"
    measurement = {
        "machine": provenance.device_name(device),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),  # with several threads it decides much
        **content,
    }
    digest = hashlib.sha256(json.dumps(measurement).encode()).hexdigest()[:6]
    name = f"speed-{profile}-{started.replace(':', '').removesuffix('+0000')}-{digest}"
    path = results_dir() / "runs" / experiment / name / "benchmark.json"
    record = {
        "profile": profile,
        **measurement,
        "provenance": provenance.provenance(),
        "started": started,
        "finished": provenance.now(),
    }
    records.write_record(path, record)
    return records.read_measurement(path)


def latest(
    experiment: str,
    profile: str,
    measured: Callable[[str], dict[str, Any]],
    device: str = "auto",
    again: bool = False,
) -> dict[str, Any]:
    """The newest record of this profile and kind of device, or one that is made now.

    Args:
        measured: see `add`; is given the kind of device, cpu or cuda.
        device: auto, cpu, cuda.
        again: measure in any case.
    """
    kind = choose_device(device).type
    found = [r for r in load(profile, experiment) if r["rows"][0]["device"] == kind]
    if found and not again:
        return found[-1]
    return add(experiment, profile, lambda: measured(kind))


# -- once for every name ---------------------------------------------------------------------------


def found(experiment: str, name: str) -> dict[str, Any] | None:
    """The record of this name, if it is there."""
    path = results_dir() / "runs" / experiment / name / "record.json"
    return records.read_record(path) if path.is_file() else None


def named(
    experiment: str,
    name: str,
    task: str,
    profile: str,
    measured: Callable[[], dict[str, Any]],
    seed: int = 0,
    again: bool = False,
) -> dict[str, Any]:
    """The record of this name, or one that is made now, by one process at a time.

    Args:
        measured: gives `results`, `data` (title, fingerprint) and whatever else the record is to
            hold; what it is, code, begin and end are added.
        again: measure in any case, in the place of the record that is there.

    Raises:
        PermissionError: if nothing can be written.
        ValueError: for a damaged record.
    """
    folder = results_dir() / "runs" / experiment / name

    def make() -> dict[str, Any]:
        began = {"provenance": provenance.provenance(), "started": provenance.now()}
        what = {"run_id": name, "experiment": experiment, "task": task, "status": records.FINISHED}
        record = {**what, "profile": profile, "seed": seed, "config": {}, **measured(), **began}
        path = folder / "record.json"
        records.write_record(path, {**record, "finished": provenance.now()})
        return records.read_record(path)

    return once(folder, make, force=again)
