"""Sentences that read a figure, and long tables cut to what a screen holds.

A sentence takes its words from the numbers as it shows them: what is rounded to the same text is
said to be the same, so that no sentence contradicts the output beside it.
"""

import re
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from terminator.runs.records import write_csv
from terminator.runtime.paths import results_dir
from terminator.runtime.text import html, markdown

ROWS = 40  # of a table, that a reader looks through


class Said(str):
    """Text that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


def say(*sentences: str) -> Said:
    """Sentences as one paragraph of Markdown; empty ones are left out."""
    return Said(" ".join(sentence for sentence in sentences if sentence))


def moved(before: float, after: float, form: str = "{:.2f}") -> str:
    """ "rises from 0.10 to 0.30", "falls from ...", "stays at 0.10", as the shown text says."""
    one, other = _written(before, form), _written(after, form)
    if one == other:
        return f"stays at {one}"
    return f"{'rises' if after > before else 'falls'} from {one} to {other}"


def compared(
    a: float,
    b: float,
    form: str = "{:.2f}",
    words: tuple[str, str, str] = ("above", "below", "the same as"),
) -> str:
    """ "0.30, above 0.10", by the text that is shown.

    Args:
        a, b: the numbers.
        form: how they are shown.
        words: for a larger a, for a smaller one, and for the same text.
    """
    one, other = _written(a, form), _written(b, form)
    word = words[2] if one == other else words[0] if a > b else words[1]
    return f"{one}, {word} {other}"


def extremes(values: Mapping[Any, float] | pd.Series, form: str = "{:.2f}") -> str:
    """ "largest for block 3 (0.72), smallest for block 1 (0.35)"; one value for all is said so.

    Raises:
        ValueError: if there is no number.
    """
    known = {name: value for name, value in dict(values).items() if value == value}
    if not known:
        raise ValueError("extremes needs a number; all are missing")
    high, low = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    top, bottom = _written(known[high], form), _written(known[low], form)
    if top == bottom:
        return f"the same for all ({top})"
    return f"largest for {_name(high)} ({top}), smallest for {_name(low)} ({bottom})"


def _written(value: float, form: str) -> str:
    """A number as it is shown; what is rounded to nothing has no sign."""
    shown = form.format(value)
    return shown if re.search(r"[1-9]", shown) else shown.replace("-", "", 1)


def _name(label: Hashable) -> str:
    parts = label if isinstance(label, tuple) else (label,)
    return markdown(", ".join(" ".join(str(part).split()) for part in parts))


class CutTable:
    """The first rows of a table; all of it lies in a file.

    Attributes:
        frame: all rows.
        name: of its file, by which its looks are told from those of other tables on a page.
        rows: how many are shown.
        place: the file, as it is said.
    """

    def __init__(self, frame: pd.DataFrame, name: str, rows: int, place: str, digits: int) -> None:
        self.frame, self.name, self.rows = frame, name, rows
        self.place, self.digits = place, digits

    @property
    def note(self) -> str:
        """Which part of the table is shown; empty for all of it."""
        if len(self.frame) <= self.rows:
            return ""
        return f"{self.rows} of {len(self.frame)} rows; all of them in {self.place}"

    def __repr__(self) -> str:
        return "\n".join(filter(None, (self._head().to_string(), self.note)))

    def _head(self) -> pd.DataFrame:
        return self.frame.head(self.rows).round(self.digits)

    def _repr_html_(self) -> str:
        style = self._head().style.set_uuid(self.name).format(_cell(self.digits), escape="html")
        style = style.format_index(escape="html", axis=0).format_index(escape="html", axis=1)
        numbers = [
            i for i in range(self.frame.shape[1]) if is_numeric_dtype(self.frame.dtypes.iloc[i])
        ]
        looks = [
            {"selector": "tbody tr:nth-child(even)", "props": "background: #8881"},
            {"selector": "th, td", "props": "padding: .2em .7em; border: none"},
            {"selector": "th, td", "props": "text-align: left"},
            *({"selector": f"td.col{i}", "props": "text-align: right"} for i in numbers),
        ]
        return style.set_table_styles(looks).to_html() + (
            f"<p><i>{html(self.note)}</i></p>" if self.note else ""
        )


def _cell(digits: int) -> Any:
    def written(value: Any) -> str:
        if value is None or value is pd.NA or value != value:
            return ""
        if isinstance(value, float):
            return f"{value:,.{digits}f}"
        return str(value)

    return written


def long_table(
    frame: pd.DataFrame, name: str, profile: str, rows: int = ROWS, digits: int = 2
) -> CutTable:
    """A table for a notebook: its first rows; the whole as results/tables/PROFILE/NAME.csv.

    Args:
        frame: the table; an index with a name is written too.
        name: of the file, without suffix.
        profile: the folder.
        rows: how many are shown.
        digits: behind the point, of the numbers shown; the file has all of them.
    """
    path = results_dir() / "tables" / profile / f"{name}.csv"
    named = any(level is not None for level in frame.index.names)
    write_csv(path, frame.reset_index() if named else frame)
    place = f"tables/{profile}/{name}.csv of the results folder"
    return CutTable(frame, name, rows, place, digits)
