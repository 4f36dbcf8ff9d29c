"""Linear maps at every position, the building block that slow and fast networks share, and the
memory they like.

Activations have the shape (N, C, *positions). Inside the network their memory has the channels
*outermost*: C rows of N * P numbers. A linear map is then one matrix product for the whole batch,
weight gradient included, and every statistic a sum over neighbouring numbers. Any other memory
layout gives the same results, with a copy.

Source: arXiv 2401.17948, where every linear map is a 1x1 convolution.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from terminator.ops import plain
from terminator.ops.layout import from_rows, rows
from terminator.ops.products import ConcatenatedMap, GatedMap, LinearMap, rows_map


def mean_over(
    x: Tensor, axis: int, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    """x.mean(axis); several times as fast in bf16, with a gradient that is a view where torch's is
    as large as x.
    """
    return x.sum(axis, keepdim=keepdim, dtype=dtype or x.dtype) / x.shape[axis]


def computing_type(x: Tensor) -> torch.dtype:
    """The type of large products: that of autocast where it is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def widened(x: Tensor) -> Tensor:
    """x in float32 or wider, whatever autocast says: no device transforms all half-precision
    types.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


M = TypeVar("M", bound=nn.Module)


def listed(modules: Iterable[M]) -> Sequence[M]:
    """An nn.ModuleList that type checkers know by what it holds."""
    return cast(Any, nn.ModuleList(modules))


def named(modules: Mapping[str, M]) -> Mapping[str, M]:
    """An nn.ModuleDict that type checkers know by what it holds."""
    return cast(Any, nn.ModuleDict(modules))


def linear_map(x: Tensor, weight: Tensor, bias: Tensor, cancels: bool = False) -> Tensor:
    """W x + b at every position: x (N, I, *positions), weight (O, I), bias (O,) to (N, O,
    *positions).

    Args:
        cancels: a standardisation follows that subtracts b again, so b is left out, and its
            gradient is zero instead of rounding noise.
    """
    kind = computing_type(x)
    matrix, weight, bias = rows(x.to(kind)), weight.to(kind), bias.to(kind)
    if plain.is_wanted():
        return from_rows(_mapped(matrix, weight, None if cancels else bias), like=x)
    return from_rows(LinearMap.apply(matrix, weight, bias, cancels), like=x)


def _mapped(matrix: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return weight @ matrix if bias is None else weight @ matrix + bias[:, None]


def concatenated_map(
    parts: list[Tensor], weight: Tensor, bias: Tensor, cancels: bool = False
) -> Tensor:
    """linear_map of the concatenation of `parts`, (N, I_i, *positions) each."""
    kind = computing_type(parts[0])
    matrices, weight, bias = [rows(part.to(kind)) for part in parts], weight.to(kind), bias.to(kind)
    if plain.is_wanted():
        y = _mapped(torch.cat(matrices), weight, None if cancels else bias)
        return from_rows(y, like=parts[0])
    return from_rows(ConcatenatedMap.apply(weight, bias, cancels, *matrices), like=parts[0])


def gated_map(x: Tensor, weights: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor]) -> Tensor:
    """(W1 x + b1) * (W2 x + b2) at every position: x (N, I, *positions), weights (O, I), biases
    (O,).
    """
    kind = computing_type(x)
    weight, bias = torch.cat(weights).to(kind), torch.cat(biases).to(kind)
    if plain.is_wanted():
        first, second = _mapped(rows(x.to(kind)), weight, bias).chunk(2)
        return from_rows(first * second, like=x)
    return from_rows(GatedMap.apply(rows(x.to(kind)), weight, bias), like=x)


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a layer is what it was made as, without hooks: its weights may be read and joined
    with others' then, where else it has to be called.
    """
    forward = layer._forward_pre_hooks or layer._forward_hooks
    backward = layer._backward_pre_hooks or layer._backward_hooks
    return isinstance(layer, kind) and not (forward or backward)


class Pointwise(nn.Module):
    """y[n, :, p] = W x[n, :, p] + b at every position p: a 1x1 convolution, as a matrix product.

    Args:
        in_channels, out_channels: sizes of W, which is stored as (out_channels, in_channels).
        init: "linear" (Kaiming uniform with the gain of a linear unit), "normal" (Kaiming normal)
            or "torch" (as torch.nn.Conv2d starts: weights and biases uniform, +-1/sqrt(I)).
        bias: the constant that every bias starts at, but with "torch".
        cancels: a standardisation follows that subtracts the bias again; in training it is left out
            then. (Not in evaluation, where the fixed statistics are those of the map as it is
            written.).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        init: str = "linear",
        bias: float = 0.0,
        cancels: bool = False,
    ):
        super().__init__()
        self.cancels = cancels
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.full((out_channels,), float(bias)))
        if init == "linear":
            nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")
        elif init == "torch":
            bound = 1 / math.sqrt(in_channels)
            nn.init.uniform_(self.weight, -bound, bound)
            nn.init.uniform_(self.bias, -bound, bound)
        else:
            nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, in_channels, *positions) to (N, out_channels, *positions)."""
        return linear_map(x, self.weight, self.bias, self.cancels and self.training)

    def of_rows(self, x: Tensor) -> Tensor:
        """The same for a small matrix x (in_channels, P), as in slow networks; in x's own type.
        To be had by `on_rows`.
        """
        return torch.addmm(self.bias[:, None], self.weight, x)


def rows_layer(layer: nn.Module, x: Tensor) -> Tensor:
    """An nn.Linear, or what stands in its place, of x (..., I), by the faster library."""
    return rows_map(x, layer.weight, layer.bias) if is_plain(layer, nn.Linear) else layer(x)  # type: ignore


def on_rows(layer: nn.Module, x: Tensor) -> Tensor:
    """A Pointwise, or what stands in its place, of a small matrix x (in_channels, P)."""
    return layer.of_rows(x) if is_plain(layer, Pointwise) else layer(x[None])[0]  # type: ignore
