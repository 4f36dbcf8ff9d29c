"""Torch's own operations in the place of the fast ones, for derivatives that these do not have."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_wanted = 0  # how often; a plain number, which torch.compile of every version can read


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, networks compute by operations of torch alone: slower, with more memory, and with all
    that torch can do of them: second derivatives (`create_graph=True`), `torch.func`'s grad, jvp,
    vmap. Results agree to rounding. (It is of the whole process, other threads included.)

    The fast operations have first derivatives, by formulas of their own.
    """
    global _wanted
    with _lock:
        _wanted += 1
    try:
        yield
    finally:
        with _lock:
            _wanted -= 1


def is_wanted() -> bool:
    """Whether torch's own operations are to be used."""
    return _wanted > 0
