"""Linear maps at every position, the building block that slow and fast networks share, and the memory they like.

Activations have the shape (N, C, *positions). Inside the network their memory has the channels *outermost*: C rows
of N * P numbers. A linear map is then one matrix product for the whole batch, weight gradient included, and every
statistic a sum over neighbouring numbers. Any other memory layout gives the same results, with a copy.

Source: arXiv 2401.17948, where every linear map is a 1x1 convolution.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import flop_registry, register_flop_formula

from terminator.machine import cpu_name


def rows(x: Tensor) -> Tensor:
    """x (N, C, *positions) as a matrix (C, N * P); no copy if its channels are outermost, or innermost, in memory."""
    return x.transpose(0, 1).flatten(1)


def from_rows(matrix: Tensor, like: Tensor) -> Tensor:
    """A matrix (C', N * P) as (N, C', *positions), with the N and positions of `like`; the inverse of `rows`."""
    return matrix.view(-1, len(like), *like.shape[2:]).transpose(0, 1)


def channels_outermost(x: Tensor) -> Tensor:
    """x (N, C, *positions) itself, with its channels outermost in memory; a copy where they are not."""
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def mean_over(x: Tensor, axis: int, keepdim: bool = False, dtype: torch.dtype | None = None) -> Tensor:
    """x.mean(axis); several times as fast in bf16, with a gradient that is a view where torch's is as large as x."""
    return x.sum(axis, keepdim=keepdim, dtype=dtype or x.dtype) / x.shape[axis]


def computing_type(x: Tensor) -> torch.dtype:
    """The type of large products: that of autocast where it is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


# MKL keeps its best code from AMD's processors
ONEDNN = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise") and "AMD" in cpu_name()


def _packed(matrix: Tensor) -> Tensor:
    """The matrix, or a copy where there are gaps between its rows or columns, as in a part of a larger one."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def _onednn_product(a: Tensor, b: Tensor) -> Tensor:
    # As torch.compile does linear layers; eager ones go to MKL. For matrices with gaps there is a slow fallback only.
    return torch.ops.mkldnn._linear_pointwise(_packed(a), _packed(b).t(), None, "none", [], "")


if ONEDNN and torch.ops.mkldnn._linear_pointwise not in flop_registry:  # else torch's counter would not see it
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(
        lambda a, transposed, *_, **__: 2 * a.numel() * transposed[0])


