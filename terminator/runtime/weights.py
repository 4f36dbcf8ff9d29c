"""Model files: safetensors that describe themselves, and whose weights are known to be those that
were saved.
"""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from terminator.runtime.paths import atomic_path


def write(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata, whole or not at all, with a digest of each.

    Raises:
        OSError: if the file cannot be written.
    """
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    metadata = {**metadata, "digest": _digest(tensors)}
    metadata["metadata_digest"] = _metadata_digest(metadata)
    try:
        with atomic_path(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata)
    except SafetensorError as error:
        raise OSError(f"could not write the model {path} (disk full?): {error}") from error


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a model file.

    Raises:
        FileNotFoundError: as its message says.
        ValueError: if the file is corrupt, or no model of this kit.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no readable safetensors file (truncated or corrupt?): {error}"
        ) from error
    if not metadata.get("format", "").startswith("terminator"):
        raise ValueError(f"{path} is no model of this kit: its metadata lacks format=terminator")
    if "digest" in metadata and metadata["digest"] != _digest(tensors):
        raise ValueError(f"{path} is corrupt: its weights are not those that were saved")
    if "metadata_digest" in metadata and metadata.pop("metadata_digest") != _metadata_digest(
        metadata
    ):
        raise ValueError(f"{path} is corrupt: its description is not the one that was saved")
    return tensors, metadata


def _metadata_digest(metadata: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names and values; safetensors itself would not notice a flipped bit."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(
            name.encode() + tensors[name].cpu().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
