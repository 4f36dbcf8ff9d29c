"""CCNN, Terminator's ancestor: residual blocks of depth-wise convolutions, whose kernels are
continuous functions of the position.

Two forms. `plain` is our first reading of the paper, with which older records were made. `released`
is what the authors' code trains for images: kernels of three MAGNet layers with Gaussian windows,
cropped to where their mask is at least a tenth, and dropout of whole channels.

Source: arXiv 2206.03398 (CCNN), 2110.08059 (MAGNets, masks and cropping); the facts of the released
    form from the authors' code, github.com/david-knigge/ccnn.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.classification.baselines import Baseline, batch_norm
from terminator.classification.config import NetworkConfig
from terminator.config import ModelConfig
from terminator.hyperzzw import local_operator
from terminator.layers import Pointwise, listed, on_rows
from terminator.slow_net import KeepsKernel, SlowNet, coordinates

MASK_WIDTH = 0.25  # of the plain form's Gaussian masks at first; half an image is 1
RELEASED_WIDTH = 0.75  # of the released form's, for CIFAR-10 with 4 x 140
THRESHOLD = 0.1  # of a mask, below which a kernel is cropped
SPREAD = 1.667  # of the windows' centres at first, in widths of the mask
DIRECT = 11  # taps an axis up to which a convolution is faster than transforms


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """Depth-wise convolution with large kernels, by FFT in float32 or wider; zeros beyond the
    edges.

    Args:
        x: (N, C, *positions).
        kernel: (1, C, *taps), odd, its centre in the middle.
    """
    sizes, taps = x.shape[2:], kernel.shape[2:]
    axes, halves = list(range(2, x.ndim)), [size // 2 for size in taps]
    # enough that what wraps around is cut off below
    padded = [size + half for size, half in zip(sizes, halves, strict=True)]
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        missing = [max(0, size - tap) for size, tap in zip(padded, taps, strict=True)]
        kernel = F.pad(kernel.to(wide), [n for size in reversed(missing) for n in (0, size)])
        kernel = kernel.roll([-half for half in halves], axes)  # its centre to position 0
        spectrum = torch.fft.rfftn(x.to(wide), padded, axes) * torch.fft.rfftn(kernel, padded, axes)
        y = torch.fft.irfftn(spectrum, padded, axes)
    return y[(..., *(slice(size) for size in sizes))].to(x.dtype)


class GlobalConvolution(nn.Module):
    """Depth-wise convolution whose kernel is as large as its input: a MAGNet times a learnable
    Gaussian mask.

    W(c) = MAGNet(c) * exp(-1/2 sum_d (c_d / s_d)^2), on an odd number of coordinates c in [-1, 1]^d
    per axis.

    Args:
        channels: C.
        config: dimensions, size and initial frequencies.
        width: s at first; half an image is 1.

    Shapes: (N, C, *positions) to the same; zeros beyond the edges; by FFT, in float32 or wider.
    """

    def __init__(self, channels: int, config: ModelConfig, width: float = MASK_WIDTH):
        super().__init__()
        self.taps = config.size | 1  # odd, so that a kernel has a centre
        self.slow_net = SlowNet(
            config.dimensions,
            self.taps,
            channels,
            hidden=32,
            depth=2,
            omega_0=config.omega_0,
            alpha=config.gamma_alpha,
            beta=config.gamma_beta,
        )
        # a map over positions is Terminator's; here it stays 0
        self.slow_net.bias_map.requires_grad_(False)
        # without phases every kernel would be 0 at its centre
        for sinusoid in self.slow_net.filters:
            nn.init.uniform_(sinusoid.bias, -math.pi, math.pi)
        self.width = nn.Parameter(torch.full((config.dimensions,), width))
        self.bias = nn.Parameter(torch.zeros(channels))

    def kernel(self) -> Tensor:
        """The masked kernel (1, C, k[, k]), k = size or size + 1."""
        # (1, d, k[, k])
        scaled = self.slow_net.coords / self.width.view(1, -1, *[1] * len(self.width))
        return self.slow_net() * torch.exp(-0.5 * scaled.square().sum(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        return convolved(x, self.kernel()) + self.bias.view(-1, *[1] * (x.ndim - 2))


class GaborFilter(Pointwise):
    """g(c) = exp(-1/2 sum_d (gamma_d (c_d - mu_d))^2) * sin(A c + a), gamma and mu learned.

    Args:
        index: of the layer, from 0: gamma is drawn from Gamma(alpha / (index + 1), beta).
        spread: mu is drawn from -spread to spread.
    """

    needs_float32 = True  # as in SinusoidalFilter

    def __init__(self, hidden: int, index: int, config: ModelConfig, spread: float):
        super().__init__(config.dimensions, hidden)
        self.gamma = nn.Parameter(torch.empty(hidden, config.dimensions))
        self.mu = nn.Parameter(torch.empty(hidden, config.dimensions))
        if self.weight.is_meta:  # a sketch, which has no values
            return
        with torch.no_grad():
            rate = torch.distributions.Gamma(
                config.gamma_alpha / (index + 1), config.gamma_beta, validate_args=False
            )
            self.gamma.copy_(rate.sample(self.gamma.shape))
            nn.init.uniform_(self.mu, -spread, spread)
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            self.weight.mul_(2 * math.pi * config.omega_0 * self.gamma)

    def of_rows(self, x: Tensor) -> Tensor:
        """Coordinates (d, P) to (hidden, P)."""
        apart = self.gamma[..., None] * (x - self.mu[..., None])  # (hidden, d, P)
        return torch.exp(-0.5 * apart.square().sum(1)) * torch.sin(super().of_rows(x))


class CroppedConvolution(KeepsKernel):
    """Depth-wise convolution with a kernel that is made, and applied, only where its Gaussian mask
    is at least THRESHOLD.

    Args:
        channels: C.
        config: of images; size and initial frequencies.
        width: of the mask at first; half an image is 1.
        hidden: of the MAGNet.

    Shapes: (N, C, H, W) to the same.
    """

    def __init__(self, channels: int, config: ModelConfig, width: float, hidden: int):
        super().__init__()
        self.register_buffer("coords", coordinates(2, config.size | 1), persistent=False)
        self.filters = listed(
            GaborFilter(hidden, index, config, SPREAD * width) for index in range(4)
        )
        self.linears = listed(Pointwise(hidden, hidden, bias=1.0) for _ in range(3))
        self.output = Pointwise(hidden, channels)
        self.width = nn.Parameter(torch.full((2,), float(width)))
        self.bias = nn.Parameter(torch.zeros(channels))
        if not self.width.is_meta:
            with torch.no_grad():  # variance correction of Chang et al. 2020
                self.output.weight.div_(math.sqrt(self.positions().flatten(2).shape[2]))

    def positions(self) -> Tensor:
        """The coordinates that the mask leaves, (1, 2, k1, k2), odd."""
        coords, half = self.coords, self.coords.shape[-1] // 2
        reach = (self.width.detach().abs() * math.sqrt(-2 * math.log(THRESHOLD))).tolist()
        for axis, most in enumerate(reach, start=2):
            # on either side of the centre; all of them where training has lost the width
            taps = math.floor(most * half + 1e-8) if most < 1 else half
            coords = coords.narrow(axis, half - taps, 2 * taps + 1)
        return coords

    def kernel(self) -> Tensor:
        """The masked kernel (1, C, k1, k2)."""
        return self.kept(self._made)

    def _made(self) -> Tensor:
        coords = self.positions()
        x = coords.flatten(2)[0]  # (2, P)
        h = on_rows(self.filters[0], x)
        for gabor, linear in zip(self.filters[1:], self.linears, strict=True):
            h = on_rows(gabor, x) * on_rows(linear, h)
        mask = torch.exp(-0.5 * (x / self.width[:, None]).square().sum(0))
        return (on_rows(self.output, h) * mask).view(1, -1, *coords.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel()
        if max(kernel.shape[2:]) > DIRECT:
            return convolved(x, kernel) + self.bias.view(-1, 1, 1)
        # torch's convolutions correlate
        weight = kernel.flip(2, 3).transpose(0, 1)
        return local_operator(x, weight.to(x.dtype)) + self.bias.view(-1, 1, 1)


class ReleasedBlock(nn.Module):
    """x + GELU(linear(dropout(GELU(linear(cropped convolution(BN(x))))))), dropout of whole
    channels: (N, C, H, W) to the same.
    """

    def __init__(self, channels: int, config: ModelConfig, network: NetworkConfig, width: float):
        super().__init__()
        self.standardize = batch_norm(channels)
        self.convolution = CroppedConvolution(channels, config, width, _hidden(network))
        self.mixer, self.linear = (Pointwise(channels, channels, init="normal") for _ in range(2))
        self.dropout = nn.Dropout2d(network.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.mixer(self.convolution(self.standardize(x))))
        return x + F.gelu(self.linear(self.dropout(y)))


def _hidden(network: NetworkConfig) -> int:
    """Channels of the released form's MAGNets: 32 with 140, 64 with 380."""
    return 32 if network.hidden < 380 else 64


