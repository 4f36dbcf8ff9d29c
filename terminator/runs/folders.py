"""A run's folder and the index beside it: one process at a time works there, and what one that was
killed had left is put in order.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout

from terminator.runner import run_page
from terminator.runs import records
from terminator.runs.observations import FIELDS, NUMBERS
from terminator.runtime import locks, provenance
from terminator.runtime.distributed import broadcast, rank
from terminator.runtime.paths import ForeignFile, left_overs, results_dir
from terminator.runtime.progress import say
from terminator.trainer import TrainingDiverged

INDEX_WAIT_S = 60.0  # for another process that writes the same index
# what a run writes beside its record and checkpoint
WRITTEN = ("model.safetensors", "metrics.csv", NUMBERS, FIELDS, run_page.CURVES, run_page.PAGE)
AGAIN = ".again"  # beside a finished record while a forced training is to take its place


def once(
    folder: Path,
    train: Callable[[], dict[str, Any]],
    need_model: bool = False,
    force: bool = False,
    rebuild_index: Callable[[], Any] = lambda: None,
    wait: bool = True,
    run: str = "",
    given: bool = False,
) -> dict[str, Any]:
    """The record in the folder, or what `train` gives, in one process (or group of ranks) at a
    time; what a process that was killed behind its record left to do is done.

    Args:
        run: the id of the run, where the folder has another name.
        given: the folder was chosen by the user, and may hold other things.

    Raises:
        ForeignFile: if files in a given folder would be replaced that are no run's.
        PermissionError: if nothing can be written there; whatever `train` raises.
        Busy: if another process trains it, and it is not waited for.
        TrainingDiverged: if it did so before, and is not forced.
    """
    run = run or folder.name
    # while another process makes it anew, the record that is there is the one to be read
    again = trained_again(folder) and locks.holder(folder) is None
    found = _known(folder, run, need_model, force or again)
    if found is not None:
        if rank() == 0:
            _mend(folder, rebuild_index)
        return found
    if rank() == 0:
        records.check_writable(folder)
        if given:
            _check_own(folder, force)
    with _alone(folder, wait):
        if rank() == 0:
            if force:  # not before nobody else is at it
                (folder / "checkpoint.pt").unlink(missing_ok=True)
                if finished_record(folder):
                    (folder / AGAIN).touch()
                else:  # what it says of an unfinished training goes with its checkpoint
                    (folder / "record.json").unlink(missing_ok=True)
            elif not trained_again(folder):
                (folder / AGAIN).unlink(missing_ok=True)  # of one that came to nothing
        # another may have made it while this process waited
        found = _known(folder, run, need_model, force or trained_again(folder))
        if found is None:
            found = train()
            if rank() == 0:
                (folder / AGAIN).unlink(missing_ok=True)
        return found


def _check_own(folder: Path, force: bool) -> None:
    """Refuse a folder of somebody else's, in which files of a run's names would be replaced."""
    if (folder / locks.NAME).exists() or diverged_before(folder) is not None:
        return  # a training was here
    if (folder / "record.json").is_file() and records.record_in(folder) is not None:
        return
    # a checkpoint may have been brought to go on from; with force it would go
    names = (*WRITTEN, "checkpoint.pt") if force else WRITTEN
    if there := next((name for name in names if os.path.lexists(folder / name)), None):
        raise ForeignFile(
            f"{folder} has a file {there} and no record of a run, so it is not a run's own; "
            "allowed: a new folder, or that of a run"
        )


def trained_again(folder: Path) -> bool:
    """Whether a forced training has come to a checkpoint here, and so goes on in the place of the
    record that is finished.
    """
    return (folder / AGAIN).is_file() and (folder / "checkpoint.pt").is_file()


def _known(folder: Path, run: str, need_model: bool, force: bool) -> dict[str, Any] | None:
    """The record that is all that is needed, or None for a training that is to be made; raises
    TrainingDiverged for one that would only diverge again. The same on every rank.
    """
    alone = None if force or rank() > 0 else diverged_before(folder)
    found, before = broadcast((_find(folder, need_model, force), alone))
    if found is None and before is not None and before["run_id"] == run:
        raise divergence(before)
    return found


def _mend(folder: Path, rebuild_index: Callable[[], Any]) -> None:
    """Do what is left of a run that was killed between its record and the end: index, checkpoint.

    Another process that trains it again, and holds its lock, is left alone; so is a checkpoint
    whose model is not there, from which the weights can still be had.
    """
    left = [path for path in (folder / "checkpoint.pt", *left_overs(folder)) if path.is_file()]
    if not left or not (folder / "model.safetensors").is_file():
        return
    try:
        lock = locks.folder_lock(folder)
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return
    try:
        rebuild_index()
        for path in left:
            path.unlink(missing_ok=True)
        say(f"{folder.name}: what an interrupted end had left is put in order")
    except OSError as error:  # not ours to write, perhaps: the record is there all the same
        say(f"note: {folder} holds left-overs that cannot be removed ({error.strerror})")
    finally:
        lock.release()


@contextlib.contextmanager
def _alone(folder: Path, wait: bool = True) -> Iterator[None]:
    """Let one process (or one group of ranks) at a time train in this folder; others wait."""
    if rank() > 0:
        yield
        return
    lock = locks.folder_lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            who = locks.holder(folder) or "another process"
            raise locks.Busy(f"{folder.name}: {who} is training it") from None
        say(f"{folder.name}: another process is training it; waiting for its end")
        lock.acquire()
    for left in left_overs(folder):
        left.unlink(missing_ok=True)
    try:
        yield
    finally:
        lock.release()


def _find(folder: Path, need_model: bool, force: bool) -> dict[str, Any] | None:
    """The record in the folder, if it is all that is needed."""
    if rank() > 0 or force:
        return None
    if need_model and not (folder / "model.safetensors").is_file():
        return None
    return finished_record(folder)


def finished_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished run in the folder, or None where it is missing or the run goes
    on.
    """
    found = records.record_in(folder)
    return found if found is not None and found["status"] == records.FINISHED else None


