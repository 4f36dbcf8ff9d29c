"""What token mixers share: masks, checks, heads; and attention with the softmax, explicit, fused or
local.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.runtime.settings import require


def lecun_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear map with Flax's initialisation: normal cut at 2 deviations, variance 1/inputs; bias
    0.
    """
    linear = nn.Linear(inputs, outputs, bias=bias)
    # a standard normal has this deviation once cut
    deviation = 1 / math.sqrt(inputs) / 0.87962566103423978
    nn.init.trunc_normal_(linear.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def check_heads(width: int, heads: int) -> None:
    """Raise ValueError unless `heads` divides `width`."""
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(
            f"heads is {heads}, width is {width}; the width must be a multiple of the heads"
        )


def check_sequence(x: Tensor, width: int, mask: Tensor | None) -> Tensor | None:
    """Check x (B, T, E) and a mask (B, T), true or 1 for real tokens; return the mask as bool, or
    None.
    """
    if x.ndim != 3 or x.shape[-1] != width:
        raise ValueError(f"the input has shape {tuple(x.shape)}, this mixer takes (B, T, {width})")
    if mask is not None and mask.shape != x.shape[:2]:
        raise ValueError(
            f"the mask has shape {tuple(mask.shape)}; it must be (B, T) = {tuple(x.shape[:2])}, "
            "true for real tokens"
        )
    return None if mask is None else mask.bool()


def check_length(length: int, longest: int) -> None:
    if length > longest:
        raise ValueError(
            f"the sequence has {length} tokens; this mixer was made for at most {longest}"
        )


def additive_mask(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """0 for real tokens and a large negative, finite number for others: (B, T) to (B, 1, 1, T)."""
    if mask is None:
        return None
    return (~mask)[:, None, None, :].to(dtype) * max(-1e9, torch.finfo(dtype).min / 2)


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None
) -> Tensor:
    """softmax(q k^T / sqrt(D) + bias) v with its T x S matrix in memory: (..., T, D), (..., S, D)
    to (..., T, D).
    """
    return attention_weights(query, key, bias).to(value.dtype) @ value


def attention_weights(query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(D) + bias): (..., T, D), (..., S, D) to (..., T, S)."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return (scores if bias is None else scores + bias).softmax(-1)


class HeadsMixer(nn.Module):
    """What attentions share: maps E to E for queries, keys, values and output, and h heads of width
    D = E/h.

    Subclasses say how heads mix: mix(query, key, value, mask), each (B, h, T, D), the mask (B, T)
    or None.
    """

    uses_mask = True

    def __init__(self, width: int, heads: int, bias: bool = False):
        super().__init__()
        check_heads(width, heads)
        self.width, self.heads = width, heads
        self.query, self.key, self.value, self.output = (
            lecun_linear(width, width, bias) for _ in range(4)
        )

    def forward(
        self, x: Tensor, mask: Tensor | None = None, source: Tensor | None = None
    ) -> Tensor:
        """Mix x (B, T, E); with a `source` (B, S, E), keys and values are its, and so is the mask
        (B, S).
        """
        source = x if source is None else source
        mask = check_sequence(source, self.width, mask)
        mixed = self.mix(
            self._split(self.query(x)),
            self._split(self.key(source)),
            self._split(self.value(source)),
            mask,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))  # (B, T, E)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, T, D)


class SoftmaxAttention(HeadsMixer):
    """Scaled dot-product attention (arXiv 1706.03762); `fused` computes it without the T x T
    matrix.
    """

    def __init__(self, width: int, heads: int, fused: bool = True, bias: bool = False):
        super().__init__(width, heads, bias)
        self.fused = fused

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        attend = F.scaled_dot_product_attention if self.fused else softmax_attention
        return attend(query, key, value, additive_mask(mask, query.dtype))

    def weights(self, x: Tensor) -> Tensor:
        """What every token of x (B, T, E) gives to every other one: (B, h, T, T), rows add up to
        1.
        """
        return attention_weights(self._split(self.query(x)), self._split(self.key(x)))


class LocalAttention(HeadsMixer):
    """Softmax attention inside blocks of `block` tokens; the last block may be shorter (arXiv
    1802.05751).
    """

    def __init__(self, width: int, heads: int, block: int = 64, bias: bool = False):
        super().__init__(width, heads, bias)
        require(block >= 1, "block", block, "an integer of at least 1")
        self.block = block

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        length, missing = query.shape[2], -query.shape[2] % self.block
        if mask is None and missing:
            mask = torch.ones(len(query), length, dtype=torch.bool, device=query.device)
        query, key, value = (
            F.pad(part, (0, 0, 0, missing)).unflatten(2, (-1, self.block))  # (B, h, n, block, D)
            for part in (query, key, value)
        )
        bias = None
        if mask is not None:
            blocks = additive_mask(F.pad(mask, (0, missing)), query.dtype)  # (B, 1, 1, n * block)
            bias = blocks.unflatten(3, (-1, 1, self.block))[:, :, 0]  # (B, 1, n, 1, block)
        mixed = F.scaled_dot_product_attention(query, key, value, bias)
        return mixed.flatten(2, 3)[:, :, :length]
