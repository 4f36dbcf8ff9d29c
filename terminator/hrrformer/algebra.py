"""Holographic reduced representations: vectors of R^D that bind, add up and unbind.

F is the Fourier transform along the last axis. Binding is circular convolution, x * y = F^-1(F x .
F y): commutative, associative, distributive over +, with the identity (1, 0, ..., 0). A
superposition is a plain sum of bound pairs; unbinding it with one key gives that key's value plus
noise: with n pairs of random vectors the expected cosine to the value is 1/sqrt(n) (projected) or
1/sqrt(n + 1) (raw).

Transforms run in float32 or wider, also under mixed precision, and results have the dtype that went
in.

Source: arXiv 2305.19534; the projection is from arXiv 2109.02157.
Golden: hrrformer_hrr_ops_even, hrrformer_hrr_ops_odd.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.layers import widened

EPS = 1e-8  # of the norms in a cosine


def spectrum(x: Tensor) -> Tensor:
    """Half spectrum of real x (..., D): complex (..., D // 2 + 1), single precision or wider."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.fft.rfft(widened(x))


def from_spectrum(half_spectrum: Tensor, width: int) -> Tensor:
    """The real vectors (..., D) of half spectra; `width` is D, without which odd D would lose a
    sample.
    """
    with torch.autocast(half_spectrum.device.type, enabled=False):
        return torch.fft.irfft(half_spectrum, n=width)


def bind(x: Tensor, y: Tensor) -> Tensor:
    """Circular convolution x * y: (x * y)_i = sum_j x_j y_(i - j mod D), along the last axis.

    Args:
        x, y: real (..., D), leading axes broadcast.

    Returns:
        (..., D).

    Raises:
        ValueError: if the last axes differ.
    """
    _check_widths("bind", x, y)
    product = spectrum(x) * spectrum(y)
    return from_spectrum(product, x.shape[-1]).to(torch.promote_types(x.dtype, y.dtype))


def approximate_inverse(y: Tensor) -> Tensor:
    """The involution y'_0 = y_0, y'_i = y_(D - i); F(y') is the complex conjugate of F y."""
    return y.flip(-1).roll(1, -1)


def exact_inverse(y: Tensor) -> Tensor:
    """F^-1(1 / F y), huge where a frequency is near zero; a frequency that is exactly zero stays
    zero.
    """
    return from_spectrum(reciprocal(spectrum(y)), y.shape[-1]).to(y.dtype)


def unbind(bound: Tensor, y: Tensor, exact: bool = False) -> Tensor:
    """bound (#) y: bind with an inverse of y; the approximate one gives circular correlation, as
    released.

    Args:
        bound, y: real (..., D), leading axes broadcast.
        exact: use the exact inverse.

    Returns:
        (..., D); with the exact inverse, unbind(bind(x, y), y) is x.

    Raises:
        ValueError: if the last axes differ.
    """
    _check_widths("unbind", bound, y)
    out = unbound_spectrum(spectrum(bound), spectrum(y), exact)
    return from_spectrum(out, y.shape[-1]).to(torch.promote_types(bound.dtype, y.dtype))


def unbound_spectrum(bound: Tensor, y: Tensor, exact: bool = False) -> Tensor:
    """Unbinding of half spectra: F b . conj(F y), or F b / F y."""
    return bound * (reciprocal(y) if exact else y.conj())


def reciprocal(values: Tensor) -> Tensor:
    """1 / values, element by element, and 0 where a value is 0; gradients stay finite there."""
    is_zero = values == 0
    return torch.where(is_zero, 0, 1 / torch.where(is_zero, 1, values))


def project(x: Tensor) -> Tensor:
    """F^-1(F x / |F x|): all frequencies get magnitude 1, so that both inverses of the result
    coincide.

    A frequency that is exactly zero stays zero. The released attention does not project.
    """
    frequencies = spectrum(x)
    return from_spectrum(frequencies * reciprocal(frequencies.abs()), x.shape[-1]).to(x.dtype)


def superpose(x: Tensor, y: Tensor) -> Tensor:
    """Sum of the bound pairs sum_t x_t * y_t: x, y (..., T, D) to (..., 1, D), one transform back
    in all.
    """
    _check_widths("superpose", x, y)
    total = (spectrum(x) * spectrum(y)).sum(-2, keepdim=True)
    return from_spectrum(total, x.shape[-1]).to(torch.promote_types(x.dtype, y.dtype))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> / (|a| |b|) along the last axis, which goes: (..., D) and (..., D) to (...), in [-1,
    1].

    Differs: norms are at least 1e-8, so a zero vector gives 0 where the release gives NaN.
    """
    return F.cosine_similarity(a, b, dim=-1, eps=EPS)


def random_vectors(count: int, width: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` normal vectors (count, width) with mean 0 and variance 1/width, as in the hrr
    package.
    """
    return torch.randn(count, width, generator=generator) / math.sqrt(width)


def _check_widths(what: str, x: Tensor, y: Tensor) -> None:
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"{what} needs vectors of one width, got shapes {tuple(x.shape)} and {tuple(y.shape)}"
        )
