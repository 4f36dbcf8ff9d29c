"""Attention with a kernel in the softmax's place: sums over the sequence first, linear in its
length.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.layers import widened
from terminator.mixers.base import HeadsMixer
from terminator.runtime.settings import require


def kernel_attention(query: Tensor, key: Tensor, value: Tensor, eps: float = 1e-6) -> Tensor:
    """phi(q)(sum phi(k)^T v) / (phi(q) . sum phi(k) + eps), given the non-negative phi(q), phi(k)
    (..., T, m).
    """
    summary = key.transpose(-2, -1) @ value  # (..., m, D)
    norm = query @ key.sum(-2)[..., None]  # (..., T, 1)
    return query @ summary / (norm + eps)


class LinearAttention(HeadsMixer):
    """Kernel attention with phi = elu + 1 (arXiv 2006.16236), in float32 or wider."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # sums over T need more than half precision
        with torch.autocast(query.device.type, enabled=False):
            query, key, wide = (widened(part) for part in (query, key, value))
            features = F.elu(key) + 1
            if mask is not None:
                features = features * mask[:, None, :, None]
            return kernel_attention(F.elu(query) + 1, features, wide).to(value.dtype)


class Performer(HeadsMixer):
    """Kernel attention with positive orthogonal random features (FAVOR+, arXiv 2009.14794).

    phi(x) = exp(W x - |x|^2 / 2) / sqrt(m) + 1e-6 of x scaled by D^(-1/4), in float32 or wider.

    Args:
        features: m, rows of the fixed random W.
    """

    def __init__(self, width: int, heads: int, features: int = 256, bias: bool = False):
        super().__init__(width, heads, bias)
        require(features >= 1, "features", features, "an integer of at least 1")
        self.register_buffer("projection", _orthogonal_features(features, width // heads))  # (m, D)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        with torch.autocast(query.device.type, enabled=False):
            exponent = self._exponent(query)
            query_features = self._features(exponent, exponent.amax(-1, keepdim=True))
            exponent = self._exponent(key)
            if mask is not None:  # before the largest is looked for: padding is to change nothing
                exponent = exponent.masked_fill(mask[:, None, :, None] == 0, -torch.inf)
            largest = exponent.amax((-2, -1), keepdim=True)
            largest = largest.nan_to_num(neginf=0.0)  # of nothing but padding
            key_features = self._features(exponent, largest)
            if mask is not None:
                key_features = key_features * mask[:, None, :, None]
            return kernel_attention(query_features, key_features, widened(value), eps=1e-12).to(
                value.dtype
            )

    def _exponent(self, x: Tensor) -> Tensor:
        x = widened(x) * x.shape[-1] ** -0.25
        # (B, h, T, m)
        return x @ self.projection.to(x.dtype).T - x.square().sum(-1, keepdim=True) / 2

    def _features(self, exponent: Tensor, largest: Tensor) -> Tensor:
        return (torch.exp(exponent - largest.detach()) + 1e-6) / math.sqrt(len(self.projection))


def _orthogonal_features(count: int, width: int) -> Tensor:
    """`count` normal vectors of R^width, orthogonal within each set of `width`: (count, width)."""
    sets = [nn.init.orthogonal_(torch.empty(width, width)) for _ in range(math.ceil(count / width))]
    lengths = torch.randn(count, width).norm(dim=1, keepdim=True)
    return torch.cat(sets)[:count] * lengths
