"""The pictures of a class folder or archive, every one: what is read, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from terminator.data.decoder import is_picture
from terminator.data.errors import DatasetCorrupt, LayoutError
from terminator.data.files import check_memory, few, list_files, read_files
from terminator.data.folders import Plan
from terminator.data.leakage import digest
from terminator.data.marks import is_made_here
from terminator.data.pixels import fitted, open_as
from terminator.runtime.progress import bar, say
from terminator.runtime.text import visible

MAX_REASONS, MAX_NOTED = 10, 100  # pictures in an error, each with its reason; names in a note


def _contents(source: Path, wanted: set[str]) -> Iterator[tuple[str, bytes | DatasetCorrupt]]:
    """Every wanted file's content, or why it has none; a damaged archive is an error at once."""
    if not source.is_dir():
        yield from read_files(source, wanted)
        return
    for name in sorted(wanted):
        try:
            yield from read_files(source, {name})
        except DatasetCorrupt as error:
            yield name, error


@dataclass
class Decoded:
    """What came of the wanted files.

    Attributes:
        images: {name: (C, H, W)}, all of one size, not always of one C.
        digests: {name: of its content}.
        resized: whether any was.
        wrong: {name: why it is left out}.
    """

    images: dict[str, np.ndarray]
    digests: dict[str, bytes]
    resized: bool
    wrong: dict[str, str]


def decode_all(
    source: Path, wanted: set[str], image_size: int | None, channels: int | None, on_error: str
) -> Decoded:
    """Decode every wanted file.

    Raises:
        DatasetCorrupt: listing the pictures that cannot be used, unless they are to be skipped, or
            none is left.
        ValueError: if, without image_size, they differ in size; if they do not fit into memory.
    """
    found = Decoded({}, {}, False, {})
    first = None
    with bar(len(wanted), f"decoding {source.name}", "image", lines=True) as progress:
        for name, data in _contents(source, wanted):
            progress.update()
            try:
                if isinstance(data, DatasetCorrupt):
                    raise data
                image = open_as(data, f"{name} in {source}", channels)
            except ValueError as error:  # DatasetCorrupt among them
                found.wrong[name] = str(error)
                continue
            pixels, changed = fitted(image, f"{name} in {source}", image_size)
            found.resized |= changed
            found.digests[name] = digest(data)
            first = first or (name, pixels.shape[-1])
            if pixels.shape[-1] != first[1]:
                raise LayoutError(
                    f"images in {source} differ in size: {first[0]} has {first[1]} pixels a side, "
                    f"{name} has {pixels.shape[-1]}: pass dataset.image_size=.."
                )
            found.images[name] = pixels
            if len(found.images) == 1:
                check_memory(len(wanted), pixels.nbytes, source, "dataset.image_size=..")
    if found.wrong and (on_error == "refuse" or not found.images):
        raise DatasetCorrupt(_listed(found.wrong, source, len(wanted), on_error))
    return found


def _listed(wrong: dict[str, str], source: Path, count: int, on_error: str) -> str:
    """What is said of the pictures that cannot be used: the first ones, and how many there are."""
    remedy = "" if on_error == "skip" else "; dataset.on_error=skip leaves out what cannot be read"
    reasons = [wrong[name] for name in sorted(wrong)]
    if len(reasons) == 1:
        return f"{reasons[0]}{remedy}"
    shown = " | ".join(reason.replace(f" in {source}", "") for reason in reasons[:MAX_REASONS])
    more = f" | and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    return (
        f"{len(reasons)} of {count} pictures in {source} cannot be used{remedy}. They are: "
        f"{shown}{more}"
    )


def skipped(wrong: dict[str, str], plan: Plan, source: Path) -> tuple[Plan, list[str]]:
    """The plan without the pictures that are left out, and the note that names them.

    Raises:
        DatasetCorrupt: if a class has none left to train on, or the test part none at all.
    """
    train, test = (
        {name: label for name, label in part.items() if name not in wrong}
        for part in (plan.train, plan.test)
    )
    empty = [c for i, c in enumerate(plan.classes) if i not in train.values()]
    empty += ["the test part"] if plan.test and not test else []
    if empty:
        raise DatasetCorrupt(
            f"{source} has no picture left of {few(empty)}, since {len(wrong)} cannot be read "
            f"({few(sorted(wrong))})"
        )
    names = sorted(wrong)
    more = f" and {len(names) - MAX_NOTED} more" if len(names) > MAX_NOTED else ""
    shown = ", ".join(visible(name) for name in names[:MAX_NOTED])
    note = f"{len(names)} pictures that cannot be read were left out: {shown}{more}"
    return replace(plan, train=train, test=test), [note]


def picture_files(given: Iterable[Path]) -> list[Path]:
    """The files that are meant: each as it is, of a folder all pictures below it, by name; what is
    left out of it is said: other files, and pictures that were made here of others.

    A folder without a picture stands for itself, and costs its own row.
    """
    found: list[Path] = []
    for path in given:
        names = sorted(list_files(path)) if path.is_dir() else []
        pictures = [name for name in names if is_picture(name)]
        made = {name for name in pictures if is_made_here(path / name)}
        there = [path / name for name in pictures if name not in made]
        others = [name for name in names if not is_picture(name)] if there else []
        for left, why in ((others, "no pictures by their names"), (made, "answers of before")):
            if left:
                say(f"note: of {path}, {len(left)} left out, {why}: {few(sorted(left))}")
        found += there or [path]
    return found
