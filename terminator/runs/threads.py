"""Trainings of one process: one at a time, and afterwards the process is as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from terminator.runtime.locks import Busy
from terminator.runtime.memory import give_back
from terminator.runtime.progress import say
from terminator.runtime.torch_state import in_float32, own_draws

_training = threading.RLock()
_depth = 0  # of trainings inside one another, by a callback say


@contextmanager
def one_training(on_gpu: bool, wait: bool = True) -> Iterator[None]:
    """A training of this process. Those of other threads wait for it, which is said: all draw from
    the same random numbers. (So who waits, inside a training, for another thread to train waits for
    ever.)

    Raises:
        Busy: instead of waiting.
    """
    global _depth
    if not _training.acquire(blocking=False):
        if not wait:
            raise Busy("another thread of this process trains; allowed: to wait for it")
        say("waiting for another training of this process")
        _training.acquire()
    _depth += 1
    try:
        if on_gpu:  # in use from here on: seeded with the rest, and restored
            torch.cuda.init()
        with own_draws(), in_float32():
            yield
    finally:
        _depth -= 1
        if not _depth:
            give_back()
        _training.release()
