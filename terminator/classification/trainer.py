"""The training of classifiers: labelled images or sequences, two evaluations."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from terminator.classification import observations
from terminator.classification.config import Config
from terminator.classification.optimizers import make_optimizer
from terminator.classification.tasks import Classification
from terminator.data.augment import Augmentation, normalize
from terminator.data.images import ImageData
from terminator.optim import learning_rate_factor
from terminator.runtime.distributed import gather, rank, world_size
from terminator.runtime.memory import to_device
from terminator.runtime.settings import ConfigError
from terminator.standardization import calibrate, set_evaluation
from terminator.trainer import Loop, shuffled


@dataclass
class Trainer(Loop[Config]):
    """Fits a model to a data set of labelled images and evaluates it; an epoch is a pass over all
    of them.

    Args:
        model: gives logits (N, classes).
        config: of the experiment.
        data: in memory, on the CPU.
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.

    Raises:
        ConfigError: if batch, processes and data do not fit together.
    """

    data: ImageData

    def _prepare(self) -> None:
        self.task = Classification(self.model, self.config)
        self.answers_per_step = self.config.train.batch_size
        self.steps_per_epoch = len(self.data.train_labels) // self.answers_per_step
        use = self.config.dataset
        self.augmentation = None
        if use.view == "image" and (use.crop_padding or use.flip):
            self.augmentation = Augmentation(use.crop_padding, use.flip)
        self.images = self.data.train_images.to(self.device)
        self.labels = self.data.train_labels.to(self.device)

    def _check_data(self) -> None:
        if not self.config.train.do:
            raise ConfigError(
                "train.do is False; allowed: True, for a training (what tests a model is "
                "evaluation.evaluate_file)"
            )
        if not self.steps_per_epoch:
            raise ConfigError(
                f"train.batch_size is {self.config.train.batch_size}, but there are only "
                f"{len(self.labels)} training images; allowed: at most that many"
            )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.config.optimizer, self.model.parameters())

    def _rate(self, iteration: int) -> float:
        scheduler, epochs = self.config.scheduler, self.config.train.epochs
        warmup = 0.08 * epochs if scheduler.warmup_epochs is None else scheduler.warmup_epochs
        return self.config.optimizer.lr * learning_rate_factor(
            scheduler.name,
            iteration,
            epochs * self.steps_per_epoch,
            round(warmup * self.steps_per_epoch),
        )

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
        return shuffled(len(self.labels), self.config.train, epoch)

    def _parts(self, batch: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        train = self.config.train
        draws = self.augmentation.draw(len(batch), generator) if self.augmentation else None
        size = train.batch_size // (train.accumulate * world_size())
        for part in range(train.accumulate):
            first = (part * world_size() + rank()) * size
            mine = slice(first, first + size)
            index = to_device(batch[mine], self.device)
            images = self.images[index]
            if draws is not None:
                images = self.augmentation.apply(images, draws[mine])
            yield self._inputs(images), self.labels[index]

    def _test(self) -> dict[str, float]:
        return {
            f"test_{name}": value
            for name, value in self.evaluate("released").items()
            if name != "images"
        }

    def _inputs(self, images: Tensor) -> Tensor:
        return normalize(images, self.data.info.mean, self.data.info.std)

    def calibrate(self) -> int:
        """Fix the statistics of the model over training images (not augmented); see
        standardization.calibrate.
        """
        count = min(self.config.test.calibration_images, len(self.labels))
        index = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))[:count]
        batches = max(1, min(math.ceil(count / self.config.train.batch_size), count // 2))
        parts = index.tensor_split(batches)  # of one size, since all weigh the same
        with self._autocast():
            return calibrate(
                self.model, (self._inputs(self.images[part.to(self.device)]) for part in parts)
            )

    def evaluate(self, protocol: str) -> dict[str, float]:
        """Test accuracy (%), cross entropy and number of images, "released" or "calibrated"."""
        self.model.eval()
        set_evaluation(self.model, protocol)
        with self._autocast():
            sums = gather(self.task.evaluate(self._test_batches(fill=protocol == "released")))
        total = {name: sum(part[name] for part in sums) for name in sums[0]}
        return {
            "accuracy": 100 * total["correct"] / total["images"],
            "cross_entropy": total["cross_entropy"] / total["images"],
            "images": int(total["images"]),
        }

    def _test_batches(self, fill: bool) -> Iterator[tuple[Tensor, Tensor, int]]:
        """This process's test batches, in order, each with the number of its images that count.

        An incomplete last batch would have poor statistics: as released it is dropped
        (test.drop_last), or it is filled up with the first images, which are not counted again.
        """
        images, labels, test = self.data.test_images, self.data.test_labels, self.config.test
        starts = range(0, len(labels), test.batch_size)
        for start in list(starts)[rank() :: world_size()]:
            index = torch.arange(start, start + test.batch_size)
            counted = int((index < len(labels)).sum())
            if (
                fill
                and counted < test.batch_size
                and test.drop_last
                and len(labels) >= test.batch_size
            ):
                continue
            index = index % len(labels) if fill else index[:counted]
            yield (
                self._inputs(to_device(images[index], self.device)),
                to_device(labels[index], self.device),
                counted,
            )

    def _observe(self, epoch: int) -> None:
        """Measure the network on the first test batch, if that is asked for (epoch 0: before
        training).
        """
        if not self.config.train.observe or rank() > 0:
            return
        images = self.data.test_images[: self.config.test.batch_size]
        inked = observations.ink(images, self.data.info.name)
        found = observations.observe(
            self.model,
            self._inputs(images.to(self.device)),
            inked if inked is None else inked.to(self.device),
        )
        keep = epoch in observations.kept_epochs(self.config.train.epochs)
        self.observed.append(
            {"epoch": epoch, "numbers": found.numbers, "fields": found.fields if keep else {}}
        )
