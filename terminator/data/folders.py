"""Class folders and archives of them: {train,test}/<class>/*.png, or <class>/*.png with a seeded split.

Archives (tar, tar.gz, tar.xz, tar.bz2, zip) are read member by member in memory and never unpacked to disk,
so a hostile member name can write nowhere. decoding.py turns what is found here into arrays.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from terminator.data.decoder import is_picture
from terminator.data.sources import DatasetCorrupt

ARCHIVE_SUFFIXES = (".tar.xz", ".tar.gz", ".tar.bz2", ".tar", ".tgz", ".txz", ".zip")
LAYOUT = "{train,test}/<class>/*.png|jpg|..., or <class>/*.png|jpg|..., possibly below one top folder"
_DAMAGE = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)
_SPLITS = ("train", "test", "val")
MAX_FILE_BYTES = 2**28  # of one image file, unpacked; a small archive can hold files that fill the memory


def is_archive(path: Path) -> bool:
    """Say whether the file name ends as an archive's does."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def base_name(path: Path) -> str:
    """Return the file or folder name without the suffixes of an archive."""
    ends = (suffix for suffix in ARCHIVE_SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(next(ends, "")) or None]


def find(name: str, folders: list[Path]) -> Path | None:
    """Return the folder or archive called `name` (suffix or not) in the first of `folders` that has one."""
    for folder in folders:
        for path in (folder / name, *(folder / f"{name}{suffix}" for suffix in ARCHIVE_SUFFIXES)):
            if path.is_dir() or (path.is_file() and is_archive(path)):
                return path
    return None


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """Turn whatever a damaged archive raises into one error that names it."""
    try:
        yield
    except DatasetCorrupt:
        raise
    except _DAMAGE as error:
        raise DatasetCorrupt(
            f"{source} cannot be read ({error}). If it is truncated or damaged, copy or download it again."
        ) from error


def _finish_tar(tar: tarfile.TarFile, source: Path) -> None:
    # Python takes a damaged header, or a missing end, for the end of the archive: whole folders would be lost
    # without a word. Reading on to the end also makes gzip, bzip2 and xz verify their check sums.
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(512) != bytes(512):
        raise DatasetCorrupt(f"{source} is truncated or damaged: no end-of-archive mark at byte {tar.offset}")
    while tar.fileobj.read(1 << 20):
        pass


def list_files(source: Path, limit: int | None = None) -> list[str]:
    """Return the relative names of the files in a folder or archive (with `limit`: only the first few).

    Raises: DatasetCorrupt if the archive is damaged, or an image in it is a link.
    """
    with _readable(source):
        if source.is_dir():
            return _list_folder(source, limit)
        if source.name.lower().endswith(".zip"):
            with zipfile.ZipFile(source) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()][:limit]
                for member in members:  # a damaged name would lose a file without a word; each is stored twice
                    archive.open(member).close()
                return [member.filename for member in members]
        return _list_tar(source, limit)


def _list_folder(source: Path, limit: int | None) -> list[str]:
    def stop(error: OSError) -> None:  # os.walk would pass over a folder that it may not read
        raise error

    names: list[str] = []
    for folder, subfolders, files in os.walk(source, followlinks=True, onerror=stop):
        subfolders.sort()
        names += [(Path(folder) / file).relative_to(source).as_posix() for file in sorted(files)]
        if limit and len(names) >= limit:
            break
    return names[:limit]


def _list_tar(source: Path, limit: int | None) -> list[str]:
    names: list[str] = []
    with tarfile.open(source) as tar:
        for member in tar:
            if member.isfile():
                names.append(member.name)
            elif not member.isdir() and is_picture(member.name):
                raise DatasetCorrupt(f"{member.name} in {source} is a link or device: store the file itself")
            if limit and len(names) >= limit:
                return names
        _finish_tar(tar, source)
    return names


def read_files(source: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the wanted files, in the order in which they are stored.

    Raises: DatasetCorrupt if the archive is damaged or a file in it is larger than any image.
    """
    if source.is_dir():
        for name in sorted(wanted):
            with _readable(source / name):
                _check_size(name, source, (source / name).stat().st_size)
                data = (source / name).read_bytes()
            yield name, data
        return
    with _readable(source):
        if source.name.lower().endswith(".zip"):
            with zipfile.ZipFile(source) as archive:
                for member in archive.infolist():
                    if member.filename in wanted:
                        _check_size(member.filename, source, member.file_size)
                        yield member.filename, archive.read(member)
            return
        with tarfile.open(source) as tar:
            for member in tar:  # once through, forwards: to go back in an .xz is to decompress it all again
                if member.isfile() and member.name in wanted:
                    _check_size(member.name, source, member.size)
                    yield member.name, tar.extractfile(member).read()


def read_file(path: Path) -> bytes:
    """The content of one file that somebody named.

    Raises: DatasetCorrupt if it cannot be read, or is larger than any image.
    """
    ((_, content),) = read_files(path.parent, {path.name})
    return content


def _check_size(name: str, source: Path, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise DatasetCorrupt(f"{name} in {source} is {size:,} bytes large; allowed: {MAX_FILE_BYTES:,} for an image")


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
        if is_picture(name)
        and not any(part.startswith(".") or part == "__MACOSX" for part in path)
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
    if not (source.is_dir() or (source.is_file() and is_archive(source))):
        return False
    try:
        names = list_files(source, limit=100)
    except DatasetCorrupt:
        return is_archive(source)  # still listed: loading it says what is wrong
    images = _image_paths(names).values()
    return bool(images) and all(len(path) > (2 if path[0] in _SPLITS else 1) for path in images)
