"""The reproducibility card, results/REPRODUCIBILITY.md: every claim with its verdict, and the
checklist.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from terminator.classification import claims as classification
from terminator.classification.verdicts import CLOSE
from terminator.hamburger import claims as hamburger
from terminator.hamburger.segmentation.report import HAMS
from terminator.hrrformer import claims as hrrformer
from terminator.hrrformer.longrange.report import TITLES as ARENA
from terminator.hypertransformer import claims as hypertransformer
from terminator.report.tables import SYSTEM_OF
from terminator.runner.verdicts import beginning, word_of
from terminator.runs import records
from terminator.runs.claims import ASKED, Claim, Records
from terminator.runs.outcomes import EXAMPLES, SEEDS, WORDS
from terminator.runtime import paths, text

CLAIMS: list[Claim] = [  # a system's claims stand in a file of its own
    *classification.CLAIMS,
    *hamburger.CLAIMS,
    *hrrformer.CLAIMS,
    *hypertransformer.CLAIMS,
]


def evidence() -> dict[str, Records]:
    """The records that are evidence, by task."""
    return {task: records.evidence(task) for task in dict.fromkeys(claim.task for claim in CLAIMS)}


def under_way() -> dict[str, Records]:
    """The records of trainings that are not finished, by task, of claims that take them."""
    tasks = dict.fromkeys(claim.task for claim in CLAIMS if claim.under_way)
    return {task: records.evidence(task, records.RUNNING) for task in tasks}


def claims_table(
    found: Mapping[str, Records], unfinished: Mapping[str, Records] | None = None
) -> list[dict[str, str]]:
    """One row per claim, from the records by task.

    Args:
        found: of finished trainings.
        unfinished: of others, for claims that take them.

    Returns:
        rows of system, claim, source, notebook, verdict, evidence, what would settle it.
    """
    rows = []
    for claim in CLAIMS:
        more = (unfinished or {}).get(claim.task, []) if claim.under_way else []
        verdict = claim.verdict([*found.get(claim.task, []), *more])
        rows.append(
            {
                "system": claim.system,
                "claim": claim.text,
                "source": claim.source,
                "notebook": claim.notebook,
                "verdict": verdict.said or verdict.word,
                "evidence": verdict.evidence,
                "what would settle it": verdict.settles or claim.settles,
            }
        )
    return rows


def checklist(found: Records, unfinished: Records = ()) -> list[tuple[str, str]]:
    """The fields of the machine learning reproducibility checklist that records can answer, and
    where the rest is.

    Args:
        found: of finished trainings.
        unfinished: of those under way.
    """
    settings: dict[str, set[int]] = {}
    for record in found:
        system = SYSTEM_OF[records.task_of(record)]
        settings.setdefault(system.setting(record), set()).add(record["seed"])
    seeds = sorted({len(of) for of in settings.values()})
    under_way = f"; {len(unfinished)} more are under way" if unfinished else ""
    every = [*found, *unfinished]
    hours = sum(r["wall_s"] for r in every) / 3600
    commits = sorted({(r["provenance"]["commit"] or "unknown")[:10] for r in every})
    return [
        (
            "Models and algorithms described",
            "docstrings name equation and source; notebooks 01 to 03",
        ),
        (
            "Complexity",
            "operations and memory against size: notebook 02; FLOPs per image in every record",
        ),
        ("Data: statistics and splits", _collapsed(map(_sizes, every)) or "none yet"),
        (
            "Data: what was left out or changed",
            _notes({note for r in every for note in r["data"]["notes"]}) or "nothing noted",
        ),
        ("Data: how to get it", "docs/own-data.md; `python -m terminator datasets`"),
        ("Dependencies", "pyproject.toml, environment.yml; exact versions in every record"),
        (
            "Training and evaluation code",
            "`python run_all.py`; `python -m terminator train | evaluate`",
        ),
        (
            "Trained models",
            "some in terminator/weights, described in docs/models.md; others are made again from a "
            "record's settings",
        ),
        (
            "Hyper-parameters, and how they were chosen",
            "in every record; the release's where it had them. No search on test data; the last "
            "epoch counts",
        ),
        (
            "Exact number of runs",
            f"{len(found)} runs of {len(settings)} settings, "
            f"{' or '.join(map(str, seeds)) or 'no'} seeds each{under_way}",
        ),
        (
            "Measure",
            "test accuracy (%) after the last epoch, in two evaluations (RESULTS.md); few-shot: "
            "over tasks of unseen classes, with its 95 % interval",
        ),
        (
            "Central tendency and variation",
            f"mean and standard deviation over seeds (n - 1), of {SEEDS} or more; else each value",
        ),
        ("Run time", f"{hours:.1f} hours of training in all; per run in results/index*.csv"),
        (
            "Computing infrastructure",
            "; ".join(sorted({text.markdown(r["device"]) for r in every})) or "none yet",
        ),
        (
            "Code version",
            f"commits {', '.join(commits) or 'none yet'}; source hash in every record",
        ),
    ]


def _sizes(record: dict[str, Any]) -> tuple[str, str]:
    """A data set and how much of it a run took."""
    data, title = record["data"], text.markdown(record["data"]["title"])
    if isinstance(data["classes"], dict):  # of episodes: classes per split
        classes = ", ".join(f"{split} {n}" for split, n in data["classes"].items())
        return title, f"classes to {classes}"
    if "sizes" in data:
        return title, ", ".join(f"{n:,} {split}" for split, n in data["sizes"].items())
    return title, f"{data['train_size']:,} to train, {data['test_size']:,} to test"


def _collapsed(sizes: Iterable[tuple[str, str]]) -> str:
    """Every data set once, with all the sizes that were taken of it."""
    of: dict[str, set[str]] = {}
    for title, size in sizes:
        of.setdefault(title, set()).add(size)
    return "; ".join(f"{title}: {' or '.join(sorted(of[title]))}" for title in sorted(of))


_COUNT = re.compile(r"(\d+) of (\d+ .+)|((?:tested on|cut to|resized (?:from \d+ )?to)) (\d+) (.+)")


def _notes(notes: Iterable[str]) -> str:
    """Every kind of note once: "1000, 2000 of 60000 train images", "cut to 64, 128 tokens"."""
    of: dict[tuple[str, str], set[int]] = {}
    for note in notes:
        found = _COUNT.fullmatch(note)
        if found is None:
            of.setdefault((note, ""), set())
        elif found[1]:
            of.setdefault(("", f" of {found[2]}"), set()).add(int(found[1]))
        else:
            of.setdefault((f"{found[3]} ", f" {found[5]}"), set()).add(int(found[4]))
    said = [f"{a}{', '.join(map(str, sorted(n)))}{b}" for (a, b), n in of.items()]
    return "; ".join(sorted(map(text.markdown, said)))


# -- the ten lines that a reader wants -------------------------------------------------------------

QUESTIONS: list[
    tuple[str, tuple[str, ...]]
] = [  # question, beginnings of the claims that answer it
    ("Does the global operator help?", ("the global operator", "trained networks use")),
    ("Do slow scores single out the object?", ("slow scores single out",)),
    ("Does the slow neural loss help?", ("the slow neural loss helps",)),
    (
        "Does it learn faster than others, and is Kar3 the better optimiser?",
        ("Terminator is ahead of", "Kar3 trains better"),
    ),
    (
        "Do the other parts help (G-IBS, both interactions, RGU, Si-GLU, skips, local kernels)?",
        (
            "G-IBS is better",
            "the hyper interaction",
            "the hyper-channel",
            "the gated units",
            "Si-GLU",
            "tiled outputs",
            "local kernels",
        ),
    ),
    (
        "Are published accuracies reached?",
        ("CIFAR-10:", "CIFAR-100:", "sMNIST, pMNIST", "Omniglot,"),
    ),
    (
        "Hamburger: does a decomposition help beyond a mean, or attention?",
        (
            *(f"{ham} brings more context" for ham in HAMS),
            *(f"{ham} is better than attention" for ham in HAMS),
            "a Hamburger improves",
        ),
    ),
    (
        "Hrrformer: does its attention add anything?",
        tuple(f"{title}: the attention adds" for title in ARENA.values()),
    ),
    (
        "HyperTransformer: is generating all layers better than the last, or than prototypes?",
        ("generating all layers beats generating", "a generated CNN beats the prototypical"),
    ),
    ("Does the continual model keep its first task?", ("later tasks do not",)),
]


def answers(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A line per question, Markdown: the verdict and its evidence, or how many claims say what."""
    lines = []
    for question, beginnings in QUESTIONS:
        chosen = [row for row in rows if row["claim"].startswith(beginnings)]
        if len(chosen) == 1:
            answer = f"{chosen[0]['verdict']}. {text.markdown(beginning(chosen[0]['evidence']))}"
        else:
            groups: dict[str, list[str]] = {}
            for row in chosen:
                groups.setdefault(word_of(row["verdict"]), []).append(f"“{row['claim']}”")
            answer = "; ".join(f"{word}: {', '.join(of)}" for word, of in groups.items())
        lines.append(f"{len(lines) + 1}. **{question}** {answer}")
    return lines


