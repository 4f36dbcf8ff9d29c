"""What the command line says: an overview, every setting of a command, what may have been meant."""

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from terminator.runs.command_line import Command, preset_named
from terminator.runtime.settings import ConfigError, changed_settings
from terminator.runtime.settings_help import keys_like, settings_of, words_of

FIRST = ("train", "predict", "segmentation")  # whose first example stands in the overview
COLUMN = 38  # where meanings begin


class Parser(argparse.ArgumentParser):
    """argparse; errors are one line here, as all others are, and help knows the settings."""

    command: Command | None = None
    about = ""  # in place of argparse's own help

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")

    def format_help(self) -> str:
        text = self.about or super().format_help()
        return text + described(self.prog, self.command) if self.command else text


def overview(program: str, version: str, rooms: Mapping[str, Sequence[Command]]) -> str:
    """All commands by what they are about, and three examples.

    Args:
        program: how it is called.
        version: of the kit.
        rooms: {what a system is: its commands}.
    """
    lines = [
        f"terminator-kit {version}: train, test and measure Terminator and the systems that stand "
        "next to it.",
        "",
        f"usage: {program} COMMAND [--help] ...",
    ]
    for about, commands in rooms.items():
        lines += ["", about, *(_row(command.name, command.help, 20) for command in commands)]
    known = {command.name: command for commands in rooms.values() for command in commands}
    lines += ["", "examples"]
    for name in FIRST:
        lines += _example(f"{program} {name}", *known[name].examples[0])
    return "\n".join(
        [
            *lines,
            "",
            f"{program} COMMAND --help lists all settings of a command, its presets and more "
            "examples.",
            "",
        ]
    )


def described(program: str, command: Command) -> str:
    """What follows a command's options: examples, presets, and every setting with its meaning.

    Args:
        program: how the command is called.
        command: the command.
    """
    lines = []
    if command.examples:
        lines += ["", "examples:"]
        for words, does in command.examples:
            lines += _example(program, words, does)
    if command.settings:
        lines += ["", *_presets(command), "", *_settings(command)]
    return "\n".join([*lines, ""]) if lines else ""


def _example(program: str, words: str, does: str) -> list[str]:
    return [f"  {' '.join(filter(None, (program, words)))}", f"      {does}"]


def _presets(command: Command) -> list[str]:
    """A line for every preset: what it changes, shortened."""
    assert command.settings is not None
    lines, module, default = (
        ["presets, preset=NAME:"],
        command.settings.presets(),
        command.settings.defaults(),
    )
    for name in module.PRESETS:
        changes = words_of(changed_settings(module.preset(name), default))
        text = textwrap.shorten(
            " ".join(changes) or "the defaults", max(_width() - 30, 40), placeholder=" ..."
        )
        lines.append(_row(name, text, 28))
    return lines


def _settings(command: Command) -> list[str]:
    assert command.settings is not None
    lines = [
        "settings, KEY=VALUE, with their defaults (null: None, nothing; lists as [1,2])",
        "and, in brackets, what is allowed:",
    ]
    standard = command.settings.standard
    if changed_by := command.settings.otherwise or (standard and f"the preset {standard}"):
        said = f"(without preset=NAME and --config {changed_by} may say otherwise)"
        lines += textwrap.wrap(said, _width())
    for group, (about, settings) in settings_of(command.settings.defaults()).items():
        lines += ["", *textwrap.wrap(f"{group}: {about}", _width(), break_on_hyphens=False)]
        for setting in settings:
            lines.append(
                _row(
                    f"{setting.key}={setting.default}",
                    f"{setting.meaning} [{setting.allowed}]",
                    COLUMN,
                )
            )
    return lines


def _width() -> int:
    return max(shutil.get_terminal_size().columns - 2, 60)


def _row(left: str, right: str, column: int) -> str:
    """Two columns; the right one is wrapped, and begins a line below where the left one is long."""
    wrapped = textwrap.wrap(
        right, max(_width() - column, 24), break_long_words=False, break_on_hyphens=False
    )
    first = f"  {left}".ljust(column)
    if len(first) > column or first[-1] != " ":
        return "\n".join([first, *(" " * column + line for line in wrapped)])
    return ("\n" + " " * column).join([first + (wrapped or [""])[0], *wrapped[1:]])


