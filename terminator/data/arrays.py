"""Arrays in files that somebody else made: .npy, .npz, and pickles of them. Nothing is unpickled.

A header is matched, not evaluated, and memory is taken only for bytes that are there. An array of
objects in a .npy is a pickle, which plain_pickle.py decodes.

Source: the description of the format in NumPy's numpy.lib.format.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from terminator.data import archives
from terminator.data.errors import DatasetCorrupt
from terminator.data.files import open_regular, readable
from terminator.data.plain_pickle import Array, Foreign, array_of, decode
from terminator.runtime.machine import memory_bytes

MAX_HEADER_BYTES = 10_000
MAX_MEMBERS = 16  # of an archive of arrays
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{\s*'descr':\s*'([^']{1,20})',\s*'fortran_order':\s*(True|False),\s*"
    r"'shape':\s*\(([0-9, L]*)\),?\s*\}\s*"
)
_NUMBERS = re.compile(r"[<>|=]?(b1|[ui][1248]|f[248])")
_TEXT = re.compile(r"[<>|=]?U[0-9]{1,4}")
_LOAD = "x = numpy.load({file!r}, allow_pickle=True)"
_UNPICKLE = (
    "x = pickle.load(open({file!r}, 'rb')); "
    "x = [x['image_data'][i] for i in x['class_dict'].values()] if type(x) is dict else x"
)
_SAVE = "for i, a in enumerate(x): numpy.save(f'{stem}/{{i:05}}.npy', numpy.asarray(a)[None])"


def read_npy(path: Path) -> np.ndarray | list[Any]:
    """The array of numbers in a .npy file, or the list where it is an array of objects.

    Raises:
        DatasetCorrupt: naming the file.
    """
    with _opened(path) as (file, size):
        code, order, shape = _header(file)
        if code in ("O", "|O"):
            found = decode(file, size - file.tell())
            if not isinstance(found, Array) or not isinstance(found.values, list):
                raise Foreign("it is an array of objects, but no list of arrays")
            return found.values
        return _numbers(file, size - file.tell(), code, order, shape, _NUMBERS)


def read_pickle(path: Path) -> Any:
    """The value in a pickle; arrays in it are of the class plain_pickle.Array.

    Raises:
        DatasetCorrupt: naming the file.
    """
    with _opened(path) as (file, size):
        return decode(file, size)


def read_npz(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays of numbers or texts of these names in a .npz file.

    Raises:
        DatasetCorrupt: naming the file, and the array that is missing.
    """
    with readable(path, "cannot be used"):
        archives.list_zip(path, None, MAX_MEMBERS)  # raises if it unpacks to far more than it is
    with _opened(path) as (content, _), zipfile.ZipFile(content) as archive:
        known = {member.filename: member for member in archive.infolist()}
        if missing := [name for name in names if f"{name}.npy" not in known]:
            raise ValueError(f"it has no array called {missing[0]}; needed: {', '.join(names)}")
        found = []
        for name in names:
            member = known[f"{name}.npy"]
            with archive.open(member) as file:
                code, order, shape = _header(file)
                left = member.file_size - file.tell()
                text = _TEXT.fullmatch(code)
                found.append(_numbers(file, left, code, order, shape, _TEXT if text else _NUMBERS))
        return found


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size; whatever is wrong with its content becomes one error."""
    with open_regular(path, str(path)) as file, readable(path, "cannot be used"):
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise DatasetCorrupt(f"{path} cannot be used: it is empty. Copy or make it again")
        memory = memory_bytes()
        if memory is not None and size > memory:
            raise DatasetCorrupt(
                f"{path} has {size / 2**30:,.1f} GiB, more than this machine's memory "
                f"({memory / 2**30:,.1f} GiB); part it into several files of a folder"
            )
        try:
            yield file, size
        except DatasetCorrupt:
            raise
        except Foreign as error:
            raise DatasetCorrupt(f"{path} cannot be used: {error}. {_advice(path)}") from None
        except ValueError as error:
            raise DatasetCorrupt(
                f"{path} cannot be used: {error}. If it is truncated or damaged, copy or make it "
                "again"
            ) from None
        except MemoryError:
            raise DatasetCorrupt(
                f"{path} cannot be used: its {size:,} bytes do not fit into the memory that is "
                "free; part it into several files of a folder"
            ) from None


def _advice(path: Path) -> str:
    """How to turn a pickle into plain files, for who made it or trusts who did."""
    load = _LOAD if path.suffix == ".npy" else _UNPICKLE
    lines = f"{load}  {_SAVE}".format(file=path.name, stem=path.stem)
    return (
        f"Nothing of it was run. If you trust who made it, convert it in its folder, with a new "
        f"folder {path.stem}: {lines}"
    )


def _header(file: BinaryIO) -> tuple[str, str, tuple[int, ...]]:
    """Type, order ("C" or "F") and shape of the array that follows."""
    start = file.read(8)
    if start[:6] != _MAGIC or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it is no .npy file, by its first bytes")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {length:,} bytes; allowed: {MAX_HEADER_BYTES:,}")
    text = file.read(length).decode("latin-1")
    found = _HEADER.fullmatch(text)
    if found is None:
        raise ValueError(f"its header is {text.strip()[:80]!r}; allowed: one type, order and shape")
    sizes = [size.strip().rstrip("L") for size in found[3].split(",") if size.strip()]
    if not all(size.isdecimal() and len(size) < 13 for size in sizes) or len(sizes) > 32:
        raise ValueError(f"its shape is ({found[3][:80]}); allowed: sizes of at most 32 axes")
    return found[1], "F" if found[2] == "True" else "C", tuple(map(int, sizes))


def _numbers(
    file: BinaryIO,
    left: int,
    code: str,
    order: str,
    shape: tuple[int, ...],
    allowed: re.Pattern[str],
) -> np.ndarray:
    if not allowed.fullmatch(code):
        raise ValueError(
            f"its values are of type {code!r}; allowed: bytes (u1), booleans, integers, or floats "
            "of at most 8 bytes. Save them as uint8"
        )
    kind = np.dtype(code)
    needed = kind.itemsize
    for size in shape:
        needed *= size
    if needed != left:
        raise ValueError(
            f"{left:,} bytes follow its header; an array of shape {shape} and type {kind} has "
            f"{needed:,}"
        )
    content = file.read(needed)
    if len(content) < needed or file.read(1):  # the last read also has zipfile check the sum
        raise ValueError(f"only {len(content):,} of {needed:,} bytes could be read")
    return array_of(content, kind, shape, order)
