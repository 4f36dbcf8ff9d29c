"""The papers' claims on few-shot learning as comparisons of runs, with verdicts that are computed
from the records.

Used by notebook 22 with the runs it has made, and by claims/hypertransformer.py with the records
that are there.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from terminator.hypertransformer.fewshot.presets import LAYERS, MAIN, UNLABELED, WIDTHS, preset
from terminator.runs.comparison import HOLDS, NOT, NOT_RUN, UNSETTLED, Gap, gap, seeds
from terminator.runs.system import FinishedRun

Runs = Sequence[FinishedRun]
Studies = Mapping[str, Mapping[str, Runs]]  # {study: {label: runs}}, see presets.study
FORGETTING = "later tasks do not make the continual model forget the first"


class Contrast(NamedTuple):
    """A claim that runs of one label do better than those of another; `what` says where."""

    text: str
    study: str
    better: str
    than: str
    what: str


def contrasts(profile: str) -> list[Contrast]:
    """The claims that compare two settings, with the labels that these have in a profile."""
    ways = f"{preset(MAIN[profile]).episodes.num_labels}-way"
    small, most = f"{min(WIDTHS[profile])} channels", max(UNLABELED[profile])
    everything = f"{ways}, all layers"
    found = [
        Contrast(
            "generating all layers beats generating the logits layer alone",
            "methods",
            everything,
            f"{ways}, logits only",
            ways,
        ),
        Contrast(
            "generating all layers beats the logits layer alone in the smallest CNN",
            "widths",
            f"all layers, {small}",
            f"logits only, {small}",
            small,
        ),
    ]
    found += [
        Contrast(
            f"a generated CNN beats the {other} on the same episodes",
            "methods",
            everything,
            f"{ways}, {other}",
            ways,
        )
        for other in ("prototypical network", "nearest mean of pixels")
    ]
    for count in LAYERS[profile]:
        layers = f"{count} layer{'s' * (count > 1)}"
        found.append(
            Contrast(
                f"unlabelled samples help ({layers} in the Transformers)",
                "unlabeled",
                f"{layers}, {most} unlabelled",
                f"{layers}, 0 unlabelled",
                f"{most} unlabelled",
            )
        )
    return found


def compare(a: Runs, b: Runs) -> Gap:
    """Test accuracies (%) of a against b; chance is the seeds', and at least that of the tasks."""
    noise = [
        sum(r.record["results"]["test"]["interval"] for r in runs) / len(runs) ** 1.5
        for runs in (a, b)
    ]
    return gap([r.accuracy() for r in a], [r.accuracy() for r in b], (noise[0], noise[1]))


def settle(contrast: Contrast, studies: Studies) -> tuple[str, str]:
    """Verdict and evidence for one comparison."""
    better, than = (
        studies.get(contrast.study, {}).get(label, ()) for label in (contrast.better, contrast.than)
    )
    if not better or not than:
        return NOT_RUN, "no runs of both sides yet"
    found = compare(better, than)
    return found.word, f"{contrast.what}: {found}"


def forgetting(studies: Studies) -> tuple[str, str]:
    """The first task, right after it was learnt and after all, each among its own classes."""
    runs = [run for found in studies.get("continual", {}).values() for run in found]
    if not runs:
        return NOT_RUN, "no continual run yet"
    lost, spreads, learnt = [], [], []
    for run in runs:
        results = run.record["results"]["test"]
        accuracies, intervals = results["task_incremental"], results["task_incremental_interval"]
        lost.append(accuracies[-1][0] - accuracies[0][0])
        spreads.append((intervals[-1][0] ** 2 + intervals[0][0] ** 2) ** 0.5)
        learnt.append(accuracies[0][0] - intervals[0][0] > 100 / run.config.episodes.num_labels)
    difference, spread = sum(lost) / len(lost), sum(spreads) / len(spreads) / len(spreads) ** 0.5
    evidence = (
        f"first task, after {len(accuracies)} tasks against after one: {difference:+.1f} ± "
        f"{spread:.1f} points, {seeds(len(runs))}"
    )
    if len(runs) == 1 or not all(learnt):  # what was not learnt cannot be lost
        return UNSETTLED, evidence
    return (NOT if difference < -spread else HOLDS), evidence


def table(studies: Studies, profile: str) -> pd.DataFrame:
    """The papers' claims, what the runs of a profile say about each, and a verdict that is computed
    from them.
    """
    rows = [(contrast.text, *settle(contrast, studies)) for contrast in contrasts(profile)]
    rows.append((FORGETTING, *forgetting(studies)))
    return pd.DataFrame(rows, columns=["claim", "verdict", "evidence"])[
        ["claim", "evidence", "verdict"]
    ]
