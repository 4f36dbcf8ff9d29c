"""CamVid and PASCAL VOC 2012 as they lie on the disk: found, matched up, decoded and checked.

Archives are read in memory and never unpacked, see files.py; VOC's lists are read by torchvision's
own classes, every picture by the one decoder.
"""

from __future__ import annotations

import functools
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from terminator.data import files
from terminator.data.decoder import is_picture, open_labels, open_picture
from terminator.data.folders import ROLES
from terminator.data.leakage import apart, digest
from terminator.data.pictures.batches import (
    IGNORE,
    FilePictures,
    PictureFile,
    Pictures,
    StackedPictures,
)
from terminator.data.places import kind_of, tried
from terminator.data.sources import DatasetCorrupt, DatasetNotFound
from terminator.runtime.progress import bar

CAMVID = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "cyclist",
)
CAMVID_VOID = 11
CAMVID_LAYOUT = (
    "{train,val,test}/*.png|jpg and {train,val,test}annot/*.png of the same names, maybe below one "
    "folder"
)
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
SPLITS = ("train", "val", "test")
MAX_MAT_BYTES = 2**20  # SBD's label maps have some thousands

Found = tuple[dict[str, Pictures], str, tuple[str, ...], list[str]]  # splits, title, classes, notes


def check_labels(labels: np.ndarray, classes: int, void: int, where: str) -> np.ndarray:
    """A label map with the value `void` turned into IGNORE.

    Raises:
        ValueError: naming the first value that is neither a class nor void.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        raise ValueError(
            f"{where} has type {labels.dtype} and shape {labels.shape}; allowed: integers (H, W), "
            "one class index per pixel"
        )
    strange = np.setdiff1d(labels, [*range(classes), void])
    if len(strange):
        raise ValueError(
            f"{where} has the label {strange[0]}; allowed: 0 to {classes - 1}, and {void} for "
            "pixels that do not count"
        )
    return np.where(labels == void, IGNORE, labels).astype(np.uint8)


def resized(picture: Image.Image, size: Sequence[int] | None, labels: bool = False) -> Image.Image:
    """The picture at a size (H, W): images bilinear and antialiased, labels nearest."""
    if size is None or picture.size == (size[1], size[0]):
        return picture
    return picture.resize(
        (size[1], size[0]), Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
    )


def to_tensors(
    image: Image.Image, labels: np.ndarray, size: Sequence[int] | None, where: str
) -> tuple[Tensor, Tensor]:
    """A picture and its checked labels, (3, H, W) and (H, W), both uint8.

    Raises:
        ValueError: if they differ in size.
    """
    if image.size != labels.shape[::-1]:
        raise ValueError(
            f"{where} is {image.width}x{image.height} pixels large, its labels are "
            f"{labels.shape[1]}x{labels.shape[0]}; allowed: the same size"
        )
    pixels = np.asarray(resized(image.convert("RGB"), size)).transpose(2, 0, 1)
    label_map = np.asarray(resized(Image.fromarray(labels), size, labels=True))
    return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(label_map.copy())


# -- CamVid ----------------------------------------------------------------------------------------


def read_camvid(name: str, places: list[Path], train: str, size: Sequence[int] | None) -> Found:
    """CamVid by name ("camvid") or path, decoded as a whole."""
    source = _find_camvid(name, places)
    pairs = _camvid_pairs(files.list_files(source), source)
    decoded, digests = _decode_camvid(source, pairs, size)
    chosen = {split: list(pairs[split]) for split in SPLITS}
    notes = _part_camvid(chosen, digests, source)
    if train == "trainval":
        chosen["train"] = [*chosen["train"], *chosen["val"]]
        notes.append("trained on the validation pictures as well")
    splits = {
        split: _stack([decoded[image] for image in names], source)
        for split, names in chosen.items()
        if names
    }
    first = next(iter(splits.values()))
    height, width = first.labels.shape[1:]
    own = f"{files.base_name(source)} ({width}x{height}), labelled like CamVid"
    title = own if files.is_path(name) else f"CamVid ({width}x{height})"
    return dict(splits), title, CAMVID, notes


def _find_camvid(name: str, places: list[Path]) -> Path:
    path = Path(name).expanduser()
    if files.is_path(name):
        if files.is_source(path):
            return path.absolute()
        but = f", but {kind}" if (kind := kind_of(path)) else ""
        raise DatasetNotFound(
            f"data.name is {name!r}, where there is no folder or archive{but}; allowed: context, "
            f"shapes, camvid, voc2012, or the path of {CAMVID_LAYOUT}"
        )
    if name != "camvid":
        raise DatasetNotFound(
            f"data.name is {name!r}; allowed: context, shapes, camvid, voc2012, or the path of a "
            f"folder or archive {CAMVID_LAYOUT}"
        )
    found = [
        path
        for place in places
        for path in files.entries(place)
        if path.name.lower().startswith("camvid") and files.is_source(path)
    ]
    for path in found if len(found) > 1 else ():  # one of them may be anything
        with suppress(ValueError):
            _camvid_pairs(files.list_files(path), path)
            return path
    if found:
        return found[0]
    raise DatasetNotFound(
        f"camvid was not found. Tried: {tried(places)}. Put CamVid there as a folder or archive "
        f"whose name begins with camvid: {CAMVID_LAYOUT}"
    )


def _camvid_pairs(names: list[str], source: Path) -> dict[str, dict[str, str]]:
    """Image name to the name of its label map, per split, in the order of the names."""
    by_folder: dict[str, dict[str, str]] = {}
    for name in filter(is_picture, sorted(names)):
        path = PurePosixPath(name)
        folder, annot, rest = path.parent.name.lower().partition("annot")
        if folder not in ROLES or rest:
            continue
        other = by_folder.setdefault(f"{ROLES[folder]}{annot}", {}).setdefault(path.stem, name)
        if other != name:
            raise ValueError(
                f"{source} has {other} and {name}, two files for one picture; allowed: "
                f"{CAMVID_LAYOUT}"
            )
    pairs = {}
    for split in SPLITS:
        images, labels = by_folder.get(split, {}), by_folder.get(f"{split}annot", {})
        if alone := sorted(images.keys() ^ labels.keys()):
            lacks = f"{split}annot" if alone[0] in images else split
            raise ValueError(
                f"{alone[0]} in {source} has no partner in {lacks}/; allowed: {CAMVID_LAYOUT}"
            )
        pairs[split] = {images[stem]: labels[stem] for stem in images}
    if not pairs["train"] or not (pairs["val"] or pairs["test"]):
        raise ValueError(
            f"{source} has {', '.join(f'{len(pairs[s])} {s}' for s in SPLITS)} pictures; allowed: "
            f"some in train and in val or test: {CAMVID_LAYOUT}"
        )
    return pairs


def _part_camvid(
    chosen: dict[str, list[str]], digests: dict[str, bytes], source: Path
) -> list[str]:
    """Take pictures of the test part out of the others, and those of the validation part out of the
    training part.

    Raises:
        ValueError: if none were left.
    """
    notes = []
    for split, others in (("val", ["test"]), ("train", ["test", "val"])):
        names = chosen[split]
        for other in others:
            held = {digests[name] for name in chosen[other]}
            if names and held >= {digests[name] for name in names}:
                raise ValueError(
                    f"{source} has the same pictures in {split} and {other} ({names[0]}, ...); "
                    "allowed: different ones"
                )
            keys = [digests[name] for name in names]
            stay, said = apart(
                names,
                keys,
                [0] * len(names),
                held,
                "pictures",
                other,
                {"train": "training", "val": "validation"}[split],
            )
            names, notes = [names[i] for i in stay], notes + said
        chosen[split] = names
    return notes


def _decode_camvid(
    source: Path, pairs: dict[str, dict[str, str]], size: Sequence[int] | None
) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, bytes]]:
    """Every image with its labels, and its digest, by the image's name; two passes, so that not all
    files are in memory at once.
    """
    of_labels = {labels: image for split in pairs.values() for image, labels in split.items()}
    maps: dict[str, np.ndarray] = {}
    found: dict[str, tuple[Tensor, Tensor]] = {}
    digests: dict[str, bytes] = {}
    with bar(2 * len(of_labels), f"decoding {source.name}", "file", lines=True) as progress:
        for name, content in files.read_files(source, set(of_labels)):
            where = f"{name} in {source}"
            maps[of_labels[name]] = check_labels(
                open_labels(content, where), len(CAMVID), CAMVID_VOID, where
            )
            progress.update()
        for name, content in files.read_files(source, set(maps)):
            where = f"{name} in {source}"
            found[name] = to_tensors(open_picture(content, where), maps[name], size, where)
            digests[name] = digest(content)
            if len(found) == 1:
                files.check_memory(
                    len(maps), sum(part.nbytes for part in found[name]), source, "data.size=[H,W]"
                )
            progress.update()
    return found, digests


def _stack(pictures: list[tuple[Tensor, Tensor]], source: Path) -> StackedPictures:
    shapes = {tuple(labels.shape) for _, labels in pictures}
    if len(shapes) > 1:
        raise ValueError(
            f"pictures in {source} have several sizes: {sorted(shapes)[:4]} (H, W); allowed: one, "
            "or data.size=[H,W]"
        )
    images, labels = zip(*pictures)
    return StackedPictures(torch.stack(images), torch.stack(labels))


# -- PASCAL VOC ------------------------------------------------------------------------------------


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
