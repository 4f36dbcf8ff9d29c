"""A run as a shell command that trains it, goes on with it, or finds it finished: on any scheduler,
or at a colleague's.
"""

import os
import shlex
from functools import lru_cache

from terminator.classification import commands as classification
from terminator.hamburger import commands as hamburger
from terminator.hrrformer import commands as hrrformer
from terminator.hypertransformer import commands as hypertransformer
from terminator.runs.command_line import Settings
from terminator.runs.wanted import Wanted
from terminator.runtime.paths import DATA_VARIABLE, RESULTS_VARIABLE


@lru_cache
def _settings_of(command: str) -> Settings:
    """The settings that a command takes which trains."""
    rooms = (classification, hamburger, hrrformer, hypertransformer)
    (found,) = (one.settings for room in rooms for one in room.COMMANDS if one.name == command)
    assert found is not None  # of commands that train
    return found


def words(wanted: Wanted) -> list[str]:
    """preset=NAME and the settings that differ from it."""
    return _settings_of(wanted.system.command).words(wanted.config)


def arguments(wanted: Wanted, data_dir: str | None = None) -> list[str]:
    """What follows `python -m terminator` to train a run."""
    options = ["--experiment", wanted.experiment, "--profile", wanted.profile, "--batch"]
    options += ["--need-model"] if wanted.need_model else []
    options += ["--data-dir", data_dir] if data_dir else []
    return [wanted.system.command, *words(wanted), *options]


def line(wanted: Wanted, data_dir: str | None = None) -> str:
    """The shell command of a run, with where results and data lie, if that is set here."""
    places = [
        f"{name}={os.environ[name]}"
        for name in (RESULTS_VARIABLE, DATA_VARIABLE)
        if os.environ.get(name)
    ]
    parts = ["python", "-m", "terminator", *arguments(wanted, data_dir)]
    return shlex.join((["env", *places] if places else []) + parts)
