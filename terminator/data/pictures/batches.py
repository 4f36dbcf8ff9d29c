"""Labelled pictures of one split: all in memory, or read from their files when they are asked for.

A label is 0 .. classes-1, or IGNORE where nothing is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.data.files import read_file
from terminator.runtime.memory import to_device
from terminator.runtime.progress import bar

IGNORE = 255  # label of a pixel that neither the loss nor an evaluation counts
READERS = 8  # threads that decode the files of a batch


class PictureBatch(NamedTuple):
    """Pictures of any sizes, laid at the top left of the largest."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N, H, W), IGNORE beyond a picture
    sizes: Tensor  # int64 (N, 2), height and width of each

    def to(self, device: torch.device | str) -> PictureBatch:
        """With images and labels on the device; sizes stay, as crops are chosen from them."""
        return PictureBatch(
            to_device(self.images, device), to_device(self.labels, device), self.sizes
        )

    def part(self, where: slice) -> PictureBatch:
        return PictureBatch(*(tensor[where] for tensor in self))


class Pictures(Protocol):
    """What a split must be able to do."""

    def __len__(self) -> int: ...
    def batch(self, indices: Sequence[int]) -> PictureBatch: ...
    def part(self, indices: Sequence[int]) -> Pictures: ...
    def add_to(self, digest: hashlib._Hash) -> None: ...


@dataclass(frozen=True, eq=False)
class StackedPictures:
    """Pictures of one size in memory: images and labels uint8, (N, C, H, W) and (N, H, W)."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.labels.dtype != torch.uint8:
            raise TypeError(
                f"pictures are {self.images.dtype}, labels {self.labels.dtype}; allowed: uint8 for "
                "both"
            )
        if self.labels.shape != (len(self.images), *self.images.shape[2:]):
            raise ValueError(
                f"images have shape {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}; "
                "allowed: (N, C, H, W) with (N, H, W)"
            )

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Sequence[int]) -> PictureBatch:
        index = torch.as_tensor(indices)
        sizes = torch.tensor(self.labels.shape[1:]).expand(len(index), 2)
        return PictureBatch(self.images[index], self.labels[index].long(), sizes)

    def part(self, indices: Sequence[int]) -> StackedPictures:
        index = torch.as_tensor(indices)
        return StackedPictures(self.images[index], self.labels[index])

    def add_to(self, digest: hashlib._Hash) -> None:
        for part in (self.images, self.labels):
            digest.update(f"{tuple(part.shape)}\n".encode())
            digest.update(part.contiguous().numpy().data)


class PictureFile(NamedTuple):
    """One picture that has yet to be read."""

    image: Path
    labels: Path
    read: Callable[[], tuple[Tensor, Tensor]]  # uint8 (C, H, W) and (H, W)


@dataclass(frozen=True, eq=False)
class FilePictures:
    """Pictures of any sizes, decoded by some threads whenever they are asked for."""

    files: tuple[PictureFile, ...]

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int]) -> PictureBatch:
        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(lambda i: self.files[int(i)].read(), indices))
        sizes = torch.tensor([labels.shape for _, labels in found])
        height, width = sizes.amax(0).tolist()
        padding = [(0, width - labels.shape[1], 0, height - labels.shape[0]) for _, labels in found]
        images = torch.stack(
            [F.pad(image, pad) for (image, _), pad in zip(found, padding, strict=True)]
        )
        labels = torch.stack(
            [F.pad(part, pad, value=IGNORE) for (_, part), pad in zip(found, padding, strict=True)]
        )
        return PictureBatch(images, labels.long(), sizes)

    def part(self, indices: Sequence[int]) -> FilePictures:
        return FilePictures(tuple(self.files[int(i)] for i in indices))

    def add_to(self, digest: hashlib._Hash) -> None:
        with bar(len(self.files), "reading", "picture", lines=True) as progress:
            for file in self.files:
                for path in (file.image, file.labels):
                    digest.update(path.name.encode() + b"\n")
                    digest.update(read_file(path))
                progress.update()
