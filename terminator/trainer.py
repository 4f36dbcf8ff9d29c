"""One loop for every task: train an epoch, test, write a checkpoint, go on; from wherever it stopped.

Order of one step: learning rate, batch, forward, loss terms, backward, update, log.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from terminator import checkpoint
from terminator.config import BETAS, Config, ConfigError, OptimizerConfig, identity
from terminator.data import Augmentation, ImageData, normalize
from terminator.distributed import choose_device, gather, rank, world_size, wrap
from terminator.optim import Kar2, Kar3, learning_rate_factor
from terminator.progress import bar, say
from terminator.standardization import calibrate, set_evaluation
from terminator.tasks import Classification


class TrainingDiverged(RuntimeError):
    """The loss is no finite number any more."""


def make_optimizer(config: OptimizerConfig, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, at its peak learning rate."""
    betas = config.betas or BETAS[config.name]
    if config.name in ("Kar2", "Kar3"):
        return {"Kar2": Kar2, "Kar3": Kar3}[config.name](parameters, config.lr, betas)
    if config.name == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)


@dataclass
class Trainer:
    """Fits a model to a data set and evaluates it.

    Args:
        model: gives logits (N, classes);  config: of the experiment;  data: in memory, on the CPU;
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.
    Raises: ConfigError if batch, processes and data do not fit together.
    """

    model: nn.Module
    config: Config
    data: ImageData
    folder: Path | None = None

    def __post_init__(self) -> None:
        train = self.config.train
        self.device = choose_device(train.device)
        self.model.to(self.device)
        self.task = Classification(self.model, self.config)
        self.steps_per_epoch = len(self.data.train_labels) // train.batch_size
        share = train.accumulate * world_size()
        if train.batch_size % share:
            raise ConfigError(f"train.batch_size is {train.batch_size}; allowed: multiples of train.accumulate "
                              f"x processes = {train.accumulate} x {world_size()}")
        use = self.config.dataset
        self.augmentation = None
        if use.view == "image" and (use.crop_padding or use.flip):
            self.augmentation = Augmentation(use.crop_padding, use.flip)
        self.images = self.data.train_images.to(self.device)
        self.labels = self.data.train_labels.to(self.device)

    def fit(self) -> list[dict[str, float]]:
        """Train to the last epoch, going on from the checkpoint if there is one.

        Returns: one row per epoch: learning rate, loss terms, accuracies (%), seconds, images/s.
        Raises:  TrainingDiverged; CheckpointError if the checkpoint is corrupt or of another configuration.
        """
        if not self.steps_per_epoch:
            raise ConfigError(f"train.batch_size is {self.config.train.batch_size}, but there are only "
                              f"{len(self.labels)} training images; allowed: at most that many")
        self.optimizer = make_optimizer(self.config.optimizer, self.model.parameters())
        self._factor(0)  # a schedule that cannot be is an error before the first step
        if rank() > 0:  # else dropout would draw the same channels in every process
            torch.manual_seed(self.config.train.seed + 1_000_003 * rank())
        rows = self._resume()
        self.network = wrap(self.model, self.device)
        epochs = self.config.train.epochs
        for epoch in range(len(rows), epochs):
            started = time.perf_counter()
            row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
            seconds = time.perf_counter() - started
            row |= {f"test_{name}": value for name, value in self.evaluate("released").items() if name != "images"}
            row |= {"seconds": round(seconds, 3),
                    "images_per_s": round(self.steps_per_epoch * self.config.train.batch_size / seconds, 2)}
            rows.append(row)
            self._save(rows)
            if rank() == 0:
                say(f"epoch {epoch + 1:3d}/{epochs}  loss {row['loss']:.4f}  train {row['train_accuracy']:6.2f} %  "
                    f"test {row['test_accuracy']:6.2f} %  {row['images_per_s']:.0f} images/s")
        return rows

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training images in a random order of its own; mean loss terms and accuracy."""
        train = self.config.train
        generator = torch.Generator().manual_seed(train.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        self.model.train()
        totals: dict[str, Tensor] = {}
        check_every = 1 if self.device.type == "cpu" else 50  # reading a loss off a GPU waits for it
        with bar(self.steps_per_epoch, f"epoch {epoch + 1}/{train.epochs}", "batch", silent=rank() > 0) as progress:
            for step in range(self.steps_per_epoch):
                lr = self.config.optimizer.lr * self._factor(epoch * self.steps_per_epoch + step)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                batch = order[step * train.batch_size:(step + 1) * train.batch_size]
                for name, value in self._step(batch, generator).items():
                    totals[name] = totals.get(name, 0.0) + value
                if step % check_every == 0 or step + 1 == self.steps_per_epoch:
                    self._check(totals["loss"], epoch, step, lr)
                    progress.set_postfix(loss=f"{totals['loss'].item() / (step + 1):.3f}", refresh=False)
                progress.update()
        means = gather({name: value.item() / self.steps_per_epoch for name, value in totals.items()})
        row = {name: sum(mean[name] for mean in means) / len(means) for name in means[0]}
        row["train_accuracy"] = 100 * row.pop("correct") * len(means) / train.batch_size
        return {"lr": lr, **row}

    def _step(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Forward, backward and update for one global batch (indices); this process takes its part of it."""
        train = self.config.train
        draws = self.augmentation.draw(len(batch), generator) if self.augmentation else None
        size = train.batch_size // (train.accumulate * world_size())
        logged: dict[str, Tensor] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for part in range(train.accumulate):
            first = (part * world_size() + rank()) * size
            mine = slice(first, first + size)
            index = batch[mine].to(self.device)
            images = self.images[index]
            if draws is not None:
                images = self.augmentation.apply(images, draws[mine])
            x, labels = self._inputs(images), self.labels[index]
            last = part + 1 == train.accumulate
            with contextlib.nullcontext() if last or world_size() == 1 else self.network.no_sync():
                with self._autocast():
                    terms, logits = self.task.loss_terms(self.network, x, labels)
                loss = sum(terms.values()) / train.accumulate
                loss.backward()
            terms = {name: term.detach() / train.accumulate for name, term in terms.items()}
            terms |= {"loss": loss.detach(), "correct": (logits.detach().argmax(1) == labels).sum()}
            for name, value in terms.items():
                logged[name] = logged.get(name, 0.0) + value
        self.optimizer.step()
        return logged

    def _inputs(self, images: Tensor) -> Tensor:
        return normalize(images, self.data.info.mean, self.data.info.std)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def _factor(self, iteration: int) -> float:
        scheduler, epochs = self.config.scheduler, self.config.train.epochs
        warmup = 0.08 * epochs if scheduler.warmup_epochs is None else scheduler.warmup_epochs
        return learning_rate_factor(scheduler.name, iteration, epochs * self.steps_per_epoch,
                                    round(warmup * self.steps_per_epoch))

    def _check(self, total: Tensor, epoch: int, step: int, lr: float) -> None:
        if not math.isfinite(total.item()):
            raise TrainingDiverged(
                f"the loss is {total.item()} in epoch {epoch + 1}, step {step + 1} of {self.steps_per_epoch}, at "
                f"learning rate {lr:.3g}. Try a lower optimizer.lr, a longer scheduler.warmup_epochs, or "
                "train.precision=float32. Earlier epochs are kept in the checkpoint.")

    # -- evaluation ------------------------------------------------------------------------------------------

    def calibrate(self) -> int:
        """Fix the statistics of the model over training images (not augmented); see standardization.calibrate."""
        count = min(self.config.test.calibration_images, len(self.labels))
        index = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(0))[:count]
        parts = [part for part in index.split(self.config.train.batch_size) if len(part) > 1]
        with self._autocast():
            return calibrate(self.model, (self._inputs(self.images[part.to(self.device)]) for part in parts))

    def evaluate(self, protocol: str) -> dict[str, float]:
        """Test accuracy (%), cross entropy and number of images, "released" or "calibrated"."""
        self.model.eval()
        set_evaluation(self.model, protocol)
        with self._autocast():
            sums = gather(self.task.evaluate(self._test_batches(fill=protocol == "released")))
        total = {name: sum(part[name] for part in sums) for name in sums[0]}
        return {"accuracy": 100 * total["correct"] / total["images"],
                "cross_entropy": total["cross_entropy"] / total["images"], "images": int(total["images"])}

    def _test_batches(self, fill: bool) -> Iterator[tuple[Tensor, Tensor, int]]:
        """This process's test batches, in order, each with the number of its images that count.

        An incomplete last batch would have poor statistics: as released it is dropped (test.drop_last), or it
        is filled up with the first images, which are not counted again.
        """
        images, labels, test = self.data.test_images, self.data.test_labels, self.config.test
        starts = range(0, len(labels), test.batch_size)
        for start in list(starts)[rank()::world_size()]:
            index = torch.arange(start, start + test.batch_size)
            counted = int((index < len(labels)).sum())
            if fill and counted < test.batch_size and test.drop_last and len(labels) >= test.batch_size:
                continue
            index = index % len(labels) if fill else index[:counted]
            yield self._inputs(images[index].to(self.device)), labels[index].to(self.device), counted

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {**identity(self.config), "data": self.data.info.fingerprint}

    def _save(self, rows: list[dict[str, float]]) -> None:
        states = gather(checkpoint.random_states())
        if self.folder is not None and rank() == 0:
            checkpoint.write(self.folder / "checkpoint.pt", {
                "identity": self._identity(), "rows": rows, "random": states, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict()})

    def _resume(self) -> list[dict[str, float]]:
        path = self.folder / "checkpoint.pt" if self.folder is not None else None
        if path is None or not path.exists():
            return []
        saved = checkpoint.read(path)
        if changed := checkpoint.differences(self._identity(), saved["identity"]):
            raise checkpoint.CheckpointError(f"{path} belongs to another configuration: {'; '.join(changed)}. "
                                             "Remove it, or choose another folder.")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        states = saved["random"]
        if len(states) == world_size():
            checkpoint.set_random_states(states[rank()])
        elif rank() == 0:
            say(f"note: the checkpoint was written by {len(states)} processes, now there are {world_size()}; "
                "dropout will differ from an uninterrupted run")
        if rank() == 0:
            say(f"going on after epoch {len(saved['rows'])} of {self.config.train.epochs}")
        return saved["rows"]
