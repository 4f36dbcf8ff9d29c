"""Data sets of pictures with a label per pixel, by name.

context    drawn by a formula (context.py): no file, no network
shapes     simple things, drawn as well (shapes.py)
camvid     CamVid: a folder or archive {train,val,test}/*.jpg|png with {train,val,test}annot/*.png
           beside them, whose name begins with camvid, in a data folder; or the path of one
voc2012    PASCAL VOC 2012 in torchvision's layout, VOCdevkit/VOC2012/; trainaug needs sbd/ beside
           it (torchvision's SBDataset) or the list and folder trainaug.txt,
           SegmentationClassAug/ that are often handed around
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from terminator.data import files
from terminator.data.pictures import camvid, context, shapes, voc
from terminator.data.pictures.batches import Pictures, StackedPictures
from terminator.data.pictures.labels import Found
from terminator.data.pictures.settings import TRAINED
from terminator.runtime.paths import data_dirs

# mean and deviation that the backbones' weights expect
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SUBSET_SEED = 0  # every training seed sees the same subset


@dataclass(frozen=True)
class SegmentationInfo:
    """What a record says of its data."""

    name: str
    title: str
    shape: tuple[int, ...]  # (C, H, W), or (C,) where pictures differ in size
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # per channel, in [0, 1]: what the network's input is normalised with
    std: tuple[float, ...]
    sizes: dict[str, int]  # pictures per split
    notes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class SegmentationData:
    """The splits: train, val and, where its labels are known, test."""

    splits: dict[str, Pictures]
    info: SegmentationInfo


def load_segmentation(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    train: str = "train",
    size: tuple[int, ...] | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
) -> SegmentationData:
    """Load a data set by name; see the top of this file.

    Args:
        train: what is trained on, see TRAINED.
        size: height and width to resize to, images bilinear, labels nearest.
        train_size, test_size: a fixed random part of the training pictures, of the others.

    Raises:
        DatasetNotFound: naming the places tried.
        DatasetCorrupt: naming the file.
        ValueError: for anything else.
    """
    kind = name if name in TRAINED else "camvid"
    if train not in TRAINED[kind]:
        raise ValueError(f"data.train is {train!r}; allowed for {name}: {', '.join(TRAINED[kind])}")
    if name in DRAWN:
        splits, title, classes, notes = _drawn(name)
        if size is not None:
            raise ValueError(
                f"data.size is {size}; allowed for {name}: nothing, its pictures are drawn in one "
                "size"
            )
    elif name == "voc2012":
        splits, title, classes, notes = voc.read_voc(data_dirs(data_dir), train, size)
    else:
        splits, title, classes, notes = camvid.read_camvid(name, data_dirs(data_dir), train, size)
    notes = list(notes)
    for split in splits:
        splits[split] = _part(
            splits[split], split, train_size if split == "train" else test_size, notes
        )
    called = name if name in TRAINED else files.base_name(Path(name))
    return SegmentationData(splits, _describe(called, title, classes, notes, splits))


DRAWN: dict[
    str,
    tuple[
        Callable[[int, int], tuple[np.ndarray, np.ndarray]], dict[str, int], str, tuple[str, ...]
    ],
] = {
    "context": (
        context.draw_context,
        context.SIZES,
        "context task (drawn by a formula)",
        tuple(f"class {i}" for i in range(context.CLASSES)),
    ),
    "shapes": (shapes.draw_shapes, shapes.SIZES, "shapes (drawn by a formula)", shapes.CLASSES),
}


def _drawn(name: str) -> Found:
    draw, sizes, title, classes = DRAWN[name]
    splits: dict[str, Pictures] = {}
    for seed, (split, count) in enumerate(sizes.items(), start=1):
        images, labels = draw(count, seed)
        splits[split] = StackedPictures(torch.from_numpy(images), torch.from_numpy(labels))
    return splits, title, classes, []


def _part(pictures: Pictures, split: str, wanted: int | None, notes: list[str]) -> Pictures:
    if wanted is None or wanted == len(pictures):
        return pictures
    if wanted > len(pictures):
        key = "train_size" if split == "train" else "test_size"
        raise ValueError(
            f"data.{key} is {wanted}, but there are only {len(pictures)} {split} pictures"
        )
    notes.append(f"{wanted} of {len(pictures)} {split} pictures")
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(SUBSET_SEED))
    return pictures.part(sorted(order[:wanted].tolist()))


def _describe(
    name: str, title: str, classes: tuple[str, ...], notes: list[str], splits: dict[str, Pictures]
) -> SegmentationInfo:
    digest = hashlib.sha256()
    for split, pictures in splits.items():
        digest.update(f"{split} {len(pictures)}\n".encode())
        pictures.add_to(digest)
    stacked = splits["train"] if isinstance(splits["train"], StackedPictures) else None
    shape = tuple(stacked.images.shape[1:]) if stacked else (3,)
    mean, std = IMAGENET
    # drawn, so known: centred, and by the spread of the first training images
    if shape[0] == context.CHANNELS:
        levels = stacked.images[:200].double() / 255
        mean, std = (0.5,) * context.CHANNELS, (round(levels.std().item(), 4),) * context.CHANNELS
    return SegmentationInfo(
        name,
        title,
        shape,
        classes,
        mean,
        std,
        {split: len(p) for split, p in splits.items()},
        tuple(notes),
        digest.hexdigest(),
    )
