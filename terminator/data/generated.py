"""Data that a program makes: in numbered parts, by several processes, kept in the cache.

A part depends on the settings and its number alone, so that any number of processes make the same data; it is
written whole or not at all, so that what was interrupted goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from terminator.paths import atomic_path, atomic_write, cache_dir
from terminator.progress import bar

Arrays = dict[str, np.ndarray]
IN_PARALLEL = 8  # so many parts are worth starting processes for


def folder_of(kind: str, settings: Any, version: int) -> Path:
    """Where the parts of these settings (a dataclass) are kept."""
    text = json.dumps([dataclasses.asdict(settings), version], sort_keys=True)
    return cache_dir() / kind / hashlib.sha256(text.encode()).hexdigest()[:16]


def read_part(path: Path) -> Arrays | None:
    """A part that was made before; nothing, with a warning, if it is damaged."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # damaged archives raise all sorts of things
        warnings.warn(f"making {path} again, which cannot be read: {error}", RuntimeWarning, stacklevel=3)
        return None


def parts(kind: str, settings: Any, make: Callable[[Any, int], Arrays], count: int, version: int = 1,
          processes: int | None = None) -> list[Arrays]:
    """The first `count` parts, from the cache or made now.

    Args:
        kind: the folder in the cache, and what the progress bar says;  settings: a dataclass;
        make: of settings and the part's number, a function that other processes can import;
        version: of what `make` does;  processes: so many at once (default: as many as there are processors).
    """
    folder = folder_of(kind, settings, version)
    files = [folder / f"{number:05d}.npz" for number in range(count)]
    found = {number: part for number, file in enumerate(files) if (part := read_part(file)) is not None}
    missing = [number for number in range(count) if number not in found]
    processes = min(processes or os.cpu_count() or 1, len(missing))
    with bar(count, f"making {kind}", "part") as progress:
        progress.update(len(found))
        for number, part in _made(settings, make, missing, processes):
            found[number] = part
            _keep(files[number], part, settings)
            progress.update()
    return [found[number] for number in range(count)]


def _made(settings: Any, make: Callable[[Any, int], Arrays], missing: list[int], processes: int
          ) -> Iterator[tuple[int, Arrays]]:
    """Yield (number, part) as they get ready."""
    if len(missing) < IN_PARALLEL or processes < 2:
        for number in missing:
            yield number, make(settings, number)
        return
    import joblib  # comes with scikit-learn; its processes need no main module that can be imported

    with joblib.Parallel(processes) as pool:
        for first in range(0, len(missing), processes):  # in rounds, so that a kill loses no more than one
            numbers = missing[first: first + processes]
            yield from zip(numbers, pool(joblib.delayed(make)(settings, number) for number in numbers))


def _keep(path: Path, part: Arrays, settings: Any) -> None:
    try:
        if not (path.parent / "settings.json").is_file():
            atomic_write(path.parent / "settings.json", json.dumps(dataclasses.asdict(settings), indent=1))
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **part)
    except OSError as error:  # full or read-only: slower next time, but nothing is wrong now
        warnings.warn(f"generated data could not be kept in {path.parent}: {error}", RuntimeWarning, stacklevel=3)
