"""CamVid as it lies on the disk: found, matched up, decoded and checked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from terminator.data import files
from terminator.data.decoder import is_picture, open_labels, open_picture
from terminator.data.errors import DatasetNotFound
from terminator.data.folders import ROLES
from terminator.data.leakage import apart, digest
from terminator.data.pictures.batches import IGNORE, StackedPictures
from terminator.data.pictures.labels import SPLITS, Found, check_labels, to_tensors
from terminator.data.places import is_path, kind_of, tried
from terminator.runtime.paths import expanded
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
CLASSES = "classes.txt"  # of a set of one's own: a name a line, for the labels 0, 1, ...


def read_camvid(name: str, places: list[Path], train: str, size: Sequence[int] | None) -> Found:
    """CamVid by name ("camvid"), or a set of one's own by its path, decoded as a whole."""
    source = _find_camvid(name, places)
    names = files.list_files(source)
    pairs = _camvid_pairs(names, source)
    first = PurePosixPath(next(iter(pairs["train"])))
    beside = str(first.parent.parent / CLASSES)
    classes, void = CAMVID, CAMVID_VOID
    if is_path(name) and beside in names:
        classes, void = _classes(beside, source), IGNORE
    decoded, digests = _decode_camvid(source, pairs, size, len(classes), void)
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
    height, width = next(iter(splits.values())).labels.shape[1:]
    title = f"CamVid ({width}x{height})"
    if is_path(name):
        title = f"{files.base_name(source)} ({width}x{height})"
        if void == CAMVID_VOID:
            title += ", labelled like CamVid"
            notes.append(
                f"its labels are taken for CamVid's: {', '.join(CAMVID[:3])}, ..., and "
                f"{CAMVID_VOID} for pixels that do not count; a {CLASSES} would name others"
            )
    return dict(splits), title, classes, notes


def _classes(name: str, source: Path) -> tuple[str, ...]:
    """What a classes.txt calls the labels 0, 1, ...

    Raises:
        ValueError: for one that names no classes.
    """
    ((_, content),) = files.read_files(source, {name})
    lines = content.decode("utf8", "replace").splitlines()
    found = tuple(line.strip() for line in lines if line.strip())
    if not 2 <= len(found) < IGNORE or len(set(found)) < len(found):
        raise ValueError(
            f"{name} in {source} has {len(found)} names, {len(set(found))} different ones; "
            f"allowed: 2 to {IGNORE - 1} different names, each in a line of its own"
        )
    return found


def _find_camvid(name: str, places: list[Path]) -> Path:
    path = expanded(name)
    if is_path(name):
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
    source: Path,
    pairs: dict[str, dict[str, str]],
    size: Sequence[int] | None,
    classes: int,
    void: int,
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
            maps[of_labels[name]] = check_labels(open_labels(content, where), classes, void, where)
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
