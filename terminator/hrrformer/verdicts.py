"""Verdicts on what Hrrformer's paper claims and needs no accuracy, computed from records.

Source: the claims are those of arXiv 2305.19534.
"""

import pandas as pd

from terminator.bench import mixer_tables
from terminator.hrrformer import capacity
from terminator.hrrformer.report import PERMUTED, TRAINED, UNTRAINED
from terminator.runs.against import against_number
from terminator.runs.outcomes import HOLDS, NOT, UNDECIDED, Outcome, Sample, Terms
from terminator.runs.proof import compare


def claims(
    costs: pd.DataFrame, structure_rows: pd.DataFrame, layers: pd.DataFrame, curve: pd.DataFrame
) -> pd.DataFrame:
    """Claims that need no accuracy, the evidence for each, and a verdict computed from it: by seed
    where networks were trained.

    Args:
        structure_rows, layers: see `structure` and `recorded`.
    """
    rows: list[dict[str, str]] = []

    def claim(text: str, evidence: str, word: str) -> None:
        rows.append({"claim": text, "evidence": evidence, "verdict": word})

    growth = mixer_tables.token_growth(costs).loc["hrrformer"]
    lengths = f"from T = {int(growth['from'])} to {int(growth['to'])}"
    for what in ("time", "memory"):
        # below, times are those of calls
        known = what == "memory" or growth["from"] >= mixer_tables.FAR
        claim(
            f"{what} grows in proportion to the sequence",
            f"power {growth[what]:.2f} {lengths}",
            _judged(abs(growth[what] - 1) <= 0.1) if known else UNDECIDED,
        )
    for other in ("softmax_explicit", "softmax_fused"):
        ratio, length = _at_longest(costs, other, "low")
        claim(
            f"a layer is faster than {_named(other)} at long sequences",
            f"{ratio:.2g} times at T = {length}",
            _judged(ratio > 1),
        )
        ratio, length = _at_longest(costs, other, "bytes")
        claim(
            f"and takes less memory than {_named(other)}",
            f"{ratio:.2g} times less at T = {length}",
            _judged(ratio > 1),
        )
    for what, column in (
        ("mean maps of the weights show rows beyond those of the controls", "row_contrast"),
        ("and do so where only positions can make them", "row_contrast_shuffled"),
    ):
        found = _beyond_controls(structure_rows, column)
        claim(what, str(found), found.said)
    found = _branch(layers)
    claim(
        "the attention branch has a say in the residual stream once trained (a tenth of it)",
        str(found),
        found.said,
    )
    held = capacity.pairs_held(curve)
    width = min(held.columns, key=lambda w: abs(w - 64))
    claim(
        f"the superposition holds as many pairs as it is given (one per token; D = {width})",
        f"90 % retrieved up to {held[width].max()} pairs",
        _judged(bool(held[width].max() >= 1000)),
    )
    return pd.DataFrame(rows)


def _beyond_controls(table: pd.DataFrame, column: str) -> Outcome:
    """The best head of a trained network against the best one of its untrained start, by seed; the
    best head trained on permuted pixels is what either has to beat.
    """
    best = table.groupby(["network", "seed"])[column].max()
    floors = {PERMUTED: float(best[PERMUTED].max())} if PERMUTED in best.index else {}
    terms = Terms(None, 0.1, floors, ceiling=None, unit="of contrast", digits=2)
    names = ("row contrast of the best head", UNTRAINED)
    return compare(_samples(best[TRAINED]), _samples(best[UNTRAINED]), names, terms)


def _branch(layers: pd.DataFrame) -> Outcome:
    """Whether the branch is a tenth of the residual stream after training, mean over layers."""
    rows = layers[(layers["quantity"] == "branch_ratio") & (layers["network"] == TRAINED)]
    shares = 100 * rows.groupby("seed")["value"].mean()
    names = ("branch over residual (%)", "a tenth,")
    return against_number(_samples(shares), 10.0, names, Terms(None, ceiling=None))


def _samples(by_seed: pd.Series) -> list[Sample]:
    return [Sample(int(seed), float(value), "", 0.0) for seed, value in by_seed.items()]


def _judged(holds: bool) -> str:
    return HOLDS if holds else NOT


def _named(mixer: str) -> str:
    return {
        "softmax_explicit": "softmax attention written out",
        "softmax_fused": "fused softmax attention",
    }[mixer]


def _at_longest(costs: pd.DataFrame, other: str, column: str) -> tuple[float, int]:
    """Cost of another mixer over Hrrformer's at the longest sequence that both were measured at,
    and that length.
    """
    wide = costs.dropna(subset="seconds").pivot(
        index="positions", columns="operator", values=column
    )
    wide = wide[["hrrformer", other]].dropna()
    return float(wide[other].iloc[-1] / wide["hrrformer"].iloc[-1]), int(wide.index[-1])
