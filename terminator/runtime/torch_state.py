"""What torch has once in a process, its random numbers and default type: left as they were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_training = threading.RLock()


@contextmanager
def own_draws() -> Iterator[None]:
    """Whatever is seeded and drawn inside, torch's random numbers go on as if nothing had been."""
    cuda = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(devices=range(cuda)):
        yield


@contextmanager
def in_float32() -> Iterator[None]:
    """New tensors are of float32, whatever the user's own are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def one_training() -> Iterator[None]:
    """A training of this process: others, of other threads, wait for it, since all draw from the
    same random numbers.
    """
    with _training, own_draws(), in_float32():
        yield
