"""Torch's own operations in the place of the fast ones, for derivatives that these do not have."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_wanted = ContextVar("plain operations", default=False)


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, networks compute by operations of torch alone: slower, with more memory, and with all
    that torch can do of them: second derivatives (`create_graph=True`), `torch.func`'s grad, jvp,
    hessian. Results agree to rounding.

    The fast operations have first derivatives, by formulas of their own.
    """
    before = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(before)


def is_wanted() -> bool:
    """Whether torch's own operations are to be used."""
    return _wanted.get()
