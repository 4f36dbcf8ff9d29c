"""Completion in a shell, by argcomplete: commands, options, settings, presets."""

import argparse
import os
from collections.abc import Iterable
from typing import Any

from terminator.runs.command_line import Command
from terminator.runtime.settings import to_dict


def is_asked() -> bool:
    """Whether it is a shell that runs the command line, to complete what is typed there."""
    return "_ARGCOMPLETE" in os.environ


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, and end this process; without argcomplete there is no answer."""
    try:
        import argcomplete
    except ImportError:
        raise SystemExit(1) from None
    argcomplete.autocomplete(parser)


def words_of(command: Command, typed: str, before: Iterable[str] = ()) -> list[str]:
    """The KEY=VALUE words that may continue what was typed, `preset=NAME` among them.

    Args:
        command: whose settings they are.
        typed: the beginning of the word.
        before: words that stand already; a setting is not offered twice.
    """
    if command.settings is None:
        return []
    if typed.startswith("preset="):
        return [f"preset={name}" for name in command.settings.presets().PRESETS]
    key, is_value, _ = typed.partition("=")
    settings: dict[str, Any] = {
        f"{group}.{name}": value
        for group, values in to_dict(command.settings.defaults()).items()
        for name, value in values.items()
    }
    if is_value:
        known = ("true", "false") if isinstance(settings.get(key), bool) else ()
        return [f"{key}={value}" for value in known]
    there = {word.partition("=")[0] for word in before}
    return [f"{name}=" for name in ("preset", *settings) if name not in there]
