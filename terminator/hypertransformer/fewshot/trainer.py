"""Training and evaluation on episodes, by the loop of all tasks.

An epoch is what lies between two checkpoints. Every step draws its episodes from a generator of its
own (seed, process, step), so that a training goes on from a checkpoint as if it had never stopped,
and no two processes draw the same episodes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from terminator.data.episodes.sampling import Episodes, episode_generator
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.data import EpisodeData
from terminator.hypertransformer.fewshot.tasks import Step, build_task
from terminator.optim import decayed_rate
from terminator.runtime.distributed import gather, rank, world_size
from terminator.runtime.settings import ConfigError
from terminator.trainer import Loop

TEST_SEED = 2**31  # of the tasks that are evaluated: the same for every method, seed and step
CHUNK = 16  # tasks evaluated at once


@dataclass
class EpisodeTrainer(Loop[FewShotConfig]):
    """Fits a network to the episodes of the training classes and evaluates it on those of any
    split.

    Args:
        model: as tasks.build_network makes it.
        config: resolved.
        data: EpisodeData.
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.

    Raises:
        ConfigError or ValueError: if settings, processes and data do not fit together.
    """

    data: EpisodeData

    unit = "episodes"
    advice = "Try a lower optimizer.learning_rate, or train.precision=float32."

    def _prepare(self) -> None:
        train = self.config.train
        self.task = build_task(self.model, self.config)
        self.tested = "val" if "val" in self.data.splits else "seen"  # seen: the training classes
        self.answers_per_step = train.batch_size * self.task.answers()
        self.episodes = self.data.episodes(
            self.config,
            "train",
            training=True,
            device=self.device,
            ways_times=self.task.ways_times(training=True),
        )
        for split in self.data.splits:
            # what cannot be drawn is an error now
            self._test_episodes(split, self.config.test.eval_batch_size)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        use, parameters = self.config.optimizer, self._trained()
        if use.name == "SGD":
            return torch.optim.SGD(parameters, use.learning_rate, weight_decay=use.weight_decay)
        kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[use.name]
        return kind(parameters, use.learning_rate, weight_decay=use.weight_decay)

    def _trained(self) -> list[torch.nn.Parameter]:
        """The parameters to train: all, or those of the shared features and their head."""
        if self.config.train.pretrain_shared_feature:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name.startswith(("shared.", "shared_head.")))
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _rate(self, iteration: int) -> float:
        use = self.config.optimizer
        rate = decayed_rate(
            iteration,
            use.learning_rate,
            use.learning_rate_decay_rate,
            use.learning_rate_decay_steps,
        )
        return rate * min(1.0, (iteration + 1) / max(use.learning_rate_warmup_steps, 1))

    def _batches(self, epoch: int) -> Iterator[tuple[int, torch.Generator]]:
        for step in self._numbers(epoch):
            yield step, episode_generator(self.config.train.seed, rank(), step)

    def _parts(self, batch: int, generator: torch.Generator) -> Iterator[tuple[Step, Tensor]]:
        train = self.config.train
        for _ in range(train.accumulate):
            episodes = self.episodes.batch(
                train.batch_size // (train.accumulate * world_size()), generator
            )
            yield Step(episodes, batch), self.task.targets(episodes)

    # -- evaluation --------------------------------------------------------------------------------

    def _test(self) -> dict[str, float]:
        """Accuracy on some tasks of the validation split, or of the training classes where there is
        none.
        """
        found = self.evaluate(
            "val" if self.tested == "val" else "train", self.config.test.tasks_per_epoch, batches=1
        )
        return {
            f"{self.tested}_accuracy": found["accuracy"],
            f"{self.tested}_interval": found["interval"],
        }

    def _test_episodes(self, split: str, queries: int, **changes: Any) -> Episodes:
        times = self.task.ways_times(training=False)
        if split != "test":  # sequences are as long as its classes allow
            times = max(
                1, min(times, len(self.data.splits[split][1]) // self.config.episodes.num_labels)
            )
        return self.data.episodes(
            self.config,
            split,
            ways_times=times,
            device=self.device,
            samples_cnn=times * queries,
            **changes,
        )

    def evaluate(
        self, split: str, tasks: int | None = None, batches: int | None = None, **changes: Any
    ) -> dict[str, Any]:
        """Accuracy (%) over tasks of a split, with the half-width of its 95 % interval; processes
        share the tasks.

        Args:
            tasks, batches: instead of the settings' own.
            changes: of the episodes, e.g. overlap="parity".

        Returns:
            accuracy, interval, tasks, queries (per task); for the continual method, whose accuracy
            is that of all classes after the last task, also the tables `class_incremental` and
            `task_incremental` (%).

        Raises:
            ConfigError: for a split that the data do not have.
        """
        if split not in self.data.splits:
            raise ConfigError(f"split is {split!r}; allowed: {', '.join(self.data.splits)}")
        use = self.config.test
        tasks, batches = tasks or use.num_task_evals, batches or use.num_eval_batches
        episodes = self._test_episodes(split, use.eval_batch_size, **changes)
        self.model.eval()
        found: list[Tensor] = []
        starts = range(0, tasks, CHUNK)
        with self._autocast():
            for start in starts[rank() :: world_size()]:
                generator = episode_generator(TEST_SEED, 0, start)
                found.append(
                    self._tasks(episodes, min(CHUNK, tasks - start), batches, generator).cpu()
                )
        accuracies = torch.cat([torch.as_tensor(part) for parts in gather(found) for part in parts])
        return summary(100 * accuracies) | {
            "tasks": tasks,
            "queries": batches * use.eval_batch_size,
        }

    def _tasks(
        self, episodes: Episodes, count: int, batches: int, generator: torch.Generator
    ) -> Tensor:
        """Accuracies of new tasks, each the mean over query batches for the same support set and
        augmentation; but for random flips, colours and crops of single images, of the training
        classes alone, which are drawn for every batch.
        """
        draw = episodes.draw(count, generator)
        total = self.task.evaluate(episodes.images_of(draw, generator))
        for _ in range(1, batches):
            draw = episodes.redraw_queries(draw, generator)
            total = total + self.task.evaluate(episodes.images_of(draw, generator))
        return total / batches


def summary(accuracies: Tensor) -> dict[str, Any]:
    """Mean and 95 % interval over tasks (T), or over sequences (S, 2, T, T), in whatever unit comes
    in.
    """
    if accuracies.ndim == 1:
        return {"accuracy": accuracies.mean().item(), "interval": half_width(accuracies)}
    last = accuracies[:, 0, -1].mean(-1)  # all classes, after the last task
    tables = {}
    for kind, name in enumerate(("class_incremental", "task_incremental")):
        mean = accuracies[:, kind].mean(0)
        spread = 1.96 * accuracies[:, kind].std(0) / math.sqrt(len(accuracies))
        for what, table in ((name, mean), (f"{name}_interval", spread)):
            tables[what] = [row[: t + 1] for t, row in enumerate(table.tolist())]
    return {"accuracy": last.mean().item(), "interval": half_width(last), **tables}


def half_width(values: Tensor) -> float:
    """Half the 95 % interval of a mean: 1.96 standard errors."""
    return 1.96 * values.std().item() / math.sqrt(len(values))
