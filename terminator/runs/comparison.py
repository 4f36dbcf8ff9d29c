"""What a study's records say: a row per variant, the learning rates that were chosen, and verdicts
from the numbers.

Tables take {label: records}, as `study.study_records` gives them; accuracies are of the last
epoch, in percent, as released. Verdicts follow the rule of proof.py.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import pandas as pd

from terminator.runs import families
from terminator.runs.outcomes import (
    EQUAL,
    HOLDS,
    NOT,
    NOT_LEARNED,
    SAME,
    SEEDS,
    UNDECIDED,
    Outcome,
    Sample,
    Terms,
    sampled,
    values_text,
)
from terminator.runs.power import LEVEL
from terminator.runs.proof import compare

ByLabel = Mapping[Any, Sequence[dict[str, Any]]]


def accuracy_of(record: Mapping[str, Any], protocol: str = "released") -> float:
    """Test accuracy (%) of a run."""
    return float(record["results"][protocol]["accuracy"])


def accuracies(records: Sequence[dict[str, Any]], protocol: str = "released") -> pd.Series:
    """Test accuracies (%) of some runs."""
    return pd.Series([accuracy_of(record, protocol) for record in records], dtype=float)


def accuracy_terms(record: Mapping[str, Any]) -> Terms:
    """What is fixed for accuracies on a record's data: chance is the floor, its test images the
    step.
    """
    classes = record.get("data", {}).get("classes", ())
    floors = {"chance": 100 / len(classes)} if classes else {}
    return Terms(floors=floors, examples=record["results"]["released"].get("images"))


def of_examples(accuracy: float, examples: int) -> float:
    """Half the 95 % interval (points) that so many test examples leave to an accuracy (%), by the
    normal approximation.
    """
    share = accuracy / 100
    return 196 * math.sqrt(max(share * (1 - share), 0) / examples)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over seeds; nan for fewer than SEEDS, whose values are to be shown."""
    return float(pd.Series(values, dtype=float).std(ddof=1)) if len(values) >= SEEDS else math.nan


