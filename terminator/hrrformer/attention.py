"""The attention of Hrrformer: a superposition of all keys bound to their values, asked by every
query.

    beta = sum_t k_t * v_t;   r_t = beta (#) q_t;   a_t = cos(v_t, r_t);   w = softmax of a over T;
        y_t = w_t v_t

Values of different tokens are never averaged: tokens influence one another only through the scalars
w_t. A cosine lies in [-1, 1], so every w_t lies within a factor e^2 of 1/T.

Source: arXiv 2305.19534 and its released code.  Golden: hrrformer_attention_masked, _unmasked.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from terminator.hrrformer import algebra
from terminator.hrrformer.settings import TEMPERATURES, UNBINDINGS, WEIGHTS
from terminator.hrrformer.spectral import (
    SpectralAttention,
    attention_weights,
    spectral_columns,
    spectral_rows,
)
from terminator.layers import is_plain, widened
from terminator.mixers.base import check_heads, check_sequence, lecun_linear
from terminator.ops import plain
from terminator.ops.products import rows_map


class AttentionParts(NamedTuple):
    """Everything that one attention computes; h heads of width D. What an option left out is
    None.
    """

    output: Tensor  # (B, T, E)
    weight: Tensor  # w (B, h, T, 1), sums to 1 over T
    value: Tensor  # (B, h, T, D)
    query: Tensor | None = None  # (B, h, T, D)
    key: Tensor | None = None  # (B, h, T, D)
    superposition: Tensor | None = None  # beta (B, h, 1, D)
    retrieved: Tensor | None = None  # r (B, h, T, D)
    cosine: Tensor | None = None  # a (B, h, T, 1), before masking


class HolographicAttention(nn.Module):
    """Attention by holographic reduced representations, O(T E log D) time and O(T E) memory.

    Args:
        width: E.
        heads: h, which divides E; D = E / h may be odd.
        unbinding: "approximate" (released) or "exact", see algebra.unbind.
        projection: project queries, keys and values to unit magnitude first (released: no).
        mask_superposition: keep masked tokens out of beta too (released: they are in it).
        temperature: "one" (released) or "learned": a / exp(s), one s per head, from 0.
        weights: "softmax" (released), or a control: "uniform" (1/T, no queries and keys), "off"
            (output 0).
        bias: biases on the four maps (released: for EMBER only).

    Shapes: x (B, T, E) and mask (B, T), true for real tokens, to (B, T, E); with return_parts=True
        AttentionParts (not when "off").

    Raises:
        ValueError: for an unknown option, heads that do not divide, or inputs that do not fit.
    """

    uses_mask = True

    def __init__(
        self,
        width: int,
        heads: int,
        unbinding: str = "approximate",
        projection: bool = False,
        mask_superposition: bool = False,
        temperature: str = "one",
        weights: str = "softmax",
        bias: bool = False,
    ):
        super().__init__()
        check_heads(width, heads)
        for name, value, allowed in (
            ("unbinding", unbinding, UNBINDINGS),
            ("weights", weights, WEIGHTS),
            ("temperature", temperature, TEMPERATURES),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        self.width, self.heads, self.weights = width, heads, weights
        self.exact, self.projection, self.mask_superposition = (
            unbinding == "exact",
            projection,
            mask_superposition,
        )
        maps = {
            "softmax": ("query", "key", "value", "output"),
            "uniform": ("value", "output"),
            "off": (),
        }
        # no map without use: a control is not to count parameters it does not have
        for name in maps[weights]:
            setattr(self, name, lecun_linear(width, width, bias))
        learned = temperature == "learned" and weights == "softmax"
        self.log_temperature = nn.Parameter(torch.zeros(heads)) if learned else None

    @property
    def is_off(self) -> bool:
        """Whether this is the control without an attention branch."""
        return self.weights == "off"

    def forward(self, x: Tensor, mask: Tensor | None = None, return_parts: bool = False):
        mask = check_sequence(x, self.width, mask)
        if self.is_off:
            if return_parts:
                raise ValueError('weights is "off"; such an attention has no parts')
            return torch.zeros_like(x)
        if self._is_spectral and not (return_parts or torch.compiler.is_compiling()):
            return self._in_frequencies(x, mask)
        value = self._split(self.value(x))  # (B, T, h, D)
        if self.weights == "uniform":
            wide = torch.promote_types(value.dtype, torch.float32)
            asked, score = {}, torch.zeros(value.shape[:-1], dtype=wide, device=value.device)
        else:
            asked, value, score = self._ask(x, value, mask, return_parts)
        with torch.autocast(x.device.type, enabled=False):
            weight = attention_weights(score, self._scale, mask)[..., None]  # (B, T, h, 1)
            mixed = (weight * value).to(x.dtype)
        output = self.output(mixed.flatten(2))  # (B, T, E)
        if not return_parts:
            return output
        asked = {name: part.transpose(1, 2) for name, part in asked.items()}
        return AttentionParts(output, weight.transpose(1, 2), value.transpose(1, 2), **asked)

    @property
    def _is_spectral(self) -> bool:
        """Whether all is in frequencies: the released attention, which nobody looks into, and whose
        maps nobody has exchanged.
        """
        if self.weights != "softmax" or self.exact or self.projection or plain.is_wanted():
            return False
        maps = (self.query, self.key, self.value, self.output)
        return all(is_plain(layer, nn.Linear) for layer in maps)

    def _in_frequencies(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The output (B, T, E) by the same equations, see spectral."""
        maps = ((self.query, True), (self.key, True), (self.value, False))
        weight, bias = (
            torch.cat([spectral_rows(getattr(m, name), self.heads, c) for m, c in maps])
            if getattr(self.query, name) is not None
            else None
            for name in ("weight", "bias")
        )
        spectra = widened(rows_map(x, weight, bias))
        with torch.autocast(x.device.type, enabled=False):
            spectra = torch.view_as_complex(spectra.unflatten(-1, (3, self.heads, -1, 2)))
            mixed = SpectralAttention.apply(
                spectra,
                self.width // self.heads,
                self._scale,
                mask,
                mask if self.mask_superposition else None,
            )
            mixed = torch.view_as_real(mixed).flatten(2).to(x.dtype)
        weight = spectral_columns(self.output.weight, self.heads)
        return rows_map(mixed, weight, self.output.bias)

    def _split(self, x: Tensor) -> Tensor:
        # (B, T, h, D): heads stay in place, transforms need no copy
        return x.unflatten(-1, (self.heads, -1))

    def _ask(self, x: Tensor, value: Tensor, mask: Tensor | None, return_parts: bool):
        """All parts by name, (B, T, h, ...), the value (projected, if so chosen), and the cosines
        (B, T, h).
        """
        query, key = self._split(self.query(x)), self._split(self.key(x))
        with torch.autocast(x.device.type, enabled=False):
            query, key, value = (widened(part) for part in (query, key, value))
            if self.projection:
                query, key, value = (algebra.project(part) for part in (query, key, value))
            bound = algebra.spectrum(key) * algebra.spectrum(value)  # (B, T, h, D // 2 + 1)
            if mask is not None and self.mask_superposition:
                bound = bound * mask[:, :, None, None]
            # (B, 1, h, D // 2 + 1), stays in the Fourier domain
            memory = bound.sum(1, keepdim=True)
            answer = algebra.unbound_spectrum(memory, algebra.spectrum(query), self.exact)
            retrieved = algebra.from_spectrum(answer, value.shape[-1])  # (B, T, h, D)
            score = algebra.cosine(value, retrieved)  # (B, T, h)
            if not return_parts:
                return {}, value, score
            beta = algebra.from_spectrum(memory, value.shape[-1])
        return (
            {
                "query": query,
                "key": key,
                "superposition": beta,
                "retrieved": retrieved,
                "cosine": score[..., None],
            },
            value,
            score,
        )

    @property
    def _scale(self) -> Tensor | None:
        """Of the cosines (h,), exp(-s); None: one."""
        return None if self.log_temperature is None else torch.exp(-self.log_temperature)
