"""Images by class for few-shot episodes: where they come from, which classes a split has.

Names: digits (embedded), strokes (drawn by a formula), omniglot28 (omniglot28.npz: 242 characters
at 28x28), and every cache in a data folder: NAME.npy (classes, images, H, W[, C]),
NAME_ch_first.npy (classes, images[, C], H, W), or a folder NAME/ of such files, which follow one
another; lists with an entry per class, of various lengths, may be pickled. omniglot is found by
torchvision's class as well (1,623 characters, 105x105).

Source: the data formats and class ranges of the HyperTransformer's released code (arXiv
2201.04182).
"""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from terminator.data import archives, sources
from terminator.data.decoder import is_picture, open_picture
from terminator.data.episodes.classes import ClassImages, starts_of
from terminator.data.episodes.strokes import draw_strokes
from terminator.data.files import is_data, list_files, packed_beside, read_files
from terminator.data.sources import DatasetCorrupt, DatasetNotFound
from terminator.runtime.paths import DATA_VARIABLE, cache_dir, data_dirs

_PICKLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def load_classes(
    name: str, data_dir: str | os.PathLike | None = None, download: bool = True
) -> ClassImages:
    """Load a data set by name; see the top of this file for names and formats.

    Args:
        data_dir: searched before TERMINATOR_DATA.
        download: whether torchvision may fetch Omniglot.

    Raises:
        DatasetNotFound: naming the places tried.
        DatasetCorrupt: naming the file and what is wrong with it.
    """
    if name == "digits":
        raw = sources.load_digits()
        labels = np.concatenate([raw.train_labels, raw.test_labels])
        images = np.concatenate([raw.train_images, raw.test_images])
        return _collect(name, [images[labels == i] for i in range(10)], raw.classes)
    if name == "strokes":
        stacks = draw_strokes()[:, :, None]
        note = "drawn by a formula, not by hand"
        return _collect(
            name, list(stacks), tuple(f"character {i}" for i in range(len(stacks))), notes=(note,)
        )
    places = data_dirs(data_dir)
    for place in places:
        if (found := _find_cache(name, place)) is not None:
            return _read(name, found)
    if name == "omniglot":
        return _torchvision_omniglot(places, download)
    tried = ", ".join(map(str, places)) or f"no data folder given (--data-dir, {DATA_VARIABLE})"
    packed = [
        path
        for place in places
        for end in (".npy", ".npz", "")
        for path in packed_beside(place / f"{name}{end}")
    ]
    tried += f" ({', '.join(map(str, packed))} is there, but not unpacked)" if packed else ""
    raise DatasetNotFound(
        f"few-shot data set {name!r} was not found. Tried: {tried}. Put {name}.npy (classes, "
        f"images, H, W[, C]), {name}_ch_first.npy or a folder {name}/ of them there; digits and "
        "strokes need none"
    )


def _find_cache(name: str, place: Path) -> Path | None:
    if name == "omniglot28" and (place / "omniglot28.npz").is_file():
        return place / "omniglot28.npz"
    if (place / f"{name}.npy").is_file():
        return place / f"{name}.npy"
    if found := _arrays(place, f"*{name}*_ch_first*.npy"):
        return found[0]
    folder = place / name
    return folder if _arrays(folder, "*.npy") else None


