"""Depth-wise convolutions on the CPU, with gradients that are faster than the library's."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from terminator.ops.layout import channels_outermost, rows


class DepthwiseConvolution(torch.autograd.Function):
    """Depth-wise convolution on the CPU, everything with the channels innermost in memory.

    The library's input gradient is slower than a convolution with the mirrored kernel, its kernel
    gradient many times slower for kernels of more than three columns than for three: here three
    columns are taken at a time.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        out = convolve(x, kernel)
        ctx.save_for_backward(x.to(out.dtype), kernel.to(out.dtype))  # autocast may have changed it
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        x, kernel = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        grad_x = convolve(gradient, kernel.flip(2, 3)) if ctx.needs_input_grad[0] else None
        height, width = kernel.shape[2:]
        padded = F.pad(x, (width // 2, width // 2))
        columns = []
        for first in range(0, width, 3):
            part = kernel[..., first : first + 3]
            window = padded[..., first : first + part.shape[3] - 1 + x.shape[3]]
            columns.append(
                torch.ops.aten.convolution_backward(
                    gradient,
                    window.contiguous(memory_format=torch.channels_last),
                    part.contiguous(),
                    None,
                    [1, 1],
                    [height // 2, 0],
                    [1, 1],
                    False,
                    [0, 0],
                    x.shape[1],
                    [False, True, False],
                )[1]
            )
        return grad_x, torch.cat(columns, dim=3)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(x, kernel, padding=[size // 2 for size in kernel.shape[2:]], groups=x.shape[1])


class _ChannelsInnermost(torch.autograd.Function):
    """x (N, C, H, W) with its channels innermost in memory; the gradient comes back with them
    outermost.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        matrix, out = rows(x), x.new_empty(n * h * w, c)
        # a strip of channels at a time is several times faster than all at once
        for first in range(0, c, 16):
            out[:, first : first + 16] = matrix[first : first + 16].t()
        return out.view(n, h, w, c).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return channels_outermost(gradient.contiguous())  # in two steps, each faster than one


def channels_innermost(x: Tensor) -> Tensor:
    """x (N, C, H, W) as the CPU's depth-wise convolutions like it; itself, where its memory lies
    that way.
    """
    return x if x.is_contiguous(memory_format=torch.channels_last) else _ChannelsInnermost.apply(x)
