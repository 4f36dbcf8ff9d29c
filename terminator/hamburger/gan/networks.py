"""Generator and discriminator of any resolution and width, each with a context module that starts
at weight 0.

At 128x128 pixels and width 64 they have the widths of the release. Its scheme continued: the
generator has an up-block per doubling from 4x4, of 1, 2, 4, ... times the width counted from the
image; the discriminator a down-block per halving to 4x4, and one more that keeps it.

Source: arXiv 2109.04553 and its released code, which took them from SAGAN (arXiv 1805.08318).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hamburger.gan.config import SMALLEST, GanConfig
from terminator.hamburger.gan.layers import (
    ClassBatchNorm,
    make_context,
    normed_conv,
    normed_embedding,
    normed_linear,
)
from terminator.hamburger.ham import seeded_bases
from terminator.link import evaluating
from terminator.runtime.torch_state import seed


class Context(nn.Module):
    """x + sigma * y, y = context(x), sigma a learnt scalar that starts at 0; with class-conditional
    BN if `classes`.
    """

    def __init__(self, config: GanConfig, channels: int, classes: int | None = None):
        super().__init__()
        use = config.model
        self.context = make_context(
            use.context, channels, channels // use.rank_divisor, use.steps, use.one_step
        )
        self.norm = None if classes is None else ClassBatchNorm(channels, classes)
        self.sigma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.context(x)
        return x + self.sigma * (y if self.norm is None else self.norm(y, labels))


class UpBlock(nn.Module):
    """Twice the size: (BN, ReLU, nearest x2, 3x3), (BN, ReLU, 3x3), with a shortcut (nearest x2,
    1x1).
    """

    def __init__(self, channels: int, out_channels: int, classes: int):
        super().__init__()
        self.norm1, self.norm2 = (
            ClassBatchNorm(channels, classes),
            ClassBatchNorm(out_channels, classes),
        )
        self.conv1 = normed_conv(channels, out_channels, 3)
        self.conv2 = normed_conv(out_channels, out_channels, 3)
        self.shortcut = normed_conv(channels, out_channels)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv1(F.interpolate(F.relu(self.norm1(x, labels)), scale_factor=2))
        y = self.conv2(F.relu(self.norm2(y, labels)))
        # a 1x1 map commutes with repeating pixels
        return y + F.interpolate(self.shortcut(x), scale_factor=2)


class DownBlock(nn.Module):
    """(ReLU, 3x3) twice with a shortcut of 1x1, then half the size by averages, if `pool`.

    first: of the network: without the ReLU at the start;  pool=False: the shortcut is the identity.
    """

    def __init__(self, channels: int, out_channels: int, first: bool = False, pool: bool = True):
        super().__init__()
        self.conv1, self.conv2 = (
            normed_conv(channels, out_channels, 3),
            normed_conv(out_channels, out_channels, 3),
        )
        self.shortcut = normed_conv(channels, out_channels) if pool else None
        self.first, self.pool = first, pool

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.shortcut is None:
            return x + y
        return F.avg_pool2d(y, 2) + self.shortcut(F.avg_pool2d(x, 2))


class Generator(nn.Module):
    """z (N, latent) and labels (N,) to images (N, C, H, W) in [-1, 1]."""

    def __init__(self, config: GanConfig):
        super().__init__()
        sizes, width, (image_channels, classes) = config.sizes, config.model.width, config.shape()
        widths = [width * 2 ** (len(sizes) - 1 - i) for i in range(len(sizes))]
        self.start = normed_linear(config.model.latent, widths[0] * SMALLEST**2)
        self.blocks, self.contexts, previous = nn.ModuleList(), nn.ModuleDict(), widths[0]
        for i, (size, channels) in enumerate(zip(sizes, widths, strict=True)):
            self.blocks.append(UpBlock(previous, channels, classes))
            if config.model.context != "none" and size == config.model.context_size:
                self.contexts[str(i)] = Context(config, channels, classes)
            previous = channels
        self.norm = nn.BatchNorm2d(previous)
        self.to_image = normed_conv(previous, image_channels, 3)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.start(z).unflatten(1, (-1, SMALLEST, SMALLEST))
        for i, block in enumerate(self.blocks):
            x = block(x, labels)
            if str(i) in self.contexts:
                x = self.contexts[str(i)](x, labels)
        return torch.tanh(self.to_image(F.relu(self.norm(x))))


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) to scores (N,): linear(h) + <embedding(label), h>, h
    summed over H, W.
    """

    def __init__(self, config: GanConfig):
        super().__init__()
        self.blocks, self.contexts = nn.ModuleList(), nn.ModuleDict()
        (previous, classes), channels, size = (
            config.shape(),
            config.model.width,
            config.data.image_size,
        )
        while size > SMALLEST:
            size //= 2
            self.blocks.append(DownBlock(previous, channels, first=not len(self.blocks)))
            if config.model.context != "none" and size == config.model.context_size:
                self.contexts[str(len(self.blocks) - 1)] = Context(config, channels)
            previous, channels = channels, 2 * channels
        self.blocks.append(DownBlock(previous, previous, pool=False))
        self.linear, self.embedding = (
            normed_linear(previous, 1),
            normed_embedding(classes, previous),
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if str(i) in self.contexts:
                x = self.contexts[str(i)](x, labels)
        h = F.relu(x).sum((2, 3))  # (N, C)
        return self.linear(h)[:, 0] + (self.embedding(labels) * h).sum(1)


class Sigmas(NamedTuple):
    """The weights of the two contexts."""

    generator: float
    discriminator: float


class Gan(nn.Module):
    """Both networks of a resolved configuration."""

    def __init__(self, config: GanConfig):
        super().__init__()
        self.config = config
        self.generator, self.discriminator = Generator(config), Discriminator(config)

    def sigmas(self) -> Sigmas | None:
        """How much of the contexts is added; nothing where there are none."""
        found = [part.sigma.item() for part in self.modules() if isinstance(part, Context)]
        return Sigmas(*found) if found else None

    def samples(self, labels: Tensor, seed: int, batch: int = 128) -> Tensor:
        """Generated images (N, C, H, W) in [-1, 1] of these classes (N,), on the CPU: the same for
        the same seed.
        """
        device = next(self.parameters()).device
        z = torch.randn(
            len(labels), self.config.model.latent, generator=torch.Generator().manual_seed(seed)
        )
        with evaluating(self), seeded_bases(self, seed):
            parts = [
                self.generator(a.to(device), b.to(device)).float().cpu()
                for a, b in zip(z.split(batch), labels.split(batch), strict=True)
            ]
        return torch.cat(parts)


def build(config: GanConfig) -> Gan:
    """New networks for a resolved configuration, initialised from its seed."""
    seed(config.train.seed)
    return Gan(config)
