"""Images sorted by class, and which classes a split has: no class, and if asked for no alphabet, is in two.

Source: the class ranges and the label shuffle of the HyperTransformer's released code (arXiv 2201.04182).
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SPLITS = {  # classes of every split, after the label shuffle
    "omniglot": {"train": "0-1149", "val": "1150-1199", "test": "1200-1622"},
    "miniimagenet": {"train": "0-63", "val": "64-79", "test": "80-99"},
    "tieredimagenet": {"train": "0-350", "val": "351-447", "test": "448-607"},
    "omniglot28": {"train": "0-181", "val": "182-191", "test": "192-241"},  # ours: not the full set's
    "strokes": {"train": "0-79", "val": "80-94", "test": "95-119"},  # ours
    "digits": {"train": "0-4", "test": "5-9"},  # ours
}


@dataclass(frozen=True, eq=False)
class ClassImages:
    """Images sorted by class; classes may have different numbers of them.

    images: uint8 (M, C, H, W);  starts: (K + 1), class k has images starts[k] .. starts[k + 1] - 1;
    groups: what every class belongs to (its alphabet), or nothing;  notes: what a reader of numbers has to know.
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
        """The same with classes in a random order: new class i is old class keys[i]; seed 0 changes nothing.

        Python's generator decides, over all classes, so that ranges cut a random partition of them.
        """
        if seed == 0:
            return self
        keys = list(range(len(self.classes)))
        random.Random(seed).shuffle(keys)
        first, counts = self.starts[keys], self.counts[keys]
        rows = torch.cat([torch.arange(count) + start for start, count in zip(first.tolist(), counts.tolist())])
        groups = None if self.groups is None else tuple(self.groups[key] for key in keys)
        return replace(self, images=self.images[rows], starts=starts_of(counts), groups=groups,
                       classes=tuple(self.classes[key] for key in keys),
                       notes=(*self.notes, f"classes shuffled (seed {seed})"))


def parse_specification(text: str) -> tuple[str, tuple[int, ...] | None]:
    """Read "name" or "name:0-3,7,10-12": the name, and the classes (ranges are inclusive) or nothing.

    Raises:  ValueError for more than one colon, more than two parts in a range, or what is no number.
    """
    name, *rest = text.split(":")
    if not name or len(rest) > 1:
        raise ValueError(f"data set specification {text!r}; allowed: name, or name:classes with one colon")
    if not rest:
        return name, None
    classes: list[int] = []
    for part in rest[0].split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends) or int(ends[0]) > int(ends[-1]):
            raise ValueError(f"data set specification {text!r} has the part {part!r}; allowed: a class such as 7, or a "
                             "range such as 0-3")
        classes += range(int(ends[0]), int(ends[-1]) + 1)
    if len(set(classes)) < len(classes):
        raise ValueError(f"data set specification {text!r} names a class twice")
    return name, tuple(classes)


def split_by_ranges(source: ClassImages, specifications: Mapping[str, str] | None = None
                    ) -> dict[str, tuple[int, ...]]:
    """Classes of every split from specifications such as {"train": "0-1149", ...}; without, the name's own.

    Raises:  ValueError for an unknown name without specifications, a class that does not exist, or that two splits
             share.
    """
    if specifications is None:
        if source.name not in SPLITS:
            raise ValueError(f"{source.name} has no class ranges of its own; give some, e.g. {{'train': '0-9'}}")
        specifications = SPLITS[source.name]
    splits = {}
    for split, text in specifications.items():
        classes = parse_specification(f"{source.name}:{text}")[1]
        if max(classes) >= len(source.classes):
            raise ValueError(f"{split} has class {max(classes)}; {source.name} has 0 to {len(source.classes) - 1}")
        for other, taken in splits.items():
            if shared := sorted(set(taken) & set(classes)):
                raise ValueError(f"{split} and {other} share {len(shared)} classes ({shared[0]} is one); no class may "
                                 "be in two splits")
        splits[split] = classes
    return splits


def split_by_groups(source: ClassImages, counts: Mapping[str, int], seed: int = 0) -> dict[str, tuple[int, ...]]:
    """Whole groups (alphabets) to splits: {"train": 6, "val": 1, "test": 1}, so that none is in two splits.

    Raises:  ValueError if there are no groups, or fewer than asked for.
    """
    if source.groups is None:
        raise ValueError(f"{source.name} has no groups (alphabets) to split by")
    groups = sorted(set(source.groups))
    if sum(counts.values()) > len(groups) or min(counts.values()) < 1:
        raise ValueError(f"groups per split are {dict(counts)}; allowed: at least 1 each, {len(groups)} in all")
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
