"""What a model says of picture files: the most probable classes of each, as table, lines, JSON."""

import argparse
import contextlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from terminator.runs.records import write_csv, write_json
from terminator.runtime.settings import require
from terminator.runtime.text import terminal, visible

TOP = 5  # classes of an answer


@dataclass(frozen=True)
class Answer:
    """What a model says of one file.

    Attributes:
        image: the file.
        top: the most probable classes with their probabilities, the first one first.
        error: why there is no answer, "" where there is one.
    """

    image: Path
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""


def how_many(top: int | None, most: int, why: str) -> int:
    """How many classes an answer has: as asked, without it TOP, or all where there are fewer.

    Args:
        why: of `most`, for the message.

    Raises:
        ConfigError: for more than there are.
    """
    top = min(TOP, most) if top is None else top
    require(1 <= top <= most, "top", top, f"1 to {most}, {why}")
    return top


def of_logits(image: Path, logits: Tensor, classes: Sequence[str], top: int) -> Answer:
    """The answer that the logits (classes,) of a file give."""
    best = logits.softmax(0).sort(0, True)
    named = zip(best.indices[:top].tolist(), best.values[:top].tolist(), strict=True)
    return Answer(image, tuple((classes[i], p) for i, p in named))


def table(found: Iterable[Answer]) -> pd.DataFrame:
    """A row per file: image, class, probability, class_2, probability_2, ..., error."""
    rows = []
    for answer in found:
        row: dict[str, Any] = {"image": str(answer.image), "class": None, "probability": None}
        for i, (name, probability) in enumerate(answer.top, start=1):
            end = f"_{i}" if i > 1 else ""
            row |= {f"class{end}": name, f"probability{end}": probability}
        rows.append({**row, "error": answer.error})
    frame = pd.DataFrame(rows)
    return frame[[*(c for c in frame.columns if c != "error"), "error"]]


def lines(found: Iterable[Answer]) -> str:
    """The same for a terminal: the first class, and in one column those that come after it; below,
    what could not be read.
    """
    found = list(found)
    rows = [("image", "class", "probability", "then")]
    for answer in found:
        if answer.top:
            (name, first), *others = answer.top
            then = ", ".join(f"{other} {p:.3f}" for other, p in others)
            rows.append((visible(answer.image), visible(name), f"{first:.3f}", visible(then)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines[len(rows) == 1 :], *(a.error for a in found if a.error)])


def as_json(found: Iterable[Answer]) -> list[dict[str, Any]]:
    """The same for programs: image (what is no UTF-8 in its name escaped), top (class and
    probability each), error (null for none).
    """
    return [
        {
            "image": visible(answer.image),
            "top": [{"class": name, "probability": p} for name, p in answer.top],
            "error": answer.error or None,
        }
        for answer in found
    ]


def unread(wrong: Sequence[str], of: int) -> int:
    """Say how many files could not be read, if any; the exit status that goes with it.

    Args:
        wrong: why, for each of them.

    Raises:
        ValueError: if none could.
    """
    if wrong and len(wrong) == of:
        raise ValueError(f"{f'none of {of} files could be read: ' if of > 1 else ''}{wrong[0]}")
    if wrong:
        print(f"error: {len(wrong)} of {of} files could not be read, see above", file=sys.stderr)
    return int(bool(wrong))


def told(answers: Iterable[Answer], args: argparse.Namespace) -> tuple[list[Answer], int]:
    """The answers, once `tell` has told them, and its status; where they are interrupted, those
    that are there are told, and written where no table is.
    """
    found = list[Answer]()
    try:
        found.extend(answers)
    except KeyboardInterrupt:
        places = {name: getattr(args, name) for name in ("csv", "json")}
        free = {name: place for name, place in places.items() if place and not place.exists()}
        if found:
            with contextlib.suppress(ValueError):  # not one was read
                tell(found, argparse.Namespace(**dict.fromkeys(places) | free))
        raise
    return found, tell(found, args)


def tell(found: Sequence[Answer], args: argparse.Namespace) -> int:
    """Write the answers where `answer_options` ask for it, and print them; 1 if some files could
    not be read.

    Raises:
        ValueError: if none could.
    """
    wrong, written = [answer.error for answer in found if answer.error], []
    try:
        if args.csv:
            write_csv(args.csv.resolve(), table(found))  # through a link
            written.append(args.csv)
        if args.json:
            write_json(args.json.resolve(), as_json(found))
            written.append(args.json)
    finally:  # where nothing can be written, they are not lost
        if len(found) > 1 or not wrong:  # else it is the error itself
            print(terminal(lines(found)))
    for path in written:
        print(f"written: {terminal(path)}")
    return unread(wrong, len(found))
