"""Class folders and archives of them: {train,test}/<class>/*.png, or <class>/*.png with a seeded split.

files.py finds names and contents; what is said here about splits and classes follows from the names alone;
decoding.py turns what is found into arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from terminator.data.decoder import is_picture
from terminator.data.files import is_archive, is_data, is_source, list_files, read_files
from terminator.data.sources import DatasetCorrupt

LAYOUT = "{train,test}/<class>/*.png|jpg|..., or <class>/*.png|jpg|..., possibly below one top folder"
_SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class Plan:
    """Which file is which: {name: label} per split, ordered by name; no `test` if it must be split off."""

    classes: tuple[str, ...]
    train: dict[str, int]
    test: dict[str, int]
    notes: tuple[str, ...]


def _image_paths(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return {name: path parts} of the images, without hidden files and a single top folder."""
    parts = {name: tuple(part for part in PurePosixPath(name).parts if part != "/") for name in names}
    images = {
        name: path
        for name, path in sorted(parts.items())
        if is_picture(name) and is_data(name)
    }
    tops = {path[0] for path in images.values()}
    below = list(images.values())
    has_splits = any(len(path) > 2 and path[1] in _SPLITS for path in below)
    if len(tops) == 1 and not tops & set(_SPLITS) and (has_splits or all(len(path) > 2 for path in below)):
        images = {name: path[1:] for name, path in images.items()}
    return images


def _by_class(images: dict[str, tuple[str, ...]], source: Path) -> dict[str, str]:
    """Return {name: class}: the first folder; an image beside the class folders is an error."""
    for name, path in images.items():
        if len(path) < 2:
            raise ValueError(f"{name} in {source} lies in no class folder: expected {LAYOUT}")
    return {name: path[0] for name, path in images.items()}


def plan_layout(names: list[str], source: Path) -> Plan:
    """Decide split and class of every image from the file names alone.

    Raises: ValueError if there are no images, fewer than two classes, a test class that is not in train, or
            images outside of class folders.
    """
    images = _image_paths(names)
    if not images:
        raise ValueError(f"no images found in {source}: expected {LAYOUT}")
    splits = {
        split: {name: path[1:] for name, path in images.items() if path[0] == split and len(path) > 1}
        for split in _SPLITS
    }
    notes: list[str] = []
    if splits["train"]:
        test_split = next((split for split in ("test", "val") if splits[split]), None)
        train = _by_class(splits["train"], source)
        test = _by_class(splits[test_split], source) if test_split else {}
        if test_split == "val":
            notes.append("val split used as test")
        if unused := len(images) - len(train) - len(test):
            notes.append(f"{unused} images outside train and {test_split or 'test'} not used")
    elif splits["test"] or splits["val"]:
        raise ValueError(f"{source} has a test or val folder but no train folder: expected {LAYOUT}")
    else:
        train, test = _by_class(images, source), {}
    classes = tuple(sorted(set(train.values())))
    if unknown := sorted(set(test.values()) - set(classes)):
        raise ValueError(f"{source} has test classes that are not in train: {', '.join(unknown)}")
    if len(classes) < 2:
        raise ValueError(f"{source} has only one class ({classes[0]}), two are needed: expected {LAYOUT}")
    if test and (absent := sorted(set(classes) - set(test.values()))):
        notes.append(f"no test images of {', '.join(absent)}")
    number = {name: label for label, name in enumerate(classes)}
    labels = [{name: number[cls] for name, cls in part.items()} for part in (train, test)]
    return Plan(classes, *labels, tuple(notes))


def looks_like_class_folders(source: Path) -> bool:
    """Say, from the first files only, whether a folder or archive seems to hold class folders of images."""
    if not is_source(source):
        return False
    try:
        names = list_files(source, limit=100)
    except DatasetCorrupt:
        return is_archive(source)  # still listed: loading it says what is wrong
    images = _image_paths(names).values()
    return bool(images) and all(len(path) > (2 if path[0] in _SPLITS else 1) for path in images)


__all__ = ["LAYOUT", "Plan", "list_files", "looks_like_class_folders", "plan_layout", "read_files"]