class CCNNBlock(nn.Module):
    """x + dropout(GELU(linear(GELU(linear(global convolution(BN(x))))))): (N, C, *positions) to the
    same.
    """

    def __init__(self, channels: int, config: ModelConfig, dropout: float, width: float):
        super().__init__()
        self.standardize = batch_norm(channels)
        self.convolution = GlobalConvolution(channels, config, width)
        self.separable, self.linear = (Pointwise(channels, channels) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.separable(self.convolution(self.standardize(x))))
        return x + self.dropout(F.gelu(self.linear(y)))


class CCNN(Baseline):
    """Continuous convolutional network.

    An encoder (convolution, linear map, batch norm, GELU), the blocks at full resolution, batch
    norm, global average pool, linear classifier.

    CCNN-4,140 of the released form has the published 201,042 parameters (three channels, ten
    classes). In the plain form the order inside a block, two MAGNet layers of 32 channels, their
    phases and the masks' width are ours; it takes sequences too, not causal.

    Differs: the released form's masks take each width along the axis that it crops; the authors'
        code crops along the other one.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__(config, network)
        hidden, count = network.hidden, config.in_channels
        is_released = network.form == "released"
        width = network.mask_width or (RELEASED_WIDTH if is_released else MASK_WIDTH)
        self.encoder = nn.Sequential(
            CroppedConvolution(count, config, width, _hidden(network))
            if is_released
            else GlobalConvolution(count, config, width),
            Pointwise(count, hidden, init="normal" if is_released else "linear"),
            batch_norm(hidden),
            nn.GELU(),
        )
        self.blocks = nn.Sequential(
            *(
                ReleasedBlock(hidden, config, network, width)
                if is_released
                else CCNNBlock(hidden, config, network.dropout, width)
                for _ in range(network.blocks)
            )
        )
        self.standardize = batch_norm(hidden)
        self.classifier = nn.Linear(hidden, config.classes)
        if is_released:
            nn.init.kaiming_normal_(self.classifier.weight)
            nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        y = self.standardize(self.blocks(self.encoder(x)))
        return self.classifier(y.flatten(2).mean(-1))