def _arrays(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that are data and named so, sorted."""
    found = (
        sorted(path for path in folder.glob(pattern) if is_data(path.name))
        if folder.is_dir()
        else []
    )
    for path in found:
        if not path.is_file():
            raise DatasetCorrupt(f"{path} is no regular file, or a link that leads nowhere")
    return found


def _read(name: str, path: Path) -> ClassImages:
    try:
        if path.suffix == ".npz":
            return _read_small_omniglot(path)
        stacks = []
        for file in _arrays(path, "*.npy") if path.is_dir() else [path]:
            array = _read_npy(file)
            if array.dtype != object and array.ndim not in (4, 5):
                raise ValueError(
                    f"{file.name} has shape {array.shape}; allowed: 4 or 5 axes, (classes, images, "
                    "H, W[, C]), or a pickled list of (images, H, W[, C])"
                )
            is_first = "_ch_first" in file.name
            stacks += [_channels_first(np.asarray(part), file, is_first) for part in array]
        return _collect(name, stacks, tuple(str(i) for i in range(len(stacks))))
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        if isinstance(error, DatasetCorrupt):
            raise
        raise DatasetCorrupt(f"{path} cannot be used: {error}") from error


def _read_small_omniglot(path: Path) -> ClassImages:
    archives.list_zip(path, None, 16)  # raises if it unpacks to far more than it is
    with np.load(path, allow_pickle=False) as file:
        images, alphabets, characters = file["images"], file["alphabet"], file["character"]
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or not len(images) == len(alphabets) == len(characters)
    ):
        raise ValueError(
            f"images {images.dtype} {images.shape}, {len(alphabets)} alphabets, {len(characters)} "
            "characters; allowed: uint8 (characters, drawings, H, W) and one name of each per "
            "character"
        )
    names = tuple(f"{alphabet}/{character}" for alphabet, character in zip(alphabets, characters))
    note = (
        f"{len(images)} characters of {len(set(alphabets))} alphabets, a part of Omniglot: not "
        "comparable with it"
    )
    return _collect(
        "omniglot28",
        [stack[:, None] for stack in images],
        names,
        tuple(map(str, alphabets)),
        (note,),
    )


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; anything else in a file could run code."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _PICKLED:
            raise pickle.UnpicklingError(
                f"it holds {module}.{name}; allowed: lists and NumPy arrays"
            )
        return super().find_class(module, name)


def _read_npy(path: Path) -> np.ndarray:
    """An array from a .npy file; a list that NumPy pickled is an array of objects, an entry per
    class.
    """
    content = path.read_bytes()
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    reader = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    _, _, dtype = reader(stream)
    if not dtype.hasobject:
        return np.load(io.BytesIO(content), allow_pickle=False)
    array = _ArraysOnly(stream).load()
    return array.reshape(-1) if array.ndim != 1 else array


def _channels_first(stack: np.ndarray, path: Path, is_first: bool) -> np.ndarray:
    """One class's images as uint8 (images, C, H, W)."""
    if stack.ndim not in (3, 4) or 0 in stack.shape or stack.dtype == object:
        raise DatasetCorrupt(
            f"{path} has a class of shape {stack.shape}; allowed: (images, H, W[, C])"
        )
    if stack.ndim == 3:
        stack = stack[:, None]
    elif not is_first:
        stack = stack.transpose(0, 3, 1, 2)
    if stack.shape[1] not in (1, 3):
        raise DatasetCorrupt(
            f"{path} has images with {stack.shape[1]} channels (shape {stack.shape}); allowed: 1 "
            f"or 3, the {'first' if is_first else 'last'} axis of an image"
        )
    if stack.dtype == bool:
        return stack.astype(np.uint8) * 255
    if stack.min() < 0 or stack.max() > 255:
        raise DatasetCorrupt(
            f"{path} has values from {stack.min()} to {stack.max()}; allowed: 0 to 255, or booleans"
        )
    return stack.astype(np.uint8)


def _torchvision_omniglot(places: list[Path], download: bool) -> ClassImages:
    from torchvision import datasets  # lazy: the other sources do not need it

    target = cache_dir() / "torchvision" / "omniglot"
    places = [*places, target]
    root = next((place for place in places if (place / "omniglot-py").is_dir()), None)
    hint = "the 242 characters of omniglot28.npz have the name omniglot28"
    if root is None and not download:
        raise DatasetNotFound(
            f"omniglot was not found in {', '.join(map(str, places))} (no omniglot.npy, no "
            f"omniglot-py/), and downloading is not allowed; {hint}"
        )
    try:
        parts = [
            datasets.Omniglot(root or target, background=background, download=root is None)
            for background in (True, False)
        ]
    except Exception as error:  # whatever a network or a damaged archive makes torchvision raise
        raise DatasetNotFound(
            f"omniglot could not be read from {root or 'a download'}: {error}; {hint}"
        ) from error
    drawings: dict[str, list[np.ndarray]] = {}
    for part in parts:
        folder = Path(part.target_folder)
        names = sorted(
            name for name in list_files(folder) if is_picture(name) and name.count("/") == 2
        )
        for name, content in read_files(folder, set(names)):
            picture = open_picture(content, f"{name} in {folder}").convert("L")
            drawings.setdefault(name.rpartition("/")[0], []).append(
                255 - np.asarray(picture)
            )  # ink bright
    alphabets = tuple(name.split("/")[0] for name in drawings)
    return _collect(
        "omniglot",
        [np.stack(images)[:, None] for images in drawings.values()],
        tuple(drawings),
        alphabets,
    )


def _collect(
    name: str,
    stacks: list[np.ndarray],
    classes: tuple[str, ...],
    groups: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
) -> ClassImages:
    shapes = {stack.shape[1:] for stack in stacks}
    if len(shapes) != 1:
        raise DatasetCorrupt(
            f"{name} has images of several shapes: {sorted(shapes)[:5]}; allowed: one"
        )
    counts = torch.tensor([len(stack) for stack in stacks])
    images = torch.from_numpy(np.ascontiguousarray(np.concatenate(stacks)))
    return ClassImages(name, images, starts_of(counts), tuple(classes), groups, notes)
