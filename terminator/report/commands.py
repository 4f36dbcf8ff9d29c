"""The command line's part of the report: everything that is made from records, made afresh."""

import argparse

from terminator.runs.command_line import Command


def tables(args: argparse.Namespace) -> None:
    """Write the indices, the pages and all generated blocks; print what was written."""
    from terminator.report import culprit

    with culprit.named():
        _write_all()


def _write_all() -> None:
    from terminator.report import claims, pages
    from terminator.report import tables as tables_of

    indices = [system.rebuild_index() for system in tables_of.SYSTEMS]
    for path in (*indices, claims.write_page(), *pages.write_all()):
        if path is not None:
            print(path)


COMMANDS = (
    Command(
        "tables",
        tables,
        "write indices, RESULTS.md, REPRODUCIBILITY.md and the blocks of README.md and "
        "docs/speed.md afresh from the records",
    ),
)
