"""Tables of text, a line per example, as the long range arena's tasks are handed around: .tsv
files, packed or not.

They may lie in a folder or an archive, at any depth, each maybe as .gz; a byte order mark and blank
lines are no data.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from terminator.data import archives, files
from terminator.data.errors import DatasetCorrupt, DatasetNotFound
from terminator.data.sequences.tokens import Split, apart

PACKED = ".gz"
MAX_LINE_BYTES = 2**24


def read_splits(
    source: Path, ends: dict[str, Sequence[str]], what: str, read: Callable[[Path, str], Split]
) -> dict[str, Split]:
    """The splits of a folder or archive; without a validation file there is none, which is said.

    Args:
        ends: {split: what its file's name ends with, the first that is found counts}.
        what: of what the examples are.
        read: of the source and a name in it.

    Raises:
        DatasetNotFound: if the training or the test file is missing.
        DatasetCorrupt: naming file and line.
    """
    found = files.list_source(
        source, wanted=lambda name: name.removesuffix(PACKED).endswith(".tsv")
    )
    names = found.files
    splits = {}
    for split, possible in ends.items():
        name = next(filter(None, (_find(source, names, end) for end in possible)), None)
        if name is not None:
            splits[split] = read(source, name)
        elif split != "val":
            folders = [name for name in found.folders if name.endswith(tuple(possible))]
            but = f" ({files.few(folders)} is a folder)" if folders else ""
            raise DatasetNotFound(
                f"{source} has no *{possible[0]}{but}; {what} need a train and a test file: "
                "put it there"
            )
    splits = apart(splits, what)
    if "val" not in splits:
        looked_for = " or ".join(f"*{end}" for end in ends["val"])
        note = f"no validation file ({looked_for}), so there is no validation part"
        splits["train"] = replace(splits["train"], notes=(*splits["train"].notes, note))
    return splits


def _find(source: Path, names: list[str], end: str) -> str | None:
    """The least deep file whose name ends so, unpacked rather than packed."""
    for suffix in (end, f"{end}{PACKED}"):
        found = [name for name in names if PurePosixPath(name).name.endswith(suffix)]
        least = min((name.count("/") for name in found), default=0)
        found = [name for name in found if name.count("/") == least]
        if len(found) > 1:
            raise DatasetCorrupt(
                f"{source} has {files.few(found)}, which all end with {suffix}; allowed: one"
            )
        if found:
            return found[0]
    return None


def lines(source: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of a file, from 1, without line ends, blank lines and a byte order mark.

    Raises:
        DatasetCorrupt: if the file cannot be read, is in UTF-16, has no line or one that is too
            long.
    """
    where = str(source / name)
    empty = True
    for _, size, file in files.open_files(source, {name}):
        try:
            with gzip.open(file) if name.endswith(PACKED) else file as unpacked:
                for number, line in _numbered(
                    unpacked, where, max(archives.ALWAYS_ALLOWED, archives.EXPANSION * size)
                ):
                    if line.strip():
                        empty = False
                        yield number, line.rstrip(b"\r\n")
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetCorrupt(
                f"{where} cannot be read: {error}. Copy or download it again"
            ) from error
        break
    if empty:
        raise DatasetCorrupt(f"{where} has no examples: it is empty; copy or download it again")


def _numbered(file: BinaryIO, where: str, allowed: int) -> Iterator[tuple[int, bytes]]:
    total, number = 0, 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        total, number = total + len(line), number + 1
        if len(line) > MAX_LINE_BYTES or total > allowed:
            raise DatasetCorrupt(
                f"{where}, line {number}: more than {min(allowed, MAX_LINE_BYTES):,} bytes; "
                f"allowed: lines of {MAX_LINE_BYTES:,}, {allowed:,} in all"
            )
        if number == 1:
            if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise DatasetCorrupt(f"{where} is in UTF-16; allowed: UTF-8. Save it as that")
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield number, line
