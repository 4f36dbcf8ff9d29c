"""Few-shot experiments: run one, or read what is there; its record, its model, and tables of
many.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.data import EpisodeData, load_episode_data
from terminator.hypertransformer.fewshot.presets import MAIN, STUDIES, study
from terminator.hypertransformer.fewshot.tasks import build_network
from terminator.hypertransformer.fewshot.trainer import EpisodeTrainer
from terminator.runs import records
from terminator.runs.system import System
from terminator.runtime import weights
from terminator.runtime.settings import ConfigError, require

MEASURES = {
    "test": "test (%)",
    "overlapping": "queries may be support (%)",
    "interval": "95 % over tasks",
    "train_classes": "training classes (%)",
    "episodes_per_s": "episodes/s",
}


class FewShot(System):
    """Networks that are trained and tested on episodes."""

    task, command = "few-shot", "fewshot"
    config = FewShotConfig
    index = "index_fewshot.csv"
    started_by = ("train.restore_shared_features_from",)
    measures = MEASURES

    def read_data(self, config: FewShotConfig, data_dir: str | None = None) -> EpisodeData:
        return load_episode_data(config.data, data_dir)

    def resolve(self, config: FewShotConfig, data: EpisodeData) -> FewShotConfig:
        count = config.test.eval_batch_size
        allowed = "an integer of at least 2: one query has no batch statistics"
        require(count >= 2, "test.eval_batch_size", count, allowed)
        return config.resolved(data.info.shape[0], data.real_classes)

    def resolve_like(self, config: FewShotConfig, record: dict[str, Any]) -> FewShotConfig:
        model = records.config_of(record, FewShotConfig).model
        return config.resolved(model.in_channels, model.shared_head_classes)

    def method(self, config: FewShotConfig) -> str:
        return config.method.name

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """As System.variants: of every study, whose labels differ."""
        found: dict[str, Any] = {}
        for name in STUDIES if profile in MAIN else ():
            for label, config in study(name, profile).items():
                found.setdefault(label, config)
        return found

    def label(self, record: dict[str, Any]) -> str:
        return method_name(records.config_of(record, FewShotConfig))

    def build(self, config: FewShotConfig) -> nn.Module:
        return build_network(config)

    def start(self, config: FewShotConfig, data: EpisodeData) -> nn.Module:
        """The network from its seed, or with another model's shared features."""
        model = build_network(config)
        if path := config.train.restore_shared_features_from:
            tensors, _ = weights.read(path)
            own = model.state_dict()
            parts = ["shared."]  # and the head that they were trained with, where there is one
            parts += ["shared_head."] if any(key.startswith("shared_head.") for key in own) else []
            found = {key: value for key, value in tensors.items() if key.startswith(tuple(parts))}
            if not found or any(
                key not in own or not weights.fits(value, own[key]) for key, value in found.items()
            ):
                raise ConfigError(
                    f"train.restore_shared_features_from is {path!r}, whose shared features are "
                    f"{ {key: tuple(value.shape) for key, value in found.items()} or 'none' }; "
                    "allowed: a model with the same extractor and head"
                )
            model.load_state_dict(own | found)
        return model

    def trainer(
        self, model: nn.Module, config: FewShotConfig, data: EpisodeData, folder: Path | None = None
    ) -> EpisodeTrainer:
        return EpisodeTrainer(model, config, data, folder)

    def results(self, trainer: EpisodeTrainer) -> dict[str, dict[str, Any]]:
        """Of every split, and of test tasks whose queries may be support images, as the reference
        draws them.
        """
        results = {split: trainer.evaluate(split) for split in trainer.data.splits}
        episodes = trainer.config.episodes
        if (
            episodes.balanced_batches
            and episodes.overlap == "disjoint"
            and trainer.config.method.name != "continual"
        ):
            results["test_overlapping"] = trainer.evaluate("test", overlap="parity")
        return results

    def details(self, trainer: EpisodeTrainer, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
        train, seconds = trainer.config.train, sum(row["seconds"] for row in rows)
        return {
            "episodes_per_s": round(train.train_steps * train.batch_size / seconds, 2)
            if rows
            else None
        }

    def summary(self, record: dict[str, Any]) -> str:
        found = record["results"]["test"]
        tasks = f"{found['tasks']} tasks of unseen classes"
        return f"{found['accuracy']:.2f} ± {found['interval']:.2f} % on {tasks}"

    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """What it was, how well (%, with 95 % interval over tasks), how fast."""
        config, results = records.config_of(record, FewShotConfig), record["results"]
        e, m, unlabeled = config.episodes, config.model, config.episodes.unlabeled_samples_per_class
        method = config.method
        tasks = method.test_tasks if method.name == "continual" else 1  # told apart all at once
        return {
            "method": method_name(config),
            "ways": e.num_labels * tasks,
            "shots": e.samples_transformer / e.num_labels - unlabeled,
            "unlabeled": unlabeled,
            "channels": m.default_num_channels,
            "transformer_layers": m.num_layers,
            "steps": config.train.train_steps if record["epochs"] else 0,
            "batch": config.train.batch_size,
            "test": results["test"]["accuracy"],
            "interval": results["test"]["interval"],
            "tasks": results["test"]["tasks"],
            "train_classes": results["train"]["accuracy"],
            "overlapping": results.get("test_overlapping", {}).get("accuracy"),
            "queries": e.overlap,
            "episodes_per_s": record["episodes_per_s"],
        }


FEW_SHOT = FewShot()


# -- tables ----------------------------------------------------------------------------------------


def method_name(config: FewShotConfig) -> str:
    """What a reader calls the method: all layers or logits only, for the HyperTransformer."""
    names = {
        "prototypical": "prototypical network",
        "pixels": "nearest mean of pixels",
        "continual": "continual HyperTransformer",
    }
    if config.method.name in names:
        return names[config.method.name]
    m = config.model
    trained = m.number_of_trained_cnn_layers
    if trained == m.conv_layers:
        return "HyperTransformer, logits only"
    return (
        "HyperTransformer, all layers"
        if not trained
        else f"HyperTransformer, {trained} conv layers trained"
    )
