"""A picture and its label map: checked, resized, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from terminator.data.pictures.batches import IGNORE, Pictures

SPLITS = ("train", "val", "test")

Found = tuple[dict[str, Pictures], str, tuple[str, ...], list[str]]  # splits, title, classes, notes


def check_labels(labels: np.ndarray, classes: int, void: int, where: str) -> np.ndarray:
    """A label map with the value `void` turned into IGNORE.

    Raises:
        ValueError: naming the first value that is neither a class nor void.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise ValueError(
            f"{where} has type {labels.dtype} and shape {labels.shape}; allowed: integers (H, W), "
            "one class index per pixel"
        )
    strange = np.setdiff1d(labels, [*range(classes), void])
    if len(strange):
        raise ValueError(
            f"{where} has the label {strange[0]}; allowed: 0 to {classes - 1}, and {void} for "
            "pixels that do not count"
        )
    return np.where(labels == void, IGNORE, labels).astype(np.uint8)


def resized(picture: Image.Image, size: Sequence[int] | None, labels: bool = False) -> Image.Image:
    """The picture at a size (H, W): images bilinear and antialiased, labels nearest."""
    if size is None or picture.size == (size[1], size[0]):
        return picture
    return picture.resize(
        (size[1], size[0]), Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
    )


def to_tensors(
    image: Image.Image, labels: np.ndarray, size: Sequence[int] | None, where: str
) -> tuple[Tensor, Tensor]:
    """A picture and its checked labels, (3, H, W) and (H, W), both uint8.

    Raises:
        ValueError: if they differ in size.
    """
    if image.size != labels.shape[::-1]:
        raise ValueError(
            f"{where} is {image.width}x{image.height} pixels large, its labels are "
            f"{labels.shape[1]}x{labels.shape[0]}; allowed: the same size"
        )
    pixels = np.asarray(resized(image.convert("RGB"), size)).transpose(2, 0, 1)
    label_map = np.asarray(resized(Image.fromarray(labels), size, labels=True))
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(label_map.copy())
