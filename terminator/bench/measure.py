"""One way to measure: time and peak memory of a call, and a case in a process of its own.

This file and a subject's are handed over to that process, where they measure the kit of another
revision, too: so nothing of the kit is imported here.
"""

import contextlib
import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# -- time ------------------------------------------------------------------------------------------


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """The clock of a call that stands alone: the process's own where one thread computes.

    Other work on the machine leaves that one alone.
    """
    return time.process_time if device == "cpu" and threads == 1 else time.perf_counter


def seconds(
    function: Callable[[], object],
    repeats: int,
    warm_up: int = 1,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Times of `warm_up + repeats` calls (s), those to warm up included; waits for the GPU."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    times = []
    for _ in range(warm_up + repeats):
        wait()
        start = clock()
        function()
        wait()
        times.append(clock() - start)
    return times


def best_seconds(
    function: Callable[[], object],
    device: str = "cpu",
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The shortest of several calls (s), the first left out."""
    return min(seconds(function, repeats, 1, device, clock)[1:])


UNIT = 512  # side of the matrices whose product is the unit of time


def unit_seconds(
    device: str = "cpu", clock: Callable[[], float] = time.perf_counter, side: int = UNIT
) -> float:
    """The unit of time (s): a matrix product of fixed size, the shortest of several. Times in it
    can be compared between machines, and between moments of one machine.
    """
    a = torch.randn(side, side, device=device)
    return best_seconds(lambda: a @ a, device, 5, clock)


@contextlib.contextmanager
def threads_of_cpu(count: int) -> Iterator[None]:
    """So many threads compute, until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- memory ----------------------------------------------------------------------------------------


def process_bytes(device: str) -> int:
    """The most memory that the GPU's tensors held so far, or this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:  # resource's figure would start at that of the process that started this one
        with open("/proc/self/status") as file:
            status = file.read()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        import resource  # Windows has none

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)


def peak_bytes(function: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes that tensors made by the call held at one time.

    On the CPU work space inside an operation is not seen; on a GPU it is torch's own peak.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    with torch.no_grad(), _LiveBytes() as mode:
        function()
    return mode.peak


class _LiveBytes(TorchDispatchMode):
    """Watches every operation's results and adds up those that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {
            t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        self.live = {key: item for key, item in self.live.items() if not item[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in given:
                storage = tensor.untyped_storage()  # no view's, which was given
                self.live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return out


# -- both ------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Median, least and largest time of a call (s), see `clock_of`; its peak memory (bytes)."""

    seconds: float
    low: float
    high: float
    peak_bytes: int

    def row(self) -> dict[str, float]:
        """The names under which records keep them: seconds, low, high, bytes."""
        return dict(zip(("seconds", "low", "high", "bytes"), self, strict=True))


def measure(function: Callable[[], object], repeats: int = 5, device: str = "cpu") -> Measured:
    """Time a call, after one to warm up, and then take its peak memory."""
    clock = clock_of(device, torch.get_num_threads())
    times = seconds(function, repeats, 1, device, clock)[1:]
    memory = peak_bytes(function, device)
    return Measured(float(np.median(times)), min(times), max(times), memory)


def exponent(sizes: Iterable[float], costs: Iterable[float], last: int = 3) -> float:
    """p of the law cost ~ size^p, fitted to the `last` largest sizes.

    Raises:
        ValueError: without two positive pairs.
    """
    pairs = sorted(zip(sizes, costs, strict=True))[-last:]
    if len(pairs) < 2 or min(min(pair) for pair in pairs) <= 0:
        raise ValueError(f"exponent needs at least two positive sizes and costs, got {pairs}")
    x, y = np.log(np.array(pairs, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


# -- in a process of its own -----------------------------------------------------------------------

# What the process runs. Modules that are handed over stand in sys.modules before anything asks for
# them: they need no place in the kit that is measured. Its other modules are looked for in that kit
# alone: an editable installation would bring its own wherever the kit has none.
_START = """
import json, sys, types
from importlib.machinery import PathFinder
given = json.load(sys.stdin)
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: it ends with who asked for it

class OneKit:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != "terminator":
            return None
        found = PathFinder.find_spec(name, path or [given["root"]])
        if found is None:
            raise ModuleNotFoundError(f"no module {name} in the kit at {given['root']}", name=name)
        return found

sys.meta_path.insert(0, OneKit)
for name, source in given["sources"].items():
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
result = module.main(**given["case"])
used = {name: getattr(found, "__file__", None) for name, found in sys.modules.items()
        if name.partition(".")[0] == "terminator" and name not in given["sources"]}
print(json.dumps({"result": result, "used": used}))
"""


class Answer(NamedTuple):
    """What `main` of a subject returned, and the kit's modules that were loaded for it: {name:
    file}.
    """

    result: dict[str, Any]
    used: dict[str, Path]


def in_process(
    subject: ModuleType, case: Any, root: Path | None = None, beside: Sequence[ModuleType] = ()
) -> Answer:
    """Run a subject's `main` on a case in a process of its own, whose peak memory is then the
    case's.

    Args:
        subject: a module that imports nothing of bench/ but this file and those beside it.
        case: a dataclass with `threads`; its fields are the arguments of `main`.
        root: the folder of the kit that is measured (default: this one).
        beside: further modules that are handed over, each after those that it imports.

    Raises:
        RuntimeError: with the process's last words if it fails, or if it loaded any module of
            another kit than the one at `root`.
    """
    this = sys.modules[__name__]
    root = (root or Path(inspect.getfile(this)).parents[2]).resolve()
    sources = {module.__name__: inspect.getsource(module) for module in (this, *beside, subject)}
    fields = dataclasses.asdict(case)
    given = json.dumps({"sources": sources, "case": fields, "root": str(root)})
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(case.threads)}
    done = subprocess.run(
        [sys.executable, "-c", _START],
        cwd=root,
        text=True,
        env=environment,
        input=given,
        capture_output=True,
    )
    if done.returncode:
        if lacking := re.search(r"No module named '((?!terminator)[\w.]+)'\s*$", done.stderr):
            # not at the top: this file is also run beside older kits, which lack that module
            from terminator.runtime.settings import ConfigError

            raise ConfigError(
                f"what is measured needs {lacking[1]}, which is not installed: "
                f"python -m pip install {lacking[1].partition('.')[0]}"
            )
        raise RuntimeError(f"the benchmark of {case} failed: {done.stderr.strip()[-800:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    used = {name: Path(file).resolve() for name, file in answer["used"].items() if file}
    if foreign := sorted(str(path) for path in used.values() if not path.is_relative_to(root)):
        raise RuntimeError(
            f"the benchmark of {case} used {', '.join(foreign)}; allowed: what lies below {root}"
        )
    return Answer(answer["result"], used)
