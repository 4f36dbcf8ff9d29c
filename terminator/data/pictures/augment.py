"""Random scale, crop and flip of whole batches of labelled pictures, which may differ in size.

The random numbers are drawn on the CPU for the whole batch, so that neither the device nor the
number of processes changes a picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from terminator.data.augment import normalize
from terminator.data.pictures.batches import IGNORE, PictureBatch
from terminator.data.pictures.settings import ScaleCropFlip
from terminator.runtime.memory import to_device
from terminator.runtime.settings import ConfigError


class CropDraws(NamedTuple):
    """The choices for a batch, on the CPU."""

    scales: Tensor  # (n,), float64
    corners: Tensor  # (n, 2), float64 in [0, 1): the crop's place between the first and the last
    flips: Tensor  # (n,), bool

    def part(self, where: slice) -> CropDraws:
        return CropDraws(*(values[where] for values in self))


def draw_crops(settings: ScaleCropFlip, count: int, generator: torch.Generator) -> CropDraws:
    """Draw the choices for `count` pictures."""
    factors = torch.tensor(settings.scales, dtype=torch.float64)
    chosen = factors[torch.randint(0, len(factors), (count,), generator=generator)]
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    flips = torch.randint(0, 2, (count,), generator=generator, dtype=torch.bool)
    return CropDraws(chosen, corners, flips if settings.flip else torch.zeros_like(flips))


def apply_crops(
    settings: ScaleCropFlip,
    batch: PictureBatch,
    draws: CropDraws,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Tensor, Tensor]:
    """Normalised images (N, C, h, w), 0 beyond a picture, and labels (N, h, w), IGNORE there.

    Args:
        batch: on any device.
        draws: of the same pictures.
        mean, std: see augment.normalize.
    """
    sizes = batch.sizes
    if settings.crop is None and not bool((sizes == sizes[:1]).all()):
        raise ConfigError(
            "augmentation.crop is nothing, but pictures differ in size; allowed: a crop, data.size"
        )
    crop = settings.crop or tuple(sizes[0].tolist())
    device, axes = batch.images.device, []
    for axis in (0, 1):
        scaled = (sizes[:, axis] * draws.scales).long().clamp(min=1)
        start = (draws.corners[:, axis] * ((scaled - crop[axis]).clamp(min=0) + 1)).long()
        positions = start[:, None] + torch.arange(crop[axis])  # (N, length), in the scaled picture
        if axis == 1:
            positions = torch.where(draws.flips[:, None], positions.flip(1), positions)
        axes.append(
            [to_device(part, device) for part in _sources(positions, sizes[:, axis], scaled)]
        )
    return _gather(batch, axes, mean, std)


def _gather(
    batch: PictureBatch, axes: list[list[Tensor]], mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    x = normalize(batch.images, mean, std).permute(0, 2, 3, 1)  # (N, H, W, C)
    picture = torch.arange(len(x), device=x.device)[:, None, None]
    (top, down, nearest_row, inside_row), (left, right, nearest_column, inside_column) = axes

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return x[picture, rows[:, :, None], columns[:, None, :]]  # (N, h, w, C)

    below, beside = (top + 1).clamp(max=x.shape[1] - 1), (left + 1).clamp(max=x.shape[2] - 1)
    right, down = right[:, None, :, None].float(), down[:, :, None, None].float()
    upper = torch.lerp(at(top, left), at(top, beside), right)
    lower = torch.lerp(at(below, left), at(below, beside), right)
    inside = inside_row[:, :, None] & inside_column[:, None, :]  # (N, h, w)
    images = torch.lerp(upper, lower, down) * inside[..., None]
    labels = batch.labels[picture, nearest_row[:, :, None], nearest_column[:, None, :]]
    return images.permute(0, 3, 1, 2).contiguous(), labels.masked_fill(~inside, IGNORE)


def _sources(
    positions: Tensor, sizes: Tensor, scaled: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where positions (N, L) along an axis of scaled pictures come from, sizes and scaled sizes
    (N,).

    Returns:
        (N, L) each: the pixel before, how far beyond it (0 to 1), the nearest pixel, and whether
        inside. The first and last pixel stay where they are (align_corners), as released.
    """
    sizes, scaled = sizes[:, None], scaled[:, None]
    inside = positions < scaled
    source = positions.double() * ((sizes - 1) / (scaled - 1).clamp(min=1).double())
    before = source.floor().clamp(max=sizes - 1)
    nearest = torch.minimum(positions * sizes // scaled, sizes - 1)
    return before.long(), source.clamp(max=(sizes - 1).double()) - before, nearest, inside
