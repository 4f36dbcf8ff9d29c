"""What a shell is told when a command line is completed."""

import os
import subprocess
import sys

import pytest
from places import ROOT

from terminator.__main__ import find_commands
from terminator.runs.completion import words_of
from terminator.runtime.settings_help import settings_of

COMMANDS = {command.name: command for commands in find_commands().values() for command in commands}
PROGRAM = (
    "import sys; sys.argv[0] = 'terminator-kit'; import terminator.__main__ as kit\n"
    "try: kit.entry()\n"
    "finally: assert not {'torch', 'numpy'} & set(sys.modules)"
)


def answered(line, end):
    """The words that the shell is offered behind `line`, as the `completion` extra asks for them,
    and the exit status.
    """
    variables = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n\"'><;|&(",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(end),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | variables, capture_output=True, text=True
    )
    assert "AssertionError" not in done.stderr
    return (end.read_text().split() if end.exists() else []), done.returncode


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("terminator-kit tra", ["train"]),
        ("terminator-kit train --pro", ["--profile"]),
        ("terminator-kit train --profile sm", ["smoke"]),
        ("terminator-kit train train.ep", ["train.epochs="]),
        ("terminator-kit train preset=mnist-", ["preset=mnist-laptop"]),
        ("terminator-kit gan --force train.see", ["train.seed="]),
    ],
)
def test_a_shell_is_answered(tmp_path, line, expected):
    pytest.importorskip("argcomplete", reason="the extra `completion` is not installed")
    words, _ = answered(line, tmp_path / "words")
    assert words == expected


def test_without_argcomplete_there_is_no_answer_and_nothing_is_run(tmp_path, monkeypatch):
    (tmp_path / "argcomplete.py").write_text("raise ImportError\n")
    monkeypatch.setattr("test_completion.ROOT", os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert answered("terminator-kit tra", tmp_path / "words") == ([], 1)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.settings])
def test_every_setting_and_every_preset_is_offered(name):
    command = COMMANDS[name]
    of_groups = settings_of(command.settings.defaults()).values()
    keys = [setting.key for _, settings in of_groups for setting in settings]
    assert words_of(command, "") == [f"{key}=" for key in ("preset", *keys)]
    presets = [f"preset={preset}" for preset in command.settings.presets().PRESETS]
    assert words_of(command, "preset=") == presets


def test_what_stands_already_is_not_offered_again():
    offered = words_of(COMMANDS["train"], "", ["preset=digits", "train.seed=3"])
    assert "preset=" not in offered
    assert "train.seed=" not in offered
    assert "train.epochs=" in offered


def test_values_that_are_known():
    train = COMMANDS["train"]
    assert words_of(train, "train.do=") == ["train.do=true", "train.do=false"]
    assert words_of(train, "train.epochs=") == words_of(train, "wings=") == []
    assert words_of(COMMANDS["models"], "") == []
