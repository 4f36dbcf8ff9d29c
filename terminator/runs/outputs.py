"""Places that answers are written to: looked at before the work, so that nothing that is read, or
written by the same call, is overwritten, and hours of answers do not end at a place that cannot be
written to; and pictures that know what they were made of, so that no other one takes their place.
"""

import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image, PngImagePlugin

from terminator.runtime import digests

SOURCE = "Source"  # in a PNG's text: the SHA-256 of the picture that it was made of


def of_picture(picture: Path) -> dict[str, str]:
    """The text of a PNG that is made of a picture: what it was made of."""
    return {SOURCE: digests.of_file(picture)}


def is_taken(path: Path, picture: Path) -> bool:
    """Whether a file is there that is no PNG made of this picture by this kit."""
    if not os.path.lexists(path):
        return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=["PNG"]) as there:
            assert isinstance(there, PngImagePlugin.PngImageFile)
            return not of_picture(picture).items() <= there.text.items()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return True


def check_free(pictures: Mapping[str, Path], folders: Mapping[str, Path | None]) -> None:
    """Refuse folders where a PNG would take the place of a file that is not its own.

    Args:
        pictures: what each PNG will be made of, by its name.
        folders: for them, by the option that names them.

    Raises:
        ValueError: for a file that is_taken.
    """
    for option, folder in folders.items():
        for name, picture in pictures.items():
            if folder is not None and picture.is_file() and is_taken(folder / name, picture):
                raise ValueError(
                    f"{option} is {str(folder)!r}, where {name} lies, which was not made of "
                    f"{picture}; allowed: another folder"
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
        ValueError: for one of the files that are read, a folder in which a picture lies, a file in
            a folder's place or a folder in a file's, two options of one place, and a table that
            is called like a picture of such a folder.
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


def _home(picture: str | Path) -> Path:
    """The folder in which a picture, or a link to it, lies."""
    return Path(picture).absolute().parent.resolve()


def _check(places: Mapping[str, Path | None], are_folders: bool, taken: dict[Path, str]) -> None:
    kinds = ("a file", "a folder") if are_folders else ("a folder", "a file")
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
