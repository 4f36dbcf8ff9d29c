"""The package's own checkout, asked by git in a way in which git starts nothing.

A repository's configuration can name programs: a file system monitor, hooks, filters of files,
transports. So git is asked here only about the checkout that holds this very package, by commands
that read objects and file names, with those programs switched off; what the files on disk hold is
compared here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from terminator.runtime.paths import home, is_project

SWITCHED_OFF = (
    "--no-pager",
    "--no-optional-locks",
    "--literal-pathspecs",
    "-c",
    "core.fsmonitor=false",
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "protocol.allow=never",
)
LINK, SUBMODULE = "120000", "160000"  # modes of what is no ordinary file


def checkout() -> Path | None:
    """The folder of the checkout that the package lies in; None where it is installed elsewhere,
    or unpacked.
    """
    folder = home()
    return folder if is_project(folder) and (folder / ".git").exists() else None


def git(*arguments: str, given: bytes = b"") -> bytes | None:
    """What a git command about the package's own checkout prints; None if there is none, or it
    fails.

    Args:
        arguments: of a command that needs no program that a configuration could name: rev-parse,
            ls-tree, ls-files, cat-file (status and archive run filters).
        given: its standard input.
    """
    root = checkout()
    if root is None:
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "GIT_CEILING_DIRECTORIES": str(root.parent),
        "GIT_WORK_TREE": str(root),
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        done = subprocess.run(
            ["git", *SWITCHED_OFF, *arguments],
            cwd=root,
            input=given,
            capture_output=True,
            timeout=20,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def commit(revision: str = "HEAD") -> str | None:
    """The full name of a commit; None if there is no such one, or no checkout."""
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return None if found is None else found.decode().strip()


def tree(revision: str, *places: str) -> dict[str, tuple[str, str]] | None:
    """The files of a commit below some places: {path: (mode, name of its content)}."""
    found = git("ls-tree", "-r", "-z", "--full-tree", revision, "--", *places)
    if found is None:
        return None
    lines = (line.partition("\t") for line in os.fsdecode(found).split("\0") if line)
    return {path: (about.split()[0], about.split()[2]) for about, _, path in lines}


def changed(*places: str) -> bool | None:
    """Whether files below these places differ from the commit, or are new; None if git cannot say.

    A file is compared as it lies on the disk, and with its line ends as git keeps them.
    """
    committed = tree("HEAD", *places)
    new = git("ls-files", "-z", "--others", "--exclude-standard", "--", *places)
    if committed is None or new is None:
        return None
    root = checkout()
    return (
        bool(new)
        or root is None
        or any(
            mode != SUBMODULE and name not in _names(root / path, mode, len(name))
            for path, (mode, name) in committed.items()
        )
    )


def _names(path: Path, mode: str, length: int) -> set[str]:
    """How git may name what a file holds (SHA-1, or SHA-256 where names are 64 digits long);
    none if it is gone.
    """
    try:
        if path.is_symlink() != (mode == LINK):
            return set()
        content = os.fsencode(os.readlink(path)) if mode == LINK else path.read_bytes()
    except OSError:
        return set()
    kind = hashlib.sha256 if length == 64 else hashlib.sha1
    return {
        kind(b"blob %d\0" % len(form) + form).hexdigest()
        for form in (content, content.replace(b"\r\n", b"\n"))
    }


def contents(revision: str) -> Iterator[tuple[PurePosixPath, bytes]]:
    """(path, content) of every ordinary file of a commit, as it was committed."""
    files = {
        path: name
        for path, (mode, name) in (tree(revision) or {}).items()
        if mode not in (LINK, SUBMODULE)
    }
    names = "".join(f"{name}\n" for name in files.values())
    if (answer := git("cat-file", "--batch", given=names.encode())) is None:
        raise ValueError(f"the files of revision {revision} cannot be read from the repository")
    position = 0
    for path in files:
        end = answer.index(b"\n", position)
        size = int(answer[position:end].split()[2])
        yield PurePosixPath(path), answer[end + 1 : end + 1 + size]
        position = end + size + 2
