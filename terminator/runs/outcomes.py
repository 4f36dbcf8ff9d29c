"""What a comparison is made of and what it says: samples, terms fixed beforehand, one set of words.

Source of the rule that leads from one to the other: proof.py.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import Any, NamedTuple

from terminator.runner.verdicts import SEEDS, WORDS
from terminator.runs.power import LEVEL, MOST, POWER, Design, core_hours, price

HOLDS, NOT, SAME, UNDECIDED, NOT_LEARNED, NOT_RUN = WORDS
BETTER, EQUAL, NO_WORSE = "better", "equal", "no worse"  # what can be claimed of a side
EXAMPLES = 2  # test examples: a smaller difference is none


class Sample(NamedTuple):
    """What one run reached: its seed, the value, where it ran, and the core-hours it took."""

    seed: int
    value: float
    where: str
    hours: float


def measured(by_seed: Mapping[int, float]) -> list[Sample]:
    """Samples of what was measured after the training, {seed: value}, machine and price aside."""
    return [Sample(int(seed), float(value), "", 0.0) for seed, value in by_seed.items()]


def sampled(
    runs: Iterable[Mapping[str, Any]],
    measure: Callable[[Any], float],
    whatever_precision: bool = False,
) -> list[Sample]:
    """One sample per machine and seed from records; of the same seed twice the newest counts.

    Args:
        measure: record to value.
        whatever_precision: precisions are what is compared, so they may differ.
    """
    found: dict[tuple[str, int], Sample] = {}
    for run in sorted(runs, key=lambda run: run.get("finished", "")):
        device, precision = run.get("device", ""), run.get("precision", "float32")
        where = device if whatever_precision or not device else f"{device}, {precision}"
        hours = core_hours(run.get("wall_s", 0.0), device)
        found[where, run["seed"]] = Sample(run["seed"], float(measure(run)), where, hours)
    return sorted(found.values())


def values_of(samples: Iterable[Sample]) -> tuple[float, ...]:
    """What was reached, alone."""
    return tuple(sample.value for sample in samples)


@dataclass(frozen=True)
class Terms:
    """What is fixed before a comparison.

    Attributes:
        margin: a smaller difference is called none; nothing where no such size is known.
        worth: the claimed difference, or that by which the price of settling it is computed.
        floors: {trivial answer: what it reaches}; the better side has to be above all of them.
        unlearned: why neither side has learned, where that is known otherwise.
        examples: test examples behind a percentage.
        ceiling: the most that can be reached.
        lower_is_better: of the measure.
    """

    margin: float | None = 1.0
    worth: float = 1.0
    floors: Mapping[str, float] = field(default_factory=dict)
    unlearned: str = ""
    examples: int | None = None
    ceiling: float | None = 100.0
    lower_is_better: bool = False
    unit: str = "points"
    digits: int = 1

    @property
    def step(self) -> float:
        """What EXAMPLES test examples are worth."""
        return EXAMPLES * 100 / self.examples if self.examples else 0.0

    def amount(self, value: float) -> str:
        """ "1 point", "0.5 points"."""
        return f"{value:g} {self.unit.removesuffix('s') if value == 1 else self.unit}"


NO_TERMS = Terms()


class Finding(NamedTuple):
    """A test of two sides: how it was made, their difference and its interval.

    p: of no difference (nan where only the interval is known);  p_same, p_worse: of a difference
    beyond the margin on any side, and below it (one-sided);  p_not: of the claim, two-sided, for
    whoever makes many tests of it (nan where it is not known).
    """

    kind: str
    difference: float
    low: float
    high: float
    p: float
    p_same: float
    p_worse: float
    design: Design
    p_not: float = math.nan

    @property
    def clear(self) -> bool:
        """Whether there is a difference."""
        return self.low > 0 or self.high < 0 if math.isnan(self.p) else self.p < LEVEL

    @property
    def sameness(self) -> str:
        """What shows that there is none beyond the margin, which the interval alone does not."""
        return f"TOST p = {self.p_same:.2g}"


@dataclass(frozen=True)
class Outcome:
    """What a comparison says: a word of WORDS, and all that stands behind it."""

    word: str
    names: tuple[str, str]
    values: tuple[tuple[float, ...], tuple[float, ...]]
    terms: Terms = NO_TERMS
    test: Finding | None = None
    hours: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    advice: str = ""

    @property
    def seeds(self) -> int:
        """Of the smaller side."""
        sides = self.values[: len(self.hours)] if self.hours else self.values
        return min(map(len, sides))

    @property
    def detectable(self) -> float:
        """The true difference that this study would have seen, as power.Design says; else nan."""
        if self.word != UNDECIDED or self.test is None or self.advice:
            return math.nan
        return self.test.design.detectable(self.seeds)

    @property
    def settles(self) -> str:
        """What would settle it, and what that takes; empty where it is settled, or not run."""
        if self.word != UNDECIDED or self.test is None or self.advice:
            return self.advice
        counts = [len(side) for side in self.values][: len(self.hours)]
        worth = self.terms.worth
        if self.test.design.spread == 0:  # any number of seeds would show any difference
            return ""
        while (seeds := self.test.design.seeds_for(worth)) <= min(counts):
            worth /= 2  # what it could have seen it has not: a smaller difference is the question
        many = f"more than {MOST:,}" if seeds >= MOST else f"{seeds:,}"
        both = " of both sides" if len(counts) > 1 else ""
        return (
            f"{many} seeds{both} show {self.terms.amount(worth)} with a chance of "
            f"{POWER:.0%}, {price(seeds, counts, self.hours)}"
        )

    @property
    def said(self) -> str:
        """The word, with the size that belongs to it."""
        if self.word == SAME:
            assert self.terms.margin is not None  # beyond which none was shown
            return f"{SAME} beyond {self.terms.amount(self.terms.margin)}"
        if not math.isnan(seen := self.detectable):
            digits, unit = self.terms.digits, self.terms.unit
            return f"{UNDECIDED} (this study would have seen {seen:.{digits}f} {unit})"
        return self.word

    def turned(self) -> "Outcome":
        """The same from the other side's view, of the claim that a side is better."""
        test = self.test and self.test._replace(
            difference=-self.test.difference, low=-self.test.high, high=-self.test.low
        )
        return replace(
            self,
            word={HOLDS: NOT, NOT: HOLDS}.get(self.word, self.word),
            names=self.names[::-1],
            values=self.values[::-1],
            test=test,
            hours=self.hours[::-1] if len(self.hours) == len(self.values) else self.hours,
        )

    def __str__(self) -> str:
        """The evidence in one line: both sides, their difference with its interval, and notes."""
        digits, sides = self.terms.digits, []
        for name, values in zip(self.names, self.values, strict=True):
            sides.append(f"{name} {values_text(values, digits)}".strip())
        parts = [" against ".join(sides)]
        if self.test is not None:
            d, low, high = self.test.difference, self.test.low, self.test.high
            parts.append(
                f"{d:+.{digits}f} {self.terms.unit}, 95 % interval {low:+.{digits}f} to "
                f"{high:+.{digits}f} ({self.test.kind})"
                + (f", {self.test.sameness}" if self.word == SAME else "")
            )
        return "; ".join([*parts, *self.notes])


def values_text(values: Sequence[float], digits: int = 2) -> str:
    """ "98.12 ± 0.30" (standard deviation over seeds); fewer than SEEDS values one by one."""
    if not len(values):
        return "-"
    if len(values) < SEEDS:
        return " and ".join(f"{value:.{digits}f}" for value in values)
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def left_out(count: int, why: str) -> tuple[str, ...]:
    """ "1 run on other machines left out", as a note; none for none."""
    return (f"{count} run{'s' * (count > 1)} {why} left out",) if count else ()


def count_of_seeds(count: int) -> str:
    """ "3 seeds", "one seed"."""
    return f"{count} seeds" if count != 1 else "one seed"
