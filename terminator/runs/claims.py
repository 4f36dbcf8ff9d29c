"""What a claim is, and what can be said of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, NamedTuple

from terminator.runs.comparison import NOT_RUN, Gap, mean_and_spread
from terminator.runs.system import System

SEEDS = 2  # fewer give no verdict
Records = Sequence[dict[str, Any]]


class Verdict(NamedTuple):
    """One of comparison.WORDS, and its evidence; where there is some, with the number of runs."""

    word: str
    evidence: str = "no record yet"


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Attributes:
        system: whose.
        text: the claim.
        source: where it stands.
        notebook: that tests it, without suffix.
        verdict: from the records of `task` that are evidence.
        settles: what would settle it.
    """

    system: str
    text: str
    source: str
    notebook: str
    verdict: Callable[[Records], Verdict]
    settles: str
    task: str


PROFILES = ("paper", "laptop")  # the first whose runs say anything speaks


def finished(
    system: System, variants: Mapping[Any, Any], found: Records, profile: str
) -> dict[Any, list[Any]]:
    """The runs of named configurations among some records, {label: one per seed}."""
    of_profile = [r for r in found if r["profile"] == profile]
    return {
        label: [system.of_record(r) for r in by_seed(group).values()]
        for label, group in system.records_of(variants, of_profile).items()
    }


def first_of(judge: Callable[[str], tuple[str, str]]) -> Verdict:
    """The verdict of the first profile that has one; judge: profile to a word and the evidence."""
    for profile in PROFILES:
        word, evidence = judge(profile)
        if word != NOT_RUN:
            return Verdict(word, f"{evidence}, {profile}")
    return Verdict(NOT_RUN, evidence)


def ahead(
    system: System,
    variants: Callable[[str], Mapping[Any, Any]],
    a: Any,
    b: Any,
    compare: Callable[[list[Any], list[Any]], Gap],
) -> Callable[[Records], Verdict]:
    """Is variant a ahead of b? variants: of a profile;  compare: runs of both, from the better
    side's view.
    """

    def verdict(found: Records) -> Verdict:
        def judge(profile: str) -> tuple[str, str]:
            here = {label: config for label, config in variants(profile).items() if label in (a, b)}
            runs = finished(system, here, found, profile)
            if not runs.get(a) or not runs.get(b):
                return NOT_RUN, "no runs of both sides yet"
            gap = compare(runs[a], runs[b])
            return gap.word, f"{a} against {b}: {gap}"

        return first_of(judge)

    return verdict


def never_run(found: Records) -> Verdict:
    """For a claim whose test has no record yet that could speak to it."""
    return Verdict(NOT_RUN)


def by_seed(runs: Records) -> dict[int, dict[str, Any]]:
    """One run per seed: the same seed twice (of two experiments, say) is no second sample. The
    newest counts.
    """
    return {run["seed"]: run for run in sorted(runs, key=lambda run: run["finished"])}


def spread(values: Sequence[float]) -> str:
    """ "98.12 ± 0.30", mean and standard deviation over seeds."""
    return mean_and_spread(mean(values), deviation(values) if len(values) > 1 else None)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds; 0 where one seed leaves none."""
    return stdev(values) if len(values) > 1 else 0.0


def described(runs: Records) -> str:
    """ "3 seeds, laptop"."""
    seeds, profiles = len(by_seed(runs)), ", ".join(sorted({run["profile"] for run in runs}))
    return f"{seeds} seed{'s' if seeds > 1 else ''}, {profiles}"
