"""What torch has once in a process, its random numbers and default type: left as they were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_building = threading.RLock()
_this_thread = threading.local()


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
    if before is torch.float32:  # nothing that other threads could see
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def seed(number: int) -> None:
    """Let torch's random numbers begin anew, for a network that is about to be drawn; nothing for
    one whose weights come from a file.

    A GPU's only where it is in use: else they would begin so for whoever uses it first.
    """
    if getattr(_this_thread, "fills", False):
        return
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


@contextmanager
def filled_later() -> Iterator[None]:
    """Networks that are made inside get their weights from elsewhere, or none: they are of float32,
    and what is drawn for them is drawn by nobody else.
    """
    before = getattr(_this_thread, "fills", False)
    with _building, own_draws(), in_float32():
        _this_thread.fills = True
        try:
            yield
        finally:
            _this_thread.fills = before