TITLE = "# What the papers claim, and what our records say"
RULE = (
    "Made by `python -m terminator tables` from the records in `results/runs` (laptop and paper "
    "profiles) and the lists of claims beside each system; nothing here is typed by hand. Runs of "
    "one machine, number of threads and precision are compared: in pairs by seed (t interval of "
    "the mean difference) where they share three seeds, else by Welch's test; parts of Terminator "
    f"as a table against the full network (Dunnett, or Holm where spreads differ); measures of the "
    f"same runs wherever these were made. Fewer than "
    f"{SEEDS} seeds give no verdict, and their values stand one by one. *holds*, *does not hold*: "
    f"a difference at 5 %, of accuracies one of {EXAMPLES} test examples at least; *no "
    "difference* beyond a margin: shown by equivalence tests (TOST at 5 %, so by the 90 % "
    "interval; the difference may be clear, and smaller than the margin); *undecided*: with the "
    "difference that this study would have seen (power 80 %); *not learned*: the better side is "
    "not above what a trivial answer reaches, which one seed can say. Where seeds were added "
    "because fewer had left a claim undecided, all are tested together, at 5 % once more: verdicts "
    "of more than the usual three or five seeds are less sure than that. Every claim is tested "
    "by itself: of a hundred, some are wrong. Ours reach a published number "
    f"where the 95 % interval of our mean is above that number less {CLOSE} points; lossy copies, "
    "parts and other sizes of the data, and other numbers of epochs, never count. What claims of "
    "cost, gradients and capacity say is read off measurements, the newest of a kind."
)


