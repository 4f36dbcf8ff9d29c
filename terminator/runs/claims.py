"""What a claim is, and what can be said of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from terminator.runs.outcomes import (
    HOLDS,
    NOT,
    NOT_LEARNED,
    NOT_RUN,
    SAME,
    UNDECIDED,
    Outcome,
    count_of_seeds,
)
from terminator.runs.power import LEVEL
from terminator.runs.system import System

Records = Sequence[dict[str, Any]]


class Verdict(NamedTuple):
    """One of outcomes.WORDS, and its evidence.

    said: the word with the size that belongs to it;  settles: what would settle it, computed; empty
    where that is not known.
    """

    word: str
    evidence: str = "no record yet"
    said: str = ""
    settles: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Attributes:
        system: whose.
        text: the claim.
        source: where it stands; with ASKED in it where no paper and no release claims it.
        notebook: that tests it, without suffix.
        verdict: from the records of `task` that are evidence.
        settles: what would settle it.
        under_way: whether trainings that are not finished count, with the epochs that they have.
    """

    system: str
    text: str
    source: str
    notebook: str
    verdict: Callable[[Records], Verdict]
    settles: str
    task: str
    under_way: bool = False


ASKED = "not claimed by the paper, asked by its readers"  # a source
PROFILES = ("paper", "laptop")  # the first whose runs say anything speaks


def finished(
    system: System, variants: Mapping[Any, Any], found: Records, profile: str
) -> dict[Any, list[Any]]:
    """The runs of named configurations among some records of a profile, {label: runs}."""
    of_profile = [r for r in found if r["profile"] == profile]
    return {
        label: [system.of_record(r) for r in group]
        for label, group in system.records_of(variants, of_profile).items()
    }


def first_of(judge: Callable[[str], Verdict]) -> Verdict:
    """The verdict of the first profile that has one; judge: of a profile."""
    for profile in PROFILES:
        verdict = judge(profile)
        if verdict.word != NOT_RUN:
            return verdict._replace(evidence=f"{verdict.evidence}, {profile}")
    return verdict


def of_outcome(found: Outcome) -> Verdict:
    """The verdict of one comparison."""
    if found.word == NOT_RUN:
        return Verdict(NOT_RUN, "no runs of both sides yet")
    return Verdict(found.word, str(found), found.said, found.settles)


def everywhere(places: Mapping[str, Outcome]) -> Verdict:
    """Of a claim that is made of every place: one where it does not hold (Bonferroni's correction
    over places) refutes it, it holds if it does in all. Places without a verdict for want of seeds
    or learning are told, and count if there is no other.
    """
    if not places:
        return Verdict(NOT_RUN, "no runs of both sides yet")
    if len(places) == 1:
        ((place, found),) = places.items()
        verdict = of_outcome(found)
        return verdict._replace(evidence=f"{verdict.evidence} ({place})")
    tested = {place: f for place, f in places.items() if f.test and f.word != NOT_LEARNED}
    voting = tested or dict(places)
    words = {found.word for found in voting.values()}
    refuted = [f for f in voting.values() if f.word == NOT and _surely(f, len(voting))]
    word = NOT if refuted else words.pop() if len(words) == 1 else UNDECIDED
    word = UNDECIDED if word == NOT and not refuted else word
    open_ones = {place: f for place, f in voting.items() if f.word == UNDECIDED}
    evidence = "; ".join(f"{place}: {f.said}, {f}" for place, f in places.items())
    said = next((f.said for f in voting.values() if f.word == word == SAME), "")
    settles = "; ".join(f"{place}: {f.settles}" for place, f in open_ones.items() if f.settles)
    return Verdict(word, evidence, said or word, "" if word in (HOLDS, NOT) else settles)


def _surely(found: Outcome, places: int) -> bool:
    """Whether a refutation stands when so many places are looked at."""
    return found.test is not None and found.test.p_not * places < LEVEL


# -- of measurements -------------------------------------------------------------------------------

Judges = Mapping[str, Callable[[Any], Verdict]]  # {claim: what a measurement says of it}


def judged(holds: bool | None, evidence: str, settles: str = "") -> Verdict:
    """What is read off a measurement. holds: None if it tells nothing; then settles says what
    would.
    """
    if holds is None:
        return Verdict(UNDECIDED, evidence, settles=settles)
    return Verdict(HOLDS if holds else NOT, evidence)


def measured(
    read: Callable[[str], Any], judge: Callable[[Any], Verdict]
) -> Callable[[Records], Verdict]:
    """The verdict on what was measured, in the first profile that has a record of it.

    Args:
        read: gives a profile's measurement, None where there is none; makes none.
    """

    def verdict(_: Records) -> Verdict:
        def of(profile: str) -> Verdict:
            there = read(profile)
            return Verdict(NOT_RUN, "no measurement yet") if there is None else judge(there)

        return first_of(of)

    return verdict


def verdict_rows(judges: Judges, there: Any) -> list[dict[str, str]]:
    """A row (claim, evidence, verdict) per claim that a measurement decides."""
    found = {text: judge(there) for text, judge in judges.items()}
    return [
        {"claim": text, "evidence": said.evidence, "verdict": said.said or said.word}
        for text, said in found.items()
    ]


# -- of runs ---------------------------------------------------------------------------------------


def ahead(
    system: System,
    variants: Callable[[str], Mapping[Any, Any]],
    a: Any,
    b: Any,
    compare: Callable[[Mapping[Any, list[Any]], Any, Any], Outcome],
) -> Callable[[Records], Verdict]:
    """Is variant a ahead of b? variants: of a profile;  compare: runs by label, a and b."""

    def verdict(found: Records) -> Verdict:
        def judge(profile: str) -> Verdict:
            wanted = {name: c for name, c in variants(profile).items() if name in (a, b)}
            runs = finished(system, wanted, found, profile)
            if not runs.get(a) or not runs.get(b):
                return Verdict(NOT_RUN, "no runs of both sides yet")
            return of_outcome(compare(runs, a, b))

        return first_of(judge)

    return verdict


def of_arm(
    system: System,
    variants: Callable[[str], Mapping[Any, Any]],
    label: Any,
    judge: Callable[[list[Any]], Verdict],
) -> Callable[[Records], Verdict]:
    """What the runs of one variant say by themselves. variants: of a profile."""

    def verdict(found: Records) -> Verdict:
        def of(profile: str) -> Verdict:
            wanted = {name: c for name, c in variants(profile).items() if name == label}
            runs = finished(system, wanted, found, profile).get(label)
            return judge(runs) if runs else Verdict(NOT_RUN, "no runs yet")

        return first_of(of)

    return verdict


def by_seed(runs: Records) -> dict[int, dict[str, Any]]:
    """One run per seed: the same seed twice (of two experiments, say) is no second sample. The
    newest counts.
    """
    return {run["seed"]: run for run in sorted(runs, key=lambda run: run["finished"])}


def seeds_and_profiles(runs: Records) -> str:
    """ "3 seeds, laptop"."""
    seeds, profiles = len(by_seed(runs)), ", ".join(sorted({run["profile"] for run in runs}))
    return f"{count_of_seeds(seeds)}, {profiles}"
