"""The three hams as plain functions: X (D, N) is about U V^T, bases U (D, R) times coefficients V
(N, R).

Each runs `steps` updates, first V then U, and computes V once more at the end: bases are updated K
times, coefficients K + 1 times. With the *one-step gradient* only that last computation is
differentiated, and gradients reach X through it alone; otherwise through all K steps. Nothing ever
reaches the first bases.

Inside, bases and coefficients stand transposed, (R, D) and (R, N): both products with X, U^T X and
V^T X^T, then have the form that BLAS is fastest at, and columns are scaled after a product, so that
no second X is made.

All of it runs in float32 or wider, also under mixed precision: the small constants and products of
small numbers do not survive half precision.

Source: arXiv 2109.04553 and its released code.  Golden: hamburger_nmf, hamburger_vq, hamburger_cd.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.hamburger.settings import KINDS
from terminator.runtime.memory import can_be_read

EPS = 1e-6  # in the denominators of the updates, and least norm of a base
NORM_EPS = 1e-12  # least norm of a column of X, and of a base that is drawn


class Decomposition(NamedTuple):
    """X is about bases @ coefficients.mT."""

    bases: Tensor  # U (..., D, R)
    coefficients: Tensor  # V (..., N, R)


def in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a function of two tensors in their wider type, float32 at least, whatever autocast
    says.
    """

    @functools.wraps(function)
    def run(first: Tensor, second: Tensor, *args: Any, **options: Any) -> Any:
        wide = functools.reduce(torch.promote_types, (first.dtype, second.dtype, torch.float32))
        with torch.autocast(first.device.type, enabled=False):
            return function(first.to(wide), second.to(wide), *args, **options)

    return run


def gradients(attached: bool) -> torch.set_grad_enabled:
    """Whether the steps within are differentiated; never more than was asked for outside."""
    return torch.set_grad_enabled(attached and torch.is_grad_enabled())


def _rows(x: Tensor, bases: Tensor) -> tuple[Tensor, Tensor]:
    """X (B, D, N), all leading axes as one, and first bases (B, R, D), which nothing reaches."""
    return x.reshape(-1, *x.shape[-2:]), bases.detach().reshape(-1, *bases.shape[-2:]).mT


def _found(x: Tensor, u: Tensor, v: Tensor) -> Decomposition:
    """Bases (B, R, D) and coefficients (B, R, N) with the leading axes of X."""
    return Decomposition(*(part.mT.reshape(*x.shape[:-2], *part.mT.shape[1:]) for part in (u, v)))


@in_full_precision
def nmf(x: Tensor, bases: Tensor, steps: int = 6, one_step: bool = True) -> Decomposition:
    """Non-negative matrix factorisation by multiplicative updates: ||X - U V^T||^2 falls with every
    step.

    Args:
        x: X >= 0 (..., D, N).
        bases: U_0 >= 0 (..., D, R), R at most min(D, N).
        steps: K.
        one_step: differentiate the last coefficients only, not the steps before.

    Returns:
        Decomposition, both parts non-negative, bases of any length. A column of zeros stays zero.

    Raises:
        ValueError: for shapes that do not fit, R or K out of range, or (on a CPU) a negative entry.

    Source: arXiv 2109.04553; the updates are Lee and Seung's.
    Golden: hamburger_nmf.
    """
    _check(x, bases, steps)
    _check_non_negative(x=x, bases=bases)
    columns, u = _rows(x, bases)  # (B, D, N), (B, R, D)
    with gradients(attached=not one_step):
        product = torch.bmm(u, columns)  # U^T X (B, R, N)
        v = product.softmax(1)  # V_0
        for left in range(steps, 0, -1):
            v = _multiplied(v, u, product)
            u = _multiplied(u, v, torch.bmm(v, columns.mT))
            if left > 1:
                product = torch.bmm(u, columns)
    return _found(x, u, _multiplied(v, u, torch.bmm(u, columns)))


def _multiplied(part: Tensor, other: Tensor, product: Tensor) -> Tensor:
    """One factor (B, R, N) updated, from the other (B, R, D) and its product with X (B, R, N)."""
    return part * product / (torch.bmm(torch.bmm(other, other.mT), part) + EPS)


@in_full_precision
def vq(
    x: Tensor,
    bases: Tensor,
    steps: int = 6,
    inverse_temperature: float = 1.0,
    one_step: bool = True,
    detach_norm: bool = True,
) -> Decomposition:
    """Soft vector quantisation: every column of X becomes a convex combination of centroids U.

    Args:
        x: X (..., D, N).
        bases: U_0 (..., D, R), R at most min(D, N).
        steps: K.
        inverse_temperature: tau > 0; the larger, the nearer to one centroid each.
        one_step: differentiate the last coefficients only, not the steps before.
        detach_norm: take ||x_n|| in the last coefficients for a constant, as released; only with
            False is the gradient through all steps that of the whole map.

    Returns:
        Decomposition; every row of V sums to 1.

    Raises:
        ValueError: for shapes that do not fit, R, K or tau out of range.

    Source: arXiv 2109.04553.
    Golden: hamburger_vq.
    """
    _check(x, bases, steps, inverse_temperature=inverse_temperature)
    columns, u = _rows(x, bases)
    with gradients(attached=not one_step):
        length = columns.norm(dim=1, keepdim=True)  # (B, 1, N)
        sharpness = inverse_temperature / length.clamp_min(NORM_EPS)
        for _ in range(steps):
            v = memberships(columns, F.normalize(u, dim=-1, eps=EPS), sharpness)
            u = torch.bmm(v, columns.mT)  # means of the columns, weighted by their memberships
    if detach_norm:
        length = length.detach()
    elif one_step:
        length = columns.norm(dim=1, keepdim=True)
    cosines = torch.bmm(F.normalize(u, dim=-1, eps=EPS), columns) / (EPS + length)
    return _found(x, u, (inverse_temperature * cosines).softmax(1))


