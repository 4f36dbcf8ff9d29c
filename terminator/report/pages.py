"""What is written from the records into Markdown: results/RESULTS.md whole, and blocks between
markers in README.md and docs/speed.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from terminator.report import claims, speed, tables
from terminator.runner.verdicts import WORDS, word_of
from terminator.runs.outcomes import HOLDS, NOT
from terminator.runtime.paths import atomic_write, project_root, results_dir, write_page

TITLE = "# Results so far"
NAMED = 2  # claims that a line of the README names, of each verdict


def write_all(rows: Sequence[Mapping[str, str]]) -> list[Path]:
    """Write results/RESULTS.md and, where the results are the project's own, the blocks.

    Args:
        rows: of a claims_table.

    Returns:
        what was written.

    Raises:
        ValueError: if a file lacks its markers; ForeignFile if RESULTS.md is no such page.
    """
    root = project_root()
    own = root is not None and results_dir() == root / "results"
    page = results_page("../notebooks/" if own else None)
    written = [write_page(results_dir() / "RESULTS.md", page, TITLE)]
    if own:
        assert root is not None
        written += [
            update_block(root / "README.md", verdict_list(rows), "verdicts"),
            update_block(root / "docs" / "speed.md", speed.speed_table(), "speed"),
        ]
        update_block(root / "docs" / "speed.md", speed.suite_table(), "suite")
    return written


# -- results/RESULTS.md ----------------------------------------------------------------------------


def results_page(notebooks: str | None = None) -> str:
    """results/RESULTS.md: a table per study that has records.

    Args:
        notebooks: the way to their folder, for links; None: no links.
    """
    return "\n".join(
        [
            TITLE,
            "",
            "Made by `python -m terminator tables` from the records in `results/runs` (listed in "
            "`index*.csv`); nothing here is typed by hand. Laptop runs are small and short: what "
            "they say holds at their size.",
            "",
            "A table per study: test accuracy after the last epoch, over seeds. *Accuracy*: as "
            "released, with the statistics of the test batch. *Calibrated*: fixed statistics, one "
            "image, one answer. *Difference*: to what was published for the same settings, however "
            "computed. Minutes are of training, on machines that may have had other work to do "
            'beside it: upper bounds. "CIFAR-10 (JPEG)" is a copy of CIFAR-10 as JPEG files in '
            "class folders. Published numbers, each with its source, stand in `literature.csv`; "
            "what the records say to each claim of the papers in "
            "[REPRODUCIBILITY.md](REPRODUCIBILITY.md).",
            "",
            tables.result_tables(notebooks),
            "",
        ]
    )


# -- README.md -------------------------------------------------------------------------------------


def verdict_list(rows: Sequence[Mapping[str, str]]) -> str:
    """What holds and what does not, a line per system and one for all, Markdown.

    Args:
        rows: of a claims_table.
    """
    rows = [{**row, "verdict": word_of(row["verdict"])} for row in rows]
    systems: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        systems.setdefault(row["system"], []).append(row)
    lines = [f"- **{system}**: {_verdicts(own)}." for system, own in systems.items()]
    lines += [
        f"- {who} ({counts.total()}): {_counts(counts)}."
        for who, counts in claims.counts_by_source(rows).items()
    ]
    lines.append(
        f"- All {len(rows)}, each with its evidence and what would settle it: "
        "[REPRODUCIBILITY.md](results/REPRODUCIBILITY.md)."
    )
    return "\n".join(lines)


def _verdicts(rows: Sequence[Mapping[str, str]]) -> str:
    """Claims with a clear verdict by name, all others by number."""
    said = []
    for word in (HOLDS, NOT):
        found = [row["claim"] for row in rows if row["verdict"] == word]
        if found:
            more = [f"{len(found) - NAMED} more"] if len(found) > NAMED else []
            said.append(f"*{word}*: {', '.join([*(f'“{c}”' for c in found[:NAMED]), *more])}")
    others = Counter(row["verdict"] for row in rows if row["verdict"] not in (HOLDS, NOT))
    return "; ".join([*said, *([_counts(others)] if others else [])])


def _counts(counts: Mapping[str, int]) -> str:
    order = [*(word for word in WORDS if word in counts), *sorted(counts.keys() - WORDS)]
    return ", ".join(f"{counts[word]} *{word}*" for word in order)


# -- blocks ----------------------------------------------------------------------------------------


def markers(name: str) -> tuple[str, str]:
    """The lines between which a block of that name stands."""
    return f"<!-- {name}: made by python -m terminator tables -->", f"<!-- end of {name} -->"


def update_block(path: Path, block: str, name: str) -> Path:
    """Put a block between a file's markers of that name; return the file.

    Raises:
        ValueError: if the markers are missing.
    """
    start, end = markers(name)
    text = path.read_text(encoding="utf8")
    if start not in text or end not in text:
        raise ValueError(f"{path} lacks the lines {start!r} and {end!r}")
    before, rest = text.split(start, 1)
    after = rest.split(end, 1)[1]
    return atomic_write(path, f"{before}{start}\n{block}\n{end}{after}")
