"""The command line: `python -m terminator COMMAND ...`, or `terminator-kit COMMAND ...`.

Commands stand in the `commands.py` of the system that they belong to, and are found there.
"""

import argparse
import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import terminator
from terminator.runs.command_help import (
    Parser,
    check_presets,
    error_line,
    meant,
    overview,
    unknown_option,
)
from terminator.runs.command_line import Command, presets_command, print_config
from terminator.runs.completion import complete, is_asked, words_of
from terminator.runtime.text import terminal


def find_commands() -> dict[str, list[Command]]:
    """{what a room is: its commands}, of all with a `commands.py`; rooms that train stand first."""
    rooms = [path.parent.name for path in sorted(Path(__file__).parent.glob("*/commands.py"))]
    found = {}
    for room in rooms:
        about = (importlib.import_module(f"terminator.{room}").__doc__ or room).splitlines()[0]
        found[about] = list(importlib.import_module(f"terminator.{room}.commands").COMMANDS)
    order = sorted(found, key=lambda about: not any(command.settings for command in found[about]))
    presets = presets_command(command for about in order for command in found[about])
    return {about: found[about] for about in order} | {"All of them.": [presets]}


def parser(rooms: dict[str, list[Command]]) -> Parser:
    """The parser of all commands; `command` of what it has parsed is the Command."""
    program = (
        "terminator-kit" if Path(sys.argv[0]).name == "terminator-kit" else "python -m terminator"
    )
    main = Parser(prog=program)
    main.about = overview(program, terminator.__version__, rooms)
    main.add_argument(
        "--version", action="version", version=f"terminator-kit {terminator.__version__}"
    )
    subparsers = main.add_subparsers(dest="name", metavar="COMMAND")
    for command in (command for commands in rooms.values() for command in commands):
        sub = subparsers.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help}.",
            epilog=command.epilog,
            allow_abbrev=command.takes != "flags",
        )
        sub.command = command
        sub.set_defaults(command=command, options=sub)
        command.options(sub)
        if command.takes == "settings":
            words: Any = sub.add_argument(
                "words",
                nargs="*",
                default=[],
                metavar="KEY=VALUE",
                help="settings, e.g. train.epochs=6, and preset=NAME",
            )
            words.completer = partial(_completed, command)
    return main


def _completed(command: Command, prefix: str, parsed_args: Any, **_: Any) -> list[str]:
    return words_of(command, prefix, getattr(parsed_args, "words", None) or ())


def parse(whole: Parser, known: list[str], argv: list[str]) -> argparse.Namespace:
    """The command line; options may stand between settings, which argparse takes in a row only."""
    if argv and not argv[0].startswith("-") and argv[0] not in known:
        whole.error(
            f"unknown command {argv[0]!r}; {meant(argv[0], known, 0.6)}allowed: {', '.join(known)}"
        )
    args, rest = whole.parse_known_args(argv)
    if args.name is None:
        near = meant(rest[0], whole._option_string_actions).strip()
        whole.error(f"unrecognized arguments: {' '.join(rest)}{f'; {near}' if near else ''}")
    command: Command = args.command
    if command.takes == "flags":
        args.words, rest = rest, []
    if rest and (command.takes != "settings" or any(word.startswith("-") for word in rest)):
        whole.error(unknown_option(command, args.options._option_string_actions, rest, argv))
    if rest:
        args.words = [*args.words, *rest]
    return args


def main(argv: list[str] | None = None) -> int:
    """Run a command; errors of the user's making are one line, no traceback, and exit status 2."""
    argv, rooms = sys.argv[1:] if argv is None else argv, find_commands()
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    whole = parser(rooms)
    if is_asked():
        complete(whole)
    if not argv:
        whole.print_help()
        return 0
    commands = [command for of_room in rooms.values() for command in of_room]
    args = parse(whole, [command.name for command in commands], argv)
    try:
        return _run(args, commands)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what shells say of it
    except KeyboardInterrupt:
        trains = args.command.config is not None
        more = "; the same command, without --force, goes on from its last checkpoint"
        print(f"interrupted{more if trains else ''}", file=sys.stderr)
        return 130
    except Exception as error:
        if (line := error_line(error)) is None:
            raise
        print(terminal(f"error: {line}"), file=sys.stderr)
        return 2


def _run(args: Any, commands: list[Command]) -> int:
    command: Command = args.command
    if command.settings:
        check_presets(command, args.words, commands)
    if command.config and args.print_config:
        print_config(command.config(args))
        return 0
    return command.action(args) or 0


def entry() -> NoReturn:
    """End this process with the command's exit status."""
    status = main()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a process that torchrun started ends in its own way
        from terminator.runtime.distributed import leave

        leave(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
