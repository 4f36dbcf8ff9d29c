"""How fast the network trains and answers here, beside what the machine could do; and against another revision.

Every measurement runs in a process of its own (`benchmark_step`), so that its peak memory is its own. The floors are
the network's floating point operations over the better of two measured rates, a large matrix product's and a large
convolution's (libraries for one may know a processor that those for the other do not), and the bytes that its
operations read and write over the measured rate of a copy. A program that runs one operation after the other takes at
least the sum of every operation's larger floor, unless what it reads is still in a cache.
"""

import dataclasses
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from terminator import benchmark_step, records
from terminator.config import ConfigError
from terminator.layers import product
from terminator.paths import project_root, results_dir
from terminator.progress import bar

COLUMNS = ["what", "size", "batch", "precision", "compiled", "optimizer", "ms", "ms_low", "ms_high", "images_per_s",
           "peak_mib", "first_s", "flop_floor_ms", "byte_floor_ms", "over_floor", "serial_floor_ms",
           "over_serial_floor"]  # of a printed table
OPTIMIZERS = ("Kar3", "Kar3 plain", "AdamW fused")


@dataclass(frozen=True)
class Case:
    """One thing to measure: what, in which size, how often."""

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
        allowed = {"what": ("training", "inference", "optimizer"), "precision": ("float32", "bf16"),
                   "device": ("cpu", "cuda"), "dimensions": (1, 2), "optimizer": OPTIMIZERS}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(map(str, values))}")
        for name, least in {"size": 2, "batch": 1 + (self.what == "training"), "threads": 1, "repeats": 1}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; allowed: an integer of at least {least}")
        if self.graphs and not (self.compiled and self.what == "training"):
            raise ConfigError(f"graphs is True for {self.what}{' that is not compiled' * (not self.compiled)}; "
                              "allowed: for compiled training")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is 'cuda', but torch sees no CUDA device here; allowed: cpu")


def measure(case: Case, root: Path | None = None) -> dict[str, Any]:
    """Run the case once, in its own process, with the kit at `root` (default: this one).

    Returns: first_s (compilation included), seconds (of every repeat), peak_bytes (of the process; of the GPU).
    Raises:  RuntimeError with the process's last words if it fails.
    """
    return in_process(benchmark_step, case, root)


