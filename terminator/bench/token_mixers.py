"""Time and memory of every token mixer against the length of the sequence: one forward and backward pass each.

In laptop and paper every measurement runs in a process of its own (`sequence_step`), in smoke they run here. Every
time also stands in units of a matrix product of fixed size that is timed right before and after, so that records of
different machines can be compared. With one thread the clock is the process's own, which other work leaves alone.
Lengths whose predicted cost is over a limit are left out.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from terminator.bench import case as benchmark
from terminator.bench import measure as bench_measure
from terminator.bench import mixers, token_step
from terminator.bench import records as bench_records
from terminator.mixers.registry import TOKEN_MIXERS, make_mixer
from terminator.runs import literature
from terminator.runtime.distributed import choose_device
from terminator.runtime.progress import bar
from terminator.runtime.settings import ConfigError

EXPERIMENT = "sequence_mixers"
LENGTHS = {"smoke": (64, 256, 1024), "laptop": (256, 1024, 4096, 16_384, 65_536),
           "paper": (256, 1024, 4096, 16_384, 65_536, 131_072)}
LIMITS = {"smoke": 0.3, "laptop": 6.0, "paper": 6.0}  # seconds of one pass
FAR = 4096  # from this length on linear mixers are expected to grow in proportion


@dataclass(frozen=True)
class Case:
    """One mixer at one length; the other sizes are those of the independent implementation in literature.csv."""

    name: str
    length: int
    width: int = 64
    heads: int = 4
    batch: int = 1
    device: str = "cpu"
    threads: int = 1
    repeats: int = 5

    def __post_init__(self) -> None:
        if self.name not in TOKEN_MIXERS:
            raise ConfigError(f"name is {self.name!r}; allowed: {', '.join(TOKEN_MIXERS)}")
        for name in ("length", "width", "heads", "batch", "threads", "repeats"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed: an integer of at least 1")
        make_mixer(self.name, self.width, 1, self.heads)  # what does not fit is an error now, and named
        if self.device not in ("cpu", "cuda"):
            raise ConfigError(f"device is {self.device!r}; allowed: cpu, cuda")


def measure(case: Case, apart: bool = True) -> dict[str, Any]:
    """Time one case, in a process of its own if `apart`.

    Returns: a row: the case, positions, parameters, clock (process or wall), seconds (median), low, high, unit (s of
             the fixed matrix product), units = low / unit, bytes (largest sum of tensors alive; on a GPU torch's own
             peak), process_bytes (growth of the process's peak; nothing where it shares this one).
    """
    found = benchmark.in_process(token_step, case) if apart else token_step.main(**dataclasses.asdict(case))
    times = found.pop("seconds")
    low = min(times)
    memory = found["process_bytes"] if case.device == "cuda" else found["bytes"]
    return {"operator": case.name, "positions": case.length, **dataclasses.asdict(case), **found, "bytes": memory,
            "seconds": float(np.median(times)), "low": low, "high": max(times), "units": low / found["unit"],
            "process_bytes": found["process_bytes"] if apart else None}


def cost_table(lengths: Iterable[int], limit: float, names: Iterable[str] = tuple(TOKEN_MIXERS), apart: bool = True,
               **common: Any) -> pd.DataFrame:
    """A row per mixer and length, as `measure` gives it; `note` says why a row has no numbers.

    Args:  limit: seconds of a pass, above which a length is left out;  common: of every Case, e.g. width=128.
    """
    names, lengths, rows = list(names), sorted(lengths), []
    with bar(len(names) * len(lengths), "token mixers", "length") as progress:
        for name in names:
            last = None
            for length in lengths:
                case = Case(name, length, **common)
                note = mixers.too_much(last, length, mixers.powers(TOKEN_MIXERS[name]), limit)
                row = {"operator": name, "positions": length, **dataclasses.asdict(case), "note": note}
                if not note:
                    last = measure(case, apart)
                    row |= last
                rows.append(row)
                progress.update()
    return pd.DataFrame(rows)


def recorded(profile: str, device: str = "auto", again: bool = False) -> dict[str, Any]:
    """The newest record of this profile and kind of device, or a new one: rows, machine, versions, commit."""
    if profile not in LENGTHS:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(LENGTHS)}")
    kind = choose_device(device).type

    def measured() -> dict[str, Any]:
        smoke = profile == "smoke"
        costs = cost_table(LENGTHS[profile], LIMITS[profile], apart=not smoke, device=kind, repeats=3 if smoke else 5)
        return {"rows": costs.astype(object).where(costs.notna(), None).to_dict("records")}

    return bench_records.recorded(profile, EXPERIMENT, kind, measured, again)


def slopes(costs: pd.DataFrame, far: int = FAR) -> pd.DataFrame:
    """Fitted powers of time and memory in the length, from `far` on (or the three largest lengths), beside theory.

    Times are the shortest of the repeats, in units of the matrix product timed beside them.
    Returns: a row per mixer: time, memory, their theory, the lengths they were fitted to.
    """
    rows = []
    for name, group in costs.dropna(subset="seconds").groupby("operator", sort=False):
        beyond = group[group["positions"] >= far]
        group = beyond if len(beyond) > 1 else group.nlargest(3, "positions")
        if len(group) < 2:
            continue
        time, memory = (bench_measure.exponent(group["positions"], group[key], len(group)) for key in ("units", "bytes"))
        rows.append({"mixer": name, "time": time, "time, theory": TOKEN_MIXERS[name].time, "memory": memory,
                     "memory, theory": TOKEN_MIXERS[name].memory, "from": group["positions"].min(),
                     "to": group["positions"].max()})
    return pd.DataFrame(rows).set_index("mixer")


def beside_literature(costs: pd.DataFrame) -> pd.DataFrame:
    """Ours beside an independent implementation's, where sizes agree; times also in matrix products.

    Returns: columns mixer, T, what (time in ms, the shortest; memory in MB), ours, theirs, ours / theirs,
             matrix products.
    """
    kinds = {"time": ("time (ms)", "low", 1e3), "extra memory": ("memory (MB)", "bytes", 1e-6)}
    ours = costs.dropna(subset="seconds").set_index(["operator", "positions"])
    rows = []
    for row in literature.literature("token mixers").itertuples():
        key = (row.model, int(row.dataset.removeprefix("T = ")))
        if key in ours.index:
            name, column, factor = kinds[row.metric]
            here = factor * ours.loc[key, column]
            rows.append({"mixer": key[0], "T": key[1], "what": name, "ours": here, "theirs": row.value,
                         "ours / theirs": here / row.value,
                         "matrix products": ours.loc[key, "units"] if row.metric == "time" else np.nan})
    return pd.DataFrame(rows, columns=["mixer", "T", "what", "ours", "theirs", "ours / theirs", "matrix products"])


def verdict(costs: pd.DataFrame, name: str = "hrrformer") -> str:
    """Where a mixer stands: the length from which it is faster, and takes less memory, than each softmax attention."""
    measured = costs.dropna(subset="seconds")
    lines = []
    for other in ("softmax_explicit", "softmax_fused"):
        both = measured[measured["operator"].isin((name, other))]
        for what, column in (("faster", "low"), ("smaller in memory", "bytes")):
            wide = both.pivot(index="positions", columns="operator", values=column).dropna()
            ratio = wide[other] / wide[name]
            ahead = ratio[ratio > 1]
            ever = f"from T = {ahead.index[0]} on" if len(ahead) and (ratio[ahead.index[0]:] > 1).all() else \
                "at no measured length" if not len(ahead) else "at some lengths only"
            lines.append(f"{name} is {what} than {other} {ever} ({ratio.iloc[-1]:.2g} times at T = "
                         f"{wide.index[-1]}, the longest that both were measured at)")
    skipped = costs[costs["seconds"].isna()].drop_duplicates("operator")
    lines += [f"{row.operator}: left out from T = {row.positions} on ({row.note})" for row in skipped.itertuples()]
    return "\n".join(lines)


def conditions(costs: pd.DataFrame) -> str:
    """How the numbers were taken, in words."""
    row = costs.dropna(subset="seconds").iloc[0]
    return (f"{row['device']}, {int(row['threads'])} thread(s), batch {row['batch']}, width {row['width']}, "
            f"{row['heads']} heads, shortest of {row['repeats']}, {row['clock']} time")
