"""What a comparison could have seen, and what it takes to see more: detectable differences, seeds,
core-hours.

Power is that of two-sided t tests at their level, for the spread that was observed.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.05
POWER = 0.8
MOST = 10_000  # seeds; more are not counted


class Design(NamedTuple):
    """How two sides are compared: in pairs or not, the spread that counts, the level of a test.

    spread: standard deviation of the differences of pairs, or of one side's values.
    """

    paired: bool
    spread: float
    level: float = LEVEL

    def power(self, difference: float, seeds: int) -> float:
        """The chance of telling a true difference, and its sign, with so many seeds on each side:
        the tail of a noncentral t distribution.
        """
        from scipy import stats

        if self.spread == 0:
            return 1.0
        effect = difference / self.spread
        if effect * math.sqrt(seeds) > 40:  # certain; the noncentral t distribution overflows
            return 1.0
        freedom = seeds - 1 if self.paired else 2 * (seeds - 1)
        shift = effect * math.sqrt(seeds if self.paired else seeds / 2)
        return float(stats.nct.sf(stats.t.isf(self.level / 2, freedom), freedom, shift))

    def detectable(self, seeds: int) -> float:
        """The least true difference that so many seeds show with a chance of POWER."""
        low, high = 0.0, self.spread
        while self.power(high, seeds) < POWER:
            low, high = high, 2 * high
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self.power(middle, seeds) >= POWER else (middle, high)
        return high

    def seeds_for(self, difference: float) -> int:
        """The seeds on each side that show a difference with a chance of POWER, at most MOST."""
        low, high = 2, 3
        while high < MOST and self.power(difference, high) < POWER:
            low, high = high, min(2 * high, MOST)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(difference, middle) >= POWER else (middle, high)
        return high


def core_hours(wall_s: float, device: str) -> float:
    """Hours of one core that a training took; of one GPU, where the device names no threads."""
    threads = re.search(r", (\d+) threads?$", device)
    return wall_s / 3600 * (int(threads[1]) if threads else 1)


def price(seeds: int, here: Sequence[int], hours: Sequence[float]) -> str:
    """ "2.1 core-hours more": what the seeds that are missing on each side take.

    Args:
        seeds: wanted on each side.
        here: that each side has.
        hours: of a run, per side.
    """
    missing = [max(seeds - count, 0) * each for count, each in zip(here, hours, strict=True)]
    total = sum(missing)
    return f"{total:.2g} core-hours more" if total < 100 else f"{total:,.0f} core-hours more"


def announced(seeds: int, spread: float, of: str, paired: bool = True, comparisons: int = 1) -> str:
    """What a study can be expected to show, to be said before its result.

    Args:
        seeds: on each side.
        spread: standard deviation of the differences of pairs, or of one side's values (points).
        of: what that spread was seen in.
        comparisons: made together, by Bonferroni's correction.
    """
    seen = Design(paired, spread, LEVEL / comparisons).detectable(seeds)
    kind = f"{seeds} pairs of seeds" if paired else f"{seeds} seeds a side"
    many = f" in each of {comparisons} comparisons" if comparisons > 1 else ""
    return (
        f"{kind}, with a standard deviation of {spread:.2f} points ({of}), show "
        f"{seen:.1f} points{many} with a chance of {POWER:.0%}"
    )
