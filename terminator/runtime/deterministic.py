"""The deterministic mode: on a GPU, too, the same settings give the same bits; at the price of some
speed.

On a CPU that is so without it (same machine, software and number of threads). On CUDA some of
torch's operations add up in whatever order threads arrive; `train.deterministic=True` lets torch
choose others, or refuse.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """torch's deterministic algorithms for a while, if wanted; else everything stays as it is."""
    if not wanted:
        yield
        return
    # cuBLAS asks for it, before it is first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    # else the fastest of several kernels is taken, each time anew
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=warn_only)
        torch.backends.cudnn.benchmark = before[1]
