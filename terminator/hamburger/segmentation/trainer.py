"""Training and evaluation of segmentation, by the loop of all tasks.

An epoch is what lies between two checkpoints. Every step takes its pictures from a random order of
the pass over the data that it belongs to, and its augmentation from a generator of its own (seed,
step).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from terminator.data.augment import normalize
from terminator.data.pictures.augment import apply_crops, draw_crops
from terminator.data.pictures.batches import IGNORE
from terminator.data.pictures.segmentation import SegmentationData
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.evaluation import (
    batches,
    draws_bases,
    fixed_bases,
    predict_logits,
)
from terminator.hamburger.segmentation.tasks import (
    Segmentation,
    confusion_matrix,
    parameter_groups,
    scores,
)
from terminator.runtime.distributed import gather, rank, world_size
from terminator.runtime.settings import ConfigError
from terminator.trainer import Loop, Row


@dataclass
class SegmentationTrainer(Loop[SegmentationConfig]):
    """Fits a network to labelled pictures and evaluates it on those of any split.

    Args:
        model: as tasks.build_network makes it.
        config: resolved.
        data: SegmentationData.
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.

    Raises:
        ConfigError: if settings, processes and data do not fit together.
    """

    data: SegmentationData

    counted = ("correct", "labelled")
    advice = "Try a lower optimizer.lr, or train.precision=float32."

    def _prepare(self) -> None:
        train = self.config.train
        # one mean and variance over all processes
        if world_size() > 1 and self.device.type == "cuda":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.task = Segmentation(self.model, self.config)
        self.tested = "val" if "val" in self.data.splits else "test"
        self.pictures = self.data.splits["train"]
        crop = self.config.augmentation.crop or self.data.info.shape[1:]
        if not crop:
            raise ConfigError(
                f"augmentation.crop is nothing, but pictures of {self.data.info.title} differ in "
                "size; allowed: a crop, data.size"
            )
        self.answers_per_step = train.batch_size * crop[0] * crop[1]
        # pixels of this step that count
        self._labelled = torch.zeros((), dtype=torch.float64, device=self.device)

    def _check_data(self) -> None:
        if self.config.train.batch_size > len(self.pictures):
            raise ConfigError(
                f"train.batch_size is {self.config.train.batch_size}, but there are only "
                f"{len(self.pictures)} training pictures; allowed: at most that many"
            )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        use = self.config.optimizer
        return torch.optim.SGD(
            parameter_groups(self.model, use.weight_decay, use.bias_factor), use.lr, use.momentum
        )

    def _rate(self, iteration: int) -> float:
        return self.config.optimizer.rate(iteration, self.config.train.train_steps)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
        """Numbers of pictures: every pass over the data has a random order, whose incomplete last
        batch is left out.
        """
        train = self.config.train
        per_pass, passed = len(self.pictures) // train.batch_size, -1
        for step in self._numbers(epoch):
            if step // per_pass != passed:
                passed = step // per_pass
                order = torch.randperm(len(self.pictures), generator=self._generator(0, passed))
            start = step % per_pass * train.batch_size
            yield order[start : start + train.batch_size], self._generator(1, step)

    def _generator(self, kind: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(
            (self.config.train.seed * 2 + kind) * 1_000_000_007 + number
        )

    def _parts(self, batch: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        train, info, augmentation = self.config.train, self.data.info, self.config.augmentation
        draws = draw_crops(augmentation, len(batch), generator)
        size = train.batch_size // (train.accumulate * world_size())
        for part in range(train.accumulate):
            first = (part * world_size() + rank()) * size
            mine = slice(first, first + size)
            pictures = self.pictures.batch(batch[mine].tolist()).to(self.device)
            x, labels = apply_crops(augmentation, pictures, draws.part(mine), info.mean, info.std)
            self._labelled += (labels != IGNORE).sum().double()
            yield x, labels

    def _step(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self._labelled = torch.zeros_like(self._labelled)
        return super()._step(batch, generator) | {"labelled": self._labelled}

    def _train_epoch(self, epoch: int, rows: list[Row], within: dict[str, Any] | None) -> Row:
        """One epoch; the accuracy is that of pixels with a label, which the loop cannot know the
        number of.
        """
        row = super()._train_epoch(epoch, rows, within)
        labelled = row.pop("labelled") * world_size()
        return row | {
            "train_accuracy": row["train_accuracy"] * self.answers_per_step / max(labelled, 1)
        }

    # -- evaluation --------------------------------------------------------------------------------

    def _test(self) -> dict[str, float]:
        found = self.evaluate(self.tested, pictures=self.config.test.pictures_per_epoch, repeats=1)
        return {f"{self.tested}_miou": found["miou"], f"{self.tested}_accuracy": found["accuracy"]}

    def evaluate(
        self,
        split: str,
        multi_scale: bool = False,
        repeats: int | None = None,
        steps: int | None = None,
        pictures: int | None = None,
    ) -> dict[str, Any]:
        """Scores of a split (%), on whole pictures; processes share them.

        Args:
            multi_scale: MSFlip, over test.scales and test.flip.
            repeats: instead of test.repeats.
            steps: K of every ham, instead of its own.
            pictures: only the first so many.

        Returns:
            miou, accuracy, iou (per class), pictures; where bases are drawn, `repeated`: the miou
            of every repeat.

        Raises:
            ConfigError: for a split that the data do not have.
        """
        if split not in self.data.splits:
            raise ConfigError(f"split is {split!r}; allowed: {', '.join(self.data.splits)}")
        use = self.config.test
        repeats = (use.repeats if repeats is None else repeats) if draws_bases(self.model) else 1
        found = [
            self._confusion(split, multi_scale, use.bases_seed + i, steps, pictures)
            for i in range(repeats)
        ]
        count = len(self.data.splits[split])
        result = scores(found[0]) | {
            "pictures": count if pictures is None else min(count, pictures)
        }
        return result | (
            {"repeated": [scores(part)["miou"] for part in found]} if repeats > 1 else {}
        )

    @torch.no_grad()
    def _confusion(
        self, split: str, multi_scale: bool, seed: int, steps: int | None, pictures: int | None
    ) -> Tensor:
        info, use = self.data.info, self.config.test
        total = torch.zeros(
            len(info.classes), len(info.classes), dtype=torch.int64, device=self.device
        )
        self.model.eval()
        chunks = batches(
            self.data.splits[split], use.batch_size, slice(rank(), None, world_size()), pictures
        )
        for first, batch in chunks:
            batch = batch.to(self.device)
            x = normalize(batch.images, info.mean, info.std)
            # bases belong to the pictures that are answered at once, so that the number of
            # processes and what came before do not matter
            with fixed_bases(self.model, seed * 1_000_003 + first, steps), self._autocast():
                logits = predict_logits(self.model, self.config, x, multi_scale)
            total += confusion_matrix(logits.argmax(1), batch.labels, len(info.classes))
        return torch.stack(gather(total.cpu())).sum(0)
