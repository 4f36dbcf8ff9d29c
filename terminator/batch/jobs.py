"""A job: one run as a process, with a log of its own, wherever it is started."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import terminator
from terminator.runtime.paths import results_dir
from terminator.runtime.progress import HEADLESS_VARIABLE
from terminator.runtime.provenance import now

LAST_BYTES = 4000  # of a log, in which the reason of a failure is looked for
STARTED = "-- started"  # begins the line before what a start says
PATIENCE_S = 10.0  # between asking a process to end and ending it


@dataclass(frozen=True)
class Job:
    """What trains a run.

    Attributes:
        key: experiment/run.
        arguments: what follows `python -m terminator`.
        processes: of one training; more than one are started by torchrun.
    """

    key: str
    arguments: tuple[str, ...]
    processes: int = 1

    @property
    def log(self) -> Path:
        """Where its output goes, after that of earlier attempts."""
        return logs() / f"{self.key}.log"

    def argv(self) -> list[str]:
        """The program and its arguments."""
        if self.processes == 1:
            return [sys.executable, "-m", "terminator", *self.arguments]
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        count = ["--nproc_per_node", str(self.processes)]
        program = [sys.executable, *torchrun, *count, "-m", "terminator"]
        return [*program, *self.arguments, "train.distributed=True"]

    def start(self, variables: Mapping[str, str], own_group: bool = True) -> subprocess.Popen:
        """The process; in a group of its own a Ctrl-C is not for it.

        Args:
            variables: of its environment, beside those that are set here.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            log.write(f"{STARTED} {now()}\n".encode())
            log.flush()
            return subprocess.Popen(
                self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(variables),
                start_new_session=own_group,
            )

    def last_line(self) -> str:
        """The last line of its log that says something since its last start, as the reason of a
        failure.
        """
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, self.log.stat().st_size - LAST_BYTES))
                lines = file.read().decode("utf8", "replace").splitlines()
        except OSError:
            return ""
        starts = [number for number, line in enumerate(lines) if line.startswith(STARTED)]
        lines = lines[starts[-1] + 1 :] if starts else lines
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if line.startswith("error:")]
        return (errors or said or [""])[-1]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """That of a process which trains: this one's, in which this very package is found."""
    places = [str(Path(terminator.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, places))
    return {**os.environ, HEADLESS_VARIABLE: "1", "PYTHONPATH": path, **variables}


def logs() -> Path:
    """The folder of all logs."""
    return results_dir() / "logs"


class Process(Protocol):
    """What runs a job: a subprocess.Popen, or the like."""

    @property
    def pid(self) -> int:
        """Its number, and that of its group."""

    def poll(self) -> int | None:
        """Its exit status, below zero the signal that ended it; None as long as it runs."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""


def end(processes: Sequence[Process]) -> None:
    """End processes and what they have started: asked first, then made to."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            if process.poll() is None:
                with_group(process, how)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and any(p.poll() is None for p in processes):
            time.sleep(0.05)


def with_group(process: Process, number: int) -> None:
    """Send a signal to a process and to all that it has started."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


class Engine(Protocol):
    """Where jobs run."""

    name: str
    poll_s: float  # between two looks

    def free(self) -> int:
        """How many more jobs may be started now."""

    def running(self) -> set[str]:
        """Keys of the jobs that are started, or wait for a place, and have not ended."""

    def start(self, jobs: list[Job]) -> None:
        """Start jobs."""

    def ended(self) -> dict[str, int | None]:
        """{key: exit status} of jobs that ended since the last look; None where nobody knows."""

    def cancel(self) -> None:
        """End all jobs that run."""
