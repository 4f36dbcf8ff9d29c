"""What a batch of episodes means: the terms of its loss, and the accuracy of every task in it.

Source: arXiv 2201.04182 and its reference implementation; Continual: arXiv 2301.04584, and see
hypertransformer/continual.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.data.episodes.sampling import EpisodeBatch
from terminator.hypertransformer.continual import ContinualHyperTransformer
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.model import HyperTransformer
from terminator.hypertransformer.prototypes import PixelMeans, PrototypicalNetwork
from terminator.runtime.torch_state import seed


class Step(NamedTuple):
    """What the loss of one batch of episodes is computed from."""

    batch: EpisodeBatch
    step: int  # of the training, from 0, for the layer warm-up


def build_network(config: FewShotConfig) -> nn.Module:
    """The network of a resolved configuration, initialised from its seed."""
    seed(config.train.seed)
    if config.method.name == "continual":
        return ContinualHyperTransformer(config.model, config.method.embedding)
    kinds = {
        "hypertransformer": HyperTransformer,
        "prototypical": PrototypicalNetwork,
        "pixels": PixelMeans,
    }
    return kinds[config.method.name](config.model)


def build_task(model: nn.Module, config: FewShotConfig) -> "FewShot":
    """The task that belongs to the method."""
    return (Continual if config.method.name == "continual" else FewShot)(model, config)


@dataclass
class FewShot:
    """Cross entropy of the queries, through the generated weights.

    Args:
        model: the network itself (not a distributed wrapper).
        config: resolved.
    """

    model: Any  # to mypy, methods of an nn.Module are Tensors
    config: FewShotConfig

    def ways_times(self, training: bool) -> int:
        """How many tasks' classes an episode has."""
        return 1

    def answers(self) -> int:
        """Answers that the training accuracy of one episode is counted over."""
        return self.config.episodes.samples_cnn

    def targets(self, batch: EpisodeBatch) -> Tensor:
        """The label of every answer, in the order of the logits that loss_terms returns."""
        return batch.query_labels.flatten()

    def loss_terms(
        self, network: Callable[..., Any], x: Step, targets: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms to add up, by name, and the logits (answers, n)."""
        batch, train = x.batch, self.config.train
        output = network(
            batch.support_images, batch.support_labels, batch.query_images, batch.support_mask
        )
        logits = output.logits.flatten(0, 1)
        if train.pretrain_shared_feature:
            return {"shared_head": self._shared_loss(output.cnn, batch)}, logits
        terms = self.model.loss_terms(output, batch.query_labels, x.step, train.label_smoothing)
        # every head takes part in every step, or processes would wait for its gradient
        if output.warmup_logits:
            terms["cross_entropy"] = terms["cross_entropy"] + 0 * sum(
                part.sum() for part in output.warmup_logits
            )
        if train.shared_head_weight:
            terms["shared_head"] = train.shared_head_weight * self._shared_loss(output.cnn, batch)
        return terms, logits

    def _shared_loss(self, cnn: Any, batch: EpisodeBatch) -> Tensor:
        """Cross entropy of the support images' real classes, from the shared features."""
        logits = self.model.shared_logits(cnn).flatten(0, 1).float()
        return F.cross_entropy(logits, batch.support_classes.flatten() - batch.class_range[0])

    @torch.no_grad()
    def evaluate(self, batch: EpisodeBatch) -> Tensor:
        """Accuracy of every task, (E), from 0 to 1."""
        output = self.model(batch.support_images, batch.support_labels, batch.query_images)
        return (output.logits.argmax(-1) == batch.query_labels).double().mean(1)


class Continual(FewShot):
    """Sequences of tasks: after each, the queries of all tasks so far are answered with the weights
    of then.
    """

    def ways_times(self, training: bool) -> int:
        return self.config.method.tasks if training else self.config.method.test_tasks

    def answers(self) -> int:
        tasks = self.config.method.tasks
        return self.config.episodes.samples_cnn * tasks * (tasks + 1) // 2

    def _support(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
        return self._sequences(
            batch.support_images, batch.support_labels, batch.draw.classes.shape[1]
        )

    def _queries(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
        return self._sequences(batch.query_images, batch.query_labels, batch.draw.classes.shape[1])

    def _sequences(self, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Episodes of T n classes as sequences (E, T, N, ...) of tasks with labels (E, T, N) in
        0..n-1.
        """
        ways = self.config.episodes.num_labels
        tasks = classes // ways
        order = labels.argsort(dim=1, stable=True)  # (E, T N)
        sorted_images = images[torch.arange(len(images), device=images.device)[:, None], order]
        return sorted_images.unflatten(1, (tasks, -1)), labels.gather(1, order).unflatten(
            1, (tasks, -1)
        ) % ways

    def _numbered(self, query_labels: Tensor, upto: int) -> Tensor:
        """Labels (E, upto M) of the queries of tasks 0..upto-1 among all their classes, numbered
        through.
        """
        shift = (
            torch.arange(upto, device=query_labels.device)[:, None]
            * self.config.episodes.num_labels
        )
        return (query_labels[:, :upto] + shift).flatten(1)

    def targets(self, batch: EpisodeBatch) -> Tensor:
        _, labels = self._queries(batch)
        return torch.cat(
            [self._numbered(labels, upto).flatten() for upto in range(1, labels.shape[1] + 1)]
        )

    def _answers(
        self, network: Callable[..., Any], batch: EpisodeBatch
    ) -> tuple[list[Tensor], Tensor]:
        images, labels = self._support(batch)
        query_images, query_labels = self._queries(batch)
        return network(images, labels, query_images), query_labels

    def _among_own(self, logits: Tensor) -> Tensor:
        """Logits (E, T M, T n), where the classes of other tasks than the query's cannot be
        chosen.
        """
        ways = self.config.episodes.num_labels
        tasks = logits.shape[-1] // ways
        task_of_query = torch.arange(tasks, device=logits.device).repeat_interleave(
            logits.shape[1] // tasks
        )
        task_of_class = torch.arange(tasks, device=logits.device).repeat_interleave(ways)
        return logits.masked_fill(task_of_query[:, None] != task_of_class, -torch.inf)

    def loss_terms(
        self, network: Callable[..., Any], x: Step, targets: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        answers, labels = self._answers(network, x.batch)
        if self.config.method.candidates == "task":
            answers = [self._among_own(logits) for logits in answers]
        widest = answers[-1].shape[-1]
        # answers after the first task, after the second, ...
        logits = torch.cat(
            [
                F.pad(part, (0, widest - part.shape[-1]), value=-torch.inf).flatten(0, 1)
                for part in answers
            ]
        )
        return {"cross_entropy": F.cross_entropy(logits, targets)}, logits

    @torch.no_grad()
    def evaluate(self, batch: EpisodeBatch) -> Tensor:
        """Accuracies (E, 2, T, T) of task j (column) after task t (row): class- and
        task-incremental; NaN above.
        """
        answers, labels = self._answers(self.model, batch)
        tasks = len(answers)
        table = torch.full(
            (len(labels), 2, tasks, tasks), torch.nan, dtype=torch.float64, device=labels.device
        )
        for t, logits in enumerate(answers):
            expected = self._numbered(labels, t + 1)  # (E, (t + 1) M)
            for kind, part in enumerate((logits, self._among_own(logits))):
                right = (part.argmax(-1) == expected).double()
                table[:, kind, t, : t + 1] = right.unflatten(1, (t + 1, -1)).mean(-1)
        return table
