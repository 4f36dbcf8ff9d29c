"""Many variants against one reference, and one pair of networks on the same test images.

Error rates are those of the whole table: Dunnett's test (scipy.stats.dunnett) where spreads are
alike, else Holm's correction of Welch's tests or of tests in pairs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import mean, variance
from typing import Any, NamedTuple

from terminator.runs.outcomes import (
    NO_TERMS,
    UNDECIDED,
    Finding,
    Outcome,
    Sample,
    Terms,
    left_out,
    values_of,
)
from terminator.runs.power import LEVEL, Design
from terminator.runs.proof import compare, decide, finding_of

DUNNETT, HOLM = "Dunnett", "Holm"
ALIKE = 0.05  # Levene's test of equal spreads, below which Dunnett's does not apply


class Family(NamedTuple):
    """The method that was used for all, the outcome of every variant against the reference, and of
    how many runs each is, on the side that has fewer.
    """

    method: str
    outcomes: dict[Any, Outcome]
    compared: dict[Any, int]


def against_reference(
    variants: Mapping[Any, Sequence[Sample]],
    reference: Sequence[Sample],
    name: Any,
    terms: Terms = NO_TERMS,
    method: str = DUNNETT,
) -> Family:
    """Every variant against the reference, each of the claim that the variant is better.

    Args:
        name: the reference's.
        method: DUNNETT gives way to HOLM where spreads differ.

    Intervals are those of the whole family with Dunnett, of each comparison with Holm. The machine
    is that on which the reference has most seeds.
    """
    where = _machine(variants.values(), reference)
    base = [sample for sample in reference if sample.where == where]
    kept = {
        label: [sample for sample in samples if sample.where == where] or list(samples)
        for label, samples in variants.items()
    }
    single = {
        label: compare(samples, base, (str(label), str(name)), terms)
        for label, samples in kept.items()
    }
    tests = {label: found.test for label, found in single.items() if found.test is not None}
    if len(tests) > 1:
        sides = {label: values_of(kept[label]) for label in tests}
        if method == DUNNETT and not _alike([*sides.values(), values_of(base)]):
            method = HOLM
        tests = _dunnett(sides, values_of(base), terms) if method == DUNNETT else _corrected(tests)
        same = holm([test.p_same for test in tests.values()])
        for (label, test), p_same in zip(tests.items(), same, strict=True):
            design = test.design._replace(level=LEVEL / len(tests))
            test = test._replace(p_same=p_same, design=design)
            values = single[label].values if method == HOLM else (sides[label], values_of(base))
            # with Holm the test is that of the two sides alone, and so are its notes
            notes = single[label].notes if method == HOLM else ()
            here = Outcome(UNDECIDED, single[label].names, values, terms)
            hours = [mean(sample.hours for sample in side) for side in (kept[label], base)]
            found = decide(here, test, hours)
            single[label] = replace(found, notes=tuple(dict.fromkeys((*notes, *found.notes))))
    else:
        method = "one comparison"
    elsewhere = {k: len(variants[k]) - len(kept[k]) + len(reference) - len(base) for k in single}
    counts = {k: sum(s.where == where for s in samples) for k, samples in variants.items()}
    return Family(
        method,
        {k: _with_note(v, elsewhere[k]) for k, v in single.items()},
        {k: min(count, len(base)) for k, count in counts.items()},
    )


def _machine(variants: Iterable[Sequence[Sample]], reference: Sequence[Sample]) -> str:
    """Where the reference and the variants have most seeds."""
    everywhere = [sample.where for samples in variants for sample in samples]
    own = [sample.where for sample in reference]
    return max(sorted(set(own)), key=lambda where: (own.count(where), everywhere.count(where)))


def _with_note(found: Outcome, left: int) -> Outcome:
    return replace(found, notes=(*found.notes, *left_out(left, "on other machines")))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number, as statsmodels' multipletests does, which collects the
    garbage of the whole process at every call.
    """
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def _alike(sides: Sequence[Sequence[float]]) -> bool:
    from scipy import stats

    if min(len(set(side)) for side in sides) < 2:
        return False
    return bool(stats.levene(*sides).pvalue >= ALIKE)


