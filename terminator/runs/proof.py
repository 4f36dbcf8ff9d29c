"""One rule of proof: what runs of two sides let one say of a claim.

Runs of one machine, number of threads and precision are compared, in pairs where they share three
seeds (t test of the differences), by Welch's test otherwise; sameness is shown by two one-sided
tests (TOST) with a margin fixed beforehand. All tests are at 5 %. Fewer than SEEDS seeds on a side
give no verdict, nor does a task on which the better side is no better than a trivial answer, or at
its ceiling. What is said is of networks trained anew and tested on the same examples.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

import numpy as np

from terminator.runs.outcomes import (
    BETTER,
    EQUAL,
    EXAMPLES,
    HOLDS,
    NO_TERMS,
    NO_WORSE,
    NOT,
    NOT_LEARNED,
    NOT_RUN,
    SAME,
    SEEDS,
    UNDECIDED,
    Finding,
    Outcome,
    Sample,
    Terms,
    count_of_seeds,
    left_out,
    values_of,
)
from terminator.runs.power import LEVEL, Design, price

# -- two sides -------------------------------------------------------------------------------------


def compare(
    a: Sequence[Sample],
    b: Sequence[Sample],
    names: tuple[str, str] = ("a", "b"),
    terms: Terms = NO_TERMS,
    claim: str = BETTER,
    same_runs: bool = False,
) -> Outcome:
    """What samples of two sides say of the claim that a is better than b, equal to it, no worse.

    Args:
        same_runs: both sides are of the same runs, which are counted and paid for once, wherever
            they were made.
    """
    if not a or not b:
        return Outcome(NOT_RUN, names, (values_of(a), values_of(b)), terms)
    hours = [mean(s.hours for s in side) / (1 + same_runs) for side in (a, b)]
    if not {s.where for s in a} & {s.where for s in b}:
        sides = (values_of(a), values_of(b))
        return _elsewhere(Outcome(UNDECIDED, names, sides, terms), a, b, hours)
    a, b, notes = comparable(a, b, same_runs)
    sides = (values_of(a), values_of(b))
    here = Outcome(UNDECIDED, names, sides, terms, notes=notes)
    if min(map(len, sides)) < SEEDS:
        return _too_few(here, hours)
    shared = sorted({s.seed for s in a} & {s.seed for s in b})
    if len(shared) >= SEEDS:
        by_seed = [{s.seed: s.value for s in side} for side in (a, b)]
        sides = tuple(tuple(of[seed] for seed in shared) for of in by_seed)  # type: ignore[assignment]
        rest = len(a) + len(b) - 2 * len(shared)
        notes = (*notes, *left_out(rest, "without a partner"))
        here = replace(here, values=sides, notes=notes)
    return decide(here, finding_of(*sides, terms, paired=len(shared) >= SEEDS), hours, claim)


def comparable(
    a: Sequence[Sample], b: Sequence[Sample], same_runs: bool = False
) -> tuple[list[Sample], list[Sample], tuple[str, ...]]:
    """The samples of both sides on the machine that has most, and a note on what was left out; of
    the same runs, one of every seed, that of the machine that has most. See compare.
    """
    groups: dict[str, tuple[list[Sample], list[Sample]]] = defaultdict(lambda: ([], []))
    for side, samples in enumerate((a, b)):
        for sample in samples:
            groups[sample.where][side].append(sample)

    def much(where: str) -> tuple[int, int, int]:
        ours, theirs = groups[where]
        shared = {s.seed for s in ours} & {s.seed for s in theirs}
        return min(len(ours), len(theirs)), len(shared), len(ours) + len(theirs)

    if same_runs:
        rank = {where: i for i, where in enumerate(sorted(groups, key=much))}
        chosen: dict[int, str] = {}
        for sample in sorted((*a, *b), key=lambda sample: rank[sample.where]):
            chosen[sample.seed] = sample.where
        ours, theirs = ([s for s in side if s.where == chosen[s.seed]] for side in (a, b))
        return ours, theirs, left_out(len(a) - len(ours), "of the same seeds on other machines")
    best = max(sorted(groups), key=much)
    note = left_out(len(a) + len(b) - sum(map(len, groups[best])), "on other machines")
    return (*groups[best], note)


def _elsewhere(
    here: Outcome, a: Sequence[Sample], b: Sequence[Sample], hours: Sequence[float]
) -> Outcome:
    """No verdict: no machine ran both sides."""
    places = [", ".join(sorted({s.where for s in side})) for side in (a, b)]
    note = f"not compared: one side ran on {places[0]}, the other on {places[1]}"
    settles = f"{SEEDS} seeds of both sides on one machine, {price(SEEDS, [0, 0], hours)}"
    return replace(here, notes=(note,), advice=settles)


def _too_few(here: Outcome, hours: Sequence[float]) -> Outcome:
    """No verdict: too few seeds; or not learned, where not one run is above a trivial answer."""
    counts = [len(side) for side in here.values]
    note = (*here.notes, f"{count_of_seeds(min(counts))}, no verdict with fewer than {SEEDS}")
    settles = f"{SEEDS} seeds of both sides first, {price(SEEDS, counts, hours)}"
    here = replace(here, notes=note, advice=settles)
    best = [value for side in here.values for value in side]
    reason = here.terms.unlearned or _below(here.terms, best, 0.0)
    return _not_learned(here, reason) if reason else here


def finding_of(
    a: Sequence[float], b: Sequence[float], terms: Terms = NO_TERMS, paired: bool = False
) -> Finding:
    """Test a against b: of pairs (t) or not (Welch), for a difference and for sameness (TOST)."""
    sign = -1.0 if terms.lower_is_better else 1.0
    x, y = (sign * np.asarray(side, dtype=float) for side in (a, b))
    difference, margin = float(x.mean() - y.mean()), terms.margin
    spread = (x - y).std(ddof=1) if paired else math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    kind = f"paired by seed, {len(x)} seeds" if paired else f"Welch, {len(x)} and {len(y)} seeds"
    design = Design(paired, float(spread))
    if spread < 1e-9:  # without any, a t test divides by zero
        p, low, high = float(abs(difference) < 1e-9), difference, difference
        same = float(margin is None or abs(difference) >= margin)
        worse = float(margin is None or difference <= -margin)
        return Finding(kind, difference, low, high, p, same, worse, design)
    p, (low, high), (same, worse) = _paired(x - y, margin) if paired else _welch(x, y, margin)
    return Finding(kind, difference, low, high, p, same, worse, design)


_Numbers = tuple[float, tuple[float, float], tuple[float, float]]  # p, interval, p of sameness


def _paired(differences: np.ndarray, margin: float | None) -> _Numbers:
    from statsmodels.stats.weightstats import DescrStatsW

    found = DescrStatsW(differences)
    same = worse = 1.0
    if margin is not None:
        same, (_, worse, _), _ = found.ttost_mean(-margin, margin)
    return float(found.ttest_mean(0)[1]), found.tconfint_mean(LEVEL), (float(same), float(worse))


def _welch(x: np.ndarray, y: np.ndarray, margin: float | None) -> _Numbers:
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    found = CompareMeans(DescrStatsW(x), DescrStatsW(y))
    same = worse = 1.0
    if margin is not None:
        same, ((_, worse, _), _) = found.ttost_ind(-margin, margin, usevar="unequal")
    interval = found.tconfint_diff(LEVEL, usevar="unequal")
    return float(found.ttest_ind(usevar="unequal")[1]), interval, (float(same), float(worse))


def decide(here: Outcome, test: Finding, hours: Sequence[float], claim: str = BETTER) -> Outcome:
    """The outcome of a test: the gate first, then the word, and what would settle it."""
    terms = here.terms
    if claim != EQUAL and math.isnan(test.p_not):
        below = claim == NO_WORSE and terms.margin is not None
        test = test._replace(p_not=2 * (1 - test.p_worse) if below else test.p)
    here = replace(here, test=test, hours=tuple(hours))
    if reason := terms.unlearned or _unlearned(here):
        return _not_learned(here, reason)
    if reason := _at_ceiling(here):
        return replace(
            here, notes=(*here.notes, reason), advice="a harder task, or more test images"
        )
    return replace(here, word=_word(test, terms, claim))


def _word(test: Finding, terms: Terms, claim: str) -> str:
    if claim == NO_WORSE:
        below = test.high < -(terms.margin or 0.0)
        return HOLDS if test.p_worse < LEVEL else NOT if below else UNDECIDED
    if claim == EQUAL:
        beyond = max(test.low, -test.high) > (terms.margin or 0.0)
        return HOLDS if test.p_same < LEVEL else NOT if beyond else UNDECIDED
    if test.clear and abs(test.difference) >= terms.step:
        return HOLDS if test.difference > 0 else NOT
    return SAME if test.p_same < LEVEL else UNDECIDED


# -- the gate --------------------------------------------------------------------------------------


def _better(here: Outcome) -> tuple[float, ...]:
    pick = min if here.terms.lower_is_better else max
    return pick(here.values, key=mean)


def _unlearned(here: Outcome) -> str:
    """Why the better side is not surely (95 %) above every trivial answer, if so."""
    if not here.terms.floors:
        return ""
    from scipy import stats

    better = _better(here)
    error = stdev(better) / math.sqrt(len(better))
    noise = float(stats.t.ppf(1 - LEVEL, len(better) - 1)) * error
    return _below(here.terms, [mean(better)], noise, "surely ")


def _below(terms: Terms, values: Sequence[float], noise: float, how: str = "") -> str:
    if not terms.floors:
        return ""
    name = max(terms.floors, key=lambda name: terms.floors[name])
    if max(values) - noise > terms.floors[name]:
        return ""
    return f"the better side is not {how}above {name} ({terms.floors[name]:.{terms.digits}f})"


def _not_learned(here: Outcome, reason: str) -> Outcome:
    settles = f"a training in which that changes: {reason}"
    return replace(here, word=NOT_LEARNED, notes=(*here.notes, reason), advice=settles)


def _at_ceiling(here: Outcome) -> str:
    terms = here.terms
    if terms.ceiling is None or not terms.step or terms.lower_is_better:
        return ""
    if terms.ceiling - mean(_better(here)) < terms.step:
        return f"at the ceiling: fewer than {EXAMPLES} test examples of {terms.examples:,} are left"
    return ""
