"""What is seen of the work: a live table on a terminal, a line per change elsewhere."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable

from terminator.batch import states
from terminator.batch.plan import Run
from terminator.batch.work import Work
from terminator.runtime.progress import duration, shows_bars
from terminator.runtime.text import terminal

MEASURES = ("test_accuracy", "val_accuracy", "val_miou", "frechet", "train_accuracy")


def reached(run: Run) -> str:
    """The last epoch's telling number, "" before the first."""
    row = run.state.rows[-1] if run.state.rows else {}
    names = [name for name in MEASURES if name in row]
    names += [name for name in row if name.endswith("_miou")]
    return f"{names[0].removeprefix('test_')} {row[names[0]]:.2f}" if names else ""


def time_left(run: Run) -> str:
    """By the epochs so far, "" before the first."""
    seconds = [row["seconds"] for row in run.state.rows if "seconds" in row]
    if not seconds or run.state.name != states.UNFINISHED:
        return ""
    return f"{duration(sum(seconds) / len(seconds) * (run.epochs - len(seconds)))} left"


def line(run: Run, doing: str) -> list[str]:
    """What it is doing, epoch, what it has reached, time left, which it is."""
    epoch = f"{run.state.epochs}/{run.epochs}"
    return [doing, epoch, reached(run), time_left(run), run.key]


class Table:
    """Called at every look at the work."""

    def __init__(self) -> None:
        self.is_live = shows_bars() and sys.stdout.isatty()
        self._shown = 0  # lines of the table on the terminal
        self._said: dict[str, list[str]] = {}

    def __call__(self, work: Work) -> None:
        """Show what has changed."""
        runs = work.plan.runs.values()
        if self.is_live:
            self._draw([run for run in runs if work.doing(run) == "running"], work)
            return
        first = not self._said
        for run in runs:
            parts = line(run, work.doing(run))
            if self._said.get(run.key, [])[:2] != parts[:2]:
                if not first and (run.key in self._said or parts[0] != states.MISSING):
                    print(terminal("  ".join(part for part in parts if part)), flush=True)
                self._said[run.key] = parts

    def _draw(self, running: Iterable[Run], work: Work) -> None:
        count = Counter(work.doing(run).split(" ")[0] for run in work.plan.runs.values())
        head = ", ".join(f"{number} {what}" for what, number in count.most_common())
        rows = [line(run, "running") for run in running]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(5)]
        lines = [head, *("  ".join(p.ljust(w) for p, w in zip(row, widths)) for row in rows)]
        size = shutil.get_terminal_size()
        lines = [terminal(one)[: size.columns - 1] for one in lines[: size.lines - 2]]
        up = f"\x1b[{self._shown}F\x1b[J" if self._shown else ""
        sys.stdout.write(up + "\n".join(lines) + "\n")
        sys.stdout.flush()
        self._shown = len(lines)