# in compiled code, whose own version of the call wants constant weights
_opaque_product = torch.library.custom_op("terminator::product", _onednn_product, mutates_args=())
_opaque_product.register_fake(lambda a, b: a.new_empty(len(a), b.shape[1]))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product of a (I, K) and b (K, J), by the faster library on this processor: `ONEDNN` says which."""
    if not ONEDNN or a.device.type != "cpu" or a.dtype is not torch.float32:
        return a @ b
    return (_opaque_product if torch.compiler.is_compiling() else _onednn_product)(a, b)


def _back_through(weight: Tensor, x: Tensor, gradient: Tensor, needed: bool) -> tuple[Tensor | None, Tensor]:
    """Gradients of W x: of x (if needed, in x's memory layout) and of W."""
    grad_x = None
    if needed:
        innermost = x.stride(0) == 1 and x.stride(1) != 1  # x's channels
        grad_x = (gradient.t() @ weight).t() if innermost else product(weight.t().contiguous(), gradient)
    return grad_x, product(gradient, x.t())


def _linear_gradients(ctx: Any, gradient: Tensor, needed: bool) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x, grad_weight = _back_through(weight, x, gradient, needed)
    return grad_x, grad_weight, gradient.new_zeros(len(gradient)) if ctx.cancels else gradient.sum(1), None


class _LinearMap(torch.autograd.Function):
    """W x + b for x (I, M), W (O, I), b (O,); W x and a gradient of zeros for b, if `cancels`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, cancels: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.cancels = cancels
        y = product(weight, x)
        return y if cancels else y.add_(bias[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _linear_gradients(ctx, gradient.contiguous(), ctx.needs_input_grad[0])


class _ConcatenatedMap(torch.autograd.Function):
    """_LinearMap of x_1, x_2, ... (I_i, M), one below the other.

    Their gradients are made one by one: a matrix as tall as all of them would be the largest piece of memory in a
    training step, and memory that is new to the process is slower to write than the product is to compute.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, cancels: bool, *parts: Tensor) -> Tensor:
        ctx.heights = [len(part) for part in parts]
        x = torch.cat(parts)
        return _LinearMap.forward(ctx, x, weight, bias, cancels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight = ctx.saved_tensors[1]
        gradient = gradient.contiguous()
        _, grad_weight, grad_bias, _ = _linear_gradients(ctx, gradient, needed=False)
        return grad_weight, grad_bias, None, *(product(part.t().contiguous(), gradient)
                                               for part in weight.split(ctx.heights, 1))


class _GatedMap(torch.autograd.Function):
    """(W1 x + b1) * (W2 x + b2) for x (I, M); W (2 O, I) holds W1 above W2, b (2 O,) likewise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        both = product(weight, x).add_(bias[:, None])
        ctx.save_for_backward(x, weight, both)
        first, second = both.chunk(2)
        return first * second

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, both = ctx.saved_tensors
        grad_both = torch.empty_like(both)
        for part, other in zip(grad_both.chunk(2), both.chunk(2)[::-1], strict=True):
            torch.mul(gradient, other, out=part)
        return *_back_through(weight, x, grad_both, ctx.needs_input_grad[0]), grad_both.sum(1)


def linear_map(x: Tensor, weight: Tensor, bias: Tensor, cancels: bool = False) -> Tensor:
    """W x + b at every position: x (N, I, *positions), weight (O, I), bias (O,) to (N, O, *positions).

    Args:  cancels: a standardisation follows that subtracts b again, so b is left out, and its gradient is zero
           instead of rounding noise.
    """
    kind = computing_type(x)
    return from_rows(_LinearMap.apply(rows(x.to(kind)), weight.to(kind), bias.to(kind), cancels), like=x)


def concatenated_map(parts: list[Tensor], weight: Tensor, bias: Tensor, cancels: bool = False) -> Tensor:
    """linear_map of the concatenation of `parts`, (N, I_i, *positions) each."""
    kind = computing_type(parts[0])
    matrices = [rows(part.to(kind)) for part in parts]
    return from_rows(_ConcatenatedMap.apply(weight.to(kind), bias.to(kind), cancels, *matrices), like=parts[0])


def gated_map(x: Tensor, weights: tuple[Tensor, Tensor], biases: tuple[Tensor, Tensor]) -> Tensor:
    """(W1 x + b1) * (W2 x + b2) at every position: x (N, I, *positions), weights (O, I), biases (O,)."""
    kind = computing_type(x)
    weight, bias = torch.cat(weights).to(kind), torch.cat(biases).to(kind)
    return from_rows(_GatedMap.apply(rows(x.to(kind)), weight, bias), like=x)


class Pointwise(nn.Module):
    """y[n, :, p] = W x[n, :, p] + b at every position p: a 1x1 convolution, as a matrix product.

    Args:
        in_channels, out_channels: sizes of W, which is stored as (out_channels, in_channels).
        init: "linear" (Kaiming uniform with the gain of a linear unit) or "normal" (Kaiming normal).
        bias: the constant that every bias starts at.
        cancels: a standardisation follows that subtracts the bias again; in training it is left out then. (Not in
        evaluation, where the fixed statistics are those of the map as it is written.)
    """

    def __init__(self, in_channels: int, out_channels: int, init: str = "linear", bias: float = 0.0,
                 cancels: bool = False):
        super().__init__()
        self.cancels = cancels
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.full((out_channels,), float(bias)))
        if init == "linear":
            nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")
        else:
            nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, in_channels, *positions) to (N, out_channels, *positions)."""
        return linear_map(x, self.weight, self.bias, self.cancels and self.training)

    def of_rows(self, x: Tensor) -> Tensor:
        """The same for a small matrix x (in_channels, P), as in slow networks; in x's own type."""
        return torch.addmm(self.bias[:, None], self.weight, x)
