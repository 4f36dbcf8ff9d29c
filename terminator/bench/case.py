"""How fast the network trains and answers here, beside what the machine could do.

Every measurement runs in a process of its own, so that its peak memory is its own. The floors are
the network's floating point operations over the better of two measured rates, a large matrix
product's and a large convolution's (libraries for one may know a processor that those for the other
do not), and the bytes that its operations read and write over the measured rate of a copy. A
program that runs one operation after the other takes at least the sum of every operation's larger
floor, unless what it reads is still in a cache.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from terminator.bench import network
from terminator.bench.floors import RATES_SIDE, Rates, floors_of, machine_rates
from terminator.bench.measure import in_process
from terminator.runs import measurements
from terminator.runtime.progress import bar
from terminator.runtime.settings import ConfigError, at_least, require, require_one_of

COLUMNS = [  # of a printed table
    *("what", "size", "batch", "precision", "compiled", "optimizer", "ms", "ms_low", "ms_high"),
    *("images_per_s", "peak_mib", "first_s", "flop_floor_ms", "byte_floor_ms", "over_floor"),
    *("serial_floor_ms", "over_serial_floor"),
]
OPTIMIZERS = ("Kar3", "Kar3 plain", "AdamW fused")


@dataclass(frozen=True)
class Case:
    """One thing to measure: what, in which size, how often.

    Raises:
        ConfigError: for what cannot be, or not here.
    """

    what: str = "training"  # training (steps of the whole loop), inference (calibrated), optimizer
    size: int = 32  # pixels a side, or positions of a sequence
    batch: int = 32
    precision: str = "float32"  # float32, bf16
    compiled: bool = False  # torch.compile
    graphs: bool = False  # CUDA graphs: compiled training in torch's mode reduce-overhead
    device: str = "cpu"
    threads: int = dataclasses.field(default_factory=torch.get_num_threads)
    repeats: int = 5
    warm_up: int = 4  # steps before; until then the process still asks the system for memory
    dimensions: int = 2
    optimizer: str = "Kar3"

    def __post_init__(self) -> None:
        require_one_of("what", self.what, ("training", "inference", "optimizer"))
        require_one_of("precision", self.precision, ("float32", "bf16"))
        require_one_of("device", self.device, ("cpu", "cuda"))
        require(self.dimensions in (1, 2), "dimensions", self.dimensions, "1, 2")
        require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        minima = {"size": 2, "batch": 1 + (self.what == "training"), "threads": 1, "repeats": 1}
        at_least(self, "", minima)
        if self.graphs and not (self.compiled and self.what == "training"):
            what = self.what + " that is not compiled" * (not self.compiled)
            raise ConfigError(f"graphs is True for {what}; allowed: for compiled training")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is 'cuda', but torch sees no CUDA device here; allowed: cpu")


def measure(case: Case, root: Path | None = None) -> dict[str, Any]:
    """Run the case once, in its own process, with the kit at `root` (default: this one).

    Returns:
        see network.main.

    Raises:
        RuntimeError: see measure.in_process.
    """
    return in_process(network, case, root).result


def summary(case: Case, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table, from one or more measurements of a case.

    Returns:
        the case, ms (median of all steps) with its quartiles, images_per_s (of an optimiser's step
        nothing), peak_mib, first_s.
    """
    times = [s for run in runs for s in run["seconds"]]
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    return {
        **dataclasses.asdict(case),
        "ms": 1e3 * median,
        "ms_low": 1e3 * low,
        "ms_high": 1e3 * high,
        "images_per_s": None if case.what == "optimizer" else case.batch / median,
        "peak_mib": max(run["peak_bytes"] for run in runs) / 2**20,
        "first_s": float(np.median([run["first_s"] for run in runs])),
    }


def with_floors(row: dict[str, Any], case: Case, rates: Rates) -> dict[str, Any]:
    """The row with its floors (floors.floors_of), and its time over the larger of both kinds and
    over the serial one.
    """
    step = network.make_step(
        case.what,
        case.size,
        case.batch,
        case.precision,
        dimensions=case.dimensions,
        optimizer=case.optimizer,
    )
    step()  # makes what later steps keep
    floors = floors_of(step, rates)
    return {
        **row,
        **floors,
        "over_floor": row["ms"] / max(floors["flop_floor_ms"], floors["byte_floor_ms"]),
        "over_serial_floor": row["ms"] / floors["serial_floor_ms"],
    }


def measured(cases: Sequence[Case], floors: bool = True, side: int = RATES_SIDE) -> dict[str, Any]:
    """A record's part, of cases measured one after another: rows, and the machine's rates.

    Args:
        side: of the matrices that rates are measured with.
    """
    conditions = {(case.precision, case.device, case.threads): None for case in cases if floors}
    rates = {key: machine_rates(*key, side=side) for key in conditions}
    rows = []
    with bar(len(cases), "benchmark", "case") as progress:
        for case in cases:
            row = summary(case, [measure(case)])
            if floors and case.what != "optimizer":
                row = with_floors(row, case, rates[case.precision, case.device, case.threads])
            rows.append(row)
            progress.update()
    named = {f"{p} {d}, {t} threads": dataclasses.asdict(r) for (p, d, t), r in rates.items()}
    return {"rows": rows, "rates": named}


def run(cases: Sequence[Case], profile: str = "laptop", floors: bool = True) -> pd.DataFrame:
    """Measure the cases, write a record (results/runs/benchmark) and return its table.

    A record is evidence of one moment on one machine: it is never reused, every call adds one.
    """
    kind = measurements.BENCHMARK
    side = 512 if profile == "smoke" else RATES_SIDE
    rows = measurements.add(kind, profile, lambda: measured(cases, floors, side))["rows"]
    return pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*COLUMNS, *rows[0]])))
