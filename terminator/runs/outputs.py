"""Places that answers are written to: looked at before the work, so that nothing that is read, or
written by the same call, is overwritten, and hours of answers do not end at a place that cannot be
written to; and nothing that another wrote, or a user, is taken for an answer of before.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from terminator.data.marks import is_taken
from terminator.data.places import kind_of

# how tables of answers begin: as CSV, as JSON
TABLE = re.compile(
    rb"""image,class,probability|\s*\[\s*(\]|\{\s*"image":\s*"(\\.|[^"\\])*",\s*"top":)"""
)


def check_free(
    option: str, folder: Path, kind: str, pictures: Mapping[str, Path], model: str
) -> None:
    """Refuse a folder where a PNG would take the place of a file that is not its own.

    Args:
        option: that names the folder.
        kind, model: see marks.mark.
        pictures: what each PNG will be made of, by its name.

    Raises:
        ValueError: for a file that marks.is_taken.
    """
    for name, picture in pictures.items():
        if picture.is_file() and is_taken(folder / name, picture, kind, model):
            raise ValueError(
                f"{option} is {str(folder)!r}, where {name} lies, which is none of the {kind} that "
                f"this model made of {picture}; allowed: another folder"
            )


def check_places(
    pictures: Iterable[str | Path],
    files: Mapping[str, Path | None] | None = None,
    folders: Mapping[str, Path | None] | None = None,
    model: Path | None = None,
) -> None:
    """Refuse places for answers that are read from, that are one another's, or that cannot be
    written to.

    Args:
        pictures: that are read.
        files: of tables, by the option that names them.
        folders: for pictures, by the option that names them.
        model: that is read.

    Raises:
        ValueError: for one of the files that are read, a file that is no table of answers, a folder
            in which a picture lies, a file in a folder's place or a folder, a pipe or a device in a
            file's, two options of one place, and a table that is called like a picture of such a
            folder.
        PermissionError: for a place that cannot be written to.
    """
    pictures, files, folders = list(pictures), files or {}, folders or {}
    known = {Path(path).resolve() for path in (*pictures, *([model] if model else []))}
    homes = {_home(path): path for path in pictures}
    places = {folder.resolve(): option for option, folder in folders.items() if folder is not None}
    for option, file in files.items():
        if file is None:
            continue
        if file.resolve() in known:
            raise ValueError(f"{option} is {str(file)!r}, which is read; allowed: another file")
        if file.is_file() and not _is_table(file):
            raise ValueError(
                f"{option} is {str(file)!r}, which is there and no table of answers; allowed: a "
                "new file, or one of these"
            )
        into = places.get(file.resolve().parent)
        if into is not None and file.suffix.lower() == ".png":
            raise ValueError(
                f"{option} is {str(file)!r}, called like the pictures that {into} writes there; "
                "allowed: another name"
            )
    for option, folder in folders.items():
        if folder is not None and (path := homes.get(folder.resolve())) is not None:
            raise ValueError(
                f"{option} is {str(folder)!r}, where {path} lies, and files there could be "
                "overwritten; allowed: another folder"
            )
    taken: dict[Path, str] = {}
    _check(files, False, taken)
    _check(folders, True, taken)


def _is_table(file: Path) -> bool:
    """Whether a file holds answers (answers.table, as_json), or nothing."""
    with open(file, "rb") as opened:
        head = opened.read(2**16)
    return not head or TABLE.match(head) is not None


def _home(picture: str | Path) -> Path:
    """The folder in which a picture, or a link to it, lies."""
    return Path(picture).absolute().parent.resolve()


def _check(places: Mapping[str, Path | None], are_folders: bool, taken: dict[Path, str]) -> None:
    allowed = "a folder" if are_folders else "a file"
    for option, path in places.items():
        if path is None:
            continue
        place = path.resolve()
        if (kind := kind_of(place)) not in ("", allowed):
            raise ValueError(f"{option} is {str(path)!r}, which is {kind}; allowed: {allowed}")
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
