"""Parts of a GAN's networks: spectral normalisation, class-conditional batch norm, and two kinds of
context.

Differs: the release divides a weight by its spectral norm only when that exceeds 1, except in the
Hamburger's linear maps; here, with torch's own parametrisation, always.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from terminator.hamburger.ham import Ham
from terminator.hamburger.settings import HamSettings


def normed_conv(channels: int, out_channels: int, kernel: int = 1, bias: bool = True) -> nn.Module:
    """A convolution that keeps the size, its weight divided by its spectral norm."""
    return _normed(nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, bias=bias))


def normed_linear(features: int, out_features: int) -> nn.Module:
    """A linear map, its weight divided by its spectral norm."""
    return _normed(nn.Linear(features, out_features))


def normed_embedding(classes: int, features: int) -> nn.Module:
    """A vector per class, their matrix divided by its spectral norm."""
    return _normed(nn.Embedding(classes, features))


def _normed(module: Any) -> nn.Module:
    nn.init.xavier_uniform_(module.weight)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)
    return spectral_norm(module)


class ClassBatchNorm(nn.Module):
    """Batch norm whose scale and shift belong to a class: (N, C, H, W) and labels (N,) to (N, C, H,
    W).
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        scale, shift = (part(labels)[:, :, None, None] for part in (self.scale, self.shift))
        return scale * self.norm(x) + shift


class HamContext(nn.Module):
    """The GAN's Hamburger: W_u ham(W_l x), both maps without bias, with a ReLU before NMF.

    Args:
        channels: C of x and of the ham.
        kind: NMF, VQ or CD.
        rank: R.
        steps: K.
        one_step: gradient.

    Shapes: (N, C, H, W) to the same.
    Differs: from the segmentation's blocks, as released: first bases of NMF of any length, beta
        0.01, tau 100.
    """

    def __init__(self, channels: int, kind: str, rank: int, steps: int = 6, one_step: bool = True):
        super().__init__()
        self.lower, self.upper = (normed_conv(channels, channels, bias=False) for _ in range(2))
        self.ham = Ham(
            channels,
            HamSettings(
                kind=kind,
                rank=rank,
                train_steps=steps,
                eval_steps=steps,
                one_step=one_step,
                ridge=0.01,
                inverse_temperature=100.0,
                normalized_init=kind != "NMF",
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.lower(x)
        return self.upper(self.ham(F.relu(y) if self.ham.settings.kind == "NMF" else y))


class AttentionContext(nn.Module):
    """SAGAN's self-attention: queries and keys of C/8 channels, values of C/2 (arXiv 1805.08318):
    same shape.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query, self.key = (normed_conv(channels, channels // 8, bias=False) for _ in range(2))
        self.value = normed_conv(channels, channels // 2, bias=False)
        self.upper = normed_conv(channels // 2, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # (N, H W, .)
        query, key, value = (part(x).flatten(2).mT for part in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return self.upper(mixed.mT.unflatten(2, x.shape[2:]))


def make_context(kind: str, channels: int, rank: int, steps: int, one_step: bool) -> nn.Module:
    """The context module by name: attention, or a Hamburger with NMF, VQ or CD."""
    return (
        AttentionContext(channels)
        if kind == "attention"
        else HamContext(channels, kind, rank, steps, one_step)
    )
