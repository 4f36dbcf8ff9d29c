"""Run records: the evidence behind every number, and the tables made from them.

results/runs/<experiment>/<run_id>/record.json and metrics.csv are written once a run has finished; tables
are computed from these files alone. Published numbers live in results/literature.csv, each with its source.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from terminator.config import Config, from_dict, identity
from terminator.machine import cpu_name
from terminator.notebooks import package_hash
from terminator.paths import atomic_write, project_root, results_dir

PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-learn")
REQUIRED = {"run_id", "experiment", "status", "profile", "seed", "config", "data", "results"}  # else it is no record
CLASSIFICATION = "classification"  # what a record is of that names no task
LITERATURE = ["table", "dataset", "model", "parameters", "epoch", "metric", "value", "unit", "kind", "source"]
SMOKE, OWN = "smoke", "cli"  # a profile and an experiment (runs of the command line) that are nobody's evidence


def now() -> str:
    """The time, UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table, whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, frame.to_csv(index=False))
    return path


# -- provenance ----------------------------------------------------------------------------------------------


def _git(*arguments: str) -> str | None:
    root = project_root()
    if root is None:
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_name(kind: str) -> str:
    """What ran it: the GPU's name, or the processor's with the number of threads in use."""
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_name()}, {torch.get_num_threads()} threads"


