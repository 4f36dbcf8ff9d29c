"""The ham as a layer: features to matrices, first bases, decomposition, reconstruction.

Source: arXiv 2109.04553 and its released code.  Golden: hamburger_nmf, hamburger_vq, hamburger_cd.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from terminator.hamburger.decompositions import (
    Decomposition,
    cd,
    nmf,
    online_update,
    random_bases,
    reconstruct,
    vq,
)
from terminator.hamburger.settings import HamSettings, settings_of
from terminator.runtime.settings import ConfigError, to_dict


def to_matrix(x: Tensor, heads: int = 1, mode: str = "spatial") -> Tensor:
    """Features x (B, C, *positions) as matrices X (B*S, D, N), heads innermost, P positions in all.

    Args:
        spatial: D = C/S, N = P, a column is a position.
        channel: D = P, N = C/S, a column is a channel.
    """
    matrix = x.reshape(len(x) * heads, x.shape[1] // heads, x.shape[2:].numel())  # (B*S, C/S, P)
    return matrix if mode == "spatial" else matrix.mT


def from_matrix(matrix: Tensor, shape: torch.Size, mode: str = "spatial") -> Tensor:
    """The inverse of to_matrix: (B*S, D, N) to `shape` = (B, C, *positions)."""
    return (matrix if mode == "spatial" else matrix.mT).reshape(shape)


class Ham(nn.Module):
    """Replace features by the low-rank signal in them, X_bar = U V^T.

    Args:
        channels: C, a multiple of the heads.
        settings: HamSettings.
        changes: single ones to replace.

    State: `bases` (S, D, R), a buffer, only with random_init=False; `train_steps`, `eval_steps` can
        be set.
    Shapes: (B, C, *positions) to the same, with the same type; inside it is float32 or wider.

    Raises:
        ConfigError: for impossible settings.
        ValueError: for inputs that do not fit (NMF: negative ones).

    Differs: the release creates shared bases at first use, and fails on several heads in channel
        mode.
    """

    def __init__(self, channels: int, settings: HamSettings | None = None, **changes: Any):
        super().__init__()
        self.settings = s = settings_of(HamSettings, settings, changes)
        if s.mode == "dual":
            raise ConfigError(
                "mode is 'dual'; allowed: spatial, channel for a Ham; a DualHam has both"
            )
        if channels % s.heads:
            raise ConfigError(
                f"heads is {s.heads}; allowed: a divisor of the {channels} channels of the ham"
            )
        if s.rank > channels // s.heads:
            raise ConfigError(
                f"rank is {s.rank}; allowed: 1 to {channels // s.heads}, the channels per head"
            )
        self.channels, self.train_steps, self.eval_steps = channels, s.train_steps, s.eval_steps
        self._generator: torch.Generator | None = None  # set by seeded_bases
        shared = None
        if not s.random_init:
            features = channels // s.heads if s.mode == "spatial" else s.positions
            if s.rank > features:
                raise ConfigError(f"rank is {s.rank}; allowed: 1 to {features}, the positions")
            shared = random_bases(s.kind, (s.heads, features, s.rank), normalized=s.normalized_init)
        self.register_buffer("bases", shared)

    def forward(
        self, x: Tensor, bases: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The reconstruction of x, from bases (B*S, D, R) if given, which are then not updated
        online.
        """
        found = self.decompose(x, bases, generator)
        if bases is None and self._is_update_due():
            self._update(found.bases)
        return from_matrix(reconstruct(*found), x.shape, self.settings.mode).to(x.dtype)

    def decompose(
        self, x: Tensor, bases: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Decomposition:
        """The bases U_K (B*S, D, R) and coefficients V* (B*S, N, R) of x; changes nothing."""
        s = self.settings
        if x.ndim < 3 or x.shape[1] != self.channels:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; allowed: (B, {self.channels}, *positions)"
            )
        matrix = to_matrix(x, s.heads, s.mode)  # (B*S, D, N)
        expected = (*matrix.shape[:2], s.rank)
        if bases is None:
            bases = self._first_bases(expected, x, generator)
        elif tuple(bases.shape) != expected:
            raise ValueError(
                f"bases has shape {tuple(bases.shape)}; allowed: (B*S, D, R) = {expected}"
            )
        steps = self.train_steps if self.training else self.eval_steps
        if s.kind == "NMF":
            return nmf(matrix, bases, steps, one_step=s.one_step)
        if s.kind == "VQ":
            return vq(matrix, bases, steps, s.inverse_temperature, one_step=s.one_step)
        return cd(matrix, bases, steps, s.inverse_temperature, s.ridge, one_step=s.one_step)

    def _first_bases(
        self, shape: tuple[int, ...], x: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        s = self.settings
        if self.bases is None:
            generator = self._generator if generator is None else generator
            wide = torch.promote_types(x.dtype, torch.float32)
            return random_bases(s.kind, shape, generator, x.device, wide, s.normalized_init)
        if self.bases.shape[1] != shape[1]:  # only in channel mode
            raise ValueError(
                f"x has {shape[1]} positions; allowed: {self.bases.shape[1]}, the positions of the "
                "shared bases (random_init=True takes any number)"
            )
        # (B*S, D, R), heads innermost; a copy: updates are in place
        return self.bases.repeat(len(x), 1, 1)

    def _is_update_due(self) -> bool:
        when = {"training": self.training, "released": not self.training, "off": False}
        return self.bases is not None and when[self.settings.online_update]

    @torch.no_grad()
    def _update(self, bases: Tensor) -> None:
        mean = bases.reshape(-1, *self.bases.shape).mean(0)  # (S, D, R)
        if (
            self.training
            and dist.is_available()
            and dist.is_initialized()
            and dist.get_world_size() > 1
        ):
            dist.all_reduce(mean)  # the batch is spread over several processes
            mean = mean / dist.get_world_size()
        self.bases.copy_(online_update(self.bases.to(mean.dtype), mean, self.settings.eta))

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in to_dict(self.settings).items())


