"""Settings told to a reader: every field with its default, its meaning and what is allowed.

Nothing is written twice. The meaning is the comment behind the field; what is allowed is what the
dataclass itself says when it is given an impossible value.
"""

import ast
import dataclasses
import difflib
import functools
import inspect
import io
import json
import re
import textwrap
import tokenize
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from terminator.runtime.settings import ConfigError, to_dict
from terminator.runtime.words import unwrapped

TYPES = {int: "an integer", float: "a number", str: "text", bool: "true, false"}
IMPOSSIBLE = {int: -(10**9), float: -1e9, str: "NAME"}  # values that no setting with a limit takes


@dataclass(frozen=True)
class Setting:
    """One setting: its key and its default as they are typed, its meaning, what is allowed."""

    key: str
    default: str
    meaning: str
    allowed: str


@functools.cache
def meanings(kind: type) -> dict[str, str]:
    """{field: the comment behind or above it} of a dataclass; without one, its base class's."""
    found: dict[str, str] = {}
    for part in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        source = textwrap.dedent(inspect.getsource(part))
        lines = source.splitlines()
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        alone = {line for line in comments if lines[line - 1].lstrip().startswith("#")}
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            above = node.lineno - 1
            if node.end_lineno in comments:
                found[node.target.id] = comments[node.end_lineno]
            elif above in alone:
                first = above
                while first - 1 in alone:
                    first -= 1
                words = (comments[line] for line in range(first, above + 1))
                found[node.target.id] = " ".join(words)
    return found


def allowed(settings: Any, name: str) -> str:
    """What a field of a dataclass may be: in the words of its own refusal, else its type."""
    hint, optional = unwrapped(typing.get_type_hints(type(settings))[name])
    is_list = typing.get_origin(hint) is tuple
    words = f"a list of {typing.get_args(hint)[0].__name__}s" if is_list else TYPES[hint]
    value = () if is_list else IMPOSSIBLE.get(hint)
    while value is not None:
        said = _refusal(settings, name, value)
        words = said or words
        least = re.fullmatch(r"an integer of at least (-?\d+)", said)  # of a base class, perhaps
        value = int(least[1]) if least and int(least[1]) != value else None
    return words if not optional or "nothing" in words else f"{words}, or nothing"


def _refusal(settings: Any, name: str, value: Any) -> str:
    """What is allowed instead of a value, in the words of its refusal; "" where it is taken."""
    try:
        dataclasses.replace(settings, **{name: value})
    except ConfigError as error:
        if said := re.fullmatch(rf"(\w+\.)?{name} is .*?; allowed: (.+)", str(error)):
            return said[2]
    return ""


def typed(value: Any) -> str:
    """A value as it is typed behind KEY=."""
    return value if isinstance(value, str) and value else json.dumps(value, separators=(",", ":"))


def words_of(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Settings of groups as words of the command line, GROUP.KEY=VALUE."""
    return [
        f"{group}.{key}={typed(value)}"
        for group, values in changes.items()
        for key, value in values.items()
    ]


def settings_of(config: Any) -> dict[str, tuple[str, list[Setting]]]:
    """Every setting of a configuration by its group: {group: (what the group is, its settings)}."""
    found = {}
    for field in dataclasses.fields(config):
        group = getattr(config, field.name)
        kind: Any = type(group)
        said = meanings(kind)
        about = " ".join((type(group).__doc__ or "").partition("\n\n")[0].split())
        found[field.name] = (
            about,
            [
                Setting(
                    f"{field.name}.{name}", typed(value), said.get(name, ""), allowed(group, name)
                )
                for name, value in to_dict(group).items()
            ],
        )
    return found


def keys_like(config: Any, word: str) -> list[str]:
    """The keys that `word` may have meant: train.epochs for epochs, epoch or train.epoch."""
    keys = list(_keys(config))
    if word in keys:
        return [word]
    for name in (
        word,
        *difflib.get_close_matches(word, {key.split(".")[1] for key in keys}, n=1, cutoff=0.75),
    ):
        if found := [key for key in keys if key.split(".")[1] == name]:
            return found
    return difflib.get_close_matches(word, keys, n=1, cutoff=0.75)


def _keys(config: Any) -> Iterator[str]:
    for group, values in to_dict(config).items():
        for name in values:
            yield f"{group}.{name}"
