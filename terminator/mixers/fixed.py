"""Mixers without a product of queries and keys: how tokens mix is a parameter or a transform."""

import torch
from torch import Tensor, nn

from terminator.layers import widened
from terminator.mixers.base import (
    additive_mask,
    check_heads,
    check_length,
    check_sequence,
    lecun_linear,
)
from terminator.runtime.settings import require


class Synthesizer(nn.Module):
    """Random Synthesizer (arXiv 2005.00743): attention whose T x T logits are parameters, one set
    per head.

    Args:
        length: the longest T, a shorter input uses the first rows and columns.
        rank: the logits are a product of two (length, rank) factors; 0: one full matrix.
    """

    uses_mask = True

    def __init__(self, width: int, heads: int, length: int, rank: int = 32, bias: bool = False):
        super().__init__()
        check_heads(width, heads)
        require(rank >= 0, "rank", rank, "0 (a full matrix) or a positive integer")
        self.width, self.heads = width, heads
        self.value, self.output = (lecun_linear(width, width, bias) for _ in range(2))
        shapes = [(heads, length, rank)] * 2 if rank else [(heads, length, length)]
        deviation = rank**-0.25 if rank else 1.0  # logits of variance 1 either way
        self.factors = nn.ParameterList(
            nn.Parameter(deviation * torch.randn(shape)) for shape in shapes
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = check_sequence(x, self.width, mask)
        length = x.shape[1]
        check_length(length, self.factors[0].shape[1])
        rows = self.factors[0][:, :length]
        if len(self.factors) == 2:
            logits = rows @ self.factors[1][:, :length].transpose(1, 2)  # (h, T, T)
        else:
            logits = rows[:, :, :length]
        if mask is not None:
            logits = logits + additive_mask(mask, logits.dtype)  # (B, h, T, T)
        value = self.value(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, T, D)
        mixed = logits.softmax(-1).to(value.dtype) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))


class FNet(nn.Module):
    """Real part of the Fourier transform over sequence and width; no parameters (arXiv 2105.03824).

    Args:
        normalization: "backward" (as published: sums, so outputs grow with sqrt(T E)) or "ortho".

    It knows no mask: padding takes part, as published.
    """

    uses_mask = False

    def __init__(self, width: int, normalization: str = "backward"):
        super().__init__()
        require(
            normalization in ("backward", "ortho"),
            "normalization",
            normalization,
            "backward, ortho",
        )
        self.width, self.normalization = width, normalization

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        check_sequence(x, self.width, mask)
        with torch.autocast(x.device.type, enabled=False):
            return torch.fft.fft2(widened(x), dim=(1, 2), norm=self.normalization).real.to(x.dtype)
