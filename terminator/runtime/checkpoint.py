"""Checkpoints of a training under way: everything it needs to go on as if it had never stopped.

A checkpoint is written beside the old one and renamed into place, so a kill or a full disk leaves
the old one whole. Files are read with weights_only=True.
"""

import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from terminator.runtime.paths import atomic_path

FORMAT = "terminator checkpoint 1"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written, read or continued; the message says what to do."""


def random_states() -> dict[str, Any]:
    """The states of all random number generators of this process."""
    state: Any = np.random.get_state()
    kind, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what random_states gave."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def load_checked(path: str | Path) -> Any:
    """torch.load with weights_only=True, once the archive's check sums are found right (torch
    ignores them).

    Raises:
        ValueError: with the reason, if the file is damaged, no such archive, or not safe to
            unpickle.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} in it does not match its check sum")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own text advises to switch the safety off
        raise ValueError(
            "it is no file of torch.save, or holds more than tensors and plain values"
        ) from error
    except Exception as error:  # damaged pickles and archives raise all sorts of things
        raise ValueError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        CheckpointError: if the disk is full or the folder is not writable; an older file survives.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save({"format": FORMAT, **content}, temporary)
    except (OSError, RuntimeError) as error:
        kept = "; the previous one is untouched" if path.exists() else ""
        raise CheckpointError(
            f"could not write the checkpoint {path}{kept} (disk full, or not writable?): "
            f"{_first_line(error)}"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: if the file is missing, corrupt, or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        content = load_checked(path)
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint (truncated or corrupt?). Remove it to start "
            f"that training afresh. {error}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this kit: it lacks format={FORMAT!r}")
    return content


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys in which two nested configurations differ, as "key: theirs -> ours"."""
    found = []
    for key in sorted({*ours, *theirs}):
        a, b = ours.get(key, "default"), theirs.get(key, "default")
        if isinstance(a, dict) or isinstance(
            b, dict
        ):  # a group all of whose settings are defaults is left out
            found += differences(ours.get(key, {}), theirs.get(key, {}), f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {b!r} -> {a!r}")
    return found
