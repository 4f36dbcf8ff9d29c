"""The work: runs of a plan in parallel, in order, until there is no more to be had of any."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from terminator.batch import states
from terminator.batch.jobs import Engine, Job
from terminator.batch.lines import arguments
from terminator.batch.plan import Plan, Planner, Run
from terminator.runs.command_line import ELSEWHERE

ELSEWHERE_S = 1.0  # between two looks where all that is left is made by others


@dataclass
class Attempts:
    """How often a run was started without coming further."""

    count: int = 0
    reached: tuple[int, float] = (-1, 0.0)  # epochs, and when the checkpoint was written

    def again(self, run: Run) -> int:
        """Another start: which one it is since the last progress."""
        reached = _reached(run)
        self.count = self.count + 1 if reached == self.reached else 1
        self.reached = reached
        return self.count


def _reached(run: Run) -> tuple[int, float]:
    path = run.folder / "checkpoint.pt" if run.folder else None
    try:
        return run.state.epochs, path.stat().st_mtime if path else 0.0
    except OSError:
        return run.state.epochs, 0.0


@dataclass
class Work:
    """Keeps an engine busy with the runs of a plan.

    Attributes:
        planner: makes the plan, and makes it anew as learning rates are decided.
        engine: where jobs run.
        tell: called with all runs, and what each of them is doing, at every look.
        stop: asked at every look whether to end.
        tries: starts of a run that does not come further, before it counts as failed.
        processes: of one training.
    """

    planner: Planner
    engine: Engine
    tell: Callable[["Work"], None]
    stop: Callable[[], bool] = lambda: False
    tries: int = 5
    processes: int = 1
    plan: Plan = field(init=False)
    failed: dict[str, str] = field(default_factory=dict)  # key: why
    elsewhere: dict[str, str] = field(default_factory=dict)  # key: who trains it
    attempts: dict[str, Attempts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = self.planner.plan()

    def run(self) -> bool:
        """Work to the end; False if it was stopped before."""
        while not self.stop():
            self._take_in()
            self._hand_out()
            self.tell(self)
            if not self.engine.running() and not self.elsewhere and not self._ready():
                if not self._replanned():
                    return True
                continue
            time.sleep(self.engine.poll_s)
        return False

    def job(self, run: Run) -> Job:
        """What trains a run."""
        words = arguments(run.wanted, self.planner.data_dir)
        return Job(run.key, tuple(words), self.processes)

    def doing(self, run: Run) -> str:
        """What a reader is told of a run's state."""
        if run.key in self.engine.running():
            return "running"
        if run.key in self.elsewhere:
            return f"by {self.elsewhere[run.key]}"
        return "failed" if run.key in self.failed else run.state.name

    # -- what ended, what begins

    def _take_in(self) -> None:
        """Look at what runs, and at what has ended."""
        diverged = False
        ended = self.engine.ended()
        for key in (*self.engine.running(), *ended, *self.elsewhere):
            if key in self.plan.runs:
                self.plan.runs[key] = self.plan.runs[key].look()
        for key, status in ended.items():
            if (run := self.plan.runs.get(key)) is None:
                continue
            diverged |= run.state.name == states.DIVERGED
            if run.is_settled or status == ELSEWHERE:
                continue
            if status in (1, 2):  # an error, which would come again
                reason = self.job(run).last_line() or f"exit status {status}"
                self.failed[key] = reason
        if diverged:
            self._replanned()

    def _hand_out(self) -> None:
        """Start what can be started, and what others do not make already."""
        free = self.engine.free()
        chosen: list[Run] = []
        self.elsewhere = {}
        for run in self._ready():
            if len(chosen) >= free:
                break
            assert run.folder is not None
            if who := states.trained_by(run.folder):
                self.elsewhere[run.key] = who
                continue
            fresh = self.plan.runs[run.key] = run.look()
            if not fresh.is_settled and self._may_start(fresh):
                chosen.append(fresh)
        if chosen:
            self.engine.start([self.job(run) for run in chosen])
        elif self.elsewhere:
            time.sleep(ELSEWHERE_S)

    def _may_start(self, run: Run) -> bool:
        if self.attempts.setdefault(run.key, Attempts()).again(run) > self.tries:
            self.failed[run.key] = f"ended {self.tries} times without coming further"
            return False
        return True

    def _ready(self) -> list[Run]:
        """Runs that are to be made, that nothing here makes yet, and before which none comes that
        is not settled.
        """
        running = self.engine.running()
        return [
            run
            for run in self.plan.runs.values()
            if not run.is_settled
            and run.folder is not None
            and run.key not in running
            and run.key not in self.failed
            and all(self.plan.runs[key].is_settled for key in run.after)
        ]

    def has_hope(self, run: Run) -> bool:
        """Whether a run that is not settled may still be."""
        if run.is_settled or run.folder is None or run.key in self.failed:
            return False
        before = (self.plan.runs[key] for key in run.after)
        return all(other.is_settled or self.has_hope(other) for other in before)

    def _replanned(self) -> bool:
        """Make the plan anew, if there may be more in it; whether there is."""
        before = set(self.plan.runs)
        decided = any(
            all(self.plan.runs[key].is_settled for key in one.after) for one in self.plan.undecided
        )
        diverged = self.plan.count(states.DIVERGED)
        if decided or diverged:
            self.plan = self.planner.plan()
        return bool(set(self.plan.runs) - before)

    # -- what it came to

    def left(self) -> dict[str, str]:
        """{key: why} of what is not there in the end."""
        found = dict(self.failed)
        for key, run in self.plan.runs.items():
            if run.is_settled or key in found:
                continue
            missing = [other for other in run.after if not self.plan.runs[other].is_settled]
            if run.folder is None:
                found[key] = "its data are not on this machine"
            elif missing:
                found[key] = f"comes after {missing[0]}, which is not done"
            else:
                found[key] = "not done"
        for one in self.plan.undecided:
            name = f"{one.experiment}: {one.label}"
            found[name] = "its learning rate is not decided, since its sweep is not done"
        return found
