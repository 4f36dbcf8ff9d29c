"""Progress that fits where it is shown: a bar in a terminal or in JupyterLab, plain lines elsewhere.

A bar's redraws would be stored one by one in a notebook that is executed headlessly, so there (the runner
sets TERMINATOR_HEADLESS) and in pipes only `say` is heard, one line per epoch.
"""

import os
import sys

from tqdm.auto import tqdm

HEADLESS_VARIABLE = "TERMINATOR_HEADLESS"


def shows_bars() -> bool:
    """Whether somebody can watch a bar: a terminal, or a notebook that a person runs."""
    if os.environ.get(HEADLESS_VARIABLE):
        return False
    return "ipykernel" in sys.modules or sys.stderr.isatty()


class _CellBar(tqdm):
    """The one bar of a notebook's cell: whatever runs in it takes the same place, one thing after another.

    JupyterLab hides all but the first fifty outputs of a cell, and every new bar would be one.
    """

    current: "_CellBar | None" = None
    cell: int | None = None  # the number of the cell that it is shown in
    busy = False

    @classmethod
    def take(cls, cell: int, total: int, description: str, unit: str) -> "_CellBar":
        """The cell's bar, from zero; a new one, if it is taken by something around this, or there is none yet."""
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


def bar(total: int, description: str, unit: str = "it", silent: bool = False) -> tqdm:
    """A tqdm bar, which disappears when done, or is the cell's only one; disabled where nobody can watch it."""
    if silent or not shows_bars():
        return tqdm(total=total, disable=True)
    if (cell := _cell()) is not None:
        return _CellBar.take(cell, total, description, unit)
    return tqdm(total=total, desc=description, unit=unit, leave=False)


def say(line: str) -> None:
    """Print a line at once, above a bar if there is one."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