def _corrected(tests: Mapping[Any, Finding]) -> dict[Any, Finding]:
    adjusted = holm([test.p for test in tests.values()])
    return {
        label: test._replace(p=p, p_not=p, kind=f"{test.kind}, {HOLM} over {len(tests)}")
        for (label, test), p in zip(tests.items(), adjusted, strict=True)
    }


def _dunnett(
    sides: Mapping[Any, tuple[float, ...]], base: tuple[float, ...], terms: Terms
) -> dict[Any, Finding]:
    everything = [*sides.values(), base]
    freedom = sum(map(len, everything)) - len(everything)
    spread = math.sqrt(sum((len(x) - 1) * variance(x) for x in everything) / freedom)
    most = _critical(tuple(map(len, sides.values())), len(base))
    found = {}
    for label, side in sides.items():
        single = finding_of(side, base, terms)
        error = spread * math.sqrt(1 / len(side) + 1 / len(base))
        found[label] = single._replace(
            kind=f"{DUNNETT} over {len(sides)} comparisons, {len(side)} against {len(base)} seeds",
            low=single.difference - most * error,
            high=single.difference + most * error,
            p=math.nan,
            p_not=min(1.0, len(sides) * _two_sided(single.difference, error, freedom)),
            p_same=_same(single.difference, error, freedom, terms.margin),
            design=Design(False, spread),
        )
    return found


def _two_sided(difference: float, error: float, freedom: int) -> float:
    from scipy import stats

    if error < 1e-9:
        return float(abs(difference) < 1e-9)
    return float(2 * stats.t.sf(abs(difference) / error, freedom))


def _same(difference: float, error: float, freedom: int, margin: float | None) -> float:
    """p of a difference beyond the margin (TOST), by the spread that all sides have in common."""
    from scipy import stats

    if margin is None or error < 1e-9:
        return float(margin is None or abs(difference) >= margin)
    return float(stats.t.sf((margin - abs(difference)) / error, freedom))


@lru_cache(maxsize=256)
def _critical(counts: tuple[int, ...], base: int) -> float:
    """The standard errors beyond which a difference is clear, from scipy.stats.dunnett on samples
    of these sizes: their values do not matter.
    """
    import numpy as np
    from scipy import stats

    sides = [np.arange(count) % 2.0 for count in (*counts, base)]
    result = stats.dunnett(*sides[:-1], control=sides[-1], rng=np.random.default_rng(0))
    half = result.confidence_interval(1 - LEVEL).high[0] - (sides[0].mean() - sides[-1].mean())
    freedom = sum(counts) + base - len(sides)
    spread = math.sqrt(sum(len(x) * x.var() for x in sides) / freedom)
    return float(half / (spread * math.sqrt(1 / counts[0] + 1 / base)))


# -- two networks on the same images ---------------------------------------------------------------


class Pair(NamedTuple):
    """Two networks on the same images: how many only one of them gets right, and McNemar's p."""

    only_first: int
    only_second: int
    images: int
    p: float

    def __str__(self) -> str:
        difference = 100 * (self.only_first - self.only_second) / self.images
        word = "differ" if self.p < LEVEL else "not told apart"
        return (
            f"{self.only_first} of {self.images:,} images right by the first alone, "
            f"{self.only_second} by the second alone: {difference:+.2f} points, {word} "
            f"(McNemar, p = {self.p:.2g})"
        )


def on_same_images(first: Sequence[bool], second: Sequence[bool]) -> Pair:
    """Whether two networks differ on these images (exact McNemar test), each image right or not.

    Raises:
        ValueError: if there are not as many answers of both.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    if len(first) != len(second) or not len(first):
        raise ValueError(
            f"answers are {len(first)} and {len(second)}; allowed: as many of both, one at least"
        )
    table = [[0, 0], [0, 0]]
    for one, other in zip(first, second, strict=True):
        table[not one][not other] += 1
    only_first, only_second = table[0][1], table[1][0]
    return Pair(only_first, only_second, len(first), float(mcnemar(table, exact=True).pvalue))
