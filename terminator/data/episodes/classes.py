"""Images sorted by class, and which classes a split has: no class, and if asked for no alphabet, is
in two.

Source: the class ranges and the label shuffle of the HyperTransformer's released code (arXiv
2201.04182).
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from terminator.data.episodes.settings import SPLITS, parse_specification


@dataclass(frozen=True, eq=False)
class ClassImages:
    """Images sorted by class; classes may have different numbers of them.

    Attributes:
        images: uint8 (M, C, H, W).
        starts: (K + 1), class k has images starts[k] .. starts[k + 1] - 1.
        groups: what every class belongs to (its alphabet), or nothing.
        notes: what a reader of numbers has to know.
    """

    name: str
    images: Tensor
    starts: Tensor
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Tensor:
        """Images per class, (K)."""
        return self.starts.diff()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over shapes, images and class borders."""
        digest = hashlib.sha256()
        for part in (self.images, self.starts):
            digest.update(f"{part.dtype} {tuple(part.shape)}\n".encode())
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    def shuffled(self, seed: int) -> "ClassImages":
        """The same with classes in a random order: new class i is old class keys[i]; seed 0 changes
        nothing.

        Python's generator decides, over all classes, so that ranges cut a random partition of them.
        """
        if seed == 0:
            return self
        keys = list(range(len(self.classes)))
        random.Random(seed).shuffle(keys)
        first, counts = self.starts[keys], self.counts[keys]
        rows = torch.cat(
            [torch.arange(count) + start for start, count in zip(first.tolist(), counts.tolist())]
        )
        groups = None if self.groups is None else tuple(self.groups[key] for key in keys)
        return replace(
            self,
            images=self.images[rows],
            starts=starts_of(counts),
            groups=groups,
            classes=tuple(self.classes[key] for key in keys),
            notes=(*self.notes, f"classes shuffled (seed {seed})"),
        )


def split_by_ranges(
    source: ClassImages, specifications: Mapping[str, str] | None = None
) -> dict[str, tuple[int, ...]]:
    """Classes of every split from specifications such as {"train": "0-1149", ...}; without, the
    name's own.

    Raises:
        ValueError: for an unknown name without specifications, a class that does not exist, or that
            two splits share.
    """
    if specifications is None:
        if source.name not in SPLITS:
            raise ValueError(
                f"{source.name} has no class ranges of its own; give some, e.g. {{'train': '0-9'}}"
            )
        specifications = SPLITS[source.name]
    splits = {}
    for split, text in specifications.items():
        classes = parse_specification(f"{source.name}:{text}")[1]
        if max(classes) >= len(source.classes):
            raise ValueError(
                f"{split} has class {max(classes)}; {source.name} has 0 to "
                f"{len(source.classes) - 1}"
            )
        for other, taken in splits.items():
            if shared := sorted(set(taken) & set(classes)):
                raise ValueError(
                    f"{split} and {other} share {len(shared)} classes ({shared[0]} is one); no "
                    "class may be in two splits"
                )
        splits[split] = classes
    return splits


def split_by_groups(
    source: ClassImages, counts: Mapping[str, int], seed: int = 0
) -> dict[str, tuple[int, ...]]:
    """Whole groups (alphabets) to splits: {"train": 6, "val": 1, "test": 1}, so that none is in two
    splits.

    Raises:
        ValueError: if there are no groups, or fewer than asked for.
    """
    if source.groups is None:
        raise ValueError(f"{source.name} has no groups (alphabets) to split by")
    groups = sorted(set(source.groups))
    if sum(counts.values()) > len(groups) or min(counts.values()) < 1:
        raise ValueError(
            f"groups per split are {dict(counts)}; allowed: at least 1 each, {len(groups)} in all"
        )
    random.Random(seed).shuffle(groups)
    splits, start = {}, 0
    for split, count in counts.items():
        chosen = set(groups[start : start + count])
        splits[split] = tuple(i for i, group in enumerate(source.groups) if group in chosen)
        start += count
    return splits


def starts_of(counts: Tensor) -> Tensor:
    """First image of every class and, at the end, the number of all: (K) counts to (K + 1)."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
