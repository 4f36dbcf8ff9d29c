"""The runs that notebooks wait for, made beside the notebooks and on the same places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from terminator.batch import local

if TYPE_CHECKING:
    from terminator.batch.plan import Run
    from terminator.batch.work import Work

FEW = 2  # runs that a notebook had rather make itself
END_S = 20.0  # for a plan that is being made, once all is to end


class Beside:
    """Work in a thread of its own, which also makes the plan: that takes seconds.

    Args:
        names: of the notebooks; those that no plan knows wait for nothing.
        profile, seeds, device: as of batch.plan.Planner.
        jobs: places for runs and notebooks together.
        taken: says how many of them notebooks are in, or wait for.
        tell: called with {"lines": what has come to an end, "done": runs, "total": runs,
            "running": {run: (epochs done, epochs, what is reached)}} whenever that changes.

    Attributes:
        outcome: what there is to say in the end of runs that are not there.
    """

    def __init__(
        self,
        names: Sequence[str],
        profile: str,
        seeds: Sequence[int],
        device: str,
        jobs: int,
        taken: Callable[[], int],
        tell: Callable[[dict[str, Any]], None],
    ):
        self.names, self.outcome = list(names), list[str]()
        self._asked = (profile, seeds, device)
        self._engine = local.Local(jobs, wanted=taken)
        self._tell, self._told = tell, dict[str, Any]()
        self._work: Work | None = None
        self._alone: dict[str, str] = {}  # {run: the notebook that makes it}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="runs", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether there is no more to come."""
        return not self._thread.is_alive()

    def places(self) -> int:
        """How many places runs are in."""
        return len(self._engine.running())

    def holds(self, name: str) -> bool:
        """Whether a notebook is to wait for its runs.

        One that needs few of them makes them itself, if nobody does yet: it has things to show, or
        to measure, before.
        """
        if self.is_over:
            return False
        if (work := self._work) is None:
            return name in self.names
        if any(name in one.notebooks for one in work.plan.undecided):
            return True
        mine = [run for run in work.plan.runs.values() if name in run.notebooks]
        left = [run.key for run in mine if work.has_hope(run)]
        if not left or len(mine) > FEW or work.engine.running() & set(left):
            return bool(left)
        return any(self._alone.setdefault(key, name) != name for key in left)

    def stop(self) -> None:
        """End what runs."""
        self._end.set()
        self._thread.join(END_S)
        self._engine.cancel()

    # -- in the thread

    def _run(self) -> None:
        try:
            self._make()
        except Exception as error:  # the notebooks train by themselves, or say what is wrong
            self.outcome = [f"no runs are made beside the notebooks: {error}"]
        finally:
            self._engine.cancel()

    def _make(self) -> None:
        import torch

        from terminator.batch.plan import Planner, notebooks_of
        from terminator.batch.report import outcome
        from terminator.batch.work import Work

        torch.set_num_threads(1)
        profile, seeds, device = self._asked
        names = [name for name in self.names if name in notebooks_of(profile)]
        if not names or self._end.is_set():
            return
        if device != "cpu":
            self._engine.gpus = local.visible_gpus()
        planner = Planner(profile, names, seeds, device, download=True)
        self._work = Work(planner, self._engine, self._look, self._end.is_set)
        if self._work.run():
            self.outcome = outcome(self._work)[1:]

    def _look(self, work: Work) -> None:
        """Tell what has changed."""
        from terminator.batch.table import line

        runs, before = work.plan.runs, self._told
        doing = {key: work.doing(run) for key, run in runs.items()}
        ended = [
            key
            for key, was in before.get("doing", {}).items()
            if was == "running" and doing.get(key, was) != was
        ]
        told: dict[str, Any] = {
            "doing": doing,
            "lines": ["  ".join(filter(None, line(runs[key], doing[key]))) for key in ended],
            "done": sum(run.is_settled for run in runs.values()),
            "total": len(runs),
            "running": {key: _reached(runs[key]) for key in doing if doing[key] == "running"},
        }
        if told != {**before, "lines": []}:
            self._told = told
            self._tell(told)


def _reached(run: Run) -> tuple[int, int, str]:
    from terminator.batch.table import reached

    return run.state.epochs, run.epochs, reached(run)
