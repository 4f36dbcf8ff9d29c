"""What commands share: how one is declared, options of a training, preset=NAME, files."""

import argparse
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from terminator.runtime import words
from terminator.runtime.paths import expanded
from terminator.runtime.settings import PROFILES, ConfigError, Experiment, changed_settings, to_dict
from terminator.runtime.settings_help import words_of


def _nothing(parser: argparse.ArgumentParser) -> None:
    """Options of a command that has none."""


@dataclass(frozen=True)
class Settings:
    """The settings of a kind of experiment, as its commands take them.

    Attributes:
        of: what the command `presets` calls them.
        presets: gives the module with PRESETS and preset(name); loaded on use.
        standard: the preset without preset=NAME; nothing: the defaults.
        otherwise: what else decides without preset=NAME, in words.
    """

    of: str
    presets: Callable[[], ModuleType]
    standard: str = ""
    otherwise: str = ""

    def defaults(self) -> Any:
        """The configuration in which every setting has its default."""
        module = self.presets()
        return type(module.preset(next(iter(module.PRESETS))))()

    def start(self, name: str = "", file: Path | None = None) -> Any:
        """Where a command line's words start: a preset, a file, or a preset with a file's changes.

        Args:
            name: of the preset; nothing: the standard one, or beside a file the defaults.
            file: see `read_config`.

        Raises:
            ConfigError: for an unknown name, listing all, and what a file may have wrong.
        """
        if file is None:
            return self.presets().preset(name or self.standard)
        values = read_config(file)
        try:
            return (self.presets().preset(name) if name else self.defaults()).updated(**values)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error

    def config(self, args: argparse.Namespace) -> Any:
        """The configuration of a command line: KEY=VALUE words over preset=NAME and --config FILE.

        Raises:
            ConfigError: for a preset given twice, an unknown one, and what settings may have wrong.
        """
        name, changes = preset_named(args.words)
        return self.start(name, getattr(args, "config", None)).updated(*changes)

    def words(self, config: Any, decided: Collection[tuple[str, str]] = ()) -> list[str]:
        """preset=NAME and the settings that differ from it, of the preset with the fewest.

        Args:
            decided: (group, key) of settings that are not said, since the data decide them, say.
        """
        found = {}
        for name, start in _starts(self).items():
            changes = {
                group: {key: value for key, value in values.items() if (group, key) not in decided}
                for group, values in changed_settings(config, start).items()
            }
            found[name] = words_of(changes)
        name = min(found, key=lambda key: len(found[key]))
        return [f"preset={name}", *found[name]]


NOT_MEANT = ("own",)  # presets whose data are the reader's


@lru_cache
def _starts(settings: Settings) -> dict[str, Any]:
    module = settings.presets()
    return {name: module.preset(name) for name in module.PRESETS if name not in NOT_MEANT}


ELSEWHERE = 75  # exit status of a run of a batch that another process is training


@dataclass(frozen=True)
class Command:
    """One command: a system's `commands.py` lists its own in COMMANDS, where they are found.

    Attributes:
        name: what is typed.
        action: what it does with the parsed command line; raises the user's errors; returns an exit
            status other than 0, if there is one.
        help: what it does, in a line.
        options: adds its own options to its parser.
        takes: what it reads as `args.words`: "settings" (KEY=VALUE), "flags" (any) or nothing.
        settings: what the words set.
        config: the configuration of a parsed command line, of commands that train.
        examples: of its words, with what they do.
        epilog: what its help says of its words.
    """

    name: str
    action: Callable[[argparse.Namespace], int | None]
    help: str
    options: Callable[[argparse.ArgumentParser], None] = _nothing
    takes: str = ""
    settings: Settings | None = None
    config: Callable[[argparse.Namespace], Any] | None = None
    examples: tuple[tuple[str, str], ...] = ()
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


def read_config(file: Path) -> dict[str, Any]:
    """Settings from a file: YAML as --print-config writes it, some of it, or a run's record.json,
    which a run's folder may stand for.

    Raises:
        ConfigError: if it is neither.
        OSError: if it cannot be read.
    """
    if file.is_dir():
        file = file / "record.json"
        if not file.is_file():
            raise ConfigError(
                f"{file.parent} is a folder without a record.json; allowed: a YAML file as "
                "--print-config writes it, a run's record.json, or a run's folder"
            )
    text = file.read_text(encoding="utf8", errors="surrogateescape")
    values: Any
    try:
        values = json.loads(text) if file.suffix == ".json" else words.from_yaml(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if isinstance(values, dict) and "run_id" in values:
        values = values.get("config")
    if not isinstance(values, dict) or not all(
        isinstance(group, dict) for group in values.values()
    ):
        raise ConfigError(
            f"{file} holds no settings; allowed: groups of them, as --print-config writes, or the "
            "record.json of a run"
        )
    return values


def print_config(config: Experiment) -> None:
    """Every setting as YAML, which --config reads."""
    print(words.to_yaml(to_dict(config)), end="")


def config_option(parser: argparse.ArgumentParser) -> None:
    """Settings from a file."""
    parser.add_argument(
        "--config",
        type=place,
        metavar="FILE",
        help="settings from a YAML file (see --print-config) or a run's record.json; KEY=VALUE "
        "words change them",
    )


def data_option(parser: argparse.ArgumentParser) -> None:
    """Where data sets lie."""
    parser.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")


def profile_option(parser: argparse.ArgumentParser) -> None:
    """What a record says it is."""
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default="laptop",
        help="what the record says it is (default: laptop)",
    )


