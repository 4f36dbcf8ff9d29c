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
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch

from terminator.data.errors import DatasetCorrupt, DatasetNotFound
from terminator.data.files import few, find_source, list_files, open_files
from terminator.data.folders import ROLES
from terminator.data.leakage import digest
from terminator.data.places import kind_of
from terminator.data.sequences.tokens import Sequences, Split, apart
from terminator.data.splits import stratified_choice
from terminator.runtime.progress import bar

CLASSES = ("benign", "malware")
SPLITS = ("train", "val", "test")
LAYOUT = (
    "{benign,malware}/*, or {train,test}/{benign,malware}/*, raw or gzip, a folder or an archive"
)
SPLIT_SEED, TEST_SHARE = 0, 0.2
COMPARED = 2**16  # bytes: files that begin alike so far and are of one size count as the same


def read_bytes(file: BinaryIO, length: int, where: str) -> tuple[bytes, bytes]:
    """The first `length` bytes of an open file, unpacked where its first bytes say gzip, and the
    first as stored.

    Raises:
        DatasetCorrupt: calling the file `where`.
    """
    try:
        start = file.read(max(length, COMPARED))
        if start[:2] != b"\x1f\x8b":
            return start[:length], start
        file.seek(0)
        with gzip.open(file) as unpacked:
            return unpacked.read(length), start
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetCorrupt(f"{where} cannot be read: {error}") from error


def _kind(name: str) -> tuple[str, str] | None:
    """(split or "", class) by a relative name: malware/x, Train/benign/sub/x; with any folders
    before that are not called so.
    """
    folders = [part.lower() for part in PurePosixPath(name).parts[:-1]]
    place = next((i for i, part in enumerate(folders) if part in CLASSES), None)
    if place is None:
        return None
    return ROLES.get(folders[place - 1], "") if place else "", folders[place]


def _whole(names: list[str]) -> str:
    """The folder that holds everything, with its slash, if there is one and classes lie below it:
    it may be called as a class is (malware.tar of malware/).
    """
    tops = {name.partition("/")[0] for name in names}
    whole = f"{tops.pop()}/" if len(tops) == 1 else ""
    if whole[:-1].lower() in ROLES:  # a split, whose others are missing
        return ""
    return whole if any(_kind(name.removeprefix(whole)) for name in names) else ""


def _labelled(source: Path, names: list[str]) -> dict[str, list[tuple[str, int]]]:
    """(name, label) of every split, or of "" where there are none, class by class in the order
    of the names.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    whole = _whole(names)
    for name in sorted(names, key=lambda name: PurePosixPath(name).parts):
        if (kind := _kind(name.removeprefix(whole))) is not None:
            found.setdefault(kind[0], []).append((name, CLASSES.index(kind[1])))
    wanted = (
        [split for split in SPLITS if split != "val" or split in found]
        if "train" in found
        else [""]
    )
    splits = {split: sorted(found.get(split, []), key=lambda file: file[1]) for split in wanted}
    for split, files in splits.items():
        for label, kind in enumerate(CLASSES):
            if not any(label == other for _, other in files):
                where = source / split / kind
                but = "" if kind_of(where) in ("", "a folder") else f", it is {kind_of(where)}"
                raise DatasetNotFound(f"{where} has no files{but}; expected: {LAYOUT}")
    return splits


def refuse_empty(parts: Mapping[str, bytes], source: Path) -> None:
    """Raise DatasetCorrupt, with their names, if some contents are empty: nothing could be learnt
    from them but that they are.
    """
    if empty := [name for name, content in parts.items() if not content]:
        raise DatasetCorrupt(
            f"{source} has {len(empty)} files without content ({few(empty)}): remove them, or copy "
            "them again"
        )


# size and first bytes of every file: equal where files are, as good as surely
Keys = list[tuple[int, bytes]]


def _read(source: Path, files: list[tuple[str, int]], length: int) -> tuple[Split, Keys]:
    order = np.random.RandomState(SPLIT_SEED).permutation(len(files))
    parts: dict[str, bytes] = {}
    keys: dict[str, tuple[int, bytes]] = {}
    with bar(len(files), "reading files", "file") as progress:
        for name, size, file in open_files(source, {name for name, _ in files}):
            parts[name], stored = read_bytes(file, length, str(source / name))
            keys[name] = size, digest(stored)
            progress.update()
    refuse_empty(parts, source)
    names = [files[i][0] for i in order]
    labels = torch.tensor([files[i][1] for i in order])
    return Split((Sequences.of([parts[name] for name in names], 1),), labels), [
        keys[name] for name in names
    ]


def load_byte_files(
    folder: str | os.PathLike, length: int, data_dir: str | os.PathLike | None = None
) -> dict[str, Split]:
    """The splits train and test (and val where there is one) of a folder or archive, the first
    `length` bytes of every file.

    Raises:
        DatasetNotFound: as its message says.
        DatasetCorrupt: naming a file.
    """
    source = find_source((os.fspath(folder),), data_dir, "the folder of byte files", LAYOUT)
    splits = _labelled(source, list_files(source, wanted=lambda name: _kind(name) is not None))
    if "" in splits:
        files = splits[""]
        labels = np.array([label for _, label in files])
        chosen = set(
            stratified_choice(labels, max(1, round(TEST_SHARE * len(files))), SPLIT_SEED).tolist()
        )
        splits = {
            split: [file for i, file in enumerate(files) if (i in chosen) == (split == "test")]
            for split in ("train", "test")
        }
    found = {split: _read(source, part, length) for split, part in splits.items()}
    return apart(
        {split: part for split, (part, _) in found.items()},
        "files",
        keys={split: keys for split, (_, keys) in found.items()},
    )
