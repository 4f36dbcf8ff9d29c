"""Images as sequences of pixels: in reading order (sMNIST, sCIFAR10) or one fixed random order
(pMNIST).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from terminator.runtime.settings import require


def to_sequence(images: Tensor) -> Tensor:
    """Read the pixels row by row.

    Args:
        images: (N, C, H, W).

    Returns:
        (N, C, H*W), a view where the memory allows.

    Raises:
        ValueError: if `images` has another number of axes.
    """
    if images.ndim != 4:
        raise ValueError(
            f"to_sequence needs images of shape (N, C, H, W), got {tuple(images.shape)}"
        )
    return images.flatten(2)  # (N, C, H*W)


def permutation(length: int, seed: int) -> Tensor:
    """Draw the one order of `length` positions that belongs to `seed`.

    NumPy's RandomState is used because its stream is guaranteed never to change between versions.

    Returns:
        (length,) int64; element i is the old position of new position i.

    Raises:
        ValueError: if length < 1 or the seed is not an integer from 0 to 2**32 - 1.
    """
    fits = type(length) is int and length >= 1
    require(fits, "length of a permutation", length, "an integer of at least 1")
    fits = type(seed) is int and 0 <= seed < 2**32
    require(fits, "permutation_seed", seed, "an integer from 0 to 2**32 - 1")
    return torch.from_numpy(np.random.RandomState(seed).permutation(length).astype(np.int64))


def permute(sequences: Tensor, order: Tensor) -> Tensor:
    """Put the positions of all sequences and channels into the same `order`.

    Args:
        sequences: (N, C, L); order: (L,), see permutation().

    Returns:
        (N, C, L), a copy.

    Raises:
        ValueError: if the lengths differ.
    """
    if sequences.ndim != 3 or order.shape != sequences.shape[-1:]:
        raise ValueError(
            "permute needs (N, C, L) sequences and an order of length L, got "
            f"{tuple(sequences.shape)} and {tuple(order.shape)}"
        )
    return sequences.index_select(2, order.to(sequences.device))  # (N, C, L)


def to_image(sequences: Tensor, order: Tensor | None = None) -> Tensor:
    """Fold sequences of n * n values back into images, row by row; the inverse of to_sequence and
    permute.

    Args:
        sequences: (..., L); order: (L,) that they were permuted with, see permutation().

    Returns:
        (..., n, n), a copy.

    Raises:
        ValueError: if L is no square number, or the order has another length.
    """
    length = sequences.shape[-1]
    side = math.isqrt(length)
    if side * side != length or (order is not None and order.shape != (length,)):
        raise ValueError(
            f"to_image needs sequences of a square length and an order of that length, got "
            f"{tuple(sequences.shape)} and {None if order is None else tuple(order.shape)}"
        )
    flat = (
        sequences
        if order is None
        else sequences.index_select(-1, torch.argsort(order).to(sequences.device))
    )
    return flat.reshape(*sequences.shape[:-1], side, side).clone()
