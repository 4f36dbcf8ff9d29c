"""Files of data sets, in folders and archives: which are data, where they are, their names and
contents.

What is not data is the same for everybody (is_data). Of the rest only regular files are read, every
folder once, through links as well; a link that leads nowhere, a device or a pipe matters only under
a name that is wanted. Archives (archives.py) are read in memory and never unpacked to disk.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from terminator.data import archives
from terminator.data.decoder import is_picture
from terminator.data.errors import DatasetCorrupt, DatasetNotFound
from terminator.data.places import is_path, kind_of, tried
from terminator.runtime.machine import memory_bytes
from terminator.runtime.paths import data_dirs, expanded

ARCHIVE_SUFFIXES = (".tar.xz", ".tar.gz", ".tar.bz2", ".tar", ".tgz", ".txz", ".tbz2", ".zip")
MAX_FILE_BYTES = 2**28  # of one file, unpacked; a small archive can hold files that fill the memory
MAX_FILES = 2**21  # of one folder or archive
MAX_NAMED = 8  # names in a note
_LITTER = frozenset(
    (
        "__macosx",
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    )
)
DAMAGE = (  # what damaged archives and packed files make their readers raise
    OSError,
    EOFError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)


def is_data(name: str) -> bool:
    """Whether no part of a relative name is hidden, or left there by a system or an editor.

    Left out: hidden files and folders (.git, .DS_Store, ._x of macOS), __MACOSX, Thumbs.db,
    desktop.ini and their like, locks and backups of editors (~$x, x~, #x#).
    """
    return not any(_is_litter(part) for part in PurePosixPath(name).parts)


def _is_litter(part: str) -> bool:
    quoted = part.startswith("#") and part.endswith("#") and len(part) > 1
    return part.startswith((".", "~$")) or part.endswith("~") or quoted or part.lower() in _LITTER


def few(names: Iterable[str]) -> str:
    """Names for a note: the first ones, and how many more there are; what a terminal would obey
    is spelt out.
    """
    found = list(names)
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    shown = (
        "".join(c if c.isprintable() else repr(c)[1:-1] for c in name) for name in found[:MAX_NAMED]
    )
    return ", ".join(shown) + more


# -- where they are --------------------------------------------------------------------------------


def is_archive(path: Path) -> bool:
    """Say whether the file name ends as an archive's does."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def base_name(path: Path) -> str:
    """Return the file or folder name without the suffixes of an archive."""
    ends = (suffix for suffix in ARCHIVE_SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(next(ends, "")) or None]


def is_source(path: Path) -> bool:
    """Whether a path is a folder, or a regular file that is called like an archive."""
    # of os.path: they raise nothing where a folder above may not be entered
    return os.path.isdir(path) or (os.path.isfile(path) and is_archive(path))


def find(name: str, folders: list[Path]) -> Path | None:
    """Return the folder or archive called `name` (suffix or not) in the first of `folders` that
    has one.
    """
    for folder in folders:
        for path in (folder / name, *(folder / f"{name}{suffix}" for suffix in ARCHIVE_SUFFIXES)):
            if is_source(path):
                return path
    return None


def check_source(source: Path) -> None:
    """Raise DatasetCorrupt unless a path is a folder or a file: to open a pipe is to wait."""
    if (kind := kind_of(source)) not in ("a file", "a folder"):
        raise DatasetCorrupt(
            f"{source} is {kind or 'not there'}; allowed: a folder, or an archive "
            f"({', '.join(ARCHIVE_SUFFIXES)})"
        )


def find_source(
    names: tuple[str, ...], data_dir: str | os.PathLike | None, what: str, layout: str
) -> Path:
    """The first folder or archive of one of these names: a path as it is, else in the data folders,
    else here.

    Args:
        names: paths or names, with an archive's suffix or without.
        what, layout: said where nothing is found.

    Raises:
        DatasetNotFound: naming the places tried, what lies there packed, and the layout that is
            expected.
    """
    places = data_dirs(data_dir)
    for name in names:
        path = expanded(name)
        within = [path.parent] if is_path(name) else [*places, Path()]
        if (found := find(path.name, within)) is not None:
            return found.absolute()
        if is_path(name) and (kind := kind_of(path)):
            raise DatasetNotFound(
                f"{what}: {path} is neither a folder nor an archive "
                f"({', '.join(ARCHIVE_SUFFIXES)}), but {kind}. Expected: {layout}"
            )
    packed = [path for place in places for name in names for path in packed_beside(place / name)]
    hint = f" ({', '.join(map(str, packed))} is there, but not unpacked)" if packed else ""
    raise DatasetNotFound(
        f"{what} was not found. Tried {' or '.join(names)} in: {tried(places)}{hint}. Expected: "
        f"{layout}"
    )


def version(source: Path, names: Iterable[str]) -> list[tuple[Any, ...]]:
    """What changes with a source, of which these files are used: their sizes and dates, and which
    folders they lie in: files of one date and size may change places with their folders.
    """
    if not source.is_dir():
        status = source.stat()
        return [(status.st_size, status.st_mtime_ns, status.st_ino)]
    names = list(names)
    folders = sorted({".", *(str(PurePosixPath(name).parent) for name in names)})
    found: list[tuple[Any, ...]] = []
    for name in folders:
        status = (source / name).stat()
        found.append((name, status.st_mtime_ns, status.st_ino))
    for name in names:
        status = (source / name).stat()
        found.append((name, status.st_size, status.st_mtime_ns))
    return found


def entries(place: Path) -> list[Path]:
    """What lies in a data folder, sorted; nothing where it is none that can be read."""
    readable_folder = os.path.isdir(place) and os.access(place, os.R_OK | os.X_OK)
    return sorted(place.iterdir()) if readable_folder else []


def packed_beside(path: Path) -> list[Path]:
    """Packed files that are called like a path that is missing, and that nothing here reads
    where they are.
    """
    ends = (".gz", ".xz", ".bz2", ".zst", ".7z", ".rar", *ARCHIVE_SUFFIXES)
    found = (path.with_name(f"{path.name}{end}") for end in ends)
    return [packed for packed in found if os.path.isfile(packed)]


# -- their names -----------------------------------------------------------------------------------


class Listing(NamedTuple):
    """What a folder or archive holds that is data, by relative names.

    Attributes:
        files: regular files.
        folders: as far as they are known.
        lost: links that lead nowhere, or to a folder that was listed under another name, each with
            its reason.
    """

    files: list[str]
    folders: list[str]
    lost: list[str]


def list_files(
    source: Path, limit: int | None = None, wanted: Callable[[str], bool] = is_picture
) -> list[str]:
    """Return the relative names of the files in a folder or archive; see list_source."""
    return list_source(source, limit, wanted).files


def list_source(
    source: Path, limit: int | None = None, wanted: Callable[[str], bool] = is_picture
) -> Listing:
    """List what is data in a folder or archive (with `limit`: only the first few files).

    Args:
        wanted: of a name; what is wanted must be a regular file. Files that are not wanted are
            listed, too.

    Raises:
        DatasetCorrupt: if the source is damaged, or something under a wanted name is no file that
            can be read.
    """
    check_source(source)
    with readable(source):
        if source.is_dir():
            return _list_folder(source, limit, wanted)
        if source.name.lower().endswith(".zip"):
            names, links = archives.list_zip(source, limit, MAX_FILES)
        else:
            names, links = archives.list_tar(source, limit, MAX_FILES)
    for name in links:
        if is_data(name) and wanted(name):
            raise DatasetCorrupt(f"{name} in {source} is a link or device: store the file itself")
    files = [name for name in names if is_data(name) and not name.endswith("/")]
    return Listing(
        files, [name.rstrip("/") for name in names if is_data(name) and name.endswith("/")], []
    )


def _list_folder(source: Path, limit: int | None, wanted: Callable[[str], bool]) -> Listing:
    found = Listing([], [], [])
    known: dict[tuple[int, int], str] = {}  # folders by device and number: each is entered once
    waiting, links = [""], []
    while waiting or links:
        is_link = not waiting  # own folders come first, so that they keep their names
        folder = links.pop(0) if is_link else waiting.pop()
        status = (source / folder).stat()
        first = known.setdefault((status.st_dev, status.st_ino), folder)
        if first != folder:
            if not folder.startswith(f"{first}/") and first:  # not a loop
                found.lost.append(f"{folder} is the folder {first} once more")
            continue
        if folder:
            found.folders.append(folder)
        below = _enter(source, folder, found, wanted)
        waiting += [name for name, linked in reversed(below) if not linked]
        links += [name for name, linked in below if linked]
        if len(found.files) + len(found.folders) > MAX_FILES:
            raise DatasetCorrupt(
                f"{source} has more files than can be meant; allowed: {MAX_FILES:,}"
            )
        if limit and len(found.files) >= limit:
            break
    return Listing(found.files[:limit], found.folders, found.lost)


def _enter(
    source: Path, folder: str, found: Listing, wanted: Callable[[str], bool]
) -> list[tuple[str, bool]]:
    """Add the files of one folder to what was found; return its folders, each with whether it is
    a link.
    """
    below = []
    with os.scandir(source / folder) as entries:
        inside = sorted(
            (entry for entry in entries if not _is_litter(entry.name)), key=lambda entry: entry.name
        )
    for entry in inside:
        name = f"{folder}/{entry.name}" if folder else entry.name
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            if wanted(name):
                what = "is a link that leads nowhere" if entry.is_symlink() else "cannot be read"
                raise DatasetCorrupt(f"{name} in {source} {what} ({error.strerror})") from None
            if "." not in entry.name:  # maybe a class
                found.lost.append(f"{name} is a link that leads nowhere")
            continue
        if stat.S_ISDIR(mode):
            below.append((name, entry.is_symlink()))
        elif stat.S_ISREG(mode):
            found.files.append(name)
        elif wanted(name):
            raise DatasetCorrupt(f"{name} in {source} is a device or pipe; allowed: regular files")
    return below


# -- their contents --------------------------------------------------------------------------------


def read_files(
    source: Path, wanted: set[str], limit: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the wanted files, in the order in which they are stored.

    Args:
        limit: bytes of one file, by default MAX_FILE_BYTES.

    Raises:
        DatasetCorrupt: if the source is damaged, or a file in it is no regular one, or larger than
            the limit.
    """
    allowed = MAX_FILE_BYTES if limit is None else limit
    for name, size, file in open_files(source, wanted):
        _check_size(name, source, size, allowed)
        # an archive's member is no longer than it says, whatever it unpacks to
        most = allowed if source.is_dir() else min(size, allowed)
        with readable(source / name if source.is_dir() else source):
            content = file.read(most + 1)
        _check_size(name, source, len(content), allowed)
        yield name, content


def open_files(source: Path, wanted: set[str]) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield (name, size, open file) of the wanted files; each is closed when the next one is asked
    for.

    Raises:
        as read_files.
    """
    if source.is_dir():
        for name in sorted(wanted):
            with open_regular(source / name, f"{name} in {source}") as file:
                yield name, os.fstat(file.fileno()).st_size, file
        return
    read = archives.open_zip if source.name.lower().endswith(".zip") else archives.open_tar
    members = read(source, wanted, MAX_FILES)
    while True:
        # not around the yield: what the caller raises is not the archive's fault
        with readable(source):
            found = next(members, None)
        if found is None:
            return
        yield found


def read_file(path: Path) -> bytes:
    """The content of one file that somebody named.

    Raises:
        DatasetCorrupt: if it cannot be read, is no regular file, or is larger than MAX_FILE_BYTES.
    """
    with open_regular(path, str(path)) as file, readable(path):
        size = os.fstat(file.fileno()).st_size
        content = file.read(MAX_FILE_BYTES + 1) if size <= MAX_FILE_BYTES else b""
    _check_size(path.name, path.parent, max(size, len(content)), MAX_FILE_BYTES)
    return content


@contextmanager
def open_regular(path: Path, where: str) -> Iterator[BinaryIO]:
    """Open a regular file, never waiting for the other end of a pipe.

    Raises:
        DatasetCorrupt: calling the file `where`.
    """
    try:
        number = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        raise DatasetCorrupt(
            f"{where} cannot be read ({error.strerror}){_permission(error)}"
        ) from error
    if not stat.S_ISREG(mode := os.fstat(number).st_mode):
        os.close(number)
        kind = "folder" if stat.S_ISDIR(mode) else "device or pipe"
        raise DatasetCorrupt(f"{where} is a {kind}; allowed: regular files")
    with open(number, "rb") as file:
        yield file


def _permission(error: OSError) -> str:
    """What to do where it is a question of permission."""
    return ": chmod u+rX gives it to its owner" if isinstance(error, PermissionError) else ""


def _check_size(name: str, source: Path, size: int, allowed: int) -> None:
    if size > allowed:
        raise DatasetCorrupt(
            f"{name} in {source} is {size:,} bytes large; allowed: {allowed:,} for one file"
        )


def check_memory(count: int, size: int, source: Path, remedy: str) -> None:
    """Raise ValueError if `count` decoded pictures of `size` bytes each do not fit into this
    machine's memory.
    """
    memory = memory_bytes()
    if memory is not None and 2 * count * size > memory:  # once as they come, once as a whole
        raise ValueError(
            f"{count:,} pictures of {source} take {count * size / 2**30:,.1f} GiB in memory, twice "
            f"while they are read; this machine has {memory / 2**30:,.1f} GiB: pass {remedy}"
        )


@contextmanager
def readable(source: Path, fails: str = "cannot be read") -> Iterator[None]:
    """Turn whatever a damaged archive raises into one error that names it."""
    try:
        yield
    except DatasetCorrupt:
        raise
    except PermissionError as error:
        raise DatasetCorrupt(
            f"{error.filename or source} cannot be read (no permission){_permission(error)}"
        ) from error
    except DAMAGE as error:
        raise DatasetCorrupt(
            f"{source} {fails} ({' '.join(str(error).split())}). If it is truncated or "
            "damaged, copy or download it again."
        ) from error
