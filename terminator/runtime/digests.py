"""Files that tables and figures read are those that were written: each is covered by a SHA-256.

What a run leaves beside its record is covered by the record (`files`: {name: SHA-256}), which has a
digest of its own. Everything else that is evidence stands in the list results/evidence.sha256:
published numbers, and what was observed in runs whose records are older than `files`. The list is
in the form of the program sha256sum. After a listed file was changed on purpose, it is made again:

    cd results
    sha256sum $(cut -c67- evidence.sha256) > evidence.new && mv evidence.new evidence.sha256
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

LIST = "evidence.sha256"


class EvidenceError(ValueError):
    """A file of evidence, or the list of them, is not what was written; the message names it."""


def of(content: bytes) -> str:
    """The SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """The SHA-256 of a file of any size.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(folder: Path, name: str = LIST) -> dict[str, str]:
    """The list in a folder, of results say: {path below it: SHA-256}; empty if there is none.

    Raises:
        EvidenceError: naming the list and the line, if it is not in the form of sha256sum.
    """
    path = folder / name
    try:
        text = path.read_text(encoding="utf8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{path} is no readable list of digests: {error}") from error
    return parsed(text, path)


def parsed(text: str, where: Path | str) -> dict[str, str]:
    """{path: SHA-256} of a list's text.

    Raises:
        EvidenceError: naming where it stands and the line, if it is not in the form of sha256sum.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        digest, gap, file = line[:64], line[64:66], line[66:]
        if gap not in ("  ", " *") or not file or set(digest) - set("0123456789abcdef"):
            raise EvidenceError(
                f"{where} is no readable list of digests: line {number} is {line[:100]!r}; "
                "allowed: 64 digits, two spaces, a path, as sha256sum writes them"
            )
        found[file] = digest
    return found


def as_list(found: Mapping[str, str]) -> str:
    """The text of a list of {path: SHA-256}."""
    return "".join(f"{digest}  {path}\n" for path, digest in found.items())


def read(path: Path, digest: str | None) -> bytes:
    """The content of a file, which must have this digest (None: whatever it holds).

    Raises:
        EvidenceError: naming the file, if it is not what was written.
        OSError: if it cannot be read.
    """
    content = path.read_bytes()
    if digest is not None and of(content) != digest:
        raise EvidenceError(
            f"{path} is not what was written (damaged, or edited by hand): its SHA-256 begins with "
            f"{of(content)[:12]} instead of {digest[:12]}. Get it again, with git for example; how "
            "a change on purpose is recorded stands in terminator/runtime/digests.py"
        )
    return content
