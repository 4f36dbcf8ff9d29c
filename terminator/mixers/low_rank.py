"""Context through a few rows that stand for all tokens: projections, landmarks or a memory."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.layers import widened
from terminator.mixers.base import (
    HeadsMixer,
    SoftmaxAttention,
    additive_mask,
    check_length,
    check_sequence,
)
from terminator.runtime.settings import require


class Linformer(HeadsMixer):
    """Softmax attention over keys and values mapped along T to `rank` by one shared map (arXiv
    2006.04768).

    Args:
        length: the longest T; a shorter input uses the map's first rows.
    """

    def __init__(self, width: int, heads: int, length: int, rank: int = 16, bias: bool = False):
        super().__init__(width, heads, bias)
        require(rank >= 1, "rank", rank, "an integer of at least 1")
        self.projection = nn.Parameter(torch.randn(length, rank) / math.sqrt(length))

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        check_length(query.shape[2], len(self.projection))
        if mask is not None:
            key, value = (part * mask[:, None, :, None] for part in (key, value))
        projection = self.projection[: query.shape[2]].T.to(key.dtype)  # (rank, T)
        return F.scaled_dot_product_attention(query, projection @ key, projection @ value)


class Nystromformer(HeadsMixer):
    """Softmax attention through landmarks: A ~ softmax(Q K~^T) pinv(softmax(Q~ K~^T)) softmax(Q~
    K^T).

    Landmarks are means over segments of T; the pseudo-inverse is iterated. With as many landmarks
    as tokens this is softmax attention, up to how far the iteration got. No convolution beside it.

    Args:
        landmarks: their number, at most T are used.
        iterations: of the pseudo-inverse.

    Source: arXiv 2102.03902.
    Differs: its start is scaled per head, not by the batch's largest matrix, so that a row does not
        depend on the others.
    """

    def __init__(
        self, width: int, heads: int, landmarks: int = 64, iterations: int = 6, bias: bool = False
    ):
        super().__init__(width, heads, bias)
        require(landmarks >= 1, "landmarks", landmarks, "an integer of at least 1")
        self.landmarks, self.iterations = landmarks, iterations

    def mix(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # the iteration does not bear half precision
        with torch.autocast(query.device.type, enabled=False):
            query, key, wide = (widened(part) for part in (query, key, value))
            query = query / math.sqrt(query.shape[-1])
            if mask is not None:
                query, key = (part * mask[:, None, :, None] for part in (query, key))
            few_queries, few_keys = self._means(query), self._means(key)  # (B, h, m, D)
            left = (query @ few_keys.transpose(-2, -1)).softmax(-1)  # (B, h, T, m)
            middle = (few_queries @ few_keys.transpose(-2, -1)).softmax(-1)  # (B, h, m, m)
            right = few_queries @ key.transpose(-2, -1)  # (B, h, m, T)
            right = right if mask is None else right + additive_mask(mask, right.dtype)
            inverse = pseudo_inverse(middle, self.iterations)
            return (left @ (inverse @ (right.softmax(-1) @ wide))).to(value.dtype)

    def _means(self, x: Tensor) -> Tensor:
        count = min(self.landmarks, x.shape[2])
        flat = x.flatten(0, 1).transpose(1, 2)  # (B h, D, T)
        return F.adaptive_avg_pool1d(flat, count).transpose(1, 2).unflatten(0, x.shape[:2])


def pseudo_inverse(matrix: Tensor, iterations: int = 6) -> Tensor:
    """Moore-Penrose inverse of (..., m, m) by a third-order iteration that starts at A^T / (|A|_1
    |A|_inf).
    """
    size = matrix.abs()
    scale = size.sum(-2).amax(-1) * size.sum(-1).amax(-1)
    inverse = matrix.transpose(-2, -1) / scale[..., None, None]
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        product = matrix @ inverse
        inverse = inverse @ (13 * eye - product @ (15 * eye - product @ (7 * eye - product))) / 4
    return inverse


class Luna(nn.Module):
    """Luna (arXiv 2106.01540): memory vectors attend to the tokens (pack), tokens attend to the
    result (unpack).

    Args:
        memory: number of learned vectors.
        own_memory: False for layers that are always given one.

    Returns:
        forward(x): (B, T, E); with return_memory=True also the memory (B, memory, E) for the next
        layer, norm(memory + packed), which that layer is given as `memory`. The norm has no scale
        and shift of its own: in the last layer nothing would train them.
    """

    uses_mask, passes_memory = True, True

    def __init__(
        self, width: int, heads: int, memory: int = 256, own_memory: bool = True, bias: bool = False
    ):
        super().__init__()
        require(memory >= 1, "memory", memory, "an integer of at least 1")
        self.pack = SoftmaxAttention(width, heads, bias=bias)
        self.unpack = SoftmaxAttention(width, heads, bias=bias)
        self.memory = (
            nn.Parameter(torch.randn(memory, width) / math.sqrt(width)) if own_memory else None
        )

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        return_memory: bool = False,
    ):
        check_sequence(x, self.pack.width, mask)
        if memory is None:
            if self.memory is None:
                raise ValueError("this Luna layer has own_memory=False and was given no memory")
            # (B, memory, E); no view: hooks of torch's counters fail on it
            memory = self.memory.repeat(len(x), 1, 1)
        packed = self.pack(memory, mask, source=x)  # (B, memory, E)
        output = self.unpack(x, source=packed)  # (B, T, E)
        return (
            (output, F.layer_norm(memory + packed, memory.shape[-1:], eps=1e-6))
            if return_memory
            else output
        )
