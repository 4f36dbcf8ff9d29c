"""How fast the network trains and answers here, beside what the machine could do; and against another revision.

Every measurement runs in a process of its own (`benchmark_step`), so that its peak memory is its own. The floors are
the network's floating point operations over the better of two measured rates, a large matrix product's and a large
convolution's (libraries for one may know a processor that those for the other do not), and the bytes that its
operations read and write over the measured rate of a copy. A program that runs one operation after the other takes at
least the sum of every operation's larger floor, unless what it reads is still in a cache.
"""


import dataclasses
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from terminator.bench import network
from terminator.runtime.settings import ConfigError

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
    return in_process(network, case, root)


def in_process(script: ModuleType, case: Any, root: Path | None = None) -> dict[str, Any]:
    """Run a script on a case (a dataclass with `threads`) in its own process; the last line it prints is the result.

    Raises:  RuntimeError with the process's last words if it fails.
    """
    root = root or Path(inspect.getfile(network)).parents[2]
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
