"""The HyperZ.Z.W operator: hyper-kernels W meet activations Z, twice.

(1) S = W * Z, the context-dependent hyper-kernel, also the pixel-level slow score;
(2) S is applied to (a transform of) Z as a fast weight.

Source: arXiv 2401.17948.  Golden: terminator_hyperzzw_global, terminator_hyper_channel.
"""

import math

import torch
from torch import Tensor

from terminator.config import OPERATORS
from terminator.ops import plain
from terminator.ops.depthwise import DepthwiseConvolution, channels_innermost, convolve


def slow_score(z: Tensor, hyper_kernel: Tensor) -> Tensor:
    """Pixel-level slow score S = W * Z: z (N, C, *positions), hyper_kernel (1, C, *positions) to
    (N, C, ...).
    """
    return z * hyper_kernel.to(z.dtype)


def matrix_operator(score: Tensor, value: Tensor) -> Tensor:
    """Use the slow score as a fast weight: out[n, c] = S[n, c] @ T[n, c], a matrix product of
    square maps.

    Args:
        score, value: both (N, C, H, H), or both (N, C, L) with L = n * n, folded row by row to n x
            n.

    Returns:
        the shape of `value`; row i mixes all rows of `value`.

    Raises:
        ValueError: if the shapes differ, a map is not square or a length is no square number.
    """
    if score.shape != value.shape:
        raise ValueError(
            f"matrix_operator needs two equal shapes, got {tuple(score.shape)}, "
            f"{tuple(value.shape)}"
        )
    if score.ndim == 4:
        if score.shape[-1] != score.shape[-2]:
            raise ValueError(
                f"matrix_operator needs square maps, got {tuple(score.shape[-2:])}: crop, pad or "
                "resize the images to squares"
            )
        return (score.transpose(0, 1) @ value.transpose(0, 1)).transpose(0, 1)  # (N, C, H, H)
    side = math.isqrt(score.shape[-1])
    if side * side != score.shape[-1]:
        raise ValueError(
            f"matrix_operator needs a length that is a square number, got {score.shape[-1]}: "
            'pad the sequence, or use operator="convolution"'
        )
    folded = (*score.shape[:-1], side, side)
    return matrix_operator(score.reshape(folded), value.reshape(folded)).flatten(2)  # (N, C, L)


def convolution_operator(score: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Use the slow score as a global kernel: out[n, c] = S[n, c] (*) T[n, c], by FFT in O(P log P).

    Args:
        score, value: both (N, C, *positions), one or two axes of positions.
        causal: linear convolution cut to the past (sequences only) instead of a circular one.

    Returns:
        the shape of `value`; transforms run in float32 or wider.

    Raises:
        ValueError: if the shapes differ, or for a causal product of images.
    """
    if score.shape != value.shape:
        raise ValueError(
            f"convolution_operator needs two equal shapes, got {tuple(score.shape)}, "
            f"{tuple(value.shape)}"
        )
    sizes = value.shape[2:]
    if causal and len(sizes) != 1:
        raise ValueError(
            f"a causal convolution needs sequences (N, C, L), got {tuple(value.shape)}"
        )
    axes = list(range(2, value.ndim))
    padded = [2 * size for size in sizes] if causal else list(sizes)
    wide = torch.promote_types(value.dtype, torch.float32)
    # transforms have no half precision on every device
    with torch.autocast(value.device.type, enabled=False):
        spectrum = torch.fft.rfftn(score.to(wide), padded, axes) * torch.fft.rfftn(
            value.to(wide), padded, axes
        )
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


def local_operator(x: Tensor, kernel: Tensor) -> Tensor:
    """Depth-wise convolution of x (N, C, *positions) with kernel (C, 1, k[, k]), k odd; same size
    out.
    """
    if x.ndim == 3:  # as images of height 1, for which the CPU has the better kernels
        return local_operator(x[:, :, None], kernel[:, :, None])[:, :, 0]
    kernel = kernel.to(x.dtype)
    if x.device.type == "cpu" and not plain.is_wanted():
        return DepthwiseConvolution.apply(channels_innermost(x), kernel)
    return convolve(x, kernel)
