"""One small network, the host, in which only the global mixer changes: every system's way of giving
each position the context of all others, taken out of its own network and put into the same place.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.classification.baselines import Baseline
from terminator.classification.config import NetworkConfig
from terminator.config import ModelConfig
from terminator.layers import Pointwise
from terminator.mixers.registry import make_map_mixer
from terminator.standardization import BatchStandardization

CHANNELS, BLOCKS = 32, 2  # of the host


class HostBlock(nn.Module):
    """x + mixer(BS(x)), then x + W_2 GELU(W_1 BS(x)): (N, C, H, W) to the same."""

    def __init__(self, mixer: nn.Module, channels: int):
        super().__init__()
        self.mixer = mixer
        self.standardize_mixer, self.standardize = (
            BatchStandardization(channels, affine=True) for _ in range(2)
        )
        self.widen, self.narrow = (
            Pointwise(channels, 2 * channels),
            Pointwise(2 * channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.standardize_mixer(x))
        return x + self.narrow(F.gelu(self.widen(self.standardize(x))))


class Host(Baseline):
    """3x3 stem, learnt positions, two blocks with the mixer of `network.mixer`, mean over
    positions, linear classifier.

    The positions are there for mixers that do not know where a pixel is; all get them.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__(config, network)
        self.stem = nn.Sequential(
            nn.Conv2d(config.in_channels, CHANNELS, 3, padding=1, bias=False),
            BatchStandardization(CHANNELS, affine=True),
            nn.GELU(),
        )
        self.positions = nn.Parameter(0.02 * torch.randn(1, CHANNELS, config.size, config.size))
        self.blocks = nn.Sequential(
            *(
                HostBlock(make_map_mixer(network.mixer, CHANNELS, config.size), CHANNELS)
                for _ in range(BLOCKS)
            )
        )
        self.standardize = BatchStandardization(CHANNELS, affine=True)
        self.classifier = nn.Linear(CHANNELS, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        y = self.standardize(self.blocks(self.stem(x) + self.positions))
        return self.classifier(y.flatten(2).mean(-1))
