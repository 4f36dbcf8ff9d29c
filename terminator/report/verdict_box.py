"""The verdicts that a notebook's records decide, as a box for its first screen.

They are read from results/REPRODUCIBILITY.md, which `python -m terminator tables` makes from the
records and the systems' lists of claims: nothing is typed, and nothing is computed a second time.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from terminator.runner.verdicts import CARD, beginning, claims, word_of
from terminator.runs.claims import PROFILES
from terminator.runs.outcomes import WORDS
from terminator.runtime.paths import project_root, results_dir
from terminator.runtime.text import html

_COLOURS = {
    "holds": "#1b7f4b",
    "does not hold": "#b3401f",
    "no difference": "#0b5394",
    "undecided": "#6b6b6b",
    "not learned": "#8a6d00",
    "not run": "#6b6b6b",
}
_CELL = "text-align: left; vertical-align: top; padding: .25em .6em"


class VerdictBox:
    """Claims with their verdicts: HTML in a notebook, lines of text elsewhere.

    Attributes:
        rows: of the card, {column: text}.
        profile: of the run that shows them.
        made_by: profiles whose records the evidence names.
    """

    def __init__(self, rows: Sequence[Mapping[str, str]], profile: str) -> None:
        self.rows, self.profile = list(rows), profile
        evidence = " ".join(row["evidence"] for row in self.rows)
        self.made_by = [name for name in PROFILES if re.search(rf"\b{name}\b", evidence)]

    @property
    def summary(self) -> str:
        """How many claims have which verdict, and whose records say so."""
        counts = Counter(word_of(row["verdict"]) for row in self.rows)
        said = ", ".join(f"{word}: {counts[word]}" for word in WORDS if counts[word])
        source = " and ".join(f"{name} profile" for name in self.made_by) or "no record yet"
        own = "" if self.profile in PROFILES else f" This run ({self.profile}) decides none."
        return f"Claims that this notebook tests: {said}. Records: {source}.{own}"

    def __repr__(self) -> str:
        lines = [f"{row['verdict']}: {row['claim']}" for row in self.rows]
        return "\n".join([self.summary, *lines])

    def _repr_html_(self) -> str:
        body = "".join(map(_row, self.rows))
        return (
            '<div style="border-left: 4px solid #0b5394; padding: .2em .9em">'
            f"<p><b>{html(self.summary)}</b></p><table>"
            f'<tr><th style="{_CELL}">claim</th><th style="{_CELL}">verdict</th>'
            f'<th style="{_CELL}">evidence</th></tr>{body}</table>'
            f"<p>From <code>results/{CARD}</code>, where all evidence stands, and what would "
            "settle the rest.</p></div>"
        )


def _row(row: Mapping[str, str]) -> str:
    said = beginning(row["evidence"])
    colour = _COLOURS.get(word_of(row["verdict"]), "#6b6b6b")
    return (
        f'<tr><td style="{_CELL}">{html(row["claim"])}</td>'
        f'<td style="{_CELL}; color: {colour}"><b>{html(row["verdict"])}</b></td>'
        f'<td style="{_CELL}">{html(said)}</td></tr>'
    )


def verdict_box(notebook: str, profile: str) -> VerdictBox:
    """What the records say of the claims that a notebook tests.

    Args:
        notebook: its name without suffix, as the claims have it.
        profile: of this run.

    Returns:
        a VerdictBox of the card in the results folder, or of the project's own where that folder
        has none.

    Raises:
        FileNotFoundError: where there is no card.
        ValueError: for a notebook that no claim names.
    """
    places = [results_dir()]
    if (root := project_root()) is not None:
        places.append(Path(root) / "results")
    rows = next((found for place in places if (found := claims(place))), None)
    if rows is None:
        raise FileNotFoundError(
            f"no {CARD} in {' or '.join(map(str, places))}; `python -m terminator tables` makes it"
        )
    chosen = [row for row in rows if row["notebook"] == notebook]
    if not chosen:
        known = ", ".join(sorted({row["notebook"] for row in rows}))
        raise ValueError(f"no claim names the notebook {notebook!r}; allowed: {known}")
    return VerdictBox(chosen, profile)
