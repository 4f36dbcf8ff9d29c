"""What the systems' commands share: how one is declared, options of a training, preset=NAME, the lines at the end."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from terminator.runs.study import PROFILES
from terminator.runtime.settings import ConfigError, Experiment, changed_settings


def _nothing(parser: argparse.ArgumentParser) -> None:
    """Options of a command that has none."""


@dataclass(frozen=True)
class Settings:
    """The settings of a kind of experiment, as its commands take them.

    Attributes:
        of: what the command `presets` calls them.
        presets: gives the module with PRESETS and preset(name); loaded on use.
        standard: the preset without preset=NAME; nothing: the defaults.
    """

    of: str
    presets: Callable[[], ModuleType]
    standard: str = ""

    def start(self, name: str = "") -> Any:
        """The preset of that name, or the standard one.

        Raises:
            ConfigError: for an unknown name, listing the known ones.
        """
        return self.presets().preset(name or self.standard)

    def config(self, words: Iterable[str]) -> Any:
        """The configuration of a command line's words: KEY=VALUE, and preset=NAME for where it starts.

        Raises:
            ConfigError: for a preset given twice, an unknown one, and whatever a setting may have wrong.
        """
        name, changes = preset_named(words)
        return self.start(name).updated(*changes)


@dataclass(frozen=True)
class Command:
    """One command: a system's `commands.py` lists its own in COMMANDS, where the command line finds them.

    Attributes:
        name: what is typed.
        action: what it does with the parsed command line; errors of the user's making are exceptions.
        help: what it does, in a line.
        options: adds its own options to its parser.
        takes: what else it reads, as `args.words`: "settings" (KEY=VALUE), "flags" (any words) or nothing.
        settings: what the words set.
        epilog: what its help says last.
    """

    name: str
    action: Callable[[argparse.Namespace], None]
    help: str
    options: Callable[[argparse.ArgumentParser], None] = _nothing
    takes: str = ""
    settings: Settings | None = None
    epilog: str = ""


def preset_named(words: Iterable[str]) -> tuple[str, list[str]]:
    """The preset that words name with preset=NAME, "" where they name none; and the other words.

    Raises:
        ConfigError: if it is given more than once.
    """
    words = list(words)
    names = [word.removeprefix("preset=") for word in words if word.startswith("preset=")]
    if len(names) > 1:
        raise ConfigError(f"preset is given {len(names)} times: {', '.join(names)}; allowed: once")
    return (names or [""])[0], [word for word in words if not word.startswith("preset=")]


def data_option(parser: argparse.ArgumentParser) -> None:
    """Where data sets lie."""
    parser.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")


def profile_option(parser: argparse.ArgumentParser) -> None:
    """What a record says it is."""
    parser.add_argument("--profile", choices=PROFILES, default="laptop",
                        help="what the record says it is (default: laptop)")


def run_options(parser: argparse.ArgumentParser) -> None:
    """Which run: options of whatever finds or makes one."""
    parser.add_argument("--experiment", default="cli", help="folder below results/runs (default: cli)")
    profile_option(parser)
    data_option(parser)


def training_options(parser: argparse.ArgumentParser) -> None:
    """Options of every training."""
    run_options(parser)
    parser.add_argument("--force", action="store_true", help="train again, even if a finished record is there")


def model_option(parser: argparse.ArgumentParser, of: str) -> None:
    """The model file that a command reads."""
    parser.add_argument("model", help=of)


def images_option(parser: argparse.ArgumentParser) -> None:
    """The image files that a command reads."""
    parser.add_argument("images", nargs="+", type=Path, help="image files")


def run_and_print(system: Any, config: Experiment, args: argparse.Namespace,
                  lines: Callable[[dict[str, Any]], Iterable[str]], files: str = "record, metrics and model",
                  **options: Any) -> None:
    """Run an experiment, or read its record; print what was reached and where it lies.

    Args:
        system: whose `run` is called.
        config: the experiment.
        args: with the options of `training_options`.
        lines: what is said of a record.
        files: what its folder holds.
        options: for `run`, beside those of the command line.
    """
    from terminator.runtime.distributed import processes, rank

    with processes(config.train):  # type: ignore[attr-defined]  # the rank is known while the processes are joined
        run = system.run(config, args.experiment, args.profile, data_dir=args.data_dir, force=args.force, **options)
        if rank() == 0:
            for line in lines(run.record):
                print(line)
            print(f"{files}: {run.folder}")


def presets_command(commands: Iterable[Command]) -> Command:
    """The command that lists the presets of all these commands."""
    known = {command.settings.of: command.settings for command in commands if command.settings}

    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("of", nargs="?", choices=list(known), default="images", help="default: images")

    def presets(args: argparse.Namespace) -> None:
        module = known[args.of].presets()
        for name in module.PRESETS:
            print(name)
            config = module.preset(name)
            for group, values in changed_settings(config, type(config)()).items():
                for key, value in values.items():
                    print(f"    {group}.{key}={json.dumps(value)}")

    return Command("presets", presets, "list the named configurations", options)
