"""How far generated images are from real ones, in the features of a small classifier trained on the
same data.

The Frechet distance of two normal distributions with the features' means and covariances. It is not
the FID, whose features are an Inception network's: numbers of different classifiers, data or image
sizes cannot be compared.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.data.augment import normalize
from terminator.data.images import ImageData
from terminator.data.standard import STANDARD
from terminator.hamburger.gan.config import GanConfig
from terminator.runs.wanted import Wanted

CLASSIFIERS = "classifiers"  # the folder of their runs
BATCH = 256  # images judged at once


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier, calibrated, and how to give it images.

    Attributes:
        mean, std: of the images it was trained on, per channel, in [0, 1].
        about: what a record says of it.
    """

    model: Any  # to mypy, methods of an nn.Module are Tensors
    mean: tuple[float, ...]
    std: tuple[float, ...]
    about: dict[str, Any]

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, C, H, W) to features (N, d) in float64 and the likeliest classes (N,),
        on the CPU.
        """
        features, labels = [], []
        device = next(self.model.parameters()).device
        for part in images.split(BATCH):
            found = self.model.features(normalize(part.to(device), self.mean, self.std))
            features.append(found.double().cpu())
            labels.append(self.model.classifier(found).argmax(1).cpu())
        return torch.cat(features), torch.cat(labels)


def classifier_config(config: GanConfig) -> Config:
    """The training of the classifier that judges this configuration's images."""
    d = config.data
    return Config().updated(
        dataset={
            "name": d.name,
            "image_size": d.image_size,
            "channels": d.channels,
            "train_size": d.train_size,
            "test_size": d.test_size,
            "crop_padding": 0,
            "flip": False,
        },
        network={"name": "cnn"},
        optimizer={"name": "AdamW", "lr": 0.004, "weight_decay": 0.01},
        train={"epochs": config.test.classifier_epochs, "device": config.train.device},
    )


def judge_run(config: GanConfig, profile: str) -> Wanted:
    """The classifier of these settings' judge; its weights are needed where a GAN is trained."""
    name, channels = config.data.name, config.data.channels
    if channels is None and name in STANDARD:  # not yet resolved by the data
        config = config.updated(data={"channels": STANDARD[name].shape[0]})
    return Wanted(CLASSIFICATION, classifier_config(config), CLASSIFIERS, profile, "judge of GANs")


def judge_of(config: GanConfig, images: ImageData, profile: str) -> Judge:
    """The judge of these images, trained here if it is not there yet; its run is named in what it
    says of itself.
    """
    run = judge_run(config, profile).with_model().run(data=images)
    about = {
        "network": "small CNN, 4 convolutions, 64 features",
        "run_id": run.record["run_id"],
        "accuracy": run.accuracy("calibrated"),
        "trained_on": images.info.title,
    }
    return Judge(run.model(), images.info.mean, images.info.std, about)


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^1/2 C_2 C_1^1/2)^1/2) of two sets of features (N, d)
    and (M, d).

    Raises:
        ValueError: for fewer than two features of either, or different d.
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"the features are {tuple(first.shape)} and {tuple(second.shape)}; allowed: (N, d) and "
            "(M, d), at least two of each"
        )
    first, second = first.double(), second.double()
    root = _square_root(torch.cov(first.T))
    cross = _square_root(root @ torch.cov(second.T) @ root)
    apart = (first.mean(0) - second.mean(0)).square().sum()
    return (
        (apart + torch.cov(first.T).trace() + torch.cov(second.T).trace() - 2 * cross.trace())
        .clamp(min=0)
        .item()
    )


def _square_root(matrix: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
