"""Errors whose message says it all: one line wherever they are shown, in a notebook as on the
command line.
"""

from terminator.runtime.text import terminal


class OneLine:
    """Mixed into an exception of the user's making: IPython shows its message, and no traceback."""

    def _render_traceback_(self) -> list[str]:
        """The lines that IPython shows in the traceback's place."""
        return [terminal(f"error: {self}")]
