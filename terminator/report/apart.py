"""What tells rows of one name apart: the settings in which they differ, or who read their data."""

from collections.abc import Iterable, Sequence
from typing import Any

from terminator.runs import records
from terminator.runs.matching import READERS
from terminator.runs.system import System
from terminator.runtime.settings import identity


def tell_apart(
    system: System,
    rows: Sequence[dict[str, Any]],
    firsts: Sequence[dict[str, Any]],
    same: Iterable[str],
) -> None:
    """Add to `what` of rows that agree in these columns how their settings differ; or, where these
    agree as well, by which libraries their data were read.

    Args:
        firsts: a record of every row.
    """
    alike: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        alike.setdefault(str([row.get(name) for name in same]), []).append(i)
    for group in alike.values():
        if len(group) > 1:
            changes = [_changes(system, firsts[i]) for i in group]
            telling = _telling(changes)
            if not telling:
                changes = [firsts[i]["provenance"].get("versions", {}) for i in group]
                telling = [name for name in _telling(changes) if name in READERS]
            for i, of in zip(group, changes, strict=True):
                said = ", ".join(f"{key}={of[key]}" for key in telling if of.get(key) is not None)
                rows[i]["what"] += f" ({said})" if said else ""


def _telling(changes: Sequence[dict[str, Any]]) -> list[str]:
    """The keys in which they differ."""
    keys = dict.fromkeys(key for of in changes for key in of)
    return [key for key in keys if len({str(of.get(key)) for of in changes}) > 1]


def _changes(system: System, record: dict[str, Any]) -> dict[str, Any]:
    """The settings of a record that are not the defaults, but for its seed, as words."""
    found = identity(records.config_of(record, system.config))
    flat = {f"{group}.{key}": v for group, values in found.items() for key, v in values.items()}
    return {key: value for key, value in flat.items() if key != "train.seed"}
