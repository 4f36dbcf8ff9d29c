"""Images by class for few-shot episodes: where they come from, which classes a split has.

Names: digits (embedded), strokes (drawn by a formula), omniglot28 (omniglot28.npz: 242 characters
at 28x28), and every cache of arrays in a data folder (caches.py). omniglot is found by
torchvision's class as well (1,623 characters, 105x105).

Source: the class ranges of the HyperTransformer's released code (arXiv 2201.04182).
"""

import os
from pathlib import Path

import numpy as np
import torch

from terminator.data import arrays, downloads, levels, standard
from terminator.data.decoder import is_picture, open_picture
from terminator.data.episodes import caches
from terminator.data.episodes.classes import ClassImages, starts_of
from terminator.data.episodes.strokes import draw_strokes
from terminator.data.errors import DatasetCorrupt, DatasetNotFound
from terminator.data.files import list_files, packed_beside, read_files
from terminator.data.places import tried
from terminator.runtime.paths import cache_dir, data_dirs, is_offline


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
        raw = standard.load_digits()
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
        small = place / "omniglot28.npz"
        if name == "omniglot28" and caches.is_file(small):
            return _read_small_omniglot(small)
        if (found := caches.find(name, place)) is not None:
            cache = caches.read(found)
            return _collect(name, cache.stacks, cache.classes, notes=cache.notes)
    if name == "omniglot":
        return _torchvision_omniglot(places, download)
    packed = [
        path
        for place in places
        for end in (".npy", ".npz", ".pkl", "")
        for path in packed_beside(place / f"{name}{end}")
    ]
    hint = "".join(caches.hints(name, place) for place in places)
    hint += f" ({', '.join(map(str, packed))} is there, but not unpacked)" if packed else ""
    wanted = f"{name}.npy {caches.LAYOUT}, {name}_ch_first.npy or a folder {name}/ of them"
    raise DatasetNotFound(
        f"few-shot data set {name!r} was not found. Tried: {tried(places)}{hint}. Put "
        f"{'omniglot28.npz' if name == 'omniglot28' else wanted} there; digits and strokes need "
        "none"
    )


def _read_small_omniglot(path: Path) -> ClassImages:
    images, alphabets, characters = arrays.read_npz(path, ("images", "alphabet", "character"))
    if (
        images.ndim != 4
        or images.dtype != np.uint8
        or not alphabets.ndim == characters.ndim == 1
        or not len(images) == len(alphabets) == len(characters)
    ):
        raise DatasetCorrupt(
            f"{path} cannot be used: images {images.dtype} {images.shape}, {len(alphabets)} "
            f"alphabets, {len(characters)} characters; allowed: uint8 (characters, drawings, H, W) "
            "and one name of each per character"
        )
    names = tuple(f"{alphabet}/{character}" for alphabet, character in zip(alphabets, characters))
    note = (
        f"{len(images)} characters of {len(set(alphabets))} alphabets, a part of Omniglot: not "
        "comparable with it"
    )
    stacks, scaled = levels.to_bytes([stack[:, None] for stack in images], str(path))
    return _collect(
        "omniglot28",
        stacks,
        names,
        tuple(map(str, alphabets)),
        (note, *([scaled] if scaled else [])),
    )


def _torchvision_omniglot(places: list[Path], download: bool) -> ClassImages:
    from torchvision import datasets  # lazy: the other sources do not need it

    target = cache_dir() / "torchvision" / "omniglot"
    places = [*places, target]
    root = next((place for place in places if os.path.isdir(place / "omniglot-py")), None)
    hint = "the 242 characters of omniglot28.npz have the name omniglot28"
    if root is None and (not download or is_offline()):
        raise DatasetNotFound(
            f"omniglot was not found in {tried(places)} (no omniglot.npy, no "
            f"omniglot-py/), and downloading is not allowed; {hint}"
        )

    def fetch(part: Path) -> None:
        for background in (True, False):
            datasets.Omniglot(part, background=background, download=True)

    try:
        if root is None:
            root = downloads.fetched(target, fetch, lambda place: (place / "omniglot-py").is_dir())
        parts = [datasets.Omniglot(root, background=background) for background in (True, False)]
    except Exception as error:  # whatever a network or a damaged archive makes torchvision raise
        raise DatasetNotFound(
            f"omniglot could not be read from {root or 'a download'}: "
            f"{' '.join(str(error).split())}; {hint}"
        ) from error
    drawings: dict[str, list[np.ndarray]] = {}
    for part in parts:
        folder = Path(part.target_folder)
        names = sorted(
            name for name in list_files(folder) if is_picture(name) and name.count("/") == 2
        )
        for name, content in read_files(folder, set(names)):
            picture = open_picture(content, f"{name} in {folder}").convert("L")
            # ink bright
            drawings.setdefault(name.rpartition("/")[0], []).append(255 - np.asarray(picture))
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
