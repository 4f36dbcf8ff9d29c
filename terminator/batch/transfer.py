"""Runs from another machine or person (sources.py), and for one.

Nothing that comes from outside is believed: a record must have its digest, settings that this
version knows, and the id that follows from them and its data's fingerprint; files beside it must
have the digests that it names, weights the one that the archive's list names. Names are those of
the record, never of the archive; links and paths that lead outside are refused.
"""

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import pandas as pd

from terminator.batch.sources import (
    APART,
    LIST,
    MAX_RECORD,
    RECORD,
    ArchiveSource,
    FolderSource,
    Refused,
    Source,
)
from terminator.data.files import few
from terminator.data.places import kind_of
from terminator.report.tables import SYSTEM_OF
from terminator.runs import records
from terminator.runs.finished import check_names
from terminator.runs.model_files import MODEL
from terminator.runs.observations import FIELDS, NUMBERS
from terminator.runtime import digests, locks, weights
from terminator.runtime.paths import atomic_path, atomic_write, results_dir
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError, from_dict

MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}  # of archives
MAX_MODEL = 16 * 2**30
NEW, SAME, CONFLICTING, REFUSED = "new", "same", "conflicting", "refused"


@dataclass(frozen=True)
class Arrived:
    """What became of one run: one of the words above; its name, and why."""

    what: str
    run: str
    why: str = ""


# -- taking them in --------------------------------------------------------------------------------


def import_runs(source: Path, with_weights: bool = True) -> list[Arrived]:
    """Take the runs of a folder or archive into results/runs, those that are not there yet.

    Args:
        with_weights: model files too, where they come with a digest.

    Returns:
        a word for each: new, same, conflicting (kept in results/conflicting), refused.

    Raises:
        FileNotFoundError: if there is no such folder or file.
        Refused: for an archive that cannot be trusted at all.
    """
    if not source.exists():
        raise FileNotFoundError(f"no folder or archive at {source}")
    box = FolderSource(source.absolute()) if source.is_dir() else ArchiveSource(source)
    with contextlib.closing(box):
        return _taken(box, with_weights)


def _taken(box: Source, with_weights: bool) -> list[Arrived]:
    found, systems = [], set()
    for folder in list(box.runs()):  # a link refuses the whole, before anything is taken
        try:
            record = _record(box, folder)
            arrived = _take(box, folder, record, with_weights)
        except (Refused, ValueError, OSError) as error:
            arrived = Arrived(REFUSED, folder, " ".join(str(error).split()))
        else:
            if arrived.what == NEW:
                systems.add(records.task_of(record))
        found.append(arrived)
    for task in sorted(systems):
        SYSTEM_OF[task].rebuild_index()
    return found


def _record(box: Source, folder: str) -> dict[str, Any]:
    """A record that is what it says."""
    name = _inside(folder, RECORD)
    if (box.size(name) or 0) > MAX_RECORD:
        raise Refused(f"its record has {box.size(name):,} bytes; allowed: {MAX_RECORD:,}")
    text = box.read(name)
    record = records.parse_record(text, f"{folder}/{RECORD}")
    if record["status"] != records.FINISHED:
        raise Refused(f"its status is {record['status']!r}: it is not finished")
    task = records.task_of(record)
    if task not in SYSTEM_OF:
        raise Refused(f"its task is {task!r}; allowed: {', '.join(SYSTEM_OF)}")
    check_names(record["experiment"], record["profile"])
    system = SYSTEM_OF[task]
    config = from_dict(system.config, record["config"])
    data = SimpleNamespace(info=SimpleNamespace(**record["data"]))
    try:
        expected = system.run_id(config, data, record["profile"], record.get("starts"))
        if expected != record["run_id"]:
            raise Refused(
                f"its run id is {record['run_id']!r:.100}; by its settings and data it is "
                f"{expected}"
            )
        pd.DataFrame(record["epochs"])
        system.index_row(record)  # what every table asks of it
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise Refused(f"it lacks what a finished run says: {error!r:.200}") from error
    return record