# -- did you mean ------------------------------------------------------------------------------


def meant(word: str, known: Iterable[str], cutoff: float = 0.75) -> str:
    """ "did you mean train? " for a word that is near a known one, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]}? " if near else ""


def check_presets(command: Command, words: Iterable[str], commands: Iterable[Command]) -> None:
    """Refuse a preset that the command does not know; say which one, or which command, was meant.

    Raises:
        ConfigError: naming the preset, what it may have been, and what is allowed.
    """
    if command.settings is None:
        return
    own, words = command.settings.presets().PRESETS, list(words)
    for word in words:
        key, _, value = word.partition("=")
        if key != "preset" and value and meant(key.lower(), ["preset"], 0.9):
            raise ConfigError(f"unknown setting {key}; did you mean preset={value}?")
        if "=" not in word and word in own:
            raise ConfigError(
                f"cannot read {word!r}; settings are written KEY=VALUE: say preset={word}"
            )
    name, _ = preset_named(words)
    if not name or name in own:
        return
    others = {
        preset: other.name
        for other in reversed(list(commands))
        if other.settings and other.config
        for preset in other.settings.presets().PRESETS
    }
    if name in others:
        raise ConfigError(
            f"preset {name!r} is none of {command.name}, but of {others[name]}: say {others[name]} "
            f"preset={name}; allowed here: {', '.join(own)}"
        )
    for known, cutoff in (({preset: command.name for preset in own}, 0.66), (others, 0.8)):
        if near := difflib.get_close_matches(name, known, n=1, cutoff=cutoff):
            raise ConfigError(
                f"preset {name!r}: did you mean {near[0]}? ({known[near[0]]}); allowed: "
                f"{', '.join(own)}"
            )


def unknown_option(
    command: Command, options: Iterable[str], rest: Sequence[str], argv: Sequence[str]
) -> str:
    """What to say of words that argparse left over: the setting or option that was meant.

    Args:
        command: whose words they are.
        options: that it has.
        rest: what was left over.
        argv: the whole command line, in which a value stands behind its option.
    """
    option = next((word for word in rest if word.startswith("-")), None)
    if option is None:
        return f"unrecognized arguments: {' '.join(rest)}"
    name, equals, value = option.partition("=")
    if near := meant(name, options):
        return f"unrecognized argument {option}; {near.strip()}"
    if command.settings and (
        keys := keys_like(command.settings.defaults(), name.lstrip("-").replace("-", "_"))
    ):
        following = list(argv)[list(argv).index(option) + 1 :][:1] if option in argv else []
        value = (
            value
            if equals
            else next((word for word in following if not word.startswith("-")), "VALUE")
        )
        said = " or ".join(f"{key}={value}" for key in keys)
        return f"{name} is no option; settings are written KEY=VALUE: say {said}"
    return f"unrecognized arguments: {' '.join(rest)}"


def error_line(error: Exception) -> str | None:
    """What is said of an error: of the user's making, of a training, or a lack of memory; None of
    any other, which is a fault of the program.
    """
    if isinstance(error, ValueError | OSError):  # ConfigError among them
        return str(error)
    if not isinstance(error, MemoryError | RuntimeError):
        return None
    from terminator.runtime.checkpoint import CheckpointError  # what needs no torch loads none
    from terminator.runtime.memory import is_out_of_memory
    from terminator.trainer import TrainingDiverged

    if is_out_of_memory(error):
        said = next(iter(str(error).splitlines()), "")
        asked = re.search(r"(tried to )?allocate [\d.,]+ ?\w+", said, re.IGNORECASE)
        return (
            f"there is not enough memory{f' ({asked[0]})' if asked else ''}; take smaller batches "
            "(train.batch_size, test.batch_size), images (image_size) or networks, or fewer "
            "processes at once"
        )
    return str(error) if isinstance(error, CheckpointError | TrainingDiverged) else None
