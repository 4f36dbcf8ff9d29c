"""Locks on folders that several processes, several machines or several people may share.

A lock is two things. `.lock` is locked by the operating system (filelock), which lets go of it
however its process ends, but on a shared file system may know this machine's processes only. So a
holder also leaves a file of its own, `.owner-TOKEN`: who it is, renewed every BEAT_S. Whoever wants
the folder leaves its file first and then looks for others: of two that come at once, at least one
sees the other and withdraws. A file whose owner is gone (a process of this machine that has ended,
or one of another machine that has been silent for SILENT_S, by the file system's own clock) is
removed by whoever comes next; nothing is left for a hand to clear.

In a shared folder anybody can put a link where a lock is expected: it is refused, and nothing is
opened through it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import random
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

NAME = ".lock"
OWNER = ".owner-"
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither
BEAT_S = 15.0  # between two signs of life
SILENT_S = 180.0  # without one: the owner is gone
LOOK_S = 0.2  # between two looks of who waits
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system without locks says so
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")  # of schedulers


_held: dict[Path, FolderLock] = {}  # by this process


class Busy(Exception):
    """Another process works in the same folder."""


class Unlockable(PermissionError):
    """What has a lock's name is no lock: a link, say."""


class FolderLock:
    """The lock of an existing folder: the operating system's, and an owner's file beside it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._system = FileLock(self.folder / NAME)
        self._mine: Path | None = None
        self._end = threading.Event()

    @property
    def is_locked(self) -> bool:
        """Whether this object holds the folder."""
        return self._mine is not None

    @property
    def is_lost(self) -> bool:
        """Whether others took this one for gone and removed its sign: the folder may be theirs."""
        return self._mine is not None and not self._mine.exists()

    def acquire(self, timeout: float = -1) -> None:
        """Take the folder, waiting so many seconds for others; below zero without end.

        Raises:
            Timeout: if others hold it for longer (filelock's).
            OSError: if nothing can be written there.
        """
        end = None if timeout < 0 else time.monotonic() + timeout
        try:
            self._system.acquire(timeout=timeout)
        except NotImplementedError:  # owners' files alone
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        try:
            while (mine := self._announced()) is None:
                if end is not None and time.monotonic() >= end:
                    raise Timeout(str(self.folder / NAME))
                time.sleep(LOOK_S * (0.5 + random.random()))
        except BaseException:
            self._system.release()
            raise
        self._mine, self._end = mine, threading.Event()
        _held[self.folder.absolute()] = self
        threading.Thread(target=_beat, args=(mine, self._end), name="lock", daemon=True).start()

    def _announced(self) -> Path | None:
        """This process's sign in the folder; None, and none there, if another owner lives."""
        mine = self.folder / f"{OWNER}{secrets.token_hex(8)}"
        fresh = mine.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o644)
        with open(handle, "w", encoding="utf8") as file:
            json.dump(_self(), file)
        os.replace(fresh, mine)  # whole, or not there
        try:
            os.utime(mine)
            now = mine.stat().st_mtime  # by the clock of the file system, as all others' signs
            alone = self._alone(mine, now)
        except BaseException:
            mine.unlink(missing_ok=True)
            raise
        if not alone:
            mine.unlink(missing_ok=True)
        return mine if alone else None

    def _alone(self, mine: Path, now: float) -> bool:
        """Whether no other owner lives; the signs of those who are gone are removed."""
        for path in _signs(self.folder):
            if path == mine:
                continue
            if _lives(path, now):
                return False
            with contextlib.suppress(OSError):  # names are used once: it is the one looked at
                path.unlink()
        return True

    def release(self) -> None:
        """Let go of the folder."""
        self._end.set()
        if self._mine is not None:
            _held.pop(self.folder.absolute(), None)
            self._mine.unlink(missing_ok=True)
            self._mine = None
        self._system.release()


def _beat(mine: Path, end: threading.Event) -> None:
    """Renew a sign until the end, or until it is not there any more."""
    while not end.wait(BEAT_S):
        try:
            os.utime(mine, follow_symlinks=False)
        except FileNotFoundError:
            return
        except (OSError, NotImplementedError):  # a server that is away for a while
            continue


