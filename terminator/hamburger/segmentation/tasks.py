"""What a batch of labelled pictures means: the terms of its loss, and the intersection over union
of every class.

Source: the released segmentation code of arXiv 2109.04553.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.data.pictures.batches import IGNORE
from terminator.hamburger.hamnet import HamNet
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.runtime.torch_state import seed


def build_network(config: SegmentationConfig) -> HamNet:
    """The network of a resolved configuration, initialised from its seed."""
    seed(config.train.seed)
    return HamNet(config.model, config.ham)


def parameter_groups(
    model: nn.Module, weight_decay: float, bias_factor: float
) -> list[dict[str, Any]]:
    """Parameters in groups for an optimiser: weights, scales (of BN and V2+), biases.

    Weights decay; scales do not; biases do not, and have `bias_factor` times the rate.
    """
    groups: dict[str, list[nn.Parameter]] = {"weights": [], "scales": [], "biases": []}
    for name, parameter in model.named_parameters():
        kind = "biases" if name.endswith("bias") else "scales" if parameter.ndim <= 1 else "weights"
        groups[kind].append(parameter)
    settings = {"weights": (weight_decay, 1.0), "scales": (0.0, 1.0), "biases": (0.0, bias_factor)}
    return [
        {
            "name": kind,
            "params": found,
            "weight_decay": settings[kind][0],
            "lr_factor": settings[kind][1],
        }
        for kind, found in groups.items()
        if found
    ]


@dataclass
class Segmentation:
    """One label per pixel; pixels labelled IGNORE do not count.

    Args:
        model: the network itself (not a distributed wrapper).
        config: resolved.
    """

    model: nn.Module
    config: SegmentationConfig

    def loss_terms(
        self, network: Callable[..., Any], x: Tensor, labels: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms to add up, by name, and the logits (N, classes, H, W).

        Args:
            network: the model or its distributed wrapper.
            x: (N, C, H, W).
            labels: (N, H, W).
        """
        train = self.config.train
        if not self.config.model.auxiliary:
            logits = network(x)
            return {"cross_entropy": self.cross_entropy(logits, labels)}, logits
        logits, second = network(x, auxiliary=True)
        return {
            "cross_entropy": self.cross_entropy(logits, labels),
            "auxiliary": train.auxiliary_weight * self.cross_entropy(second, labels),
        }, logits

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over all pixels, ignored ones counted as zero (as released), or over those with a
        label.
        """
        # as rows: for maps, CUDA has no deterministic algorithm
        rows = logits.float().movedim(1, -1).flatten(0, 2)
        total = F.cross_entropy(rows, labels.flatten(), ignore_index=IGNORE, reduction="sum")
        counted = (
            labels.numel()
            if self.config.train.loss_mean == "all"
            else (labels != IGNORE).sum().clamp(min=1)
        )
        return total / counted


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often a pixel of class i (row) was called j (column), (classes, classes) int64; without
    ignored pixels.
    """
    counted = labels != IGNORE
    index = labels[counted] * classes + predicted[counted]
    return torch.bincount(index, minlength=classes * classes).reshape(classes, classes)


def scores(confusion: Tensor) -> dict[str, Any]:
    """From a confusion matrix, all in %: miou, accuracy (of pixels), and per class iou.

    IoU is right / (labelled or predicted so); a class that is neither labelled nor predicted has
    none, and is left out of the mean.
    """
    confusion = confusion.double().cpu()
    right, union = confusion.diagonal(), confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    present = union > 0
    ious = 100 * right / union.clamp(min=1)
    return {
        "miou": ious[present].mean().item() if present.any() else 0.0,
        "accuracy": (100 * right.sum() / confusion.sum().clamp(min=1)).item(),
        "iou": [value if here else None for value, here in zip(ious.tolist(), present.tolist())],
    }
