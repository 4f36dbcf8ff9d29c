"""Image data sets by name, in memory: uint8 tensors, labels, and what is worth knowing about them.

Sources in this order: the folders of --data-dir and TERMINATOR_DATA (torchvision's own layouts, a
folder of class folders, or an archive of one), then torchvision's download. `digits` needs neither,
and Pathfinder's pictures are made here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from terminator.data import files, pathfinder, standard
from terminator.data.catalogue import class_folder_path, copy_of, standard_root
from terminator.data.decoding import convert_channels, load_class_folders, resize_stack
from terminator.data.leakage import apart, digest
from terminator.data.pixels import encoded_again
from terminator.data.splits import RawSplits, stratified_choice
from terminator.data.standard import STANDARD, is_known, own_names
from terminator.data.views import permutation, permute, to_sequence
from terminator.runtime.settings import ConfigError, require, require_one_of

VIEWS = ("image", "sequence", "permuted")
GIVEN = "given as arrays"  # in the notes
SUBSET_SEED = 0  # every training seed sees the same subset


@dataclass(frozen=True)
class DatasetInfo:
    """What a record says of its data. All values describe the data as used: resized, subset,
    viewed.

    shape:       (C, H, W), or (C, L) for a sequence view.
    mean, std:   per channel, of the training images in [0, 1]; a constant channel has std 1.
    fingerprint: SHA-256 over shapes, images and labels of both splits, and over names of classes
                 that are the user's own (standard.own_names).
    notes:       what a reader of the numbers has to know: lossy copy, own split, resizing.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    train_size: int
    test_size: int
    notes: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether the images were given as arrays, which no name of a data set brings back."""
        return GIVEN in self.notes


@dataclass(frozen=True, eq=False)
class ImageData:
    """Both splits on the CPU: images uint8 (N, C, H, W) or (N, C, L), labels int64 (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    info: DatasetInfo

    def normalised_as(self, about: Mapping[str, Any]) -> ImageData:
        """The same with the `mean` and `std` (per channel, of values in 0 to 1) that a model file
        says of the data it was trained on; itself, if it says neither.
        """
        if not {"mean", "std"} <= about.keys():
            return self
        info = replace(self.info, mean=tuple(about["mean"]), std=tuple(about["std"]))
        return replace(self, info=info)


def load(
    name: str,
    *,
    data_dir: str | os.PathLike | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    held_out: int = 0,
    view: str = "image",
    permutation_seed: int = 0,
    jpeg_quality: int | None = None,
    on_error: str = "refuse",
    download: bool = True,
) -> ImageData:
    """Load a data set by name.

    Args:
        name: "digits"; "pathfinder-easy", "-intermediate" or "-hard" (made here, as many as are
            asked for); a torchvision name (MNIST, FashionMNIST, CIFAR10, CIFAR100, STL10); a path
            to a class folder or an archive of one, or the bare name of one in a data folder.
        data_dir: searched before TERMINATOR_DATA.
        image_size: resize the shorter side to this and crop the centre; None keeps the size.
        channels: 1 (luma) or 3 (grey repeated); None keeps what is there.
        train_size, test_size: a fixed stratified random subset of this many images; None takes all.
        held_out: so many of these training images, at random, take the place of the test images:
            what a setting may be chosen on.
        view: "image", "sequence" (pixels in reading order) or "permuted" (in one fixed random
            order, the same for both splits, drawn with permutation_seed).
        jpeg_quality: encode images again as JPEG of this quality, colours at half the size; None
            leaves them as they are.
        on_error: what pictures of a class folder that cannot be read mean: "refuse" (an error
            that lists them) or "skip" (they are left out, and named in the notes).
        download: whether torchvision may fetch what is not on this machine.

    Raises:
        DatasetNotFound: naming every place tried and what to do.
        DatasetCorrupt: naming the file.
        ValueError: an impossible argument, or images of several sizes or not square without
            image_size.
    """
    _check_arguments(name, image_size, channels, train_size, test_size, view, on_error)
    name = asked = os.fspath(name)
    if name in pathfinder.PICTURES:
        title = pathfinder.PathfinderSettings(pathfinder.PICTURES[name]).title
        splits = pathfinder.load_pictures(name, train_size, test_size)
    else:
        splits, name, title = _find_and_read(
            name, data_dir, image_size, channels, on_error, download
        )
    notes = list(splits.notes)
    parts: list[Tensor] = []
    for split, wanted in (("train", train_size), ("test", test_size)):
        images, labels = _subset(splits, split, wanted, name, notes)
        if image_size is not None and images.shape[-1] != image_size:
            notes.append(f"resized from {images.shape[-1]} to {image_size} pixels")
        images = resize_stack(convert_channels(images, channels, name), image_size)
        if jpeg_quality is not None:
            images = encoded_again(images, jpeg_quality)
        parts += [torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels)]
    if jpeg_quality is not None:
        notes.append(f"encoded again as JPEG of quality {jpeg_quality}, lossy")
    if held_out:
        parts, said = _hold_out(parts, held_out)
        title, notes = f"{title}, held-out part", notes + said
        notes.append(f"tested on {held_out} held-out training images, not on test images")
    if view != "image":
        parts[0], parts[2] = to_sequence(parts[0]), to_sequence(parts[2])  # (N, C, L)
    if view == "permuted":
        order = permutation(parts[0].shape[-1], permutation_seed)
        parts[0], parts[2] = permute(parts[0], order), permute(parts[2], order)
        notes.append(f"pixels permuted (seed {permutation_seed})")
    return ImageData(
        *parts,
        info=_describe(name, title, parts, splits.classes, notes, own_names(asked, splits.classes)),
    )


