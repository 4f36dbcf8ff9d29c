"""Caches of few-shot images, as they are handed around: arrays and pickles of arrays, in one file
or a folder of them.

NAME.npy              (classes, images, H, W[, C]), or a list with an entry per class
NAME_ch_first.npy     (classes, images[, C], H, W); other words around NAME and behind _ch_first,
                      if one file alone is called so
NAME.pkl, .pickle     {"image_data": (images, H, W, C), "class_dict": {class: [its images]}}, or a
                      list with an entry per class
NAME/                 a folder of .npy, or of .pkl; they follow one another

Files of a folder are taken by their names; pickles that are called after a split, train first.

Source: the data formats of the HyperTransformer's released code (arXiv 2201.04182), and of the
cached miniImageNet of arXiv 1803.00676.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from terminator.data import arrays, levels
from terminator.data.errors import DatasetCorrupt
from terminator.data.files import entries, is_data
from terminator.data.places import kind_of
from terminator.data.plain_pickle import Array

PICKLES = (".pkl", ".pickle")
SUFFIXES = (".npy", *PICKLES)
CHANNELS = (1, 3)
SPLITS = ("train", "val", "test")
LAYOUT = "(classes, images, H, W[, C])"


class Cache(NamedTuple):
    """Images of every class, uint8 (images, C, H, W); their classes' names, and what was done."""

    stacks: list[np.ndarray]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def find(name: str, place: Path) -> Path | None:
    """The file or folder of a cache in a data folder.

    Raises:
        DatasetCorrupt: if something has its name and is no file, or no folder; if several files
            have.
    """
    for suffix in SUFFIXES:
        if is_file(path := place / f"{name}{suffix}"):
            return path
    found = [
        path
        for path in _listed(place, f"*{name}*_ch_first*.npy")
        if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", path.name, re.IGNORECASE)
    ]
    if len(found) > 1:
        raise DatasetCorrupt(
            f"{place} holds several files of {name}: {', '.join(path.name for path in found)}; "
            f"keep one of them there, or put them into a folder {name}/, if they are its parts"
        )
    if found:
        return found[0]
    folder = place / name
    return folder if _parts(folder) else None


