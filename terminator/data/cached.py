"""Arrays that took time to make, kept in .npz files: read where they are whole, else made again."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from terminator.runtime.paths import atomic_path

Arrays = dict[str, np.ndarray]


def read(path: Path, names: Sequence[str] = ()) -> Arrays | None:
    """The arrays that were kept; nothing where there are none and, with a warning, where they are
    damaged.

    Args:
        names: of those that are wanted, in this order; none: all.
    """
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except Exception as error:  # damaged archives raise all sorts of things
        warnings.warn(
            f"making {path} again, which cannot be read: {error}", RuntimeWarning, stacklevel=3
        )
        return None


def keep(path: Path, arrays: Arrays, what: str, compressed: bool = False) -> None:
    """Keep arrays; where that cannot be, a warning says so, calling them `what`."""
    try:
        with atomic_path(path) as temporary:
            (np.savez_compressed if compressed else np.savez)(temporary, **arrays)
    except OSError as error:  # full or read-only: slower next time, but nothing is wrong now
        warnings.warn(
            f"{what} could not be kept in {path.parent}: {error}", RuntimeWarning, stacklevel=3
        )
