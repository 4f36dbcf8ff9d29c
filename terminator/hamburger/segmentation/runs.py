"""Segmentation experiments: run one, or read what is there; its record, its model, and tables of
many.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from terminator.data.pictures.segmentation import SegmentationData, load_segmentation
from terminator.hamburger.hamnet import HamNet
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.presets import (
    MIXERS,
    RATES,
    camvid_arms,
    context_arms,
    mixer_arms,
)
from terminator.hamburger.segmentation.tasks import build_network
from terminator.hamburger.segmentation.trainer import SegmentationTrainer
from terminator.runs import records
from terminator.runs.finished import FinishedRun
from terminator.runs.system import System
from terminator.runtime import weights
from terminator.runtime.settings import ConfigError, require


class SegmentationRun(FinishedRun):
    """A finished run and its measure."""

    def miou(self, split: str = "") -> float:
        """Mean intersection over union (%) after the last step; of the test pictures, or the last
        split there is.
        """
        return self.record["results"][split or self.system.judged_by(self.record)]["miou"]


MEASURES = {
    "miou": "mIoU (%)",
    "accuracy": "pixels (%)",
    "val_miou": "val mIoU (%)",
    "miou_msflip": "MSFlip (%)",
    "spread_of_bases": "spread of bases",
    "images_per_s": "images/s",
}


class SegmentationSystem(System):
    """Networks that are trained and tested on pictures with a label per pixel."""

    task, command = "segmentation", "segmentation"
    config = SegmentationConfig
    index = "index_segmentation.csv"
    started_by = ("train.start_from", "model.weights")
    run_type = SegmentationRun
    measures = MEASURES

    def read_data(
        self, config: SegmentationConfig, data_dir: str | None = None
    ) -> SegmentationData:
        use = config.data
        return load_segmentation(
            use.name,
            data_dir=data_dir,
            train=use.train,
            size=use.size,
            train_size=use.train_size,
            test_size=use.test_size,
        )

    def resolve(self, config: SegmentationConfig, data: SegmentationData) -> SegmentationConfig:
        train = config.train
        require(
            train.loss_mean == "all" or (train.accumulate == 1 and not train.distributed),
            "train.loss_mean",
            train.loss_mean,
            "all, where a batch has parts (train.accumulate, train.distributed), each with pixels "
            "of its own to count",
        )
        return config.resolved(data.info.shape[0], len(data.info.classes))

    def resolve_like(
        self, config: SegmentationConfig, record: dict[str, Any]
    ) -> SegmentationConfig:
        model = records.config_of(record, SegmentationConfig).model
        return config.resolved(model.in_channels, model.classes)

    def about(self, record: dict[str, Any]) -> dict[str, Any]:
        """As System.about, and what the labels are called."""
        return {**super().about(record), "classes": record["data"]["classes"]}

    def method(self, config: SegmentationConfig) -> str:
        return method_name(config)

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """As System.variants: of the context task and CamVid; mixers at the rates of a sweep."""
        if experiment.endswith("-rates"):
            return {
                f"{label}, rate {rate:g}": config
                for rate in RATES
                for label, config in mixer_arms(profile, rate).items()
            }
        if experiment == MIXERS:
            return mixer_arms(profile)
        return {**context_arms(profile), **camvid_arms(profile)}

    def judged_by(self, record: dict[str, Any]) -> str:
        """The test pictures, or the last split there is."""
        return "test" if "test" in record["results"] else "val"

    def build(self, config: SegmentationConfig) -> HamNet:
        return build_network(config)

    def start(self, config: SegmentationConfig, data: SegmentationData) -> HamNet:
        """The network from its seed, with the backbone's ImageNet weights, or with those of the
        first stage.
        """
        model = build_network(config)
        if model.backbone is not None and config.model.weights:
            model.backbone.load(config.model.weights)
        if path := config.train.start_from:
            tensors, _ = weights.read(path)
            own = model.state_dict()
            if wrong := sorted(
                key
                for key in own.keys() | tensors.keys()
                if key not in own or key not in tensors or not weights.fits(tensors[key], own[key])
            ):
                raise ConfigError(
                    f"train.start_from is {path!r}, which differs from this network in "
                    f"{len(wrong)} entries ({wrong[0]} is the first); allowed: a model of the same "
                    "settings"
                )
            model.load_state_dict(tensors)
        return model

    def trainer(
        self,
        model: nn.Module,
        config: SegmentationConfig,
        data: SegmentationData,
        folder: Path | None = None,
    ) -> SegmentationTrainer:
        return SegmentationTrainer(model, config, data, folder)

    def results(self, trainer: SegmentationTrainer) -> dict[str, dict[str, Any]]:
        """Of every split but the training pictures; with test.multi_scale also with MSFlip."""
        splits = [split for split in trainer.data.splits if split != "train"]
        found = {split: trainer.evaluate(split) for split in splits}
        if trainer.config.test.multi_scale:
            found |= {
                f"{split}_msflip": trainer.evaluate(split, multi_scale=True, repeats=1)
                for split in splits
            }
        return found

    def details(
        self, trainer: SegmentationTrainer, rows: Sequence[dict[str, float]]
    ) -> dict[str, Any]:
        train, seconds = trainer.config.train, sum(row["seconds"] for row in rows)
        return {
            "images_per_s": round(train.train_steps * train.batch_size / seconds, 2)
            if rows
            else None
        }

    def summary(self, record: dict[str, Any]) -> str:
        split = self.judged_by(record)
        found = record["results"][split]
        pictures = f"{found['pictures']} {split} pictures"
        return f"mIoU {found['miou']:.2f} %, {found['accuracy']:.2f} % of pixels, {pictures}"

    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """What it was, how well (%), how fast."""
        config, results = records.config_of(record, SegmentationConfig), record["results"]
        split, ham = self.judged_by(record), config.model.context == "hamburger"
        repeated = results[split].get("repeated")
        return {
            "method": method_name(config),
            "backbone": config.model.backbone,
            "rank": config.ham.rank if ham else None,
            "K": config.ham.train_steps if ham else None,
            "steps": config.train.train_steps,
            "batch": config.train.batch_size,
            "split": split,
            "miou": results[split]["miou"],
            "accuracy": results[split]["accuracy"],
            "val_miou": results.get("val", {}).get("miou"),
            "miou_msflip": results.get(f"{split}_msflip", {}).get("miou"),
            "spread_of_bases": max(repeated) - min(repeated) if repeated else None,
            "images_per_s": record["images_per_s"],
        }


SEGMENTATION = SegmentationSystem()


def method_name(config: SegmentationConfig) -> str:
    """What a reader calls the context: "none", "hamburger V2 NMF", "hamburger V1 CD tau 100 BPTT",
    ...
    """
    if config.model.context != "hamburger":
        return config.model.context
    ham = config.ham
    words = ["hamburger", ham.version, ham.kind]
    words += [f"tau {ham.inverse_temperature:g}"] if ham.kind != "NMF" else []
    return " ".join(words + (["BPTT"] if not ham.one_step else []))
