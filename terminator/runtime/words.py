"""Words as somebody typed them, and settings files in YAML: what a word says, the declared type of
its setting decides.

Text is text, whatever it looks like (007, true, a#b); numbers are decimal; truth is true or false;
a list stands in brackets, [1,2]; null is nothing where a setting may be nothing. YAML's own guesses
(010 is eight, on is true, 1:30 is ninety) are made nowhere.
"""

import re
import types
import typing
from typing import Any

_WHOLE = r"(0|[1-9][0-9]*)"
_INTEGER = re.compile(rf"[+-]?{_WHOLE}")
_NUMBER = re.compile(rf"[+-]?({_WHOLE}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NO_NUMBER = re.compile(r"([+-]?)\.?(inf|nan)", re.IGNORECASE)  # also as YAML writes them
_NOTHING = ("null", "None", "~")
_DECIMAL = "in decimal digits: no leading zero, underscore, prefix or colon"
MAX_INTEGER = 2**32  # of all settings: beyond it lies nothing but overflow
_MAX_DIGITS = 20


class Word(str):
    """A value as it was typed, not yet read."""

    def __repr__(self) -> str:
        """As it is shown: numbers and truth without quotes."""
        if _INTEGER.fullmatch(self) or _NUMBER.fullmatch(self):
            return str(self)
        found = _NO_NUMBER.fullmatch(self)
        if self.lower() in ("true", "false"):
            return self.capitalize()
        return f"{found[1].strip('+')}{found[2].lower()}" if found else super().__repr__()


class Unreadable(ValueError):
    """A word that is none of what its setting takes; the message says what that is."""


class NotUnderstood(ValueError):
    """A file that is no YAML of settings; the message says where and why."""


def read(word: Word, hint: Any) -> Any:
    """The value that a word has for a setting of this type.

    Args:
        hint: int, float, bool, str, a tuple of one of them, or one of these or None.

    Raises:
        Unreadable: saying what is allowed.
    """
    hint, optional = unwrapped(hint)
    if optional:
        if word.strip() in _NOTHING:
            return None
        if hint is not str and not word.strip():
            raise Unreadable(f"{_allowed(hint, word)}, or null for nothing")
    if typing.get_origin(hint) is tuple:
        return _items(word, typing.get_args(hint)[0])
    return {str: _text, bool: _truth, int: _integer, float: _number}[hint](word)


def unwrapped(hint: Any) -> tuple[Any, bool]:
    """The type of a setting that may be None, without that; and whether it may."""
    if not isinstance(hint, types.UnionType):
        return hint, False
    return next(option for option in typing.get_args(hint) if option is not type(None)), True


def _allowed(hint: Any, word: str = "") -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {typing.get_args(hint)[0].__name__}s, e.g. [1,2]"
    found = {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}[hint]
    looks_like_one = hint in (int, float) and re.match(r"\s*[+-]?[0-9]", word)
    plain = _NUMBER.fullmatch(word.strip())
    return f"{found} {_DECIMAL}" if looks_like_one and not plain else found


def _items(word: Word, kind: Any) -> tuple[Any, ...]:
    found = re.fullmatch(r"\s*\[([^\[\]]*)\]\s*", word)
    if not found:
        raise Unreadable(_allowed(tuple[kind, ...]))
    inside = found[1].strip()
    return tuple(read(Word(item.strip()), kind) for item in inside.split(",")) if inside else ()


def _text(word: Word) -> str:
    if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
        raise Unreadable("text without quotes around it, which is taken as it stands")
    return str(word)


def _truth(word: Word) -> bool:
    if word.strip().lower() not in ("true", "false"):
        raise Unreadable(_allowed(bool))
    return word.strip().lower() == "true"


def _integer(word: Word) -> int:
    digits = word.strip()
    if not _INTEGER.fullmatch(digits):
        raise Unreadable(_allowed(int, word))
    if len(digits) > _MAX_DIGITS:
        raise Unreadable("an integer below 2**32")
    return int(digits)


def _number(word: Word) -> float:
    digits = word.strip()
    if not _NUMBER.fullmatch(digits):
        raise Unreadable(_allowed(float, word))
    return float(digits)


def number(text: str) -> float:
    """The number that a text of decimal digits says.

    Raises:
        Unreadable: if it says none.
    """
    return _number(Word(text))


# -- YAML ------------------------------------------------------------------------------------------


def from_yaml(text: str) -> Any:
    """Groups, lists and words of a YAML document; what stands in quotes is text, all else a Word.

    Raises:
        NotUnderstood: if it is no YAML, or uses aliases, tags or a key twice.
    """
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise NotUnderstood("it has an alias (*name); allowed: every setting written out")
        return _plain(yaml.compose(text, yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:
        raise NotUnderstood(" ".join(str(error).split())) from error


def _plain(node: Any) -> Any:
    import yaml

    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in found:
                line = key.start_mark.line + 1
                raise NotUnderstood(f"{name} is set twice, the second time in line {line}")
            found[name] = _plain(value)
        return found
    if not node.tag.startswith("tag:yaml.org,2002:"):
        raise NotUnderstood(
            f"{node.tag} in line {node.start_mark.line + 1} is a tag; allowed: plain values"
        )
    return Word(node.value) if node.style is None else str(node.value)


def to_yaml(values: dict[str, Any]) -> str:
    """Nested dictionaries as YAML, which `from_yaml` reads."""
    import yaml

    return yaml.safe_dump(values, default_flow_style=False, sort_keys=False, allow_unicode=True)
