"""Global mixers of feature maps, (N, C, H, W) to the same: every system's, out of its own
network.
"""

import torch
from torch import Tensor, nn

from terminator import hyperzzw
from terminator.layers import Pointwise, widened
from terminator.mixers.hyperzzw import GlobalBranch
from terminator.mixers.registry import make_mixer

HEADS = 4  # of the attentions


def linear(channels: int) -> nn.Module:
    """No context at all: a linear map at every position."""
    return Pointwise(channels, channels)


class HyperZZW(GlobalBranch):
    """The global branch of an SFNE block on images, see GlobalBranch; (*) as `operator` says."""

    def __init__(self, channels: int, size: int, operator: str):
        super().__init__(channels, 2, size, operator)

    def forward(self, z: Tensor) -> Tensor:
        return self.mix(z)


class Tokens(nn.Module):
    """A mixer of token sequences (N, T, C), applied to the pixels of an image in reading order."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixer(x.flatten(2).transpose(1, 2))  # (N, H W, C)
        return mixed.transpose(1, 2).reshape(x.shape)


class FourierConvolution(nn.Module):
    """Circular convolution with one free kernel per channel, as large as the image, by FFT; then a
    linear map.
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, size, size) / size)
        self.output = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(widened(x)) * torch.fft.rfft2(widened(self.kernel))
            y = torch.fft.irfft2(spectrum, x.shape[-2:])
        return self.output(y.to(x.dtype))


class LargeKernel(nn.Module):
    """Depth-wise convolution with a kernel of 31x31 pixels, zeros beyond the edges; then a linear
    map.

    On images below 16x16 its outer pixels would never meet the image, and are left out: then it is
    global.

    Source: the kernel size of RepLKNet (arXiv 2203.06717).
    """

    def __init__(self, channels: int, size: int, largest: int = 31):
        super().__init__()
        side = min(largest, 2 * size - 1)
        self.kernel = nn.Parameter(torch.randn(channels, 1, side, side) / side)
        self.output = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(hyperzzw.local_operator(x, self.kernel))


def of_tokens(name: str, channels: int, size: int, **options: int | str) -> nn.Module:
    """The token mixer of that name, for images."""
    return Tokens(make_mixer(name, channels, size * size, HEADS, **options))
