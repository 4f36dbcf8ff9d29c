"""The command line's part of the report: everything that is made from records, made afresh."""

import argparse

from terminator.runs.command_line import Command


def tables(args: argparse.Namespace) -> None:
    """Write the indices, the page of claims and the README's tables; print what was written."""
    from terminator.report import culprit

    with culprit.named():
        _write_all()


def _write_all() -> None:
    from terminator.report import claims, readme
    from terminator.report import tables as tables_of
    from terminator.runtime.paths import project_root, results_dir

    indices = [system.rebuild_index() for system in tables_of.SYSTEMS]
    for path in (*indices, claims.write_page()):
        if path is not None:
            print(path)
    root = project_root()
    if (
        root is not None and results_dir() == root / "results"
    ):  # other results are not this README's
        readme.update_readme(root / "README.md", tables_of.readme_tables())
        readme.update_readme(root / "README.md", readme.speed_table(), "speed")
        print(root / "README.md")


COMMANDS = (
    Command(
        "tables",
        tables,
        "write index.csv, REPRODUCIBILITY.md and the README's table afresh from the records",
    ),
)
