"""What this machine is."""

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
