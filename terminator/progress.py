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


def bar(total: int, description: str, unit: str = "it", silent: bool = False) -> tqdm:
    """A tqdm bar that disappears when done; disabled where nobody can watch it."""
    return tqdm(total=total, desc=description, unit=unit, leave=False, disable=silent or not shows_bars())


def say(line: str) -> None:
    """Print a line at once, above a bar if there is one."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
