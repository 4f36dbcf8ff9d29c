"""Trainings as forks of one process that has imported everything, so that each begins at once.

Importing takes longer than a small training. Every training is a process of its own all the same:
with its own log, environment, memory and end. The nursery itself computes nothing, since a process
whose threads are at work cannot be forked; on a GPU, and where there is no fork, trainings are
started one by one (jobs.Job.start).
"""

import contextlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from terminator.batch.jobs import Job, environment

LOOK_S = 0.05  # between two looks for children that have ended
LOST = -signal.SIGKILL  # what is taken for the status of a child that nobody could wait for


def is_possible() -> bool:
    """Whether processes can be forked here; elsewhere than on Linux, libraries do not bear it."""
    return sys.platform.startswith("linux")


class Child:
    """A forked training, with as much of subprocess.Popen as is needed."""

    def __init__(self, nursery: "Nursery", pid: int):
        self._nursery, self.pid = nursery, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, below zero the signal that ended it; None as long as it runs."""
        self._nursery.listen()
        if self.returncode is None and self._nursery.is_gone and not self._lives():
            self.returncode = LOST
        return self.returncode

    def _lives(self) -> bool:
        try:
            self.send_signal(0)
        except OSError:
            return False
        return True

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


class Nursery:
    """The process that is forked, as seen from the one that has jobs.

    Args:
        variables: of its environment and that of all children, beside what is set here.

    If the process that has jobs ends, the nursery does; its children go on.
    """

    def __init__(self, variables: Mapping[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "terminator.batch.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(variables),
            start_new_session=True,
        )
        self._heard = b""
        self._children: dict[int, Child] = {}  # that run
        self._born: Child | None = None  # the last one, until it is handed out
        self.is_gone = False

    def start(self, job: Job) -> Child | None:
        """A child at a job; None if the nursery is gone."""
        assert self._process.stdin is not None
        job.log.parent.mkdir(parents=True, exist_ok=True)
        words = json.dumps({"arguments": job.arguments, "log": str(job.log.absolute())})
        try:
            self._process.stdin.write(words.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            self.is_gone = True
        while self._born is None and not self.is_gone:
            self.listen(None)
        born, self._born = self._born, None
        return born

    def listen(self, seconds: float | None = 0) -> None:
        """Take in what the nursery has to say, waiting so long for it; None: until it says
        something.
        """
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        while not self.is_gone and select.select([handle], [], [], seconds)[0]:
            self._heard += (new := os.read(handle, 65536))
            self.is_gone = not new
            *lines, self._heard = self._heard.split(b"\n")
            for pid, status in map(json.loads, lines):
                if status is None:
                    self._born = self._children[pid] = Child(self, pid)
                else:
                    self._children.pop(pid).returncode = status
            seconds = 0

    def close(self) -> None:
        """Let it end; children that still run go on."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close() if stream else None
        self._process.wait()
        self.is_gone = True


# -- in the nursery ------------------------------------------------------------------------------


def _prepare() -> None:
    """Import what trainings need."""
    import torch._dynamo  # noqa: F401  torch's optimisers load it with their first step

    import terminator.batch.lines  # noqa: F401  all commands that train
    import terminator.batch.plan  # noqa: F401  the systems
    import terminator.plots.run_curves  # noqa: F401


def _train(arguments: list[str], log: str) -> NoReturn:
    """In a forked process: be `python -m terminator` with these arguments, and end."""
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for handle, number in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (out, 2)):
        os.dup2(handle, number)
    sys.argv = ["terminator", *arguments]
    status: Any = 1
    try:
        runpy.run_module("terminator", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def main() -> None:
    """Fork at every line of standard input; tell [process, None] of those that begin and
    [process, exit status] of those that have ended.
    """
    _prepare()
    waiting, children = b"", set()
    while True:
        if select.select([0], [], [], LOOK_S)[0]:
            waiting += (new := os.read(0, 65536))
            if not new:
                return
        *lines, waiting = waiting.split(b"\n")
        for line in lines:
            if (pid := os.fork()) == 0:
                _train(**json.loads(line))
            children.add(pid)
            print(json.dumps([pid, None]), flush=True)
        for pid in sorted(children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                children.remove(pid)
                print(json.dumps([pid, os.waitstatus_to_exitcode(status)]), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        main()
