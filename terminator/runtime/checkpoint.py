"""Checkpoints of a training under way: everything it needs to go on as if it had never stopped.

A checkpoint is written beside the old one and renamed into place, so a kill or a full disk leaves
the old one whole. Files are read with weights_only=True.
"""

import hashlib
import pickle
import random
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from terminator.runtime import checkpoint_forms as forms
from terminator.runtime.distributed import broadcast, gather, rank, world_size
from terminator.runtime.errors import OneLine
from terminator.runtime.memory import is_out_of_memory
from terminator.runtime.paths import atomic_path
from terminator.runtime.progress import say

FORMAT = "terminator checkpoint 1"


class NotOnlyTensors(ValueError):
    """A file of torch.save that holds more than tensors and plain values, or none of torch.save."""


class CheckpointError(OneLine, RuntimeError):
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
    # of another machine's GPUs there may be more
    for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)


def steps_within(saved: dict[str, Any]) -> int:
    """How many steps of an epoch that is not finished a checkpoint holds."""
    return saved["within"]["step"] if saved.get("within") else 0


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
        raise NotOnlyTensors(
            "it is no file of torch.save, or holds more than tensors and plain values"
        ) from error
    except Exception as error:  # damaged pickles and archives raise all sorts of things
        if is_out_of_memory(error):
            raise
        raise ValueError(_first_line(error)) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def digest(content: Any) -> str:
    """SHA-256 over a checkpoint's content: names, numbers, types and shapes, in order."""
    found = hashlib.sha256()
    _add(found, content)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        found.update(f"tensor {value.dtype} {tuple(value.shape)}".encode())
        dense = value.detach().cpu().contiguous()
        found.update(dense.flatten().view(torch.uint8).numpy().data if dense.numel() else b"")
    elif isinstance(value, Mapping):
        found.update(f"mapping {len(value)}".encode())
        for key, item in value.items():
            _add(found, key)
            _add(found, item)
    elif isinstance(value, list | tuple):
        found.update(f"list {len(value)}".encode())
        for item in value:
            _add(found, item)
    else:
        found.update(f"{type(value).__name__} {value!r}\0".encode("utf8", "backslashreplace"))


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        CheckpointError: if the disk is full or the folder is not writable; an older file survives.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save({"format": FORMAT, **content, "digest": digest(content)}, temporary)
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
    del content["format"]
    known = content.pop("digest", None)  # the first checkpoints have none
    if known is not None and known != digest(content):
        raise unusable(path, "its content is not what was written")
    return content


def unusable(path: Path | None, reason: str) -> CheckpointError:
    """The error for a checkpoint that nothing can go on from."""
    return CheckpointError(
        f"{path} is no checkpoint to go on from: {reason}. Remove it to start that training afresh."
    )


class _Default:
    """What a setting is that is not said."""

    def __repr__(self) -> str:
        return "default"


_DEFAULT = _Default()


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """The keys in which two nested configurations differ, as "key: theirs -> ours"."""
    found = []
    for key in sorted({*ours, *theirs}):
        a, b = ours.get(key, _DEFAULT), theirs.get(key, _DEFAULT)
        # a group all of whose settings are defaults is left out
        if isinstance(a, dict) or isinstance(b, dict):
            one, other = (side if isinstance(side, dict) else {} for side in (a, b))
            found += differences(one, other, f"{prefix}{key}.")
        elif a != b and not _one_place(a, b):
            found.append(f"{prefix}{key}: {b!r} -> {a!r}")
    return found


def _one_place(ours: Any, theirs: Any) -> bool:
    """Whether a value is the name of what the other, of an older checkpoint, has with its path."""
    if not (isinstance(ours, str) and isinstance(theirs, str)):
        return False
    return bool(ours) and ours.removeprefix("./") == PurePath(theirs).name


class Checkpoints:
    """The checkpoint of one training: when it is due, how it is written and gone on from.

    Args:
        path: of the file, or None where nothing is to be kept.
        identity: what is trained; a checkpoint of anything else is refused.
        minutes: between two within an epoch; 0: only at the ends of epochs.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any], minutes: float):
        self.path, self.identity, self.minutes = path, identity, minutes
        self.saved_at = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether the last one is old enough, after a step; the same answer in all processes."""
        if not self.minutes or self.path is None or (world_size() > 1 and step % 50):
            return False
        return broadcast(time.monotonic() - self.saved_at >= 60 * self.minutes)

    def save(self, **content: Any) -> None:
        """Write it, with the random states of all processes."""
        states = gather(random_states())
        if self.path is not None and rank() == 0:
            write(self.path, {"identity": self.identity, "random": states, **content})
        self.saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What was saved, if anything was; the random states are those of that moment again.

        Raises:
            CheckpointError: if it cannot be read, belongs to another configuration, or is not there
                for all processes.
        """
        if self.path is None:
            return None
        there = gather(self.path.exists())  # the first process writes it, for all
        if not any(there):
            return None
        if not all(there):
            raise CheckpointError(
                f"{self.path} is there for {sum(there)} of {len(there)} processes; allowed: a "
                "folder of results that all machines share (TERMINATOR_RESULTS)"
            )
        saved = read(self.path)
        if problem := forms.of_head(saved):
            raise unusable(self.path, problem)
        if changed := differences(self.identity, saved["identity"]):
            raise CheckpointError(
                f"{self.path} belongs to another configuration: {'; '.join(changed)}. Remove it, "
                "or choose another folder."
            )
        states = saved["random"]
        if len(states) == world_size():
            try:
                set_random_states(states[rank()])
            except (ValueError, TypeError, RuntimeError, KeyError, OverflowError) as error:
                raise unusable(
                    self.path, f"its random states are none ({_first_line(error)})"
                ) from error
        elif rank() == 0:
            say(
                f"note: the checkpoint was written by {len(states)} processes, now there are "
                f"{world_size()}; dropout will differ from an uninterrupted run"
            )
        return saved


def moment(
    step: int, totals: dict[str, Any], seconds: float, generator: torch.Generator
) -> dict[str, Any]:
    """What a checkpoint within an epoch has to know: steps done, sums so far, every process's."""
    sums = {name: torch.as_tensor(value).cpu() for name, value in totals.items()}
    own = {"totals": sums, "generator": generator.get_state()}
    return {"step": step, "seconds": seconds, "processes": gather(own)}


def own_share(within: dict[str, Any], counted: Sequence[str]) -> dict[str, Any]:
    """This process's part of a `moment`: its sums and its generator.

    Where there are now more or fewer processes, means stay and what is `counted` is shared anew.
    """
    processes = within["processes"]
    if len(processes) == world_size():
        return processes[rank()]
    totals = {}
    for name in processes[0]["totals"]:
        total = sum(each["totals"][name].double() for each in processes)
        totals[name] = total / (world_size() if name in counted else len(processes))
    return {"totals": totals, "generator": processes[0]["generator"]}
