"""One small network, the host, in which only the global mixer changes; and the mixers, all (N, C, H, W) to the same.

Every system's way of giving each position the context of all others, taken out of its own network and put into the
same place. What is not needed for that is left out.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator import hyperzzw
from terminator.config import CONTEXTS, ConfigError, ModelConfig, NetworkConfig
from terminator.layers import Pointwise
from terminator.related.attention import Hamburger, make_mixer
from terminator.related.baselines import Baseline
from terminator.slow_net import SlowNet
from terminator.standardization import BatchStandardization, InstanceStandardization

CHANNELS, BLOCKS, HEADS = 32, 2, 4  # of the host


class HyperZZW(nn.Module):
    """The global branch of an SFNE block on images: y = W_o (S (*) IS(W_s S + W_f z)), S = W * z.

    Linear maps stand in for the block's gated units; (*) is a matrix product per channel, or a circular convolution.
    """

    def __init__(self, channels: int, size: int, operator: str, hidden: int = 32):
        super().__init__()
        self.operator = operator
        self.slow_net = SlowNet(2, size, channels, hidden)
        self.slow, self.fast, self.output = (Pointwise(channels, channels) for _ in range(3))
        self.standardize = InstanceStandardization()

    def forward(self, z: Tensor) -> Tensor:
        score = hyperzzw.slow_score(z, self.slow_net())
        value = self.standardize(self.slow(score) + self.fast(z))
        return self.output(hyperzzw.global_operator(self.operator, score, value))


class Tokens(nn.Module):
    """A mixer of token sequences (N, T, C), applied to the pixels of an image in reading order."""

    def __init__(self, mixer: nn.Module):
        super().__init__()
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixer(x.flatten(2).transpose(1, 2))  # (N, H W, C)
        return mixed.transpose(1, 2).reshape(x.shape)


class FourierConvolution(nn.Module):
    """Circular convolution with one free kernel per channel, as large as the image, by FFT; then a linear map."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, size, size) / size)
        self.output = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(x.float()) * torch.fft.rfft2(self.kernel.float())
            y = torch.fft.irfft2(spectrum, x.shape[-2:])
        return self.output(y.to(x.dtype))


class LargeKernel(nn.Module):
    """Depth-wise convolution with a kernel of 31x31 pixels, zeros beyond the edges; then a linear map.

    On images below 16x16 its outer pixels would never meet the image, and are left out: then it is global.
    Source: the kernel size of RepLKNet (arXiv 2203.06717).
    """

    def __init__(self, channels: int, size: int, largest: int = 31):
        super().__init__()
        side = min(largest, 2 * size - 1)
        self.kernel = nn.Parameter(torch.randn(channels, 1, side, side) / side)
        self.output = Pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(hyperzzw.local_operator(x, self.kernel))


class Ham(Hamburger):
    """The mixer Hamburger on feature maps (N, C, *positions), its shared bases updated online as released."""

    def __init__(self, channels: int, rank: int | None = None):
        super().__init__(channels, rank, online_update="training")

    def forward(self, x: Tensor) -> Tensor:  # of maps, where the mixer takes tokens
        return self.mix(x)


def _tokens(name: str, **options: Any) -> Callable[[int, int], nn.Module]:
    return lambda channels, size: Tokens(make_mixer(name, channels, size * size, HEADS, **options))


MAKERS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda channels, size: Pointwise(channels, channels),
    "hyperzzw_matrix": lambda channels, size: HyperZZW(channels, size, "matrix"),
    "hyperzzw_convolution": lambda channels, size: HyperZZW(channels, size, "convolution"),
    "attention_explicit": _tokens("softmax_explicit"),
    "attention_fused": _tokens("softmax_fused"),
    "attention_linear": _tokens("linear"),
    "hrrformer": _tokens("hrrformer"),
    "hamburger": lambda channels, size: Ham(channels),
    "fourier_convolution": FourierConvolution,
    "large_kernel": LargeKernel,
    "local": _tokens("local"),
    "linformer": _tokens("linformer"),
    "performer": _tokens("performer", features=64),
    "fnet": _tokens("fnet", normalization="ortho"),
    "luna": _tokens("luna", memory=64),
    "synthesizer": _tokens("synthesizer"),
    "nystromformer": _tokens("nystromformer"),
}
POWERS = {  # of the number of positions: how time and memory must grow at last; logarithms left out
    "none": (1, 1), "hyperzzw_matrix": (1.5, 1), "hyperzzw_convolution": (1, 1), "attention_explicit": (2, 2),
    "attention_fused": (2, 1), "attention_linear": (1, 1), "hrrformer": (1, 1), "hamburger": (1, 1),
    "fourier_convolution": (1, 1), "large_kernel": (1, 1), "local": (1, 1), "linformer": (1, 1), "performer": (1, 1),
    "fnet": (1, 1), "luna": (1, 1), "synthesizer": (2, 2), "nystromformer": (1, 1)}


def make_context(name: str, channels: int, size: int) -> nn.Module:
    """A global mixer by name, (N, channels, size, size) to the same shape.

    Raises:  ConfigError for an unknown name.
    """
    if name not in MAKERS:
        raise ConfigError(f"network.mixer is {name!r}; allowed: {', '.join(CONTEXTS)}")
    return MAKERS[name](channels, size)


class HostBlock(nn.Module):
    """x + mixer(BS(x)), then x + W_2 GELU(W_1 BS(x)): (N, C, H, W) to the same."""

    def __init__(self, mixer: nn.Module, channels: int):
        super().__init__()
        self.mixer = mixer
        self.standardize_mixer, self.standardize = (BatchStandardization(channels, affine=True) for _ in range(2))
        self.widen, self.narrow = Pointwise(channels, 2 * channels), Pointwise(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.standardize_mixer(x))
        return x + self.narrow(F.gelu(self.widen(self.standardize(x))))


class Host(Baseline):
    """3x3 stem, learnt positions, two blocks with the mixer of `network.mixer`, mean over positions, linear classifier.

    The positions are there for mixers that do not know where a pixel is; all get them.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__(config, network)
        self.stem = nn.Sequential(nn.Conv2d(config.in_channels, CHANNELS, 3, padding=1, bias=False),
                                  BatchStandardization(CHANNELS, affine=True), nn.GELU())
        self.positions = nn.Parameter(0.02 * torch.randn(1, CHANNELS, config.size, config.size))
        self.blocks = nn.Sequential(*(HostBlock(make_context(network.mixer, CHANNELS, config.size), CHANNELS)
                                      for _ in range(BLOCKS)))
        self.standardize = BatchStandardization(CHANNELS, affine=True)
        self.classifier = nn.Linear(CHANNELS, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        y = self.standardize(self.blocks(self.stem(x) + self.positions))
        return self.classifier(y.flatten(2).mean(-1))
