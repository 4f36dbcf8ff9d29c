"""The binary version of CIFAR-10 and CIFAR-100: labels and pixels as plain bytes, without pickles.

Their authors publish it beside the version that torchvision reads
(https://www.cs.toronto.edu/~kriz/cifar.html). Pictures and their order are the same, so both give
the same fingerprint.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

_SHAPE = (3, 32, 32)  # red, green, blue planes, row by row
_PIXELS = 3 * 32 * 32


class Version(NamedTuple):
    """How the files of one data set are called and laid out."""

    folder: str
    train: dict[str, int]  # {file: pictures}
    test: dict[str, int]
    names: str  # the file of class names, one a line
    label_bytes: int  # before the pixels of each picture; the last one is its class


VERSIONS = {
    "CIFAR10": Version(
        "cifar-10-batches-bin",
        {f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
        {"test_batch.bin": 10_000},
        "batches.meta.txt",
        1,
    ),
    "CIFAR100": Version(
        "cifar-100-binary",
        {"train.bin": 50_000},
        {"test.bin": 10_000},
        "fine_label_names.txt",
        2,  # its superclass, its class
    ),
}


def files(name: str, root: Path) -> list[Path]:
    """Return the files of the data set's binary version below `root`; none for other data sets."""
    if name not in VERSIONS:
        return []
    version = VERSIONS[name]
    return [root / version.folder / file for file in (*version.train, *version.test, version.names)]


def fault(name: str, path: Path) -> str | None:
    """Return what is wrong with the size of one of the files, or None."""
    version = VERSIONS[name]
    pictures = (version.train | version.test).get(path.name)
    if pictures is None:
        return None
    found, expected = os.path.getsize(path), pictures * (version.label_bytes + _PIXELS)
    return None if found == expected else f"has {found:,} bytes instead of {expected:,}"


def read(name: str, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read one split: images uint8 (N, 3, 32, 32), labels int64 (N,), class names."""
    version = VERSIONS[name]
    folder = root / version.folder
    content = np.concatenate(
        [
            np.fromfile(folder / file, np.uint8).reshape(-1, version.label_bytes + _PIXELS)
            for file in (version.train if train else version.test)
        ]
    )
    images = content[:, version.label_bytes :].reshape(-1, *_SHAPE)
    names = (folder / version.names).read_text(encoding="utf-8").split()
    return images, content[:, version.label_bytes - 1].astype(np.int64), tuple(names)
