"""The command line: python -m terminator train | evaluate | predict | fewshot | segmentation | gan | benchmark ...

    python -m terminator train preset=digits train.seed=1
    python -m terminator train dataset.name=CIFAR10 optimizer.name=Kar3 "optimizer.betas=[0.5,0.95]"
    python -m terminator train dataset.name=CIFAR10 train.do=False pretrained.load=True pretrained.filename=FILE
    torchrun --nproc_per_node 2 -m terminator train preset=cifar10 train.distributed=True
    python -m terminator fewshot preset=omniglot28-5way train.seed=1
    python -m terminator longrange preset=text-short network.mixer=softmax_fused
    python -m terminator segmentation preset=camvid model.context=none
    python -m terminator gan preset=mnist model.context=attention
    python -m terminator fewshot --train_dataset omniglot:0-1149 --num_labels 20 --balanced_batches ...
"""

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from terminator.runs.command_line import Command, presets_command


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line here as all others are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def find_commands() -> list[Command]:
    """Every command of every room that has a `commands.py`; those that train stand first."""
    rooms = [path.parent.name for path in sorted(Path(__file__).parent.glob("*/commands.py"))]
    modules = [importlib.import_module(f"terminator.{room}.commands") for room in rooms]
    modules.sort(key=lambda module: not any(command.settings for command in module.COMMANDS))
    found = [command for module in modules for command in module.COMMANDS]
    return [*found, presets_command(found)]


def parser() -> Parser:
    """The parser of all commands; `command` of what it has parsed is the Command."""
    main = Parser(prog="python -m terminator", description=__doc__,
                  formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = main.add_subparsers(dest="name", metavar="COMMAND", required=True)
    for command in find_commands():
        sub = subparsers.add_parser(command.name, help=command.help, epilog=command.epilog,
                                    allow_abbrev=command.takes != "flags")
        sub.set_defaults(command=command)
        command.options(sub)
        if command.takes == "settings":
            sub.add_argument("words", nargs="*", default=[], metavar="KEY=VALUE",
                             help="settings, e.g. train.epochs=6, and preset=NAME")
    return main


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line; options may stand between settings, which argparse takes in one row only."""
    whole = parser()
    args, rest = whole.parse_known_args(argv)
    if args.command.takes == "flags":
        args.words, rest = rest, []
    if rest and (args.command.takes != "settings" or any(word.startswith("-") for word in rest)):
        whole.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.words = [*args.words, *rest]
    return args


def main(argv: list[str] | None = None) -> int:
    """Run a command; errors of the user's making are one line, not a traceback. Exit status 2 then."""
    args = parse(argv)
    try:
        args.command.action(args)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:  # ConfigError among them
        return _say(error)
    except KeyboardInterrupt:
        print("interrupted; the same command, without --force, goes on from the last finished epoch", file=sys.stderr)
        return 130
    except _errors_of_training() as error:
        return _say(error)
    return 0


def _errors_of_training() -> tuple[type[Exception], ...]:
    """Loaded when something was raised, so that what needs no torch loads none."""
    from terminator.runtime.checkpoint import CheckpointError
    from terminator.trainer import TrainingDiverged
    return CheckpointError, TrainingDiverged


def _say(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def entry() -> NoReturn:
    """End this process with the command's exit status."""
    status = main()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a process that torchrun started ends in its own way
        from terminator.runtime.distributed import leave
        leave(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