def _take(box: Source, folder: str, record: dict[str, Any], with_weights: bool) -> Arrived:
    """Put one run where it belongs, if it is not there."""
    run = f"{record['experiment']}/{record['run_id']}"
    files = {name: _beside(box, folder, name, d) for name, d in record.get("files", {}).items()}
    place = results_dir() / "runs" / record["experiment"] / record["run_id"]
    place.mkdir(parents=True, exist_ok=True)
    lock = locks.folder_lock(place)
    lock.acquire(timeout=0)
    try:
        there = place / RECORD
        old = records.read_record(there) if there.is_file() else None
        if old is not None and old["status"] == records.FINISHED:
            if old != record:
                return _keep_apart(run, record, files)
            added = with_weights and not (place / MODEL).exists() and _weights(box, folder, place)
            return Arrived(SAME, run, "its weights are new" if added else "")
        if why := _other_data(record):
            return _keep_apart(run, record, files, why)
        brought = with_weights and _weights(box, folder, place)
        _write(place, record, files)
        if (place / MODEL).is_file():  # else weights can be had from it
            (place / "checkpoint.pt").unlink(missing_ok=True)
        behind = with_weights and not brought and box.size(_inside(folder, MODEL)) is not None
        why = f"its weights stay behind, since no {LIST} says what they are: see export-runs"
        return Arrived(NEW, run, why if behind else "")
    finally:
        lock.release()


