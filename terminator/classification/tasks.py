"""Tasks: what a batch means, which terms its loss has, and what is measured.

A task gives the trainer `loss_terms` (training) and `evaluate` (a whole split); the trainer knows
no more.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.classification.config import Config
from terminator.losses import norm_penalty, slow_neural_loss


@dataclass
class Classification:
    """One label per image: label-smoothed cross entropy + slow neural loss + norm penalty.

    Args:
        model: the network itself (not a distributed wrapper).
        config: of the experiment.
    """

    model: nn.Module
    config: Config

    def __post_init__(self) -> None:
        self.has_slow_nets = hasattr(self.model, "penalized_parameters")
        if self.has_slow_nets:
            self.fast, self.slow = self.model.penalized_parameters()

    def loss_terms(
        self, network: Callable[..., Any], x: Tensor, labels: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms to add up, by name, and the logits.

        Args:
            network: the model or its distributed wrapper.
            x: (N, C, *positions).
            labels: (N,).
        """
        train = self.config.train
        logits, kernels = (
            network(x, return_kernels=True) if self.has_slow_nets else (network(x), [])
        )
        terms = {
            "cross_entropy": F.cross_entropy(
                logits.float(), labels, label_smoothing=train.label_smoothing
            )
        }
        if self.has_slow_nets and train.slow_neural_loss:
            kernels = [kernel.float() for kernel in kernels]
            terms["slow_neural_loss"] = train.slow_neural_loss * slow_neural_loss(
                kernels, train.slow_neural_loss_form
            )
        if self.has_slow_nets and self.config.optimizer.l2_reg:
            terms["norm_penalty"] = norm_penalty(self.fast, self.slow, self.config.optimizer.l2_reg)
        return terms, logits

    @torch.no_grad()
    def evaluate(self, batches: Iterator[tuple[Tensor, Tensor, int]]) -> dict[str, float]:
        """Sums over a split: correct answers, cross entropy without smoothing, and images counted.

        Args:
            batches: (x, labels, counted): only the first `counted` images of a batch count.
        """
        return summed_answers(
            ((self.model(x)[:counted], labels[:counted]) for x, labels, counted in batches),
            "images",
        )


def summed_answers(answers: Iterable[tuple[Tensor, Tensor]], unit: str) -> dict[str, float]:
    """Sums over batches of logits and labels: correct, cross_entropy, and under the name `unit` how
    many there are.

    They are added up where they lie: a GPU is waited for once, at the end.
    """
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    for logits, labels in answers:
        logits = logits.float()
        correct = (logits.argmax(1) == labels).sum()
        entropy = F.cross_entropy(logits, labels, reduction="sum")
        sums = sums.to(logits.device) + torch.stack([correct.double(), entropy.double()])
        count += len(labels)
    correct, entropy = sums.tolist()
    return {"correct": correct, "cross_entropy": entropy, unit: float(count)}
