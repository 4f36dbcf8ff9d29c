"""Two folders of files, benign and malware, raw or gzip: their first bytes are the sequence.

EMBER publishes features and hashes, not the executables, so these files have to be the user's own.
Layout: {benign,malware}/* with a fixed 80/20 split, or {train,test}/{benign,malware}/*. A token is
a byte + 1.

Source: arXiv 2305.19534.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import torch

from terminator.data.sequences.text import find_source
from terminator.data.sequences.tokens import Sequences, Split
from terminator.data.sources import DatasetCorrupt, DatasetNotFound, stratified_choice
from terminator.runtime.progress import bar

CLASSES = ("benign", "malware")
SPLIT_SEED, TEST_SHARE = 0, 0.2


def read_bytes(path: Path, length: int) -> bytes:
    """The first `length` bytes of a file, unpacked where its first bytes say gzip.

    Raises:
        DatasetCorrupt: naming the file.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            return file.read(length)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetCorrupt(f"{path} cannot be read: {error}") from error


def _files(folder: Path) -> list[tuple[Path, int]]:
    found = [
        (path, label)
        for label, kind in enumerate(CLASSES)
        for path in sorted((folder / kind).rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    for label, kind in enumerate(CLASSES):
        if not any(label == other for _, other in found):
            raise DatasetNotFound(
                f"{folder / kind} has no files; expected: {{benign,malware}}/*, or "
                "{train,test}/{benign,malware}/*, raw or gzip"
            )
    return found


def _read(files: list[tuple[Path, int]], length: int) -> Split:
    order = np.random.RandomState(SPLIT_SEED).permutation(len(files))
    parts = []
    with bar(len(files), "reading files", "file") as progress:
        for i in order:
            parts.append(read_bytes(files[i][0], length))
            progress.update()
    return Split((Sequences.of(parts, 1),), torch.tensor([files[i][1] for i in order]))


def load_byte_files(
    folder: str | os.PathLike, length: int, data_dir: str | os.PathLike | None = None
) -> dict[str, Split]:
    """The splits train and test of a folder, the first `length` bytes of every file.

    Raises:
        DatasetNotFound: as its message says.
        DatasetCorrupt: naming a file.
    """
    place = Path(folder)
    if not place.is_dir():
        place = find_source(
            (os.fspath(folder),), data_dir, "the folder of byte files", "{benign,malware}/*"
        )
    if (place / "train").is_dir():
        return {split: _read(_files(place / split), length) for split in ("train", "test")}
    files = _files(place)
    labels = np.array([label for _, label in files])
    chosen = set(
        stratified_choice(labels, max(1, round(TEST_SHARE * len(files))), SPLIT_SEED).tolist()
    )
    parts = {
        split: [file for i, file in enumerate(files) if (i in chosen) == (split == "test")]
        for split in ("train", "test")
    }
    return {split: _read(part, length) for split, part in parts.items()}
