"""What measurements of the global mixers say: fitted powers beside theory, and verdicts in
words.
"""

import math

import numpy as np
import pandas as pd

from terminator.bench.measure import exponent
from terminator.mixers.registry import MAP_MIXERS, TOKEN_MIXERS
from terminator.runs import literature

FAR = 4096  # tokens, from which on linear mixers are expected to grow in proportion


def _powers(group: pd.DataFrame, times: str, last: int = 3) -> tuple[float, float]:
    """Fitted powers of a column of times and of memory in the positions, `last` largest sizes."""
    time, memory = (exponent(group["positions"], group[key], last) for key in (times, "bytes"))
    return time, memory


# -- maps ------------------------------------------------------------------------------------------


def map_growth(costs: pd.DataFrame) -> pd.DataFrame:
    """Fitted powers of time and memory in the positions, and those of theory.

    Of the three largest sizes, the shortest of the repeats: what else the machine does can only
    make them longer.

    Returns:
        a row per operator: both fits beside their theory, the largest side.
    """
    rows = []
    for name, group in costs.dropna(subset="seconds").groupby("operator", sort=False):
        time, memory = _powers(group, "low") if len(group) > 1 else (math.nan, math.nan)
        theory = MAP_MIXERS[name]
        rows.append(
            {
                "operator": name,
                "time, fitted": time,
                "time, theory": theory.time,
                "memory, fitted": memory,
                "memory, theory": theory.memory,
                "largest side": group["side"].max(),
            }
        )
    return pd.DataFrame(rows).set_index("operator")


def map_verdict(costs: pd.DataFrame) -> str:
    """At the largest side, from fastest to slowest; and who was left out from where on."""
    measured = costs.dropna(subset="seconds")
    side = measured["side"].max()
    ranked = measured[measured["side"] == side].sort_values("seconds")
    fastest = ranked["seconds"].iloc[0]
    lines = [f"At {side}x{side} positions, forward and backward:"]
    lines += [
        f"  {r.operator}: {1e3 * r.seconds:.2f} ms ({r.seconds / fastest:.1f} times the fastest), "
        f"{r.bytes / 2**20:.1f} MiB"
        for r in ranked.itertuples()
    ]
    skipped = costs[costs["seconds"].isna()].drop_duplicates("operator")
    lines += [
        f"  {r.operator}: left out from {r.side}x{r.side} on ({r.note})"
        for r in skipped.itertuples()
    ]
    return "\n".join(lines)


# -- tokens ----------------------------------------------------------------------------------------


def token_growth(costs: pd.DataFrame, far: int = FAR) -> pd.DataFrame:
    """Fitted powers of time and memory in the length, beside theory.

    From `far` on, or of the three largest lengths; times are the shortest of the repeats, in units
    of the matrix product timed beside them.

    Returns:
        a row per mixer: time, memory, their theory, the lengths they were fitted to.
    """
    rows = []
    for name, group in costs.dropna(subset="seconds").groupby("operator", sort=False):
        beyond = group[group["positions"] >= far]
        group = beyond if len(beyond) > 1 else group.nlargest(3, "positions")
        if len(group) < 2:
            continue
        time, memory = _powers(group, "units", len(group))
        theory = TOKEN_MIXERS[name]
        rows.append(
            {
                "mixer": name,
                "time": time,
                "time, theory": theory.time,
                "memory": memory,
                "memory, theory": theory.memory,
                "from": group["positions"].min(),
                "to": group["positions"].max(),
            }
        )
    return pd.DataFrame(rows).set_index("mixer")


def beside_literature(costs: pd.DataFrame) -> pd.DataFrame:
    """Ours beside an independent implementation's, where sizes agree; times also in matrix
    products.

    Returns:
        columns mixer, T, what (time in ms, the shortest; memory in MB), ours, theirs, ours /
        theirs, matrix products.
    """
    kinds = {"time": ("time (ms)", "low", 1e3), "extra memory": ("memory (MB)", "bytes", 1e-6)}
    ours = costs.dropna(subset="seconds").set_index(["operator", "positions"])
    rows = []
    for row in literature.literature("token mixers").itertuples():
        key = (row.model, int(row.dataset.removeprefix("T = ")))
        if key in ours.index:
            name, column, factor = kinds[row.metric]
            here = factor * ours.loc[key, column]
            rows.append(
                {
                    "mixer": key[0],
                    "T": key[1],
                    "what": name,
                    "ours": here,
                    "theirs": row.value,
                    "ours / theirs": here / row.value,
                    "matrix products": ours.loc[key, "units"] if row.metric == "time" else np.nan,
                }
            )
    return pd.DataFrame(
        rows, columns=["mixer", "T", "what", "ours", "theirs", "ours / theirs", "matrix products"]
    )


def token_verdict(costs: pd.DataFrame, name: str = "hrrformer") -> str:
    """Where a mixer stands: the length from which it is faster, and takes less memory, than each
    softmax attention.
    """
    measured = costs.dropna(subset="seconds")
    lines = []
    for other in ("softmax_explicit", "softmax_fused"):
        both = measured[measured["operator"].isin((name, other))]
        for what, column in (("faster", "low"), ("smaller in memory", "bytes")):
            wide = both.pivot(index="positions", columns="operator", values=column).dropna()
            ratio = wide[other] / wide[name]
            ahead = ratio[ratio > 1]
            ever = (
                f"from T = {ahead.index[0]} on"
                if len(ahead) and (ratio.loc[ahead.index[0] :] > 1).all()  # labels, not places
                else "at no measured length"
                if not len(ahead)
                else "at some lengths only"
            )
            lines.append(
                f"{name} is {what} than {other} {ever} ({ratio.iloc[-1]:.2g} times at T = "
                f"{wide.index[-1]}, the longest that both were measured at)"
            )
    skipped = costs[costs["seconds"].isna()].drop_duplicates("operator")
    lines += [
        f"{row.operator}: left out from T = {row.positions} on ({row.note})"
        for row in skipped.itertuples()
    ]
    return "\n".join(lines)


def conditions(costs: pd.DataFrame) -> str:
    """How the numbers were taken, in words."""
    row = costs.dropna(subset="seconds").iloc[0]
    return (
        f"{row['device']}, {int(row['threads'])} thread(s), batch {row['batch']}, width "
        f"{row['width']}, {row['heads']} heads, shortest of {row['repeats']}, {row['clock']} time"
    )
