"""Token sequences in memory: stored one after the other as bytes, padded only when a batch is made.

Most sequences are far shorter than the longest (half of the IMDB reviews fill a quarter of 4,000
positions), so padded tensors would hold mostly zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from terminator.data import leakage
from terminator.data.leakage import digest
from terminator.data.splits import stratified_choice
from terminator.runtime.memory import to_device

SUBSET_SEED = 0  # every training seed sees the same subset


@dataclass(frozen=True, eq=False)
class Sequences:
    """N sequences of bytes; a token is its byte + shift, and 0 pads.

    Attributes:
        values: uint8 (M,), all sequences in a row.
        starts: int64 (N + 1,), sequence n is starts[n] .. starts[n + 1] - 1.
        shift: 1 for the bytes of texts and files (so that byte 0 is no padding), 0 for ids and
            pixel values.
    """

    values: Tensor
    starts: Tensor
    shift: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Tensor:
        """Tokens of every sequence, (N,)."""
        return self.starts.diff()

    @classmethod
    def of(cls, parts: Iterable[bytes], shift: int = 0) -> Sequences:
        """Collect byte strings; an empty one is a sequence of nothing but padding."""
        parts = list(parts)
        starts = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=starts[1:])
        values = np.frombuffer(b"".join(parts), np.uint8).copy()
        return cls(torch.from_numpy(values), torch.from_numpy(starts), shift)

    @classmethod
    def equal(cls, rows: Tensor, shift: int = 0) -> Sequences:
        """Sequences of one length, uint8 (N, T)."""
        return cls(
            rows.reshape(-1).contiguous(), torch.arange(len(rows) + 1) * rows.shape[1], shift
        )

    def __getitem__(self, index: int) -> bytes:
        """The bytes of one sequence, without shift and padding."""
        return self.values[self.starts[index] : self.starts[index + 1]].numpy().tobytes()

    def select(self, index: Tensor) -> Sequences:
        """The sequences of that index, in its order."""
        lengths = self.lengths[index]
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        where = torch.arange(int(starts[-1])) + (
            self.starts[index] - starts[:-1]
        ).repeat_interleave(lengths)
        return Sequences(self.values[where], starts, self.shift)

    def cut(self, length: int) -> Sequences:
        """The first `length` tokens of every sequence."""
        if not len(self) or int(self.lengths.max()) <= length:
            return self
        kept = self.lengths.clamp_max(length)
        starts = torch.cat([kept.new_zeros(1), kept.cumsum(0)])
        where = torch.arange(int(starts[-1])) + (self.starts[:-1] - starts[:-1]).repeat_interleave(
            kept
        )
        return Sequences(self.values[where], starts, self.shift)

    def to(self, device: torch.device | str) -> Sequences:
        """The same with its values in that device's memory; starts stay, to be asked without a wait
        for a GPU.
        """
        return Sequences(self.values.to(device), self.starts, self.shift)

    def longest(self, index: Tensor, length: int) -> int:
        """Tokens of the longest of these sequences, each cut to `length`; at least 1."""
        return max(1, int((self.starts[index + 1] - self.starts[index]).clamp_max(length).max()))

    def batch(self, index: Tensor, length: int) -> Tensor:
        """Tokens (B, length) of the sequences `index`, int64, cut to `length` and padded with 0 on
        the right.

        Args:
            index: on the CPU.
        """
        first = self.starts[index]
        counts = (self.starts[index + 1] - first).clamp_max(length)
        device = self.values.device
        first, counts = to_device(torch.stack([first, counts]), device)
        position = torch.arange(length, device=device)
        where = (first[:, None] + position).clamp_max(max(len(self.values) - 1, 0))
        if not len(self.values):
            return torch.zeros(len(index), length, dtype=torch.int64, device=device)
        return (self.values[where].long() + self.shift) * (position < counts[:, None])


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of a split: one text each, or two, and labels int64 (N,); what a reader of
    numbers has to know.
    """

    texts: tuple[Sequences, ...]
    labels: Tensor
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Tensor) -> Split:
        return Split(
            tuple(text.select(index) for text in self.texts), self.labels[index], self.notes
        )

    def reduced(self, size: int | None, what: str) -> Split:
        """`size` examples, every class with its share; nothing: all.

        Raises:
            ValueError: naming `what`, if there are fewer.
        """
        if size is None or size == len(self):
            return self
        if size > len(self):
            raise ValueError(
                f"{what} is {size}; allowed: at most {len(self)}, so many examples there are"
            )
        return self.select(
            torch.from_numpy(stratified_choice(self.labels.numpy(), size, SUBSET_SEED))
        )

    def cut(self, length: int) -> Split:
        return Split(tuple(text.cut(length) for text in self.texts), self.labels, self.notes)


