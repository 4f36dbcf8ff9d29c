"""Whether runs reach a number: a published one, or a bound; by the interval of our mean."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

from terminator.runs.outcomes import (
    HOLDS,
    NO_TERMS,
    NOT,
    NOT_RUN,
    SEEDS,
    UNDECIDED,
    Finding,
    Outcome,
    Sample,
    Terms,
    count_of_seeds,
    left_out,
)
from terminator.runs.power import LEVEL, Design, price


def against_number(
    samples: Sequence[Sample],
    number: float,
    names: tuple[str, str],
    terms: Terms = NO_TERMS,
    below: bool = False,
) -> Outcome:
    """Whether a mean is at least a number less the margin, by its 95 % interval (t).

    Args:
        names: of the samples, and of the number.
        terms: a margin of None is 0.
        below: whether it is at most the number and the margin instead.
    """
    if not samples:
        return Outcome(NOT_RUN, names, ((), (number,)), terms)
    machines = Counter(sample.where for sample in samples)
    where = max(sorted(machines), key=lambda name: machines[name])
    left = len(samples) - machines[where]
    notes = left_out(left, "on other machines")
    samples = [sample for sample in samples if sample.where == where]
    values = tuple(sample.value for sample in samples)
    hours = mean(sample.hours for sample in samples)
    shown = replace(terms, lower_is_better=below)
    here = Outcome(UNDECIDED, names, (values, (number,)), shown, notes=notes)
    if len(values) < SEEDS:
        few = f"{count_of_seeds(len(values))}, no verdict with fewer than {SEEDS}"
        settles = f"{SEEDS} seeds first, {price(SEEDS, [len(values)], [hours])}"
        return replace(here, notes=(*notes, few), advice=settles)
    return _by_interval(here, number, hours, below)


def _by_interval(here: Outcome, number: float, hours: float, below: bool) -> Outcome:
    from scipy import stats

    values, terms = here.values[0], here.terms
    spread, count = stdev(values), len(values)
    half = float(stats.t.ppf(1 - LEVEL / 2, count - 1)) * spread / math.sqrt(count)
    difference, margin = mean(values) - number, terms.margin or 0.0
    design = Design(True, spread)
    kind = f"t, {count} seeds"
    low, high = difference - half, difference + half
    beyond = difference - margin if below else -difference - margin  # where the claim is wrong
    error = max(spread / math.sqrt(count), 1e-12)
    p_not = min(1.0, 2 * float(stats.t.sf(beyond / error, count - 1)))
    test = Finding(kind, difference, low, high, math.nan, 1.0, 1.0, design, p_not)
    here = replace(here, test=test, hours=(hours,))
    reached, missed = low >= -margin, high < -margin
    if below:
        reached, missed = high <= margin, low > margin
    if reached or missed:
        return replace(here, word=HOLDS if reached else NOT)
    return here