DIVERGED = "diverged.json"  # of a training whose loss was no finite number any more: evidence, too


def diverged_before(folder: Path) -> dict[str, Any] | None:
    """What is said in a run's folder of a training that diverged, None where there is none."""
    try:
        said = json.loads((folder / DIVERGED).read_text(encoding="utf8"))
        return {**said, **{key: str(said[key]) for key in ("run_id", "reason", "when")}}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def divergences(experiment: str, profile: str) -> list[dict[str, Any]]:
    """What is said of the trainings of an experiment that diverged."""
    places = sorted((results_dir() / "runs" / experiment).glob(f"*/{DIVERGED}"))
    found = [said for path in places if (said := diverged_before(path.parent)) is not None]
    return [said for said in found if said.get("profile") == profile]


def divergence(said: Mapping[str, Any]) -> TrainingDiverged:
    """The error for a training of which this is said."""
    return TrainingDiverged(
        f"{said['reason']} So it ended on {said['when'][:10]}; --force trains it again."
    )


@contextlib.contextmanager
def told(folder: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Leave in a run's folder that its training diverges, so that nobody waits for it again; its
    finished epochs move there from the record of what is under way.

    Args:
        about: what else is said of the run: its settings, and by what code it was trained.
    """
    path = folder / DIVERGED
    if rank() == 0:
        path.unlink(missing_ok=True)
    try:
        yield
    except TrainingDiverged as error:
        if rank() == 0:
            said = {**about, "reason": str(error), "when": provenance.now(), "epochs": []}
            so_far = folder / "record.json"
            if unfinished := so_far.is_file() and finished_record(folder) is None:
                said["epochs"] = records.read_record(so_far)["epochs"]
            records.write_json(path, said)
            (folder / AGAIN).unlink(missing_ok=True)  # a finished record stays in its place
            if unfinished:
                so_far.unlink()
        raise


@contextlib.contextmanager
def index_alone(path: Path) -> Iterator[None]:
    """Let one process at a time read all records and write an index, so that the last one written
    knows all; what one that was killed had half-written goes, once nobody can be at it any more
    (who cannot get the lock writes without it).
    """
    runs = path.parent / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        lock = locks.folder_lock(runs)
        lock.acquire(timeout=INDEX_WAIT_S)
    except (Timeout, OSError):  # a file system without locks, say
        yield
        return
    try:
        for left in left_overs(path.parent):
            with contextlib.suppress(FileNotFoundError):
                silent = time.time() - left.lstat().st_mtime > locks.SILENT_S
                if silent and left.name.startswith(f".{path.stem}-"):
                    left.unlink()
        yield
    finally:
        lock.release()