def _signs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{OWNER}*"))


def _self() -> dict[str, Any]:
    """What an owner says of itself."""
    job = next((os.environ[name] for name in JOB_VARIABLES if name in os.environ), None)
    pid = os.getpid()
    return {
        "host": platform.node(),
        "pid": pid,
        "began": _began(pid),
        "space": _space(),
        "job": job,
    }


def _began(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where that cannot be known, and for one
    that has ended, but whose parent has not asked how: its number is not free yet.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf8", errors="replace")
    except OSError:
        return None
    state, *said = text.rpartition(")")[2].split()
    return None if state in "ZX" else said[18]


def _space() -> str | None:
    """Where process numbers mean the same: this start of this machine, this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _read(path: Path) -> tuple[dict[str, Any], float] | None:
    """What an owner's file says, and when it was renewed; None if it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | SAFELY)
    except FileNotFoundError:
        return None
    except OSError:  # a link, say: nobody's sign
        return {}, 0.0
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return {}, 0.0
        try:
            said = json.loads(file.read(2000))
        except ValueError:
            said = {}
    return said if isinstance(said, dict) else {}, found.st_mtime


def _lives(path: Path, now: float) -> bool:
    """Whether the owner who left a file is still at work."""
    if (found := _read(path)) is None:
        return False
    said, renewed = found
    here = said.get("host") == platform.node() and said.get("space") == _space()
    if here and isinstance(pid := said.get("pid"), int) and pid > 0:
        if said.get("began") is not None:
            return said["began"] == _began(pid)
        try:
            os.kill(pid, 0) if os.name == "posix" else None
        except ProcessLookupError:
            return False
        except OSError:
            return True
        if os.name == "posix":
            return True
    return now - renewed < SILENT_S


def holder(folder: Path) -> str | None:
    """Who holds a folder, "process 12 on node7 (job 34)"; None for nobody. Takes nothing."""
    for path in _signs(Path(folder)):
        if path.suffix != ".new" and _lives(path, time.time()) and (found := _read(path)):
            said = found[0]
            job = f" (job {said['job']})" if said.get("job") else ""
            return f"process {said.get('pid', '?')} on {said.get('host', '?')}{job}"
    return None


def check_held(folder: Path) -> None:
    """Raise Busy if this process held a folder, was silent for too long, and others may have it."""
    lock = _held.get(Path(folder).absolute())
    if lock is not None and lock.is_lost:
        raise Busy(
            f"this process was silent for more than {SILENT_S:.0f} s, and {folder} was taken over "
            f"by {holder(folder) or 'another'}; the same command goes on from what is there"
        )


def folder_lock(folder: Path) -> FolderLock:
    """The lock of an existing folder, `<folder>/.lock`, not yet acquired.

    Raises:
        Unlockable, naming the file, if a link or no ordinary file has the lock's name.
    """
    path = Path(folder) / NAME
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise _refusal(path)
    return FolderLock(Path(folder))


def _refusal(path: Path) -> Unlockable:
    return Unlockable(
        f"{path} is a link, or no ordinary file, and is not taken for the lock of its folder; "
        "remove it, or set TERMINATOR_RESULTS to another folder"
    )


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, where it can be locked.

    Raises:
        Busy: if another process holds it; Unlockable if there is something else in the lock's
            place.
    """
    lock, path = folder_lock(folder), Path(folder) / NAME
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(
            f"another run_all.py ({holder(folder) or 'process unknown'}) is at work in "
            f"{folder}; wait for it, or set TERMINATOR_RESULTS to another folder"
        ) from None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that came since it was looked at
            raise _refusal(path) from error
        if isinstance(error, PermissionError):
            raise Unlockable(
                f"{path} cannot be opened by this user ({error.strerror}); set TERMINATOR_RESULTS "
                "to another folder"
            ) from error
        print(f"note: {folder} cannot be locked ({error}); start no second run there", flush=True)
    try:
        yield
    finally:
        lock.release()