def run_options(parser: argparse.ArgumentParser) -> None:
    """Which run: options of whatever finds or makes one."""
    parser.add_argument(
        "--experiment", default="cli", help="folder below results/runs (default: cli)"
    )
    profile_option(parser)
    data_option(parser)


def training_options(parser: argparse.ArgumentParser) -> None:
    """Options of every training."""
    run_options(parser)
    parser.add_argument(
        "--force", action="store_true", help="train again, even if a finished record is there"
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="every epoch's numbers for TensorBoard as well, in the run's folder",
    )
    parser.add_argument(
        "--need-model",
        action="store_true",
        help="train again, if only the record is on this machine, not the weights",
    )
    parser.add_argument(
        "--batch",
        action="store_true",
        help="as one of many runs: leave no page; exit status 75 at once, if another process is "
        "training it",
    )
    config_option(parser)
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="write all settings as YAML, for --config FILE, and do nothing else",
    )


def model_option(parser: argparse.ArgumentParser, of: str) -> None:
    """The model file that a command reads."""
    parser.add_argument("model", type=_word, help=of)


def images_option(parser: argparse.ArgumentParser) -> None:
    """The image files that a command reads."""
    parser.add_argument("images", nargs="+", type=place, help="image files, or folders of them")


def place(text: str) -> Path:
    """A path as it is typed; shells leave the ~ of --csv=~/a.csv to the program. An empty word, an
    unset variable of a shell say, is none: Path would make a "." of it.
    """
    return expanded(_word(text))


def _word(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("'' is no path; allowed: the name of a file or folder")
    return text


def answer_options(parser: argparse.ArgumentParser) -> None:
    """How many classes a picture's answer has, and where answers are written; see runs.answers."""
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="so many classes a picture, the most probable first (default: 5)",
    )
    for name, what in (("csv", "a table"), ("json", "JSON")):
        parser.add_argument(f"--{name}", type=place, metavar="FILE", help=f"write {what} as well")


def run_and_print(
    system: Any,
    config: Any,
    args: argparse.Namespace,
    lines: Callable[[dict[str, Any]], Iterable[str]],
    draw: Callable[[Any, str], Any],
    files: str = "record, metrics and model",
    **options: Any,
) -> None:
    """Run an experiment, or read its record; print what was reached and where it lies, the model's
    file last.

    Args:
        system: whose `run` is called.
        config: the experiment.
        args: with the options of `training_options`.
        lines: what is said of a record.
        draw: plots.run_curves.run_curves, which stands above this.
        files: what its folder holds.
        options: for `run`, beside those of the command line.
    """
    from terminator.runs.leavings import TensorBoard, leave
    from terminator.runs.model_files import MODEL
    from terminator.runtime.distributed import processes, rank
    from terminator.runtime.locks import Busy

    callbacks = [TensorBoard()] if args.tensorboard else []
    with processes(config.train):  # the rank is known for as long as the processes are joined
        try:
            run = system.run(
                config,
                args.experiment,
                args.profile,
                data_dir=args.data_dir,
                force=args.force,
                need_model=args.need_model,
                wait=not args.batch,
                callbacks=callbacks,
                **options,
            )
        except Busy as error:
            print(error)
            raise SystemExit(ELSEWHERE) from None
        if rank() > 0:
            return
        for line in lines(run.record):
            print(line)
        if not run.trained:
            print("finished before, nothing trained (--force trains again)")
        print(f"{files}: {run.folder}")
        if args.tensorboard and run.trained:
            print(f"to look at its epochs: tensorboard --logdir {callbacks[0].folder}")
        if not args.batch and (page := leave(run, draw)).is_file():
            print(f"page: {page}")
        there = "" if run.has_model else " (not on this machine; --need-model trains it)"
        print(f"model: {run.folder / MODEL}{there}")


def presets_command(commands: Iterable[Command]) -> Command:
    """The command that lists the presets of all these commands."""
    known = {command.settings.of: command.settings for command in commands if command.settings}

    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "of", nargs="?", choices=list(known), default="images", help="default: images"
        )

    def presets(args: argparse.Namespace) -> None:
        module = known[args.of].presets()
        for name in module.PRESETS:
            print(name)
            config = module.preset(name)
            for word in words_of(changed_settings(config, type(config)())):
                print(f"    {word}")

    return Command("presets", presets, "list the named configurations", options)
