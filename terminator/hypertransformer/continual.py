"""Continual HyperTransformer: theta_t = HT(support set t, theta_(t-1)), the generated weights as
the only memory.

The recursion, the prototypes and the loss follow the description in arXiv 2301.04584, of which no
code is public: what it leaves open is decided here, so this is an extension of ours and is tested
by behaviour. Ours are: a temperature, the number of weights that enter a distance, without which
the first distances are in the hundreds (generated weights are of order 1); which prototypes compete
(MethodConfig.candidates); one batch norm over the queries of all tasks so far (a batch of one task
would give the task away); and prototypes from the support pass that made the weights.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from terminator.hypertransformer.cnn import HeadLayer
from terminator.hypertransformer.features import fold
from terminator.hypertransformer.model import GeneratedCNN, HyperTransformer
from terminator.hypertransformer.prototypes import class_means, distance_logits
from terminator.hypertransformer.settings import HyperTransformerSettings
from terminator.runtime.settings import ConfigError

PLAIN = {
    "layerwise_generator": "joint",
    "number_of_trained_cnn_layers": 0,
    "warmup_steps": 0,
    "shared_head_classes": 0,
    "weight_variation_regularization": 0.0,
    "l2_reg_weight": 0.0,
    "add_trainable_weights": False,
    "shared_fe_dropout": 0.0,
}


class Learned(NamedTuple):
    """After a task: the generated blocks of every layer, the CNN they make, and the task's
    prototypes.
    """

    blocks: tuple[Tensor, ...]  # each (E, B, S)
    cnn: GeneratedCNN
    prototypes: Tensor  # (E, n, d)


class ContinualHyperTransformer(HyperTransformer):
    """A HyperTransformer whose placeholders read the weights of the task before, and whose CNN
    gives an embedding.

    Args:
        settings: num_labels are the ways of one task.
        embedding: d, outputs of the CNN.

    Raises:
        ConfigError: for settings that it has no use for, naming them.
    """

    def __init__(self, settings: HyperTransformerSettings, embedding: int = 16):
        for name, allowed in PLAIN.items():
            if getattr(settings, name) != allowed:
                raise ConfigError(
                    f"{name} is {getattr(settings, name)!r}; allowed: {allowed!r}, for method "
                    "continual"
                )
        super().__init__(settings)
        self.head = HeadLayer(
            settings, settings.default_num_channels, settings.sizes()[-1], embedding
        )
        self.temperature = embedding * (self.head.generator.block_size - 1)  # d F

    def learn(self, images: Tensor, labels: Tensor, previous: Learned | None = None) -> Learned:
        """Learn a task: images (E, N, C, H, W), labels (E, N); `previous` is what was learned
        before it.
        """
        self._check_images("support images", images)
        self._check_labels(labels, images, None)
        x, before = (
            fold(images),
            iter(previous.blocks if previous else [None] * (len(self.convs) + 1)),
        )
        shared = None if self.shared is None else self.shared(x, len(images))
        blocks, convs = [], []
        for layer in self.convs:
            blocks.append(layer.generator(x, labels, shared, previous=next(before)))
            convs.append(layer.assemble(blocks[-1])[0])
            x = layer(x, convs[-1])
        blocks.append(self.head.generator(x, labels, shared, previous=next(before)))
        head = self.head.assemble(blocks[-1])
        prototypes = class_means(self.head(x, head), labels, self.settings.num_labels)
        return Learned(
            tuple(blocks), GeneratedCNN(tuple(convs), head, x.new_zeros(()), shared), prototypes
        )

    def forward(
        self, support_images: Tensor, support_labels: Tensor, query_images: Tensor
    ) -> list[Tensor]:
        """Learn T tasks one after another, and after each answer the queries of all tasks so far.

        Args:
            support_images: (E, T, N, C, H, W), support_labels (E, T, N) in 0..n-1, query_images (E,
                T, M, ...).

        Returns:
            per t the logits (E, (t + 1) M, (t + 1) n): queries and candidates of tasks 0..t, in
            order.
        """
        learned, prototypes, logits = None, [], []
        for task in range(support_images.shape[1]):
            learned = self.learn(support_images[:, task], support_labels[:, task], learned)
            prototypes.append(learned.prototypes)
            # (E, (t + 1) M, d)
            embedded = self.classify(learned.cnn, query_images[:, : task + 1].flatten(1, 2))
            logits.append(
                distance_logits(embedded, torch.cat(prototypes, dim=1)) / self.temperature
            )
        return logits
