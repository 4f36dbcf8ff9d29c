"""Long range experiments: run one, or read what is there; its record, its model, and tables of
many.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from terminator.data.sequences.tokens import TokenData
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.data import load_long_range
from terminator.hrrformer.longrange.presets import MAIN, TITLES, study
from terminator.hrrformer.longrange.tasks import build_network
from terminator.hrrformer.longrange.trainer import SequenceTrainer
from terminator.runs import records
from terminator.runs.system import System

MEASURES = {
    "test": "test (%)",
    "best_test": "best epoch (%)",
    "branch_ratio": "branch / residual",
    "tokens_per_s": "tokens/s",
}


class LongRange(System):
    """Hrrformer's networks, with any mixer, on sequences of tokens."""

    task, command = "long-range", "longrange"
    config = LongRangeConfig
    index = "index_longrange.csv"
    data_groups = ("data", "listops", "pathfinder")
    measures = MEASURES

    def read_data(self, config: LongRangeConfig, data_dir: str | None = None) -> TokenData:
        return load_long_range(config, data_dir)

    def resolve(self, config: LongRangeConfig, data: TokenData) -> LongRangeConfig:
        return config.resolved(len(data.info.classes), sum(data.info.sizes.values()))

    def resolve_like(self, config: LongRangeConfig, record: dict[str, Any]) -> LongRangeConfig:
        return config.resolved(
            len(record["data"]["classes"]), sum(record["data"]["sizes"].values())
        )

    def build(self, config: LongRangeConfig) -> nn.Module:
        return build_network(config)

    def trainer(
        self, model: nn.Module, config: LongRangeConfig, data: TokenData, folder: Path | None = None
    ) -> SequenceTrainer:
        return SequenceTrainer(model, config, data, folder)

    def results(self, trainer: SequenceTrainer) -> dict[str, dict[str, Any]]:
        """Of every split but the training one, after the last epoch."""
        return {split: trainer.evaluate(split) for split in trainer.data.splits if split != "train"}

    def details(self, trainer: SequenceTrainer, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
        """Steps, speed, and the best epoch's test accuracy: which of the two was published is not
        known.
        """
        config, seconds = trainer.config, sum(row["seconds"] for row in rows)
        examples = len(rows) * trainer.steps_per_epoch * config.train.batch_size
        # padding is worked on like the rest; how much of it batches of their own lengths have is
        # not counted
        tokens = config.data.length * (2 if trainer.data.is_pair else 1)
        per_s = round(examples * tokens / seconds) if config.data.padding == "full" else None
        best = max(rows, key=lambda row: row["test_accuracy"])
        return {
            "steps": len(rows) * trainer.steps_per_epoch,
            "flops_per_example": trainer.flops(),
            "sequences_per_s": round(examples / seconds, 2),
            "tokens_per_s": per_s,
            "best": {"epoch": best["epoch"], "test_accuracy": best["test_accuracy"]},
        }

    def method(self, config: LongRangeConfig) -> str:
        return f"{config.network.task}-{mixer_name(config)}"

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """As System.variants: of every task."""
        return {
            f"{TITLES.get(name, name)}: {label}": config
            for name in MAIN
            for label, config in study(name, profile).items()
        }

    def label(self, record: dict[str, Any]) -> str:
        return mixer_name(records.config_of(record, LongRangeConfig))

    def summary(self, record: dict[str, Any]) -> str:
        found = record["results"]["test"]
        return f"test accuracy {found['accuracy']:.2f} % of {found['examples']} examples"

    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """What it was, how well (%), how much the mixer has to say, how fast."""
        config, results = records.config_of(record, LongRangeConfig), record["results"]
        s = config.network_settings
        ratios = [
            value for name, value in record["epochs"][-1].items() if name.startswith("branch_ratio")
        ]
        return {
            "task": config.network.task,
            "method": mixer_name(config),
            "masking": s.masking,
            "layers": s.layers,
            "width": s.width,
            "length": config.data.length,
            "train_examples": record["data"]["sizes"]["train"],
            "epochs": config.train.epochs,
            "batch": config.train.batch_size,
            "test": results["test"]["accuracy"],
            "test_examples": results["test"]["examples"],
            "best_test": record["best"]["test_accuracy"],
            "branch_ratio": sum(ratios) / len(ratios),
            "flops_per_example": record["flops_per_example"],
            "tokens_per_s": record["tokens_per_s"],
        }


LONG_RANGE = LongRange()


def mixer_name(config: LongRangeConfig) -> str:
    """The mixer, with what differs from the released attention."""
    use = config.network
    changed = [
        str(value) if name == "weights" else name if value is True else f"{name} {value}"
        for name, value in use.hrrformer_options().items()
    ]
    return " ".join([use.mixer, *changed, *([str(use.mixer_size)] if use.mixer_size else [])])
