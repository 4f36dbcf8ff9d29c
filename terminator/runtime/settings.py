"""Reading of settings: dataclasses from words and dictionaries, strictly, and what makes an
experiment this one.
"""

import contextlib
import dataclasses
import difflib
import functools
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any, Self

from terminator.runtime import words
from terminator.runtime.errors import OneLine

# embedded data in minutes; reduced real data; the full settings
PROFILES = ("smoke", "laptop", "paper")


MAX_ITEMS = 1_000  # of a list


class ConfigError(OneLine, ValueError):
    """A setting that does not exist, has the wrong type or cannot be used; the message names it."""


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raise ConfigError naming the key, its value and what is allowed, unless the condition
    holds.
    """
    if not condition:
        raise ConfigError(f"{key} is {value!r}; allowed: {allowed}")


def require_one_of(key: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ConfigError unless the value is one of these."""
    require(value in allowed, key, value, ", ".join(map(str, allowed)))


def _key(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name


def at_least(settings: Any, group: str, minima: Mapping[str, int]) -> None:
    """Raise ConfigError for a setting that is no integer or below its minimum; None is allowed
    where the setting's type says so.

    Args:
        group: that the settings are called by, "" for none.
        minima: {setting: minimum}.
    """
    hints = {field.name: field.type for field in dataclasses.fields(settings)}
    for name, least in minima.items():
        value = getattr(settings, name)
        optional = type(None) in typing.get_args(hints[name])
        require(
            (value is None and optional) or (isinstance(value, int) and value >= least),
            _key(group, name),
            value,
            f"an integer of at least {least}{', or nothing' if optional else ''}",
        )


def one_of(settings: Any, group: str, choices: Mapping[str, Iterable[Any]]) -> None:
    """Raise ConfigError for a setting that is none of what it may be.

    Args:
        group: that the settings are called by, "" for none.
        choices: {setting: what it may be}.
    """
    for name, allowed in choices.items():
        require_one_of(_key(group, name), getattr(settings, name), allowed)


class Experiment:
    """Base of a whole experiment's settings, a frozen dataclass whose fields are groups of
    settings.

    Raises:
        ConfigError: from the constructor, for a group of another kind.
    """

    def __post_init__(self) -> None:
        for name, kind in _hints(self).items():
            group = getattr(self, name)
            require(
                isinstance(group, kind),
                name,
                group,
                f"a {kind.__name__}; updated({name}={{...}}) takes a dictionary",
            )

    def updated(self, *dotlist: str, **values: Any) -> Self:
        """A copy with other values: `config.updated("train.epochs=6", optimizer={"lr": 0.01})`.

        Raises:
            ConfigError: that names the key, its value and what is allowed.
        """
        return _merge(_merge(self, parse_dotlist(dotlist), ""), values, "")


def parse_dotlist(dotlist: Iterable[str]) -> dict[str, Any]:
    """["a.b=1", "c=[2,3]"] as nested dictionaries of words, unread: {"a": {"b": "1"}, ...}.

    Raises:
        ConfigError: for an entry without a key or "=", or a key that is both a value and a group.
    """
    found: dict[str, Any] = {}
    for entry in dotlist:
        key, equals, value = str(entry).partition("=")
        *groups, name = (part.strip() for part in key.split("."))
        if not equals or not all((*groups, name)):
            raise ConfigError(
                f"cannot read {entry!r}; settings are written KEY=VALUE, e.g. train.epochs=6"
            )
        inside = found
        for group in groups:
            inside = inside.setdefault(group, {})
            if not isinstance(inside, dict):
                raise ConfigError(f"{entry!r} and {group}={inside!r} cannot both be set")
        if isinstance(inside.get(name), dict):
            raise ConfigError(f"{entry!r} and {name}.{next(iter(inside[name]))} cannot both be set")
        inside[name] = words.Word(value)
    return found


def from_dict(kind: type, values: Mapping[str, Any]) -> Any:
    """Build a configuration dataclass from nested dictionaries, strictly.

    Raises:
        ConfigError: for an unknown key, a wrong type or an impossible value.
    """
    return _merge(kind(), values, "")


def from_preset(
    kind: type, presets: Mapping[str, Mapping[str, Any]], name: str, changes: Mapping[str, Any]
) -> Any:
    """The named one of a system's presets, as settings of that kind, with changes.

    Raises:
        ConfigError: for an unknown name, listing the known ones; as `from_dict`.
    """
    if not isinstance(name, str) or name not in presets:
        near = difflib.get_close_matches(str(name), presets, n=1)
        guess = f"did you mean {near[0]}? Allowed" if near else "allowed"
        raise ConfigError(f"preset is {name!r}; {guess}: {', '.join(presets)}")
    return from_dict(kind, presets[name]).updated(**changes)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dictionaries of JSON values; the inverse of from_dict."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


# of train: where it runs, not what
WHERE_KEYS = ("do", "device", "distributed", "num_nodes", "avail_gpus", "checkpoint_minutes")
READING_KEYS = ("on_error",)  # of dataset: how it is read; what came of it, its fingerprint says


def identity(config: Any) -> dict[str, Any]:
    """What makes an experiment this one: the settings that differ from the defaults, but not where
    it runs, nor how unreadable files are met.

    A setting that a later version adds, at its default, leaves the identity as it was.
    """
    changes = changed_settings(config, type(config)())
    for key in WHERE_KEYS:
        changes.get("train", {}).pop(key, None)
    for key in READING_KEYS:
        changes.get("dataset", {}).pop(key, None)
    return {group: values for group, values in changes.items() if values}


def changed_settings(config: Any, default: Any) -> dict[str, Any]:
    """Nested dictionaries of the settings whose values differ from those of `default`."""
    found = {}
    for key, value in to_dict(config).items():
        standard = getattr(default, key)
        if dataclasses.is_dataclass(standard):
            if nested := changed_settings(getattr(config, key), standard):
                found[key] = nested
        elif value != _plain(standard):
            found[key] = value
    return found


def without_places(config: Any) -> Any:
    """The configuration as records, models and checkpoints hold it: of a path, the name stays.

    A group's PLACES says which settings name files or folders, {key: names that need no place}. A
    path that ends in such a name becomes ./NAME, since it is something else.
    """
    return _places(config, lambda group, key, known: _place_name(getattr(group, key), known))


def with_places(config: Any, asked: Any) -> Any:
    """A record's configuration with the paths of the one that was asked for."""
    named = {
        (type(group), key): getattr(group, key)
        for group in (getattr(asked, f.name) for f in dataclasses.fields(asked))
        for key in getattr(group, "PLACES", {})
    }
    return _places(config, lambda group, key, known: named[type(group), key])


def _places(config: Any, change: Callable[[Any, str, Iterable[str]], str]) -> Any:
    """The configuration with another value for every setting that names a place."""
    groups = {}
    for f in dataclasses.fields(config):
        group = getattr(config, f.name)
        new = {
            key: change(group, key, known) for key, known in getattr(group, "PLACES", {}).items()
        }
        if any(getattr(group, key) != value for key, value in new.items()):
            groups[f.name] = dataclasses.replace(group, **new)
    return dataclasses.replace(config, **groups) if groups else config


def _place_name(path: str, known: Iterable[str]) -> str:
    name = PurePath(path).name
    return path if not name or name == path else f"./{name}" if name in known else name


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


_type_hints: Any = functools.cache(typing.get_type_hints)


def _hints(config: Any) -> dict[str, Any]:
    return _type_hints(type(config))


def _merge(config: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = _hints(config)
    changes = {}
    for key, value in values.items():
        if key not in hints:
            word = str(key).lower()
            near = _inside(config, word) or difflib.get_close_matches(word, hints, n=1)
            raise ConfigError(
                "unknown setting "
                f"{prefix}{key}{f'; did you mean {prefix}{near[0]}?' if near else '.'} Allowed: "
                f"{', '.join(prefix + name for name in hints)}"
            )
        current = getattr(config, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                names = ", ".join(f"{prefix}{key}.{f.name}" for f in dataclasses.fields(current))
                raise ConfigError(
                    f"{prefix}{key} is a group of settings, not {value!r}; allowed: {names}"
                )
            changes[key] = _merge(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _coerce(prefix + key, value, hints[key])
            _check_largest(config, key, changes[key], prefix)
    return dataclasses.replace(config, **changes)


def _inside(config: Any, key: str) -> list[str]:
    """Where a setting of this name stands within the groups: train.epochs for epochs."""
    groups = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return [
        f"{name}.{key}"
        for name, group in groups.items()
        if dataclasses.is_dataclass(group) and key in _hints(group)
    ]


def _coerce(key: str, value: Any, hint: Any) -> Any:
    """Turn a value into the hinted type, where nothing is lost by it; a word is read by it."""
    if isinstance(value, words.Word):
        try:
            value = words.read(value, hint)
        except words.Unreadable as error:
            raise ConfigError(f"{key} is {value!r}; allowed: {error}") from None
    hint, optional = words.unwrapped(hint)
    if optional and value is None:
        return None
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        require(
            isinstance(value, (list, tuple)), key, value, f"a list of {kind.__name__}s, e.g. [1,2]"
        )
        require(len(value) <= MAX_ITEMS, key, f"{len(value):,} long", f"at most {MAX_ITEMS} items")
        return tuple(_coerce(key, item, kind) for item in value)
    if hint is str:
        return _text(key, value)
    if hint is float and isinstance(value, str):  # Python and JSON may bring 5e-5 as a string
        with contextlib.suppress(words.Unreadable):
            value = words.number(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number and abs(value) <= sys.float_info.max:  # integers have no end
        return float(value)
    require(
        type(value) is hint and hint is not float,
        key,
        value,
        {int: "an integer", float: "a finite number", bool: "true or false"}[hint],
    )
    if hint is int:
        require(abs(value) < words.MAX_INTEGER, key, value, "an integer below 2**32")
    return value


def _check_largest(group: Any, key: str, value: Any, prefix: str) -> None:
    """Refuse an integer, or one of a list, above what its group says: LARGEST, of all its integers,
    or MOST, of this one.
    """
    most = getattr(group, "MOST", {}).get(key, getattr(group, "LARGEST", None))
    for item in value if isinstance(value, tuple) else (value,):
        if most is not None and isinstance(item, int) and not isinstance(item, bool):
            require(item <= most, prefix + key, value, f"integers up to {most:,}")


def _text(key: str, value: Any) -> str:
    """Text that a record can hold; numbers from Python or JSON as they are written."""
    if isinstance(value, (int, float)):  # true and false, too: what is allowed is said later
        value = str(value)
    require(isinstance(value, str), key, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{key} is {value!r}, which is not UTF-8; allowed: a name that is (rename the file or "
            "folder)"
        ) from None
    require("\0" not in value, key, value, "text without a zero byte")
    return str(value)