def is_file(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        DatasetCorrupt: if something else is.
    """
    if kind := kind_of(path):
        if kind != "a file":
            raise DatasetCorrupt(
                f"{path} is no regular file, but {kind}: put the file itself there, or rename it"
            )
        return True
    return False


def hints(name: str, place: Path) -> str:
    """What is called like a folder of arrays and is none, for the error that nothing was found."""
    kind = kind_of(place / name)
    if kind == "a folder" and not os.access(place / name, os.R_OK | os.X_OK):
        return f" ({place / name}: no permission to read it: chmod u+rx)"
    if kind == "a folder":
        return f" ({place / name} has no {' or '.join(SUFFIXES)})"
    return f" ({place / name} is {kind}, not a folder of arrays)" if kind else ""


def _listed(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that are data and named so, sorted."""
    found = [path for path in entries(folder) if path.match(pattern) and is_data(path.name)]
    return [path for path in found if is_file(path)]


def _parts(folder: Path) -> list[Path]:
    """The files of a cache that is a folder, in their order."""
    if found := _listed(folder, "*.npy"):
        return found
    found = [path for suffix in PICKLES for path in _listed(folder, f"*{suffix}")]
    return sorted(found, key=lambda path: (_place(path.stem.lower()), path.name))


def _place(stem: str) -> int:
    return next((i for i, split in enumerate(SPLITS) if split in stem), len(SPLITS))


def read(path: Path) -> Cache:
    """A cache; all its files on one scale of values.

    Raises:
        DatasetCorrupt: naming the file, what is wrong with it, and what would be right.
    """
    stacks, names = [], []
    for file in _parts(path) if os.path.isdir(path) else [path]:
        found = _from_npy(file) if file.suffix == ".npy" else _from_pickle(file)
        is_first = "_ch_first" in file.name
        stacks += [_channels_first(stack, file, is_first) for stack in found.values()]
        names += list(found)
    if not stacks:
        raise DatasetCorrupt(f"{path} has no classes; needed: some, {LAYOUT}")
    stacks, note = levels.to_bytes(stacks, str(path))
    if len(set(names)) < len(names):  # numbered file by file, or names of one class in two files
        if any(not name.isdecimal() for name in names):
            raise DatasetCorrupt(
                f"{path} has a class of the same name in two files; allowed: each in one of them"
            )
        names = [str(number) for number in range(len(names))]
    return Cache(stacks, tuple(names), (note,) if note else ())


def _from_npy(path: Path) -> dict[str, np.ndarray]:
    found = arrays.read_npy(path)
    if isinstance(found, list):
        return _from_list(found, path)
    if found.ndim not in (4, 5):
        raise DatasetCorrupt(
            f"{path} has shape {found.shape}; allowed: 4 or 5 axes, {LAYOUT}, or a pickled list of "
            "(images, H, W[, C])"
        )
    if found.ndim == 4 and (found.shape[1] in CHANNELS or found.shape[3] in CHANNELS):
        raise DatasetCorrupt(
            f"{path} has shape {found.shape}, where pictures have one axis too few: are its "
            f"classes missing? Allowed: {LAYOUT}; grey pictures with so few images or columns need "
            "the last axis, 1"
        )
    return {str(number): stack for number, stack in enumerate(found)}


def _from_list(found: Any, path: Path) -> dict[str, np.ndarray]:
    stacks = {}
    for number, entry in enumerate(found):
        values = entry.values if isinstance(entry, Array) else entry
        if isinstance(values, list) and values and all(isinstance(one, Array) for one in values):
            values = _stacked([one.values for one in values], path, number)
        if not isinstance(values, np.ndarray):
            raise DatasetCorrupt(
                f"{path} has {type(values).__name__} as class {number}; allowed: an array (images, "
                "H, W[, C]) for each class"
            )
        stacks[str(number)] = values
    return stacks


def _stacked(images: list[Any], path: Path, number: int) -> np.ndarray:
    """A list of a class's images as one array."""
    shapes = {getattr(image, "shape", None) for image in images}
    kinds = {getattr(image, "dtype", None) for image in images}
    if len(shapes) != 1 or len(kinds) != 1 or None in shapes:
        raise DatasetCorrupt(
            f"{path} has images of several shapes or types as class {number}; allowed: one"
        )
    return np.stack(images)


def _from_pickle(path: Path) -> dict[str, np.ndarray]:
    found = arrays.read_pickle(path)
    if isinstance(found, Array) and isinstance(found.values, list):
        found = found.values
    if isinstance(found, list | tuple):
        return _from_list(found, path)
    if not isinstance(found, dict) or not {"image_data", "class_dict"} <= set(found):
        keys = f" with the keys {', '.join(sorted(found)[:5])}" if isinstance(found, dict) else ""
        raise DatasetCorrupt(
            f"{path} holds {type(found).__name__}{keys}; allowed: a list of arrays, or a "
            "dictionary with image_data and class_dict"
        )
    return _by_class(found["image_data"], found["class_dict"], path)


def _by_class(images: Any, rows: Any, path: Path) -> dict[str, np.ndarray]:
    """The images of every class, by the numbers that class_dict gives."""
    pixels = images.values if isinstance(images, Array) else None
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 4 or not isinstance(rows, dict):
        raise DatasetCorrupt(
            f"{path} has no image_data (images, H, W, C), or class_dict is no dictionary"
        )
    taken = np.zeros(len(pixels), bool)
    found = {}
    for name, listed in rows.items():
        numbers = listed.values if isinstance(listed, Array) else listed
        index = numbers.ravel().tolist() if isinstance(numbers, np.ndarray) else numbers
        if not isinstance(index, list) or not all(
            type(row) is int and 0 <= row < len(pixels) for row in index
        ):
            raise DatasetCorrupt(
                f"{path} names for class {name!r} what is no list of images; allowed: numbers from "
                f"0 to {len(pixels) - 1}"
            )
        if len(set(index)) < len(index) or taken[index].any():
            raise DatasetCorrupt(
                f"{path} names an image of class {name!r} twice; allowed: every image in one class"
            )
        taken[index] = True
        found[name] = pixels[index]
    return found


def _channels_first(stack: np.ndarray, path: Path, is_first: bool) -> np.ndarray:
    """One class's images as (images, C, H, W)."""
    if stack.ndim not in (3, 4) or 0 in stack.shape:
        raise DatasetCorrupt(
            f"{path} has a class of shape {stack.shape}; allowed: (images, H, W[, C])"
        )
    if stack.ndim == 3:
        return stack[:, None]
    last = stack if is_first else stack.transpose(0, 3, 1, 2)
    if last.shape[1] not in CHANNELS:
        other = stack.shape[3] if is_first else stack.shape[1]
        rename = (
            f"; if they are, {'leave out' if is_first else 'add'} _ch_first "
            f"{'from' if is_first else 'to'} the file's name"
            if other in CHANNELS
            else ""
        )
        raise DatasetCorrupt(
            f"{path} has images with {last.shape[1]} channels (shape {stack.shape}); allowed: 1 "
            f"or 3, the {'first' if is_first else 'last'} axis of an image"
            + (f". Its {'last' if is_first else 'first'} axis has {other}{rename}" * bool(rename))
        )
    return last
