"""Where things lie: project, results, data and cache folders; files that appear whole or not at
all.

Every other part takes its paths from here, because nbval runs in the notebook's folder and
papermill in the caller's. Standard library only, so that importing it costs nothing.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from terminator.runtime.errors import OneLine

DATA_VARIABLE = "TERMINATOR_DATA"
CACHE_VARIABLE = "TERMINATOR_CACHE"
OFFLINE_VARIABLE = "TERMINATOR_OFFLINE"
RESULTS_VARIABLE = "TERMINATOR_RESULTS"
LEFT = re.compile(r"\..+-[0-9a-f]{8}\.tmp(\..*)?")  # a name of atomic_path's
PROJECT = re.compile(rb"""^name\s*=\s*["']terminator-kit["']""", re.MULTILINE)  # in pyproject.toml


def home() -> Path:
    """Return the folder that holds terminator/: a checkout's, or the installation's
    site-packages.
    """
    return Path(__file__).resolve().parents[2]


def is_project(folder: Path) -> bool:
    """Whether a folder is this project's: its notebooks, and a pyproject.toml that says so."""
    try:
        with open(folder / "pyproject.toml", "rb") as file:
            named = PROJECT.search(file.read(10_000))
    except OSError:
        return False
    return named is not None and (folder / "notebooks").is_dir()


def project_root() -> Path | None:
    """Return the project's folder, with notebooks/ and results/ (which may have been deleted).

    The folder that holds the package is tried first (a checkout, an editable install), then the
    current one and its parents: JupyterLab may be started in a clone while the package is installed
    elsewhere.

    Returns:
        the folder, or None where the package is used outside the project.
    """
    here = Path.cwd()
    return next((folder for folder in (home(), here, *here.parents) if is_project(folder)), None)


def expanded(path: str | os.PathLike) -> Path:
    """A path whose leading ~ is a home folder's; as it is where there is no such user: `~b.jpg` is
    a file, for which Path.expanduser has an error.
    """
    return Path(os.path.expanduser(path))


def results_dir() -> Path:
    """Return the results folder: TERMINATOR_RESULTS, else <project>/results, else ./results (not
    created).
    """
    named = os.environ.get(RESULTS_VARIABLE)
    if named:
        return expanded(named).absolute()
    return (project_root() or Path.cwd()) / "results"


def shown(path: str | os.PathLike) -> str:
    """A path as it is said where others read it: from the project's folder, if it lies below it."""
    path, root = Path(path), project_root()
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return str(path)


def data_dirs(explicit: str | os.PathLike | None = None) -> list[Path]:
    """Return the folders to search for data sets, in order: `explicit`, then those of
    TERMINATOR_DATA.

    Args:
        explicit: the folder given with --data-dir; several are joined as in PATH.

    Returns:
        absolute paths without repeats; they need not exist.
    """
    named = [os.fspath(explicit) if explicit is not None else "", os.environ.get(DATA_VARIABLE, "")]
    parts = [part for text in named for part in text.split(os.pathsep) if part]
    folders = [expanded(part).absolute() for part in parts]
    return list(dict.fromkeys(folders))


def is_offline() -> bool:
    """Whether TERMINATOR_OFFLINE is set: nothing is downloaded then."""
    return bool(os.environ.get(OFFLINE_VARIABLE))


def cache_dir() -> Path:
    """Return TERMINATOR_CACHE, else $XDG_CACHE_HOME/terminator, else ~/.cache/terminator (not
    created).
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return expanded(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (expanded(base).absolute() if base else Path.home() / ".cache") / "terminator"


class ForeignFile(OneLine, ValueError):
    """A file that somebody else wrote stands where the kit's own would."""


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` on success and is removed on
    failure.

    A reader, or a run that is killed in between, sees the old file or the new one, never half of
    one. The temporary name keeps the suffix, because savefig and others choose their format by it.

    Args:
        path: the final file; its folder is created if missing.

    Raises:
        whatever the body raises.
        OSError: if the folder cannot be written. `path` is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.tmp{path.suffix}")  # LEFT
    try:
        open(temporary, "xb").close()  # new, so no link that somebody put there is followed
    except OSError as error:
        if not isinstance(error, FileExistsError):  # then its own name is what matters
            error.filename = str(path)
        raise
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # the bytes must be on the disk before the name points to them
        os.replace(temporary, path)
    except BaseException as error:  # Ctrl-C included: nothing may be left behind
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None  # a full disk names no file
        raise


def atomic_write(path: str | os.PathLike, content: bytes | str) -> Path:
    """Write `content` (text as UTF-8, line ends untouched) to `path` by way of atomic_path; return
    `path`.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_page(path: Path, page: str, mark: str) -> Path:
    """Write a page that is made anew again and again, in the place of an earlier one alone; return
    `path`.

    Args:
        mark: what every such page has near its beginning.

    Raises:
        ForeignFile: if a file without the mark is there.
    """
    try:
        with open(path, "rb") as there:
            head = there.read(2000)
    except FileNotFoundError:
        head = b""
    if head and mark.encode() not in head:
        raise ForeignFile(
            f"{path} is no page of this kit, and stays as it is; allowed: another results folder "
            f"({RESULTS_VARIABLE}), or another name for that file"
        )
    return atomic_write(path, page)


def left_overs(folder: Path) -> list[Path]:
    """What atomic_path left in a folder where its process was killed."""
    return [path for path in folder.glob(".*.tmp*") if LEFT.fullmatch(path.name)]
