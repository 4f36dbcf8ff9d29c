"""Whether a name is a path; and what lies at one, in words for errors: who asks for a file and gets
a folder is told so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from terminator.runtime.paths import DATA_VARIABLE, expanded

_KINDS = (
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def is_path(name: str) -> bool:
    """Whether a name says where to look, rather than what to look for in the data folders."""
    bare = name.rstrip("/")
    return bare in (".", "..") or bare != Path(bare).name or expanded(name).is_absolute()


def kind_of(path: Path) -> str:
    """What is there: "a file", "a folder", "a pipe", "a link that leads nowhere", ...; "" for
    nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            return "a link that leads nowhere"
        return "not to be looked at (no permission)" if isinstance(error, PermissionError) else ""
    return next((word for is_one, word in _KINDS if is_one(mode)), "a device")


def tried(places: Iterable[Path]) -> str:
    """The data folders that were looked through, with what is wrong with one that is none."""
    return ", ".join(map(_place, places)) or f"no data folder given (--data-dir, {DATA_VARIABLE})"


def _place(place: Path) -> str:
    kind = kind_of(place)
    if kind != "a folder":
        return f"{place} ({f'is {kind}, no folder' if kind else 'no such folder'})"
    if not os.access(place, os.R_OK | os.X_OK):
        return f"{place} (no permission to read it: chmod u+rx)"
    return str(place)
