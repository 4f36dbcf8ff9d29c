"""Build the API reference from the docstrings: python docs/build_api.py [FOLDER], site without one.

A module that cannot be imported, or a public name that does not exist, is an error.
"""

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc

import terminator


def modules() -> list[str]:
    """Names of all modules of the package, each imported, but the command line's own."""
    found = pkgutil.walk_packages(terminator.__path__, "terminator.")
    names = [info.name for info in found if info.name != "terminator.__main__"]
    for name in names:
        importlib.import_module(name)
    return ["terminator", *names]


def lend_names(package: str) -> None:
    """Put what a package loads on first use into it, and list its modules beside, as pdoc looks
    there only.
    """
    home = sys.modules[package]
    lent = [name for name in getattr(home, "__all__", ()) if name not in vars(home)]
    vars(home).update({name: getattr(home, name) for name in lent})
    if hasattr(home, "__all__"):
        inside = [info.name for info in pkgutil.iter_modules(home.__path__)]
        home.__all__ = sorted({*home.__all__, *inside} - {"__main__"})


def build(folder: Path) -> int:
    """Write a page for every module; return how many there are."""
    names = modules()
    for name in names:
        if hasattr(sys.modules[name], "__path__"):
            lend_names(name)
    pdoc.render.configure(docformat="google")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        # of names that only type checkers know
        warnings.filterwarnings("ignore", "Error parsing type annotation", module="pdoc")
        pdoc.pdoc("terminator", output_directory=folder)
    return len(names)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    print(f"{build(target)} modules: {target / 'index.html'}")
