"""GAN experiments: run one, or read what is there; its record, its samples, its model, and a table
of many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from terminator.data.images import load as load_images
from terminator.hamburger.gan.config import GanConfig, GanModel
from terminator.hamburger.gan.frechet import judge_of
from terminator.hamburger.gan.networks import Gan, build
from terminator.hamburger.gan.presets import study
from terminator.hamburger.gan.trainer import GanImages, GanTrainer
from terminator.hamburger.settings import KINDS
from terminator.runs import records
from terminator.runs.finished import FinishedRun
from terminator.runs.system import System
from terminator.runtime.settings import require

NAMES = {
    "none": "without context",
    "attention": "with attention",
    "NMF": "with Hamburger (NMF)",
    "VQ": "with Hamburger (VQ)",
    "CD": "with Hamburger (CD)",
}


class GanRun(FinishedRun):
    """A finished run and its samples."""

    def grids(self) -> dict[int, Tensor]:
        """Samples of the same z and classes after every epoch (0: before training): uint8 (rows *
        classes, C, H, W).

        Raises:
            FileNotFoundError: where the record travelled without them.
        """
        return {
            epoch: torch.from_numpy(fields["samples"]).to(torch.uint8)
            for epoch, fields in self.observed_fields.items()
        }


class GanSystem(System):
    """A generator and a discriminator, trained against one another."""

    task, command = "gan", "gan"
    config = GanConfig
    index = "index_gan.csv"
    run_type = GanRun
    measures = {
        "frechet": "Frechet distance",
        "right_class": "right class (%)",
        "frechet_train_images": "distance of training images",
    }

    def read_data(self, config: GanConfig, data_dir: str | None = None) -> GanImages:
        d, m, standard = config.data, config.model, GanModel()
        for name in ("steps", "one_step", "rank_divisor"):  # else another run of the same training
            require(
                m.context in KINDS or getattr(m, name) == getattr(standard, name),
                f"model.{name}",
                getattr(m, name),
                f"the default, for model.context={m.context}",
            )
        return GanImages(
            load_images(
                d.name,
                data_dir=data_dir,
                image_size=d.image_size,
                channels=d.channels,
                train_size=d.train_size,
                test_size=d.test_size,
            )
        )

    def resolve(self, config: GanConfig, data: GanImages) -> GanConfig:
        return config.resolved(data.info.shape[0], len(data.info.classes))

    def resolve_like(self, config: GanConfig, record: dict[str, Any]) -> GanConfig:
        return config.resolved(record["data"]["shape"][0], len(record["data"]["classes"]))

    def method(self, config: GanConfig) -> str:
        return config.model.context

    def build(self, config: GanConfig) -> Gan:
        return build(config)

    def trainer(
        self, model: Any, config: GanConfig, data: GanImages, folder: Path | None = None
    ) -> GanTrainer:
        return GanTrainer(model, config, data, folder)

    def prepared(self, config: GanConfig, data: GanImages, profile: str) -> GanImages:
        """With the classifier that judges what is generated."""
        return replace(data, judge=data.judge or judge_of(config, data.images, profile))

    def results(self, trainer: GanTrainer) -> dict[str, dict[str, Any]]:
        return trainer.results()

    def details(self, trainer: GanTrainer, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
        train, seconds = trainer.config.train, sum(row["seconds"] for row in rows)
        sigmas = trainer.model.sigmas()
        return {
            "classifier": trainer.judge.about,
            "sigmas": sigmas and sigmas._asdict(),
            "images_per_s": round(train.train_steps * train.batch_size / seconds, 2),
        }

    def summary(self, record: dict[str, Any]) -> str:
        found = record["results"]
        return (
            f"Frechet distance {found['test']['frechet']:.2f} in the features of "
            f"{record['classifier']['run_id']} (training images: "
            f"{found['train_images']['frechet']:.2f})"
        )

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """As System.variants: of the study."""
        return {NAMES[name]: config for name, config in study(profile).items()}

    def label(self, record: dict[str, Any]) -> str:
        return NAMES[record["config"]["model"]["context"]]

    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """What it was, and how far its samples are from real images."""
        config, found = records.config_of(record, GanConfig), record["results"]
        sigmas = record["sigmas"] or {}
        return {
            "method": config.model.context,
            "size": config.data.image_size,
            "width": config.model.width,
            "steps": config.train.train_steps,
            "batch": config.train.batch_size,
            "frechet": found["test"]["frechet"],
            "sd_over_draws": found["test"]["sd_over_draws"],
            "frechet_train_images": found["train_images"]["frechet"],
            "right_class": found["test"]["right_class"],
            "sigma_generator": sigmas.get("generator"),
            "sigma_discriminator": sigmas.get("discriminator"),
            "classifier": record["classifier"]["run_id"],
            "classifier_accuracy": record["classifier"]["accuracy"],
            "images_per_s": record["images_per_s"],
        }


GAN = GanSystem()
