"""Images sorted by class, whose classes can be shuffled before ranges cut them.

Source: the label shuffle of the HyperTransformer's released code (arXiv 2201.04182).
"""

import hashlib
import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor


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


def starts_of(counts: Tensor) -> Tensor:
    """First image of every class and, at the end, the number of all: (K) counts to (K + 1)."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
