"""Places that answers are written to: looked at before the work, so that nothing of the user's is
overwritten, and hours of answers do not end at a place that cannot be written to.
"""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

FILES, FOLDERS = ("csv", "json"), ("out", "show")  # options that name them


def spare_pictures(images: Iterable[str | Path], option: str, folder: str | Path | None) -> None:
    """Refuse a folder in which one of the pictures lies, since what is written there has a
    picture's name.

    Raises:
        ValueError: naming the option, the folder and the picture.
    """
    for image in images if folder is not None else ():
        if Path(image).resolve().parent == Path(folder or "").resolve():
            raise ValueError(
                f"{option} is {str(folder)!r}, where {image} lies, and pictures there would be "
                "overwritten; allowed: another folder"
            )


def check_outputs(args: argparse.Namespace, pictures: Iterable[Path]) -> None:
    """Refuse places of a command line that cannot be written to, or where something would be lost.

    Args:
        args: with some of the options FILES and FOLDERS.
        pictures: that are read.

    Raises:
        ValueError: for a picture's own place, a folder in a file's place or the reverse, and for
            two options of one place.
        PermissionError: for a place that cannot be written to.
    """
    read, taken = {path.resolve() for path in pictures}, dict[Path, str]()
    for name in (*FILES, *FOLDERS):
        path = getattr(args, name, None)
        if path is None:
            continue
        option, place = f"--{name}", path.resolve()
        if name in FOLDERS:
            spare_pictures(read, option, path)
        if place in read:
            raise ValueError(f"{option} is {str(path)!r}, one of the pictures; allowed: another")
        if place.exists() and place.is_dir() != (name in FOLDERS):
            here, allowed = ("folder", "file")[:: -1 if name in FOLDERS else 1]
            raise ValueError(f"{option} is {str(path)!r}, which is a {here}; allowed: a {allowed}")
        if place in taken:
            raise ValueError(
                f"{taken[place]} and {option} are both {str(path)!r}, where one would overwrite "
                "the other; allowed: two places"
            )
        taken[place] = option
        parent = next(p for p in (place, *place.parents) if p.is_dir())
        if not os.access(parent, os.W_OK):
            raise PermissionError(
                f"{option} is {str(path)!r}, and {parent} cannot be written to; allowed: a place "
                "that can"
            )
