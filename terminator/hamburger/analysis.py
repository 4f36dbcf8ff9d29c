"""What a ham does, measured: parts of an image's features, errors per step, gradients, spectra,
spread, operations.

Everything here takes tensors and gives tensors or rows of a table; `probes` runs it and writes
records.

Source: arXiv 2109.04553; the probes of the module are ours.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.hamburger.decompositions import (
    Decomposition,
    cd,
    nmf,
    random_bases,
    reconstruct,
    vq,
)
from terminator.hamburger.ham import to_matrix
from terminator.hamburger.settings import KINDS

DIFFERENCE = 1e-6  # step of the finite differences, in float64


class HamChoice(NamedTuple):
    """One ham: kind (NMF, VQ, CD) and inverse temperature tau, which NMF does not have."""

    kind: str
    tau: float | None = None

    @property
    def title(self) -> str:
        return self.kind if self.tau is None else f"{self.kind}, tau {self.tau:g}"

    def decompose(
        self, x: Tensor, bases: Tensor, steps: int, one_step: bool = True, whole: bool = False
    ) -> Decomposition:
        """The decomposition of X (..., D, N);  whole: also the norm in VQ's last coefficients is
        differentiated.
        """
        if self.kind == "NMF":
            return nmf(x, bases, steps, one_step)
        if self.kind == "VQ":
            return vq(x, bases, steps, self._tau(), one_step, detach_norm=not whole)
        return cd(x, bases, steps, self._tau(), one_step=one_step)

    def first_bases(self, x: Tensor, rank: int, seed: int) -> Tensor:
        """U_0 (..., D, R) for X (..., D, N), from a seed of their own."""
        shape = (*x.shape[:-1], rank)
        return random_bases(
            self.kind, shape, torch.Generator().manual_seed(seed), x.device, x.dtype
        )

    def _tau(self) -> float:
        return 1.0 if self.tau is None else self.tau


NMF, VQ10, VQ100 = HamChoice("NMF"), HamChoice("VQ", 10.0), HamChoice("VQ", 100.0)
CD10, CD100 = HamChoice("CD", 10.0), HamChoice("CD", 100.0)
HAMS = (NMF, VQ10, VQ100, CD10, CD100)


def noisy_low_rank(
    seed: int, features: int = 32, columns: int = 256, rank: int = 8, noise: float = 0.5
) -> Tensor:
    """X >= 0 (D, N) in float64: non-negative rank-R data and noise of `noise` standard deviations,
    cut off at 0.

    The bases are positive parts of normal numbers, the coefficients their absolute values.
    """
    generator = torch.Generator().manual_seed(seed)
    bases, coefficients, error = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((features, rank), (columns, rank), (features, columns))
    )
    clean = bases.relu() @ coefficients.abs().mT
    return (clean + noise * clean.std() * error).relu()


# -- an image's features taken apart ---------------------------------------------------------------


class Parts(NamedTuple):
    """The features of one image and what a ham makes of them."""

    features: Tensor  # (C, H, W)
    bases: Tensor  # U_K (C, R), of length 1; the lengths are in the maps
    maps: Tensor  # V* (R, H, W): how much of each base is at each position
    reconstruction: Tensor  # (C, H, W)

    @property
    def error(self) -> float:
        """Relative squared error of the reconstruction."""
        return (
            (self.features - self.reconstruction).square().sum() / self.features.square().sum()
        ).item()


@torch.no_grad()
def parts(features: Tensor, ham: HamChoice, rank: int, steps: int = 6, seed: int = 0) -> Parts:
    """Decompose features (C, H, W), every column a position; the bases with the largest maps come
    first.

    Raises:
        ValueError: for features that are no (C, H, W), a rank above what they allow, or for NMF a
            negative one.
    """
    if features.ndim != 3:
        raise ValueError(f"the features have shape {tuple(features.shape)}; allowed: (C, H, W)")
    x = to_matrix(features[None])[0].double()
    found = ham.decompose(x, ham.first_bases(x, rank, seed), steps)
    lengths = found.bases.norm(dim=0)
    bases, weights = found.bases / lengths.clamp(min=1e-12), found.coefficients * lengths
    order = weights.abs().sum(0).argsort(descending=True)
    return Parts(
        features,
        bases[:, order],
        weights[:, order].mT.unflatten(1, features.shape[1:]),
        reconstruct(*found).unflatten(1, features.shape[1:]),
    )


def patches(image: Tensor, size: int = 5) -> Tensor:
    """The size x size neighbourhood of every pixel as its features: image (C, H, W) to (C * size^2,
    H, W).
    """
    padded = F.pad(image[None], [size // 2] * 4, mode="replicate")
    return F.unfold(padded, size).unflatten(2, image.shape[1:])[0]


# -- errors per step -------------------------------------------------------------------------------


@torch.no_grad()
def relative_error(x: Tensor, found: Decomposition) -> Tensor:
    """||X - U V^T||^2 / ||X||^2 of X (..., D, N): (...)."""
    return (x - reconstruct(*found)).square().sum((-2, -1)) / x.square().sum((-2, -1))


@torch.no_grad()
def svd_floor(x: Tensor, rank: int) -> Tensor:
    """The least relative squared error that any decomposition of this rank has, by the truncated
    SVD: (...).
    """
    energy = torch.linalg.svdvals(x).square()
    return energy[..., rank:].sum(-1) / energy.sum(-1)


def error_table(
    x: Tensor, rank: int, steps: Sequence[int], hams: Iterable[HamChoice] = HAMS, seed: int = 0
) -> pd.DataFrame:
    """Relative squared errors of X (S, D, N) by ham and number of steps, mean over S, beside the
    floor.

    `start` is the error of the first bases with the first coefficients (softmax of X^T U_0), the
    same in every ham; K = 0 already has the last coefficients computed once.

    Returns:
        columns ham, rank, steps (-1: the start), error, floor.
    """
    rows, floor = [], svd_floor(x, rank).mean().item()
    for ham in hams:
        bases = ham.first_bases(x, rank, seed)
        start = Decomposition(bases, (x.mT @ bases).softmax(-1))
        found = {-1: start} | {k: ham.decompose(x, bases, k) for k in steps}
        rows += [
            {
                "ham": ham.title,
                "rank": rank,
                "steps": k,
                "error": relative_error(x, part).mean().item(),
                "floor": floor,
            }
            for k, part in found.items()
        ]
    return pd.DataFrame(rows)


# -- gradients -------------------------------------------------------------------------------------


class Gradients(NamedTuple):
    """d sum(X_bar * G) / dX of one X (D, N) and one G, two ways, and how both fare against finite
    differences.
    """

    one_step: Tensor
    full: Tensor  # through all steps
    one_step_off: (
        float  # |slope along a random direction - finite difference| / |finite difference|
    )
    full_off: float


def gradients(
    x: Tensor, upstream: Tensor, ham: HamChoice, rank: int, steps: int, seed: int = 0
) -> Gradients:
    """Both gradients of a ham at X, its first bases held constant.

    Finite differences are those of the whole map, so that of VQ is compared with the norm in its
    last coefficients differentiated too. The direction only moves entries of X that are not 0,
    where NMF's map has a kink.
    """
    bases = ham.first_bases(x, rank, seed)

    def value(at: Tensor, one_step: bool, whole: bool) -> Tensor:
        return (reconstruct(*ham.decompose(at, bases, steps, one_step, whole)) * upstream).sum()

    def gradient(one_step: bool, whole: bool = False) -> Tensor:
        at = x.clone().requires_grad_()
        return torch.autograd.grad(value(at, one_step, whole), at)[0]

    generator = torch.Generator().manual_seed(seed + 1)
    direction = torch.randn(x.shape, generator=generator, dtype=x.dtype) * (x > 10 * DIFFERENCE)
    direction = direction / direction.norm()
    with torch.no_grad():
        ahead, behind = (value(x + sign * DIFFERENCE * direction, True, True) for sign in (1, -1))
    slope = ((ahead - behind) / (2 * DIFFERENCE)).item()
    off = [
        abs((gradient(one_step, whole=True) * direction).sum().item() - slope)
        / max(abs(slope), 1e-12)
        for one_step in (True, False)
    ]
    return Gradients(gradient(True), gradient(False), *off)


GRADIENT_CASES = (
    *((NMF, steps) for steps in (1, 6, 20)),
    (CD10, 6),
    (CD100, 6),
    (VQ100, 6),
    (VQ10, 6),
)


def gradient_table(
    seeds: int = 12,
    rank: int = 8,
    cases: Iterable[tuple[HamChoice, int]] = GRADIENT_CASES,
    make: Callable[[int], Tensor] = noisy_low_rank,
) -> pd.DataFrame:
    """||dL/dX|| / ||G|| for random G, one-step and through all steps, over seeds.

    Returns:
        columns ham, steps, one_step, one_step_max, full, full_max, cosine (medians and maxima over
        the seeds), one_step_off, full_off (medians of the relative difference to finite
        differences).
    """
    rows = []
    for ham, steps in cases:
        found = []
        for seed in range(seeds):
            x = make(seed)
            upstream = torch.randn(
                x.shape, generator=torch.Generator().manual_seed(1000 + seed), dtype=x.dtype
            )
            g = gradients(x, upstream, ham, rank, steps, seed)
            one, full = g.one_step.flatten(), g.full.flatten()
            found.append(
                [
                    one.norm() / upstream.norm(),
                    full.norm() / upstream.norm(),
                    torch.cosine_similarity(one, full, 0),
                    g.one_step_off,
                    g.full_off,
                ]
            )
        values = torch.tensor(found, dtype=torch.float64)
        median, largest = values.quantile(0.5, 0), values.amax(0)
        rows.append(
            {
                "ham": ham.title,
                "steps": steps,
                "one_step": median[0].item(),
                "one_step_max": largest[0].item(),
                "full": median[1].item(),
                "full_max": largest[1].item(),
                "cosine": median[2].item(),
                "one_step_off": median[3].item(),
                "full_off": median[4].item(),
            }
        )
    return pd.DataFrame(rows)


# -- spectra and spread ----------------------------------------------------------------------------


@torch.no_grad()
def cumulative_energy(features: Tensor) -> Tensor:
    """Share of the energy in the leading singular values of features (B, C, *positions): (min(C,
    P),), mean over B.
    """
    energy = torch.linalg.svdvals(to_matrix(features).double()).square()  # (B, min(C, P))
    return (energy.cumsum(-1) / energy.sum(-1, keepdim=True)).mean(0)


@torch.no_grad()
def spread(outputs: Tensor) -> float:
    """Root mean square deviation of outputs (draws, ...) from their mean over the draws, relative
    to that mean.
    """
    mean = outputs.mean(0, keepdim=True)
    return (
        ((outputs - mean).square().sum(tuple(range(1, outputs.ndim))).mean() / mean.square().sum())
        .sqrt()
        .item()
    )


@torch.no_grad()
def spread_table(
    x: Tensor,
    rank: int,
    steps: Sequence[int],
    draws: int = 16,
    hams: Iterable[HamChoice] = (NMF, VQ100, CD100, CD10),
) -> pd.DataFrame:
    """How much the reconstruction of X (D, N) depends on the first bases: columns ham, steps,
    spread.
    """
    rows = []
    for ham in hams:
        # (draws, D, R)
        first = torch.stack([ham.first_bases(x, rank, seed) for seed in range(draws)])
        for k in steps:
            found = reconstruct(*ham.decompose(x.expand(draws, *x.shape), first, k))
            rows.append({"ham": ham.title, "steps": k, "spread": spread(found)})
    return pd.DataFrame(rows)


# -- operations ------------------------------------------------------------------------------------


def ham_operations(
    kind: str, positions: int, width: int, rank: int, steps: int = 6, channels: int = 0
) -> int:
    """Multiply-accumulates of a ham on (width, positions), and of its two linear maps from
    `channels`, if any.

    Raises:
        ValueError: for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    d, r, n = width, rank, positions
    start = d * r * n  # X^T U_0
    step = 2 * d * r * n + (2 * r * r * n + 2 * d * r * r if kind == "NMF" else 0)
    last = d * r * n + (0 if kind == "VQ" else r * r * n + d * r * r)
    return 2 * channels * d * n + start + steps * step + last + d * r * n


def attention_operations(positions: int, width: int, maps: int = 4) -> int:
    """Multiply-accumulates of softmax attention: its linear maps of width x width, and two products
    of N x N x d.
    """
    return maps * width * width * positions + 2 * positions * positions * width
