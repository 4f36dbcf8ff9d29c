"""Texts as raw bytes: IMDB reviews, pairs of their halves, and the citation pairs of AAN in the
arena's file format.

A token is a byte + 1, without any clean-up (HTML breaks stay); 0 pads. IMDB is found as the
original archive, with or without its unlabelled part, or as a folder in its layout:
{train,test}/{neg,pos}/*.txt, possibly below a top folder.

Source: arXiv 2011.04006 (the tasks), arXiv 2305.19534.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from terminator.data import cached, files
from terminator.data.errors import DatasetCorrupt
from terminator.data.folders import ROLES
from terminator.data.places import is_path
from terminator.data.sequences import tables
from terminator.data.sequences.tokens import Sequences, Split, apart
from terminator.runtime.paths import cache_dir
from terminator.runtime.progress import bar
from terminator.runtime.text import shortened

VOCABULARY = 257
IMDB_NAMES = ("aclImdb", "aclImdb_v1", "aclImdb_v1_labelled", "imdb")
CLASSES = ("neg", "pos")
SPLITS = ("train", "val", "test")
PUBLISHED = 25_000  # reviews of either split
MAX_TEXT_BYTES = 2**24  # of one review
ALWAYS_READ, EXPANSION = 2**27, 50  # bytes of texts that an archive may hold, or times its size
AAN_FILES = {
    "train": ("train.tsv",),
    "val": ("eval.tsv", "val.tsv", "dev.tsv"),
    "test": ("test.tsv",),
}
PAIRS_SEED = 0  # which reviews become pairs of one kind, and of the other
LONGEST_ENCODED = 10_000  # bytes of a text in AAN's files that are read
ORDER_SEED = 0  # the order of the examples, fixed for ever


def load_imdb(data_dir: str | os.PathLike | None = None, name: str = "") -> dict[str, Split]:
    """The splits train and test, and val where there is one, in one fixed random order; read once,
    then cached.

    Args:
        name: a path, where it is one; else IMDB is looked for under its own names.

    Raises:
        DatasetNotFound: as its message says.
        DatasetCorrupt: naming the file.
    """
    names = (name,) if is_path(name) else IMDB_NAMES
    source = files.find_source(
        names, data_dir, "IMDB", "{train,test}/{neg,pos}/*.txt, a folder or an archive"
    )
    return read_reviews(source)


def read_reviews(source: Path) -> dict[str, Split]:
    """The reviews of a folder or archive, see load_imdb. Reviews that are tested on leave the
    training part, except of the published 25,000 + 25,000, where it is said.
    """
    files.check_source(source)
    # an archive's date is enough
    names = files.list_files(source, wanted=is_review) if source.is_dir() else []
    key = repr([str(source.resolve()), files.version(source, names), 2])
    name, digest = shortened(files.base_name(source)), hashlib.sha256(key.encode()).hexdigest()[:16]
    path = cache_dir() / "text" / f"{name}-{digest}.npz"
    if (arrays := cached.read(path)) is None:
        arrays = _read_reviews(source, names or files.list_files(source, wanted=is_review))
        cached.keep(path, arrays, "the texts")
    splits = {
        split: Split(
            (
                Sequences(
                    torch.from_numpy(arrays[f"{split}_values"]),
                    torch.from_numpy(arrays[f"{split}_starts"]),
                    1,
                ),
            ),
            torch.from_numpy(arrays[f"{split}_labels"]),
        )
        for split in SPLITS
        if f"{split}_labels" in arrays
    }
    splits["train"] = replace(splits["train"], notes=tuple(arrays["notes"].tolist()))
    published = [len(part) for part in splits.values()] == [PUBLISHED, PUBLISHED]
    return apart(splits, "reviews", published)


def is_review(name: str) -> bool:
    """Whether a relative name is that of a review: {train,test}/{neg,pos}/*.txt."""
    return _place(name) is not None


def _place(name: str) -> tuple[str, int] | None:
    """Split and label of a review, by its name."""
    *_, split, kind, file = ("", "", "", *PurePosixPath(name).parts)
    is_one = split.lower() in ROLES and kind.lower() in CLASSES and file.lower().endswith(".txt")
    return (ROLES[split.lower()], CLASSES.index(kind.lower())) if is_one else None


def _read_reviews(source: Path, names: list[str]) -> dict[str, np.ndarray]:
    wanted = {name: place for name in names if (place := _place(name)) is not None}
    splits = [split for split in SPLITS if any(split == other for other, _ in wanted.values())]
    needed = {(split, label) for split in {*splits, "train", "test"} for label in (0, 1)}
    if set(wanted.values()) != needed:
        raise DatasetCorrupt(
            f"{source} is no whole IMDB: it has {len(wanted)} reviews; expected some in each of "
            "{train,test}/{neg,pos}/*.txt"
        )
    texts, total = {}, 0
    allowed = max(ALWAYS_READ, EXPANSION * source.stat().st_size) if source.is_file() else math.inf
    with bar(len(wanted), f"reading {source.name}", "text") as progress:
        for name, content in files.read_files(source, set(wanted), MAX_TEXT_BYTES):
            texts[name] = content
            total += len(content)
            if total > allowed:
                raise DatasetCorrupt(
                    f"{source} unpacks to more than {allowed:,} bytes of texts, {EXPANSION} times "
                    "its size; no texts do. If they are what you want, unpack them and name the "
                    "folder"
                )
            progress.update()
    if empty := [name for name, content in texts.items() if not content.strip()]:
        raise DatasetCorrupt(
            f"{source} has {len(empty)} reviews without text ({files.few(empty)}): remove them, or "
            "copy them again"
        )
    unread = [
        name
        for name in names
        if name not in wanted and is_review(f"{PurePosixPath(name).parent}/x.txt")
    ]
    arrays = {
        "notes": np.array(
            [f"{len(unread)} files beside the reviews not read ({files.few(unread)})"]
            if unread
            else [],
            np.str_,
        )
    }
    for split in splits:
        mine = sorted(name for name in wanted if wanted[name][0] == split)
        mine = [mine[i] for i in np.random.RandomState(ORDER_SEED).permutation(len(mine))]
        found = Sequences.of([texts[name] for name in mine], 1)
        arrays[f"{split}_values"], arrays[f"{split}_starts"] = (
            found.values.numpy(),
            found.starts.numpy(),
        )
        arrays[f"{split}_labels"] = np.array([wanted[name][1] for name in mine], np.int64)
    return arrays


# -- pairs -----------------------------------------------------------------------------------------


def halves(split: Split) -> Split:
    """Pairs of halves of texts: of the same one (label 1), or of two different ones (label 0). A
    substitute for AAN.

    Every text gives one first half, and one second half. The two of a pair have one length,
    whatever the label: other texts are paired by length and cut to the shorter half, else lengths
    alone would tell the label.
    """
    text = split.texts[0]
    order = np.random.RandomState(PAIRS_SEED).permutation(len(split))
    whole, mixed = np.array_split(order, 2)
    if len(mixed) < 2:
        raise ValueError(f"{len(split)} texts are too few for pairs of halves; needed: at least 3")
    lengths = text.lengths.numpy()
    mixed = mixed[np.argsort(lengths[mixed], kind="stable")]
    partners = {int(i): int(i) for i in whole} | {
        int(i): int(j) for i, j in zip(mixed, np.roll(mixed, -1))
    }
    first, second, labels = [], [], []
    for i in range(len(split)):
        j = partners[i]
        a, b = text[i], text[j]
        length = min(len(a), len(b)) // 2
        first.append(a[:length])
        second.append(b[len(b) // 2 :][:length])
        labels.append(int(i == j))
    return Split(
        (Sequences.of(first, 1), Sequences.of(second, 1)), torch.tensor(labels), split.notes
    )


def read_pairs(source: Path, name: str) -> Split:
    """A file of AAN's format: label, id1, id2, text1, text2, parted by tabs.

    Raises:
        DatasetCorrupt: naming file and line.
    """
    first, second, labels = [], [], []
    for number, line in tables.lines(source, name):
        columns = line.split(b"\t")
        if len(columns) != 5 or columns[0] not in (b"0", b"1", b"0.0", b"1.0"):
            raise DatasetCorrupt(
                f"{source / name}, line {number}: {len(columns)} columns, the first is "
                f"{columns[0][:20].decode(errors='replace')!r}; allowed: label (0 or 1), id1, id2, "
                "text1, text2, parted by tabs"
            )
        if not (columns[3].strip() or columns[4].strip()):
            raise DatasetCorrupt(
                f"{source / name}, line {number}: both texts are empty; remove the line"
            )
        labels.append(int(float(columns[0])))
        first.append(columns[3][:LONGEST_ENCODED])
        second.append(columns[4][:LONGEST_ENCODED])
    return Split(
        (Sequences.of(first, 1), Sequences.of(second, 1)), torch.tensor(labels, dtype=torch.int64)
    )


def load_aan(
    folder: str | os.PathLike, data_dir: str | os.PathLike | None = None
) -> dict[str, Split]:
    """A folder or archive with one file each whose name ends with train.tsv, eval.tsv (val.tsv,
    dev.tsv) and test.tsv.

    Raises:
        DatasetNotFound: as its message says.
        DatasetCorrupt: naming file and line.
    """
    source = files.find_source(
        (os.fspath(folder),), data_dir, "AAN", "*{train,eval,test}.tsv in a folder or an archive"
    )
    return tables.read_splits(source, AAN_FILES, "pairs", read_pairs)
