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

from terminator.config import BETAS, OptimizerConfig
from terminator.optim import Kar2, Kar3, Lion
from terminator.runtime import checkpoint
from terminator.runtime.distributed import choose_device, gather, rank, world_size, wrap
from terminator.runtime.memory import keep_freed_memory
from terminator.runtime.progress import bar, say
from terminator.runtime.settings import ConfigError, identity


class TrainingDiverged(RuntimeError):
    """The loss is no finite number any more."""


def make_optimizer(config: OptimizerConfig, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, at its peak learning rate."""
    betas = config.betas or BETAS[config.name]
    if config.name in ("Kar2", "Kar3"):
        return {"Kar2": Kar2, "Kar3": Kar3}[config.name](parameters, config.lr, betas)
    if config.name == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, betas, weight_decay=config.weight_decay)
    if config.name == "Lion":
        return Lion(parameters, config.lr, betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)


def shuffled(count: int, train: Any, epoch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """The examples in a random order of the epoch's own, as whole batches of indices, each with the generator."""
    generator = torch.Generator().manual_seed(train.seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)
    for batch in order.split(train.batch_size)[: count // train.batch_size]:
        yield batch, generator


@dataclass
class Loop:
    """The loop of every task: steps, epochs, checkpoints. A subclass brings the data, the task and its evaluation.

    Args:
        model, config: of the experiment;  data: with info.fingerprint;
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.
    Raises: ConfigError if batch, processes and data do not fit together.
    """

    model: nn.Module
    config: Any
    data: Any
    folder: Path | None = None

    unit = "images"  # what train.batch_size counts
    tested = "test"  # the split that is looked at after every epoch
    advice = "Try a lower optimizer.lr, a longer scheduler.warmup_epochs, or train.precision=float32."

    def __post_init__(self) -> None:
        train = self.config.train
        self.device = choose_device(train.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model.to(self.device)
        share = train.accumulate * world_size()
        if train.batch_size % share:
            raise ConfigError(f"train.batch_size is {train.batch_size}; allowed: multiples of train.accumulate "
                              f"x processes = {train.accumulate} x {world_size()}")
        self.observed: list[dict[str, Any]] = []  # with train.observe: see observations.write
        self._prepare()

    def _prepare(self) -> None:
        """Set task, steps_per_epoch and answers_per_step (what `correct` is counted over), and move the data."""
        raise NotImplementedError

    def _check_data(self) -> None:
        """Raise ConfigError if there is too little to train on."""

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return make_optimizer(self.config.optimizer, self.model.parameters())

    def _rate(self, iteration: int) -> float:
        """Learning rate of an iteration; raises for a schedule that cannot be."""
        raise NotImplementedError

    def _steps(self, epoch: int) -> int:
        """Steps of an epoch (from 0); all but the last have steps_per_epoch."""
        return self.steps_per_epoch

    def _batches(self, epoch: int) -> Iterator[tuple[Any, torch.Generator]]:
        """Per step of an epoch what `_parts` takes: which batch, and the generator for its random draws."""
        raise NotImplementedError

    def _parts(self, batch: Any, generator: torch.Generator) -> Iterator[tuple[Any, Tensor]]:
        """This process's share of a batch in train.accumulate parts: inputs and labels of the task."""
        raise NotImplementedError

    def _test(self) -> dict[str, float]:
        """What is measured after every epoch, by column."""
        raise NotImplementedError

    def _reached(self, row: dict[str, float]) -> str:
        """What the line that ends an epoch says beside loss and speed."""
        tested = row[f"{self.tested}_accuracy"]
        return f"train {row['train_accuracy']:6.2f} %  {self.tested} {tested:6.2f} %"

    def _observe(self, epoch: int) -> None:
        """Add to `observed` what was measured inside the network (epoch 0: before training), if that is asked for."""

    def fit(self) -> list[dict[str, float]]:
        """Train to the last epoch, going on from the checkpoint if there is one.

        Returns: one row per epoch: learning rate, loss terms, accuracies (%), seconds, images (or episodes) per s.
        Raises:  TrainingDiverged; CheckpointError if the checkpoint is corrupt or of another configuration.
        """
        self._check_data()
        self.optimizer = self._make_optimizer()
        self._rate(0)  # a schedule that cannot be is an error before the first step
        if rank() > 0:  # else dropout would draw the same channels in every process
            torch.manual_seed(self.config.train.seed + 1_000_003 * rank())
        rows = self._resume()
        if not rows:
            self._observe(0)
        self.network = self._network()
        epochs = self.config.train.epochs
        for epoch in range(len(rows), epochs):
            started = time.perf_counter()
            row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
            seconds = time.perf_counter() - started
            row |= self._test()
            speed = self._steps(epoch) * self.config.train.batch_size / seconds
            row |= {"seconds": round(seconds, 3), f"{self.unit}_per_s": round(speed, 2)}
            rows.append(row)
            self._observe(epoch + 1)
            self._save(rows)
            if rank() == 0:
                say(f"epoch {epoch + 1:3d}/{epochs}  loss {row['loss']:.4f}  {self._reached(row)}  "
                    f"{speed:.0f} {self.unit}/s")
        return rows

    def _network(self) -> nn.Module:
        """What is trained: the model, compiled if that is asked for, and wrapped for several processes."""
        mode = self.config.train.compile
        return wrap(self.model if mode == "none" else torch.compile(self.model, mode=mode), self.device)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One epoch of steps; mean loss terms and accuracy."""
        steps, epochs = self._steps(epoch), self.config.train.epochs
        self.model.train()
        totals: dict[str, Tensor] = {}
        check_every = 1 if self.device.type == "cpu" else 50  # reading a loss off a GPU waits for it
        with bar(steps, f"epoch {epoch + 1}/{epochs}", "batch", silent=rank() > 0) as progress:
            for step, (batch, generator) in enumerate(self._batches(epoch)):
                lr = self._rate(epoch * self.steps_per_epoch + step)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr * group.get("lr_factor", 1.0)
                for name, value in self._step(batch, generator).items():
                    totals[name] = totals.get(name, 0.0) + value
                if step % check_every == 0 or step + 1 == steps:
                    self._check(totals["loss"], epoch, step, lr)
                    progress.set_postfix(loss=f"{totals['loss'].item() / (step + 1):.3f}", refresh=False)
                progress.update()
        means = gather({name: value.item() / steps for name, value in totals.items()})
        row = {name: sum(mean[name] for mean in means) / len(means) for name in means[0]}
        row["train_accuracy"] = 100 * row.pop("correct") * len(means) / self.answers_per_step
        return {"lr": lr, **row}

    def _step(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Forward, backward and update for one global batch; this process takes its part of it."""
        accumulate = self.config.train.accumulate
        logged: dict[str, Tensor] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for part, (x, labels) in enumerate(self._parts(batch, generator)):
            last = part + 1 == accumulate
            with contextlib.nullcontext() if last or world_size() == 1 else self.network.no_sync():
                with self._autocast():
                    terms, logits = self.task.loss_terms(self.network, x, labels)
                loss = sum(terms.values()) / accumulate
                loss.backward()
            terms = {name: term.detach() / accumulate for name, term in terms.items()}
            terms |= {"loss": loss.detach(), "correct": (logits.detach().argmax(1) == labels).sum()}
            for name, value in terms.items():
                logged[name] = logged.get(name, 0.0) + value
        self.optimizer.step()
        return logged

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")

    def _check(self, total: Tensor, epoch: int, step: int, lr: float) -> None:
        if not math.isfinite(total.item()):
            raise TrainingDiverged(
                f"the loss is {total.item()} in epoch {epoch + 1}, step {step + 1} of {self._steps(epoch)}, at "
                f"learning rate {lr:.3g}. {self.advice} Earlier epochs are kept in the checkpoint.")

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {**identity(self.config), "data": self.data.info.fingerprint}

    def _save(self, rows: list[dict[str, float]]) -> None:
        states = gather(checkpoint.random_states())
        if self.folder is not None and rank() == 0:
            checkpoint.write(self.folder / "checkpoint.pt", {
                "identity": self._identity(), "rows": rows, "random": states, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(), "observed": self.observed})

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
        self.observed = saved.get("observed", [])
        states = saved["random"]
        if len(states) == world_size():
            checkpoint.set_random_states(states[rank()])
        elif rank() == 0:
            say(f"note: the checkpoint was written by {len(states)} processes, now there are {world_size()}; "
                "dropout will differ from an uninterrupted run")
        if rank() == 0:
            say(f"going on after epoch {len(saved['rows'])} of {self.config.train.epochs}")
        return saved["rows"]
