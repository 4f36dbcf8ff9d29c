"""Hrrformer's encoder and classifier; every token mixer fits in, so that rows of a table differ in
it alone.

embedding + positions, dropout, [norm], layers of mixer and MLP in the task's order, mean over
positions (or the class token), linear, activation, linear.

Source: arXiv 2305.19534 and its released code.  Golden: hrrformer_network_*,
    hrrformer_fixed_positions.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hrrformer.attention import AttentionParts, HolographicAttention
from terminator.hrrformer.settings import NetworkSettings, task_settings
from terminator.layers import rows_layer
from terminator.mixers.base import lecun_linear
from terminator.mixers.low_rank import Luna
from terminator.mixers.registry import TOKEN_MIXERS, make_mixer, options_of
from terminator.runtime.memory import can_be_read
from terminator.runtime.settings import ConfigError

NORM_EPS = 1e-6
LABEL_SMOOTHING = 0.1


class LayerParts(NamedTuple):
    """One layer's mixer branch: x + branch is what goes on. Texts of a pair stand one after the
    other.
    """

    residual: Tensor  # x (B, T, E)
    branch: Tensor  # (B, T, E), before dropout; zeros where the branch is off
    attention: AttentionParts | None  # of a HolographicAttention

    @property
    def branch_ratio(self) -> float:
        """||branch|| / ||residual||: about 1/T at first; the attention matters only once this has
        grown.
        """
        return (self.branch.norm() / self.residual.norm()).item()


class NetworkParts(NamedTuple):
    """What the network computed: logits (B, classes), the features under the head, and every
    layer's parts.
    """

    logits: Tensor
    features: Tensor  # (B, E), or (B, 4 E) of a pair
    layers: tuple[LayerParts, ...]


def fixed_positions(length: int, width: int) -> Tensor:
    """Sinusoids p[t, 2i] = sin(t / 10000^(2i / E)), p[t, 2i + 1] = cos(the same): (length, width),
    width even.
    """
    if width % 2:
        raise ValueError(f"width is {width}; fixed positions need an even width")
    rates = torch.exp(
        torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000.0) / width)
    )
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates  # (length, E / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


class Block(nn.Module):
    """One layer: a token mixer and an MLP, each with its residual, norms where the order has them.

    Args:
        settings: the network's.
        index: of the layer, from 0.

    Shapes: x (B, T, E), mask (B, T) or None, to x (B, T, E), and the memory that the mixer passes
        on, if any.
    """

    def __init__(self, settings: NetworkSettings, index: int):
        super().__init__()
        s = settings
        self.order = s.order
        self.mixer = _make_mixer(s, index)
        normed = {"pre_norm": self.mixer is not None, "mlp_pre_norm": False, "post_norm": True}[
            s.order
        ]
        self.attention_norm = nn.LayerNorm(s.width, NORM_EPS) if normed else None
        self.mlp_norm = nn.LayerNorm(s.width, NORM_EPS)
        self.mlp_in = lecun_linear(s.width, s.mlp_width)
        self.mlp_out = lecun_linear(s.mlp_width, s.width, s.bias)
        self.activation = _activation(s)
        self.dropout = nn.Dropout(s.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        memory: Tensor | None = None,
        parts: list[LayerParts] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        post = self.order == "post_norm"
        mixed, memory = self._mix(x, mask, memory, parts)
        x = x if mixed is None else x + self.dropout(mixed)
        x = self.attention_norm(x) if post else x
        y = x if post else self.mlp_norm(x)
        y = rows_layer(self.mlp_out, self.activation(rows_layer(self.mlp_in, y)))
        x = x + self.dropout(y)
        return (self.mlp_norm(x) if post else x), memory

    def _mix(
        self, x: Tensor, mask: Tensor | None, memory: Tensor | None, parts: list[LayerParts] | None
    ):
        """The branch (B, T, E), None where it is off, and the memory; appends to `parts` if there
        is a list.
        """
        attention = branch = None
        normed = (
            self.attention_norm(x)
            if self.order == "pre_norm" and self.attention_norm is not None
            else x
        )
        if isinstance(self.mixer, Luna):
            branch, memory = self.mixer(normed, mask, memory, return_memory=True)
        elif isinstance(self.mixer, HolographicAttention) and parts is not None:
            attention = self.mixer(normed, mask, return_parts=True)
            branch = attention.output
        elif self.mixer is not None:
            branch = self.mixer(normed, mask)
        if parts is not None:
            parts.append(
                LayerParts(x, torch.zeros_like(x) if branch is None else branch, attention)
            )
        return branch, memory


class Hrrformer(nn.Module):
    """Tokens (B, T) to logits (B, classes); Hrrformer(task_settings("image")) is the published
    network.

    Args:
        settings: the network's.

    Returns:
        forward(tokens, tokens2=None): logits (B, classes); log-softmax belongs to `loss`. tokens2
        are the second texts of a pair, as long as the first. With return_parts=True: NetworkParts.

    Raises:
        ValueError: for settings that make no network, or tokens that do not fit (not (B, T), too
            long, empty; on a CPU also: outside the vocabulary).

    Differs: positions are cut to the batch's length, where the release fails for a short EMBER
        batch.
    """

    def __init__(self, settings: NetworkSettings):
        super().__init__()
        s = self.settings = settings
        self.token_embedding = nn.Embedding(s.vocabulary, s.width)
        nn.init.normal_(self.token_embedding.weight, std=1 / math.sqrt(s.width))
        if s.positions == "learned":
            self.position_embedding = nn.Parameter(
                torch.randn(s.length, s.width) / math.sqrt(s.width)
            )
        else:
            self.register_buffer(
                "position_embedding", fixed_positions(s.length, s.width), persistent=False
            )
        self.class_token = nn.Parameter(torch.randn(1, 1, s.width)) if s.class_token else None
        self.dropout = nn.Dropout(s.dropout)
        self.embedding_norm = nn.LayerNorm(s.width, NORM_EPS) if s.embedding_norm else None
        self.blocks = nn.ModuleList(Block(s, index) for index in range(s.layers))
        self.head_hidden = lecun_linear(4 * s.width if s.pair else s.width, s.width)
        self.activation = _activation(s)
        self.head_output = lecun_linear(s.width, s.classes)

    def forward(self, tokens: Tensor, tokens2: Tensor | None = None, return_parts: bool = False):
        parts = [] if return_parts else None
        if self.settings.pair:
            if tokens2 is None or tokens2.shape != tokens.shape:
                other = "nothing" if tokens2 is None else tuple(tokens2.shape)
                raise ValueError(
                    f"this network takes two texts of one shape, got {tuple(tokens.shape)} and "
                    f"{other}"
                )
            u, v = self.encode(torch.cat([tokens, tokens2]), parts).chunk(2)
            features = torch.cat([u, v, u * v, u - v], dim=-1)  # (B, 4 E)
        elif tokens2 is not None:
            raise ValueError("this network takes one text, not a pair")
        else:
            features = self.encode(tokens, parts)  # (B, E)
        logits = self.head_output(self.activation(self.head_hidden(features)))
        return NetworkParts(logits, features, tuple(parts)) if return_parts else logits

    def encode(self, tokens: Tensor, parts: list[LayerParts] | None = None) -> Tensor:
        """Features (B, E) of tokens (B, T): the class token's output, or the mean over
        positions.
        """
        s = self.settings
        tokens = self._checked(tokens)
        real = None if s.masking == "none" else tokens > 0  # (B, T)
        x = self.token_embedding(tokens) + self.position_embedding[: tokens.shape[1]]  # (B, T, E)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)  # (B, 1 + T, E)
            real = None if real is None else F.pad(real, (1, 0), value=True)
        x = self.dropout(x)
        x = x if self.embedding_norm is None else self.embedding_norm(x)
        memory = None
        for block in self.blocks:
            x, memory = block(x, real, memory, parts)
        if self.class_token is not None:
            return x[:, 0]
        if s.masking == "full":
            weight = real[..., None].to(x.dtype)  # (B, T, 1)
            return (x * weight).sum(1) / weight.sum(1).clamp_min(1)  # nothing but padding: zeros
        return x.mean(1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The task's loss of logits (B, classes) and labels (B,), mean over the batch.

        cross_entropy: with label smoothing 0.1. binary (EMBER): binary cross-entropy of the
        softmax, summed over the classes, probabilities clipped to [1e-10, 1]; for two classes
        twice the cross-entropy.
        """
        if self.settings.loss == "cross_entropy":
            return F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        probabilities = logits.softmax(-1)
        target = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
        wrong = 1 - probabilities
        terms = (
            target * probabilities.clamp(1e-10, 1).log()
            + (1 - target) * wrong.clamp(1e-10, 1).log()
        )
        return -terms.sum(-1).mean()

    def _checked(self, tokens: Tensor) -> Tensor:
        s = self.settings
        if tokens.ndim != 2 or not tokens.shape[1] or tokens.is_floating_point():
            raise ValueError(
                f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}; needed: integers (B, T)"
            )
        if tokens.shape[1] > s.length:
            raise ValueError(
                f"the sequence has {tokens.shape[1]} tokens; this network has positions for "
                f"{s.length}"
            )
        tokens = tokens.long()
        if tokens.numel() and can_be_read(tokens):
            low, high = torch.stack(tokens.aminmax()).tolist()
            if low < 0 or high >= s.vocabulary:
                raise ValueError(
                    f"token {low if low < 0 else high} is outside the vocabulary "
                    f"0..{s.vocabulary - 1}"
                )
        return tokens


def build(task: str, **changes: Any) -> Hrrformer:
    """The network of a task, with changed settings: build("text", layers=1, length=1024)."""
    return Hrrformer(task_settings(task, **changes))


def _activation(settings: NetworkSettings) -> nn.Module:
    return nn.ReLU() if settings.activation == "relu" else nn.GELU("tanh")


def _make_mixer(settings: NetworkSettings, index: int) -> nn.Module | None:
    """The mixer of a layer; None where the branch is off, so that no norm stands before nothing."""
    s = settings
    if s.mixer == "none":
        return None
    implied = {"bias": s.bias, "mask_superposition": s.masking == "full"}
    if index > 0 and s.mixer == "luna":
        implied["own_memory"] = False  # it is given the layer's before
    if s.mixer not in TOKEN_MIXERS:
        raise ConfigError(
            f"network setting mixer is {s.mixer!r}; allowed: none, {', '.join(TOKEN_MIXERS)}"
        )
    allowed = options_of(s.mixer)
    options = {name: value for name, value in implied.items() if name in allowed} | s.mixer_options
    mixer = make_mixer(s.mixer, s.width, s.length + s.class_token, s.heads, **options)
    return None if getattr(mixer, "is_off", False) else mixer
