"""What the records say, for the results page: the verdicts of REPRODUCIBILITY.md, and of every
system the best that its index holds. Standard library only.
"""

from __future__ import annotations

import csv
import html as entities
import re
import statistics
from pathlib import Path

from terminator.runner.html_page import folded, link, table, with_note
from terminator.runtime.text import html

CARD = "REPRODUCIBILITY.md"
# of a verdict; what they mean: runs/outcomes.py, which stands above this
WORDS = ("holds", "does not hold", "no difference", "undecided", "not learned", "not run")
SETTLED = WORDS[:3]
SEEDS = 3  # fewer give no verdict, and no spread
# system: its index, the name of its own method there, the measure and what to call it, the columns
# that name data and method
INDICES = {
    "Terminator": ("index.csv", "terminator", "accuracy_released", "% right", "dataset", "model"),
    **{
        system: (f"index_{name}.csv", own, measure, unit, "data", "method")
        for system, name, own, measure, unit in (
            ("Hamburger", "segmentation", r"hamburger (?!.*bptt).*", "miou", "% mIoU"),
            ("Hrrformer", "longrange", "hrrformer", "test", "% right"),
            ("HyperTransformer", "fewshot", "hypertransformer, all layers", "test", "% right"),
        )
    },
}
SETTING = tuple(  # columns that tell settings apart
    "profile train_images image_size setting optimizer epochs steps batch backbone rank K split "
    "task masking layers width length train_examples ways shots unlabeled channels "
    "transformer_layers queries".split()
)
EVIDENCE = 260  # characters of a claim's evidence that are shown; the card has all of it


def claims(results: Path) -> list[dict[str, str]]:
    """The rows of the first table in REPRODUCIBILITY.md, {column: plain text}; none where there is
    no such table.
    """
    try:
        lines = (results / CARD).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    start = next((i for i, line in enumerate(lines) if line.startswith("| system ")), len(lines))
    rows: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    head = rows[0] if rows else []
    return [dict(zip(head, row, strict=True)) for row in rows[2:] if len(row) == len(head)]


def _plain(cell: str) -> str:
    """A cell's Markdown as text."""
    text = re.sub(r"</?\w+>", "", cell.strip()).replace("`", "")
    return entities.unescape(re.sub(r"\\([^\w\s])", r"\1", text))


def best(results: Path) -> list[list[str]]:
    """Of every system and each of its data sets, the setting with the highest mean among those of
    most seeds: system, data, method, measure, over how many seeds, profile. What was tested on
    held-out training data is no result.
    """
    found = []
    for system, (file, own, measure, unit, data, method) in INDICES.items():
        groups: dict[tuple[str, ...], dict[str, float]] = {}  # by seed: a run may stand there twice
        for row in _rows(results / file):
            if not re.fullmatch(own, row.get(method, "").lower()) or "held-out" in row.get(
                data, ""
            ):
                continue
            if _is_number(row.get(measure)):
                key = (row.get(data, ""), row[method], *(row.get(name, "") for name in SETTING))
                groups.setdefault(key, {})[row.get("seed", "")] = float(row[measure])
        for name in dict.fromkeys(key[0] for key in groups):
            ours = {key: list(of.values()) for key, of in groups.items() if key[0] == name}
            key = max(ours, key=lambda key: (len(ours[key]), statistics.fmean(ours[key])))
            values = ours[key]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) >= SEEDS else ""
            value = f"{statistics.fmean(values):.2f}{spread} {unit}"
            found.append([system, name, key[1], value, str(len(values)), key[2]])
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {name: value or "" for name, value in row.items() if name is not None}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error):
        return []  # a damaged table must not hide the rest


def word_of(verdict: str) -> str:
    """The one of WORDS that a verdict begins with; the verdict itself where there is none."""
    return next((word for word in WORDS if verdict.startswith(word)), verdict)


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and float(text) == float(text)
    except ValueError:
        return False


# -- as HTML ---------------------------------------------------------------------------------------


def verdict_section(results: Path) -> str:
    """A card per system with its verdicts counted; its claims, what is settled first, unfold."""
    rows = [row for row in claims(results) if {"system", "claim", "verdict"} <= row.keys()]
    if not rows:
        return ""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    cards = "\n".join(_card(name, [r for r in rows if r["system"] == name]) for name in systems)
    return (
        f'<div class="cards">\n{cards}\n</div>\n<p class="note">Verdicts on what the papers claim, '
        "by the records: all claims with all their evidence, and what would settle the others, in "
        f"{link(results / CARD, CARD, results)}.</p>"
    )


def _card(system: str, rows: list[dict[str, str]]) -> str:
    counts = {word: sum(word_of(row["verdict"]) == word for row in rows) for word in WORDS}
    bar = "".join(
        f'<i class="{_css(word)}" style="flex: {count}"></i>'
        for word, count in counts.items()
        if count
    )
    said = ", ".join(f"{word}: {count}" for word, count in counts.items() if count)
    settled = [row for row in rows if word_of(row["verdict"]) in SETTLED]
    rest = [row for row in rows if row not in settled]
    parts = [folded(f"{len(settled)} settled", _claims(settled))] if settled else []
    parts += (
        [folded(f"{len(rest)} undecided, not learned or not run", _claims(rest))] if rest else []
    )
    return (
        f'<div class="card"><h3>{html(system)}</h3><div class="bar">{bar}</div>'
        f"<p>{html(said)}</p>{''.join(parts)}</div>"
    )


def beginning(evidence: str) -> str:
    """As much of some evidence as is shown beside a claim, in whole words."""
    if len(evidence) <= EVIDENCE:
        return evidence
    return f"{evidence[:EVIDENCE].rsplit(' ', 1)[0]} ..."


def _css(verdict: str) -> str:
    word = word_of(verdict)
    return word.replace(" ", "-") if word in WORDS else "note"


def _claims(rows: list[dict[str, str]]) -> str:
    """Verdict, claim and evidence of each, one below the other: read on any width."""
    items = []
    for row in rows:
        said = beginning(row.get("evidence", ""))
        items.append(
            f'<li><span class="{_css(row["verdict"])}">{html(row["verdict"])}</span>: '
            f'{html(row["claim"])}<br><span class="note">{html(said)}</span></li>'
        )
    return '<ul class="claims">' + "\n".join(items) + "</ul>"


def best_section(results: Path) -> str:
    """What `best` finds, a table per system."""
    rows = best(results)
    if not rows:
        return ""
    parts = [
        '<p class="note">Of each system and data set the setting with the highest mean on test '
        "data among those with most seeds; ± is the standard deviation over seeds.</p>"
    ]
    for system in dict.fromkeys(row[0] for row in rows):
        cells = [
            [with_note(data, html(f"{method}, {profile} profile")), html(value), html(seeds)]
            for of, data, method, value, seeds, profile in rows
            if of == system
        ]
        parts.append(f"<h3>{html(system)}</h3>\n{table(('data', 'reached', 'seeds'), cells)}")
    return "\n".join(parts)