class DualHam(nn.Module):
    """A ham in spatial mode for the first half of the channels, one in channel mode for the second.

    Args:
        channels: 2 C'.
        settings: HamSettings, their mode aside.
        changes: single settings to replace.

    Shapes: (B, 2 C', *positions) to the same.
    """

    def __init__(self, channels: int, settings: HamSettings | None = None, **changes: Any):
        super().__init__()
        if channels % 2:
            raise ConfigError(f"channels is {channels}; allowed: an even number for two hams")
        settings = settings_of(HamSettings, settings, changes)
        self.spatial = Ham(channels // 2, replace(settings, mode="spatial"))
        self.channel = Ham(channels // 2, replace(settings, mode="channel"))

    def forward(
        self,
        x: Tensor,
        bases: tuple[Tensor | None, Tensor | None] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The two reconstructions; bases, if given, of the spatial and of the channel ham."""
        if bases is not None and (isinstance(bases, Tensor) or len(bases) != 2):
            raise ValueError(
                f"bases is a {type(bases).__name__}; allowed: a pair of them, for the spatial and "
                "the channel ham"
            )
        of_spatial, of_channel = (None, None) if bases is None else bases
        first, second = x.chunk(2, dim=1)
        return torch.cat(
            [
                self.spatial(first, of_spatial, generator),
                self.channel(second, of_channel, generator),
            ],
            dim=1,
        )


def make_ham(channels: int, settings: HamSettings) -> Ham | DualHam:
    """The ham of these settings, for `channels` channels in all."""
    return (DualHam if settings.mode == "dual" else Ham)(channels, settings)


@contextmanager
def seeded_bases(
    model: nn.Module, seed: int, device: torch.device | str = "cpu"
) -> Iterator[torch.Generator]:
    """Draw the random bases of all hams in `model` from one generator, started at `seed`,
    meanwhile.

    Evaluation is stochastic without it: every forward pass draws new bases.
    """
    generator = torch.Generator(device).manual_seed(seed)
    hams = [module for module in model.modules() if isinstance(module, Ham)]
    before = [ham._generator for ham in hams]
    for ham in hams:
        ham._generator = generator
    try:
        yield generator
    finally:
        for ham, previous in zip(hams, before):
            ham._generator = previous
