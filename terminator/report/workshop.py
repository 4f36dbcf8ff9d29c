"""A working copy of the notebooks: JupyterLab saves what runs, and the repository's copies, whose
outputs are compared, stay as they are.
"""

from collections.abc import Sequence
from pathlib import Path

from terminator.runtime.paths import atomic_write, expanded, project_root
from terminator.runtime.settings import ConfigError


def copy_notebooks(folder: Path, again: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Copy the project's notebooks into a folder; those that are there already stay.

    Args:
        folder: is made if it is missing.
        again: names, or numbers, of notebooks that are replaced.

    Returns:
        names of those that were copied, and of those that stayed though the project's are others.

    Raises:
        ConfigError: outside the project, or for the project's own folder, or for the name of no
            notebook.
    """
    root = project_root()
    if root is None:
        raise ConfigError(
            "the notebooks are no part of the installed package; allowed: in a clone of the project"
        )
    folder = expanded(folder).absolute()
    source = root / "notebooks"
    if folder.resolve() == source.resolve():
        raise ConfigError(f"the folder is {folder}, the project's own; allowed: any other")
    books = sorted(source.glob("[0-9][0-9]_*.ipynb"))
    called = {b.name: {b.name, b.stem, b.stem[:2], str(int(b.stem[:2]))} for b in books}
    for name in again:
        if not any(name in names for names in called.values()):
            known = ", ".join(book.stem for book in books)
            raise ConfigError(f"--again is {name!r}; allowed: a name or number of {known}")
    copied, kept = [], []
    for book in books:
        target, content = folder / book.name, book.read_bytes()
        if target.exists() and called[book.name].isdisjoint(again):
            kept += [book.name] if target.read_bytes() != content else []
            continue
        atomic_write(target, content)
        copied.append(book.name)
    return copied, kept
