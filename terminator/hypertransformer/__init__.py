"""HyperTransformer: Transformers that read a few labelled images and emit a small CNN's weights.

settings      HyperTransformerSettings, under the released flags' names
features      shared features of support images, local features of activations
tokens        features and embeddings to token sequences, outputs to weight blocks: pure functions
transformer   encoder and decoder
allocation    weight blocks to kernels, biases, batch norm and classifiers: pure functions
generator     one layer's features, tokens and Transformer
cnn           the generated CNN's layers
schedules     layer warm-up
model         HyperTransformer: all episodes of a batch at once
prototypes    what it is compared with: prototypes of a trained CNN's embeddings, or of pixels
continual     ContinualHyperTransformer: task after task, the weights as memory; an extension

Source: arXiv 2201.04182 and its reference implementation.
"""

from typing import Any

from terminator.runtime.lazy import lent

_HOMES = {
    "HyperTransformer": "model",
    "GeneratedCNN": "model",
    "Output": "model",
    "HyperTransformerSettings": "settings",
    "ContinualHyperTransformer": "continual",
    "PixelMeans": "prototypes",
    "PrototypicalNetwork": "prototypes",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    return lent(__name__, _HOMES, name)
