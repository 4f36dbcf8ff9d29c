"""The CNN whose weights are generated: conv layers (generated or trained) and a logits layer
(always generated).

Source: arXiv 2201.04182 and its reference implementation.
Golden: hypertransformer_cnn_forward, hypertransformer_logits_alloc.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hypertransformer import allocation
from terminator.hypertransformer.allocation import ConvWeights, HeadWeights
from terminator.hypertransformer.features import LocalFeatures, batch_norm, same_padding
from terminator.hypertransformer.generator import Generator
from terminator.hypertransformer.settings import HyperTransformerSettings

LRELU_SLOPE = 0.01
PENALTY_EPS = 1e-8


def episode_conv(
    folded: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: str = "same",
) -> Tensor:
    """Convolve every episode with its own kernel, as one grouped convolution.

    Args:
        folded: (N, E I, H, W).
        kernel: (E, O, I, k, k) or (1, O, I, k, k).
        bias: (E, O), (1, O) or nothing.
        padding: same (TensorFlow's rule) or valid.

    Returns:
        (N, E O, H', W').
    """
    episodes = folded.shape[1] // kernel.shape[2]
    if padding == "same":
        folded = same_padding(folded, kernel.shape[-1], stride)
    kernel = kernel.expand(episodes, -1, -1, -1, -1).flatten(0, 1)  # (E O, I, k, k)
    bias = None if bias is None else bias.expand(episodes, -1).flatten()
    return F.conv2d(folded, kernel, bias, stride, groups=episodes)


def activate(x: Tensor, kind: str) -> Tensor:
    """ReLU, or leaky ReLU with slope 0.01."""
    return x.relu() if kind == "relu" else F.leaky_relu(x, LRELU_SLOPE)


def head_logits(folded: Tensor, head: HeadWeights, flattens: bool, dropout: float = 0.0) -> Tensor:
    """Logits (E, M, n) of activations (M, E C, H, W): W f + b; f flattened (C, H, W), or the means
    over space.
    """
    x = folded.unflatten(1, (len(head.bias), -1))  # (M, E, C, H, W)
    x = x.flatten(2) if flattens else x.mean((-1, -2))  # (M, E, F)
    x = F.dropout(x, dropout, dropout > 0).transpose(0, 1)  # (E, M, F)
    return torch.baddbmm(head.bias[:, None].to(x.dtype), x, head.weight.mT.to(x.dtype))  # (E, M, n)


def squared_norm(x: Tensor) -> Tensor:
    """Sum of squares per episode, mean over the episodes."""
    return x.square().flatten(1).sum(1).mean()


class ConvLayer(nn.Module):
    """conv, activation, 2x2 max-pool (maxpool-4-layer), batch norm by batch statistics.

    Args:
        settings: as its name says.
        index: of the layer, from 0.

    Shapes: folded (N, E I, H, W) to (N, E O, H', W').
    """

    def __init__(self, settings: HyperTransformerSettings, index: int):
        super().__init__()
        self.settings, s = settings, settings
        self.in_channels = s.default_num_channels if index else s.in_channels
        out, self.is_trained = s.default_num_channels, s.is_trained(index)
        self.generator = None if self.is_trained else self._make_generator(s.sizes()[index])
        shape = (out, self.in_channels, s.kernel_size, s.kernel_size)
        fixed = self.is_trained or s.add_trainable_weights
        self.kernel = nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape))) if fixed else None
        has_bias = s.profile == "port" or (fixed and s.lw_generate_bias)
        self.bias = nn.Parameter(self._initial_bias(out)) if has_bias else None
        generates_bn = s.lw_generate_bn and not self.is_trained
        self.generates_bn = generates_bn
        sets = (not generates_bn) * (1 + s.separate_evaluation_bn_vars)
        # support, then query if kept apart
        self.gamma = nn.ParameterList(torch.ones(out) for _ in range(sets))
        self.beta = nn.ParameterList(torch.zeros(out) for _ in range(sets))
        offsets = generates_bn and s.add_trainable_weights
        self.gamma_offset = nn.Parameter(torch.ones(out)) if offsets else None
        self.beta_offset = nn.Parameter(self._initial_bias(out)) if offsets else None

    def _make_generator(self, size: int) -> Generator:
        s, out = self.settings, self.settings.default_num_channels
        if s.lw_weight_allocation == "output":
            blocks = out
            block_size = allocation.output_block_size(
                self.in_channels, s.kernel_size, s.lw_generate_bias, s.lw_generate_bn
            )
        else:
            blocks, block_size = s.kernel_size**2, self.in_channels * out
        features = s.num_layerwise_features
        features = max(self.in_channels, out) if features is None else features
        local = LocalFeatures(
            self.in_channels, features, size, s.kernel_size, port=s.profile == "port"
        )
        return Generator(s, blocks, block_size, local)

    def _initial_bias(self, out: int) -> Tensor:
        """Zeros, but small random numbers where a penalty divides by their norm."""
        bound = (6 / (self.settings.kernel_size**2 * (self.in_channels + out))) ** 0.5
        return (
            (2 * torch.rand(out) - 1) * bound
            if self.settings.weight_variation_regularization
            else torch.zeros(out)
        )

    def weights(
        self,
        folded: Tensor,
        labels: Tensor,
        shared: Tensor | None,
        mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
    ) -> tuple[ConvWeights, Tensor]:
        """This layer's weights for every episode, and their penalty; arguments as Generator's."""
        if self.is_trained:
            penalty = folded.new_zeros((), dtype=torch.promote_types(folded.dtype, torch.float32))
            return ConvWeights(
                self.kernel[None], None if self.bias is None else self.bias[None]
            ), penalty
        return self.assemble(self.generator(folded, labels, shared, mask, maps))

    def assemble(self, blocks: Tensor) -> tuple[ConvWeights, Tensor]:
        """Generated blocks (E, B, S) as weights, with trained offsets where there are some; and
        their penalty.
        """
        s, penalty = (
            self.settings,
            blocks.new_zeros((), dtype=torch.promote_types(blocks.dtype, torch.float32)),
        )
        port = s.profile == "port"
        if s.lw_weight_allocation == "output":
            made = allocation.allocate_output(
                blocks, self.in_channels, s.kernel_size, s.lw_generate_bias, s.lw_generate_bn, port
            )
        else:
            made = allocation.allocate_spatial(
                blocks, self.in_channels, s.default_num_channels, s.kernel_size, port
            )
        offsets = ConvWeights(self.kernel, self.bias, self.gamma_offset, self.beta_offset)
        for generated, offset in zip(made, offsets):
            if s.weight_variation_regularization and generated is not None:
                ratio = squared_norm(generated) / (PENALTY_EPS + offset.square().sum())
                penalty = penalty + s.weight_variation_regularization * ratio
        weights = ConvWeights(
            *(_added(generated, offset) for generated, offset in zip(made, offsets))
        )
        return weights, penalty + s.l2_reg_weight * squared_norm(weights.kernel)

    def forward(self, folded: Tensor, weights: ConvWeights, is_query: bool = False) -> Tensor:
        s = self.settings
        padding = "same" if s.flattens else "valid"
        x = episode_conv(folded, weights.kernel, weights.bias, s.stride, padding)  # (N, E O, h, w)
        if not s.activation_after_bn:
            x = activate(x, s.cnn_activation)
        if s.flattens:
            x = F.max_pool2d(x, 2)  # (N, E O, h // 2, w // 2)
        gamma, beta = weights.gamma, weights.beta
        if not self.generates_bn:
            which = -1 if is_query else 0  # one and the same, unless they are kept apart
            gamma, beta = self.gamma[which], self.beta[which]
        x = batch_norm(x, gamma, beta, s.bn_eps)
        return activate(x, s.cnn_activation) if s.activation_after_bn else x


class HeadLayer(nn.Module):
    """The logits layer: dropout, then W f + b, both generated.

    Args:
        settings: as its name says.
        in_channels: as its name says.
        size: pixels a side of what enters.
        outputs: nothing for n, the ways.

    Shapes: folded (M, E C, H, W) to logits (E, M, n).
    """

    def __init__(
        self,
        settings: HyperTransformerSettings,
        in_channels: int,
        size: int,
        outputs: int | None = None,
    ):
        super().__init__()
        self.settings, s = settings, settings
        outputs = s.num_labels if outputs is None else outputs
        flat = in_channels * size**2 if s.flattens else in_channels
        uses_local, uses_flat = (
            s.logits_feature_extractor != "passthrough",
            s.logits_feature_extractor != "default",
        )
        features = in_channels if s.num_layerwise_features is None else s.num_layerwise_features
        local = LocalFeatures(
            in_channels,
            features * uses_local,
            size,
            s.kernel_size,
            1,
            s.lw_use_nonlinear_feature,
            s.profile == "port",
        )
        self.generator = Generator(s, outputs, flat + 1, local, flat * uses_flat)
        has_offset = s.add_trainable_weights and s.profile != "port"
        self.weight = (
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(outputs, flat)))
            if has_offset
            else None
        )
        self.bias = nn.Parameter(torch.zeros(outputs)) if has_offset else None

    def weights(
        self,
        folded: Tensor,
        labels: Tensor,
        shared: Tensor | None,
        mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
    ) -> HeadWeights:
        """The classifier of every episode; arguments as Generator's."""
        return self.assemble(self.generator(folded, labels, shared, mask, maps))

    def assemble(self, blocks: Tensor) -> HeadWeights:
        """Generated blocks (E, B, F + 1) as a classifier, with the trained offset where there is
        one.
        """
        made = allocation.allocate_logits(blocks)
        return HeadWeights(_added(made.weight, self.weight), _added(made.bias, self.bias))

    def forward(self, folded: Tensor, weights: HeadWeights) -> Tensor:
        dropout = self.settings.cnn_dropout_rate if self.training else 0.0
        return head_logits(folded, weights, self.settings.flattens, dropout)


def _added(generated: Tensor | None, offset: Tensor | None) -> Tensor | None:
    """The sum, where an episode axis is added to the offset; one alone if the other is missing."""
    if generated is None:
        return None if offset is None else offset[None]
    return generated if offset is None else generated + offset