def _write(place: Path, record: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """The record last: what has one is whole."""
    for name, content in files.items():
        atomic_write(place / name, content)
    records.write_csv(place / "metrics.csv", pd.DataFrame(record["epochs"]))
    records.write_record(place / RECORD, record)


def _keep_apart(
    run: str, record: dict[str, Any], files: Mapping[str, bytes], why: str = ""
) -> Arrived:
    text = json.dumps(record, sort_keys=True).encode()
    place = results_dir() / APART / run / digests.of(text)[:12]
    _write(place, record, files)
    return Arrived(CONFLICTING, run, why or "another record of this run is here, which is kept")


def _other_data(record: dict[str, Any]) -> str:
    """Why a record's data are not those of the same settings here, "" where nothing says so."""
    system = SYSTEM_OF[records.task_of(record)]
    if record["experiment"] == records.OWN:  # whose data are anybody's
        return ""
    config = from_dict(system.config, record["config"])
    for other in records.load_records(record["experiment"], record["profile"]):
        if other["data"]["fingerprint"] != record["data"]["fingerprint"]:
            if other["seed"] == record["seed"] and system.is_of(other, config):
                return f"its data are not those of {other['run_id']}, which has the same settings"
    return ""


def _beside(box: Source, folder: str, name: str, digest: Any) -> bytes:
    """A file beside a record, which must be what the record says."""
    if name not in (NUMBERS, FIELDS):
        raise Refused(f"{name!r:.100} is said to lie beside it; allowed: {NUMBERS}, {FIELDS}")
    if (size := box.size(_inside(folder, name))) is None or size > MAX_RECORD:
        raise Refused(f"{name} is missing, or larger than {MAX_RECORD:,} bytes")
    content = box.read(_inside(folder, name))
    if digests.of(content) != digest:
        raise Refused(f"{name} is not what the record says: its SHA-256 is another")
    return content


def _inside(folder: str, name: str) -> str:
    return name if folder in ("", ".") else f"{folder}/{name}"


def _weights(box: Source, folder: str, place: Path) -> bool:
    """Take a model file that is listed with its digest; whether there was one."""
    name = _inside(folder, MODEL)
    size = box.size(name)
    if size is None or name not in box.listed:
        return False
    if size > MAX_MODEL:
        raise Refused(f"{MODEL} has {size:,} bytes; allowed: {MAX_MODEL:,}")
    with atomic_path(place / MODEL) as path:
        found = hashlib.sha256()
        with box.open(name) as source, open(path, "wb") as target:
            while block := source.read(2**20):
                found.update(block)
                target.write(block)
        if found.hexdigest() != box.listed[name]:
            raise Refused(f"{MODEL} is not what {LIST} says: its SHA-256 is another")
        weights.read(path)  # refuses what is no model
    return True


# -- giving them away ------------------------------------------------------------------------------


def export_runs(
    target: Path,
    experiments: Sequence[str] = (),
    profile: str | None = None,
    with_weights: bool = False,
) -> int:
    """Write finished runs into a tar archive (.tar, .tar.gz, .tar.xz) with a list of digests.

    Args:
        experiments: of these; none: of all.
        profile: of this one only.
        with_weights: model files too.

    Returns:
        how many runs.

    Raises:
        ConfigError: for another kind of archive, an experiment of which there are no runs, and a
            file that is none, or has what the new one has not.
    """
    mode: Any = next((mode for end, mode in MODES.items() if target.name.endswith(end)), None)
    if mode is None:
        raise ConfigError(f"the archive is {str(target)!r}; allowed: names in {', '.join(MODES)}")
    found = [
        record
        for record in records.load_records(profile=profile)
        if records.task_of(record) in SYSTEM_OF
        and (not experiments or record["experiment"] in experiments)
    ]
    if missing := set(experiments) - {record["experiment"] for record in found}:
        known = sorted({record["experiment"] for record in records.load_records(profile=profile)})
        raise ConfigError(
            f"no finished runs of {', '.join(sorted(missing))} in {results_dir() / 'runs'}; "
            f"allowed: {', '.join(known) or 'none, there are no runs'}"
        )
    if not found:
        of = f" of the profile {profile}" if profile else ""
        raise ConfigError(f"no finished runs{of} in {results_dir() / 'runs'}, so nothing to export")
    given, without = dict[str, Path](), list[str]()
    for record in found:
        folder = records.path_of(record).parent
        if not (folder / RECORD).is_file():
            say(f"note: {folder.name} lies in a folder of another name and is left out")
            continue
        names = [RECORD, "metrics.csv", *record.get("files", {})]
        names += [MODEL] if with_weights else []
        if with_weights and not (folder / MODEL).is_file():
            without.append(folder.name)
        place = f"runs/{record['experiment']}/{record['run_id']}"
        given |= {f"{place}/{name}": folder / name for name in names if (folder / name).is_file()}
    if without:
        say(f"note: {len(without)} of the runs have no weights here: {few(without)}")
    _check_target(target, given)
    listed = {}
    with atomic_path(target) as path, tarfile.open(path, mode, dereference=True) as tar:
        for inside, file in given.items():
            listed[inside] = digests.of_file(file)
            tar.add(file, inside, recursive=False, filter=_anonymous)
        text = digests.as_list(listed).encode()
        about = tarfile.TarInfo(LIST)
        about.size = len(text)
        tar.addfile(about, io.BytesIO(text))
    return sum(PurePosixPath(name).name == RECORD for name in listed)


def _check_target(target: Path, given: Collection[str]) -> None:
    """Refuse to take the place of anything but an archive of runs that the new one has, too."""
    kind = kind_of(target)
    if not kind:
        return
    names = set[str]()
    if kind == "a file":
        with contextlib.suppress(Refused), contextlib.closing(ArchiveSource(target)) as there:
            names = there.names()
    if LIST not in names:
        what = "there and no archive of runs" if kind == "a file" else kind
        raise ConfigError(f"the archive is {str(target)!r}, which is {what}; allowed: a new name")
    if lost := sorted(names - {*given, LIST}):
        raise ConfigError(
            f"the archive is {str(target)!r}, which has {len(lost)} files that the new one would "
            f"not have: {few(lost)}; allowed: a new name"
        )


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without who made it, and where."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