def variant_table(records: ByLabel) -> pd.DataFrame:
    """One row per label: seeds, mean and standard deviation of the accuracies (of SEEDS or more),
    parameters, seconds, images/s, and the accuracies in words.

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
                "sd": deviation(released),
                "calibrated": calibrated.mean(),
                "calibrated_sd": deviation(calibrated),
                "parameters": group[0]["parameters"] if group else None,
                "seconds": pd.Series([record["wall_s"] for record in group], dtype=float).mean(),
                "images_per_s": pd.Series(
                    [record["images_per_s"] for record in group], dtype=float
                ).mean(),
                "values": values_text(list(released)),
            }
        )
    return pd.DataFrame(rows).astype({"parameters": "Int64"})


# -- differences to a reference --------------------------------------------------------------------


def family(records: ByLabel, reference: Any) -> families.Family:
    """Every variant's accuracy against the reference's, see families.against_reference.

    Raises:
        ValueError: if the reference is no label, or has no runs.
    """
    if not records.get(reference):
        raise ValueError(
            f"reference is {reference!r}, which has no runs; allowed: "
            f"{', '.join(str(label) for label, group in records.items() if group)}"
        )
    samples = {label: sampled(group, accuracy_of) for label, group in records.items()}
    others = {label: found for label, found in samples.items() if label != reference}
    terms = accuracy_terms(records[reference][0])
    return families.against_reference(others, samples[reference], reference, terms)


def difference_table(records: ByLabel, reference: Any) -> pd.DataFrame:
    """variant_table with the difference to the reference (points), its 95 % interval, and what that
    says of the claim that the variant is better; of runs on one machine, all tests together at 5 %.
    `compared` is the number of these runs, on the side that has fewer.

    Raises:
        ValueError: if the reference is no label, or has no runs.
    """
    found, table = family(records, reference), variant_table(records)
    rows = [
        {"compared": found.compared.get(label), **_difference(found.outcomes.get(label))}
        for label in table["variant"]
    ]
    table = table.join(pd.DataFrame(rows, index=table.index).astype({"compared": "Int64"}))
    table.loc[table["variant"] == reference, "difference"] = 0.0
    return table


def _difference(found: Outcome | None) -> dict[str, Any]:
    """The columns that one outcome fills; without a test the difference of the means alone."""
    if found is None:
        nothing = {"difference": math.nan, "low": math.nan, "high": math.nan, "clear": False}
        return {**nothing, "word": "", "verdict": "", "test": "", "what would settle it": ""}
    test, both = found.test, all(found.values)
    difference = mean(found.values[0]) - mean(found.values[1]) if both else math.nan
    return {
        "difference": test.difference if test else difference,
        "low": test.low if test else math.nan,
        "high": test.high if test else math.nan,
        "clear": found.word in (HOLDS, NOT),
        "word": found.word,
        "verdict": found.said,
        "test": test.kind if test else "; ".join(found.notes),
        "what would settle it": found.settles,
    }


def seeds_compared(table: pd.DataFrame) -> str:
    """ "n = 7 on one machine": the seeds that the differences of a difference_table are of, on the
    side that has fewer.
    """
    counts = sorted(set(table["compared"].dropna()) - {0}) or [0]
    return f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} on one machine"


_SAID = {
    HOLDS: "better",
    NOT: "worse",
    SAME: "",  # as the verdict says it: with its margin
    UNDECIDED: "undecided",
    NOT_LEARNED: "not learned",
}


def verdict(table: pd.DataFrame, reference: Any) -> str:
    """What a difference_table lets one say, in sentences."""
    lines = [f"{label}: every training diverged" for label in table[table["seeds"] == 0]["variant"]]
    others = table[(table["variant"] != reference) & (table["seeds"] > 0)]
    tests = sorted({kind.split(",")[0] for kind in others["test"][others["low"].notna()]})
    lines.append(
        f"{len(others)} variants against the {reference} (seeds: "
        f"{', '.join(sorted({str(n) for n in table['seeds']}))}), "
        + (f"tests: {', '.join(tests)}, wrong in at most one of 20 such tables." if tests else "")
        + ("" if tests else f"none with {SEEDS} seeds of one machine on both sides: no verdict.")
    )
    for word, said in _SAID.items():
        group = others[others["word"] == word].sort_values("difference")
        for row in group.itertuples():
            lines.append(f"  {said or row.verdict}: {row.variant}{_numbers(row)}")
    return "\n".join(lines)


def _numbers(row: Any) -> str:
    if pd.isna(row.low):
        return f" ({row.values}; {row.test})"
    text = f" ({row.difference:+.2f} points, {row.low:+.2f} to {row.high:+.2f})"
    return text + (f", {row.verdict}" if row.word == UNDECIDED else "")


def sameness(records: ByLabel, reference: Any, margin: float = 1.0) -> str:
    """Whether every other variant is as accurate as the reference, within a margin (points, TOST),
    in sentences; precisions may differ.

    Raises:
        ValueError: without a run of the reference.
    """
    if not records.get(reference):
        raise ValueError(f"reference is {reference!r}, of which there is no run")
    terms = accuracy_terms(records[reference][0])
    terms = Terms(margin, margin, terms.floors, examples=terms.examples)
    base, lines = sampled(records[reference], accuracy_of, whatever_precision=True), []
    for label, group in records.items():
        if label != reference:
            side = sampled(group, accuracy_of, whatever_precision=True)
            found = compare(side, base, (str(label), str(reference)), terms, EQUAL)
            shown = f", {found.test.sameness}" if found.test else ""
            lines.append(f"as accurate within {terms.amount(margin)}: {found.said}; {found}{shown}")
    return "\n".join(lines)


# -- learning rates --------------------------------------------------------------------------------


def rate_table(records: ByLabel) -> pd.DataFrame:
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


def ranking(records: ByLabel) -> str:
    """Final accuracies from best to worst, and whether the first is clear of the second, in
    sentences; Bonferroni's correction is over all pairs, since the numbers chose these two.
    """
    table = (
        variant_table(records).dropna(subset="accuracy").sort_values("accuracy", ascending=False)
    )
    lines = [f"{row.variant}: {row.values} %" for row in table.itertuples()]
    if len(table) < 2:
        return "\n".join(lines)
    first, second = table["variant"].iloc[:2]
    sides: list[list[Sample]] = [sampled(records[label], accuracy_of) for label in (first, second)]
    found = compare(
        sides[0], sides[1], (str(first), str(second)), accuracy_terms(records[first][0])
    )
    pairs = len(table) * (len(table) - 1) // 2
    if found.test is None or found.word not in (HOLDS, NOT):
        lines.append(f"{first} ahead of {second}: {found.said}; {found}")
    else:
        clear = found.test.p * pairs < LEVEL
        word = found.word if clear else UNDECIDED
        lines.append(f"{first} ahead of {second}: {word} (Bonferroni over {pairs} pairs); {found}")
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
    target = share * max((mean.iloc[-1] for mean in means.values()), default=math.nan)
    rows = [
        {
            "variant": label,
            "target": target,
            "epoch": mean.index[mean >= target][0] if (mean >= target).any() else None,
        }
        for label, mean in means.items()
    ]
    return pd.DataFrame(rows, columns=["variant", "target", "epoch"]).astype({"epoch": "Int64"})
