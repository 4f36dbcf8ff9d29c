"""One Transformer that emits the weights of one layer: features, tokens, Transformer, readout.

Source: arXiv 2201.04182 and its reference implementation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hypertransformer import tokens
from terminator.hypertransformer.features import LocalFeatures, each_image, per_episode
from terminator.hypertransformer.settings import HyperTransformerSettings
from terminator.hypertransformer.transformer import Decoder, Encoder, sizes_of


class Generator(nn.Module):
    """Blocks of weights (E, B, S) from a support set, for a layer that its activations (N, E C, H,
    W) enter.

    Args:
        settings: as its name says.
        blocks, block_size: B, S.
        local: extractor of local features.
        flat_features: size of the flattened activations where they are features themselves (logits
            layer), else 0.

    Raises:
        ConfigError: if the heads do not divide the sizes.
        ValueError: for a mask with separate generators.
    """

    def __init__(
        self,
        settings: HyperTransformerSettings,
        blocks: int,
        block_size: int,
        local: LocalFeatures,
        flat_features: int = 0,
    ):
        super().__init__()
        self.settings, self.block_size, self.local, self.flat_features = (
            settings,
            block_size,
            local,
            flat_features,
        )
        embedding = settings.embedding_dim
        shared = 0 if settings.shared_feature_extractor == "none" else settings.shared_features_dim
        sample_width = embedding + flat_features + local.dim + shared
        self.placeholder_width = embedding + block_size
        self.label_embeddings = nn.Parameter(torch.randn(settings.num_labels + 1, embedding))
        self.weight_embeddings = nn.Parameter(torch.randn(blocks, embedding))
        if settings.layerwise_generator == "joint":
            self.sample_width = self.placeholder_width = max(self.placeholder_width, sample_width)
            self.encoder = Encoder(sizes_of(settings, self.sample_width), settings)
            with_decoder = settings.use_decoder
        else:
            self.sample_width, with_decoder = sample_width, True
            self.encoder = Encoder(sizes_of(settings, sample_width), settings)
        placeholder_sizes = sizes_of(settings, self.placeholder_width)
        self.decoder = (
            Decoder(placeholder_sizes, settings, self.sample_width) if with_decoder else None
        )

    def forward(
        self,
        folded: Tensor,
        labels: Tensor,
        shared: Tensor | None,
        mask: Tensor | None = None,
        maps: list[Tensor] | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Blocks (E, B, S) from activations (N, E C, H, W), labels (E, N), shared features (E, N,
        f), mask (E, N).

        `previous` blocks (E, B, S), if given, are read by the placeholders.
        """
        features = [self._local(folded, len(labels))]
        if shared is not None:
            features.append(shared)
        samples = tokens.sample_tokens(
            self.label_embeddings, labels, *features, width=self.sample_width
        )
        placeholders = tokens.placeholder_tokens(
            self.weight_embeddings, self.placeholder_width, previous
        )
        joint = self.settings.layerwise_generator == "joint"
        output = (self._joint if joint else self._separate)(placeholders, samples, mask, maps)
        return tokens.read_out(
            output, len(self.weight_embeddings), self.settings.embedding_dim, self.block_size
        )

    def _local(self, folded: Tensor, episodes: int) -> Tensor:
        x = each_image(folded, episodes)  # (N E, C, H, W)
        features = self.local(x)
        if self.flat_features:
            features = torch.cat([x.flatten(1), features], dim=-1)
        features = per_episode(features, episodes)  # (E, N, f)
        return F.dropout(features, self.settings.fe_dropout, self.training)

    def _joint(
        self, placeholders: Tensor, samples: Tensor, mask: Tensor | None, maps: list[Tensor] | None
    ) -> Tensor:
        sequence = tokens.joint_sequence(placeholders, samples)  # (E, B + N, D)
        key_mask = None if mask is None else tokens.joint_key_mask(mask, len(placeholders))
        encoded = self.encoder(sequence, key_mask, maps)
        return (
            encoded
            if self.decoder is None
            else self.decoder(sequence, encoded, key_mask, key_mask, maps)
        )

    def _separate(
        self, placeholders: Tensor, samples: Tensor, mask: Tensor | None, maps: list[Tensor] | None
    ) -> Tensor:
        if mask is not None:
            raise ValueError(
                "a support mask was given; layerwise_generator='separate' cannot mask samples"
            )
        encoded = self.encoder(samples, maps=maps)  # (E, N, e + f)
        # (E, B, e + S)
        return self.decoder(placeholders.expand(len(samples), -1, -1), encoded, maps=maps)
