"""HyperTransformer: Transformers read a support set and emit a small CNN's weights, first layer
first.

Many episodes at once: everything has an episode axis E, and no episode sees another.

Source: arXiv 2201.04182 and its reference implementation, which takes one episode a step.
Golden: hypertransformer_end2end, _end2end_spatial, _end2end_port.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hypertransformer.allocation import ConvWeights, HeadWeights
from terminator.hypertransformer.cnn import ConvLayer, HeadLayer
from terminator.hypertransformer.features import SharedFeatures, fold
from terminator.hypertransformer.schedules import warmup_weights
from terminator.hypertransformer.settings import HyperTransformerSettings
from terminator.hypertransformer.transformer import glorot_linear
from terminator.runtime.memory import can_be_read
from terminator.runtime.settings import ConfigError, from_dict, to_dict


class GeneratedCNN(NamedTuple):
    """The CNNs of E episodes: weights, and what else came with them."""

    convs: tuple[ConvWeights, ...]  # kernel (E, O, I, k, k), or (1, O, I, k, k) where it is trained
    head: HeadWeights  # weight (E, n, F), bias (E, n)
    penalty: Tensor  # regularisers, summed over the layers, mean over episodes
    shared_features: Tensor | None  # (E, N, f)
    # per layer, per Transformer layer: (E, h, T, U)
    attention: tuple[tuple[Tensor, ...], ...] | None = None


class Output(NamedTuple):
    """Query logits, logits of the warm-up heads, and the CNNs that gave them."""

    logits: Tensor  # (E, M, n)
    warmup_logits: tuple[Tensor, ...]  # each (E, M, n); none without warm-up
    cnn: GeneratedCNN


class HyperTransformer(nn.Module):
    """A generator of few-shot classifiers; one forward pass makes and applies a CNN per episode.

    Args:
        settings: HyperTransformerSettings; without, the Omniglot 20-way 1-shot model of 8 channels.
        changes: single settings to replace.

    Shapes: support images (E, N, C, H, W) and labels (E, N) in 0..n (n: no label), mask (E, N) with
        true for samples to leave out (they still take part in batch statistics); query images (E,
        M, C, H, W).

    Raises:
        ConfigError: for impossible settings.
        ValueError: for inputs that do not fit.

    Differs: dropout is off in evaluation, where the reference leaves it on.

    Note:    batch norm takes the statistics of the batch at hand, in evaluation too: a query's
        logits depend on the
             other queries of its episode, and a single image cannot be classified alone.
    """

    def __init__(self, settings: HyperTransformerSettings | None = None, **changes: Any):
        super().__init__()
        if settings is None or changes:
            base = {} if settings is None else to_dict(settings)
            settings = from_dict(HyperTransformerSettings, {**base, **changes})
        self.settings = s = settings
        sizes = s.sizes()
        self.shared = self._make_shared()
        self.convs = nn.ModuleList(ConvLayer(s, index) for index in range(s.conv_layers))
        self.head = HeadLayer(s, s.default_num_channels, sizes[-1])
        heads = s.conv_layers - 1 if s.warmup_steps else 0
        self.warmup_heads = nn.ModuleList(
            glorot_linear(s.default_num_channels, s.num_labels) for _ in range(heads)
        )
        classes = s.shared_head_classes
        self.shared_head = glorot_linear(s.shared_features_dim, classes) if classes else None

    def _make_shared(self) -> SharedFeatures | None:
        s = self.settings
        if s.shared_feature_extractor == "none":
            return None
        try:
            return SharedFeatures(
                s.in_channels,
                s.shared_features_dim,
                int(s.shared_feature_extractor[0]),
                s.shared_feature_extractor.endswith("-bn"),
                s.shared_feature_extractor_padding,
                s.image_size,
                s.bn_eps,
                relu=s.profile != "port",
            )
        except ValueError as error:
            raise ConfigError(
                f"shared_feature_extractor is {s.shared_feature_extractor!r}; {error}"
            ) from error

    def forward(
        self,
        support_images: Tensor,
        support_labels: Tensor,
        query_images: Tensor,
        support_mask: Tensor | None = None,
    ) -> Output:
        """Generate a CNN from every support set and apply it to its queries."""
        cnn = self.generate(support_images, support_labels, support_mask)
        logits, warmup_logits = self._all_logits(cnn, query_images)
        return Output(logits, warmup_logits, cnn)

    def generate(
        self,
        images: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> GeneratedCNN:
        """The CNNs of E support sets: images (E, N, C, H, W), labels (E, N), mask (E, N)."""
        self._check_images("support images", images)
        self._check_labels(labels, images, mask)
        x, episodes = fold(images), len(images)  # (N, E C, H, W)
        shared = None
        if self.shared is not None:
            shared = self.shared(x, episodes)  # (E, N, f)
            shared = F.dropout(shared, self.settings.shared_fe_dropout, self.training)
        penalty, convs, maps = 0.0, [], [[] for _ in range(len(self.convs) + 1)]
        for layer, found in zip(self.convs, maps):
            weights, cost = layer.weights(
                x, labels, shared, mask, found if return_attention else None
            )
            x, penalty = layer(x, weights), penalty + cost
            convs.append(weights)
        head = self.head.weights(x, labels, shared, mask, maps[-1] if return_attention else None)
        attention = tuple(map(tuple, maps)) if return_attention else None
        return GeneratedCNN(tuple(convs), head, penalty, shared, attention)

    def classify(self, cnn: GeneratedCNN, images: Tensor) -> Tensor:
        """Logits (E, M, n) of query images (E, M, C, H, W) by CNNs that `generate` made."""
        return self._all_logits(cnn, images)[0]

    def activations(self, cnn: GeneratedCNN, images: Tensor, is_query: bool = True) -> list[Tensor]:
        """What every conv layer gives for images (E, M, C, H, W), each folded (M, E O, H', W')."""
        self._check_images("query images", images)
        if len(images) != len(cnn.head.bias):
            raise ValueError(
                f"query images are of {len(images)} episodes, the CNNs of {len(cnn.head.bias)}"
            )
        x, found = fold(images), []
        for layer, weights in zip(self.convs, cnn.convs):
            x = layer(x, weights, is_query)
            found.append(x)
        return found

    def _all_logits(self, cnn: GeneratedCNN, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        found = self.activations(cnn, images)
        warmup = []
        for activation, linear in zip(found, self.warmup_heads):
            # (E, M, O)
            means = activation.mean((-1, -2)).unflatten(1, (len(images), -1)).transpose(0, 1)
            warmup.append(linear(means))
        return self.head(found[-1], cnn.head), tuple(warmup)

    def loss_terms(
        self, output: Output, query_labels: Tensor, step: int = 0, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """The terms to add up, by name, means over episodes and queries.

        Args:
            output: of forward.
            query_labels: (E, M) in 0..n-1.
            step: for the layer warm-up.

        Returns:
            cross_entropy (times its warm-up weight), warmup_j where its weight is above 0, and
            penalty where a regulariser is on.
        """
        labels = query_labels.flatten()
        shares = warmup_weights(step, self.settings.warmup_steps, len(self.warmup_heads))
        named = {f"warmup_{j + 1}": logits for j, logits in enumerate(output.warmup_logits)}
        named["cross_entropy"] = output.logits
        terms = {}
        for (name, logits), share in zip(named.items(), shares):
            if share or name == "cross_entropy":
                logits = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
                terms[name] = share * F.cross_entropy(
                    logits, labels, label_smoothing=label_smoothing
                )
        if self.settings.weight_variation_regularization or self.settings.l2_reg_weight:
            terms["penalty"] = output.cnn.penalty
        return terms

    def shared_logits(self, cnn: GeneratedCNN) -> Tensor:
        """Logits (E, N, classes) of the support images' real classes, from their shared
        features.
        """
        if self.shared_head is None:
            raise ValueError("shared_head_classes is 0; this model has no shared head")
        return self.shared_head(cnn.shared_features)

    def _check_images(self, what: str, images: Tensor) -> None:
        s = self.settings
        expected = (s.in_channels, s.image_size, s.image_size)
        if images.ndim != 5 or tuple(images.shape[2:]) != expected or 0 in images.shape:
            raise ValueError(
                f"{what} have shape {tuple(images.shape)}; this model takes (episodes, images, "
                f"{', '.join(map(str, expected))})"
            )

    def _check_labels(self, labels: Tensor, images: Tensor, mask: Tensor | None) -> None:
        for what, found in (("support labels", labels), ("support mask", mask)):
            if found is not None and found.shape != images.shape[:2]:
                raise ValueError(
                    f"{what} have shape {tuple(found.shape)}; allowed: {tuple(images.shape[:2])}, "
                    "one per support image"
                )
        ways = self.settings.num_labels
        if can_be_read(labels) and not 0 <= labels.min() <= labels.max() <= ways:
            raise ValueError(
                f"support labels reach from {labels.min()} to {labels.max()}; allowed: 0 to "
                f"{ways - 1}, and {ways} for no label"
            )
