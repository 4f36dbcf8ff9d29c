"""What a run's folder says: done, unfinished, diverged or nothing; who trains it now."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terminator.runs import records
from terminator.runs.folders import diverged_before
from terminator.runs.model_files import MODEL
from terminator.runtime import locks

DONE = "done"
UNFINISHED = "unfinished"  # a checkpoint is there
MISSING = "missing"
DIVERGED = "diverged"  # the loss was no finite number any more: as much as there will be
NO_DATA = "no data"  # neither a record nor the data are on this machine
WAITING = "waiting"  # its settings follow from runs that are not done


@dataclass(frozen=True)
class State:
    """What there is of a run.

    Attributes:
        name: one of the above.
        epochs: that are finished.
        rows: the numbers of each, as far as they are known.
        has_model: whether its weights are there.
        record: of a finished run.
        reason: why it diverged.
    """

    name: str
    epochs: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    has_model: bool = False
    record: dict[str, Any] | None = None
    reason: str = ""


def look(folder: Path) -> State:
    """What there is of the run in a folder.

    Raises:
        ValueError: for a damaged record, naming it.
    """
    has_model = (folder / MODEL).is_file()
    record = records.record_in(folder)
    rows = record.get("epochs", []) if record else []
    if record and record["status"] == records.FINISHED:
        return State(DONE, len(rows), rows, has_model, record)
    if (said := diverged_before(folder)) is not None:
        rows = rows or said.get("epochs", [])
        return State(DIVERGED, len(rows), rows, has_model, reason=said["reason"])
    if record or (folder / "checkpoint.pt").is_file():
        return State(UNFINISHED, len(rows), rows, has_model)
    return State(MISSING, has_model=has_model)


def trained_by(folder: Path) -> str | None:
    """Who trains the run in a folder now; None for nobody."""
    return locks.holder(folder) if folder.is_dir() else None
