"""Time and memory of global operators by themselves, forward, without any maps around them."""

import math
from collections.abc import Callable, Iterable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator import hyperzzw
from terminator.bench.measure import measure


def context_operators(z: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Global mixing of z (N, C, H, H), several ways, as functions without arguments."""
    kernel = torch.randn_like(z[:1]) / z.shape[-1]
    tokens = z.flatten(2).transpose(1, 2).contiguous()  # (N, P, C)
    heads = tokens[:, None]  # one

    def explicit_attention() -> Tensor:
        similarity = tokens @ tokens.transpose(1, 2)  # (N, P, P)
        return (similarity / math.sqrt(tokens.shape[-1])).softmax(-1) @ tokens

    return {
        "HyperZ.Z.W, matrix": lambda: hyperzzw.matrix_operator(hyperzzw.slow_score(z, kernel), z),
        "HyperZ.Z.W, convolution": lambda: hyperzzw.convolution_operator(
            hyperzzw.slow_score(z, kernel), z
        ),
        "softmax attention, fused": lambda: F.scaled_dot_product_attention(heads, heads, heads),
        "softmax attention, written out": explicit_attention,
    }


@torch.no_grad()
def cost_table(
    sides: Iterable[int], channels: int = 12, batch: int = 1, device: str = "cpu", repeats: int = 5
) -> pd.DataFrame:
    """Cost of every context operator, forward, per side of the maps.

    Returns:
        columns operator, side, positions, seconds (median), low, high, bytes (at the peak).
    """
    rows = []
    for side in sides:
        z = torch.randn(batch, channels, side, side, device=device)
        for name, function in context_operators(z).items():
            row = {"operator": name, "side": side, "positions": side * side}
            rows.append(row | measure(function, repeats, device).row())
    return pd.DataFrame(rows)
