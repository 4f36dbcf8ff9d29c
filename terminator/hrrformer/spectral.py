"""Hrrformer's attention without a transform of its tokens: in frequencies from map to map.

A transform is linear, so that it is folded into the maps before and after: the transformed rows of
their weights give spectra at once, and take them back. What lies between, products over
frequencies and inner products (Parseval: <a, b> = sum_f w_f Re(A_f conj(B_f))), needs no transform,
and neither do its gradients. Queries and keys are kept as conjugates, then no gradient needs one.

    M = sum_t V_t conj(K_t);   P = w conj(M);   n_t = Re sum_f P V_t Q_t = <v_t, r_t>;
    a_t = n_t / (|v_t| |r_t|), |r_t|^2 = sum_f w |M|^2 |Q_t|^2;   softmax over T;   y_t = w_t V_t

Between the passes nothing is kept but the spectra and a few numbers per token; all else is made
again, some tokens at a time, so that it stays in a cache.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from terminator.hrrformer.algebra import EPS, spectrum

# a masked token's score; finite, so that a row of nothing but padding has uniform weights
MASKED = -1e9
CACHED = 2**17  # numbers of a spectrum that are worked on at once, on a CPU


def attention_weights(score: Tensor, scale: Tensor | None, mask: Tensor | None) -> Tensor:
    """The softmax over T of scores (B, T, h): times a scale (h,), where mask (B, T) is true."""
    if scale is not None:
        score = score * scale
    if mask is not None:
        # the release adds it: the same, once rounded
        score = score.masked_fill(~mask[:, :, None], MASKED)
    return score.softmax(1)


def spectral_rows(weight: Tensor, heads: int, conjugate: bool = False) -> Tensor:
    """The weight (E, *inputs) of a map whose outputs are half spectra of its heads' vectors.

    Returns:
        (h (D // 2 + 1) 2, *inputs): real and imaginary parts in turn.
    """
    parts = spectrum(weight.unflatten(0, (heads, -1)).movedim(1, -1))  # (h, *inputs, F)
    parts = torch.view_as_real(parts.conj().resolve_conj() if conjugate else parts)
    return parts.movedim((-2, -1), (1, 2)).flatten(0, 2).to(weight.dtype)


def spectral_columns(weight: Tensor, heads: int) -> Tensor:
    """The weight (outputs, E) of a map that takes half spectra: (outputs, h (D // 2 + 1) 2)."""
    parts = torch.view_as_real(spectrum(weight.unflatten(1, (heads, -1))))  # (outputs, h, F, 2)
    width = weight.shape[1] // heads
    return (parts * frequency_weights(width, parts)[:, None]).flatten(1).to(weight.dtype)


def frequency_weights(width: int, like: Tensor) -> Tensor:
    """w (D // 2 + 1,) of inner products in half spectra: 2 / D, or 1 / D without a pair."""
    weights = torch.full((width // 2 + 1,), 2 / width, dtype=like.dtype, device=like.device)
    weights[0] = 1 / width
    if width % 2 == 0:
        weights[-1] = 1 / width
    return weights


def _pairs(x: Tensor) -> Tensor:
    """Complex (..., F) as real (..., F 2)."""
    return torch.view_as_real(x).flatten(-2)


def _doubled(x: Tensor) -> Tensor:
    """Real (..., F) as (..., F 2), each number twice."""
    return x.repeat_interleave(2, -1)


class SpectralAttention(torch.autograd.Function):
    """Spectra (B, T, 3, h, F) of conjugate queries and keys and of values, to weighted values (B,
    T, h, F).

    Args:
        width: D.
        scale: of the cosines (h,), or None.
        mask: (B, T), true for real tokens, or None.
        kept: (B, T), the tokens in the superposition, or None for all.
    """

    @staticmethod
    def forward(
        ctx: Any,
        spectra: Tensor,
        width: int,
        scale: Tensor | None,
        mask: Tensor | None,
        kept: Tensor | None,
    ) -> Tensor:
        query, key, value = spectra.unbind(2)
        parts = _parts(spectra)
        frequencies = frequency_weights(width, spectra.real)
        memory = spectra.new_zeros(len(spectra), 1, *spectra.shape[3:])  # M (B, 1, h, F)
        for part in parts:
            held = value[:, part] if kept is None else value[:, part] * kept[:, part, None, None]
            memory += (held * key[:, part].conj()).sum(1, keepdim=True)
        asked = memory.conj().resolve_conj() * frequencies  # P
        energy = _doubled(memory.abs().square() * frequencies)
        numbers = energy.new_empty(3, *spectra.shape[:2], spectra.shape[3])  # n, |v|^2, |r|^2
        for part in parts:
            q, v = query[:, part], value[:, part]
            torch.sum(_pairs(v * asked).mul_(_pairs(q)), -1, out=numbers[0, :, part])
            square = _pairs(v).square()
            torch.sum(square.mul_(_doubled(frequencies)), -1, out=numbers[1, :, part])
            torch.sum(_pairs(q).square().mul_(energy), -1, out=numbers[2, :, part])
        length = numbers[1:].sqrt_().clamp_min_(EPS)  # as cosine_similarity has it
        cosine = numbers[0] / length.prod(0)
        weight = attention_weights(cosine, scale, mask)  # (B, T, h)
        ctx.save_for_backward(spectra, memory, cosine, length, weight, scale, mask, kept)
        ctx.width = width
        return value * weight[..., None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        spectra, memory, cosine, length, weight, scale, mask, kept = ctx.saved_tensors
        value, parts = spectra[:, :, 2], _parts(spectra)
        of_weight = torch.empty_like(weight)
        for part in parts:
            product = _pairs(gradient[:, part]) * _pairs(value[:, part])
            torch.sum(product, -1, out=of_weight[:, part])
        of_score = weight * (of_weight - (of_weight * weight).sum(1, keepdim=True))
        if mask is not None:
            of_score = of_score * mask[:, :, None]
        of_scale = None if scale is None else (of_score * cosine).sum((0, 1))
        of_cosine = of_score if scale is None else of_score * scale
        outer = torch.stack(  # of n, and of half of |v|^2 and |r|^2
            [of_cosine / length.prod(0), *(-of_cosine * cosine / length.square())]
        )[..., None]
        frequencies = frequency_weights(ctx.width, spectra.real)
        out = torch.empty_like(spectra)
        _input_gradients(out, spectra, gradient, memory, outer, weight, kept, frequencies)
        return out, None, of_scale, None, None


def _parts(spectra: Tensor) -> list[slice]:
    """The tokens that are worked on at once: on a CPU few enough for its cache, elsewhere all."""
    length = spectra.shape[1]
    size = max(1, CACHED // (2 * len(spectra) * spectra.shape[3] * spectra.shape[4]))
    size = size if spectra.device.type == "cpu" else length
    return [slice(start, start + size) for start in range(0, length, size)]


def _input_gradients(
    out: Tensor,
    spectra: Tensor,
    gradient: Tensor,
    memory: Tensor,
    outer: Tensor,
    weight: Tensor,
    kept: Tensor | None,
    frequencies: Tensor,
) -> None:
    """Write to `out` the gradient of the spectra.

    Args:
        gradient: of the weighted values.
        outer: (3, B, T, h, 1), gradients of n and of half of |v|^2 and |r|^2.
    """
    (query, key, value), parts = spectra.unbind(2), _parts(spectra)
    of_n, of_value, of_answer = outer
    of_memory, of_energy = torch.zeros_like(memory), torch.zeros_like(memory.real)
    for part in parts:
        q, v = query[:, part], value[:, part]
        of_memory += (v * of_n[:, part]).mul_(q.conj()).sum(1, keepdim=True)
        square = torch.view_as_real(q).square().sum(-1)
        of_energy += (square * of_answer[:, part]).sum(1, keepdim=True)
    of_memory = (of_memory + of_energy * memory) * frequencies
    conjugate = of_memory.conj().resolve_conj()
    weighted = memory * frequencies
    asked, energy = weighted.conj().resolve_conj(), memory.abs().square() * frequencies
    for part in parts:
        q, k, v = query[:, part], key[:, part], value[:, part]
        of_q, of_k, of_v = out[:, part].unbind(2)
        torch.mul(v, asked, out=of_q)
        of_q.mul_(of_n[:, part]).add_((q * energy).mul_(of_answer[:, part]))
        torch.mul(v, conjugate, out=of_k)
        torch.mul(k, of_memory, out=of_v)
        if kept is not None:
            of_k.mul_(kept[:, part, None, None])
            of_v.mul_(kept[:, part, None, None])
        of_v.add_((q * weighted).mul_(of_n[:, part]))
        of_v.add_((v * frequencies).mul_(of_value[:, part]))
        of_v.add_(gradient[:, part] * weight[:, part, :, None])
