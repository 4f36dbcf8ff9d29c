"""The command line's part of the report: everything that is made from records, made afresh."""

import argparse
import shlex
from pathlib import Path

from terminator.runs.command_line import Command, place
from terminator.runtime.text import terminal


def tables(args: argparse.Namespace) -> None:
    """Write the indices, the pages and all generated blocks; print what was written."""
    from terminator.report import culprit

    with culprit.named():
        _write_all()


def _write_all() -> None:
    from terminator.report import claims, pages
    from terminator.report import tables as tables_of

    indices = [system.rebuild_index() for system in tables_of.SYSTEMS]
    rows = claims.judged()
    for path in (*indices, claims.write_page(rows), *pages.write_all(rows)):
        if path is not None:
            print(path)


def notebooks(args: argparse.Namespace) -> None:
    """Copy the notebooks to work in; print what opens them."""
    from terminator.report.workshop import copy_notebooks

    copied, kept = copy_notebooks(args.folder, args.again)
    count = f"{len(copied)} notebooks" if copied else "nothing"
    rest = "" if copied else ": all are there"
    print(f"{count} copied to {terminal(args.folder)}{rest}")
    if args.again:
        print(f"among them: {', '.join(copied)}")
    if kept:
        print(f"kept as they are there: {', '.join(kept)} (--again NAME replaces one)")
    print(f"to work in them:  jupyter lab {shlex.quote(terminal(args.folder))}")


def _notebooks_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        type=place,
        default=Path("my-notebooks"),
        help="where to (default: my-notebooks, which git ignores)",
    )
    parser.add_argument(
        "--again",
        action="append",
        default=[],
        metavar="NAME",
        help="replace the copy of this notebook, 05 say or 05_your_own_images; may be repeated",
    )


COMMANDS = (
    Command(
        "tables",
        tables,
        "write indices, RESULTS.md, REPRODUCIBILITY.md and the blocks of README.md and "
        "docs/speed.md afresh from the records",
    ),
    Command(
        "notebooks",
        notebooks,
        "copy the notebooks to work in: JupyterLab saves as it goes, and the project's stay",
        _notebooks_options,
        examples=(("", "to my-notebooks"), ("work --again 05", "the 05 afresh")),
    ),
)
