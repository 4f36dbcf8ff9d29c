"""Progress that fits where it is shown: a bar in a terminal or in JupyterLab, plain lines
elsewhere.

A bar's redraws would be stored one by one in a notebook that is executed headlessly, so there (the
runner sets TERMINATOR_HEADLESS) and in pipes only `say` is heard, one line per epoch.
"""

import os
import sys
import time

from tqdm.auto import tqdm

from terminator.runtime.text import terminal

HEADLESS_VARIABLE = "TERMINATOR_HEADLESS"


def shows_bars() -> bool:
    """Whether somebody can watch a bar: a terminal, or a notebook that a person runs."""
    if os.environ.get(HEADLESS_VARIABLE):
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()


class _CellBar(tqdm):
    """The one bar of a notebook's cell: whatever runs in it takes the same place, one thing after
    another.

    JupyterLab hides all but the first fifty outputs of a cell, and every new bar would be one.
    """

    current: "_CellBar | None" = None
    cell: int | None = None  # the number of the cell that it is shown in
    busy = False

    @classmethod
    def take(cls, cell: int, total: int, description: str, unit: str) -> "_CellBar":
        """The cell's bar, from zero; a new one, if it is taken by something around this, or there
        is none yet.
        """
        found = cls.current
        if found is None or found.cell != cell or found.busy:
            nested = found is not None and found.cell == cell
            found = cls(total=total, desc=description, unit=unit, leave=not nested)
            found.cell = cell
            if not nested:
                cls.current = found
        else:
            found.unit = unit
            found.set_description(description, refresh=False)
            found.set_postfix(refresh=False)
            found.reset(total)
        found.busy = True
        return found

    def __exit__(self, *error: object) -> None:
        self.busy = False
        if self is _CellBar.current:
            self.refresh()
        else:
            self.close()


def _cell() -> int | None:
    """The number of the notebook cell that runs, or None elsewhere."""
    if "ipykernel" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return None if shell is None else shell.execution_count


def in_notebook() -> bool:
    """Whether this runs in a notebook's cell (a kernel that is only installed does not count)."""
    return _cell() is not None


class _Lines(tqdm):
    """A bar that nobody can watch: a line a minute instead."""

    LINE_S = 60.0

    def __init__(self, total: int, description: str, unit: str):
        super().__init__(total=total, disable=True)
        self.what, self.of = description, f"{total:,} {unit}s"
        self.count, self.last = 0, time.monotonic()

    def update(self, n: float | None = 1) -> bool | None:
        self.count += int(n or 0)
        if time.monotonic() - self.last >= self.LINE_S:
            self.last = time.monotonic()
            line = terminal(f"{self.what}: {self.count:,} of {self.of}")
            print(line, file=sys.stderr, flush=True)  # standard output may be somebody's JSON
        return None


def bar(
    total: int, description: str, unit: str = "it", silent: bool = False, lines: bool = False
) -> tqdm:
    """A tqdm bar, which disappears when done, or is the cell's only one; disabled where nobody can
    watch it.

    Args:
        lines: where it is disabled, a line a minute says how far it is.
    """
    if silent or not shows_bars():
        quiet = not lines or silent or os.environ.get("RANK", "0") != "0"
        return tqdm(total=total, disable=True) if quiet else _Lines(total, description, unit)
    if (cell := _cell()) is not None:
        return _CellBar.take(cell, total, description, unit)
    return tqdm(total=total, desc=description, unit=unit, leave=False)


def say(line: str) -> None:
    """Print a line at once, above a bar if there is one."""
    tqdm.write(terminal(line), file=sys.stdout)
    sys.stdout.flush()


_said: set[str] = set()


def say_once(line: str) -> None:
    """The same for what many calls would say alike: a process says it once."""
    if line not in _said:
        _said.add(line)
        say(line)


def duration(seconds: float) -> str:
    """A time in the two units that matter: "40 s", "12 min", "3 h 20 min", "2 d 5 h"."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return (
        f"{minutes // 60} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"
    )


class Pace:
    """Lines for a long training that nobody can watch a bar of: what is to come, then how far it
    is.

    The first once its speed is known, the others every minute or tenth of an epoch, whichever is
    longer. Trainings of less than a minute are as quiet as ever.

    Args:
        steps: that are to do.
        size: examples per step.
        unit: what they are, e.g. "images".
    """

    MEASURED_S, LINE_S = 5.0, 60.0  # seconds until the speed counts as known; between two lines

    def __init__(self, steps: int, size: int, unit: str):
        self.steps, self.size, self.unit = steps, size, unit
        self.done, self.silent, self.announced = 0, shows_bars(), False
        self.started = self.last = time.monotonic()
        self.last_step = 0

    def step(self) -> None:
        """Count a step."""
        self.done += 1

    def tell(self, epoch: int, epochs: int, step: int, steps: int, loss: float) -> None:
        """Say how far it is, where a line is due: after a step (from 0) of an epoch (from 0) with
        so many steps; `loss` is its mean so far.
        """
        now = time.monotonic()
        if self.silent or now - self.started < self.MEASURED_S:
            return
        speed = self.done / (now - self.started)  # steps per second, tests between epochs included
        left = (self.steps - self.done) / speed
        if not self.announced:
            self.announced, self.last, self.last_step = True, now, self.done
            if left > self.LINE_S:
                say(
                    f"{self.steps:,} steps of {self.size} {self.unit} to go, about "
                    f"{duration(left)} at {speed * self.size:.0f} {self.unit}/s"
                )
        elif now - self.last >= self.LINE_S and self.done - self.last_step >= steps / 10:
            self.last, self.last_step = now, self.done
            say(
                f"epoch {epoch + 1}/{epochs}  step {step + 1}/{steps}  loss {loss:.4f}  "
                f"{speed * self.size:.0f} {self.unit}/s  {duration((steps - step - 1) / speed)} "
                f"left in it, {duration(left)} in all"
            )