def apart(
    splits: dict[str, Split],
    what: str,
    published: bool = False,
    keys: Mapping[str, Sequence[Hashable]] | None = None,
) -> dict[str, Split]:
    """The splits without training examples that are tested on, or validated on; notes say how many.

    Args:
        what: of what they are, e.g. "reviews".
        published: the split is everybody's and stays, which is said.
        keys: equal where examples of a split are, by default their texts.
    """
    keys = keys or {
        split: [digest(b"\0".join(text[i] for text in part.texts)) for i in range(len(part))]
        for split, part in splits.items()
    }
    found = dict(splits)
    for part, names, others in (
        ("val", "validation", ("test",)),
        ("train", "training", ("test", "val")),
    ):
        for other in others:
            if part not in found or other not in found:
                continue
            mine = found[part]
            stay, said = leakage.apart(
                [f"example {i + 1}" for i in range(len(mine))],
                keys[part],
                mine.labels.tolist(),
                set(keys[other]),
                what,
                other,
                names,
                published,
            )
            if len(stay) < len(mine):
                keys = {**keys, part: [keys[part][i] for i in stay]}
                mine = mine.select(torch.tensor(stay))
            found[part] = replace(mine, notes=(*mine.notes, *said))
    return found


def split_up(examples: Split, sizes: Mapping[str, int]) -> dict[str, Split]:
    """The splits of generated examples; test and val come first, so that they stay while the
    training set grows.
    """
    found, first = {}, 0
    for name in ("test", "val", "train"):
        if count := sizes.get(name, 0):
            found[name] = examples.select(torch.arange(first, first + count))
            first += count
    return {name: found[name] for name in ("train", "val", "test") if name in found}


@dataclass(frozen=True)
class TokenInfo:
    """What a record says of its data, as used: reduced, cut.

    Attributes:
        length: the longest sequence that is kept.
        sizes, median_length: of every split.
        fingerprint: SHA-256 over tokens and labels of all splits.
    """

    name: str
    title: str
    length: int
    vocabulary: int
    classes: tuple[str, ...]
    sizes: dict[str, int]
    median_length: dict[str, float]
    notes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class TokenData:
    """Token sequences and labels of the splits train and test, and of val where there is one; on
    the CPU.
    """

    splits: dict[str, Split]
    info: TokenInfo

    @property
    def is_pair(self) -> bool:
        """Whether an example is two texts."""
        return len(self.splits["train"].texts) == 2


def describe(
    splits: Mapping[str, Split],
    name: str,
    title: str,
    length: int,
    vocabulary: int,
    classes: tuple[str, ...],
    notes: Iterable[str] = (),
    own_classes: bytes = b"",
) -> TokenData:
    """The splits, cut to `length`, with what is worth knowing of them.

    Args:
        own_classes: what class names add to the fingerprint (standard.own_names).

    Raises:
        ValueError: for a split without examples, a label without class, or a token outside the
            vocabulary.
    """
    cut = {split: part.cut(length) for split, part in splits.items()}
    digest = hashlib.sha256()
    for split, part in cut.items():
        _check(split, part, name, vocabulary, len(classes))
        for text in part.texts:
            for array in (text.values, text.starts):
                digest.update(f"{split} {array.dtype} {tuple(array.shape)} {text.shift}\n".encode())
                digest.update(array.contiguous().numpy().data)
        digest.update(part.labels.contiguous().numpy().data)
    digest.update(own_classes)
    median = {split: float(np.median(part.texts[0].lengths.numpy())) for split, part in cut.items()}
    return TokenData(
        cut,
        TokenInfo(
            name,
            title,
            length,
            vocabulary,
            classes,
            {split: len(part) for split, part in cut.items()},
            median,
            tuple(dict.fromkeys(notes)),
            digest.hexdigest(),
        ),
    )


def _check(split: str, part: Split, name: str, vocabulary: int, classes: int) -> None:
    if not len(part):
        raise ValueError(f"the {split} split of {name} has no examples; needed: at least one")
    low, high = int(part.labels.min()), int(part.labels.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"the {split} split of {name} has label {low if low < 0 else high}; allowed: 0 to "
            f"{classes - 1}"
        )
    for text in part.texts:
        if len(text.values) and (largest := int(text.values.max()) + text.shift) >= vocabulary:
            raise ValueError(
                f"the {split} split of {name} has token {largest}; allowed: 0 to {vocabulary - 1}"
            )
