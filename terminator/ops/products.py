"""Matrix products on the CPU by the faster library, and linear maps whose gradients are computed by
them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import flop_registry, register_flop_formula

from terminator.ops import plain
from terminator.runtime.machine import cpu_name

# MKL keeps its best code from AMD's processors
ONEDNN = (
    torch.backends.mkl.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and "AMD" in cpu_name()
)


def _packed(matrix: Tensor) -> Tensor:
    """The matrix, or a copy where there are gaps between its rows or columns, as in a part of a
    larger one.
    """
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def _onednn_product(a: Tensor, b: Tensor) -> Tensor:
    # As torch.compile does linear layers; eager ones go to MKL. For matrices with gaps there is a
    # slow fallback only.
    return torch.ops.mkldnn._linear_pointwise(_packed(a), _packed(b).t(), None, "none", [], "")


# else torch's counter would not see it
if ONEDNN and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(
        lambda a, transposed, *_, **__: 2 * a.numel() * transposed[0]
    )


# in compiled code, whose own version of the call wants constant weights
_opaque_product = torch.library.custom_op("terminator::product", _onednn_product, mutates_args=())
_opaque_product.register_fake(lambda a, b: a.new_empty(len(a), b.shape[1]))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product of a (I, K) and b (K, J), by the faster library on this processor:
    `ONEDNN` says which.
    """
    if not ONEDNN or a.device.type != "cpu" or a.dtype is not torch.float32:
        return a @ b
    return (_opaque_product if torch.compiler.is_compiling() else _onednn_product)(a, b)


def _back_through(
    weight: Tensor, x: Tensor, gradient: Tensor, needed: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of W x: of x (if needed, in x's memory layout) and of W."""
    grad_x = None
    if needed:
        innermost = x.stride(0) == 1 and x.stride(1) != 1  # x's channels
        grad_x = (
            (gradient.t() @ weight).t() if innermost else product(weight.t().contiguous(), gradient)
        )
    return grad_x, product(gradient, x.t())


def _linear_gradients(ctx: Any, gradient: Tensor, needed: bool) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    grad_x, grad_weight = _back_through(weight, x, gradient, needed)
    return (
        grad_x,
        grad_weight,
        gradient.new_zeros(len(gradient)) if ctx.cancels else gradient.sum(1),
        None,
    )


class LinearMap(torch.autograd.Function):
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


class ConcatenatedMap(torch.autograd.Function):
    """LinearMap of x_1, x_2, ... (I_i, M), one below the other.

    Their gradients are made one by one: a matrix as tall as all of them would be the largest piece
    of memory in a training step, and memory that is new to the process is slower to write than the
    product is to compute.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, cancels: bool, *parts: Tensor) -> Tensor:
        ctx.heights = [len(part) for part in parts]
        x = torch.cat(parts)
        return LinearMap.forward(ctx, x, weight, bias, cancels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight = ctx.saved_tensors[1]
        gradient = gradient.contiguous()
        _, grad_weight, grad_bias, _ = _linear_gradients(ctx, gradient, needed=False)
        return (
            grad_weight,
            grad_bias,
            None,
            *(product(part.t().contiguous(), gradient) for part in weight.split(ctx.heights, 1)),
        )


class GatedMap(torch.autograd.Function):
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


class RowsMap(torch.autograd.Function):
    """x W^T + b for x (M, I), W (O, I), b (O,) or None: each product by what is faster at its
    form.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = product(x, weight.t())
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        grad_x, grad_weight, grad_bias = ctx.needs_input_grad
        return (
            product(gradient, weight) if grad_x else None,
            gradient.t() @ x if grad_weight else None,
            gradient.sum(0) if grad_bias else None,
        )


def rows_map(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear of x (..., I), W (O, I) and b (O,), by the faster library on this processor."""
    is_float = x.dtype is torch.float32 and not torch.is_autocast_enabled(x.device.type)
    fits = is_float and x.device.type == "cpu" and x.numel() and not plain.is_wanted()
    if not (ONEDNN and fits):
        return F.linear(x, weight, bias)
    return RowsMap.apply(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])