def from_arrays(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    classes: Sequence[str] = (),
    name: str = "arrays",
) -> ImageData:
    """Images of one's own that are in memory, to be trained on with `run(..., data=...)`.

    Args:
        train_images, test_images: arrays or tensors, uint8 (N, C, H, H) or (N, C, L), of one size.
        train_labels, test_labels: integers (N,), each below the number of classes.
        classes: their names; without, they are called by their numbers.
        name: what records call the data.

    Raises:
        ConfigError: naming the array, what it is, and what is allowed.
    """
    require(isinstance(name, str) and bool(name.strip()), "name", name, "a name")
    require(not is_known(name), "name", name, "another, as this one is of a known data set")
    parts = [
        *_own_split("train", train_images, train_labels),
        *_own_split("test", test_images, test_labels),
    ]
    shape, other = tuple(parts[0].shape[1:]), tuple(parts[2].shape[1:])
    require(shape == other, "shape of test_images", other, f"that of train_images, {shape}")
    least, most = (min(parts[1].min(), parts[3].min()), max(parts[1].max(), parts[3].max()))
    given = tuple(map(str, classes))
    names = given or tuple(map(str, range(int(most) + 1)))
    require(len(set(names)) == len(names) > 1, "classes", names, "different names, at least two")
    found = f"from {int(least)} to {int(most)}"
    require(0 <= least <= most < len(names), "labels", found, f"0 to {len(names) - 1}")
    own_classes = own_names(name, names) if given else b""
    return ImageData(*parts, info=_describe(name, name, parts, names, [GIVEN], own_classes))


