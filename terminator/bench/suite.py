"""Every system's rows (rows.ROWS) in one table: time, memory and floors, each in a process of its
own.

Times also stand in units of a matrix product that is timed beside them (measure.unit_seconds), so
that records of different machines, and of moments at which a machine had other work to do, can be
compared. Memory is that of all tensors alive at one time, and the process's own peak.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from terminator.bench import network, steps
from terminator.bench import rows as of_suite
from terminator.bench.floors import Rates, floors_of, machine_rates
from terminator.bench.measure import in_process
from terminator.bench.revision import checkout
from terminator.runs import measurements
from terminator.runtime.progress import bar, say
from terminator.runtime.settings import at_least, require, require_one_of

EXPERIMENT = "suite"
COLUMNS = [  # of a printed table
    *("row", "ms", "ms_low", "ms_high", "units", "per_s", "unit_of_amount", "tensors_mib"),
    *("peak_mib", "first_s", "serial_floor_ms", "over_serial_floor", "ratio", "memory_ratio"),
]


@dataclass(frozen=True)
class Case:
    """One row to measure.

    Raises:
        ConfigError: for what cannot be.
    """

    row: str
    tiny: bool = False
    threads: int = dataclasses.field(default_factory=torch.get_num_threads)
    repeats: int = 7
    warm_up: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_one_of("row", self.row, of_suite.ROWS)
        require_one_of("device", self.device, ("cpu",))
        at_least(self, "", {"threads": 1, "repeats": 1, "warm_up": 0})


def cases(names: Sequence[str] = (), **options: Any) -> list[Case]:
    """The rows of these names, or all; options: of every Case."""
    return [Case(name, **options) for name in names or of_suite.ROWS]


def measure(case: Case, root: Path | None = None) -> dict[str, Any]:
    """Measure a row once in a process of its own, with the kit at `root` (default: this one).

    Returns:
        see rows.main.

    Raises:
        RuntimeError: see measure.in_process; if this kit lacks what the row needs.
    """
    found = in_process(of_suite, case, root, beside=[network, steps]).result
    if root is None and "lacking" in found:
        raise RuntimeError(f"the row {case.row} cannot be measured: {found['lacking']}")
    return found


def summary(case: Case, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table, from one or more measurements.

    Returns:
        the case, what; ms (median of all calls) with its quartiles, units (the median in matrix
        products), per_s, tensors_mib (None uncounted), peak_mib, first_s.
    """
    times = [s for run in runs for s in run["seconds"]]
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    held = max(run["bytes"] for run in runs)
    return {
        **dataclasses.asdict(case),
        "what": of_suite.ROWS[case.row].what,
        "clock": runs[0]["clock"],
        "ms": 1e3 * median,
        "ms_low": 1e3 * low,
        "ms_high": 1e3 * high,
        "units": float(np.median([np.median(run["seconds"]) / run["unit"] for run in runs])),
        "per_s": runs[0]["amount"] / median,
        "unit_of_amount": runs[0]["unit_of_amount"],
        "tensors_mib": held / 2**20 if held else None,
        "peak_mib": max(run["process_bytes"] for run in runs) / 2**20,
        "first_s": float(np.median([run["first_s"] for run in runs])),
    }


def with_floors(row: dict[str, Any], case: Case, rates: Rates) -> dict[str, Any]:
    """The row with its floors (floors.floors_of) and its time over the serial one."""
    step = of_suite.make(case.row, case.tiny).step
    step()  # makes what later steps keep
    floors = floors_of(step, rates)
    return {**row, **floors, "over_serial_floor": row["ms"] / floors["serial_floor_ms"]}


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*COLUMNS, *rows[0]])))


def run(chosen: Sequence[Case], profile: str = "laptop", floors: bool = True) -> pd.DataFrame:
    """Measure rows one after another, write a record (results/runs/suite), return its table."""
    rates: dict[tuple[str, int], Rates] = {}

    def measured() -> dict[str, Any]:
        rows = []
        with bar(len(chosen), "suite", "row") as progress:
            for case in chosen:
                row = summary(case, [measure(case)])
                if floors and of_suite.ROWS[case.row].has_floor:
                    key = "bf16" if case.row.endswith("bf16") else "float32", case.threads
                    if key not in rates:
                        rates[key] = machine_rates(key[0], "cpu", key[1])
                    row = with_floors(row, case, rates[key])
                rows.append(row)
                progress.update()
        named = {f"{p}, {t} threads": dataclasses.asdict(r) for (p, t), r in rates.items()}
        return {"rows": rows, "rates": named}

    return _table(measurements.add(EXPERIMENT, profile, measured)["rows"])


def compare(
    chosen: Sequence[Case], revision: str, rounds: int = 3, profile: str = "laptop"
) -> pd.DataFrame:
    """Measure rows with this kit and with another revision in turns, write a record, return its
    table. A row that the revision has no names for is left out, and that is said.

    Args:
        rounds: of both, a process each.

    Returns:
        rows of `summary` of this kit, with revision, ratio (the median of the rounds' ratios of
        medians, there over here), ratio_low, ratio_high (of the rounds), memory_ratio (of the
        first round: tensors there over here, or the process's peak where tensors are not counted).

    Raises:
        ConfigError: if there is no such revision, or no row that it has.
    """
    require(rounds >= 1, "rounds", rounds, "an integer of at least 1")

    def measured(root: Path) -> dict[str, Any]:
        rows = []
        with bar(len(chosen), f"against {revision}", "row") as progress:
            for case in chosen:
                row = _against(case, root, revision, rounds)
                rows += [] if row is None else [row]
                progress.update()
        require(bool(rows), "revision", revision, "one that has what a chosen row needs")
        return {"rows": rows, "comparison": {"revision": revision, "rounds": rounds}}

    with checkout(revision) as root:
        return _table(measurements.add(EXPERIMENT, profile, lambda: measured(root))["rows"])


def _against(case: Case, root: Path, revision: str, rounds: int) -> dict[str, Any] | None:
    """A row with its ratios; None where the revision lacks what it needs."""
    mine, theirs = [], []
    for _ in range(rounds):
        other = measure(case, root)
        if "lacking" in other:
            say(f"{case.row}: left out, {revision} lacks it ({other['lacking']})")
            return None
        theirs.append(other)
        mine.append(measure(case))
    middles = [[float(np.median(found["seconds"])) for found in side] for side in (mine, theirs)]
    ratios = [there / here for here, there in zip(*middles, strict=True)]
    key = "bytes" if mine[0]["bytes"] else "process_bytes"
    return {
        **summary(case, mine),
        "revision": revision,
        "ratio": float(np.median(ratios)),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "memory_ratio": theirs[0][key] / mine[0][key],
    }
