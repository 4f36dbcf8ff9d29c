"""Which of the package's functions a notebook uses, and its section that links to their files.

`python tests/notebook_sources.py notebooks/02_hyperzzw.ipynb ...` writes the section anew.
"""

import ast
import inspect
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import nbformat
from places import PACKAGE

HEADING = "## Where the code is"


def imported(tree):
    """{name: what it stands for} of all imports from the package."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("terminator"):
            module = import_module(node.module)
            for alias in node.names:
                thing = getattr(module, alias.name, None)
                if thing is None:
                    thing = import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = thing
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "terminator":
                    found[alias.asname or "terminator"] = import_module("terminator")
    return found


def used(notebook):
    """{file below terminator/: names as the notebook writes them}, in order of first use."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(code))
    names, found = imported(tree), {}
    for node in sorted(ast.walk(tree), key=lambda n: getattr(n, "lineno", 0)):
        written = thing = None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            base = names.get(node.value.id)
            if isinstance(base, ModuleType):
                written, thing = f"{node.value.id}.{node.attr}", getattr(base, node.attr, None)
        elif isinstance(node, ast.Name) and not isinstance(names.get(node.id), ModuleType):
            written, thing = node.id, names.get(node.id)
        if thing is None or isinstance(thing, ModuleType) or not callable(thing):
            continue
        kind = thing if inspect.isroutine(thing) or inspect.isclass(thing) else type(thing)
        file = Path(inspect.getsourcefile(inspect.unwrap(kind)))
        if file.is_relative_to(PACKAGE):
            group = found.setdefault(file.relative_to(PACKAGE).as_posix(), [])
            if written not in group:
                group.append(written)
    return found


def section(notebook):
    """The section as Markdown: a row per file, with a link to it."""
    rows = [
        f"| {', '.join(f'`{name}`' for name in names)} | [{file}](../terminator/{file}) |"
        for file, names in used(notebook).items()
    ]
    return "\n".join([HEADING, "", "| used here | file |", "|---|---|", *rows])


def main(paths):
    for path in paths:
        notebook = nbformat.read(path, 4)
        (cell,) = [cell for cell in notebook.cells if cell.source.startswith(HEADING)]
        cell.source = section(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:])
