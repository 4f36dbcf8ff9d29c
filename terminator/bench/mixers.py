"""Time and memory of the global mixers: maps against positions, tokens against length.

A step is one forward and one backward pass. Every time also stands in units of a matrix product of
fixed size that is timed right before and after, so that records of different machines can be
compared. Sizes whose predicted cost exceeds a limit are left out, and say so. Memory on the CPU is
that of all tensors alive at one time (those kept for the backward pass included, work space inside
an operation not); on a GPU, torch's own peak.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from torch import Tensor, nn

from terminator.bench.measure import (
    clock_of,
    in_process,
    measure,
    process_bytes,
    threads_of_cpu,
    unit_seconds,
)
from terminator.classification.host import CHANNELS
from terminator.mixers.registry import MAP_MIXERS, TOKEN_MIXERS, Mixer, make_map_mixer, make_mixer
from terminator.runs import measurements
from terminator.runtime.memory import keep_freed_memory
from terminator.runtime.progress import bar
from terminator.runtime.settings import require, require_one_of

MEMORY_LIMIT = 4 * 2**30  # bytes


# -- cases -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MapCase:
    """One mixer on maps of one side, with as many channels as the host network has.

    Raises:
        ConfigError: for what cannot be.
    """

    name: str
    side: int
    channels: int = CHANNELS
    batch: int = 2
    device: str = "cpu"
    threads: int = dataclasses.field(default_factory=torch.get_num_threads)
    repeats: int = 5

    experiment: ClassVar = "operators"
    known: ClassVar[Mapping[str, Mixer]] = MAP_MIXERS
    apart: ClassVar = False  # whether each is measured in a process of its own
    sizes: ClassVar[dict[str, tuple[int, ...]]] = {  # sides by profile
        "smoke": (8, 12, 16, 24, 32),
        "laptop": (8, 16, 32, 48, 64, 96, 128),
        "paper": (8, 16, 32, 64, 128, 256),
    }
    limits: ClassVar = {"smoke": 0.3, "laptop": 4.0, "paper": 4.0}  # seconds of one pass

    def __post_init__(self) -> None:
        _check(self)

    @property
    def positions(self) -> int:
        """H * H."""
        return self.side**2

    def parts(self) -> tuple[nn.Module, Tensor]:
        """The mixer, and maps (batch, channels, side, side)."""
        mixer = make_map_mixer(self.name, self.channels, self.side)
        return mixer, torch.randn(self.batch, self.channels, self.side, self.side)


@dataclass(frozen=True)
class TokenCase:
    """One mixer on tokens; sizes are those of the independent implementation in literature.csv.

    Raises:
        ConfigError: as its message says.
        ValueError: for what cannot be.
    """

    name: str
    length: int
    width: int = 64
    heads: int = 4
    batch: int = 1
    device: str = "cpu"
    threads: int = 1
    repeats: int = 5

    experiment: ClassVar = "sequence_mixers"
    known: ClassVar[Mapping[str, Mixer]] = TOKEN_MIXERS
    apart: ClassVar = True
    sizes: ClassVar[dict[str, tuple[int, ...]]] = {  # lengths by profile
        "smoke": (64, 256, 1024),
        "laptop": (256, 1024, 4096, 16_384, 65_536),
        "paper": (256, 1024, 4096, 16_384, 65_536, 131_072),
    }
    limits: ClassVar = {"smoke": 0.3, "laptop": 6.0, "paper": 6.0}

    def __post_init__(self) -> None:
        _check(self)
        make_mixer(self.name, self.width, 1, self.heads)  # what does not fit is an error now

    @property
    def positions(self) -> int:
        """T."""
        return self.length

    def parts(self) -> tuple[nn.Module, Tensor]:
        """The mixer, and tokens (batch, length, width)."""
        mixer = make_mixer(self.name, self.width, self.length, self.heads)
        return mixer, torch.randn(self.batch, self.length, self.width)


Case = MapCase | TokenCase


def _check(case: Case) -> None:
    require_one_of("name", case.name, case.known)
    require_one_of("device", case.device, ("cpu", "cuda"))
    for name, value in dataclasses.asdict(case).items():
        least = "an integer of at least 1"
        require(name in ("name", "device") or value >= 1, name, value, least)


# -- one measurement -------------------------------------------------------------------------------


def step(case: Case) -> tuple[Callable[[], None], int]:
    """A forward and backward pass of a mixer on random input; and its number of parameters."""
    torch.manual_seed(0)
    mixer, x = case.parts()
    mixer, x = mixer.to(case.device), x.to(case.device).requires_grad_()
    cotangent = torch.randn_like(x)

    def run() -> None:
        with torch.enable_grad():  # also where memory is watched
            mixer.zero_grad(set_to_none=True)
            x.grad = None
            mixer(x).backward(cotangent)

    return run, sum(p.numel() for p in mixer.parameters())


def main(**fields: Any) -> dict[str, Any]:
    """Measure a case in this process, which keeps freed memory from then on; see `measured`.

    Args:
        fields: of a TokenCase, or of a MapCase.
    """
    case: Case = TokenCase(**fields) if "length" in fields else MapCase(**fields)
    clock = clock_of(case.device, case.threads)
    with threads_of_cpu(case.threads):
        before_it = unit_seconds(case.device, clock)
        before = process_bytes(case.device)
        if case.device == "cpu":
            keep_freed_memory()
        run, parameters = step(case)
        found = measure(run, case.repeats, case.device)
        grown = process_bytes(case.device) - before
        shortest = min(before_it, unit_seconds(case.device, clock))
    return {
        "parameters": parameters,
        "clock": "process" if clock is time.process_time else "wall",
        **found.row(),
        "unit": shortest,
        "units": found.low / shortest,
        "process_bytes": grown,
    }


def measured(case: Case, apart: bool = True) -> dict[str, Any]:
    """Measure one case, in a process of its own if `apart`.

    Returns:
        a row: operator, positions, the case; parameters, clock (process or wall), seconds (median),
        low, high, unit (s of the fixed matrix product), units = low / unit, bytes, process_bytes
        (growth of the process's peak; nothing where it shares this one).
    """
    this = sys.modules[__name__]
    found = in_process(this, case).result if apart else main(**dataclasses.asdict(case))
    return {**_head(case), **found, "process_bytes": found["process_bytes"] if apart else None}


def _head(case: Case) -> dict[str, Any]:
    return {"operator": case.name, "positions": case.positions, **dataclasses.asdict(case)}


# -- tables of measurements ------------------------------------------------------------------------


def cost_table(
    kind: type[MapCase] | type[TokenCase],
    sizes: Iterable[int],
    limit: float,
    names: Iterable[str] = (),
    apart: bool = False,
    **common: Any,
) -> pd.DataFrame:
    """A row per mixer and size, as `measured` gives it; `note` says why a row has no numbers.

    Args:
        sizes: sides of the maps, or lengths.
        limit: seconds of a pass, above which a size is left out.
        names: of mixers (default: all).
        common: of every case, e.g. width=128.
    """
    names, sizes, rows = list(names) or list(kind.known), sorted(sizes), []
    with bar(len(names) * len(sizes), "mixers", "size") as progress:
        for name in names:
            last: dict[str, Any] | None = None
            for size in sizes:
                case = kind(name, size, **common)
                note = too_much(last, case.positions, kind.known[name], limit)
                if not note:
                    last = measured(case, apart)
                rows.append({**_head(case), "note": note, **({} if note else last or {})})
                progress.update()
    return pd.DataFrame(rows)


def too_much(last: dict[str, Any] | None, positions: int, mixer: Mixer, limit: float) -> str:
    """Why this size is left out, from the last one measured and the powers it must grow with.

    Args:
        last: its positions, seconds, bytes.
        limit: of a pass (s).
    """
    if last is None:
        return ""
    growth = positions / last["positions"]
    seconds, memory = last["seconds"] * growth**mixer.time, last["bytes"] * growth**mixer.memory
    if seconds > limit:
        return f"predicted {seconds:.1f} s a pass, limit {limit:g} s"
    if memory > MEMORY_LIMIT:
        return f"predicted {memory / 2**30:.1f} GiB, limit {MEMORY_LIMIT / 2**30:g} GiB"
    return ""


def recorded(
    kind: type[MapCase] | type[TokenCase], profile: str, device: str = "auto", again: bool = False
) -> dict[str, Any]:
    """The newest record of this profile and kind of device, or a new one.

    In smoke all measurements run in this process.

    Raises:
        ConfigError: for an unknown profile.
    """
    require_one_of("profile", profile, kind.sizes)
    smoke = profile == "smoke"
    how: dict[str, Any] = {"apart": kind.apart and not smoke, "repeats": 3 if smoke else 5}

    def rows(device: str) -> dict[str, Any]:
        costs = cost_table(kind, kind.sizes[profile], kind.limits[profile], device=device, **how)
        return {"rows": measurements.as_rows(costs)}

    return measurements.latest(kind.experiment, profile, rows, device, again)
