"""Training and evaluation on token sequences, by the loop of all tasks."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from terminator.data.sequences.tokens import Split, TokenData
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.tasks import SequenceClassification, Tokens, flops_per_example
from terminator.optim import decayed_rate
from terminator.runtime.distributed import gather, rank, world_size
from terminator.runtime.memory import to_device
from terminator.runtime.settings import ConfigError
from terminator.trainer import Loop, shuffled

WATCHED = 16  # test examples on which the mixer's branches are measured after every epoch


@dataclass
class SequenceTrainer(Loop[LongRangeConfig]):
    """Fits a network to token sequences and evaluates it; an epoch is a pass over all training
    examples.

    Args:
        model: as tasks.build_network makes it.
        config: resolved.
        data: TokenData, on the CPU.
        folder: where the checkpoint is kept (checkpoint.pt), or None for none.

    Raises:
        ConfigError: if settings, processes and data do not fit together.
    """

    data: TokenData

    unit = "sequences"
    advice = "Try a lower optimizer.learning_rate, or train.precision=float32."

    def _prepare(self) -> None:
        self.task = SequenceClassification(self.model)
        self.answers_per_step = self.config.train.batch_size
        self.splits = {
            name: Split(
                tuple(text.to(self.device) for text in part.texts), part.labels.to(self.device)
            )
            for name, part in self.data.splits.items()
        }
        # an incomplete batch is left out
        self.steps_per_epoch = len(self.splits["train"]) // self.answers_per_step

    def _check_data(self) -> None:
        if not self.steps_per_epoch:
            raise ConfigError(
                f"train.batch_size is {self.config.train.batch_size}, but there are only "
                f"{len(self.splits['train'])} training examples; allowed: at most that many"
            )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        use = self.config.optimizer
        kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[use.name]
        return kind(self.model.parameters(), use.learning_rate, weight_decay=use.weight_decay)

    def _rate(self, iteration: int) -> float:
        return learning_rate(self.config, iteration)

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, torch.Generator]]:
        return shuffled(len(self.splits["train"]), self.config.train, epoch)

    def _parts(self, batch: Tensor, generator: torch.Generator) -> Iterator[tuple[Tokens, Tensor]]:
        train = self.config.train
        size = train.batch_size // (train.accumulate * world_size())
        for part in range(train.accumulate):
            first = (part * world_size() + rank()) * size
            yield self._examples("train", batch[first : first + size])

    def _examples(self, split: str, index: Tensor) -> tuple[Tokens, Tensor]:
        """Tokens and labels of these examples, on the device."""
        use, part = self.config.data, self.splits[split]
        length = use.length
        if use.padding == "batch":  # two texts have one width
            length = max(text.longest(index, use.length) for text in part.texts)
        tokens = tuple(text.batch(index, length) for text in part.texts)
        return tokens, part.labels[to_device(index, self.device)]

    # -- evaluation --------------------------------------------------------------------------------

    def _test(self) -> dict[str, float]:
        found = self.evaluate("test")
        row = {"test_accuracy": found["accuracy"], "test_cross_entropy": found["cross_entropy"]}
        if count := self.config.test.train_examples:
            found = self.evaluate("train", count)
            row |= {
                "seen_accuracy": found["accuracy"],
                "seen_cross_entropy": found["cross_entropy"],
            }
        tokens, _ = self._examples("test", torch.arange(min(WATCHED, len(self.splits["test"]))))
        with self._autocast():
            ratios = self.task.branch_ratios(tokens)
        return row | {f"branch_ratio_{i}": ratio for i, ratio in enumerate(ratios, 1)}

    def evaluate(self, split: str, examples: int | None = None) -> dict[str, float]:
        """Accuracy (%), cross entropy and number of examples of a split, or of its first
        `examples`.
        """
        self.model.eval()
        count = min(examples or len(self.splits[split]), len(self.splits[split]))
        starts = range(0, count, self.config.test.batch_size)
        index = (
            torch.arange(start, min(start + self.config.test.batch_size, count))
            for start in list(starts)[rank() :: world_size()]
        )
        with self._autocast():
            sums = gather(self.task.evaluate(self._examples(split, part) for part in index))
        total = {name: sum(part[name] for part in sums) for name in sums[0]}
        return {
            "accuracy": 100 * total["correct"] / total["examples"],
            "cross_entropy": total["cross_entropy"] / total["examples"],
            "examples": int(total["examples"]),
        }

    def flops(self) -> int:
        """Of one forward pass per example, padded to the full length."""
        texts = 2 if self.data.is_pair else 1
        empty = torch.ones(2, self.config.data.length, dtype=torch.int64, device=self.device)
        return flops_per_example(self.model, (empty,) * texts)


def learning_rate(config: LongRangeConfig, updates: int) -> float:
    """The rate after so many updates: max(floor, rate * decay^(max(updates - 1, 0) / S)), S =
    examples / batch.

    Golden: hrrformer_lr_schedule.
    """
    use = config.optimizer
    assert use.decay_examples is not None  # of a resolved configuration
    steps = max(1, use.decay_examples // config.train.batch_size)
    return max(
        use.floor, decayed_rate(max(updates - 1, 0), use.learning_rate, use.decay_rate, steps)
    )