def in_process(script: ModuleType, case: Any, root: Path | None = None) -> dict[str, Any]:
    """Run a script on a case (a dataclass with `threads`) in its own process; the last line it prints is the result.

    Raises:  RuntimeError with the process's last words if it fails.
    """
    root = root or Path(inspect.getfile(records)).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(case.threads)}
    done = subprocess.run([sys.executable, "-", json.dumps(dataclasses.asdict(case))], cwd=root, text=True,
                          env=environment, input=inspect.getsource(script), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"the benchmark of {case} failed: {done.stderr.strip()[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(case: Case, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table: median and quartiles of the steps of all runs, images/s, memory, time of the first step."""
    low, median, high = np.quantile([s for run in runs for s in run["seconds"]], [0.25, 0.5, 0.75])
    return {**dataclasses.asdict(case), "ms": 1e3 * median, "ms_low": 1e3 * low, "ms_high": 1e3 * high,
            "images_per_s": case.batch / median, "peak_mib": max(run["peak_bytes"] for run in runs) / 2**20,
            "first_s": float(np.median([run["first_s"] for run in runs]))}


# -- floors --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """What the machine does in the best case: operations/s of large products, bytes/s of a copy (read and write)."""

    matrix_product: float
    convolution: float
    bytes: float

    @property
    def flops(self) -> float:
        """The better rate of arithmetic, operations/s."""
        return max(self.matrix_product, self.convolution)


def machine_rates(precision: str = "float32", device: str = "cpu", threads: int | None = None, side: int = 2048,
                  megabytes: int = 256) -> Rates:
    """Measure the rates: side x side matrices and a 3x3 convolution in that precision, a copy too large for any cache.

    Args:  threads: CPU threads (default: torch's).
    """
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(side, side, device=device).to(kind)
    images = torch.randn(8, side // 4, 32, 32, device=device).to(kind, memory_format=torch.channels_last)
    kernels = torch.randn(side // 8, side // 4, 3, 3, device=device).to(kind)
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.ones_like(source)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        multiply = best_seconds(lambda: product(a, a), device)
        convolution = best_seconds(lambda: F.conv2d(images, kernels, padding=1), device)
        copy = best_seconds(lambda: target.copy_(source), device)
    finally:
        torch.set_num_threads(before)
    return Rates(2 * side**3 / multiply, 2 * 8 * 32 * 32 * 9 * (side // 4) * (side // 8) / convolution,
                 2 * source.nbytes / copy)


def best_seconds(function: Callable[[], object], device: str = "cpu", repeats: int = 7) -> float:
    """The shortest of several calls, the first left out."""
    times = benchmark_step.seconds(function, repeats, 1, device)
    return min(times[1:])


class _Work(TorchDispatchMode):
    """What every operation does: `operations`, pairs of floating point operations and bytes read or written.

    Views cost nothing.
    """

    def __init__(self, counter: FlopCounterMode):
        super().__init__()
        self.operations: list[tuple[int, int]] = []
        self._counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = self._counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        storages = {t.untyped_storage()._cdata for t in given}
        is_view = made and all(t.untyped_storage()._cdata in storages for t in made) and not func._schema.is_mutable
        if not is_view:
            self.operations.append((self._counter.get_total_flops() - before,
                                    sum(t.numel() * t.element_size() for t in (*given, *made))))
        return out


def _convolution_gradients(gradient: Any, x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Operations of a convolution's gradients: torch counts a depth-wise kernel's as if it had no groups."""
    given = [shape for shape in out_shape[:2] if shape is not None]
    return len(given) * 2 * torch.Size([gradient[0], *gradient[2:], *weight]).numel()


COUNTED = {torch.ops.aten.convolution_backward: _convolution_gradients}  # in place of torch's own formulas


def work(step: Callable[[], object]) -> list[tuple[int, int]]:
    """Floating point operations and bytes read or written, of every operation of a step on the CPU."""
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter, _Work(counter) as done:
        step()
    return done.operations


def with_floors(row: dict[str, Any], case: Case, rates: Rates) -> dict[str, Any]:
    """The row with its floors (ms), and its time over the larger of both and over the serial one.

    flop_floor_ms, byte_floor_ms: all operations together;  serial_floor_ms: the sum of every operation's larger one.
    """
    step = benchmark_step.make_step(case.what, case.size, case.batch, case.precision, compiled=False, graphs=False,
                                    device="cpu", dimensions=case.dimensions, optimizer=case.optimizer)
    step()  # makes what later steps keep
    done = np.array(work(step))  # (operations, 2)
    floors = 1e3 * done / (rates.flops, rates.bytes)  # ms
    whole, serial = floors.sum(0), floors.max(1).sum()
    return {**row, "flops": int(done[:, 0].sum()), "bytes": int(done[:, 1].sum()),
            "flop_floor_ms": whole[0], "byte_floor_ms": whole[1], "over_floor": row["ms"] / whole.max(),
            "serial_floor_ms": serial, "over_serial_floor": row["ms"] / serial}


def _conditions(case: Case) -> tuple[str, str, int]:
    """What the machine's rates depend on."""
    return case.precision, case.device, case.threads


# -- whole benchmarks ----------------------------------------------------------------------------------------


def run(cases: Sequence[Case], profile: str = "laptop", floors: bool = True,
        experiment: str = "benchmark") -> pd.DataFrame:
    """Measure the cases one after another, write a record (results/runs/<experiment>) and return its table.

    A record is evidence of one moment on one machine: it is never reused, every call measures and adds one.
    """
    rows, started = [], records.now()
    rates = {key: machine_rates(*key) for key in {_conditions(case): None for case in cases} if floors}
    with bar(len(cases), "benchmark", "case") as progress:
        for case in cases:
            row = summary(case, [measure(case)])
            if floors and case.what != "optimizer":
                row = with_floors(row, case, rates[_conditions(case)])
            rows.append(row)
            progress.update()
    write_record(rows, profile, started, experiment,
                 rates={f"{p} {d}, {t} threads": dataclasses.asdict(r) for (p, d, t), r in rates.items()})
    return pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*COLUMNS, *rows[0]])))


def write_record(rows: list[dict[str, Any]], profile: str, started: str, experiment: str = "benchmark",
                 **more: Any) -> Path:
    """Write results/runs/<experiment>/speed-<profile>-<time>-<hash>/benchmark.json: rows, machine, code."""
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:6]
    name = f"speed-{profile}-{started.replace(':', '').removesuffix('+0000')}-{digest}"
    path = results_dir() / "runs" / experiment / name / "benchmark.json"
    device = "cuda" if any(row["device"] == "cuda" for row in rows) else "cpu"
    records.write_json(path, {"profile": profile, "machine": records.device_name(device), "rows": rows, **more,
                              "provenance": records.provenance(), "started": started, "finished": records.now()})
    return path


def load(profile: str | None = None, experiment: str = "benchmark") -> list[dict[str, Any]]:
    """All benchmark records of a profile (or all), oldest first."""
    found = [json.loads(path.read_text()) for path in sorted(results_dir().glob(f"runs/{experiment}/*/benchmark.json"))]
    return [record for record in found if profile in (None, record["profile"])]