def peak_memory_bytes(kind: str) -> int:
    """The most memory held so far: of the process, or on the GPU by torch."""
    if kind == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def provenance() -> dict[str, Any]:
    """Code and software: commit, whether the checkout was clean, source hash, versions, system."""
    versions: dict[str, str | int | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    status = _git("status", "--porcelain", "--", "terminator", "notebooks", "run_all.py", "pyproject.toml")
    import torch

    versions["cuda"], versions["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return {"commit": _git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status),
            "source_hash": package_hash(), "versions": versions, "system": f"{platform.system()} {platform.machine()}"}


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


def setting(record: dict[str, Any]) -> str:
    """A short hash of configuration and data, without the seed: runs that may be averaged share it."""
    changes = identity(from_dict(Config, record["config"]).updated(train={"seed": Config().train.seed}))
    text = json.dumps([changes, record["data"]["fingerprint"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def runs_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per run: what it was, how well, how long, on what."""
    rows = [{
        "run_id": r["run_id"], "experiment": r["experiment"], "profile": r["profile"], "dataset": r["data"]["title"],
        "train_images": r["data"]["train_size"], "test_images": r["data"]["test_size"],
        "image_size": r["data"]["shape"][-1], "model": r["model"], "parameters": r["parameters"],
        "optimizer": r["config"]["optimizer"]["name"], "setting": setting(r),
        "epochs": r["config"]["train"]["epochs"], "seed": r["seed"],
        "accuracy_released": r["results"]["released"]["accuracy"],
        "accuracy_calibrated": r["results"].get("calibrated", {}).get("accuracy"),
        "wall_s": r["wall_s"], "images_per_s": r["images_per_s"], "peak_memory_mb": round(r["peak_memory_bytes"] / 1e6),
        "device": r["device"], "commit": (r["provenance"]["commit"] or "")[:10], "dirty": r["provenance"]["dirty"],
        "finished": r["finished"],
    } for r in records]
    return pd.DataFrame(rows)


GROUP = ["experiment", "profile", "dataset", "train_images", "image_size", "model", "parameters", "optimizer", "epochs",
         "setting"]


def summary_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting: mean and standard deviation of the last epoch's accuracies (%) over seeds."""
    runs = runs_table(records)
    if runs.empty:
        return runs
    rows = []
    for key, group in runs.groupby(GROUP, sort=True):
        row = dict(zip(GROUP, key, strict=True)) | {"seeds": len(group)}
        for protocol in ("released", "calibrated"):
            values = group[f"accuracy_{protocol}"]
            row[protocol] = round(values.mean(), 2)
            row[f"{protocol}_sd"] = round(values.std(ddof=1), 2) if len(values) > 1 else None
        row["device"] = "; ".join(sorted(set(group["device"])))
        row["minutes"] = round(group["wall_s"].mean() / 60, 1)
        row["images_per_s"] = round(group["images_per_s"].mean(), 1)
        rows.append(row)
    return pd.DataFrame(rows)


def table_beside_published(records: Iterable[dict[str, Any]], table: str = "images") -> pd.DataFrame:
    """Published numbers and ours in one table, each row saying what kind of number it is and where it is from.

    Ours are last-epoch means over seeds, as released (statistics of the test batch), with standard deviation.
    """
    columns = ["dataset", "model", "parameters", "epochs", "accuracy", "calibrated", "kind", "source"]
    published = literature(table)
    rows = [{"dataset": r.dataset, "model": r.model, "parameters": r.parameters, "epochs": r.epoch,
             "accuracy": mean_and_spread(r.value, None), "calibrated": "-", "kind": r.kind, "source": r.source}
            for r in published.itertuples()]
    for r in summary_table(records).itertuples():
        rows.append({"dataset": f"{r.dataset}, {r.image_size} px, {r.train_images} images", "model": r.model,
                     "parameters": r.parameters, "epochs": r.epochs,
                     "accuracy": mean_and_spread(r.released, r.released_sd),
                     "calibrated": mean_and_spread(r.calibrated, r.calibrated_sd),
                     "kind": f"ours, {r.profile}, {r.seeds} seed{'s' if r.seeds > 1 else ''}",
                     "source": f"results/runs/{r.experiment}"})
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"parameters": "Int64", "epochs": "Int64"})


def headline_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting and protocol: experiment, dataset, profile, metric, value, spread, n_seeds."""
    rows = []
    for r in summary_table(records).itertuples():
        for protocol in ("released", "calibrated"):
            rows.append({"experiment": r.experiment, "dataset": r.dataset, "profile": r.profile,
                         "metric": f"test accuracy (%), {protocol}", "value": getattr(r, protocol),
                         "spread": getattr(r, f"{protocol}_sd"), "n_seeds": r.seeds})
    return pd.DataFrame(rows, columns=["experiment", "dataset", "profile", "metric", "value", "spread", "n_seeds"])


README_START, README_END = "<!-- results: made by python -m terminator tables -->", "<!-- end of results -->"


def update_readme(path: Path, table: str, name: str = "results") -> None:
    """Put a table between the README's markers of that name.

    Raises:  ValueError if the markers are missing.
    """
    start, end = README_START.replace("results", name), README_END.replace("results", name)
    text = path.read_text(encoding="utf8")
    if start not in text or end not in text:
        raise ValueError(f"{path} lacks the lines {start!r} and {end!r}")
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    atomic_write(path, f"{before}{start}\n{table}\n{end}{after}")


def mean_and_spread(mean: float, spread: float | None, digits: int = 2) -> str:
    """"98.12 ± 0.30", or "98.12" where one seed leaves no spread."""
    if mean is None or pd.isna(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.{digits}f}")


def literature(table: str | None = None) -> pd.DataFrame:
    """Published numbers with their sources (results/literature.csv); of one table, if named."""
    try:
        frame = pd.read_csv(_published_file("literature.csv"))
    except FileNotFoundError:
        if project_root() is not None:
            raise
        frame = pd.DataFrame(columns=LITERATURE)  # the package alone: published numbers stand in the repository
    return frame if table is None else frame[frame["table"] == table].reset_index(drop=True)


def released_logs() -> pd.DataFrame:
    """Test accuracy (%) per epoch in the logs of the released code: columns dataset, epoch, test_accuracy."""
    wide = pd.read_csv(_published_file("literature/terminator_released_accuracy_logs.csv"))
    titles = {"cifar10_test_accuracy": "CIFAR-10", "cifar100_test_accuracy": "CIFAR-100"}
    long = wide.rename(columns=titles).melt("epoch", list(titles.values()), "dataset", "test_accuracy")
    long["test_accuracy"] *= 100
    return long[["dataset", "epoch", "test_accuracy"]]


def _published_file(name: str) -> Path:
    """A file of published numbers: in the results folder in use, else in the project's own."""
    root = project_root()
    for folder in (results_dir(), *([root / "results"] if root else [])):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no {name} in {results_dir()}")


def evidence(task: str = CLASSIFICATION) -> list[dict[str, Any]]:
    """The records of a task that are kept with the project: laptop and paper runs of named experiments."""
    return [record for record in load_records() if record["profile"] != SMOKE and record["experiment"] != OWN
            and record.get("task", CLASSIFICATION) == task]


def rebuild_index() -> Path:
    """Write results/index.csv, one row per run that is evidence."""
    return write_csv(results_dir() / "index.csv", runs_table(evidence()))


def check_writable(folder: Path) -> None:
    """Raise PermissionError, naming the folder, if no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise PermissionError(f"cannot write to the results folder {folder}: {error.strerror}. Choose another one "
                              "with the environment variable TERMINATOR_RESULTS.") from error
