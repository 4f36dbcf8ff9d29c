"""Where runs come from, a folder or an archive: nothing in it is believed, and no link followed."""

import stat
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from terminator.data.files import DAMAGE
from terminator.runtime import digests

APART = "conflicting"  # below results/, what is not taken in
LIST = "MANIFEST.sha256"  # of an archive, as sha256sum writes it: covers the weights
RECORD = "record.json"
MAX_RECORD = 64 * 2**20  # bytes of a record, and of a file beside it


class Refused(ValueError):
    """What is not taken, and why."""


class Source(ABC):
    """Runs by the paths of their folders, and files by name; to be closed at the end."""

    listed: Mapping[str, str]  # {path: SHA-256}

    @abstractmethod
    def runs(self) -> Iterator[str]:
        """Folders with a record, by their paths below the source."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""

    @abstractmethod
    def open(self, name: str) -> Any:
        """The file, for reading bytes."""

    def read(self, name: str) -> bytes:
        """All of a file."""
        with self.open(name) as file:
            return file.read()

    @abstractmethod
    def close(self) -> None:
        """Let go of what it holds open."""


class FolderSource(Source):
    """A results folder, its runs/, an experiment's or a run's folder."""

    def __init__(self, path: Path):
        self.path = path
        self.listed = {}
        if (path / LIST).is_file() and not (path / LIST).is_symlink():
            self.listed = listed_in((path / LIST).read_bytes())

    def runs(self) -> Iterator[str]:
        """Folders with a record, by their paths below the source; links lead nowhere."""
        for record in sorted(self.path.rglob(RECORD)):
            if set_aside(record.relative_to(self.path)):
                continue
            parts = [record, *record.parents]
            inside = parts[: parts.index(self.path)]
            if any(part.is_symlink() for part in inside):
                raise Refused(f"{record} is a link, or lies behind one")
            yield record.parent.relative_to(self.path).as_posix()

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        path = self.path / name
        try:
            found = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{name} is a link, or no ordinary file")
        return found.st_size

    def open(self, name: str) -> Any:
        """The file, for reading bytes."""
        return open(self.path / name, "rb")

    def close(self) -> None:
        """Nothing is held open."""


class ArchiveSource(Source):
    """A tar archive, compressed or not, as export_runs writes it."""

    def __init__(self, path: Path):
        try:
            self._tar = tarfile.open(path)
            self._members = {_plain(member.name): member for member in self._tar.getmembers()}
        except DAMAGE as error:
            why = " ".join(str(error).split())
            raise Refused(f"{path} cannot be read as a tar archive: {why}") from error
        for name, member in self._members.items():
            parts = PurePosixPath(name)
            if parts.is_absolute() or ".." in parts.parts or "\\" in name:
                raise Refused(f"{path} holds {name!r}, a path that leads outside")
            if not member.isfile() and not member.isdir():
                raise Refused(f"{path} holds {name!r}, a link, or no ordinary file")
        self.listed = {}
        if (size := self.size(LIST)) is not None and size <= MAX_RECORD:
            self.listed = listed_in(self.read(LIST))

    def runs(self) -> Iterator[str]:
        """Folders with a record."""
        for name in sorted(self._members):
            if PurePosixPath(name).name == RECORD and not set_aside(PurePosixPath(name)):
                yield PurePosixPath(name).parent.as_posix()

    def names(self) -> set[str]:
        """All that it holds."""
        return set(self._members)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        member = self._members.get(name)
        return member.size if member is not None and member.isfile() else None

    def open(self, name: str) -> Any:
        """The file, for reading bytes."""
        return self._tar.extractfile(self._members[name])

    def close(self) -> None:
        self._tar.close()


def _plain(name: str) -> str:
    """./runs/a as runs/a."""
    return name.removeprefix("./")


def set_aside(path: PurePath) -> bool:
    """Whether a record in a results folder is one that its owner did not take in: see
    _keep_apart.
    """
    # APART/EXPERIMENT/RUN/DIGEST/record.json; an experiment of that name has fewer parts
    return path.parts[-5:-4] == (APART,)


def listed_in(content: bytes) -> dict[str, str]:
    """{path: SHA-256} of a list that came with them."""
    try:
        listed = digests.parsed(content.decode("utf8", "replace"), LIST)
    except ValueError as error:
        raise Refused(str(error)) from error
    return {_plain(name): digest for name, digest in listed.items()}
