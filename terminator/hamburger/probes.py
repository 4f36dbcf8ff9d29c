"""Hamburger's probes run and kept as records: errors per step, gradients, spread, cost; and
published figures beside.

Probes of numbers are run once per profile (results/runs/ham_probes); cost is a measurement of one
machine, and the newest one counts (results/runs/ham_cost).

Source: the claims are those of arXiv 2109.04553.
"""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.bench.measure import exponent, measure
from terminator.hamburger import analysis as ham_analysis
from terminator.hamburger.analysis import CD100, HAMS, NMF, VQ100
from terminator.hamburger.decompositions import reconstruct
from terminator.runs import literature, measurements
from terminator.runs.measurements import as_rows
from terminator.runtime.progress import bar
from terminator.runtime.settings import ConfigError, require_one_of

PROBES, COST = "ham_probes", "ham_cost"  # experiments
SEEDS = {"smoke": 12, "laptop": 12, "paper": 12}  # data sets per probe
DRAWS = {"smoke": 8, "laptop": 16, "paper": 16}  # of first bases, for their spread
STEPS = (0, 1, 3, 6, 12, 30)
RANKS = (2, 4, 8, 16)
RANK, WIDTH = 8, 64  # of the probes; channels of the cost
SIDES = {"smoke": (8, 16, 24, 32), "laptop": (16, 32, 48, 64, 96), "paper": (16, 32, 64, 96, 128)}
MEMORY_LIMIT = 3 * 2**30  # bytes of a written-out attention; larger sizes are left out
OPERATORS = ("attention, written out", "attention, fused", "NMF", "CD", "VQ")


def probes(profile: str) -> dict[str, pd.DataFrame]:
    """The probes of this profile, run here if their record is not there: errors, ranks, gradients,
    spread.

    Raises:
        ConfigError: for an unknown profile.
    """
    require_one_of("profile", profile, SEEDS)
    seeds, draws = SEEDS[profile], DRAWS[profile]

    def measured() -> dict[str, Any]:
        config = {
            "seeds": seeds,
            "draws": draws,
            "rank": RANK,
            "features": 32,
            "columns": 256,
            "noise": 0.5,
        }
        return {
            "config": config,
            "data": {
                "title": "non-negative rank-8 matrices with noise",
                "fingerprint": "a formula",
            },
            "results": {key: as_rows(table) for key, table in _tables(seeds, draws).items()},
        }

    return _read(measurements.named(PROBES, _name(profile), "probes", profile, measured))


def found_probes(profile: str) -> dict[str, pd.DataFrame] | None:
    """The same, if their record is there."""
    record = measurements.found(PROBES, _name(profile))
    return None if record is None else _read(record)


def _name(profile: str) -> str:
    return f"probes-{profile}"


def _read(record: dict[str, Any]) -> dict[str, pd.DataFrame]:
    return {key: pd.DataFrame(rows) for key, rows in record["results"].items()}


def _tables(seeds: int, draws: int) -> dict[str, pd.DataFrame]:
    x = torch.stack([ham_analysis.noisy_low_rank(seed) for seed in range(seeds)])
    ranks = [ham_analysis.error_table(x, rank, (6,), (NMF, CD100, VQ100)) for rank in RANKS]
    return {
        "errors": ham_analysis.error_table(x, RANK, STEPS, HAMS),
        "ranks": pd.concat(ranks, ignore_index=True),
        "gradients": ham_analysis.gradient_table(seeds, RANK),
        "spread": ham_analysis.spread_table(x[0], RANK, (1, 6, 12, 30, 100), draws),
    }


# -- cost ------------------------------------------------------------------------------------------


def mixing(name: str, x: Tensor) -> Tensor:
    """X (B, D, N) with global context: attention with X as queries, keys and values, or the
    reconstruction of a ham.

    Linear maps are left out everywhere. Six steps, rank 8, tau 100, the one-step gradient.

    Raises:
        ConfigError: for another name.
    """
    if name not in OPERATORS:
        raise ConfigError(f"operator is {name!r}; allowed: {'; '.join(OPERATORS)}")
    if name == "attention, written out":
        weights = (x.mT @ x / math.sqrt(x.shape[1])).softmax(-1)  # (B, N, N)
        return x @ weights.mT
    if name == "attention, fused":
        tokens = x.mT[:, None].contiguous()
        return F.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].mT
    ham = {"NMF": NMF, "CD": CD100, "VQ": VQ100}[name]
    return reconstruct(*ham.decompose(x, ham.first_bases(x, RANK, 0), 6))


