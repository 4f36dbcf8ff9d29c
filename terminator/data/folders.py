"""Class folders and archives of them: {train,test}/<class>/*.png, or <class>/*.png with a seeded
split.

files.py finds names and contents; what is said here about splits and classes follows from the names
alone; decoding.py turns what is found into arrays.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from terminator.data.decoder import is_picture
from terminator.data.errors import DatasetCorrupt, LayoutError
from terminator.data.files import few, is_archive, is_data, is_source, list_files

LAYOUT = (
    "{train,test}/<class>/*.png|jpg|..., or <class>/*.png|jpg|..., possibly below one top folder"
)
ROLES = {  # what the folders of a split may be called, in any case
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
}
_PLAIN = ("train", "test", "val")  # taken for splits even where pictures lie in them directly


@dataclass(frozen=True)
class Plan:
    """Which file is which: {name: label} per split, ordered by name; no `test` if it must be
    split off.
    """

    classes: tuple[str, ...]
    train: dict[str, int]
    test: dict[str, int]
    notes: tuple[str, ...]


Paths = dict[str, tuple[str, ...]]  # {name: its parts, without what all have in common}


def _paths(names: Iterable[str]) -> Paths:
    return {
        name: tuple(part for part in PurePosixPath(name).parts if part != "/")
        for name in sorted(names)
        if is_data(name)
    }


def _depth(images: Paths) -> int:
    """How many single folders lie above the splits or classes."""
    depth = 0
    while True:
        below = [path[depth:] for path in images.values()]
        tops = {path[0] for path in below}
        if len(tops) != 1 or min(map(len, below)) < 2 or _is_split(next(iter(tops)), below):
            return depth
        inside = [path[1:] for path in below]
        has_splits = any(
            _is_split(name, inside) for name in {path[0] for path in inside if len(path) > 1}
        )
        if not has_splits and (depth or not all(len(path) > 2 for path in below)):
            return depth
        depth += 1


def _is_split(folder: str, paths: Iterable[tuple[str, ...]]) -> bool:
    """Whether a top folder is called like a split and, unless it is called so plainly, has
    folders of pictures.
    """
    if folder.lower() not in ROLES:
        return False
    return folder in _PLAIN or any(path[0] == folder and len(path) > 2 for path in paths)


def _split_folders(images: Paths, source: Path) -> dict[str, str]:
    """{role: its top folder}: of train, test and val; nothing if the top folders are classes.

    Raises:
        LayoutError: for two folders of one role.
    """
    tops = {path[0] for path in images.values() if len(path) > 1}
    named = sorted(top for top in tops if top.lower() in ROLES)
    if len(named) < len(tops) or not any(ROLES[top.lower()] == "train" for top in named):
        # "valid" may be a class beside "invalid"
        named = [top for top in named if _is_split(top, images.values())]
    found: dict[str, str] = {}
    for top in named:
        role = ROLES[top.lower()]
        if role in found:
            raise LayoutError(
                f"{source} has the folders {found[role]} and {top}, both for {role}: expected one, "
                f"{LAYOUT}"
            )
        found[role] = top
    return found if "train" in found or set(found.values()) & set(_PLAIN) else {}


def _refuse_parts(images: Paths, source: Path) -> None:
    """Raise LayoutError if top folders hold the same folders, as the parts of a split do and
    classes do not.
    """
    inside: dict[str, set[str]] = {}
    for path in images.values():
        if len(path) > 2:
            inside.setdefault(path[0], set()).add(path[1])
    for first, second in itertools.combinations(sorted(inside), 2):
        if len(same := sorted(inside[first] & inside[second])) > 1:
            raise LayoutError(
                f"{source} has the folders {first} and {second}, which both hold {few(same)}: are "
                f"they parts of a split, called by other names? Expected {LAYOUT}"
            )


def _by_class(images: Paths, source: Path) -> dict[str, str]:
    """Return {name: class}: the first folder; an image beside the class folders is an error."""
    for name, path in images.items():
        if len(path) < 2:
            raise LayoutError(f"{name} in {source} lies in no class folder: expected {LAYOUT}")
    return {name: path[0] for name, path in images.items()}


def plan_layout(names: list[str], source: Path, folders: Iterable[str] = ()) -> Plan:
    """Decide split and class of every image from the names alone.

    Args:
        names: of all files.
        folders: that are known, so that empty classes are noticed.

    Raises:
        LayoutError: if there are no images, fewer than two classes, a test class that is not in
            train, images outside of class folders, or a top level that is neither splits nor
            classes.
    """
    everything = _paths(names)
    images = {name: path for name, path in everything.items() if is_picture(name)}
    if not images:
        suffixes = _suffixes(everything)
        raise LayoutError(
            f"no images found in {source}: expected "
            f"{LAYOUT}{f'; found {suffixes}' if suffixes else ''}"
        )
    depth = _depth(images)
    top = next(iter(images.values()))[:depth]
    images = {name: path[depth:] for name, path in images.items()}
    splits, notes = _split_folders(images, source), []
    if not splits:
        _refuse_parts(images, source)
        train, test, below = _by_class(images, source), {}, [top]
    else:
        train, test, below = _of_splits(images, splits, source, top, notes)
    classes = _checked_classes(train, test, source, notes)
    notes += _dropped(everything, folders, below, set(classes), set(train) | set(test))
    number = {name: label for label, name in enumerate(classes)}
    labels = [{name: number[cls] for name, cls in part.items()} for part in (train, test)]
    return Plan(classes, *labels, tuple(notes))


def _of_splits(
    images: Paths, splits: dict[str, str], source: Path, top: tuple[str, ...], notes: list[str]
) -> tuple[dict[str, str], dict[str, str], list[tuple[str, ...]]]:
    """{name: class} to train and to test, and the folders that hold class folders."""
    if "train" not in splits:
        raise LayoutError(
            f"{source} has a test or val folder but no train folder: expected {LAYOUT}"
        )
    role = next((role for role in ("test", "val") if role in splits), None)
    parts = []
    for folder in (splits["train"], splits[role] if role else None):
        inside = {
            name: path[1:] for name, path in images.items() if path[0] == folder and len(path) > 1
        }
        parts.append(_by_class(inside, source))
    if role == "val":
        notes.append(f"{splits['val']} split used as test")
    if unused := len(images) - len(parts[0]) - len(parts[1]):
        notes.append(
            f"{unused} images outside {splits['train']} and {splits[role] if role else 'test'} not "
            "used"
        )
    used = [splits["train"], *([splits[role]] if role else [])]
    return *parts, [(*top, folder) for folder in used]


def _checked_classes(
    train: dict[str, str], test: dict[str, str], source: Path, notes: list[str]
) -> tuple[str, ...]:
    classes = tuple(sorted(set(train.values())))
    if unknown := sorted(set(test.values()) - set(classes)):
        raise LayoutError(f"{source} has test classes that are not in train: {', '.join(unknown)}")
    if len(classes) < 2:
        raise LayoutError(
            f"{source} has only one class ({classes[0]}), two are needed: expected {LAYOUT}"
        )
    if wrong := [name for name in classes if not _is_text(name)]:
        raise LayoutError(
            f"{source} has the class folder {wrong[0]!r}, whose name is not UTF-8: rename it"
        )
    if test and (absent := sorted(set(classes) - set(test.values()))):
        notes.append(f"no test images of {', '.join(absent)}")
    return classes


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dropped(
    everything: Paths,
    folders: Iterable[str],
    below: list[tuple[str, ...]],
    classes: set[str],
    used: set[str],
) -> list[str]:
    """Notes on class folders without a picture, and on files in class folders that are not read.

    Args:
        below: the folders that hold class folders.
    """
    places = [*_paths(folders).values(), *(path[:-1] for path in everything.values())]
    empty = sorted(
        {
            path[len(above)]
            for above in below
            for path in places
            if path[: len(above)] == above and len(path) > len(above)
        }
        - classes
    )
    unread = {
        name: path
        for name, path in everything.items()
        if name not in used
        and not is_picture(name)
        and any(path[: len(above)] == above and len(path) > len(above) + 1 for above in below)
    }
    notes = [f"no class, as no picture in it is read: {few(empty)}"] if empty else []
    return notes + (
        [f"{len(unread)} files in class folders not read: {_suffixes(unread)}"] if unread else []
    )


def _suffixes(names: Iterable[str]) -> str:
    """What files are called, most frequent first: ".txt (12), .heic (3)"."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in names)
    return few(f"{suffix} ({count})" for suffix, count in counts.most_common())


def looks_like_class_folders(source: Path) -> bool:
    """Say, from the first files only, whether a folder or archive seems to hold class folders of
    images.
    """
    if not is_source(source):
        return False
    try:
        names = list_files(source, limit=100)
    except DatasetCorrupt:
        return is_archive(source)  # still listed: loading it says what is wrong
    images = {name: path for name, path in _paths(names).items() if is_picture(name)}
    if not images:
        return False
    below = [path[_depth(images) :] for path in images.values()]
    splits = {name for name in {path[0] for path in below} if _is_split(name, below)}
    return all(len(path) > (2 if path[0] in splits else 1) for path in below)
