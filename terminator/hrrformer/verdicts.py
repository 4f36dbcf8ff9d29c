"""Verdicts on what Hrrformer's paper claims and needs no accuracy, computed from measurements.

Source: the claims are those of arXiv 2305.19534.
"""

from functools import partial
from typing import Any

import pandas as pd

from terminator.bench import mixer_tables
from terminator.hrrformer import capacity
from terminator.hrrformer.report import PERMUTED, TRAINED, UNTRAINED, structure
from terminator.runs.against import against_number
from terminator.runs.claims import Judges, Verdict, judged, of_outcome, verdict_rows
from terminator.runs.outcomes import Outcome, Terms, measured
from terminator.runs.proof import compare


def claims(costs: pd.DataFrame, inside: dict[str, Any], curve: pd.DataFrame) -> pd.DataFrame:
    """Claims that need no accuracy, the evidence for each, and a verdict computed from it: by seed
    where networks were trained.

    Args:
        costs: of bench.mixers, tokens.
        inside: see report.recorded.
        curve: see report.capacity_curve.
    """
    return pd.DataFrame(
        [
            *verdict_rows(OF_COST, costs),
            *verdict_rows(OF_INSIDE, inside),
            *verdict_rows(OF_CAPACITY, curve),
        ]
    )


# -- cost ------------------------------------------------------------------------------------------

NAMED = {
    "softmax_explicit": "softmax attention written out",
    "softmax_fused": "fused softmax attention",
}


def _in_proportion(what: str, costs: pd.DataFrame) -> Verdict:
    growth = mixer_tables.token_growth(costs).loc["hrrformer"]
    known = what == "memory" or growth["from"] >= mixer_tables.FAR
    return judged(
        bool(abs(growth[what] - 1) <= 0.1) if known else None,
        f"power {growth[what]:.2f} from T = {int(growth['from'])} to {int(growth['to'])}",
        f"lengths from {mixer_tables.FAR} tokens on; below, times are those of calls",
    )


def _cheaper(other: str, column: str, words: tuple[str, str], costs: pd.DataFrame) -> Verdict:
    """At the longest sequence that both were measured at.

    Args:
        words: for a better and a worse ratio.
    """
    wide = costs.dropna(subset="seconds").pivot(
        index="positions", columns="operator", values=column
    )
    last = wide[["hrrformer", other]].dropna().iloc[-1]
    ratio = last[other] / last["hrrformer"]
    less, more = words
    return judged(
        bool(ratio > 1),
        f"{max(ratio, 1 / ratio):.2g} times {less if ratio > 1 else more} at T = {last.name}",
    )


_FASTER = "a layer is faster than {} at long sequences"
_SMALLER = "a layer takes less memory than {}"
OF_COST: Judges = {
    **{
        f"{what} grows in proportion to the sequence": partial(_in_proportion, what)
        for what in ("time", "memory")
    },
    **{
        _FASTER.format(title): partial(_cheaper, other, "low", ("as fast", "as slow"))
        for other, title in NAMED.items()
    },
    **{
        _SMALLER.format(title): partial(_cheaper, other, "bytes", ("less", "more"))
        for other, title in NAMED.items()
    },
}


# -- inside trained networks -----------------------------------------------------------------------


def _beyond_controls(column: str, inside: dict[str, Any]) -> Verdict:
    """The best head of a trained network against the best one of its untrained start, by seed; the
    best head trained on permuted pixels is what training has to beat where it raised anything.
    """
    best = structure(inside).groupby(["network", "seed"])[column].max()
    floors = {}  # of a trained network that is better than its start
    if PERMUTED in best.index and best[TRAINED].mean() > best[UNTRAINED].mean():
        floors[PERMUTED] = float(best[PERMUTED].max())
    terms = Terms(None, 0.1, floors, ceiling=None, unit="of contrast", digits=2)
    names = ("row contrast of the best head", UNTRAINED)
    return of_outcome(compare(measured(best[TRAINED]), measured(best[UNTRAINED]), names, terms))


def _branch(inside: dict[str, Any]) -> Outcome:
    """Whether the branch is a tenth of the residual stream after training, mean over layers."""
    layers = pd.DataFrame(inside["layers"])
    rows = layers[(layers["quantity"] == "branch_ratio") & (layers["network"] == TRAINED)]
    shares = 100 * rows.groupby("seed")["value"].mean()
    names = ("branch over residual (%)", "a tenth,")
    return against_number(measured(shares), 10.0, names, Terms(None, ceiling=None))


_SHOWS_ROWS = "mean maps of the weights show rows beyond those of the controls"
OF_INSIDE: Judges = {
    _SHOWS_ROWS: partial(_beyond_controls, "row_contrast"),
    "mean maps of the weights show rows where only positions can make them": partial(
        _beyond_controls, "row_contrast_shuffled"
    ),
    "the attention branch has a say in the residual stream once trained (a tenth of it)": (
        lambda inside: of_outcome(_branch(inside))
    ),
}


# what the paper claims of these; fused attention it does not speak of
OF_PAPER = (*(claim for claim in OF_COST if NAMED["softmax_fused"] not in claim), _SHOWS_ROWS)


# -- capacity --------------------------------------------------------------------------------------

WIDTH = 64  # one that all profiles measure


def _holds_as_many(curve: pd.DataFrame) -> Verdict:
    most, tried = capacity.pairs_held(curve)[WIDTH].max(), curve["pairs"].max()
    return judged(bool(most >= tried), f"90 % retrieved up to {most} pairs, of up to {tried}")


OF_CAPACITY: Judges = {
    f"the superposition holds as many pairs as it is given (one per token; D = {WIDTH})": (
        _holds_as_many
    )
}
