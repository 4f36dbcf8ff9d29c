"""The files that trainings start from: by what is in them they are part of what makes a run this
one, and its record says so, since the files themselves may be gone.
"""

from collections.abc import Mapping
from typing import Any

from terminator.runs.described import Described
from terminator.runtime import digests
from terminator.runtime.settings import ConfigError


def starts(system: Described, config: Any) -> dict[str, str]:
    """{setting: SHA-256} of the files that a training starts from.

    Raises:
        ConfigError: for one that is not there.
    """
    found = {}
    for key in system.started_by:
        if (path := system.start_file(config, key)) is not None:
            if not path.is_file():
                raise ConfigError(
                    f"{key} is {str(path)!r}, where there is no file; allowed: a file, or nothing"
                )
            found[key] = digests.of_file(path)
    return found


def with_starts(
    system: Described, what: dict[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """An identity with the contents of the start files in the place of their names."""
    for key in set(system.started_by) & given.keys():
        group, name = key.split(".")
        what.setdefault(group, {})[name] = given[key]
    return what


def starts_alike(system: Described, record: Mapping[str, Any], config: Any) -> bool:
    """Whether a record's training started from the files that a configuration names; where the
    files are not here, or the record says nothing of them, their names have to do.
    """
    try:
        return record.get("starts") in (None, starts(system, config))
    except (ValueError, OSError):
        return True
