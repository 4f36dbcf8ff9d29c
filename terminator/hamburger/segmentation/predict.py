"""Label maps of image files, by a saved model."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from terminator.data.augment import normalize
from terminator.data.decoder import open_picture
from terminator.data.files import read_file
from terminator.data.marks import mark
from terminator.data.pictures import camvid, shapes, voc
from terminator.data.pictures.labels import resized
from terminator.data.pictures.segmentation import IMAGENET
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.evaluation import fixed_bases, predict_logits
from terminator.hamburger.segmentation.figures import labelled_photograph
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.runs.outputs import check_free, check_places
from terminator.runtime import shipped, weights
from terminator.runtime.paths import atomic_path

KINDS = ("label maps", "labels")  # what is written: numbers, and what people see


def class_names(config: SegmentationConfig, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of the data that a model was trained on.

    Args:
        info: what its file says beside the settings; files of before say no classes.

    Raises:
        ValueError: for the context task, whose pictures are no photographs.
    """
    if config.data.name == "context":
        raise ValueError(
            "this model was trained on the context task, whose images of six channels are in no "
            "file; allowed: a model of camvid or voc2012"
        )
    known = {"voc2012": voc.VOC, "shapes": shapes.CLASSES}.get(config.data.name, camvid.CAMVID)
    found = info.get("classes", known)
    return tuple(map(str, found if isinstance(found, list) else known))


def load_segmenter(path: str | Path) -> tuple[nn.Module, SegmentationConfig, tuple[str, ...]]:
    """A saved model for photographs, its configuration, and the names of its classes.

    Args:
        path: of a model file, or the name of a model of the package.

    Raises:
        NoSuchModel: for an unknown name.
        FileNotFoundError: as its message says.
        ValueError: if the file is damaged or no such model.
    """
    path = shipped.model_path(path)
    model, config = SEGMENTATION.load(path)
    names = class_names(config, weights.info_of(path))
    if config.model.classes != len(names):
        raise ValueError(
            f"{path} does not hold a whole model: it has {config.model.classes} classes, and its "
            f"data, {config.data.name}, have {len(names)}"
        )
    return model, config, names


def read_photograph(path: str | Path) -> Image.Image:
    """An image file, upright, on white, in RGB.

    Raises:
        FileNotFoundError: as its message says.
        ValueError: if it is no image that can be used, saying why.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image file at {path}")
    return open_picture(read_file(path), str(path)).convert("RGB")


@torch.no_grad()
def segment(
    model: nn.Module, config: SegmentationConfig, photograph: Image.Image, multi_scale: bool = False
) -> Tensor:
    """The label of every pixel of a photograph, int64 (H, W); with `multi_scale` by MSFlip.

    The network sees it at the size of its training pictures (data.size), and its logits are
    enlarged again.
    """
    seen = resized(photograph, config.data.size)
    pixels = torch.from_numpy(np.asarray(seen).transpose(2, 0, 1).copy())[None]
    with fixed_bases(model, config.test.bases_seed):
        logits = predict_logits(model, config, normalize(pixels, *IMAGENET), multi_scale)
    size = photograph.size[::-1]
    if logits.shape[2:] != size:
        logits = nn.functional.interpolate(logits, size, mode="bilinear", align_corners=True)
    return logits.argmax(1)[0]


class Segmented(NamedTuple):
    """What is said of one image file."""

    image: Path
    shares: dict[str, float]  # of the pixels (%), by class that occurs
    error: Exception | None = None  # why there are none


def segmentations(
    model_path: str | Path,
    images: Sequence[str | Path],
    out: str | Path | None = None,
    multi_scale: bool = False,
    show: str | Path | None = None,
) -> Iterator[Segmented]:
    """Label every image file, in order; one that cannot be read has an error.

    Args:
        out: a folder for the label maps, NAME.png with one class index per pixel.
        show: a folder for pictures of the photograph beside its labels in colours, NAME.png.

    Raises:
        as load_segmenter.
        ValueError: for two files of one name, or a file of such a name that was not made of the
            same picture; as outputs.check_places.
    """
    stems = [Path(image).stem for image in images]
    twice = sorted(stem for stem, count in Counter(stems).items() if count > 1)
    if (out is not None or show is not None) and twice:
        raise ValueError(
            f"several images are called {twice[0]}, and their label maps would overwrite "
            "each other; allowed: different names"
        )
    folders = {"--out": out, "--show": show}
    places = {key: Path(path) if path else None for key, path in folders.items()}
    check_places(images, folders=places)
    model, config, names = load_segmenter(model_path)
    own = weights.digest_of(model) if any(places.values()) else ""
    for (option, place), kind in zip(places.items(), KINDS, strict=True):
        if place is not None:
            files = {f"{stem}.png": Path(image) for stem, image in zip(stems, images, strict=True)}
            check_free(option, place, kind, files, own)
    for image, stem in zip(map(Path, images), stems, strict=True):
        try:
            photograph = read_photograph(image)
        except (OSError, ValueError) as error:
            yield Segmented(image, {}, error)
            continue
        labels = segment(model, config, photograph, multi_scale)
        if out is not None:
            text = PngInfo()
            for item in mark(image, KINDS[0], own).items():
                text.add_text(*item)
            with atomic_path(Path(out) / f"{stem}.png") as temporary:
                Image.fromarray(labels.numpy().astype(np.uint8)).save(temporary, pnginfo=text)
        if show is not None:
            pixels = np.asarray(photograph)
            figure = labelled_photograph(pixels, labels, names, image.name)
            with atomic_path(Path(show) / f"{stem}.png") as temporary:
                about = {"Software": None, **mark(image, KINDS[1], own)}
                figure.savefig(temporary, dpi=110, metadata=about)
        counts = labels.flatten().bincount(minlength=len(names)).tolist()
        found = {name: 100 * count / labels.numel() for name, count in zip(names, counts) if count}
        yield Segmented(image, found)


def share_table(found: Iterable[Segmented]) -> pd.DataFrame:
    """Share of the pixels (%) that each class has: a row per file and class that occurs."""
    rows = [
        {"image": str(one.image), "class": name, "share": share}
        for one in found
        for name, share in one.shares.items()
    ]
    return pd.DataFrame(rows, columns=["image", "class", "share"])