def judged() -> list[dict[str, str]]:
    """The rows of claims_table by all records that are evidence."""
    return claims_table(evidence(), under_way())


def counts_by_source(rows: Sequence[Mapping[str, str]]) -> dict[str, Counter[str]]:
    """{who makes the claims: {word: how many}}."""
    found = {
        name: Counter[str]() for name in ("Claimed by a paper or a release", "Asked beside them")
    }
    claimed, asked = found.values()
    for row in rows:
        (asked if ASKED in row["source"] else claimed)[word_of(row["verdict"])] += 1
    return found


def page(rows: Sequence[Mapping[str, str]]) -> str:
    """results/REPRODUCIBILITY.md, of the rows of a claims_table."""
    head = list(rows[0])
    lines = [
        TITLE,
        "",
        *answers(rows),
        "",
        RULE,
        "",
        *(
            f"- {who} ({counts.total()}): {', '.join(f'{word} {counts[word]}' for word in WORDS)}."
            for who, counts in counts_by_source(rows).items()
        ),
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    # evidence names data sets; all else is Markdown of our own
    lines += [
        "| "
        + " | ".join(
            (text.markdown if name == "evidence" else text.cell)(row[name]) for name in head
        )
        + " |"
        for row in rows
    ]
    lines += ["", "## Reproducibility checklist", "", "| field | answer |", "|---|---|"]
    every, unfinished = (
        [record for part in kind.values() for record in part] for kind in (evidence(), under_way())
    )
    answered = checklist(every, unfinished)
    lines += [f"| {field} | {text.cell(answer)} |" for field, answer in answered]
    return "\n".join(lines) + "\n"


def write_page(rows: Sequence[Mapping[str, str]]) -> Path:
    """Write results/REPRODUCIBILITY.md, of the rows of a claims_table, and return its path.

    Raises:
        ForeignFile: if the file of that name is no such page.
    """
    return paths.write_page(paths.results_dir() / "REPRODUCIBILITY.md", page(rows), TITLE)
