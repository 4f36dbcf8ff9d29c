"""Where a number comes from: code, software, machine and time."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import terminator
from terminator.runtime import git
from terminator.runtime.machine import cpu_name

PACKAGE = Path(__file__).resolve().parents[1]


def package_hash():
    """One hash over the package's Python files, names included."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(
            f"{path.relative_to(PACKAGE).as_posix()}\0".encode() + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()


# what a record's `dirty` speaks of
CODE = ("terminator", "notebooks", "run_all.py", "pyproject.toml")
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pillow", "scikit-learn")


def now() -> str:
    """The time, UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


# -- provenance ------------------------------------------------------------------------------------


def device_name(kind: str) -> str:
    """What ran it: the GPU's name, or the processor's with the number of threads in use."""
    import torch

    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_name()}, {torch.get_num_threads()} threads"


def forget_peak_memory(kind: str) -> None:
    """Let peak_memory_bytes begin anew, where the system can."""
    if kind == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:  # Linux
        file.write("5")


def peak_memory_bytes(kind: str) -> int:
    """The most memory held since forget_peak_memory: of the whole process, what earlier work left
    there included, or on the GPU by torch.
    """
    if kind == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError, IndexError):
        # resource's figure would begin at that of the process which started this one
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str | int | None]:
    """Of this kit, Python, and the libraries that are here."""
    found: dict[str, str | int | None] = {
        "terminator-kit": terminator.__version__,
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    import torch

    found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found


def provenance() -> dict[str, Any]:
    """Code and software: commit, whether the checkout differed from it, source hash, versions,
    system.

    Commit and `dirty` are None where the package lies in no checkout of its own, whatever the
    current folder is; its version and the hash of its files say then what ran.
    """
    return {
        "commit": git.commit(),
        "dirty": git.changed(*CODE),
        "source_hash": package_hash(),
        "versions": versions(),
        "system": f"{platform.system()} {platform.machine()}",
    }


class Stretch:
    """What trained between two starts: commit, source, device, versions, time; a run may have
    several.

    Args:
        kind: of the device, "cpu" or "cuda".
        epochs: that were trained before.
    """

    def __init__(self, kind: str, epochs: int):
        self.first, self.clock = epochs, time.monotonic()
        found = provenance()
        self.content = {
            name: found[name] for name in ("commit", "dirty", "source_hash", "versions")
        }
        self.content |= {"device": device_name(kind), "started": now()}

    def until(self, epochs: int) -> dict[str, Any]:
        """The stretch so far, as a record holds it: `epochs` are the first and the last that it
        finished, if any.
        """
        finished = [self.first + 1, epochs] if epochs > self.first else []
        return {
            **self.content,
            "finished": now(),
            "seconds": round(time.monotonic() - self.clock, 1),
            "epochs": finished,
        }

    @staticmethod
    def unknown(rows: list[dict[str, float]]) -> dict[str, Any]:
        """A stretch of which only the epochs' own rows are known, as in checkpoints that kept no
        more.
        """
        return {
            "commit": None,
            "seconds": round(sum(row["seconds"] for row in rows), 1),
            "epochs": [1, len(rows)] if rows else [],
        }
