"""The networks that Terminator is compared with on the same data: ResNet-18 and CCNN; and a small
CNN to measure with.

Their batch norms are the kit's own (standardization.BatchStandardization with affine parameters),
so they are evaluated by the same two protocols as Terminator: "released" with the statistics of the
test batch, "calibrated" with fixed statistics, estimated over training images. The usual running
averages would lag behind the weights in the first epochs, which is no property of these networks.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.classification.config import NetworkConfig
from terminator.config import ModelConfig
from terminator.layers import Pointwise
from terminator.runtime import weights
from terminator.runtime.settings import to_dict
from terminator.slow_net import SlowNet
from terminator.standardization import BatchStandardization, is_calibrated

MASK_WIDTH = 0.25  # of the Gaussian masks at first, in units of coordinate; the half image is 1


class Baseline(nn.Module):
    """A network that knows its shape and saves itself.

    Args:
        config: dimensions, size, in_channels and classes, none of them None.
        network: its own settings.

    Shapes: (N, in_channels, *positions) to logits (N, classes).

    Raises:
        ConfigError: for settings that the network does not take.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__()
        network.check_model(config)
        self.config, self.network_config = config, network

    def save(self, path: str | Path, **info: Any) -> None:
        """Write one self-describing safetensors file; `networks.load` reads it."""
        weights.write(
            path,
            self.state_dict(),
            {
                "format": "terminator baseline",
                "model": json.dumps(to_dict(self.config)),
                "network": json.dumps(to_dict(self.network_config)),
                "info": json.dumps(info),
                "calibrated": json.dumps(is_calibrated(self)),
            },
        )

    def _check_input(self, x: Tensor) -> None:
        expected = (self.config.in_channels, *[self.config.size] * self.config.dimensions)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"the input has shape {tuple(x.shape)}, this {type(self).__name__} takes (N, "
                f"{', '.join(map(str, expected))})"
            )


def _batch_norm(channels: int) -> BatchStandardization:
    return BatchStandardization(channels, affine=True)


class ResNet18(Baseline):
    """torchvision's ResNet-18 (images only) with the stem for small images: 3x3, stride 1, no
    max-pooling.

    Source: He et al. 2016 (arXiv 1512.03385); the stem is the one in general use for 32x32 images.

    11,173,962 parameters for three channels and ten classes.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        from torchvision.models import resnet18  # a second to import

        super().__init__(config, network)
        self.layers = resnet18(num_classes=config.classes, norm_layer=_batch_norm)
        self.layers.conv1 = nn.Conv2d(config.in_channels, 64, 3, padding=1, bias=False)
        # as torchvision's
        nn.init.kaiming_normal_(self.layers.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.layers.maxpool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        return self.layers(x)


class GlobalConvolution(nn.Module):
    """Depth-wise convolution whose kernel is as large as its input: a MAGNet times a learnable
    Gaussian mask.

    W(c) = MAGNet(c) * exp(-1/2 sum_d (c_d / s_d)^2), on an odd number of coordinates c in [-1, 1]^d
    per axis.

    Args:
        channels: C.
        config: dimensions, size and initial frequencies.

    Shapes: (N, C, *positions) to the same; zeros beyond the edges; by FFT, in float32 or wider.
    """

    def __init__(self, channels: int, config: ModelConfig):
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
        self.width = nn.Parameter(torch.full((config.dimensions,), MASK_WIDTH))
        self.bias = nn.Parameter(torch.zeros(channels))

    def kernel(self) -> Tensor:
        """The masked kernel (1, C, k[, k]), k = size or size + 1."""
        # (1, d, k[, k])
        scaled = self.slow_net.coords / self.width.view(1, -1, *[1] * len(self.width))
        return self.slow_net() * torch.exp(-0.5 * scaled.square().sum(1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        kernel, sizes = self.kernel(), x.shape[2:]
        axes, half = list(range(2, x.ndim)), self.taps // 2
        padded = [size + half for size in sizes]  # enough that what wraps around is cut off below
        wide = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            kernel = F.pad(
                kernel.to(wide),
                [n for size in reversed(padded) for n in (0, max(0, size - self.taps))],
            )
            kernel = kernel.roll([-half] * len(axes), axes)  # its centre to position 0
            spectrum = torch.fft.rfftn(x.to(wide), padded, axes) * torch.fft.rfftn(
                kernel, padded, axes
            )
            y = torch.fft.irfftn(spectrum, padded, axes)
        y = y[(..., *(slice(size) for size in sizes))].to(x.dtype)
        return y + self.bias.view(-1, *[1] * len(axes))


class CCNNBlock(nn.Module):
    """x + dropout(GELU(linear(GELU(linear(global convolution(BN(x))))))): (N, C, *positions) to the
    same.
    """

    def __init__(self, channels: int, config: ModelConfig, dropout: float):
        super().__init__()
        self.standardize = _batch_norm(channels)
        self.convolution = GlobalConvolution(channels, config)
        self.separable, self.linear = (Pointwise(channels, channels) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.separable(self.convolution(self.standardize(x))))
        return x + self.dropout(F.gelu(self.linear(y)))


class CCNN(Baseline):
    """Continuous convolutional network, Terminator's ancestor: residual blocks of global depth-wise
    convolutions.

    An encoder (global convolution, linear map, batch norm, GELU), the blocks at full resolution,
    batch norm, global average pool, linear classifier. Images and sequences, the latter not causal.

    Source: arXiv 2206.03398 (CCNN), 2110.08059 (Gaussian masks). Our reading of them, not their
        code: the order.

    inside a block, the hidden sizes of the MAGNets (32), their phases and the masks' initial width
    are ours; CCNN-4,140 comes to about 200,000 parameters and CCNN-6,380 to about 2 million, as
    published.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__(config, network)
        hidden = network.hidden
        self.encoder = nn.Sequential(
            GlobalConvolution(config.in_channels, config),
            Pointwise(config.in_channels, hidden),
            _batch_norm(hidden),
            nn.GELU(),
        )
        self.blocks = nn.Sequential(
            *(CCNNBlock(hidden, config, network.dropout) for _ in range(network.blocks))
        )
        self.standardize = _batch_norm(hidden)
        self.classifier = nn.Linear(hidden, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        y = self.standardize(self.blocks(self.encoder(x)))
        return self.classifier(y.flatten(2).mean(-1))


class SmallCNN(Baseline):
    """Four 3x3 convolutions of 32, 64, 64, 64 channels (BN, ReLU), three of stride 2; mean over
    positions; linear.

    A plain classifier of images for measuring with: `features` are what generated images are
    compared in.
    """

    FEATURES = 64

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__(config, network)
        widths, layers = (config.in_channels, 32, 64, 64, self.FEATURES), []
        for i in range(4):
            layers += [
                nn.Conv2d(widths[i], widths[i + 1], 3, stride=2 if i else 1, padding=1, bias=False),
                _batch_norm(widths[i + 1]),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(self.FEATURES, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to (N, 64)."""
        self._check_input(x)
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
