"""HamNet: a network for segmentation, with a Hamburger or something else for its global context.

    backbone -> squeeze -> context -> align -> dropout -> classifier -> bilinear, to the size of the
    input

Without a backbone the same head, with 1x1 convolutions, reads the pixels themselves: the network of
the context task, in which no position sees another one but through its context.

Source: arXiv 2109.04553 and its released segmentation code; the auxiliary head is that of the
authors' later code.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hamburger.backbone import Backbone, initialise, make_backbone
from terminator.hamburger.block import Hamburger
from terminator.hamburger.settings import MIXERS, HamburgerSettings, HamNetSettings
from terminator.mixers.registry import make_map_mixer, make_mixer


class HamNet(nn.Module):
    """Logits for every pixel: (N, C, H, W) to (N, classes, H, W).

    Args:
        settings: HamNetSettings.
        ham: HamburgerSettings of the context, where it is a Hamburger (or its bread).
    """

    def __init__(self, settings: HamNetSettings, ham: HamburgerSettings):
        super().__init__()
        self.settings = s = settings
        self.backbone: Backbone | None = None
        width, size = s.in_channels, 1
        if s.backbone != "none":
            self.backbone = make_backbone(s.backbone, s.stem, s.output_stride, s.in_channels)
            width, size = self.backbone.widths[1], 3
        self.squeeze = conv_bn_relu(width, s.squeeze, size)
        self.context = make_segmentation_context(s, ham)
        self.align = conv_bn_relu(s.squeeze, s.align, size)
        self.classifier = nn.Sequential(nn.Dropout2d(s.dropout), nn.Conv2d(s.align, s.classes, 1))
        self.auxiliary = None
        if s.auxiliary:
            third = self.backbone.widths[0]
            self.auxiliary = nn.Sequential(
                conv_bn_relu(third, third // 4, 3),
                nn.Dropout2d(s.dropout),
                nn.Conv2d(third // 4, s.classes, 1),
            )
        for part in (self.squeeze, self.align, self.classifier, self.auxiliary):
            initialise(part or nn.Identity())
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = s.bn_momentum

    def forward(self, x: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits; with `auxiliary` those of both classifiers."""
        if x.ndim != 4 or x.shape[1] != self.settings.in_channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; allowed: (N, {self.settings.in_channels}, H, W)"
            )
        third, features = (x, x) if self.backbone is None else self.backbone(x)
        logits = enlarge(self.classifier(self.align(self.context(self.squeeze(features)))), x)
        return (logits, enlarge(self.auxiliary(third), x)) if auxiliary else logits


def enlarge(logits: Tensor, x: Tensor) -> Tensor:
    """Logits at the size of x; corners stay where they are."""
    if logits.shape[2:] == x.shape[2:]:
        return logits
    return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)


def conv_bn_relu(width: int, channels: int, size: int) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU; keeps height and width."""
    return nn.Sequential(
        nn.Conv2d(width, channels, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def make_segmentation_context(settings: HamNetSettings, ham: HamburgerSettings) -> nn.Module:
    """The context that the settings name, (N, squeeze, H, W) to the same shape; all but a
    Hamburger in its V1's frame.
    """
    name, channels = settings.context, settings.squeeze
    if name in ("hamburger", "bread"):
        block = Hamburger(channels, ham)
        if name == "bread":
            block.ham = NoHam()
        return block
    if name == "none":
        return nn.Identity()
    if name in MIXERS:
        mixer = "none" if name == "linear" else name  # as the one bench calls it
        return Residual(make_map_mixer(mixer, channels, settings.context_size or 1), channels)
    if name == "pooling":
        return Residual(Pooling(channels, settings.pooling_width or channels), channels)
    return Residual(Attention(channels), channels)


class NoHam(nn.Module):
    """What is left of a ham when its decomposition is taken out: everything passes."""

    def forward(self, x: Tensor, bases: Any = None, generator: Any = None) -> Tensor:
        return x


class Residual(nn.Module):
    """ReLU(x + BN(inner(x))): the frame of the Hamburger V1 around another context."""

    def __init__(self, inner: nn.Module, channels: int):
        super().__init__()
        self.inner, self.norm = inner, nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.inner(x)))


class Pooling(nn.Module):
    """The mean over all positions between two linear maps, the same at every position.

    Args:
        channels: in and out.
        width: channels of which the mean is taken.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.lower, self.upper = (
            nn.Conv2d(channels, width, 1),
            nn.Conv2d(width, channels, 1, bias=False),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(F.relu(self.lower(x)).mean((2, 3), keepdim=True)).expand_as(x)


class Attention(nn.Module):
    """Softmax attention of every position to all, one head, without the N x N matrix in memory
    (fused).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.mixer = make_mixer("softmax_fused", channels, 1)  # takes any number of positions

    def forward(self, x: Tensor) -> Tensor:
        return self.mixer(x.flatten(2).mT).mT.reshape(x.shape)
