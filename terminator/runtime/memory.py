"""Memory: freed pieces are kept for the next step, and what goes to a GPU goes without a wait."""

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import Tensor

_OUT = (  # of torch's messages, which are RuntimeErrors without a kind of their own
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "invalid size, cannot reserve",
)
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of malloc.h
_keeps = False  # freed memory


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep what is freed; no effect with another C library, nor on a GPU's
    memory.

    Every training step asks for the same large pieces. By default glibc maps each of them anew, and
    the system fills new pages with zeros, which takes longer than many of the operations that write
    to them afterwards. The process does not give memory back any more until `give_back`.
    """
    global _keeps
    if mallopt := _of_glibc("mallopt"):
        _keeps = True
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Let the system have what was freed, and keep no more from now on than glibc does at most;
    the opposite of keep_freed_memory, without which nothing is done.
    """
    global _keeps
    mallopt, trim = _of_glibc("mallopt"), _of_glibc("malloc_trim")
    if _keeps and mallopt and trim:
        _keeps = False
        mallopt(_MMAP_MAX, 65_536)  # as at first
        # glibc raises both as it sees larger pieces freed, up to these, but not once they are set
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_TRIM_THRESHOLD, 64 * 2**20)
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    return None if sys.platform == "win32" else getattr(ctypes.CDLL(None), name, None)


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """x on the device; to a GPU by way of pinned memory, so that the program does not wait for the
    work queued there.

    (From other memory, torch waits until the GPU has done all that was asked of it before.)
    """
    device = torch.device(device)
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=device.type != "cpu")  # the way back has to be waited for


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy or torch says that there is not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT)


def can_be_read(x: Tensor) -> bool:
    """Whether a check may look at x's values at no price: on the CPU, in code that is not being
    compiled.
    """
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
