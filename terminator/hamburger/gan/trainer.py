"""Training of a GAN by the loop of all tasks: a step of the discriminator, then one of the
generator.

An epoch is what lies between two checkpoints. Every step draws its images, labels and z from a
generator of its own (seed, step); the first bases of the hams come from torch's own random state,
which a checkpoint keeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.data.episodes.sampling import episode_generator
from terminator.data.images import DatasetInfo, ImageData
from terminator.hamburger.gan.config import GanConfig
from terminator.hamburger.gan.frechet import Judge, frechet_distance
from terminator.hamburger.gan.networks import Gan
from terminator.runtime.memory import to_device
from terminator.trainer import Loop

SAMPLE_SEED = 2**31  # of z and bases in evaluation: the same for every network, seed and step
GRID_SEED = 2**31 - 1  # of the samples that are kept


@dataclass(frozen=True, eq=False)
class GanImages:
    """The images, and the classifier that judges generated ones; without it a network can be built,
    not trained.
    """

    images: ImageData
    judge: Judge | None = None

    @property
    def info(self) -> DatasetInfo:
        return self.images.info


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass
class GanTrainer(Loop[GanConfig]):
    """Fits generator and discriminator to the training images.

    Args:
        model: both networks.
        config: resolved.
        data: GanImages with a judge.
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.
    """

    model: Gan
    data: GanImages

    advice = "Try lower rates in optimizer, or train.precision=float32."

    def _prepare(self) -> None:
        train = self.config.train
        self.answers_per_step = 2 * train.batch_size
        self.images = self.data.images.train_images.to(self.device)
        self.labels = self.data.images.train_labels.to(self.device)
        if self.data.judge is None:
            raise ValueError(
                "data.judge is None; allowed: a judge (frechet.judge_of), to measure what is "
                "generated"
            )
        self.judge = self.data.judge
        self.judge.model.to(self.device)
        self.reference = self.judge.look(self.data.images.test_images)[0]

    def _make_optimizer(self) -> torch.optim.Optimizer:
        use = self.config.optimizer
        groups: list[dict[str, Any]] = [
            {"params": self.model.generator.parameters()},
            {
                "params": self.model.discriminator.parameters(),
                "lr_factor": use.discriminator_rate / use.generator_rate,
            },
        ]
        return torch.optim.Adam(groups, betas=(use.beta1, use.beta2))

    def _rate(self, iteration: int) -> float:
        return self.config.optimizer.generator_rate

    def _batches(self, epoch: int) -> Iterator[tuple[int, torch.Generator]]:
        for step in self._numbers(epoch):
            yield step, episode_generator(self.config.train.seed, 0, step)

    # -- one step ----------------------------------------------------------------------------------

    def _step(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Both updates; the Adam of both networks passes over parameters that have no gradient."""
        with self._autocast():
            loss_d, correct = self._discriminator_loss(generator)
        self._update(loss_d)
        self.model.discriminator.requires_grad_(False)
        with self._autocast():
            z, labels = self._draw(generator)
            loss_g = (
                -self.model.discriminator(self.model.generator(z, labels), labels).float().mean()
            )
        self._update(loss_g)
        self.model.discriminator.requires_grad_(True)
        losses = {"discriminator_loss": loss_d.detach(), "generator_loss": loss_g.detach()}
        return losses | {"loss": sum(losses.values()), "correct": correct}

    def _discriminator_loss(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The hinge loss, and how many images are on the right side of 0."""
        index = torch.randint(
            len(self.labels), (self.config.train.batch_size,), generator=generator
        )
        index = to_device(index, self.device)
        real = self.images[index].float() / 127.5 - 1
        z, labels = self._draw(generator)
        with torch.no_grad():
            fake = self.model.generator(z, labels).float()
        scores = self.model.discriminator(
            torch.cat([real, fake]), torch.cat([self.labels[index], labels])
        ).float()
        of_real, of_fake = scores.chunk(2)
        loss = F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean()
        return loss, (of_real > 0).sum() + (of_fake < 0).sum()

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """z (N, latent), normal, and labels (N,), uniform over the classes."""
        size, use = self.config.train.batch_size, self.config.model
        z = torch.randn(size, use.latent, generator=generator)
        labels = torch.randint(len(self.data.info.classes), (size,), generator=generator)
        return to_device(z, self.device), to_device(labels, self.device)

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    # -- evaluation --------------------------------------------------------------------------------

    def _test(self) -> dict[str, float]:
        found = self.evaluate(self.config.test.samples_per_epoch)
        row = {"frechet": found["frechet"], "right_class": found["right_class"]}
        if (sigmas := self.model.sigmas()) is not None:
            row |= {f"sigma_{name}": value for name, value in sigmas._asdict().items()}
        return row

    def _reached(self, row: dict[str, float]) -> str:
        return (
            f"told apart {row['train_accuracy']:6.2f} %  Frechet distance {row['frechet']:.2f}"
            + (f"  sigma {row['sigma_generator']:+.3f}" if "sigma_generator" in row else "")
        )

    def evaluate(self, count: int, seed: int = SAMPLE_SEED) -> dict[str, float]:
        """Frechet distance of so many samples (equally many of each class) to the test images, and
        how many of them the judge takes for the class they were asked to be (%).
        """
        labels = torch.arange(count) % len(self.data.info.classes)
        features, seen = self.judge.look(to_uint8(self.model.samples(labels, seed)))
        return {
            "frechet": frechet_distance(features, self.reference),
            "right_class": 100 * (seen == labels).double().mean().item(),
        }

    def results(self) -> dict[str, dict[str, Any]]:
        """Of several draws of samples; and of as many training images, the distance that real
        images have.
        """
        test = self.config.test
        found = [self.evaluate(test.samples, SAMPLE_SEED + i) for i in range(test.repeats)]
        distances = torch.tensor([one["frechet"] for one in found], dtype=torch.float64)
        index = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))[
            : test.samples
        ]
        real = self.judge.look(self.data.images.train_images[index])[0]
        return {
            "test": {
                "frechet": distances.mean().item(),
                "sd_over_draws": distances.std(correction=0).item(),
                "right_class": sum(one["right_class"] for one in found) / len(found),
                "samples": test.samples,
                "draws": test.repeats,
                "test_images": len(self.reference),
            },
            "train_images": {
                "frechet": frechet_distance(real, self.reference),
                "images": len(real),
            },
        }

    def _observe(self, epoch: int) -> None:
        """Keep samples of the same z and classes: a column per class."""
        test = self.config.test
        classes = torch.arange(min(test.grid_classes, len(self.data.info.classes)))
        samples = to_uint8(self.model.samples(classes.repeat(test.grid_rows), GRID_SEED))
        sigmas = self.model.sigmas()
        numbers = [
            {"quantity": "sigma", "block": name, "part": "context", "value": value}
            for name, value in (sigmas._asdict() if sigmas else {}).items()
        ]
        self.observed.append({"epoch": epoch, "numbers": numbers, "fields": {"samples": samples}})