@in_full_precision
def cd(
    x: Tensor,
    bases: Tensor,
    steps: int = 6,
    inverse_temperature: float = 1.0,
    ridge: float = 0.1,
    one_step: bool = True,
) -> Decomposition:
    """Concept decomposition: spherical k-means finds U, ridge regression V = X^T U (U^T U + beta
    I)^-1.

    Args:
        x: X (..., D, N).
        bases: U_0 (..., D, R), R at most min(D, N).
        steps: K.
        inverse_temperature: tau > 0 of the k-means.
        ridge: beta > 0.
        one_step: differentiate the last coefficients only, not the steps before.

    Returns:
        Decomposition, bases of length 1; with them held constant U V^T is linear in X.

    Raises:
        ValueError: for shapes that do not fit, R, K, tau or beta out of range.

    Source: arXiv 2109.04553; beta is 0.1 in the released segmentation, 0.01 in its GAN.
    Golden: hamburger_cd.
    """
    _check(x, bases, steps, inverse_temperature=inverse_temperature, ridge=ridge)
    columns, u = _rows(x, bases)
    with gradients(attached=not one_step):
        length = columns.norm(dim=1, keepdim=True)
        sharpness = inverse_temperature / length.clamp_min(NORM_EPS)
        for _ in range(steps):
            v = memberships(columns, u, sharpness)
            u = F.normalize(torch.bmm(v, columns.mT), dim=-1, eps=EPS)
    eye = torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
    gram = torch.bmm(u, u.mT) + ridge * eye  # (B, R, R), symmetric
    return _found(x, u, torch.linalg.solve(gram, torch.bmm(u, columns)))


def memberships(x: Tensor, bases: Tensor, sharpness: Tensor) -> Tensor:
    """V (B, R, N): softmax over R of x_n . u_r times the column's sharpness, then every base's row
    divided by its sum over N.

    Args:
        x: X (B, D, N).
        bases: (B, R, D).
        sharpness: (B, 1, N), tau / ||x_n||.
    """
    v = (torch.bmm(bases, x) * sharpness).softmax(1)
    return v / (EPS + v.sum(-1, keepdim=True))


def unit(x: Tensor, eps: float = NORM_EPS) -> Tensor:
    """Every column of x (..., D, N) divided by its length over D, at least eps."""
    return F.normalize(x, dim=-2, eps=eps)


@in_full_precision
def reconstruct(bases: Tensor, coefficients: Tensor) -> Tensor:
    """X_bar = U V^T: (..., D, R) and (..., N, R) to (..., D, N), of rank R at most."""
    return bases @ coefficients.mT


def random_bases(
    kind: str,
    shape: tuple[int, ...],
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    normalized: bool = True,
) -> Tensor:
    """Draw U_0 (..., D, R): uniform in [0, 1) for NMF, standard normal for VQ and CD; then of
    length 1.

    Args:
        generator: where the numbers come from, on its own device, so that one seed gives the same
            bases on every device and in every precision; without one, torch's own generator of
            `device`.
        normalized: False leaves the lengths as drawn (the released GAN does so).

    Raises:
        ValueError: for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    draw = torch.rand if kind == "NMF" else torch.randn
    bases = draw(
        shape, generator=generator, device=device if generator is None else generator.device
    )
    bases = bases.to(device=device, dtype=dtype)
    return unit(bases) if normalized else bases


@torch.no_grad()
def online_update(shared: Tensor, bases: Tensor, eta: float = 0.9) -> Tensor:
    """Move shared bases m towards the mean u of a batch's final ones: m + eta (u - m), then of
    length 1.

    Args:
        shared: m (S, D, R).
        bases: U_K (B*S, D, R), heads innermost.
        eta: weight of the *new* value.

    Returns:
        the new m (S, D, R).

    Source: released code.
    Golden: hamburger_cd.
    """
    mean = bases.reshape(-1, *shared.shape).mean(0)  # (S, D, R)
    return unit(shared + eta * (mean - shared))


def _check(x: Tensor, bases: Tensor, steps: int, **positive: float) -> None:
    if x.ndim < 2 or bases.ndim != x.ndim or bases.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"bases has shape {tuple(bases.shape)}, x {tuple(x.shape)}; allowed: x (..., D, N) "
            "with bases (..., D, R), alike in all axes but the last"
        )
    rank, most = bases.shape[-1], min(x.shape[-2:])
    if not 1 <= rank <= most:
        raise ValueError(
            f"the rank R of bases is {rank}; allowed: 1 to {most}, the smaller side of x (D, N) = "
            f"{tuple(x.shape[-2:])}: more bases would not compress anything"
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps is {steps!r}; allowed: an integer of at least 0")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; allowed: a positive number")


def _check_non_negative(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.numel() and can_be_read(tensor) and (least := tensor.detach().amin().item()) < 0:
            raise ValueError(
                f"{name} has an entry of {least:g}; allowed: nothing below 0 in an NMF (put a ReLU "
                "before it)"
            )
