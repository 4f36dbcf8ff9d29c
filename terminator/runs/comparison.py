"""What a study's records say: a row per variant, the learning rates that were chosen, and verdicts
from the numbers.

Tables take {label: records}, as `study.study_records` gives them; accuracies are of the last
epoch, in percent, as released. WORDS are the verdicts that can be given on a claim, in every
system.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

import pandas as pd

Records = Mapping[Any, Sequence[dict[str, Any]]]
WORDS = ("holds", "partly", "does not", "not settled", "not run")
HOLDS, PARTLY, NOT, UNSETTLED, NOT_RUN = WORDS
# a difference is called clear from here on; chance alone gets there once in twenty
STANDARD_ERRORS = 2.0


def accuracies(records: Sequence[dict[str, Any]], protocol: str = "released") -> pd.Series:
    """Test accuracies (%) of some runs."""
    return pd.Series([record["results"][protocol]["accuracy"] for record in records], dtype=float)


def variant_table(records: Records) -> pd.DataFrame:
    """One row per label: seeds, mean and standard deviation of the accuracies, parameters, seconds,
    images/s.

    A label without runs (all diverged) keeps its row, with no numbers.
    """
    rows = []
    for label, group in records.items():
        released, calibrated = accuracies(group), accuracies(group, "calibrated")
        rows.append(
            {
                "variant": label,
                "seeds": len(group),
                "accuracy": released.mean(),
                "sd": released.std(ddof=1),
                "calibrated": calibrated.mean(),
                "calibrated_sd": calibrated.std(ddof=1),
                "parameters": group[0]["parameters"] if group else None,
                "seconds": pd.Series([record["wall_s"] for record in group], dtype=float).mean(),
                "images_per_s": pd.Series(
                    [record["images_per_s"] for record in group], dtype=float
                ).mean(),
            }
        )
    return pd.DataFrame(rows).astype({"parameters": "Int64"})


def pooled_spread(table: pd.DataFrame) -> tuple[float, int]:
    """Standard deviation over seeds, pooled over all rows of a variant_table, and its degrees of
    freedom.

    Returns:
        (nan, 0) if no variant has two seeds.
    """
    several = table[table["seeds"] > 1]
    freedom = int((several["seeds"] - 1).sum())
    if not freedom:
        return math.nan, 0
    return math.sqrt(((several["seeds"] - 1) * several["sd"] ** 2).sum() / freedom), freedom


def difference_table(records: Records, reference: Any) -> pd.DataFrame:
    """variant_table with the difference to the reference (points), its standard error, and whether
    it is clear.

    The standard error comes from the spread over seeds, pooled over all variants: two seeds alone
    say little.

    Raises:
        ValueError: if the reference is no label, or has no runs.
    """
    if not records.get(reference):
        raise ValueError(
            f"reference is {reference!r}, which has no runs; allowed: "
            f"{', '.join(str(label) for label, group in records.items() if group)}"
        )
    table = variant_table(records)
    spread, _ = pooled_spread(table)
    base = table[table["variant"] == reference].iloc[0]
    table["difference"] = table["accuracy"] - base["accuracy"]
    table["standard_error"] = [
        spread * math.sqrt(1 / n + 1 / base["seeds"]) if n and label != reference else math.nan
        for label, n in zip(table["variant"], table["seeds"], strict=True)
    ]
    table["clear"] = table["difference"].abs() > STANDARD_ERRORS * table["standard_error"]
    return table


def verdict(table: pd.DataFrame, reference: Any) -> str:
    """What a difference_table lets one say, in sentences."""
    spread, freedom = pooled_spread(table)
    others = table[(table["variant"] != reference) & (table["seeds"] > 0)]
    lines = [f"{label}: every training diverged" for label in table[table["seeds"] == 0]["variant"]]
    if not freedom:
        return "\n".join(
            [*lines, "One seed per variant: no spread, so no difference can be told from chance."]
        )
    lines.append(
        f"Seeds alone move an accuracy by {spread:.2f} points (pooled standard deviation, "
        f"{freedom} degrees of freedom)."
    )
    clear = others[others["clear"]].sort_values("difference")
    lines.append(
        f"{len(clear)} of {len(others)} differences to the {reference} exceed {STANDARD_ERRORS:g} "
        f"standard errors; about {0.05 * len(others):.1f} would by chance."
    )
    for word, group in (
        ("worse", clear[clear["difference"] < 0]),
        ("better", clear[clear["difference"] > 0]),
    ):
        for row in group.itertuples():
            lines.append(f"  {word}: {row.variant} ({row.difference:+.2f} points)")
    unclear = others[~others["clear"]]["variant"]
    if len(unclear):
        lines.append(
            "No difference was found, which is not to say that there is none, for: "
            f"{', '.join(unclear)}."
        )
    return "\n".join(lines)


# -- learning rates --------------------------------------------------------------------------------


def rate_table(records: Records) -> pd.DataFrame:
    """A sweep, {(label, rate): records}: accuracy and cross entropy on the held-out images, and the
    chosen rates.

    Chosen is the highest accuracy, among equals the lowest cross entropy; `at_edge` says that it is
    the smallest or the largest rate tried, so that a better one may lie beyond.
    """
    rows = []
    for (label, rate), group in records.items():
        entropy = pd.Series([r["results"]["released"]["cross_entropy"] for r in group], dtype=float)
        rows.append(
            {
                "candidate": label,
                "rate": rate,
                "accuracy": accuracies(group).mean(),
                "cross_entropy": entropy.mean(),
            }
        )
    table = pd.DataFrame(rows)
    best = _ranked(table).drop_duplicates("candidate").set_index("candidate")["rate"]
    if missing := set(table["candidate"]) - set(best.index):
        raise ValueError(f"every rate diverged for {', '.join(sorted(missing))}; add a lower one")
    table["chosen"] = table["rate"] == table["candidate"].map(best)
    rates = table.groupby("candidate")["rate"]
    edge = (table["rate"] == rates.transform("min")) | (table["rate"] == rates.transform("max"))
    table["at_edge"] = table["chosen"] & edge & (rates.transform("size") > 1)
    return table


def ranked_rates(table: pd.DataFrame) -> dict[str, list[float]]:
    """{candidate: its learning rates, the chosen one first} of a rate_table; without those that
    diverged.
    """
    return {
        name: list(rows["rate"]) for name, rows in _ranked(table).groupby("candidate", sort=False)
    }


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    return table.dropna().sort_values(
        ["accuracy", "cross_entropy"], ascending=[False, True], kind="stable"
    )


# -- curves ----------------------------------------------------------------------------------------


def ranking(records: Records) -> str:
    """Final accuracies from best to worst, and whether the first is clear of the second, in
    sentences.
    """
    table = (
        variant_table(records).dropna(subset="accuracy").sort_values("accuracy", ascending=False)
    )
    spread, freedom = pooled_spread(
        table[:2]
    )  # theirs: one that hardly trains would hide all others' differences
    lines = [
        f"{row.variant}: {row.accuracy:.2f} %" + (f" ± {row.sd:.2f}" if row.seeds > 1 else "")
        for row in table.itertuples()
    ]
    if len(table) > 1 and freedom:
        first, second = table.iloc[0], table.iloc[1]
        error = spread * math.sqrt(1 / first["seeds"] + 1 / second["seeds"])
        lead = first["accuracy"] - second["accuracy"]
        clear = lead > STANDARD_ERRORS * error
        lines.append(
            f"{first['variant']} leads {second['variant']} by {lead:.2f} points, "
            f"{'' if clear else 'no '}more than {STANDARD_ERRORS:g} standard errors of {error:.2f}."
        )
    elif len(table) > 1:
        lines.append("One seed each: the order may be chance.")
    return "\n".join(lines)


def epochs_to(curves: Mapping[Any, Sequence[pd.DataFrame]], share: float = 0.9) -> pd.DataFrame:
    """The first epoch in which the mean curve reaches `share` of the best final accuracy of all,
    per label.

    Args:
        curves: {label: one table per run}, columns epoch and test_accuracy (%).

    Returns:
        columns variant, target (%), epoch (nothing where it is never reached).
    """
    means = {
        label: pd.concat([run.set_index("epoch")["test_accuracy"] for run in runs], axis=1).mean(
            axis=1
        )
        for label, runs in curves.items()
        if len(runs)
    }
    target = share * max(mean.iloc[-1] for mean in means.values())
    rows = [
        {
            "variant": label,
            "target": target,
            "epoch": mean.index[mean >= target][0] if (mean >= target).any() else None,
        }
        for label, mean in means.items()
    ]
    return pd.DataFrame(rows).astype({"epoch": "Int64"})


# -- two sides of a claim, in any measure ----------------------------------------------------------


class Gap(NamedTuple):
    """Difference of two means, how much of it chance explains (half-width of 95 %), and seeds on
    the smaller side.
    """

    difference: float
    spread: float
    seeds: int

    @property
    def word(self) -> str:
        """Whether the first side is above the second; a single seed on a side settles nothing."""
        if self.seeds < 2 or abs(self.difference) <= self.spread:
            return UNSETTLED
        return HOLDS if self.difference > 0 else NOT

    def __str__(self) -> str:
        return f"{self.difference:+.1f} ± {self.spread:.1f} points, {seeds(self.seeds)}"


def gap(a: Sequence[float], b: Sequence[float], noise: tuple[float, float] = (0.0, 0.0)) -> Gap:
    """Compare what the seeds of two settings reached, a against b.

    Args:
        noise: half-width (95 %) that the test examples alone leave to each mean, the least that
            chance does.
    """
    spreads = [
        max(1.96 * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0, least)
        for values, least in zip((a, b), noise, strict=True)
    ]
    return Gap(mean(a) - mean(b), math.hypot(*spreads), min(len(a), len(b)))


def seeds(count: int) -> str:
    """ "3 seeds", "one seed"."""
    return f"{count} seeds" if count > 1 else "one seed"


def mean_and_spread(mean: float, spread: float | None, digits: int = 2) -> str:
    """ "98.12 ± 0.30", or "98.12" where one seed leaves no spread."""
    if mean is None or pd.isna(mean):
        return "-"
    return f"{mean:.{digits}f}" + (
        "" if spread is None or pd.isna(spread) else f" ± {spread:.{digits}f}"
    )
