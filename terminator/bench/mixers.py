"""Time and memory of the global mixers against the number of positions: one forward and backward pass each.

Sizes whose predicted cost exceeds a limit are left out, and say so. Memory on the CPU is that of all tensors alive at
one time (those kept for the backward pass included, work space inside an operation not); on a GPU, torch's own peak.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from terminator.bench import measure as bench_measure
from terminator.bench import records
from terminator.bench.network import clock_of, seconds
from terminator.classification.host import CHANNELS
from terminator.mixers.registry import MAP_MIXERS, Mixer, make_map_mixer
from terminator.runtime.distributed import choose_device
from terminator.runtime.progress import bar

EXPERIMENT = "operators"
SIDES = {"smoke": (8, 12, 16, 24, 32), "laptop": (8, 16, 32, 48, 64, 96, 128), "paper": (8, 16, 32, 64, 128, 256)}
LIMITS = {"smoke": 0.3, "laptop": 4.0, "paper": 4.0}  # seconds of one pass
MEMORY_LIMIT = 4 * 2**30  # bytes


class Measured(NamedTuple):
    """Median, least and largest time of a call (s; of the process where one thread computes), peak memory (bytes)."""

    seconds: float
    low: float
    high: float
    peak_bytes: int


def measure(function: Callable[[], object], repeats: int = 5, device: str = "cpu") -> Measured:
    """Time a call, after one to warm up, and then take its peak memory."""
    times = seconds(function, repeats, 1, device, clock_of(device, torch.get_num_threads()))[1:]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        peak = bench_measure.peak_bytes(function)
    return Measured(float(np.median(times)), min(times), max(times), peak)


def step(name: str, side: int, batch: int, device: str) -> tuple[Callable[[], None], int]:
    """A forward and backward pass of a mixer on random maps, as a function; and its number of parameters."""
    torch.manual_seed(0)
    mixer = make_map_mixer(name, CHANNELS, side).to(device)
    x = torch.randn(batch, CHANNELS, side, side, device=device, requires_grad=True)
    cotangent = torch.randn_like(x)

    def run() -> None:
        with torch.enable_grad():  # also where memory is watched
            mixer.zero_grad(set_to_none=True)
            x.grad = None
            mixer(x).backward(cotangent)

    return run, sum(p.numel() for p in mixer.parameters())


def cost_table(sides: Iterable[int], limit: float, names: Iterable[str] = tuple(MAP_MIXERS), batch: int = 2,
               device: str = "cpu", repeats: int = 5) -> pd.DataFrame:
    """A row per mixer and side; `note` says why a row has no numbers.

    Returns: columns operator, side, positions, parameters, seconds, low, high, bytes, note.
    """
    names, sides, rows = list(names), sorted(sides), []
    with bar(len(names) * len(sides), "mixers", "size") as progress:
        for name in names:
            last = None
            for side in sides:
                row = {"operator": name, "side": side, "positions": side * side}
                row["note"] = too_much(last, side * side, powers(MAP_MIXERS[name]), limit)
                if not row["note"]:
                    run, parameters = step(name, side, batch, device)
                    found = measure(run, repeats, device)
                    last = {"positions": side * side, "seconds": found.seconds, "bytes": found.peak_bytes}
                    row |= {"parameters": parameters, "seconds": found.seconds, "low": found.low, "high": found.high,
                            "bytes": found.peak_bytes}
                rows.append(row)
                progress.update()
    return pd.DataFrame(rows)


def powers(mixer: Mixer) -> tuple[float, float]:
    """Of the number of positions: how a mixer's time and memory must grow at last."""
    return mixer.time, mixer.memory


def too_much(last: dict[str, Any] | None, positions: int, powers: tuple[float, float], limit: float) -> str:
    """Why this size is left out, from the last one that was measured and the powers it must grow with at most.

    Args:  last: its positions, seconds, bytes;  powers: of time and memory in the positions;  limit: of a pass (s).
    """
    if last is None:
        return ""
    growth = positions / last["positions"]
    time, memory = (last[key] * growth**power for key, power in zip(("seconds", "bytes"), powers, strict=True))
    if time > limit:
        return f"predicted {time:.1f} s a pass, limit {limit:g} s"
    return f"predicted {memory / 2**30:.1f} GiB, limit {MEMORY_LIMIT / 2**30:g} GiB" if memory > MEMORY_LIMIT else ""


def growth_table(costs: pd.DataFrame) -> pd.DataFrame:
    """Fitted powers of time and memory in the number of positions (three largest sizes), and those of theory.

    Times are the shortest of the repeats: what else the machine does can only make them longer.
    """
    rows = []
    for name, group in costs.dropna(subset="seconds").groupby("operator", sort=False):
        fits = {key: bench_measure.exponent(group["positions"], group[key]) if len(group) > 1 else math.nan
                for key in ("low", "bytes")}
        time, memory = powers(MAP_MIXERS[name])
        rows.append({"operator": name, "time, fitted": fits["low"], "time, theory": time,
                     "memory, fitted": fits["bytes"], "memory, theory": memory, "largest side": group["side"].max()})
    return pd.DataFrame(rows).set_index("operator")


def recorded(profile: str, device: str = "auto", again: bool = False) -> dict[str, Any]:
    """The newest record of this profile and kind of device, or a new one: rows, machine, threads, versions, commit."""
    kind = choose_device(device).type

    def measured() -> dict[str, Any]:
        costs = cost_table(SIDES[profile], LIMITS[profile], device=kind)
        costs = costs.assign(device=kind, threads=torch.get_num_threads())
        return {"rows": costs.astype(object).where(costs.notna(), None).to_dict("records")}

    return records.recorded(profile, EXPERIMENT, kind, measured, again)


def table_of(record: dict[str, Any]) -> pd.DataFrame:
    """The rows of a record as cost_table returns them."""
    return pd.DataFrame(record["rows"])


def verdict(costs: pd.DataFrame) -> str:
    """At the largest side, from fastest to slowest; and who was left out from where on."""
    measured = costs.dropna(subset="seconds")
    side = measured["side"].max()
    ranked = measured[measured["side"] == side].sort_values("seconds")
    fastest = ranked["seconds"].iloc[0]
    lines = [f"At {side}x{side} positions, forward and backward:"]
    lines += [f"  {r.operator}: {1e3 * r.seconds:.2f} ms ({r.seconds / fastest:.1f} times the fastest), "
              f"{r.bytes / 2**20:.1f} MiB" for r in ranked.itertuples()]
    skipped = costs[costs["seconds"].isna()].drop_duplicates("operator")
    lines += [f"  {r.operator}: left out from {r.side}x{r.side} on ({r.note})" for r in skipped.itertuples()]
    return "\n".join(lines)
