"""The HyperZ.Z.W operator: hyper-kernels W meet activations Z, twice.

(1) S = W * Z, the context-dependent hyper-kernel, also the pixel-level slow score;
(2) S is applied to (a transform of) Z as a fast weight.

Source: arXiv 2401.17948.  Golden: terminator_hyperzzw_global, terminator_hyper_channel.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from terminator.layers import channels_outermost, rows

OPERATORS = ("matrix", "convolution", "causal_convolution")


def slow_score(z: Tensor, hyper_kernel: Tensor) -> Tensor:
    """Pixel-level slow score S = W * Z: z (N, C, *positions), hyper_kernel (1, C, *positions) to (N, C, ...)."""
    return z * hyper_kernel.to(z.dtype)


def matrix_operator(score: Tensor, value: Tensor) -> Tensor:
    """Use the slow score as a fast weight: out[n, c] = S[n, c] @ T[n, c], a matrix product of square maps.

    Args:    score, value: both (N, C, H, H), or both (N, C, L) with L = n * n, folded row by row to n x n.
    Returns: the shape of `value`; row i mixes all rows of `value`.
    Raises:  ValueError if the shapes differ, a map is not square or a length is no square number.
    """
    if score.shape != value.shape:
        raise ValueError(f"matrix_operator needs two equal shapes, got {tuple(score.shape)}, {tuple(value.shape)}")
    if score.ndim == 4:
        if score.shape[-1] != score.shape[-2]:
            raise ValueError(f"matrix_operator needs square maps, got {tuple(score.shape[-2:])}: "
                             "crop, pad or resize the images to squares")
        return (score.transpose(0, 1) @ value.transpose(0, 1)).transpose(0, 1)  # (N, C, H, H)
    side = math.isqrt(score.shape[-1])
    if side * side != score.shape[-1]:
        raise ValueError(f"matrix_operator needs a length that is a square number, got {score.shape[-1]}: "
                         'pad the sequence, or use operator="convolution"')
    folded = (*score.shape[:-1], side, side)
    return matrix_operator(score.reshape(folded), value.reshape(folded)).flatten(2)  # (N, C, L)


def convolution_operator(score: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Use the slow score as a global kernel: out[n, c] = S[n, c] (*) T[n, c], by FFT in O(P log P).

    Args:    score, value: both (N, C, *positions), one or two axes of positions;
             causal: linear convolution cut to the past (sequences only) instead of a circular one.
    Returns: the shape of `value`; transforms run in float32 or wider.
    Raises:  ValueError if the shapes differ, or for a causal product of images.
    """
    if score.shape != value.shape:
        raise ValueError(f"convolution_operator needs two equal shapes, got {tuple(score.shape)}, {tuple(value.shape)}")
    sizes = value.shape[2:]
    if causal and len(sizes) != 1:
        raise ValueError(f"a causal convolution needs sequences (N, C, L), got {tuple(value.shape)}")
    axes = list(range(2, value.ndim))
    padded = [2 * size for size in sizes] if causal else list(sizes)
    wide = torch.promote_types(value.dtype, torch.float32)
    with torch.autocast(value.device.type, enabled=False):  # transforms have no half precision on every device
        spectrum = torch.fft.rfftn(score.to(wide), padded, axes) * torch.fft.rfftn(value.to(wide), padded, axes)
        out = torch.fft.irfftn(spectrum, padded, axes)
    return (out[..., : sizes[0]] if causal else out).to(value.dtype)


def global_operator(name: str, score: Tensor, value: Tensor) -> Tensor:
    """Apply the global operator of that name, one of OPERATORS."""
    if name == "matrix":
        return matrix_operator(score, value)
    if name in OPERATORS:
        return convolution_operator(score, value, causal=name == "causal_convolution")
    raise ValueError(f"operator is {name!r}; allowed: {', '.join(OPERATORS)}")


def two_elementwise(hyper_kernel: Tensor, y: Tensor) -> Tensor:
    """(W * y) * y, the operator with two Hadamard products; shapes broadcast."""
    return (hyper_kernel * y) * y


class _DepthwiseConvolution(torch.autograd.Function):
    """Depth-wise convolution on the CPU, everything with the channels innermost in memory.

    The library's input gradient is slower than a convolution with the mirrored kernel, its kernel gradient many
    times slower for kernels of more than three columns than for three: here three columns are taken at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _convolve(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        x, kernel = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        grad_x = _convolve(gradient, kernel.flip(2, 3)) if ctx.needs_input_grad[0] else None
        height, width = kernel.shape[2:]
        padded = F.pad(x, (width // 2, width // 2))
        columns = []
        for first in range(0, width, 3):
            part = kernel[..., first:first + 3]
            window = padded[..., first:first + part.shape[3] - 1 + x.shape[3]]
            columns.append(torch.ops.aten.convolution_backward(
                gradient, window.contiguous(memory_format=torch.channels_last), part.contiguous(), None, [1, 1],
                [height // 2, 0], [1, 1], False, [0, 0], x.shape[1], [False, True, False])[1])
        return grad_x, torch.cat(columns, dim=3)


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel, padding=[size // 2 for size in kernel.shape[2:]], groups=x.shape[1])


class _ChannelsInnermost(torch.autograd.Function):
    """x (N, C, H, W) with its channels innermost in memory; the gradient comes back with them outermost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        matrix, out = rows(x), x.new_empty(n * h * w, c)
        for first in range(0, c, 16):  # a strip of channels at a time is several times faster than all at once
            out[:, first:first + 16] = matrix[first:first + 16].t()
        return out.view(n, h, w, c).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return channels_outermost(gradient.contiguous())  # in two steps, each faster than one


def channels_innermost(x: Tensor) -> Tensor:
    """x (N, C, H, W) as the CPU's depth-wise convolutions like it; itself, where its memory lies that way."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else _ChannelsInnermost.apply(x)


def local_operator(x: Tensor, kernel: Tensor) -> Tensor:
    """Depth-wise convolution of x (N, C, *positions) with kernel (C, 1, k[, k]), k odd; same size out."""
    if x.ndim == 3:  # as images of height 1, for which the CPU has the better kernels
        return local_operator(x[:, :, None], kernel[:, :, None])[:, :, 0]
    kernel = kernel.to(x.dtype)
    if x.device.type == "cpu":
        return _DepthwiseConvolution.apply(channels_innermost(x), kernel)
    return _convolve(x, kernel)
