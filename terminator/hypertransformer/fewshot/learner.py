"""A trained few-shot model and pictures: shown a few of every class, it names others.

Batch normalisation takes the statistics of the pictures at hand, so an answer would depend on
whatever else is asked with it. Here every picture is asked alone, beside the pictures that were
shown: one picture, one answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from terminator.data.decoder import is_picture
from terminator.data.episodes.augment import network_input
from terminator.data.files import few, is_data, list_files, read_file
from terminator.data.pixels import decode
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.runs.answers import Answer, how_many, of_logits
from terminator.runtime import shipped
from terminator.runtime.settings import ConfigError, require

ALONE = ("hypertransformer", "prototypical")  # methods that answer for pictures
AT_ONCE = 32  # pictures that are asked in one pass


def alone(model: Any, support_images: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Logits of every query asked alone, beside the support set.

    Args:
        model: a HyperTransformer or PrototypicalNetwork, in evaluation mode.
        support_images: (N, C, H, W), as network input.
        labels: (N), 0 to n-1.
        queries: (M, C, H, W).

    Returns:
        (M, n): an episode for each query, whose batch statistics are those of its N + 1 images.
    """
    found = []
    for part in queries.split(AT_ONCE):
        shown = support_images.expand(len(part), *support_images.shape)  # (E, N, C, H, W)
        together = torch.cat([shown, part[:, None]], 1)
        output = model(shown, labels.expand(len(part), -1), together)
        found.append(output.logits[:, -1])
    return torch.cat(found)


def shown_in(folder: Path) -> dict[str, list[Path]]:
    """The pictures of every class in a folder of class folders: {name of the folder: files}.

    Raises:
        FileNotFoundError: if it is no folder, or holds none.
        ValueError: for a class folder without a picture, and for pictures beside the folders.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder at {folder}; allowed: a folder with a folder of pictures for every class"
        )
    found: dict[str, list[Path]] = {}
    stray = []
    for name in sorted(filter(is_picture, list_files(folder))):
        if "/" in name:
            found.setdefault(name.split("/")[0], []).append(folder / name)
        else:
            stray.append(name)
    if not found:
        raise FileNotFoundError(
            f"{folder} has no folder with pictures; allowed: a folder of pictures for every class"
        )
    if stray:
        raise ValueError(
            f"{folder} has pictures beside its class folders ({few(stray)}); allowed: every "
            "picture in the folder of its class"
        )
    folders = {path.name for path in folder.iterdir() if path.is_dir() and is_data(path.name)}
    if empty := folders - found.keys():
        raise ValueError(
            f"{folder} has no picture of {few(sorted(empty))}; allowed: one or more of each class"
        )
    return found


class Learner:
    """Names pictures after it was shown some of every class.

    Args:
        name_or_file: of a model of the package, or a model file of the command fewshot.

    Raises:
        NoSuchModel: for an unknown name.
        FileNotFoundError: as its message says.
        ValueError: if it is damaged, or no model that answers for pictures.
    """

    def __init__(self, name_or_file: str | Path):
        file = shipped.model_path(name_or_file)
        self.model, config = FEW_SHOT.load(file)
        self.config: FewShotConfig = config
        if config.method.name not in ALONE or config.episodes.unlabeled_samples_per_class:
            raise ValueError(
                f"{file} holds a {FEW_SHOT.method(config)} model, which does not answer for "
                f"pictures; allowed: {', '.join(ALONE)}, trained with labelled pictures only"
            )
        self.classes: tuple[str, ...] = ()
        self.inverted = 0

    def show(self, pictures: Mapping[str, Sequence[str | Path]]) -> None:
        """Take the support set: for every class the pictures that show it.

        Drawings (of models that see grey) are taken as bright ink on black, as in Omniglot: every
        picture that is bright on the whole, dark ink on paper, is inverted, those that are asked as
        well; `inverted` counts those that are shown.

        Raises:
            ConfigError: for another number of classes than the model tells apart, or a class
                without a picture.
            ValueError: if one of them is no picture that can be used, saying why.
        """
        ways = self.config.episodes.num_labels
        require(
            len(pictures) == ways,
            "classes",
            ", ".join(pictures) or "none",
            f"{ways} of them, as many as the model was trained to tell apart",
        )
        if empty := [name for name, files in pictures.items() if not files]:
            raise ConfigError(
                f"class {empty[0]!r} has no picture; allowed: one or more of each class"
            )
        images = [self._read(path) for files in pictures.values() for path in files]
        self.inverted = sum(map(self._is_on_paper, images))
        self.classes = tuple(pictures)
        self._images = self._input(images)
        counts = torch.tensor([len(files) for files in pictures.values()])
        self._labels = torch.arange(ways).repeat_interleave(counts)

    @torch.no_grad()
    def answers(self, paths: Sequence[Path], top: int | None = None) -> Iterator[Answer]:
        """What it says of every file, in order; a file that cannot be read has an error.

        Args:
            top: how many classes an answer has; without it TOP, or all where there are fewer.

        Raises:
            ConfigError: for more classes than the model knows, or before `show`.
        """
        if not self.classes:
            raise ConfigError("the learner was shown no classes; allowed: call show before answers")
        top = how_many(top, len(self.classes), "as many classes as were shown")
        for path in paths:
            try:
                query = self._input([self._read(path)])
            except (OSError, ValueError) as error:
                yield Answer(path, error=str(error))
                continue
            logits = alone(self.model, self._images, self._labels, query)[0]
            yield of_logits(path, logits, self.classes, top)

    def _read(self, path: str | Path) -> np.ndarray:
        """A picture as the data have it: uint8 (C, H, H)."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no image file at {path}")
        model = self.config.model
        return decode(read_file(path), str(path), model.image_size, model.in_channels)[0]

    def _is_on_paper(self, image: np.ndarray) -> bool:
        return self.config.model.in_channels == 1 and bool(image.mean() > 127.5)

    def _input(self, images: Sequence[np.ndarray]) -> Tensor:
        upright = [255 - image if self._is_on_paper(image) else image for image in images]
        levels = torch.from_numpy(np.stack(upright)).float()
        return network_input(levels, self.config.model.image_size)
