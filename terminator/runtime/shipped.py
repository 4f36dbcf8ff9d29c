"""Trained models that come with the package: files by name, each known by its SHA-256.

They lie in terminator/weights, NAME.safetensors each, beside the list weights.sha256 in the form of
the program sha256sum. What a file is, it says itself (docs/models.md).
"""

import os
from pathlib import Path

from terminator.runtime import digests
from terminator.runtime.errors import OneLine
from terminator.runtime.paths import atomic_write, expanded

FOLDER = Path(__file__).resolve().parents[1] / "weights"
LIST = "weights.sha256"
SUFFIX = ".safetensors"


class NoSuchModel(OneLine, ValueError):
    """A name that no model of the package has."""


class DamagedModel(OneLine, ValueError):
    """A file of the package that is not the one that was put there."""


def names() -> list[str]:
    """The names of all models that come with the package."""
    return sorted(name.removesuffix(SUFFIX) for name in digests.listed(FOLDER, LIST))


def known() -> str:
    """The names for a message."""
    return f"a model of the package ({', '.join(names()) or 'it has none'})"


def is_name(given: str | Path) -> bool:
    """Whether a model of the package is meant: its bare name, and no file of that name is here."""
    return str(given) in names() and not Path(given).is_file()


def path(name: str) -> Path:
    """The file of a model, once it is found to be the one that was shipped.

    Raises:
        NoSuchModel: listing the known names.
        DamagedModel: if it is another, or gone.
    """
    listed = digests.listed(FOLDER, LIST)
    file = FOLDER / f"{name}{SUFFIX}"
    if file.name not in listed:
        raise NoSuchModel(f"model is {name!r}; allowed: {known()}")
    found = digests.of_file(file) if file.is_file() else "gone"
    if found != listed[file.name]:
        raise DamagedModel(
            f"{file} is not the file that was shipped (damaged, or replaced): its SHA-256 begins "
            f"with {found[:12]} instead of {listed[file.name][:12]}; install the kit anew, or get "
            "the file again with git"
        )
    return file


def model_path(given: str | Path) -> Path:
    """The file that is meant by the name of a model of the package, or by a path.

    Raises:
        NoSuchModel: if it is neither: no path, and no known name.
        DamagedModel: see path.
    """
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise NoSuchModel(f"model is {given!r}; allowed: {known()}, or a model file")
    if is_name(given):
        return path(str(given))
    file = expanded(given)
    if not file.exists() and looks_like_a_name(given):
        raise NoSuchModel(f"model is {str(given)!r}; allowed: {known()}, or a model file")
    return file


def looks_like_a_name(given: str | Path) -> bool:
    """Whether somebody can have meant a name: no folder before it, no suffix behind it."""
    return Path(given).name == str(given) and not Path(given).suffix


def add(name: str, content: bytes) -> Path:
    """Put a file among the models of the package, in an older one's place, and list it.

    Raises:
        OSError: if the package's folder cannot be written.
    """
    listed = digests.listed(FOLDER, LIST) | {f"{name}{SUFFIX}": digests.of(content)}
    FOLDER.mkdir(exist_ok=True)
    written = atomic_write(FOLDER / f"{name}{SUFFIX}", content)
    atomic_write(FOLDER / LIST, digests.as_list(dict(sorted(listed.items()))))
    return written
