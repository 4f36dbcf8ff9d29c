"""Normalisation and augmentation of whole batches on the device that holds them.

The random numbers are drawn on the CPU from a generator of their own and then moved, so that CPU
and GPU see the same augmentation. Drawing is kept apart from applying: in a distributed run every
rank draws for the global batch and takes its own slice, so that the images do not depend on the
number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from terminator.runtime.memory import to_device
from terminator.runtime.settings import require, require_one_of

MODES = ("symmetric", "reflect", "constant")


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Standardise per channel: (images / 255 - mean) / std.

    Args:
        images: uint8, (N, C, ...); mean, std: one value per channel, in units of [0, 1]; std > 0.

    Returns:
        float32, same shape and device.

    Raises:
        TypeError: if the images are not uint8.
        ValueError: if mean or std do not fit.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"normalize needs uint8 images (0..255), got {images.dtype}")
    if images.ndim < 2 or not len(mean) == len(std) == images.shape[1]:
        raise ValueError(
            f"normalize needs one mean and one std per channel: images {tuple(images.shape)}, "
            f"{len(mean)} means, {len(std)} stds"
        )
    if not all(value > 0 for value in std):
        raise ValueError(f"std must be above 0 in every channel, got {tuple(std)}")
    shape = (1, -1) + (1,) * (images.ndim - 2)
    moments = to_device(torch.tensor([mean, std], dtype=torch.float32), images.device)
    mean_map, std_map = moments.view(2, *shape)  # (1, C, 1, ...) each
    return images.to(torch.float32).div_(255).sub_(mean_map).div_(std_map)


@dataclass(frozen=True, eq=False)
class Draws:
    """The random choices for a batch, on the CPU; slice them as the batch is sliced.

    offsets: (n, 2) int64, rows and columns by which each crop is shifted, in [-padding, padding],
    or None.
    flips:   (n,) bool, True where the image is mirrored left to right, or None.
    """

    offsets: Tensor | None
    flips: Tensor | None

    def __getitem__(self, part: slice | Tensor) -> Draws:
        """Return the choices of a part of the batch (a slice, or a tensor of indices)."""
        pick = [None if values is None else values[part] for values in (self.offsets, self.flips)]
        return Draws(*pick)


def _positions(shift: Tensor | None, size: int, device: torch.device) -> Tensor:
    """Return the source position of every output position along one axis, (n or 1, size), before
    folding.
    """
    positions = torch.arange(size, device=device).unsqueeze(0)  # (1, size)
    return positions if shift is None else positions + shift.unsqueeze(1)  # (n, size)


def _fold(positions: Tensor, size: int, mode: str) -> Tensor:
    """Fold positions outside 0..size-1 back inside, as padding with `mode` would."""
    if mode == "constant":
        return positions.clamp(0, size - 1)
    edge = 1 if mode == "symmetric" else 0  # symmetric repeats the edge pixel, reflect does not
    folded = torch.where(positions < 0, -positions - edge, positions)
    return torch.where(folded >= size, 2 * size - 2 + edge - folded, folded)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"augmentation needs images of shape (N, C, H, W), got {tuple(images.shape)}"
        )


def _check_padding(padding: int, mode: str) -> None:
    require_one_of("mode of a crop", mode, MODES)
    fits = type(padding) is int and padding >= 0
    require(fits, "crop_padding", padding, "an integer of at least 0")


def _check_generator(generator: torch.Generator) -> None:
    if generator.device.type != "cpu":
        raise ValueError(
            f"augmentation draws on the CPU: pass a CPU generator, got one on {generator.device}"
        )


@dataclass(frozen=True)
class Augmentation:
    """Random crop after padding, then random left-right flip with probability 1/2.

    crop_padding: pixels added on every side before a crop of the old size is cut; 0 = no crop.
    flip:         whether images are flipped; wrong for digits and letters.
    mode:         what is padded: "symmetric" (mirror, edge pixel included), "reflect", "constant"
        (0).

    Source: the released CIFAR configuration (crop 32 with symmetric padding 4, horizontal flip).
    """

    crop_padding: int = 4
    flip: bool = True
    mode: str = "symmetric"

    def __post_init__(self) -> None:
        _check_padding(self.crop_padding, self.mode)
        require(isinstance(self.flip, bool), "flip", self.flip, "True or False")

    def draw(self, count: int, generator: torch.Generator) -> Draws:
        """Draw the choices for `count` images: shifts uniform over -padding..padding, flips
        fair.
        """
        _check_generator(generator)
        pad = self.crop_padding
        offsets = torch.randint(-pad, pad + 1, (count, 2), generator=generator) if pad else None
        flips = (
            torch.randint(0, 2, (count,), generator=generator, dtype=torch.bool)
            if self.flip
            else None
        )
        return Draws(offsets, flips)

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        """Crop and flip by one gather; nothing is padded in memory.

        Args:
            images: (N, C, H, W), any dtype and device; draws: of the same N images.

        Returns:
            (N, C, H, W), a new tensor (the input itself if there is nothing to do).

        Raises:
            ValueError: if N differs or the padding is larger than the images allow.
        """
        _check_images(images)
        count, channels, height, width = images.shape
        if draws.offsets is None and draws.flips is None:
            return images
        for values in (draws.offsets, draws.flips):
            if values is not None and len(values) != count:
                raise ValueError(f"draws are for {len(values)} images, the batch has {count}")
        self._check_size(height, width)
        shifts = (
            (None, None)
            if draws.offsets is None
            else to_device(draws.offsets, images.device).unbind(1)
        )
        rows = _positions(shifts[0], height, images.device)  # (N or 1, H)
        columns = _positions(shifts[1], width, images.device)  # (N or 1, W)
        if draws.flips is not None:
            flips = to_device(draws.flips, images.device).unsqueeze(1)  # (N, 1)
            columns = torch.where(flips, columns.flip(1), columns)  # (N, W)
        from_rows = _fold(rows, height, self.mode).unsqueeze(2)  # (N or 1, H, 1)
        index = from_rows * width + _fold(columns, width, self.mode).unsqueeze(1)  # (N or 1, H, W)
        # (N, C, H*W)
        index = index.expand(count, -1, -1).flatten(1).unsqueeze(1).expand(-1, channels, -1)
        out = images.flatten(2).gather(2, index).view_as(images)  # (N, C, H, W)
        if self.mode == "constant" and draws.offsets is not None:
            inside_rows, inside_columns = (
                (rows >= 0) & (rows < height),
                (columns >= 0) & (columns < width),
            )
            inside = inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)  # (N, H, W)
            out = out * inside.unsqueeze(1).to(out.dtype)  # (N, C, H, W)
        return out

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Draw for this batch and apply: (N, C, H, W) -> (N, C, H, W)."""
        _check_images(images)
        return self.apply(images, self.draw(images.shape[0], generator))

    def _check_size(self, height: int, width: int) -> None:
        # A mirror has only the image's own pixels to show: beyond them positions would fold twice.
        limit = min(height, width) - (1 if self.mode == "reflect" else 0)
        if self.crop_padding > limit and self.mode != "constant":
            raise ValueError(
                f"crop_padding {self.crop_padding} is too large for {height}x{width} images: "
                f"{self.mode} padding allows at most {limit}"
            )
