"""Class folders to arrays: bring to one channel count, split, shuffle once, keep in the cache.

The cache holds one uncompressed .npz per source and request, so that an archive is decoded only
once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from terminator.data import cached
from terminator.data.errors import DatasetCorrupt
from terminator.data.files import base_name, few, list_source, version
from terminator.data.folders import plan_layout
from terminator.data.leakage import apart
from terminator.data.pixels import resize_image
from terminator.data.reading import decode_all, skipped
from terminator.data.splits import RawSplits
from terminator.runtime.paths import cache_dir
from terminator.runtime.text import shortened

SPLIT_SEED = 0  # the order of the samples, fixed for ever
CACHE_VERSION = 5  # raise it when decoding, splitting or notes change


def convert_channels(images: np.ndarray, channels: int | None, name: str) -> np.ndarray:
    """Repeat grey to three channels, or reduce colour to luma as PIL does (ITU-R 601, in
    integers).
    """
    have = images.shape[1]
    if channels is None or channels == have:
        return images
    if have == 1:
        return np.repeat(images, channels, axis=1)  # (N, 3, H, W)
    if have != 3:
        raise ValueError(f"{name} has {have} channels: only 1 and 3 can be converted to {channels}")
    luma = np.empty_like(images[:, :1])
    # in pieces: 32-bit copies of everything would be large
    for start in range(0, len(images), 4096):
        red, green, blue = images[start : start + 4096].transpose(1, 0, 2, 3).astype(np.uint32)
        luma[start : start + 4096, 0] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return luma  # (N, 1, H, W)


def resize_stack(images: np.ndarray, size: int | None) -> np.ndarray:
    """Resize all images with PIL, whose integer arithmetic gives the same bytes on every
    machine.
    """
    if size is None or images.shape[-1] == size:
        return images
    planes = images.reshape(-1, *images.shape[-2:])  # (N*C, H, W)
    out = np.stack([np.asarray(resize_image(Image.fromarray(plane), size)) for plane in planes])
    return out.reshape(*images.shape[:2], size, size)  # (N, C, size, size)


def write_class_folders(
    root: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> int:
    """Write images (N, C, H, W) uint8, C 1 or 3, as root/<class>/NNNN.png: the inverse of
    load_class_folders.

    Returns:
        the number of files written.
    """
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        target = root / classes[int(label)] / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(target)
    return len(images)


def _build(
    source: Path, image_size: int | None, channels: int | None, on_error: str = "refuse"
) -> RawSplits:
    """Decode a folder or archive into arrays."""
    found = list_source(source)
    plan = plan_layout(found.files, source, found.folders)
    decoded = decode_all(source, set(plan.train) | set(plan.test), image_size, channels, on_error)
    images, digests = decoded.images, decoded.digests
    depth = channels or max(image.shape[0] for image in images.values())
    again = [name for name, count in Counter(found.files).items() if count > 1]
    notes = [*plan.notes, *(f"left out: {link}" for link in found.lost)]
    if decoded.wrong:
        plan, said = skipped(decoded.wrong, plan, source)
        notes += said
    notes += [
        f"{len(again)} names stand more than once in the archive ({few(again)}): the last counts"
    ] * bool(again)
    notes += [*([f"resized to {image_size} pixels"] if decoded.resized else [])]
    if any(image.shape[0] != depth for image in images.values()):
        notes.append("grey images among coloured ones repeated to three channels")
    train, test = list(plan.train.items()), list(plan.test.items())
    if not test:
        train, test = _hold_out(train, digests)
        notes.append("stratified 80/20 split, by the pictures' contents")
        tested = {label for _, label in test}
        alone = [name for label, name in enumerate(plan.classes) if label not in tested]
        if not test:
            raise DatasetCorrupt(
                f"{source} has one picture of every class ({few(alone)}), and nothing to test on; "
                "allowed: two of a class at least"
            )
        notes += [f"one picture alone, so trained on and not tested: {few(alone)}"] * bool(alone)
    keys = [digests[name] for name, _ in train]
    stay, said = apart(
        [name for name, _ in train],
        keys,
        [label for _, label in train],
        {digests[name] for name, _ in test},
        "images",
    )
    train, notes = [train[i] for i in stay], notes + said
    arrays = (*_stack(train, images, depth), *_stack(test, images, depth))
    return RawSplits(*arrays, plan.classes, tuple(notes))


def _hold_out(
    items: list[tuple[str, int]], digests: dict[str, bytes]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Split (name, label) pairs 80/20, class by class, by what is in the files: where pictures are
    added, at most one other for each changes its part.

    Every class keeps a pair to train on and, where it has two, gives one to test.
    """
    by_class: dict[int, list[str]] = {}
    for name, label in items:
        by_class.setdefault(label, []).append(name)
    chosen: set[str] = set()
    for names in by_class.values():
        count = max(1, round(0.2 * len(names))) if len(names) > 1 else 0
        chosen.update(sorted(names, key=lambda name: (digests[name], name))[:count])
    parts: tuple[list, list] = ([], [])
    for item in items:
        parts[item[0] in chosen].append(item)
    return parts


def _stack(
    items: list[tuple[str, int]], images: dict[str, np.ndarray], depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, depth, H, W) and labels (N,) of the (name, label) pairs in one fixed random
    order.

    Stored class by class, a batch would hold one class only, and standardisation with the
    statistics of the test batch (the released evaluation) would be spoilt.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(items))
    stack = np.empty((len(items), depth, *images[items[0][0]].shape[1:]), dtype=np.uint8)
    for position, chosen in enumerate(order):
        stack[position] = images[items[chosen][0]]  # (1, H, W) spreads over three channels
    return stack, np.array([items[chosen][1] for chosen in order], dtype=np.int64)


def cache_file(
    source: Path, image_size: int | None, channels: int | None, on_error: str = "refuse"
) -> Path:
    """Return where the decoded arrays are kept: a new name whenever path, file, size, date or
    request change.
    """
    names: list[str] = []
    key: list[object] = [str(source.resolve()), image_size, channels, CACHE_VERSION]
    key += [] if on_error == "refuse" else [on_error]
    if source.is_dir():
        found = list_source(source)
        names = found.files
        key += [found.folders, found.lost]
    key += version(source, names)
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    return cache_dir() / "images" / f"{shortened(base_name(source))}-{digest}.npz"


def _from_cache(path: Path) -> RawSplits | None:
    found = cached.read(path, [field.name for field in fields(RawSplits)])
    if found is None:
        return None
    *parts, classes, notes = found.values()
    return RawSplits(*parts, tuple(classes.tolist()), tuple(notes.tolist()))


def load_class_folders(
    source: Path,
    image_size: int | None = None,
    channels: int | None = None,
    on_error: str = "refuse",
) -> RawSplits:
    """Return the images of a class folder or archive, decoded once and then taken from the cache.

    Args:
        source: folder or archive; image_size, channels, on_error: see images.load.

    Raises:
        ValueError or DatasetCorrupt: naming the file at fault.
    """
    path = cache_file(source, image_size, channels, on_error)
    if (splits := _from_cache(path)) is not None:
        return splits
    splits = _build(source, image_size, channels, on_error)
    names = {"classes": np.array(splits.classes), "notes": np.array(splits.notes, dtype=np.str_)}
    cached.keep(path, {**vars(splits), **names}, "decoded images")
    return splits
