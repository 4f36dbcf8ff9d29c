"""Text from outside, made fit for where it is shown: one function per medium.

Names of data sets, classes, runs, files and folders are chosen by whoever made them. In HTML they
could be markup, in Markdown a link, in a spreadsheet a formula, in a figure mathematics, in a
terminal a command. Each function below leaves ordinary text as it is, byte for byte. Standard
library only.
"""

from __future__ import annotations

import html as _html
import os
import re
from typing import Any

# Control characters, line and paragraph separators, marks that turn the direction of writing (they
# make a name
# look like another), and lone surrogates, which stand for bytes of file names that are no UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_MARKUP = re.compile(
    r"[\\*`\[\]~$]"  # escapes, emphasis, code, links, struck out, mathematics
    r"|<(?=[A-Za-z/!?])"  # a tag
    r"|&(?=#?\w+;)"  # an entity
    r"|(?<=:)/(?=/)|(?<=\bwww)\.(?=\w)"  # an address, which would become a link
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis: not inside a word
    r"|(?:(?<=^)|(?<=\n))[#>+-](?=\s)"  # a heading, a quotation, a list
)
_ENTITIES = {"<": "&lt;", "&": "&amp;", "\\": "&#92;", "/": "&#47;", ".": "&#46;"}
_DIGITS = r"(\d[\d,]*\.?\d*|\.\d+)([eE][+-]?\d+)?( ?%)?"
_NUMBER = re.compile(rf"[+-]?{_DIGITS}( ± {_DIGITS})?|-")


def shortened(name: str, most: int = 150) -> str:
    """The beginning of a name, at most so many bytes of it: file names have 255."""
    return os.fsencode(name)[:most].decode(errors="ignore")


def visible(text: Any, keep: str = "") -> str:
    r"""One line without control characters: each stands there as Python writes it (\n, \x1b,
    \u202e).

    Args:
        keep: characters among them that stay, a line's end say.
    """
    return _UNSEEN.sub(
        lambda found: found[0] if found[0] in keep else _written(found[0]), str(text)
    )


def _written(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def terminal(text: Any) -> str:
    """Text for a terminal: lines and tabs stay, everything else that a terminal would obey is
    shown instead.
    """
    return visible(text, keep="\t\n")


def html(text: Any) -> str:
    """Text for HTML, between tags or in a quoted attribute."""
    return _html.escape(visible(text))


def markdown(text: Any) -> str:
    r"""Text for Markdown, in a line or in a table's cell; `|` becomes `\|`."""
    return cell(_MARKUP.sub(_escaped, visible(text)))


def _escaped(found: re.Match[str]) -> str:
    # backslashes and entities are undone before mathematics is looked for; a tag parts it
    if found[0] == "$":
        return "<span>$</span>"
    return _ENTITIES.get(found[0], "\\" + found[0])


def cell(text: Any) -> str:
    r"""Markdown of our own for a table's cell: one line, in which `|` does not end the cell;
    `\|` stays.
    """
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(str(text).splitlines()))


def csv(value: Any) -> Any:
    """A value for a table in a file: text that a spreadsheet would take for a formula gets a
    leading '.

    Numbers, as numbers or as text, and the lone dash that stands for nothing, stay as they are.
    """
    if not isinstance(value, str):
        return value
    shown = visible(value, keep="\n")
    return f"'{shown}" if re.match(r"\s*[=+\-@]", shown) and not _NUMBER.fullmatch(shown) else shown


def figure(text: Any) -> str:
    r"""Text for matplotlib: a dollar sign is a dollar sign, no mathematics; lines stay.

    A legend leaves out what begins with an underscore, so a hair space comes before it.
    """
    shown = re.sub(r"(?<!\\)\$", r"\\$", visible(text, keep="\n"))
    return f"\u200a{shown}" if shown.startswith("_") else shown
