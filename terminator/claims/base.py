"""What a claim is, and what can be said of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

from terminator import records

HOLDS, PARTLY, NOT, UNSETTLED, NOT_RUN = WORDS = ("holds", "partly", "does not", "not settled", "not run")
SEEDS = 2  # fewer give no verdict
Records = Sequence[dict[str, Any]]


class Verdict(NamedTuple):
    """One of WORDS, and the evidence for it in words; where there is some, with the number of runs."""

    word: str
    evidence: str = "no record yet"


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    system: whose;  text: the claim;  source: where it stands;  notebook: that tests it, without suffix;
    verdict: from the records of `task` that are evidence;  settles: what would settle it.
    """

    system: str
    text: str
    source: str
    notebook: str
    verdict: Callable[[Records], Verdict]
    settles: str
    task: str = records.CLASSIFICATION


def never_run(found: Records) -> Verdict:
    """For a claim whose test has no record yet that could speak to it."""
    return Verdict(NOT_RUN)


def by_seed(runs: Records) -> dict[int, dict[str, Any]]:
    """One run per seed: the same seed twice (of two experiments, say) is no second sample. The newest counts."""
    return {run["seed"]: run for run in sorted(runs, key=lambda run: run["finished"])}


def spread(values: Sequence[float]) -> str:
    """"98.12 ± 0.30", mean and standard deviation over seeds."""
    return records.mean_and_spread(mean(values), deviation(values) if len(values) > 1 else None)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds; 0 where one seed leaves none."""
    return stdev(values) if len(values) > 1 else 0.0


def described(runs: Records) -> str:
    """"3 seeds, laptop"."""
    seeds, profiles = len(by_seed(runs)), ", ".join(sorted({run["profile"] for run in runs}))
    return f"{seeds} seed{'s' if seeds > 1 else ''}, {profiles}"
