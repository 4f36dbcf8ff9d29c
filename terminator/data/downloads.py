"""Downloads that appear whole or not at all, from a network that is given up when it is silent."""

import http.client
import os
import shutil
import socket
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NETWORK_TIMEOUT = 10.0  # seconds without an answer
FAILURES = (  # of a download
    OSError,
    RuntimeError,
    EOFError,
    http.client.HTTPException,
    tarfile.TarError,
    zlib.error,
)


@contextmanager
def _network_timeout(seconds: float) -> Iterator[None]:
    # torchvision opens its connections without a timeout: a silent network would hang for minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def fetched(
    target: Path, fetch: Callable[[Path], object], is_there: Callable[[Path], bool]
) -> Path:
    """Let something be downloaded into a folder of the cache, which appears only when it is whole.

    Args:
        fetch: downloads into the folder that it is given.
        is_there: whether a folder holds it already: another process may have been faster.

    Raises:
        whatever `fetch` raises; a network that says nothing is given up.
    """
    part = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with _network_timeout(NETWORK_TIMEOUT):
            fetch(part)
        if not is_there(target):
            os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target