def newest(profile: str, experiment: str, device: str) -> dict[str, Any] | None:
    """The newest record of a profile and kind of device (cpu, cuda), if there is one."""
    found = [record for record in load(profile, experiment) if record["rows"][0]["device"] == device]
    return found[-1] if found else None


def recorded(profile: str, experiment: str, device: str, measured: Callable[[], dict[str, Any]], again: bool = False
             ) -> dict[str, Any]:
    """The newest record of a profile and kind of device, or one that is made and written now.

    Args:  measured: gives `rows`, each with its `device`, and whatever else the record is to hold;
           again: measure in any case.
    """
    if again or newest(profile, experiment, device) is None:
        started, content = records.now(), measured()
        write_record(content.pop("rows"), profile, started, experiment, **content)
    found = newest(profile, experiment, device)
    assert found is not None
    return found


def readme_table(profile: str = "laptop") -> str:
    """The README's table of speed, Markdown: the newest measurement of every case on every processor."""
    rows: dict[tuple, str] = {}
    for record in load(profile):
        compared = record.get("comparison")
        for row in record["rows"][:1] if compared else record["rows"]:
            what = f"Step of {row['optimizer']}" if row["what"] == "optimizer" else row["what"].capitalize()
            shape = "" if row["what"] == "optimizer" else f"{row['batch']} of {row['size']}x{row['size']}"
            on = record["machine"].rpartition(", ")[0] or record["machine"]  # without its number of threads
            graphs = row.get("graphs", False)  # older records have no such field
            key = (what, shape, row["precision"], row["compiled"], graphs, row["threads"], bool(compared), on)
            against = f"{compared['ratio']:.2f} times as fast, {1 / compared['memory_ratio']:.2f} of its memory" \
                if compared else ""
            floor = ", ".join(f"{row[key]:.1f}" for key in ("over_floor", "over_serial_floor") if row.get(key))
            how = row["precision"] + ", compiled" * row["compiled"] + ", CUDA graphs" * graphs
            rows[key] = (f"| {what} | {shape} | {how} | {row['threads']} | "
                         f"{row['ms']:.1f} ({row['ms_low']:.1f} to {row['ms_high']:.1f}) | {row['peak_mib']:,.0f} | "
                         f"{floor} | {against} | {on} |")
    head = ("| what | images | precision | threads | ms (quartiles) | peak memory, MiB | "
            "times the floor, the serial one | against the plain translation | on |")
    return "\n".join([head, "|---" * 9 + "|", *(rows[key] for key in sorted(rows))])


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with another revision of this repository, removed afterwards.

    Raises:  ConfigError if the kit is no git repository here, or does not know the revision.
    """
    root = project_root()
    if root is None or not (root / ".git").exists():
        raise ConfigError(f"revision is {revision!r}, but this kit is not in a git repository; clone it to compare")
    found = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd=root,
                           capture_output=True, text=True)
    if found.returncode:
        raise ConfigError(f"revision is {revision!r}; allowed: a commit, tag or branch of this repository "
                          "(git log lists them)")
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", found.stdout.strip()], cwd=root, capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder)


def compare(case: Case, revision: str, rounds: int = 3, profile: str = "laptop",
            precision: str | None = None) -> dict[str, Any]:
    """Measure this kit and another revision in turns: here, there, here, there, ...

    Args:    rounds: of both, a process each;  precision: the other revision's, if it is not the case's.
    Returns: here, there (rows of `summary`), ratio (median time there over here), ratio_low, ratio_high (the
             smallest and the largest of the rounds), and memory_ratio (peak there over here).
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; allowed: an integer of at least 1")
    other = dataclasses.replace(case, precision=precision or case.precision)
    mine: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    started = records.now()
    with checkout(revision) as root, bar(2 * rounds, f"against {revision}", "process") as progress:
        for _ in range(rounds):
            for runs, which, where in ((mine, case, None), (theirs, other, root)):
                runs.append(measure(which, where))
                progress.update()
    ratios = [float(np.median(b["seconds"]) / np.median(a["seconds"])) for a, b in zip(mine, theirs, strict=True)]
    here, there = summary(case, mine), summary(other, theirs)
    result = {"here": here, "there": there, "revision": revision, "ratio": there["ms"] / here["ms"],
              "ratio_low": min(ratios), "ratio_high": max(ratios),
              "memory_ratio": there["peak_mib"] / here["peak_mib"]}
    write_record([here, there], profile, started,
                 comparison={key: value for key, value in result.items() if key not in ("here", "there")})
    return result


def reference_seconds(side: int = 1024) -> float:
    """The shortest time of a float32 matrix product of fixed size, as networks do it: the unit of the speed guard."""
    a = torch.randn(side, side)
    return best_seconds(lambda: product(a, a), repeats=9)
