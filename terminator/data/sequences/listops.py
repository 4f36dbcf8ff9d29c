"""ListOps: nested lists of digits under MIN, MAX, MED and SM; the answer is the value of the
outermost.

Trees are drawn as the long range arena's generator draws them: at depth < max_depth an operator
with probability 1/4, else a digit; 2 to 10 arguments. Kept are those with min_length < tokens <
max_length, all distinct.

Source: arXiv 2011.04006 (the task), arXiv 1804.06028 (the operators).  Golden: hrrformer_listops.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from terminator.data.errors import DatasetCorrupt
from terminator.data.generated import Arrays, parts
from terminator.data.sequences import tables
from terminator.data.sequences.settings import ListOpsSettings
from terminator.data.sequences.tokens import Sequences, Split
from terminator.runtime.settings import ConfigError

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
TOKENS = (*"0123456789", *OPERATORS, "]")  # ids 1..15, in this order; 0 pads
UNKNOWN = len(TOKENS) + 1  # the id of anything else
VOCABULARY = UNKNOWN + 1
ID = {token: number for number, token in enumerate(TOKENS, 1)}
CLOSE = ID["]"]
VALUES = frozenset("0123456789")
OPERATOR_SHARE = 0.25
PART = 500  # trees in one part of the cache
HOPE = 200_000  # trees of which one at least is kept
VERSION = 1
FIRST_OPERATOR_RULE = {"[MIN": 0, "[MAX": 9, "[MED": 4, "[SM": 0}  # whatever stands behind it


def apply(operator: str, values: Sequence[int]) -> int:
    """min, max, the median truncated to an integer, or the sum modulo 10."""
    if operator == "[MIN":
        return min(values)
    if operator == "[MAX":
        return max(values)
    if operator == "[SM":
        return sum(values) % 10
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def words(expression: str) -> list[str]:
    """The tokens of an expression: blanks part them, round parentheses (pure grouping) go, X is a
    closing bracket.
    """
    found = expression.replace("(", " ").replace(")", " ").split()
    return ["]" if word == "X" else word for word in found]


def encode(expression: str) -> bytes:
    """The ids of an expression, one byte each; what is no token of ListOps becomes UNKNOWN."""
    return bytes(ID.get(word, UNKNOWN) for word in words(expression))


def decode(ids: bytes) -> str:
    """The expression of ids, without padding; the inverse of encode."""
    return " ".join(TOKENS[number - 1] if 0 < number < UNKNOWN else "?" for number in ids if number)


def evaluate(expression: str) -> int:
    """The value of an expression, 0..9.

    Raises:
        ValueError: that says what is wrong with it, and where.
    """
    stack: list[tuple[str, list[int]]] = []
    found = words(expression)
    for place, word in enumerate(found, 1):
        if word in OPERATORS:
            stack.append((word, []))
            continue
        if word == "]":
            if not stack:
                raise ValueError(f"token {place} closes a list that was never opened")
            operator, values = stack.pop()
            if not values:
                raise ValueError(
                    f"token {place} closes {operator} without arguments; needed: at least one"
                )
            value = apply(operator, values)
        elif word in ID:
            value = int(word)
        else:
            raise ValueError(f"token {place} is {word!r}; allowed: {' '.join(TOKENS)}")
        if stack:
            stack[-1][1].append(value)
        elif place < len(found):
            raise ValueError(
                f"the expression ends with token {place}, but {len(found) - place} more follow"
            )
        else:
            return value
    raise ValueError(f"{len(stack)} lists are never closed" if stack else "the expression is empty")


# -- generator -------------------------------------------------------------------------------------


class _TooLong(Exception):
    """A tree that cannot be kept any more."""


def _grow(draw: Callable[[], float], settings: ListOpsSettings, depth: int, ids: bytearray) -> int:
    """Append a random tree whose root is at `depth`; return its value."""
    if depth == settings.max_depth or draw() >= OPERATOR_SHARE:
        digit = int(10 * draw())
        ids.append(ID["0"] + digit)
        return digit
    operator = OPERATORS[int(4 * draw())]
    ids.append(ID[operator])
    count = 2 + int((settings.max_arguments - 1) * draw())
    values = [_grow(draw, settings, depth + 1, ids) for _ in range(count)]
    ids.append(CLOSE)
    if len(ids) >= settings.max_length:
        raise _TooLong
    return apply(operator, values)


def make_part(settings: ListOpsSettings, number: int) -> Arrays:
    """PART kept trees: ids (M,), starts (PART + 1,), labels (PART,). Python's random() never
    changes its stream.

    Raises:
        ConfigError: if none of HOPE trees can be kept.
    """
    seed = hashlib.sha256(f"listops {settings.generator_seed} {number}".encode()).digest()
    draw = random.Random(int.from_bytes(seed[:8], "big")).random
    kept, labels = [], []
    for tried in itertools.count():
        if len(kept) == PART:
            break
        if tried == HOPE and not kept:
            raise ConfigError(
                f"listops.min_length is {settings.min_length}, and none of {HOPE:,} trees of depth "
                f"{settings.max_depth} with {settings.max_arguments} arguments has more tokens, "
                f"and fewer than listops.max_length={settings.max_length}; allowed: lengths that "
                "such trees have"
            )
        ids = bytearray()
        try:
            value = _grow(draw, settings, 1, ids)
        except _TooLong:
            continue
        if settings.min_length < len(ids) < settings.max_length:
            kept.append(bytes(ids))
            labels.append(value)
    found = Sequences.of(kept)
    return {
        "ids": found.values.numpy(),
        "starts": found.starts.numpy(),
        "labels": np.array(labels, np.uint8),
    }


def generate(settings: ListOpsSettings, count: int, processes: int | None = None) -> Split:
    """`count` distinct trees and their values; with a larger count, these and others.

    Raises:
        ConfigError: if these settings do not have so many distinct trees.
    """
    kept: list[bytes] = []
    labels: list[int] = []
    known: set[bytes] = set()
    wanted = -(-count // PART)
    read = 0
    while len(kept) < count:
        before = len(kept)
        for part in parts("listops", settings, make_part, wanted, VERSION, processes)[read:]:
            found = Sequences(torch.from_numpy(part["ids"]), torch.from_numpy(part["starts"]))
            for i, label in enumerate(part["labels"].tolist()):
                ids = found[i]
                digest = hashlib.blake2b(ids, digest_size=16).digest()
                if digest not in known:
                    known.add(digest)
                    kept.append(ids)
                    labels.append(label)
        if len(kept) < count and len(kept) - before < 0.02 * PART * (wanted - read):
            raise ConfigError(
                f"listops.max_length is {settings.max_length}: only {len(kept)} distinct trees "
                f"were found in {PART * wanted}; allowed: lengths with more than {count} of them"
            )
        read, wanted = wanted, wanted + max(1, -(-(count - len(kept)) // PART))
    return Split((Sequences.of(kept[:count]),), torch.tensor(labels[:count]))


# -- released files --------------------------------------------------------------------------------


def read_file(source: Path, name: str) -> Split:
    """A released file: a heading, then rows of expression, tab, value.

    Raises:
        DatasetCorrupt: naming file and line.
    """
    ids, labels = [], []
    for number, line in tables.lines(source, name):
        text = line.decode(errors="replace")
        columns = text.split("\t")
        if not labels and columns[:1] == ["Source"]:
            continue
        if len(columns) != 2 or columns[1].strip() not in VALUES:
            raise DatasetCorrupt(
                f"{source / name}, line {number}: {text.strip()[:60]!r}; allowed: an expression, a "
                "tab and its value 0..9 (a last line that ends early: copy the file again)"
            )
        ids.append(_known(columns[0], f"{source / name}, line {number}"))
        labels.append(int(columns[1]))
    if not labels:
        raise DatasetCorrupt(
            f"{source / name} has no examples behind its heading; needed: lines of an expression, "
            "a tab and its value 0..9"
        )
    return Split((Sequences.of(ids),), torch.tensor(labels, dtype=torch.int64))


def _known(expression: str, where: str) -> bytes:
    """The ids of an expression that somebody else wrote: of known tokens, at least one."""
    ids = encode(expression)
    if not ids or UNKNOWN in ids:
        odd = words(expression)[ids.index(UNKNOWN)] if ids else expression
        raise DatasetCorrupt(
            f"{where}: {odd[:60]!r} is no {'token of ListOps' if ids else 'expression'}; allowed: "
            f"{' '.join(TOKENS)}, parted by blanks"
        )
    return ids


def read_released(source: Path) -> dict[str, Split]:
    """The released folder, or an archive of it: basic_train.tsv, basic_val.tsv (may be missing),
    basic_test.tsv.
    """
    ends = {split: (f"basic_{split}.tsv",) for split in ("train", "val", "test")}
    return tables.read_splits(source, ends, "expressions", read_file)


# -- baselines -------------------------------------------------------------------------------------


def first_tokens(split: Split) -> np.ndarray:
    """The first token's id of every expression, (N,)."""
    text = split.texts[0]
    return text.values[text.starts[:-1]].numpy()


def baselines(train: Split, test: Split) -> dict[str, float]:
    """Test accuracy (%) of answers that look at nothing, or at the first operator alone.

    most frequent: one answer for all; first operator, rule: FIRST_OPERATOR_RULE; first operator,
    fitted: the most frequent training label behind that operator, which no answer from the first
    token can beat by much.
    """
    seen, asked = first_tokens(train), first_tokens(test)
    labels, answers = train.labels.numpy(), test.labels.numpy()
    most = np.bincount(labels).argmax()
    fitted = np.full(256, most)
    rule = np.full(256, most)
    for operator, answer in FIRST_OPERATOR_RULE.items():
        rule[ID[operator]] = answer
    for token in np.unique(seen):
        fitted[token] = np.bincount(labels[seen == token]).argmax()
    return {
        "most frequent label": 100 * float((answers == most).mean()),
        "first operator, rule": 100 * float((answers == rule[asked]).mean()),
        "first operator, fitted": 100 * float((answers == fitted[asked]).mean()),
    }