def _own_split(split: str, images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Images and labels of a split, once they are found to be some."""
    x, y = _own_tensor(f"{split}_images", images), _own_tensor(f"{split}_labels", labels)
    fits = x.dtype is torch.uint8 and x.ndim in (3, 4) and 0 not in x.shape
    fits = fits and (x.ndim == 3 or x.shape[-1] == x.shape[-2])
    said = f"{x.dtype} of shape {tuple(x.shape)}"
    require(fits, f"{split}_images", said, "torch.uint8, (N, C, H, H) or (N, C, L)")
    is_whole = not (y.is_floating_point() or y.is_complex() or y.dtype is torch.bool)
    said = f"{y.dtype} of shape {tuple(y.shape)}"
    fits = is_whole and tuple(y.shape) == (len(x),)
    require(fits, f"{split}_labels", said, f"integers of shape ({len(x)},)")
    return x, y.long()


def _own_tensor(what: str, values: Any) -> Tensor:
    """A copy: what becomes of the user's own afterwards changes nothing here."""
    if isinstance(values, Tensor):
        return values.detach().clone().cpu()
    try:
        return torch.from_numpy(np.array(values, order="C"))
    except (TypeError, ValueError) as error:
        kind = type(values).__name__
        raise ConfigError(
            f"{what} is a {kind} ({error}); allowed: an array or tensor of numbers"
        ) from error


def _check_arguments(
    name: object,
    image_size: object,
    channels: object,
    train_size: object,
    test_size: object,
    view: object,
    on_error: object,
) -> None:
    is_name = isinstance(name, str | os.PathLike) and bool(os.fspath(name))
    require(is_name, "dataset.name", name, "a name or a path")
    sizes = {"image_size": image_size, "train_size": train_size, "test_size": test_size}
    for key, value in sizes.items():
        fits = value is None or (type(value) is int and value >= 1)
        require(fits, f"dataset.{key}", value, "an integer of at least 1, or None")
    fits = channels is None or (type(channels) is int and channels in (1, 3))
    require(fits, "dataset.channels", channels, "1, 3 or None")
    require_one_of("dataset.on_error", on_error, ("refuse", "skip"))
    require_one_of("dataset.view", view, VIEWS)


def _find_and_read(
    name: str,
    data_dir: str | os.PathLike | None,
    image_size: int | None,
    channels: int | None,
    on_error: str,
    download: bool,
) -> tuple[RawSplits, str, str]:
    """Return (arrays, name, title) from the first source that has the data set."""
    if name == "digits":
        return standard.load_digits(), name, "digits (8x8)"
    if name in STANDARD:
        return (
            standard.read_standard(name, standard_root(name, data_dir, download)),
            name,
            STANDARD[name].title,
        )
    path = class_folder_path(name, data_dir)
    splits = load_class_folders(path, image_size, channels, on_error)
    name = files.base_name(path)  # no machine's paths in a record
    title, note = copy_of(name)
    return (replace(splits, notes=(note, *splits.notes)) if note else splits), name, title


def _subset(
    splits: RawSplits, split: str, size: int | None, name: str, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of a split, reduced to `size` of them."""
    images, labels = getattr(splits, f"{split}_images"), getattr(splits, f"{split}_labels")
    if size is None or size == len(labels):
        return images, labels
    if size > len(labels):
        raise ConfigError(
            f"dataset.{split}_size is {size}, but {name} has only {len(labels)} {split} images"
        )
    notes.append(f"{size} of {len(labels)} {split} images")
    chosen = stratified_choice(labels, size, SUBSET_SEED)
    return images[chosen], labels[chosen]


def _hold_out(parts: list[Tensor], count: int) -> tuple[list[Tensor], list[str]]:
    """Return the training images without `count` of them and their doubles, those in the test
    images' place, and notes.
    """
    images, labels = parts[:2]
    if count >= len(labels):
        raise ConfigError(
            f"dataset.held_out is {count}, but there are only {len(labels)} training images"
        )
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[torch.from_numpy(stratified_choice(labels.numpy(), count, SUBSET_SEED + 1))] = True
    keys = [digest(image.numpy().tobytes()) for image in images]
    kept = (~held).nonzero().flatten().tolist()
    stay, said = apart(
        [f"number {i}" for i in kept],
        [keys[i] for i in kept],
        labels[~held].tolist(),
        {keys[i] for i in held.nonzero().flatten().tolist()},
        "images",
        "held-out",
    )
    trained = torch.tensor([kept[i] for i in stay])
    return [images[trained], labels[trained], images[held], labels[held]], said


def _describe(
    name: str,
    title: str,
    parts: list[Tensor],
    classes: tuple[str, ...],
    notes: list[str],
    own_classes: bytes,
) -> DatasetInfo:
    images = parts[0]
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    # from the histogram: exact, and the same on every machine
    for channel in range(images.shape[1]):
        share = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean.append(float((share * levels).sum()))
        std.append(float((share * (levels - mean[-1]) ** 2).sum().sqrt()) or 1.0)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.dtype} {tuple(part.shape)}\n".encode())
        digest.update(part.contiguous().numpy().data)
    digest.update(own_classes)
    return DatasetInfo(
        name,
        title,
        tuple(images.shape[1:]),
        classes,
        tuple(mean),
        tuple(std),
        digest.hexdigest(),
        len(parts[1]),
        len(parts[3]),
        tuple(dict.fromkeys(notes)),
    )
