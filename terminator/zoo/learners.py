"""Few-shot learners that are given away."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from terminator.data.episodes.sampling import EpisodeBatch
from terminator.hypertransformer.commands import SETTINGS
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.data import EpisodeData
from terminator.hypertransformer.fewshot.learner import Learner, alone
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.hypertransformer.fewshot.tasks import FewShot
from terminator.runtime import weights
from terminator.zoo.kinds import Facts, Kind

PROTOCOLS = {
    "alone": "every picture alone, beside those that were shown, as `fewshot-predict` answers",
    "together": "all of a task at once, as in training",
}
TASKS = 256  # of unseen classes, for answers one by one


class Alone(FewShot):
    """Every query asked by itself; see fewshot.learner."""

    @torch.no_grad()
    def evaluate(self, batch: EpisodeBatch) -> Tensor:
        right = [
            (alone(self.model, *episode).argmax(-1) == labels).double().mean()
            for *episode, labels in zip(
                batch.support_images,
                batch.support_labels,
                batch.query_images,
                batch.query_labels,
                strict=True,
            )
        ]
        return torch.stack(right)


class Learners(Kind):
    """See the top of this file."""

    system = FEW_SHOT
    settings = SETTINGS
    examples = "classes"
    use = "fewshot-predict {name} SHOWN PICTURE..."
    of_data = frozenset(
        ("model", key) for key in ("in_channels", "shared_head_classes", "num_labels", "image_size")
    )

    def load(self, path: Path) -> Facts:
        learner = Learner(path)
        return Facts(path, learner.model, learner.config, weights.info_of(path))

    def batch(self, config: FewShotConfig) -> int:
        return config.test.eval_batch_size

    def measure(
        self, model: nn.Module, config: FewShotConfig, data: EpisodeData
    ) -> dict[str, dict[str, Any]]:
        trainer = self.system.trainer(model, config, data)
        together = trainer.evaluate("test")
        trainer.task = Alone(model, config)
        return {"alone": trainer.evaluate("test", tasks=TASKS), "together": together}

    def sizes(self, data: EpisodeData) -> dict[str, int]:
        return {split: data.info.classes[split] for split in ("train", "test")}

    def short(self, found: Facts) -> tuple[str, str]:
        answer, size = found.card["accuracy"]["alone"], found.config.model.image_size
        return (
            f"{found.config.episodes.num_labels} new classes, {shots(found.config)} of each, "
            f"{found.config.model.in_channels}x{size}x{size}",
            f"{_percent(answer)} in {answer['tasks']:,} tasks",
        )

    def table(self, found: Facts) -> list[tuple[str, ...]]:
        return [
            ("accuracy of exactly this file", "tasks of unseen classes", "asked"),
            *(
                (
                    _percent(answer := found.card["accuracy"][name]),
                    f"{answer['tasks']:,}, {answer['queries']} queries each",
                    meaning,
                )
                for name, meaning in PROTOCOLS.items()
            ),
        ]

    def rows(self, found: Facts) -> dict[str, str]:
        m, ways = found.config.model, found.config.episodes.num_labels
        return {
            "takes": f"{shots(found.config)} of each of {ways} classes (trained so; more of each "
            "are taken), then pictures to be named; all resized and cropped to "
            f"{m.in_channels} x {m.image_size} x {m.image_size} (channels, height, width)",
            "classes": f"any {ways} that are shown to it",
        }


def shots(config: FewShotConfig) -> str:
    """How many pictures of a class it was trained with."""
    count = config.episodes.samples_transformer // config.episodes.num_labels
    return f"{count} picture{'s' * (count > 1)}"


def _percent(answer: dict[str, Any]) -> str:
    return f"{answer['accuracy']:.2f} ± {answer['interval']:.2f} %"
