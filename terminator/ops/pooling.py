"""Adaptive average pooling of maps or sequences, on a GPU deterministic where that is asked for."""

import torch
import torch.nn.functional as F
from torch import Tensor


def adaptive_mean(x: Tensor, size: int) -> Tensor:
    """Adaptive average pooling of x (N, C, *positions) to `size` per axis."""
    if x.is_cuda and torch.are_deterministic_algorithms_enabled():
        return pooled(x, size)  # torch's own has no deterministic gradient there
    return F.adaptive_avg_pool1d(x, size) if x.ndim == 3 else F.adaptive_avg_pool2d(x, size)


def pooled(x: Tensor, size: int) -> Tensor:
    """The same as matrix products."""
    for axis in range(2, x.ndim):
        length = x.shape[axis]
        weight = x.new_zeros(size, length)
        for i in range(size):
            start, end = i * length // size, -(-(i + 1) * length // size)
            weight[i, start:end] = 1.0 / (end - start)
        x = (x.movedim(axis, -1) @ weight.T).movedim(-1, axis)
    return x
