"""The papers' claims on few-shot learning as comparisons of runs, with verdicts that are computed
from the records.

Used by notebook 22 with the runs it has made, and by hypertransformer/claims.py with the records
that are there.
"""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any, NamedTuple

import pandas as pd

from terminator.hypertransformer.fewshot.presets import (
    LAYERS,
    MAIN,
    MANY_WAYS,
    UNLABELED,
    WIDTHS,
    preset,
)
from terminator.runs.claims import Verdict, everywhere, of_outcome
from terminator.runs.finished import FinishedRun
from terminator.runs.outcomes import (
    HOLDS,
    NO_WORSE,
    NOT_RUN,
    SAME,
    UNDECIDED,
    Outcome,
    Terms,
    sampled,
)
from terminator.runs.proof import compare as compare_samples

Runs = Sequence[FinishedRun]
Studies = Mapping[str, Mapping[str, Runs]]  # {study: {label: runs}}, see presets.study
FORGETTING = "later tasks do not make the continual model forget the first"
PIXELS = "nearest mean of pixels"


class Contrast(NamedTuple):
    """A claim that runs of one label do better than those of another, in every place: what it is
    called, the two labels.
    """

    text: str
    study: str
    places: tuple[tuple[str, str, str], ...]


def contrasts(profile: str) -> list[Contrast]:
    """The claims that compare two settings, with the labels that these have in a profile."""
    names = [MAIN[profile], *([MANY_WAYS[profile]] if profile in MANY_WAYS else [])]
    settings = [f"{preset(name).episodes.num_labels}-way" for name in names]
    small, most = f"{min(WIDTHS[profile])} channels", max(UNLABELED[profile])

    def against(text: str, other: str) -> Contrast:
        places = tuple((ways, f"{ways}, all layers", f"{ways}, {other}") for ways in settings)
        return Contrast(text, "methods", places)

    found = [
        against("generating all layers beats generating the logits layer alone", "logits only"),
        Contrast(
            "generating all layers beats the logits layer alone in the smallest CNN",
            "widths",
            ((small, f"all layers, {small}", f"logits only, {small}"),),
        ),
        *(
            against(f"a generated CNN beats the {other} on the same episodes", other)
            for other in ("prototypical network", PIXELS)
        ),
    ]
    for count in LAYERS[profile]:
        layers = f"{count} layer{'s' * (count > 1)}"
        place = (f"{most} unlabelled", f"{layers}, {most} unlabelled", f"{layers}, 0 unlabelled")
        text = f"unlabelled samples help ({layers} in the Transformers)"
        found.append(Contrast(text, "unlabeled", (place,)))
    return found


def compare(runs: Mapping[str, Runs], better: str, than: str) -> Outcome:
    """Test accuracies (%) of one label against another of the same study; what either has to beat
    are chance and the nearest mean of pixels, where the study has it.
    """
    ways = runs[better][0].config.episodes.num_labels
    floors = {"chance": 100 / ways}
    pixels = f"{ways}-way, {PIXELS}"
    if runs.get(pixels) and pixels not in (better, than):
        floors[PIXELS] = mean(r.accuracy() for r in runs[pixels])
    sides = [sampled([r.record for r in runs[label]], _accuracy) for label in (better, than)]
    return compare_samples(sides[0], sides[1], (better, than), Terms(floors=floors))


def _accuracy(record: Mapping[str, Any]) -> float:
    return float(record["results"]["test"]["accuracy"])


def settle(contrast: Contrast, studies: Studies) -> Verdict:
    """The verdict on one comparison, in every setting that has runs of both sides; one that lacks
    seeds leaves the whole undecided.
    """
    runs = studies.get(contrast.study, {})
    places = {
        what: compare(runs, better, than)
        for what, better, than in contrast.places
        if runs.get(better) and runs.get(than)
    }
    verdict = everywhere(places)
    few = {what: found for what, found in places.items() if found.word == UNDECIDED}
    if verdict.word in (HOLDS, SAME) and few:
        settles = "; ".join(f"{what}: {found.settles}" for what, found in few.items())
        return verdict._replace(word=UNDECIDED, said=UNDECIDED, settles=settles)
    return verdict


def forgetting(studies: Studies) -> Verdict:
    """The first task, right after it was learnt and after all, each among its own classes."""
    runs = [run for found in studies.get("continual", {}).values() for run in found]
    if not runs:
        return Verdict(NOT_RUN, "no continual run yet")
    records = [run.record for run in runs]
    chance = 100 / runs[0].config.episodes.num_labels
    first = [run.record["results"]["test"]["task_incremental"][0][0] for run in runs]
    noise = [run.record["results"]["test"]["task_incremental_interval"][0][0] for run in runs]
    learned = all(a - b > chance for a, b in zip(first, noise, strict=True))
    unlearned = "" if learned else f"the first task is not above chance ({chance:.0f} %)"
    tasks = len(records[0]["results"]["test"]["task_incremental"])
    after, before = (sampled(records, measure) for measure in (_first_at_last, _first_at_first))
    names = (f"first task after {tasks} tasks", "after one")
    return of_outcome(
        compare_samples(after, before, names, Terms(unlearned=unlearned), claim=NO_WORSE)
    )


def _first_at_last(record: Mapping[str, Any]) -> float:
    return float(record["results"]["test"]["task_incremental"][-1][0])


def _first_at_first(record: Mapping[str, Any]) -> float:
    return float(record["results"]["test"]["task_incremental"][0][0])


def table(studies: Studies, profile: str) -> pd.DataFrame:
    """The papers' claims, what the runs of a profile say about each, and a verdict that is computed
    from them.
    """
    found = [(contrast.text, settle(contrast, studies)) for contrast in contrasts(profile)]
    found.append((FORGETTING, forgetting(studies)))
    rows = [(text, verdict.evidence, verdict.said or verdict.word) for text, verdict in found]
    return pd.DataFrame(rows, columns=["claim", "evidence", "verdict"])
