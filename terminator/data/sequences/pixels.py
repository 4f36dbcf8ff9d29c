"""Grey pixels as tokens, one per pixel, row by row, as the long range arena reads CIFAR-10.

Golden: hrrformer_grayscale.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from terminator.data.images import ImageData
from terminator.data.sequences.tokens import Sequences, Split
from terminator.data.views import permutation, permute, to_sequence

VOCABULARY = 256


def grey(images: Tensor) -> Tensor:
    """truncate(255.5 (0.2989 R + 0.5870 G + 0.1140 B) / 255), as released: uint8 (N, 3, H, W) to
    (N, 1, H, W).

    Pillow's own conversion differs by 1 in a fifth of the pixels. One channel is left as it is.

    Raises:
        ValueError: for another number of channels.
    """
    if images.shape[1] == 1:
        return images
    if images.shape[1] != 3:
        raise ValueError(f"images have {images.shape[1]} channels; allowed: 1 or 3")
    weights = np.array([0.2989, 0.5870, 0.1140], np.float32)
    out = torch.empty_like(images[:, :1])
    for start in range(0, len(images), 4096):  # in pieces: copies of everything would be large
        rgb = images[start : start + 4096].permute(0, 2, 3, 1).numpy().astype(
            np.float32
        ) / np.float32(255)
        out[start : start + 4096, 0] = torch.from_numpy(
            (rgb @ weights * np.float32(255.5)).astype(np.uint8)
        )
    return out


def pixel_splits(
    data: ImageData, permutation_seed: int | None = None, leave_out_last_tenth: bool = False
) -> dict[str, Split]:
    """The splits train and test of images, as sequences of grey pixels.

    Args:
        permutation_seed: put all pixels into one fixed random order.
        leave_out_last_tenth: of the training images, which the released code keeps for a validation
            that never comes.
    """
    splits = {}
    for split, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        if split == "train" and leave_out_last_tenth:
            kept = len(labels) * 9 // 10
            images, labels = images[:kept], labels[:kept]
        rows = to_sequence(grey(images))  # (N, 1, T)
        if permutation_seed is not None:
            rows = permute(rows, permutation(rows.shape[-1], permutation_seed))
        splits[split] = Split((Sequences.equal(rows[:, 0]),), labels)
    return splits
