"""Few-shot episodes: n classes, a support set and a query set of each, whole batches of them as
tensors.

Support and query are disjoint by default. The overlapping draw of the released code, where a query
image can be a support image (25 % of them at 5 shots of 20 drawings), is the option
overlap="parity"; it flatters accuracies.

Source: the reference implementation of arXiv 2201.04182.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from terminator.data.episodes.augment import (
    Configuration,
    apply_configuration,
    augment_images,
    draw_configuration,
    network_input,
)
from terminator.data.episodes.classes import ClassImages
from terminator.data.episodes.settings import EpisodeAugmentation, EpisodeSettings
from terminator.runtime.memory import to_device


def per_label(ways: int, samples: int) -> Tensor:
    """How many of `samples` images every label gets, (n): equal shares, the first labels take the
    rest.
    """
    return torch.tensor([samples // ways + (i < samples % ways) for i in range(ways)])


class Samples(NamedTuple):
    """Which images: positions in the data, (E, N), and the places of their classes in the
    episode.
    """

    index: Tensor  # rows of ClassImages.images
    place: Tensor  # 0..n-1, the episode label, unlabelled samples' own included
    label: Tensor  # the same, but n for unlabelled samples


class Draw(NamedTuple):
    """Everything random about E episodes; images follow from it."""

    classes: Tensor  # (E, n), class of every episode label
    support: Samples
    query: Samples
    support_mask: Tensor | None  # (E, N) bool, true for removed samples
    configuration: Configuration


class EpisodeBatch(NamedTuple):
    """E episodes as tensors: images as network input, labels int64, real classes as numbered in the
    data.
    """

    support_images: Tensor  # (E, N, C, S, S)
    support_labels: Tensor  # (E, N), n for no label
    support_classes: Tensor  # (E, N)
    query_images: Tensor  # (E, M, C, S, S)
    query_labels: Tensor  # (E, M)
    query_classes: Tensor  # (E, M)
    support_mask: Tensor | None  # (E, N), true for samples to ignore
    class_range: tuple[int, int]  # smallest and largest class of the split
    draw: Draw


def episode_generator(seed: int, rank: int = 0, step: int = 0) -> torch.Generator:
    """A CPU generator of its own for every seed, rank and step: no state has to be saved to go on
    from a step.
    """
    words = (
        np.random.SeedSequence([seed, rank, step]).generate_state(2, np.uint32).astype(np.uint64)
    )
    return torch.Generator().manual_seed(int(words[0] << np.uint64(31)) ^ int(words[1]))


def removal_mask(
    label: Tensor, no_label: int, unlabeled: float, labeled: float, generator: torch.Generator
) -> Tensor:
    """Samples (E, N) to leave out: per episode and kind r ~ U(0, p), each sample with probability
    r.
    """

    def removed(limit: float) -> Tensor:
        rate = limit * torch.rand(len(label), 1, generator=generator)
        return torch.rand(label.shape, generator=generator) < rate

    return torch.where(label == no_label, removed(unlabeled), removed(labeled))


class Episodes:
    """Draws batches of episodes from some classes of a data set.

    Args:
        source: ClassImages.
        classes: those of the split.
        settings: as its name says.
        augmentation: nothing for none.
        device: where images are kept, augmented and returned.

    Raises:
        ValueError: for more ways than classes, or more images per class than there are.
    """

    def __init__(
        self,
        source: ClassImages,
        classes: Sequence[int],
        settings: EpisodeSettings | None = None,
        augmentation: EpisodeAugmentation | None = None,
        device: torch.device | str = "cpu",
    ):
        self.settings = settings or EpisodeSettings()
        off = EpisodeAugmentation(random_rotate_by_90=False, per_label_augmentation=False)
        self.augmentation = augmentation or off
        self.classes = torch.tensor(sorted(classes), dtype=torch.int64)
        self.source, self.device = source, torch.device(device)
        self._check()
        self.images = source.images.to(device)
        self.starts, self.counts = source.starts[:-1], source.counts

    def _check(self) -> None:
        s, known = self.settings, len(self.source.classes)
        if len(self.classes) == 0 or self.classes[0] < 0 or self.classes[-1] >= known:
            raise ValueError(
                f"classes are {self.classes.tolist()}; allowed: one or more of 0 to {known - 1}"
            )
        if len(self.classes.unique()) < len(self.classes):
            raise ValueError("classes has one of them twice; allowed: each at most once")
        if s.num_labels > len(self.classes):
            raise ValueError(
                f"num_labels is {s.num_labels}; allowed: at most {len(self.classes)}, the classes "
                "of the split"
            )
        counts = self.source.counts[self.classes]
        support, query = (
            -(-s.samples_transformer // s.num_labels),
            -(-s.samples_cnn // s.num_labels),
        )
        if not s.balanced_batches:
            smallest = int(counts.sort().values[: s.num_labels].sum())
            if s.samples_transformer + s.samples_cnn > smallest:
                raise ValueError(
                    "samples_transformer + samples_cnn is "
                    f"{s.samples_transformer + s.samples_cnn}; allowed: at most {smallest}, the "
                    f"images of the {s.num_labels} smallest classes"
                )
            return
        both = per_label(s.num_labels, s.samples_transformer) + per_label(
            s.num_labels, s.samples_cnn
        )
        needed = int(both.max()) if s.overlap == "disjoint" else max(support, query)
        if needed > int(counts.min()):
            raise ValueError(
                f"an episode needs {needed} images of a class (up to {support} support, {query} "
                f"query, {s.overlap}); {self.source.name} has {int(counts.min())} of its smallest "
                "class"
            )

    def batch(self, count: int, generator: torch.Generator) -> EpisodeBatch:
        """`count` new episodes; the CPU generator decides everything."""
        return self.images_of(self.draw(count, generator), generator)

    def draw(self, count: int, generator: torch.Generator) -> Draw:
        """Choose classes, images and augmentation of `count` episodes."""
        if count < 1:
            raise ValueError(f"count is {count}; allowed: at least 1 episode")
        s = self.settings
        order = torch.rand(count, len(self.classes), generator=generator).argsort(1)[
            :, : s.num_labels
        ]
        classes = self.classes[order]  # (E, n), in random order
        configuration = draw_configuration(self.augmentation, count, s.num_labels, generator)
        support = self._choose(
            classes, s.samples_transformer, s.unlabeled_samples_per_class, None, generator
        )
        query = self._choose(classes, s.samples_cnn, 0, support.index, generator)
        mask = None
        if s.max_prob_remove_unlabeled or s.max_prob_remove_labeled:
            mask = removal_mask(
                support.label,
                s.num_labels,
                s.max_prob_remove_unlabeled,
                s.max_prob_remove_labeled,
                generator,
            )
        return Draw(classes, support, query, mask, configuration)

    def redraw_queries(self, draw: Draw, generator: torch.Generator) -> Draw:
        """The same episodes (classes, support set, augmentation) with other query images."""
        query = self._choose(
            draw.classes, self.settings.samples_cnn, 0, draw.support.index, generator
        )
        return draw._replace(query=query)

    def _choose(
        self,
        classes: Tensor,
        samples: int,
        unlabeled: int,
        taken: Tensor | None,
        generator: torch.Generator,
    ) -> Samples:
        """Draw `samples` images of the classes (E, n) without replacement, none of those `taken`
        (E, N).
        """
        s, episodes = self.settings, len(classes)
        counts, starts = self.counts[classes], self.starts[classes]  # (E, n)
        width = int(counts.max())
        # (E, n, width), beyond a class's last image as well
        index = starts[..., None] + torch.arange(width)
        keys = torch.rand(index.shape, generator=generator)
        keys[torch.arange(width) >= counts[..., None]] = 2
        if taken is not None and s.overlap == "disjoint":
            is_taken = (index.flatten(1)[..., None] == taken[:, None]).any(-1).view_as(index)
            # a class that ends where the next begins may meet it: keys there are 2 already
            keys[is_taken] = 2
        if s.balanced_batches:
            shares = per_label(s.num_labels, samples)
            place = torch.arange(s.num_labels).repeat_interleave(shares)  # (samples)
            # 0, 1, ... within a label
            turn = torch.cat([torch.arange(int(share)) for share in shares])
            found = index.gather(2, keys.argsort(2))[:, place, turn]  # (E, samples)
            place = place.expand(episodes, -1)
            label = torch.where(turn < unlabeled, s.num_labels, place)
            shuffle = torch.rand(episodes, samples, generator=generator).argsort(1)
            return Samples(*(part.gather(1, shuffle) for part in (found, place, label)))
        order = keys.flatten(1).argsort(1)[:, :samples]  # (E, samples), in random order already
        place = order // width
        return Samples(index.flatten(1).gather(1, order), place, place)

    def images_of(self, draw: Draw, generator: torch.Generator) -> EpisodeBatch:
        """The batch that a draw describes; the generator is used for `apply_image_augmentations`
        only.
        """
        parts = []
        for samples in (draw.support, draw.query):
            images = self._augmented(samples, draw.configuration)
            if self.augmentation.apply_image_augmentations:
                images = augment_images(
                    images, self.augmentation.augment_images_individually, generator
                )
            real = draw.classes.gather(1, samples.place)
            parts += [images, to_device(samples.label, self.device), to_device(real, self.device)]
        mask = None if draw.support_mask is None else to_device(draw.support_mask, self.device)
        class_range = (int(self.classes[0]), int(self.classes[-1]))
        return EpisodeBatch(*parts, mask, class_range, draw)

    def _augmented(self, samples: Samples, configuration: Configuration) -> Tensor:
        episodes, count = samples.index.shape
        images = self.images[
            to_device(samples.index.flatten(), self.device)
        ].float()  # (E N, C, H, W)
        rows = torch.arange(episodes)[:, None].expand(-1, count)
        images = apply_configuration(
            images, configuration.at((rows.flatten(), samples.place.flatten()))
        )
        return network_input(images, self.settings.image_size).unflatten(0, (episodes, count))
