"""The SFNE block (slow-fast neural encoding): every branch sees full context, at full resolution.

Source: arXiv 2401.17948.
Golden: terminator_rgu, _hyper_channel, _hyper_interaction, _local_branch, _model_small.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator import hyperzzw
from terminator.config import ModelConfig
from terminator.layers import Pointwise, concatenated_map, gated_map, is_plain, mean_over, named
from terminator.mixers.registry import MAP_MIXERS
from terminator.slow_net import LocalSlowNet, SlowNet, resize
from terminator.standardization import (
    BatchStandardization,
    InstanceStandardization,
    make_standardization,
)

HAM_RANK = 16  # of a Hamburger in the operator's place, where channels and positions allow it


class RGU(nn.Module):
    """Recursive gated unit: q = GELU(IS(k * (W_q v + b_q))) + P, y = W_y q + b_y, k and v linear in
    x.

    Args:
        channels: C.
        dimensions, size: of the bias map P over positions, learnable, 0 at first.
        cancels: a standardisation follows, see Pointwise.

    Shapes: (N, C, *positions) to the same.
    """

    def __init__(self, channels: int, dimensions: int, size: int, cancels: bool = False):
        super().__init__()
        self.k, self.v, self.q = (Pointwise(channels, channels) for _ in range(3))
        self.y = Pointwise(channels, channels, cancels=cancels)
        self.standardize = InstanceStandardization()
        self.bias_map = nn.Parameter(torch.zeros(1, 1, *[size] * dimensions))

    def forward(self, x: Tensor) -> Tensor:
        if all(is_plain(layer, Pointwise) for layer in (self.k, self.v, self.q)):
            weight = self.q.weight @ self.v.weight  # two maps in a row are one
            bias = self.q.weight @ self.v.bias + self.q.bias
            gated = gated_map(x, (self.k.weight, weight), (self.k.bias, bias))  # (N, C, *positions)
        else:
            gated = self.k(x) * self.q(self.v(x))
        return self.y(F.gelu(self.standardize(gated)).add_(self.bias_map.to(gated.dtype)))

    def at_size(self, size: int) -> None:
        """Interpolate the bias map to `size` positions per axis, in place."""
        resize(self, size)


class HyperChannelInteraction(nn.Module):
    """out = x * sigmoid((w * y) * y), y the channel means of x, w a hyper-kernel over channels.

    Args:
        channels: C.
        hidden: of the channel slow net.
        slow_net: its further settings.

    Shapes: (N, C, *positions) to the same.
    """

    def __init__(self, channels: int, hidden: int, **slow_net: Any):
        super().__init__()
        self.slow_net = SlowNet(1, channels, 1, hidden, **slow_net)

    def forward(self, x: Tensor) -> Tensor:
        return hyper_channel_interaction(x, self.slow_net())


def hyper_channel_interaction(x: Tensor, channel_kernel: Tensor) -> Tensor:
    """x (N, C, *positions) and channel_kernel (1, 1, C) to (N, C, *positions)."""
    y = mean_over(x.flatten(2), -1)[:, None]  # (N, 1, C)
    score = torch.sigmoid(hyperzzw.two_elementwise(channel_kernel.to(y.dtype), y))
    return x * score.view(*x.shape[:2], *[1] * (x.ndim - 2))


class HyperInteraction(nn.Module):
    """out = x * sigmoid(s_s * s_c): spatial and channel scores of the high-level y filter the
    low-level x.

    Args:
        channels: C.
        dimensions, size: of the positions.
        spatial_hidden, channel_hidden: of the two slow nets.
        slow_net: their further settings.

    Returns:
        (out, score), both (N, C, *positions), score in (0, 1).
    """

    def __init__(
        self,
        channels: int,
        dimensions: int,
        size: int,
        spatial_hidden: int,
        channel_hidden: int,
        **slow_net: Any,
    ):
        super().__init__()
        self.channel_slow_net = SlowNet(1, channels, 1, channel_hidden, **slow_net)
        self.spatial_slow_net = SlowNet(dimensions, size, 1, spatial_hidden, **slow_net)

    def forward(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        score = interaction_score(y, self.channel_slow_net(), self.spatial_slow_net())
        return x * score, score


def interaction_score(y: Tensor, channel_kernel: Tensor, spatial_kernel: Tensor) -> Tensor:
    """sigmoid(s_s * s_c); see interaction_logits."""
    return torch.sigmoid(interaction_logits(y, channel_kernel, spatial_kernel))


def interaction_logits(y: Tensor, channel_kernel: Tensor, spatial_kernel: Tensor) -> Tensor:
    """s_s * s_c of y (N, C, *positions), channel_kernel (1, 1, C), spatial_kernel (1, 1,
    *positions), like y.
    """
    channel_mean = mean_over(y.flatten(2), -1)[:, None]  # (N, 1, C)
    channel = hyperzzw.two_elementwise(channel_kernel.to(y.dtype), channel_mean)
    # (N, 1, *positions)
    spatial = hyperzzw.two_elementwise(spatial_kernel.to(y.dtype), mean_over(y, 1, keepdim=True))
    return spatial * channel.view(*y.shape[:2], *[1] * (y.ndim - 2))


class LocalBranch(nn.Module):
    """Local hyper-kernels from `source`, applied to x: convolution, channel mixer, BS, GELU, plus a
    scalar.

    Args:
        slow_net: makes the depth-wise kernels (C, 1, k[, k]) from the source.
        channels: C.

    Returns:
        (features (N, C, *positions), kernels).
    """

    def __init__(self, slow_net: LocalSlowNet, channels: int):
        super().__init__()
        self.slow_net = slow_net
        self.mixer = Pointwise(channels, channels, init="normal", cancels=True)
        self.standardize = BatchStandardization(channels)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, source: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        kernel = self.slow_net(source)
        return self.features(x, kernel).add_(self.bias.to(x.dtype)), kernel

    def features(self, x: Tensor, kernel: Tensor) -> Tensor:
        """GELU(BS(mixer(x * kernel))), without the scalar."""
        return F.gelu(self.standardize(self.mixer(hyperzzw.local_operator(x, kernel))))


class Bottleneck(Pointwise):
    """The linear map from the concatenation of all branches to the block's output channels.

    Args:
        channels: C of a branch.
        branches: how many there are.
        out_channels: as its name says.

    Takes a list of branches (N, C, *positions). One with C' < C channels counts as tiled to C:
    since a tiled branch repeats its channels, the weights that see the same channel are summed up
    instead.
    """

    def __init__(self, channels: int, branches: int, out_channels: int):
        super().__init__(branches * channels, out_channels, init="normal", cancels=True)
        self.channels = channels

    def forward(self, branches: list[Tensor]) -> Tensor:  # type: ignore[override]  # of branches, not their sum
        """(N, out_channels, *positions)."""
        weights = [
            part
            if branch.shape[1] == self.channels
            else part.unflatten(1, (-1, branch.shape[1])).sum(1)
            for part, branch in zip(self.weight.split(self.channels, 1), branches, strict=True)
        ]
        return concatenated_map(
            branches, torch.cat(weights, 1), self.bias, self.cancels and self.training
        )


def product_scale(config: ModelConfig) -> float:
    """Terms per sum of the global operator at the size of training, over those at this size: 1 for
    equal sizes.

    A matrix product sums over one side of the map, a convolution over all positions.
    """
    axes = config.dimensions / 2 if config.operator == "matrix" else config.dimensions
    return (config.sizes.trained_size / config.sizes.size) ** axes


def make_global_mixer(config: ModelConfig, channels: int) -> nn.Module | None:
    """What stands in the global operator's place: a Hamburger, a linear map, or nothing.

    One for all three values that the operator is applied to, as they share the slow score; it does
    not see the score.
    """
    if config.global_mixer == "hamburger":
        rank = min(HAM_RANK, max(1, channels // 2), config.sizes.size**config.dimensions)
        return MAP_MIXERS["hamburger"].make({"channels": channels}, {"rank": rank})
    return Pointwise(channels, channels) if config.global_mixer == "none" else None


class BlockParts(NamedTuple):
    """Everything that one SFNE block computes; N images, C channels in, f its factor."""

    output: Tensor  # (N, f C, *positions)
    hyper_kernel: Tensor  # W (1, C, *positions)
    slow_score: Tensor  # S (N, C, *positions)
    branches: dict[str, Tensor]  # name: (N, C, *positions), in the order of the concatenation
    mixed: Tensor  # (N, C, *positions)
    interacted: Tensor  # (N, C, *positions)
    local_kernels: dict[str, Tensor]  # l1..l4: (C, 1, k[, k])
    interaction_score: Tensor | None  # (N, C, *positions), in (0, 1)


class SFNEBlock(nn.Module):
    """One slow-fast neural encoding block.

    Args:
        config: the network's resolved configuration.
        index: of the block, from 0.
        skips: number of earlier block outputs that it is given.

    Shapes: x (N, C, *positions) and skips (N, C', *positions), C a multiple of C', to (N, f C,
        *positions).

    forward's `tiled`: give the skips among the branches tiled to C channels; False saves that work.
    """

    def __init__(self, config: ModelConfig, index: int, skips: int = 0):
        super().__init__()
        c, d, size = config.channels[index], config.dimensions, config.sizes.size
        slow_net: dict[str, Any] = dict(
            omega_0=config.omega_0, alpha=config.gamma_alpha, beta=config.gamma_beta
        )
        self.operator = config.operator
        self.product_scale = product_scale(config)
        self.global_mixer = make_global_mixer(config, c)
        self.slow_net = SlowNet(
            d, size, c, config.global_hidden, depth=3 if index == 0 else 2, **slow_net
        )
        self.standardize = InstanceStandardization()

        def gate() -> nn.Module:
            return RGU(c, d, size, cancels=True) if config.rgu else Pointwise(c, c, cancels=True)

        self.rgu_slow, self.rgu_fast = gate(), gate()
        self.mixer = Pointwise(c, c, init="normal", cancels=True)
        self.hyper_channel_interaction: HyperChannelInteraction | None = None
        self.hyper_interaction: HyperInteraction | None = None
        if config.hyper_channel_interaction:
            self.hyper_channel_interaction = HyperChannelInteraction(
                c, config.channel_hidden, **slow_net
            )
        if config.hyper_interaction:
            self.hyper_interaction = HyperInteraction(
                c, d, size, config.global_hidden, config.interaction_hidden, **slow_net
            )
        self.locals = named(
            {
                f"l{i}": LocalBranch(
                    LocalSlowNet(
                        d,
                        k,
                        c,
                        config.local_hidden,
                        context=config.local_context,
                        context_init=config.local_context_init,
                        renormalization=config.renormalization,
                        trainable_renormalization=config.trainable_renormalization,
                        **slow_net,
                    ),
                    c,
                )
                for i, k in enumerate(config.local_sizes, start=1)
                if k
            }
        )
        self.si_glu = config.si_glu
        width = 4 + len(self.locals) + skips + config.si_glu + config.hyper_interaction
        out = c * config.sizes.factors[index]
        self.bottleneck = Bottleneck(c, width, out)
        self.group_standardize = make_standardization(config.standardization, out, config.groups)
        self.bias = nn.Parameter(torch.zeros(1))
        p = config.dropout[min(index, len(config.dropout) - 1)]
        self.dropout = (nn.Dropout1d if d == 1 else nn.Dropout2d)(p)

    def forward(self, x: Tensor, skips: tuple[Tensor, ...] = (), tiled: bool = True) -> BlockParts:
        hyper_kernel = self.slow_net()  # W (1, C, *positions), of coordinates alone
        score = hyperzzw.slow_score(x, hyper_kernel)  # S = W * Z (N, C, *positions)

        # the transforms of Z that S is applied to, each (N, C, *positions) with mean 0 and variance
        # 1
        fast = self.standardize(self.rgu_slow(score) + self.rgu_fast(x))  # IS(RGU_s(S) + RGU_f(Z))
        mixed = self.standardize(self.mixer(x))  # IS(channel mixer of Z)
        channel = x if self.hyper_channel_interaction is None else self.hyper_channel_interaction(x)
        # IS(Z * sigmoid((w * y) * y)), y the channels' means
        interacted = self.standardize(channel)

        # global branches: S as fast weight, (N, C, *positions) each
        o, o_mixed, o_interacted = (self._global(score, z) for z in (fast, mixed, interacted))
        # local hyper-kernels (C, 1, k[, k]), applied
        local, kernels = self._local(x, mixed, interacted)
        if tiled:
            skips = tuple(
                skip.repeat(1, x.shape[1] // skip.shape[1], *[1] * (x.ndim - 2)) for skip in skips
            )
        branches: dict[str, Tensor | None] = {
            "o": o,
            "l2": local.get("l2"),
            "skip1": skips[0] if skips else None,
            "fast": fast,
            "o_mixed": o_mixed,
            "l1": local.get("l1"),
            "glu": F.silu(o) if self.si_glu else None,
            "l3": local.get("l3"),
            "o_interacted": o_interacted,
            "l4": local.get("l4"),
            "skip2": skips[1] if len(skips) > 1 else None,
        }
        hyper_score = None
        # Z * sigmoid(s_s * s_c), both scores of the high-level o
        if self.hyper_interaction is not None:
            branches["hyper"], hyper_score = self.hyper_interaction(o, x)
        there = {name: branch for name, branch in branches.items() if branch is not None}

        # one linear map of all branches: (N, f C, *positions)
        encoded = self.bottleneck(list(there.values()))
        # G-IBS, GELU
        output = self.dropout(F.gelu(self.group_standardize(encoded)).add_(self.bias.to(x.dtype)))
        return BlockParts(
            output, hyper_kernel, score, there, mixed, interacted, kernels, hyper_score
        )

    def _global(self, score: Tensor, value: Tensor) -> Tensor:
        if self.global_mixer is not None:
            return self.global_mixer(value)
        product = hyperzzw.global_operator(self.operator, score, value)
        return product if self.product_scale == 1.0 else product * self.product_scale

    def _local(
        self, x: Tensor, mixed: Tensor, interacted: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Local features and kernels by branch name; each branch has its own source and input."""
        wiring = {"l1": (x, interacted), "l2": (interacted, x), "l3": (mixed, x), "l4": (x, mixed)}
        features, kernels = {}, {}
        for name, branch in self.locals.items():
            features[name], kernels[name] = branch(*wiring[name])
        return features, kernels
