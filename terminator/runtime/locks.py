"""Locks on folders that several processes, or several people, may share; made by filelock.

A lock belongs to the operating system, which lets go of it however its process ends. In a shared
folder anybody can put a link where the lock is expected: it is refused, and nothing is opened
through it.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

NAME = ".lock"
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither
OURS = "process "  # how a holder's note begins


class Busy(Exception):
    """Another process works in the same folder."""


class Unlockable(PermissionError):
    """What has a lock's name is no lock: a link, say."""


def folder_lock(folder: Path) -> BaseFileLock:
    """The lock of an existing folder, `<folder>/.lock`, not yet acquired.

    Raises:
        Unlockable, naming the file, if a link or no ordinary file has the lock's name.
    """
    path = Path(folder) / NAME
    try:
        found = path.lstat()
    except FileNotFoundError:
        return FileLock(path)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise _refusal(path)
    return FileLock(path)


def _refusal(path: Path) -> Unlockable:
    return Unlockable(
        f"{path} is a link, or no ordinary file, and is not taken for the lock of its folder; "
        "remove it, or set TERMINATOR_RESULTS to another folder"
    )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, and say in the lock who holds it.

    Raises:
        Busy: if another process holds it; Unlockable if there is something else in the lock's
            place.
    """
    lock, path = folder_lock(folder), Path(folder) / NAME
    holder = _note(path)  # first: older versions of filelock empty the file whenever they open it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(
            f"another run_all.py ({_note(path) or holder or 'process unknown'}) is at work in "
            f"{folder}; wait for it, or set TERMINATOR_RESULTS to another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:  # a link that came since it was looked at
            raise _refusal(path) from error
        if isinstance(error, PermissionError):
            raise Unlockable(
                f"{path} cannot be opened by this user ({error.strerror}); set TERMINATOR_RESULTS "
                "to another folder"
            ) from error
        print(f"note: {folder} cannot be locked ({error}); start no second run there", flush=True)
    try:
        _note(path, f"{OURS}{os.getpid()} on {platform.node()}\n")
        yield
    finally:
        if lock.is_locked:
            _note(path, "")
            lock.release()


def _note(path: Path, new: str | None = None) -> str:
    """The holder's note in a lock that is there, "" for none; with `new`, that is written in its
    place.

    It is for people, so a failure is none. What else a lock may hold (filelock's own marks) is left
    alone.
    """
    try:
        handle = os.open(path, (os.O_RDONLY if new is None else os.O_RDWR) | SAFELY)
    except OSError:  # none yet; Windows keeps others from what is locked
        return ""
    with open(handle, "rb" if new is None else "rb+", buffering=0) as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return ""
        text = (file.read(200) or b"").decode("utf-8", "replace")
        if new is not None and (not text or text.startswith(OURS)):
            file.seek(0)
            file.truncate()
            file.write(new.encode())
        return text.strip() if text.startswith(OURS) else ""
