"""Archives read member by member, in memory: a hostile name can write nowhere, no header asks for
more than there is.

Whatever a damaged archive makes Python's readers raise leaves these functions as it is; files.py
turns it into one error that names the archive. Folders among the names end with a slash.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from terminator.data.errors import DatasetCorrupt

MAX_HEADER_BYTES = 2**20  # of a member's extended header: long names, times, owners
# an archive may unpack to so many bytes, or so many times its own size
ALWAYS_ALLOWED, EXPANSION = (2**30, 200)
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def allowed_bytes(source: Path) -> int:
    """So many bytes an archive may unpack to: pictures and texts shrink by far less than
    EXPANSION.
    """
    return max(ALWAYS_ALLOWED, EXPANSION * source.stat().st_size)


def _too_much(source: Path, allowed: int) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{source} unpacks to more than {allowed:,} bytes, "
        f"{allowed // max(1, source.stat().st_size):,} times its size; no data do. If they are "
        "what you want, unpack them yourself and name the folder"
    )


# -- zip -------------------------------------------------------------------------------------------


def _zip_members(archive: zipfile.ZipFile, source: Path, most: int) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > most:
        raise DatasetCorrupt(f"{source} has {len(members):,} members; allowed: {most:,}")
    allowed = allowed_bytes(source)
    if sum(member.file_size for member in members) > allowed:
        raise _too_much(source, allowed)
    return members


def list_zip(source: Path, limit: int | None, most: int) -> tuple[list[str], list[str]]:
    """Names of files and folders, and of links; with `limit` only the first ones."""
    names, links = [], []
    with zipfile.ZipFile(source) as archive:
        for member in _zip_members(archive, source, most):
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind in (0, stat.S_IFREG, stat.S_IFDIR):
                # a damaged name would lose a file without a word; each is stored twice
                if not member.is_dir():
                    archive.open(member).close()
                names.append(member.filename)
            else:
                links.append(member.filename)
            if limit and sum(not name.endswith("/") for name in names) >= limit:
                break
    return names, links


def open_zip(source: Path, wanted: set[str], most: int) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield (name, size, open file) of the wanted members."""
    with zipfile.ZipFile(source) as archive:
        for member in _zip_members(archive, source, most):
            if member.filename in wanted:
                with archive.open(member) as file:
                    yield member.filename, member.file_size, file


# -- tar -------------------------------------------------------------------------------------------


class _Header(tarfile.TarInfo):
    """A member's header whose extensions are read only as far as they can be meant."""

    # tarfile's own place for such a change
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _EXTENDED and self.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError(
                f"a header of {self.size:,} bytes; allowed: {MAX_HEADER_BYTES:,}"
            )
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file; allowed: whole ones")
        return super()._proc_member(archive)

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("a sparse file; allowed: whole ones")


def _tar_members(archive: tarfile.TarFile, source: Path, most: int) -> Iterator[tarfile.TarInfo]:
    """The members, once through, forwards: to go back in an .xz is to decompress it all again."""
    allowed, count, total, place = allowed_bytes(source), 0, 0, -1
    while (member := archive.next()) is not None:
        archive.members = []  # tarfile would keep them all
        count, total = count + 1, total + member.size
        if archive.offset <= place or member.size < 0:
            raise DatasetCorrupt(f"{source} is damaged: {member.name} ends before it begins")
        place = archive.offset
        if count > most:
            raise DatasetCorrupt(f"{source} has more than {most:,} members; allowed: {most:,}")
        if total > allowed or place > allowed:
            raise _too_much(source, allowed)
        yield member


def list_tar(source: Path, limit: int | None, most: int) -> tuple[list[str], list[str]]:
    """Names of files and folders, and of links and devices; with `limit` only the first ones."""
    names: list[str] = []
    links: list[str] = []
    with tarfile.open(source, tarinfo=_Header) as archive:
        for member in _tar_members(archive, source, most):
            if member.isfile() or member.isdir():
                names.append(member.name + "/" * member.isdir())
            else:
                links.append(member.name)
            if limit and sum(not name.endswith("/") for name in names) >= limit:
                return names, links
        _finish_tar(archive, source)
    return names, links


def _finish_tar(archive: tarfile.TarFile, source: Path) -> None:
    # Python takes a damaged header, or a missing end, for the end of the archive: whole folders
    # would be lost
    # without a word. Reading on to the end also makes gzip, bzip2 and xz verify their check sums.
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(512) != bytes(512):
        raise DatasetCorrupt(
            f"{source} is truncated or damaged: no end-of-archive mark at byte {archive.offset}"
        )
    allowed, rest = allowed_bytes(source), 0
    while part := archive.fileobj.read(1 << 20):
        rest += len(part)
        if rest > allowed:
            raise _too_much(source, allowed)


def open_tar(source: Path, wanted: set[str], most: int) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield (name, size, open file) of the wanted members."""
    with tarfile.open(source, tarinfo=_Header) as archive:
        for member in _tar_members(archive, source, most):
            if member.isfile() and member.name in wanted:
                with archive.extractfile(member) as file:
                    yield member.name, member.size, file
