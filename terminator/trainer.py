"""One loop for every task: train an epoch, test, write a checkpoint, go on; from wherever it
stopped.

Order of one step: learning rate, batch, forward, loss terms, backward, update, log.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from terminator.config import Trainable, Training, TrainingInSteps
from terminator.runtime import checkpoint_forms as forms
from terminator.runtime.checkpoint import Checkpoints, moment, own_share, unusable
from terminator.runtime.distributed import choose_device, gather, rank, world_size, wrap
from terminator.runtime.errors import OneLine
from terminator.runtime.memory import keep_freed_memory
from terminator.runtime.progress import Pace, bar, say
from terminator.runtime.provenance import Stretch
from terminator.runtime.settings import ConfigError, identity, without_places
from terminator.runtime.torch_state import own_draws

C = TypeVar("C", bound=Trainable)  # the settings of an experiment
Row = dict[str, float]  # an epoch's numbers
Callback = Callable[[list[Row]], None]  # called with the rows so far
KEPT = "Earlier epochs are kept in the checkpoint."  # of a training that diverges


class TrainingDiverged(OneLine, RuntimeError):
    """The loss, a weight or what the optimiser keeps is no finite number any more."""


def shuffled(count: int, train: Training, epoch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Whole batches of indices in an order of the epoch's own, each with the epoch's generator."""
    generator = torch.Generator().manual_seed(train.seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)
    for batch in order.split(train.batch_size)[: count // train.batch_size]:
        yield batch, generator


def what_is_trained(config: Any, fingerprint: str) -> dict[str, Any]:
    """What a checkpoint belongs to: the settings that are not the defaults, and the data.

    Args:
        config: resolved.
        fingerprint: of the data; its key is `data`, but where settings have a group of that name.
    """
    what = identity(without_places(config))
    return what | {"fingerprint" if hasattr(config, "data") else "data": fingerprint}


@dataclass
class Loop(Generic[C]):
    """The loop of every task: steps, epochs, checkpoints; a subclass brings data, task and test.

    Args:
        model: the network that is trained.
        config: the settings of the experiment.
        data: with info.fingerprint.
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.
        callbacks: each is called with the epochs' rows so far, after every epoch, once its
            checkpoint is written; of several processes, in the first one (docs/callbacks.md).

    Raises:
        ConfigError: if batch, processes and data do not fit together.
    """

    model: nn.Module
    config: C
    data: Any
    folder: Path | None = None
    callbacks: Sequence[Callback] = field(default=(), kw_only=True)

    unit = "images"  # what train.batch_size counts
    tested = "test"  # the split that is looked at after every epoch
    # logged values that are sums over a process's share
    counted: ClassVar[tuple[str, ...]] = ("correct",)
    advice = (
        "Try a lower optimizer.lr, a longer scheduler.warmup_epochs, or train.precision=float32."
    )

    def __post_init__(self) -> None:
        train = self.config.train
        self.device = choose_device(train.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.model.to(self.device)
        parts = train.accumulate * world_size()
        if train.batch_size % parts:
            raise ConfigError(
                f"train.batch_size is {train.batch_size}; allowed: multiples of train.accumulate x "
                f"processes = {train.accumulate} x {world_size()}"
            )
        self.observed: list[dict[str, Any]] = []  # with train.observe, see runs.observations
        self.stretches: list[dict[str, Any]] = []  # what trained it, from start to start
        self.task: Any = None
        self.steps_per_epoch = 0
        self.answers_per_step = 0  # what `correct` is counted over
        if isinstance(train, TrainingInSteps):
            self.steps_per_epoch = train.steps_between_saves
        self._prepare()

    def _prepare(self) -> None:
        """Set task, steps_per_epoch and answers_per_step, and move the data."""
        raise NotImplementedError

    def _check_data(self) -> None:
        """Raise ConfigError if there is too little to train on."""

    def _make_optimizer(self) -> torch.optim.Optimizer:
        raise NotImplementedError

    def _rate(self, iteration: int) -> float:
        """Learning rate of an iteration; raises for a schedule that cannot be."""
        raise NotImplementedError

    def _steps(self, epoch: int) -> int:
        """Steps of an epoch (from 0); all but the last have steps_per_epoch."""
        train = self.config.train
        if not isinstance(train, TrainingInSteps):
            return self.steps_per_epoch
        return min(self.steps_per_epoch, train.train_steps - epoch * self.steps_per_epoch)

    def _numbers(self, epoch: int) -> range:
        """The numbers of an epoch's steps, counted over the whole training."""
        first = epoch * self.steps_per_epoch
        return range(first, first + self._steps(epoch))

    def _batches(self, epoch: int) -> Iterator[tuple[Any, torch.Generator]]:
        """Per step what `_parts` takes: which batch, and the generator for its random draws."""
        raise NotImplementedError

    def _parts(self, batch: Any, generator: torch.Generator) -> Iterator[tuple[Any, Tensor]]:
        """This process's share of a batch in train.accumulate parts: the task's inputs and
        labels.
        """
        raise NotImplementedError

    def _test(self) -> Row:
        """What is measured after every epoch, by column."""
        raise NotImplementedError

    def _reached(self, row: Row) -> str:
        """What the line that ends an epoch says beside loss and speed."""
        tested = row[f"{self.tested}_accuracy"]
        return f"train {row['train_accuracy']:6.2f} %  {self.tested} {tested:6.2f} %"

    def _observe(self, epoch: int) -> None:
        """Add to `observed` what is seen inside (epoch 0: before training), if asked for."""

    @torch.enable_grad()  # also for who asks for a trained network where gradients are switched off
    def fit(self) -> list[Row]:
        """Train to the last epoch, going on from the checkpoint if there is one.

        Returns:
            One row per epoch: learning rate, loss terms, accuracies (%), seconds, images per s.

        Raises:
            TrainingDiverged: if the loss, a weight or the optimiser's state is no finite number any
                more.
            CheckpointError: if the checkpoint is corrupt or of another configuration.
        """
        self._check_data()
        self.optimizer = self._make_optimizer()
        self._rate(0)  # a schedule that cannot be is an error before the first step
        if rank() > 0:  # else dropout would draw the same channels in every process
            torch.manual_seed(self.config.train.seed + 1_000_003 * rank())
        rows, within = self._resume()
        self._stretch = Stretch(self.device.type, len(rows))
        if not rows and within is None:
            self._observe(0)
        self.network = self._network()
        epochs = self.config.train.epochs
        size = self.config.train.batch_size
        left = sum(self._steps(epoch) for epoch in range(len(rows), epochs))
        self._pace = Pace(left - (within["step"] if within else 0), size, self.unit)
        for epoch in range(len(rows), epochs):
            row = {"epoch": epoch + 1, **self._train_epoch(epoch, rows, within)}
            within, seconds = None, row.pop("seconds")
            row |= self._test()
            speed = self._steps(epoch) * size / seconds
            row |= {"seconds": round(seconds, 3), f"{self.unit}_per_s": round(speed, 2)}
            rows.append(row)
            self._observe(epoch + 1)
            self._save(rows)
            with own_draws():  # who looks on does not change what is drawn next
                for call in self.callbacks if rank() == 0 else ():
                    call([dict(row) for row in rows])  # theirs to change
            if rank() == 0:
                say(
                    f"epoch {epoch + 1:3d}/{epochs}  loss {row['loss']:.4f}  {self._reached(row)}  "
                    f"{speed:.0f} {self.unit}/s"
                )
        return rows

    def _network(self) -> nn.Module:
        """What is trained: the model, compiled if asked for, wrapped for several processes."""
        mode = self.config.train.compile
        compiled: Any = self.model if mode == "none" else torch.compile(self.model, mode=mode)
        return wrap(compiled, self.device)

    def _train_epoch(self, epoch: int, rows: list[Row], within: dict[str, Any] | None) -> Row:
        """One epoch of steps, or what is left of it: mean loss terms, accuracy, seconds.

        Args:
            epoch: from 0.
            rows: of the epochs before, for a checkpoint in time.
            within: of a checkpoint in the middle of this epoch.
        """
        steps, epochs = self._steps(epoch), self.config.train.epochs
        self.model.train()
        totals: dict[str, Any] = {} if within is None else within["totals"]
        totals = {name: value.to(self.device) for name, value in totals.items()}
        done, before = (0, 0.0) if within is None else (within["step"], within["seconds"])
        started = time.perf_counter()
        # reading a loss off a GPU waits for it
        check_every = 1 if self.device.type == "cpu" else 50
        lr = 0.0
        with bar(steps, f"epoch {epoch + 1}/{epochs}", "batch", silent=rank() > 0) as progress:
            progress.update(done)
            for step, (batch, generator) in self._from(epoch, within):
                lr = self._rate(epoch * self.steps_per_epoch + step)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr * group.get("lr_factor", 1.0)
                for name, value in self._step(batch, generator).items():
                    totals[name] = totals.get(name, 0.0) + value
                self._pace.step()
                if step % check_every == 0 or step + 1 == steps:
                    self._check(totals["loss"], epoch, step, lr)
                    loss = totals["loss"].item() / (step + 1)
                    progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
                    if rank() == 0:
                        self._pace.tell(epoch, epochs, step, steps, loss)
                progress.update()
                if step + 1 < steps and self._checkpoints.is_due(step):
                    self._check(totals["loss"], epoch, step, lr)
                    seconds = before + time.perf_counter() - started
                    self._save(rows, moment(step + 1, totals, seconds, generator))
        seconds = before + time.perf_counter() - started
        means = gather({name: value.item() / steps for name, value in totals.items()})
        row = {name: sum(mean[name] for mean in means) / len(means) for name in means[0]}
        row["train_accuracy"] = 100 * row.pop("correct") * len(means) / self.answers_per_step
        return {"lr": lr, **row, "seconds": seconds}

    def _step(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Forward, backward and update for one global batch; this process takes its part of it."""
        accumulate = self.config.train.accumulate
        logged: dict[str, Any] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for part, (x, labels) in enumerate(self._parts(batch, generator)):
            last = part + 1 == accumulate
            network: Any = self.network
            with contextlib.nullcontext() if last or world_size() == 1 else network.no_sync():
                with self._autocast():
                    terms, logits = self.task.loss_terms(self.network, x, labels)
                loss = sum(terms.values()) / accumulate
                loss.backward()
            terms = {name: term.detach() / accumulate for name, term in terms.items()}
            right = (logits.detach().argmax(1) == labels).sum()
            terms |= {"loss": loss.detach(), "correct": right}
            for name, value in terms.items():
                logged[name] = logged.get(name, 0.0) + value
        self.optimizer.step()
        return logged

    def _autocast(self) -> torch.autocast:
        bf16 = self.config.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def _check(self, total: Tensor, epoch: int, step: int, lr: float) -> None:
        # on every rank alike: of one that ends alone, the others see a fault
        if lost := [loss for loss in gather(total.item()) if not math.isfinite(loss)]:
            raise TrainingDiverged(
                f"the loss is {lost[0]} in epoch {epoch + 1}, step {step + 1} of "
                f"{self._steps(epoch)}, at learning rate {lr:.3g}. {self.advice} {KEPT}"
            )

    # -- checkpoints -----------------------------------------------------------------------------

    def _from(
        self, epoch: int, within: dict[str, Any] | None
    ) -> Iterator[tuple[int, tuple[Any, torch.Generator]]]:
        """The steps of an epoch that are still to do, each with its number in the epoch."""
        skipped, before = 0 if within is None else within["step"], None
        for step, (batch, generator) in enumerate(self._batches(epoch)):
            if step < skipped:
                before = generator
                continue
            if within is not None and step == skipped and generator is before:  # one for all steps
                generator.set_state(within["generator"])
            yield step, (batch, generator)

    def history(self, rows: list[Row]) -> list[dict[str, Any]]:
        """What trained these epochs, from start to start; see Stretch."""
        return [*self.stretches, self._stretch.until(len(rows))]

    def _save(self, rows: list[Row], within: dict[str, Any] | None = None) -> None:
        """Write a checkpoint, never in the place of a good one with weights that diverged: a loss
        is that from before its step.
        """
        if problem := forms.of_numbers(self.model, self.optimizer):
            steps = f" and {within['step']} steps" if within else ""
            raise TrainingDiverged(
                f"{problem} after epoch {len(rows)}{steps}. {self.advice} {KEPT}"
            )
        self._checkpoints.save(
            rows=rows,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            observed=self.observed,
            stretches=self.history(rows),
            **({} if within is None else {"within": within}),
        )

    def _problem(self, saved: dict[str, Any]) -> str:
        """What is wrong with a checkpoint's content, "" for nothing."""
        epochs, rows, within = self.config.train.epochs, saved.get("rows"), saved.get("within")

        def steps() -> int:
            done = sum(self._steps(epoch) for epoch in range(len(saved["rows"])))
            return done + (within["step"] if within else 0)

        return forms.first(
            lambda: forms.of_rows(rows, epochs),
            lambda: forms.of_moment(within, self._steps(len(saved["rows"]))),
            lambda: forms.of_weights(saved.get("model"), self.model.state_dict()),
            lambda: forms.of_optimizer(saved.get("optimizer"), self.optimizer, steps()),
            lambda: forms.of_history(saved.get("stretches") or [], len(saved["rows"])),
            lambda: forms.of_observed(saved.get("observed", []), epochs),
        )

    def _resume(self) -> tuple[list[Row], dict[str, Any] | None]:
        """The epochs that a checkpoint has, and where in the next one it was written."""
        path = self.folder / "checkpoint.pt" if self.folder is not None else None
        what = what_is_trained(self.config, self.data.info.fingerprint)
        self._checkpoints = Checkpoints(path, what, self.config.train.checkpoint_minutes)
        saved = self._checkpoints.load()
        if saved is None:
            return [], None
        if problem := self._problem(saved):
            raise unusable(path, problem)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.observed = saved.get("observed", [])
        rows, within = saved["rows"], saved.get("within")
        self.stretches = saved.get("stretches") or [Stretch.unknown(rows)]
        if rank() == 0:
            middle = f" and {within['step']} steps of the next" if within else ""
            say(f"going on after epoch {len(rows)} of {self.config.train.epochs}{middle}")
        return rows, None if within is None else within | own_share(within, self.counted)
