"""Every global mixer in one frame on the context task: what notebook 20 shows of it, and the claims
on Terminator's operator that it decides.

Each mixer has the learning rate of RATES that was best on validation pictures (`rate_table`); test
pictures chose nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import stdev
from typing import Any

import pandas as pd
import torch

from terminator.data.pictures.context import CLASSES, RANGE, SIZES, draw_context, prototypes
from terminator.hamburger.segmentation.presets import (
    CONTEXT_SEEDS,
    CONVOLUTION,
    LARGE,
    LINEAR,
    MATRIX,
    MEAN,
    MIXER_RATES,
    MIXERS,
    RATES,
    mixer_arms,
)
from terminator.hamburger.segmentation.runs import SEGMENTATION, SegmentationRun
from terminator.hamburger.segmentation.tasks import confusion_matrix, scores
from terminator.runs import power
from terminator.runs.outcomes import SEEDS, Outcome, Terms, count_of_seeds, sampled
from terminator.runs.proof import compare as compare_samples
from terminator.runs.study import Study, run_study, study_records

Runs = Mapping[str, Sequence[SegmentationRun]]
SINGLE = "the most probable answer to single pixels"
READINGS = {MATRIX: "matrix product", CONVOLUTION: "convolution"}
CLAIMS = tuple(  # claim, the mixer that is better if it is true, the one it is compared with
    (text.format(reading), mixer, other)
    for other, text in (
        (LINEAR, "the global operator as a {} brings context where only context can help"),
        (
            MEAN,
            "the global operator as a {} brings more context than a mean over all positions, where "
            "places say nothing",
        ),
    )
    for mixer, reading in READINGS.items()
) + (
    (
        "the global operator as a convolution brings more context than a depth-wise convolution of "
        "31x31, where places say nothing",
        CONVOLUTION,
        LARGE,
    ),
)


def study(profile: str) -> Study:
    """Every mixer at its own rate."""
    return Study(MIXERS, mixer_arms(profile), CONTEXT_SEEDS[profile])


def runs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> Runs:
    """The runs, {label: one per seed}."""
    return run_study(SEGMENTATION, study(profile), profile, seeds, device)


def rate_table(profile: str) -> pd.DataFrame:
    """mIoU (%) on validation pictures of every mixer (row) at every rate (column), one seed, from
    the records that are there.
    """
    rows: dict[str, dict[float, float]] = {}
    for rate in RATES:
        sweep = Study(f"{MIXERS}-rates", mixer_arms(profile, rate), (0,))
        for label, found in study_records(SEGMENTATION, sweep, profile).items():
            for record in found:
                rows.setdefault(label, {})[rate] = record["results"]["val"]["miou"]
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(RATES))
    return table.reindex([label for label in MIXER_RATES if label in rows])


@lru_cache(maxsize=1)
def bounds() -> dict[str, float]:
    """mIoU (%) of the most probable answers on the test pictures: to single pixels, and knowing
    which classes a picture has (576 pixels tell).
    """
    pictures, seed = SIZES["test"], 1 + list(SIZES).index("test")  # as the data are drawn
    images, labels = (torch.from_numpy(part).long() for part in draw_context(pictures, seed))
    points = images * (2 * RANGE / 255) - RANGE  # (N, 6, 24, 24)
    centres = torch.from_numpy(prototypes())[None, :, :, None, None]  # (1, 8, 6, 1, 1)
    nearness = -(points[:, None] - centres).square().sum(2)  # (N, 8, 24, 24), of one noise for all
    there = torch.zeros(pictures, CLASSES, dtype=torch.bool).scatter(1, labels.flatten(1), True)
    known = nearness.masked_fill(~there[:, :, None, None], -torch.inf)
    answers = {SINGLE: nearness, "knowing the picture's classes": known}
    return {
        name: scores(confusion_matrix(of.argmax(1), labels, CLASSES))["miou"]
        for name, of in answers.items()
    }


def announced(profile: str, context: Mapping[str, Sequence[SegmentationRun]]) -> str:
    """The difference that the study can be expected to show, from the spread of two arms of the
    context study; before any result.
    """
    seeds = len(CONTEXT_SEEDS[profile])
    first, second = (
        {r.record["seed"]: r.miou() for r in context.get(name, ())}
        for name in ("pooling", "self-attention")
    )
    pairs = first.keys() & second.keys()
    if min(len(pairs), seeds) < SEEDS:
        count = count_of_seeds(min(len(pairs), seeds))
        return f"{count} of both arms: no verdict, whatever the difference"
    spread = stdev(first[seed] - second[seed] for seed in sorted(pairs))
    return power.announced(seeds, spread, "of attention less pooling, above")


def compare(found: Runs, a: str, b: str) -> Outcome:
    """mIoU (%) of arm a of a study of segmentation against b; what either has to beat is an answer
    of one class everywhere, and on the context task what single pixels tell; that the task can be
    learned in a frame other mixers show.
    """
    data = found[a][0].record["data"]
    floors = {"one class everywhere (at most)": 100 / len(data["classes"])}
    if data.get("name") == "context":
        floors[SINGLE] = bounds()[SINGLE]
    sides = [sampled([r.record for r in found[label]], _miou) for label in (a, b)]
    return compare_samples(sides[0], sides[1], (a, b), Terms(floors=floors))


def _miou(record: Mapping[str, Any]) -> float:
    return float(record["results"][SEGMENTATION.judged_by(dict(record))]["miou"])


def claims(found: Runs) -> pd.DataFrame:
    """The claims, what the runs say about each, and a verdict that is computed from them."""
    return verdicts((text, found, a, b) for text, a, b in CLAIMS)


def verdicts(claimed: Iterable[tuple[str, Runs, str, str]]) -> pd.DataFrame:
    """A row per claim (text, runs, arm that is better if it is true, the one it is compared with)
    that has runs of both.
    """
    rows = []
    for text, found, a, b in claimed:
        if found.get(a) and found.get(b):
            outcome = compare(found, a, b)
            rows.append({"claim": text, "evidence": str(outcome), "verdict": outcome.said})
    return pd.DataFrame(rows, columns=["claim", "evidence", "verdict"])
