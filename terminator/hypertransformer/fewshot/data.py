"""The classes of every split, checked, and the episodes drawn from them."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch

from terminator.data.episodes.classes import ClassImages
from terminator.data.episodes.sampling import Episodes
from terminator.data.episodes.settings import parse_specification
from terminator.data.episodes.sources import load_classes
from terminator.data.places import is_path
from terminator.hypertransformer.fewshot.config import FewShotConfig, FewShotData
from terminator.runtime.settings import ConfigError, require

TITLES = {
    "omniglot": "Omniglot",
    "omniglot28": "Omniglot, 242 characters",
    "miniimagenet": "miniImageNet",
    "tieredimagenet": "tieredImageNet",
    "strokes": "strokes (drawn by a formula)",
    "digits": "digits (8x8)",
}


@dataclass(frozen=True)
class EpisodeInfo:
    """What a record says about its data; sizes are numbers of classes."""

    name: str
    title: str
    shape: tuple[int, int, int]  # of an image as stored, (C, H, W)
    classes: dict[str, int]  # per split
    notes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class EpisodeData:
    """Images by class, and the classes of every split: {"train": (source, classes), ...}."""

    splits: dict[str, tuple[ClassImages, tuple[int, ...]]]
    info: EpisodeInfo

    @property
    def real_classes(self) -> int:
        """How many labels a head over the training split's real classes needs: largest - smallest +
        1.
        """
        classes = self.splits["train"][1]
        return max(classes) - min(classes) + 1

    def episodes(
        self,
        config: FewShotConfig,
        split: str,
        training: bool = False,
        ways_times: int = 1,
        device: torch.device | str = "cpu",
        **changes: Any,
    ) -> Episodes:
        """Episodes of a split. The train split keeps its augmentation in evaluation, the others
        have the test_* flags.

        Args:
            training: with random removal.
            ways_times: so many tasks' worth of classes in one draw.
            changes: of the episodes' settings, e.g. samples_cnn, overlap.

        Raises:
            ValueError: for more ways than classes, or more images of a class than there are.
        """
        source, classes = self.splits[split]
        settings = config.episodes if training else config.episodes.for_test()
        times = {
            name: ways_times * getattr(settings, name)
            for name in ("num_labels", "samples_transformer", "samples_cnn")
        }
        settings = replace(settings, **{**times, **changes})
        augmentation = config.augmentation if split == "train" else config.augmentation.for_test()
        if source.images.shape[-1] != source.images.shape[-2] and augmentation.random_rotate_by_90:
            raise ConfigError(
                f"augmentation.random_rotate_by_90 is True; {source.name} has images that are not "
                "square"
            )
        return Episodes(source, classes, settings, augmentation, device)


def load_episode_data(use: FewShotData, data_dir: str | None = None) -> EpisodeData:
    """The splits that the settings name; without a validation split there is none.

    Raises:
        ConfigError: for a path, classes that do not exist, or that two splits share.
        DatasetNotFound: as its message says.
        DatasetCorrupt: as its message says.
    """
    sources: dict[str, ClassImages] = {}
    splits: dict[str, tuple[ClassImages, tuple[int, ...]]] = {}
    for split, text in use.specifications().items():
        name, classes = parse_specification(text)
        assert classes is not None  # FewShotData takes no other
        require(  # two ways to one set would let splits share its classes
            not is_path(name),
            f"data.{split}_dataset",
            text,
            "what a data folder holds (--data-dir), by its name",
        )
        if name not in sources:
            sources[name] = load_classes(name, data_dir).shuffled(use.shuffle_labels_seed)
        known = len(sources[name].classes)
        if max(classes) >= known:
            raise ConfigError(
                f"data.{split}_dataset is {text!r}, with class {max(classes)}; allowed: 0 to "
                f"{known - 1}"
            )
        for other, (source, taken) in splits.items():
            if {source.name, name} == {"omniglot", "omniglot28"}:
                raise ConfigError(
                    f"data.{split}_dataset is {text!r}, and {other} is of {source.name}: one is a "
                    "part of the other, and no class may be in two splits; allowed: one of them"
                )
            same = source is sources[name] or source.fingerprint == sources[name].fingerprint
            if same and (shared := sorted(set(taken) & set(classes))):
                raise ConfigError(
                    f"data.{split}_dataset is {text!r} and shares {len(shared)} classes with "
                    f"{other} ({shared[0]} is one); no class may be in two splits"
                )
        splits[split] = (sources[name], classes)
    first = splits["train"][0]
    for split, (source, _) in splits.items():
        if source.images.shape[1] != first.images.shape[1]:
            raise ConfigError(
                f"data.{split}_dataset has images of {source.images.shape[1]} channels, train of "
                f"{first.images.shape[1]}; allowed: the same"
            )
    return EpisodeData(splits, _info(splits))


def _info(splits: dict[str, tuple[ClassImages, tuple[int, ...]]]) -> EpisodeInfo:
    _, channels, height, width = splits["train"][0].images.shape
    named = {source.name: source for source, _ in splits.values()}
    digest = hashlib.sha256(
        "".join(source.fingerprint for source in named.values()).encode()
    ).hexdigest()
    notes = tuple(note for source in named.values() for note in source.notes)
    return EpisodeInfo(
        "+".join(named),
        " + ".join(TITLES.get(name, name) for name in named),
        (channels, height, width),
        {split: len(classes) for split, (_, classes) in splits.items()},
        notes,
        digest,
    )
