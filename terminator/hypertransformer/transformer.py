"""The Transformers that read a support set: post-norm, no positions, key, value and MLP sizes of
their own.

Source: arXiv 2201.04182 and its reference implementation.  Golden: hypertransformer_encoder.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hypertransformer.settings import HyperTransformerSettings

MASKED = 1e8  # taken off the attention logits of masked keys
LRELU_SLOPE = 0.1  # of the MLPs; the generated CNN's is 0.01
NORM_EPS = 1e-6


class Sizes(NamedTuple):
    """Entries of a token, of keys and queries, of values, and of the MLP's hidden layer (0: no
    MLP).
    """

    width: int
    key: int
    value: int
    inner: int


def sizes_of(settings: HyperTransformerSettings, width: int) -> Sizes:
    """The sizes for tokens of `width`."""
    names = ("lw_key_query_dim", "lw_value_dim", "lw_inner_dim")
    return Sizes(width, *(settings.dimension(name, width) for name in names))


def glorot_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map with Glorot-uniform weights, zero bias; torch's default has a third of the
    variance.
    """
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class Attention(nn.Module):
    """Multi-head attention: softmax(Q K^T / sqrt(key/h) - 1e8 mask) V, then a map back to the
    width.

    Args:
        sizes: of the asking tokens.
        heads: h.
        activation: softmax, or sigmoid of every logit.
        source_width: of the tokens that are attended to (nothing: the same).

    Shapes: x (..., T, D), source (..., U, D_source), key_mask (..., U) with 1 or true for masked
        keys, to (..., T, D); `maps`, if given, is a list that the weights (..., h, T, U) are
        appended to.
    """

    def __init__(
        self, sizes: Sizes, heads: int, activation: str = "softmax", source_width: int | None = None
    ):
        super().__init__()
        source_width = sizes.width if source_width is None else source_width
        self.heads, self.activation = heads, activation
        self.query = glorot_linear(sizes.width, sizes.key)
        self.key = glorot_linear(source_width, sizes.key)
        self.value = glorot_linear(source_width, sizes.value)
        self.out = glorot_linear(sizes.value, sizes.width)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        key_mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        query, key, value = (
            self._split(part) for part in (self.query(x), self.key(source), self.value(source))
        )
        logits = query @ key.mT / math.sqrt(query.shape[-1])  # (..., h, T, U)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if key_mask is not None:
            logits = logits - MASKED * key_mask[..., None, None, :].to(logits.dtype)
        weights = logits.softmax(-1) if self.activation == "softmax" else logits.sigmoid()
        if maps is not None:
            maps.append(weights.detach())
        mixed = weights.to(value.dtype) @ value  # (..., h, T, value / h)
        return self.out(mixed.transpose(-2, -3).flatten(-2))  # (..., T, D)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # (..., h, T, entries / h)


class MLP(nn.Module):
    """W2 act(W1 x + b1) + b2; act relu, gelu, lrelu with slope 0.1, or none."""

    def __init__(self, sizes: Sizes, nonlinearity: str):
        super().__init__()
        self.nonlinearity = nonlinearity
        self.ff1 = glorot_linear(sizes.width, sizes.inner)
        self.ff2 = glorot_linear(sizes.inner, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.ff1(x)
        if self.nonlinearity == "lrelu":
            hidden = F.leaky_relu(hidden, LRELU_SLOPE)
        elif self.nonlinearity != "none":
            hidden = {"relu": F.relu, "gelu": F.gelu}[self.nonlinearity](hidden)
        return self.ff2(hidden)


class EncoderLayer(nn.Module):
    """x1 = LN(x + att(x)); x2 = LN(x1 + MLP(x1)), the second only with an MLP."""

    def __init__(self, sizes: Sizes, settings: HyperTransformerSettings, nonlinearity: str):
        super().__init__()
        self.attention = Attention(sizes, settings.heads, settings.transformer_activation)
        self.norm1 = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.mlp = MLP(sizes, nonlinearity) if sizes.inner else None
        self.norm2 = nn.LayerNorm(sizes.width, eps=NORM_EPS) if sizes.inner else None
        self.dropout = nn.Dropout(settings.dropout_rate)

    def forward(
        self, x: Tensor, key_mask: Tensor | None = None, maps: list[Tensor] | None = None
    ) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, x, key_mask, maps)))
        return x if self.mlp is None else self.norm2(x + self.dropout(self.mlp(x)))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's output, MLP (always with relu), each with its
    norm.
    """

    def __init__(self, sizes: Sizes, settings: HyperTransformerSettings, source_width: int):
        super().__init__()
        kind = settings.transformer_activation
        self.attention = Attention(sizes, settings.heads, kind)
        self.cross_attention = Attention(sizes, settings.heads, kind, source_width)
        self.norm1 = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(sizes.width, eps=NORM_EPS)
        self.mlp = MLP(sizes, "relu") if sizes.inner else None
        self.norm3 = nn.LayerNorm(sizes.width, eps=NORM_EPS) if sizes.inner else None
        self.dropout = nn.Dropout(settings.dropout_rate)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        key_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        x = self.norm1(x + self.dropout(self.attention(x, x, key_mask)))
        x = self.norm2(x + self.dropout(self.cross_attention(x, source, source_mask, maps)))
        return x if self.mlp is None else self.norm3(x + self.dropout(self.mlp(x)))


class Encoder(nn.Module):
    """Encoder layers over x (..., T, D), with key_mask (..., T); `maps` collects their
    attention.
    """

    def __init__(self, sizes: Sizes, settings: HyperTransformerSettings):
        super().__init__()
        kinds = [settings.transformer_nonlinearity] * settings.num_layers
        if settings.transformer_skip_last_nonlinearity:
            kinds[-1] = "none"
        self.layers = nn.ModuleList(EncoderLayer(sizes, settings, kind) for kind in kinds)

    def forward(
        self, x: Tensor, key_mask: Tensor | None = None, maps: list[Tensor] | None = None
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, key_mask, maps)
        return x


class Decoder(nn.Module):
    """Decoder layers over x (..., T, D), each attending to `source` (..., U, source_width) as
    well.
    """

    def __init__(self, sizes: Sizes, settings: HyperTransformerSettings, source_width: int):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(sizes, settings, source_width) for _ in range(settings.num_layers)
        )

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        key_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, source, key_mask, source_mask, maps)
        return x
