"""What a headless run of the notebooks needs around it: a lock on the results, progress, an
environment.

Standard library, and tqdm where there is a terminal.
Used by: run_all.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import shutil
import sys
import time

KERNEL = "terminator-run-all"
SECONDS_BETWEEN_LINES = 30  # per notebook, where there is no terminal


class Busy(Exception):
    """Another process works in the same results folder."""


@contextlib.contextmanager
def locked(results):
    """Hold the results folder for this process.

    The lock belongs to the operating system, which lets go of it however the process ends: the file
    of a dead process is simply taken over. It is never removed, else two processes could hold two
    files of one name.

    Args:
        results: an existing folder.

    Raises:
        Busy: if another process holds it.
    """
    with open(results / ".lock", "a+", encoding="utf-8") as handle:
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            handle.seek(0)
            holder = handle.read().strip() or "process unknown"
            raise Busy(
                f"another run_all.py ({holder}) is at work in {results}; wait for it, or set "
                "TERMINATOR_RESULTS to another folder"
            ) from None
        except OSError as error:  # some network file systems have no locks
            print(
                f"note: {results} cannot be locked ({error}); start no second run there", flush=True
            )
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()} on {platform.node()}\n")
        handle.flush()
        try:
            yield
        finally:
            handle.seek(0)
            handle.truncate()


def _lock(handle):
    try:
        import fcntl
    except ImportError:  # Windows; a byte far behind the text, which stays readable
        import msvcrt

        handle.seek(1 << 20)
        msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def kernel_environment(scratch, jobs, results, data):
    """The environment of the kernels: this very Python, a share of the cores, absolute folders.

    Args:
        scratch: a temporary folder; jobs: notebooks at a time; results: the results folder; data:
            data folders joined as in PATH, or "".

    Returns:
        {variable: value}, which holds the kernel KERNEL under JUPYTER_PATH.
    """
    # A kernelspec of our own: one called python3 may be installed for some other environment.
    spec = scratch / "jupyter" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": KERNEL, "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    places = [str(scratch / "jupyter"), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    threads = str(_cores_each(jobs))
    environment = {
        **os.environ,
        "JUPYTER_PATH": os.pathsep.join(places),
        "TERMINATOR_RESULTS": str(results),
        "TERMINATOR_HEADLESS": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else each kernel warns about frozen modules
    }
    environment.pop(
        "MPLBACKEND", None
    )  # a server's Agg would keep the figures out of the notebooks
    for name, value in (
        ("TERMINATOR_DATA", data),
        ("TERMINATOR_CACHE", os.environ.get("TERMINATOR_CACHE")),
    ):
        if value:  # kernels run in another folder than the caller's
            folders = (
                os.path.abspath(os.path.expanduser(folder)) for folder in value.split(os.pathsep)
            )
            environment[name] = os.pathsep.join(folders)
    return environment


def _cores_each(jobs):
    """Threads for each of `jobs` kernels: the usable cores, or OMP_NUM_THREADS if less, shared
    out.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    asked = os.environ.get("OMP_NUM_THREADS", "")
    total = min(int(asked), cores) if asked.isdigit() else cores
    return max(1, total // jobs)


def post_mortem(log, code):
    """What is known of a process that ended without a word: its exit status and the end of its
    log.
    """
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    killed = " (killed; often that means that memory ran out)" if code == -9 else ""
    return f"its process ended with status {code}{killed}\n{text[-2000:]}".rstrip()


class Progress:
    """An overall bar and one per running notebook in a terminal; plain lines elsewhere."""

    def __init__(self, total):
        self.total, self.count, self.bars, self.spoken = total, 0, {}, {}
        self.overall = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.tqdm = tqdm
            columns, rows = (
                shutil.get_terminal_size()
            )  # tqdm shows nothing where a terminal does not know its size
            self.bar = functools.partial(tqdm, ncols=min(columns, 100), nrows=rows)
            self.overall = self.bar(total=total, unit="notebook", desc="all notebooks", position=0)

    def say(self, text):
        if self.overall is None:
            print(text, flush=True)
        else:
            self.tqdm.write(text)

    def start(self, name):
        self.spoken[name] = time.monotonic()
        if self.overall is None:
            self.say(f"{name}: started")
            return
        used = {position for position, _ in self.bars.values()}
        position = next(number for number in range(1, self.total + 2) if number not in used)
        self.bars[name] = position, self.bar(unit="cell", desc=name, position=position, leave=False)

    def cell(self, name, index, total):
        """Cell number `index` (from 0) of `total` begins."""
        if self.overall is not None:
            bar = self.bars[name][1]
            bar.total, bar.n = total, index
            bar.refresh()
        elif time.monotonic() - self.spoken[name] > SECONDS_BETWEEN_LINES:
            self.spoken[name] = time.monotonic()
            self.say(f"{name}: cell {index + 1} of {total}")

    def tick(self):
        """Let the clocks of the bars go on during a long cell."""
        if self.overall is not None:
            for bar in (self.overall, *(bar for _, bar in self.bars.values())):
                bar.refresh()

    def end(self, name, text):
        self.count += 1
        if name in self.bars:
            self.bars.pop(name)[1].close()
        self.say(f"[{self.count}/{self.total}] {name}: {text}")
        if self.overall is not None:
            self.overall.update(1)

    def close(self):
        for _, bar in self.bars.values():
            bar.close()
        if self.overall is not None:
            self.overall.close()
