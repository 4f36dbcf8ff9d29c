"""Memory of the process: what was freed is kept for the next step instead of handed back to the system."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep what is freed; no effect with another C library, nor on a GPU's memory.

    Every training step asks for the same large pieces. By default glibc maps each of them anew, and the system
    fills new pages with zeros, which takes longer than many of the operations that write to them afterwards. The
    process does not give memory back any more until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