def operations(name: str, positions: int) -> int:
    """Multiply-accumulates of `mixing` for one image."""
    if name.startswith("attention"):
        return ham_analysis.attention_operations(positions, WIDTH, maps=0)
    return ham_analysis.ham_operations(name, positions, WIDTH, RANK)


def cost_table(sides: Iterable[int], device: str = "cpu", repeats: int = 5) -> pd.DataFrame:
    """Time and peak memory of every way, forward alone and with the backward pass; batch 1, 64
    channels.

    Returns:
        columns operator, what, side, positions, operations, seconds, low, high, bytes; sizes beyond
        the memory limit are left out.
    """
    rows, sides = [], sorted(sides)
    with bar(len(OPERATORS) * len(sides), "cost", "size") as progress:
        for name in OPERATORS:
            for side in sides:
                if name != "attention, written out" or 16 * side**4 < MEMORY_LIMIT:
                    rows += _measured(name, side, device, repeats)
                progress.update()
    return pd.DataFrame(rows)


def _measured(name: str, side: int, device: str, repeats: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, WIDTH, side * side, generator=generator).to(device).requires_grad_()
    upstream = torch.randn(x.shape, generator=generator).to(device)

    def train() -> None:
        with torch.enable_grad():  # also where memory is watched
            x.grad = None
            mixing(name, x).backward(upstream)

    def forward() -> None:
        with torch.no_grad():
            mixing(name, x)

    rows = []
    for what, function in (("forward", forward), ("training", train)):
        found = measure(function, repeats, device)
        rows.append(
            {
                "operator": name,
                "what": what,
                "side": side,
                "positions": side * side,
                "operations": operations(name, side * side),
                **found.row(),
            }
        )
    return rows


def cost(
    profile: str, device: str = "auto", again: bool = False
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The newest measurement of this profile and kind of device, or a new one; and its record."""
    require_one_of("profile", profile, SIDES)

    def measured(kind: str) -> dict[str, Any]:
        threads = torch.get_num_threads()
        return {
            "rows": as_rows(cost_table(SIDES[profile], kind).assign(device=kind, threads=threads))
        }

    record = measurements.latest(COST, profile, measured, device, again)
    return pd.DataFrame(record["rows"]), record


def found_slopes(profile: str) -> pd.DataFrame | None:
    """`slopes` of the newest measurement, if there is one."""
    record = measurements.newest(COST, profile)
    return None if record is None else slopes(pd.DataFrame(record["rows"]))


def slopes(costs: pd.DataFrame) -> pd.DataFrame:
    """Fitted powers of operations, time (shortest of the repeats) and memory in the number of
    positions.

    Fitted to the three largest sizes of each: a row per operator and what was measured.
    """
    rows = []
    for (name, what), group in costs.groupby(["operator", "what"], sort=False):
        fits = {
            key: exponent(group["positions"], group[column])
            for key, column in (("operations", "operations"), ("time", "low"), ("memory", "bytes"))
        }
        rows.append({"operator": name, "what": what, **fits, "largest side": group["side"].max()})
    return pd.DataFrame(rows).set_index(["operator", "what"])


# -- beside published figures ----------------------------------------------------------------------


def beside_published(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Figures of another implementation's probes (literature.csv) and ours, by what was measured.

    Returns:
        columns quantity, case, theirs, ours; the distribution of their data is not known, so levels
        may differ.
    """
    ours = {}
    for row in found["errors"].itertuples():
        when = "start" if row.steps < 0 else f"K = {row.steps}"
        ours[f"relative squared error, {when}", row.ham] = row.error
        ours["relative squared error, truncated SVD", "SVD"] = row.floor
    for row in found["gradients"].itertuples():
        case = f"{row.ham}, K = {row.steps}"
        ours |= {
            ("gradient ratio, one step", case): row.one_step,
            ("gradient ratio, all steps", case): row.full,
            ("largest gradient ratio, all steps", case): row.full_max,
            ("cosine of both", case): row.cosine,
        }
    for row in found["spread"].itertuples():
        ours["spread over first bases", f"{row.ham}, K = {row.steps}"] = row.spread
    theirs = literature.literature("hamburger probes")
    return pd.DataFrame(
        [
            {
                "quantity": row.metric,
                "case": row.model,
                "theirs": row.value,
                "ours": ours.get((row.metric, row.model)),
            }
            for row in theirs.itertuples()
        ]
    )
