"""What this machine is."""

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """The processor as its maker calls it, e.g. "AMD EPYC"."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_variables(processes: int, of: int | None = None) -> dict[str, str]:
    """{variable: value} for each of so many processes at a time: its share of the cores.

    Args:
        of: cores to share out; None: those that this process may use.

    A process takes no more threads than an OMP_NUM_THREADS that is set already allows it.
    """
    share = max(1, (cores() if of is None else of) // processes)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = str(min(share, max(1, int(asked))) if asked.isdigit() else share)
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # a thread that waits for others sleeps: else a busy neighbour slows all of them down
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
