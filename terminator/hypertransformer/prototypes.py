"""What a HyperTransformer is compared with: prototypes, the class means of the support set, in two
spaces.

Source: prototypical networks, arXiv 1703.05175.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hypertransformer.cnn import ConvLayer
from terminator.hypertransformer.features import fold
from terminator.hypertransformer.model import Output
from terminator.hypertransformer.settings import HyperTransformerSettings


def class_means(vectors: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Prototypes (E, n, F): the mean of every label's vectors (E, N, F); labels (E, N) in 0..n-1,
    others ignored.
    """
    # (E, N, n)
    member = (labels[..., None] == torch.arange(ways, device=labels.device)).to(vectors.dtype)
    return member.mT @ vectors / member.sum(1).clamp(min=1)[..., None]


def distance_logits(vectors: Tensor, prototypes: Tensor) -> Tensor:
    """- |x - c|^2 of vectors (E, M, F) and prototypes (E, n, F): (E, M, n)."""
    wide = torch.promote_types(vectors.dtype, torch.float32)
    x, c = vectors.to(wide), prototypes.to(wide)
    with torch.autocast(x.device.type, enabled=False):  # a small difference of large numbers
        return 2 * x @ c.mT - x.square().sum(-1, keepdim=True) - c.square().sum(-1)[:, None]


class _Prototypes(nn.Module):
    """Classifies queries by the nearest prototype; a subclass says in which space."""

    def embed(self, images: Tensor, is_query: bool = True) -> Tensor:
        """Images (E, N, C, H, W) as vectors (E, N, F)."""
        raise NotImplementedError

    def forward(
        self,
        support_images: Tensor,
        support_labels: Tensor,
        query_images: Tensor,
        support_mask: Tensor | None = None,
    ) -> Output:
        """Logits (E, M, n) of queries (E, M, C, H, W); there is no generated CNN, so Output.cnn is
        None.

        Raises:
            ValueError: for a mask: random removal is the HyperTransformer's.
        """
        if support_mask is not None:
            raise ValueError("a support mask was given; prototypes take every support image")
        support = self.embed(support_images, is_query=False)
        prototypes = class_means(support, support_labels, self.settings.num_labels)
        return Output(distance_logits(self.embed(query_images), prototypes), (), None)

    def loss_terms(
        self, output: Output, query_labels: Tensor, step: int = 0, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """Cross entropy, as HyperTransformer.loss_terms has it; `step` is of no consequence."""
        logits = output.logits.flatten(0, 1)
        return {
            "cross_entropy": F.cross_entropy(
                logits, query_labels.flatten(), label_smoothing=label_smoothing
            )
        }


class PrototypicalNetwork(_Prototypes):
    """The HyperTransformer's CNN with trained kernels and no classifier; its flattened output is
    the embedding.
    """

    def __init__(self, settings: HyperTransformerSettings):
        super().__init__()
        self.settings = s = replace(settings, number_of_trained_cnn_layers=settings.conv_layers)
        s.sizes()  # refuses images that are too small
        self.convs = nn.ModuleList(ConvLayer(s, index) for index in range(s.conv_layers))

    def embed(self, images: Tensor, is_query: bool = True) -> Tensor:
        x = fold(images)
        for layer in self.convs:
            weights, _ = layer.weights(x, None, None)
            x = layer(x, weights, is_query)  # (N, E O, h, w)
        return x.unflatten(1, (len(images), -1)).transpose(0, 1).flatten(2)


class PixelMeans(_Prototypes):
    """Nearest class mean of the pixels themselves: nothing is trained."""

    def __init__(self, settings: HyperTransformerSettings):
        super().__init__()
        self.settings = settings

    def embed(self, images: Tensor, is_query: bool = True) -> Tensor:
        return images.flatten(2)
