"""The reproducibility card, results/REPRODUCIBILITY.md: every claim with its verdict, and the
checklist.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terminator.classification import claims as terminator
from terminator.classification.verdicts import CLOSE, NEAR
from terminator.hamburger import claims
from terminator.hrrformer import claims as hrrformer
from terminator.hypertransformer import claims as hypertransformer
from terminator.runs import records
from terminator.runs.claims import SEEDS, Claim, Records
from terminator.runs.comparison import WORDS
from terminator.runtime import text
from terminator.runtime.paths import atomic_write, results_dir
from terminator.runtime.settings import WHERE_KEYS

CLAIMS: list[Claim] = [  # a system's claims stand in a file of its own
    *terminator.CLAIMS,
    *claims.CLAIMS,
    *hrrformer.CLAIMS,
    *hypertransformer.CLAIMS,
]


def evidence() -> dict[str, Records]:
    """The records that are evidence, by task."""
    return {task: records.evidence(task) for task in dict.fromkeys(claim.task for claim in CLAIMS)}


def claims_table(found: Mapping[str, Records]) -> list[dict[str, str]]:
    """One row per claim, from the records by task.

    Returns:
        rows of system, claim, source, notebook, verdict, evidence, what would settle it.
    """
    rows = []
    for claim in CLAIMS:
        word, said = claim.verdict(found.get(claim.task, []))
        rows.append(
            {
                "system": claim.system,
                "claim": claim.text,
                "source": claim.source,
                "notebook": claim.notebook,
                "verdict": word,
                "evidence": said,
                "what would settle it": claim.settles,
            }
        )
    return rows


def checklist(found: Records) -> list[tuple[str, str]]:
    """The fields of the machine learning reproducibility checklist that records can answer, and
    where the rest is.
    """
    settings = Counter(_but_seed(r) for r in found)
    hours = sum(r["wall_s"] for r in found) / 3600
    seeds = sorted(set(settings.values()))
    commits = sorted({(r["provenance"]["commit"] or "unknown")[:10] for r in found})
    return [
        (
            "Models and algorithms described",
            "docstrings name equation and source; notebooks 01 to 03",
        ),
        (
            "Complexity",
            "operations and memory against size: notebook 02; FLOPs per image in every record",
        ),
        (
            "Data: statistics and splits",
            "; ".join(sorted({_sizes(r) for r in found})) or "none yet",
        ),
        (
            "Data: what was left out or changed",
            "; ".join(sorted({text.markdown(note) for r in found for note in r["data"]["notes"]}))
            or "nothing noted",
        ),
        ("Data: how to get it", "docs/own-data.md; `python -m terminator datasets`"),
        ("Dependencies", "pyproject.toml, environment.yml; exact versions in every record"),
        (
            "Training and evaluation code",
            "`python run_all.py`; `python -m terminator train | evaluate`",
        ),
        ("Trained models", "made again from a record's settings; weights are not committed"),
        (
            "Hyper-parameters, and how they were chosen",
            "in every record; the release's where it had them. No search on test data, except that "
            "comparisons of optimisers take each one's best setting; the last epoch counts",
        ),
        (
            "Exact number of runs",
            f"{len(found)} runs of {len(settings)} settings, "
            f"{' or '.join(map(str, seeds)) or 'no'} seeds each",
        ),
        (
            "Measure",
            "test accuracy (%) after the last epoch, in two evaluations (RESULTS.md); few-shot: "
            "over tasks of unseen classes, with its 95 % interval",
        ),
        ("Central tendency and variation", "mean and standard deviation over seeds (n - 1)"),
        ("Run time", f"{hours:.1f} hours of training in all; per run in results/index*.csv"),
        (
            "Computing infrastructure",
            "; ".join(sorted({text.markdown(r["device"]) for r in found})) or "none yet",
        ),
        (
            "Code version",
            f"commits {', '.join(commits) or 'none yet'}; source hash in every record",
        ),
    ]


def _but_seed(record: dict[str, Any]) -> str:
    """What a run was, its seed aside."""
    train = {
        key: value
        for key, value in record["config"]["train"].items()
        if key not in ("seed", *WHERE_KEYS)
    }
    return json.dumps(
        [
            record["experiment"],
            record["profile"],
            record["config"] | {"train": train},
            record["data"]["fingerprint"],
        ],
        sort_keys=True,
    )


def _sizes(record: dict[str, Any]) -> str:
    data, title = record["data"], text.markdown(record["data"]["title"])
    if isinstance(data["classes"], dict):  # of episodes: classes per split
        classes = ", ".join(f"{split} {n}" for split, n in data["classes"].items())
        return f"{title}: classes to {classes}"
    if "sizes" in data:
        return f"{title}: {', '.join(f'{n:,} {split}' for split, n in data['sizes'].items())}"
    return f"{title}: {data['train_size']:,} to train, {data['test_size']:,} to test"


def page() -> str:
    """results/REPRODUCIBILITY.md from the records that are evidence."""
    found = evidence()
    rows = claims_table(found)
    counts = {word: sum(row["verdict"] == word for row in rows) for word in WORDS}
    head = list(rows[0])
    lines = [
        "# What the papers claim, and what our records say",
        "",
        "Made by `python -m terminator tables` from the records in `results/runs` (laptop and "
        "paper profiles) and the lists in `terminator/claims/`; nothing here is typed by hand. An "
        f"accuracy *holds* when our mean is at most {CLOSE} points below the published number, "
        f"*partly* up to {NEAR} points; a comparison holds where the means differ by more than "
        "both standard deviations (few-shot: by more than their 95 % spread over seeds and tasks). "
        f"Fewer than {SEEDS} seeds settle nothing.",
        "",
        ", ".join(f"{word}: {count}" for word, count in counts.items()) + ".",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    lines += [
        "| "
        + " | ".join(
            (text.markdown if name == "evidence" else text.cell)(row[name]) for name in head
        )
        + " |"
        for row in rows
    ]  # evidence names data sets; all else is Markdown of our own
    lines += ["", "## Reproducibility checklist", "", "| field | answer |", "|---|---|"]
    everything = [record for part in found.values() for record in part]
    lines += [f"| {field} | {text.cell(answer)} |" for field, answer in checklist(everything)]
    return "\n".join(lines) + "\n"


def write_page() -> Path:
    """Write results/REPRODUCIBILITY.md and return its path."""
    return atomic_write(results_dir() / "REPRODUCIBILITY.md", page())
