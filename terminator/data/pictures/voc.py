"""PASCAL VOC 2012 as it lies on the disk, with SBD's labels beside it: the lists are read by
torchvision's own classes, every picture by the one decoder.
"""

from __future__ import annotations

import functools
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from terminator.data import files
from terminator.data.decoder import open_labels, open_picture
from terminator.data.errors import DatasetCorrupt, DatasetNotFound
from terminator.data.leakage import apart
from terminator.data.pictures.batches import IGNORE, FilePictures, PictureFile
from terminator.data.pictures.labels import Found, check_labels, to_tensors
from terminator.data.places import tried

VOC = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorbike",
    "person",
    "potted plant",
    "sheep",
    "sofa",
    "train",
    "TV",
)
MAX_MAT_BYTES = 2**20  # SBD's label maps have some thousands


def read_voc(places: list[Path], train: str, size: Sequence[int] | None) -> Found:
    """VOC 2012 through torchvision: pictures are read when they are asked for; val is the
    validation list.
    """
    root = next((place for place in places if os.path.isdir(place / "VOCdevkit/VOC2012")), None)
    if root is None:
        names = ("VOCtrainval_11-May-2012", "VOCdevkit", "VOC2012")
        packed = [
            path for place in places for name in names for path in files.packed_beside(place / name)
        ]
        hint = f" ({', '.join(map(str, packed))} is there, but not unpacked)" if packed else ""
        raise DatasetNotFound(
            f"voc2012 was not found. Tried: {tried(places)}{hint}. Put VOCdevkit/VOC2012 there, "
            "e.g. by torchvision.datasets.VOCSegmentation(FOLDER, download=True)"
        )
    lists = {name: _voc_list(root, name) for name in ("train", "val", "trainval")}
    chosen = _trainaug(root, lists, size) if train == "trainaug" else _voc_files(lists[train], size)
    held, notes = _once(_voc_files(lists["val"], size), "val", [])
    chosen, notes = _once(chosen, train, notes)
    if train != "trainval":
        names = [file.image.stem for file in chosen]
        if set(names) <= (known := {file.image.stem for file in held}):
            raise ValueError(
                f"the lists {train} and val in {root} name the same pictures ({names[0]}, ...); "
                "allowed: different ones"
            )
        stay, said = apart(names, names, [0] * len(names), known, "pictures", "val")
        chosen, notes = tuple(chosen[i] for i in stay), notes + said
    notes.insert(0, f"trained on {len(chosen)} pictures of {train}")
    if train == "trainval":
        notes.append("trained on the validation pictures as well")
    return {"train": FilePictures(chosen), "val": FilePictures(held)}, "PASCAL VOC 2012", VOC, notes


def _once(
    found: tuple[PictureFile, ...], what: str, notes: list[str]
) -> tuple[tuple[PictureFile, ...], list[str]]:
    """Every picture once, however often a list names it."""
    by_name = {file.image.stem: file for file in reversed(found)}
    again = [
        name for name, count in Counter(file.image.stem for file in found).items() if count > 1
    ]
    if again:
        notes = [
            *notes,
            f"{len(again)} names stand more than once in the list {what} ({files.few(again)}): "
            "taken once",
        ]
    return tuple(file for file in found if by_name.pop(file.image.stem, None)), notes


def _voc_list(root: Path, image_set: str) -> Any:
    from torchvision.datasets import VOCSegmentation  # lazy: the other sources do not need it

    listed = root / "VOCdevkit/VOC2012/ImageSets/Segmentation" / f"{image_set}.txt"
    files.read_file(listed)  # raises unless it is a regular file: torchvision would wait for a pipe
    with _naming(listed):
        found = VOCSegmentation(root, "2012", image_set, download=False)
    _check_inside([*found.images, *found.masks], root)
    if not found.images:
        raise DatasetCorrupt(f"{listed} names no pictures; needed: one name a line")
    return found


def _voc_files(dataset: Any, size: Sequence[int] | None) -> tuple[PictureFile, ...]:
    return tuple(
        _voc_file(Path(image), Path(labels), size)
        for image, labels in zip(dataset.images, dataset.masks, strict=True)
    )


def _voc_file(image: Path, labels: Path, size: Sequence[int] | None) -> PictureFile:
    return PictureFile(image, labels, functools.partial(_read_pair, image, labels, size))


def _trainaug(
    root: Path, lists: dict[str, Any], size: Sequence[int] | None
) -> tuple[PictureFile, ...]:
    """VOC's training pictures and those of SBD's two lists; VOC's validation pictures among them
    leave later (10,582 stay of the full lists).
    """
    folder = root / "VOCdevkit/VOC2012"
    listed = folder / "ImageSets/Segmentation/trainaug.txt"
    if listed.is_file() and (folder / "SegmentationClassAug").is_dir():
        with _naming(listed):
            names = files.read_file(listed).decode().split()
            if not names:
                raise ValueError("it names no pictures; needed: one name a line")
        pairs = [
            (folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClassAug" / f"{name}.png")
            for name in names
        ]
        _check_inside([path for pair in pairs for path in pair], root)
        return tuple(_voc_file(*pair, size) for pair in pairs)
    if not (root / "sbd").is_dir():
        raise DatasetNotFound(
            f"data.train is 'trainaug', but {root} has neither sbd/ (torchvision's SBDataset) nor "
            "VOCdevkit/VOC2012/SegmentationClassAug/ with ImageSets/Segmentation/trainaug.txt; "
            "allowed: train, trainval"
        )
    from torchvision.datasets import SBDataset

    taken = {
        Path(image).stem: file
        for image, file in zip(lists["train"].images, _voc_files(lists["train"], size))
    }
    for image_set in ("train", "val"):
        files.read_file(root / "sbd" / f"{image_set}.txt")
        with _naming(root / "sbd" / f"{image_set}.txt"):
            more = SBDataset(str(root / "sbd"), image_set, "segmentation", download=False)
        _check_inside([*more.images, *more.masks], root)
        for file in _voc_files(more, size):
            taken.setdefault(file.image.stem, file)
    return tuple(taken[name] for name in sorted(taken))


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Turn whatever a missing or damaged file makes its reader raise into one error that names
    it.
    """
    try:
        yield
    except Exception as error:
        raise DatasetCorrupt(f"{path} cannot be used: {' '.join(str(error).split())}") from error


def _check_inside(paths: Sequence[str | Path], root: Path) -> None:
    """Raise DatasetCorrupt for a name in a list that leads out of the data folder."""
    for path in map(Path, paths):
        if ".." in path.parts or root not in path.parents:
            raise DatasetCorrupt(
                f"a list in {root} names {path}, which lies outside; allowed: names of pictures"
            )


def _read_pair(image: Path, labels: Path, size: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """A picture and its labels: a picture of class indices, or SBD's .mat."""
    with _naming(f"{image} or {labels}"):
        content = files.read_file(labels)
        target = (
            _sbd_labels(content) if labels.suffix == ".mat" else open_labels(content, str(labels))
        )
        target = check_labels(target, len(VOC), IGNORE, str(labels))
        return to_tensors(
            open_picture(files.read_file(image), str(image)), target, size, str(image)
        )


def _sbd_labels(content: bytes) -> np.ndarray:
    from scipy.io import loadmat

    if len(content) > MAX_MAT_BYTES:
        raise ValueError(f"{len(content):,} bytes; allowed: {MAX_MAT_BYTES:,} for a label map")
    return np.asarray(loadmat(io.BytesIO(content))["GTcls"][0]["Segmentation"][0])
