"""Places that answers are written to: looked at before the work, so that nothing of the user's is
overwritten, and hours of answers do not end at a place that cannot be written to.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def check_folders(pictures: Iterable[str | Path], folders: Mapping[str, Path | None]) -> None:
    """Refuse folders for pictures that are called like those which are read.

    Args:
        folders: by the option that names them.

    Raises:
        ValueError: for a folder in which one of the pictures lies, a file in a folder's place, and
            two options of one folder.
        PermissionError: for a place that cannot be written to.
    """
    homes = {_home(picture): picture for picture in pictures}
    for option, folder in folders.items():
        if folder is not None and (picture := homes.get(folder.resolve())) is not None:
            raise ValueError(
                f"{option} is {str(folder)!r}, where {picture} lies, and pictures there could be "
                "overwritten; allowed: another folder"
            )
    _check(folders, are_folders=True)


def check_files(pictures: Iterable[str | Path], files: Mapping[str, Path | None]) -> None:
    """Refuse files for tables of answers that are pictures, or that cannot be written.

    Args:
        files: by the option that names them.

    Raises:
        ValueError: for one of the pictures, a folder in a file's place, and two options of one
            file.
        PermissionError: for a place that cannot be written to.
    """
    read = {Path(picture).resolve() for picture in pictures}
    for option, file in files.items():
        if file is not None and file.resolve() in read:
            raise ValueError(f"{option} is {str(file)!r}, one of the pictures; allowed: another")
    _check(files, are_folders=False)


def _home(picture: str | Path) -> Path:
    """The folder in which a picture, or a link to it, lies."""
    return Path(picture).absolute().parent.resolve()


def _check(places: Mapping[str, Path | None], are_folders: bool) -> None:
    kinds = ("a file", "a folder") if are_folders else ("a folder", "a file")
    taken: dict[Path, str] = {}
    for option, path in places.items():
        if path is None:
            continue
        place = path.resolve()
        if place.exists() and place.is_dir() != are_folders:
            raise ValueError(f"{option} is {str(path)!r}, which is {kinds[0]}; allowed: {kinds[1]}")
        if place in taken:
            raise ValueError(
                f"{taken[place]} and {option} are both {str(path)!r}, where one would overwrite "
                "the other; allowed: two places"
            )
        taken[place] = option
        home = place if are_folders else place.parent
        above = next(p for p in (home, *home.parents) if p.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise PermissionError(
                f"{option} is {str(path)!r}, and nothing can be written in {above}; allowed: a "
                "place where it can"
            )
