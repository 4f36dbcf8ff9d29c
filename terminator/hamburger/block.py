"""The Hamburger blocks: bread, ham, (cheese,) bread, and a shortcut around them.

    V1:   ReLU(x + BN(W_u ham(W_l x)))          V2:   ReLU(x + W_u cheese(ham(W_l x)))
    V2+:  ReLU(a W_u cheese(ham(W_l x)) + b x),  a and b learnt

With a ReLU after W_l where the ham is NMF. The last ReLU is the release's; the paper's formula has
none.

Source: arXiv 2109.04553 and its released code.  Golden: hamburger_block.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hamburger.ham import make_ham
from terminator.hamburger.settings import HamburgerSettings, settings_of
from terminator.runtime.settings import ConfigError

BN_MOMENTUM = 3e-4  # weight of the batch in the running statistics


class Hamburger(nn.Module):
    """A Hamburger block of any version; it keeps the shape of what it is given.

    Args:
        channels: of the input.
        settings: HamburgerSettings, without them the released V2.
        changes: single settings to replace, e.g. Hamburger(64, version="V1", width=64, rank=8).

    Parts:   `lower` (bread), `ham`, `cheese` (None in V1), `upper` (bread; with its BN in V1), and
        in V2+
             `ham_scale` a and `shortcut_scale` b, which the release trains without weight decay.

    Shapes: (B, channels, H, W) to the same; (B, channels, L) with dimensions=1.

    Raises:
        ConfigError: for impossible settings.
        ValueError: for inputs that do not fit.
    """

    def __init__(self, channels: int, settings: HamburgerSettings | None = None, **changes: Any):
        super().__init__()
        if channels < 1:
            raise ConfigError(f"channels is {channels}; allowed: an integer of at least 1")
        self.settings = s = settings_of(HamburgerSettings, settings, changes)
        self.channels = channels
        conv, batch_norm = (
            (nn.Conv1d, nn.BatchNorm1d) if s.dimensions == 1 else (nn.Conv2d, nn.BatchNorm2d)
        )
        inside, thin = s.ham_channels, s.ham_channels // s.cheese_divisor
        self.lower = conv(channels, inside, 1)
        self.ham = make_ham(inside, s)
        self.cheese = None
        if s.version == "V1":
            self.upper = nn.Sequential(
                conv(inside, channels, 1, bias=False), batch_norm(channels, momentum=BN_MOMENTUM)
            )
        else:
            self.cheese = nn.Sequential(
                conv(inside, thin, 1, bias=False), batch_norm(thin, momentum=BN_MOMENTUM), nn.ReLU()
            )
            self.upper = nn.Sequential(conv(thin, channels, 1, bias=False))
        self.ham_scale = self.shortcut_scale = None
        if s.version == "V2+":
            self.ham_scale = nn.Parameter(torch.zeros(1) if s.zero_ham else torch.ones(1))
            self.shortcut_scale = nn.Parameter(torch.ones(1))
        for module in self.modules():
            # deviation sqrt(2 / (k k C_out)); biases keep torch's default
            if isinstance(module, conv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, x: Tensor, bases: Any = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """x with its global context; bases (B*S, D, R) (a pair in dual mode) and generator are the
        ham's.
        """
        if x.ndim != self.settings.dimensions + 2 or x.shape[1] != self.channels:
            positions = "L" if self.settings.dimensions == 1 else "H, W"
            raise ValueError(
                f"x has shape {tuple(x.shape)}; allowed: (B, {self.channels}, {positions})"
            )
        y = self.ham(self.into_ham(x), bases, generator)  # (B, width, *positions)
        y = self.upper(y if self.cheese is None else self.cheese(y))  # (B, C, *positions)
        if self.ham_scale is None:
            return F.relu(x + y)
        return F.relu(self.ham_scale * y + self.shortcut_scale * x)

    def into_ham(self, x: Tensor) -> Tensor:
        """What the ham decomposes: W_l x + b, non-negative where the ham is NMF."""
        y = self.lower(x)
        return F.relu(y) if self.settings.kind == "NMF" else y
