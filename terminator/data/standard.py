"""Where the standard data sets come from: scikit-learn's embedded digits, torchvision's classes,
and the binary version of CIFAR.

torchvision reads, checks and downloads its own layouts; this file adds what it leaves out:
downloads that appear whole or not at all (downloads.py), and errors that name the file at fault.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from terminator.data import cifar_binary
from terminator.data.downloads import FAILURES, fetched
from terminator.data.errors import DatasetCorrupt
from terminator.data.pathfinder_settings import PICTURES
from terminator.data.places import kind_of
from terminator.data.splits import RawSplits, stratified_choice
from terminator.runtime.paths import cache_dir

DIGITS_SEED = 0  # fixed for ever: it decides which 360 digits are the test images
DIGITS_TEST_SIZE = 360
MAX_IDX_BYTES = 2**30  # of an IDX file's array; MNIST's has 47 million


@dataclass(frozen=True)
class StandardSet:
    """What is known of a torchvision data set before it is loaded."""

    title: str
    shape: tuple[int, int, int]
    class_count: int
    layout: str  # what is expected inside the data folder


STANDARD = {
    "MNIST": StandardSet("MNIST", (1, 28, 28), 10, "MNIST/raw/*-ubyte"),
    "FashionMNIST": StandardSet("Fashion-MNIST", (1, 28, 28), 10, "FashionMNIST/raw/*-ubyte"),
    "CIFAR10": StandardSet(
        "CIFAR-10", (3, 32, 32), 10, "cifar-10-batches-py/*_batch* or cifar-10-batches-bin/*.bin"
    ),
    "CIFAR100": StandardSet(
        "CIFAR-100",
        (3, 32, 32),
        100,
        "cifar-100-python/{train,test,meta} or cifar-100-binary/*.bin",
    ),
    "STL10": StandardSet("STL-10", (3, 96, 96), 10, "stl10_binary/{train,test}_{X,y}.bin"),
}


COPIES = {  # class folders of standard data, whose fingerprints stand in records: their class names
    "cifar10-jpeg": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
}


def is_known(name: str) -> bool:
    """Whether a data set of this name is the same for everybody."""
    return name in (*STANDARD, "digits", *PICTURES)


def own_names(name: str, classes: tuple[str, ...]) -> bytes:
    """What class names add to a fingerprint, so that a renamed class is other data.

    Nothing is added where the names follow from the data set's: those of standard data, and of
    class folders that are called in COPIES and have its names.

    Args:
        name: of the data set, as it is asked for: a known name, or what names a class folder.
    """
    if is_known(name):
        return b""
    copy = Path(name).name.lower().split(".")[0]
    if COPIES.get(copy) == tuple(classes):
        return b""
    return f"classes {json.dumps(list(classes))}\n".encode()


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's table of digits: values (1797, 64) from 0 to 16, labels (1797,). Its file is
    read by itself: importing scikit-learn takes longer than many a training of the smoke profile.
    """
    (package,) = map(Path, find_spec("sklearn").submodule_search_locations)  # imports nothing
    file = package / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        table = np.loadtxt(file, delimiter=",")
    else:  # another release may keep it elsewhere
        from sklearn.datasets import load_digits

        values, labels = load_digits(return_X_y=True)
        table = np.column_stack([values, labels])
    return table[:, :-1], table[:, -1].astype(np.int64)


def load_digits() -> RawSplits:
    """Return scikit-learn's digits (8x8, values 0..16 scaled to 0..255): 1,437 to train, 360 to
    test.
    """
    values, labels = _digits()
    images = np.rint(values.reshape(-1, 1, 8, 8) * 255 / 16).astype(np.uint8)
    in_test = np.zeros(len(labels), dtype=bool)
    in_test[stratified_choice(labels, DIGITS_TEST_SIZE, DIGITS_SEED)] = True
    return RawSplits(
        images[~in_test],
        labels[~in_test],
        images[in_test],
        labels[in_test],
        tuple(str(digit) for digit in range(10)),
        ("seeded stratified split, 1437 train / 360 test",),
    )


def torchvision_class(name: str) -> type:
    """Return the torchvision class that reads `name`."""
    from torchvision import datasets  # lazy: not needed for digits and class folders

    if name != "STL10":
        return getattr(datasets, name)

    class LabelledSTL10(datasets.STL10):
        """STL-10 without the unlabelled images: 2.6 GB that would be asked for and hashed in
        vain.
        """

        train_list = datasets.STL10.train_list[:2]

    return LabelledSTL10


def standard_files(name: str, root: Path) -> dict[Path, str | None]:
    """Return the files that are read for `name` below `root`, with their MD5 where it is known:
    torchvision's, or those of CIFAR's binary version where it alone is there.
    """
    if is_binary(name, root):
        return dict.fromkeys(cifar_binary.files(name, root))
    return _torchvision_files(name, root)


def _torchvision_files(name: str, root: Path) -> dict[Path, str | None]:
    """The files of torchvision's layout, with their MD5."""
    cls = torchvision_class(name)
    if name.endswith("MNIST"):  # the published sums are those of the .gz files
        return {root / name / "raw" / Path(packed).stem: None for packed, _ in cls.resources}
    listed = list(cls.train_list) + list(cls.test_list)
    if hasattr(cls, "meta"):
        listed.append([cls.meta["filename"], cls.meta["md5"]])
    return {root / cls.base_folder / file: md5 for file, md5 in listed}


def is_binary(name: str, root: Path) -> bool:
    """Say whether CIFAR's binary version lies below `root`, and torchvision's layout does not."""
    if not any(os.path.isfile(path) for path in cifar_binary.files(name, root)):
        return False
    return not any(os.path.isfile(path) for path in _torchvision_files(name, root))


def _stored(path: Path) -> Path:
    """The file itself, or the .gz beside it where only that is there."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if not os.path.isfile(path) and os.path.isfile(packed) else path


def _read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file of bytes, unpacked if it is a .gz.

    Raises:
        ValueError: if it is none, or has not as many bytes as its header promises.
    """
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        head = file.read(4)
        rank = head[3] if len(head) == 4 else 0
        sizes = file.read(4 * rank)
        if head[:3] != b"\0\0\x08" or rank not in (1, 3) or len(sizes) < 4 * rank:
            raise ValueError("is not an IDX file of bytes")
        shape = struct.unpack(f">{rank}I", sizes)
        expected = int(np.prod(shape, dtype=np.float64))
        content = file.read(min(expected, MAX_IDX_BYTES) + 1)
        if len(content) != expected:
            raise ValueError(
                f"has {'more' if len(content) > expected else len(content)} bytes where its header "
                f"promises {expected}"
            )
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _idx_fault(path: Path) -> str | None:
    """Return what is wrong with an IDX file of bytes (header against size), or None."""
    try:
        _read_idx(path)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except (EOFError, zlib.error, ValueError) as error:
        return str(error)
    return None


def _fault(name: str, path: Path) -> str | None:
    """Return what is wrong with a file of which no check sum is known, or None."""
    return _idx_fault(path) if name.endswith("MNIST") else cifar_binary.fault(name, path)


def _faults(name: str, root: Path) -> list[str]:
    """Return one line per file that is missing, or whose content is not what it should be."""
    from torchvision.datasets.utils import check_integrity

    faults = []
    for path, md5 in standard_files(name, root).items():
        path = _stored(path) if name.endswith("MNIST") else path
        if not os.path.isfile(path):
            faults.append(f"{path} is {kind_of(path) or 'missing'}")
        elif not os.access(path, os.R_OK):
            faults.append(f"{path} cannot be read (no permission: chmod u+r)")
        elif md5 is not None and not check_integrity(path, md5):
            faults.append(f"{path} does not have the published MD5 sum")
        elif md5 is None and (fault := _fault(name, path)):
            faults.append(f"{path} {fault}")
    return faults


def missing_files(name: str, root: Path) -> list[str]:
    """Names of the data set's files that do not lie below `root`, unpacked or in a way that is
    read here.
    """
    found = standard_files(name, root)
    return [
        path.name
        for path in found
        if not os.path.isfile(_stored(path) if name.endswith("MNIST") else path)
    ]


def is_present(name: str, root: Path) -> bool:
    """Say whether any file of the data set lies below `root` (not whether it is complete)."""
    return len(missing_files(name, root)) < len(standard_files(name, root))


def _split(name: str, root: Path, train: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    if is_binary(name, root):
        return cifar_binary.read(name, root, train)
    cls = torchvision_class(name)
    if name == "STL10":
        part = cls(root, split="train" if train else "test", download=False)
        return part.data, part.labels, tuple(part.classes)
    if name.endswith("MNIST"):  # torchvision reads no .gz
        part = "train" if train else "t10k"
        images, labels = (
            _read_idx(_stored(root / name / "raw" / f"{part}-{kind}-ubyte"))
            for kind in ("images-idx3", "labels-idx1")
        )
        # torchvision's "7 - seven" is too long for a plot's legend
        classes = cls.classes if name == "FashionMNIST" else [str(digit) for digit in range(10)]
        return images[:, None], labels.astype(np.int64), tuple(classes)  # (N, 1, 28, 28)
    part = cls(root, train=train, download=False)
    # (N, 3, 32, 32)
    return (part.data.transpose(0, 3, 1, 2), np.asarray(part.targets), tuple(part.classes))


def _label_faults(
    split: str, images: np.ndarray, labels: np.ndarray, class_count: int
) -> list[str]:
    if len(images) != len(labels):
        return [f"the {split} split has {len(images)} images but {len(labels)} labels"]
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= class_count:
        return [f"the {split} split is empty or has a label outside 0..{class_count - 1}"]
    return []


def read_standard(name: str, root: Path) -> RawSplits:
    """Read a standard data set that lies below `root`.

    Raises:
        DatasetCorrupt: naming every file that is missing, cut short or altered.
    """
    try:
        # torchvision checks MD5 sums of its files, but takes MNIST's as they are
        unchecked = name.endswith("MNIST") or is_binary(name, root)
        faults = _faults(name, root) if unchecked else []
        if not faults:
            train_images, train_labels, classes = _split(name, root, train=True)
            test_images, test_labels, _ = _split(name, root, train=False)
    except Exception as error:  # whatever a damaged file makes its reader raise
        faults = _faults(name, root) or [str(error)]
    if not faults:
        faults += _label_faults("train", train_images, train_labels, len(classes))
        faults += _label_faults("test", test_images, test_labels, len(classes))
    if faults:
        raise DatasetCorrupt(
            f"{name} in {root} cannot be used: {'; '.join(faults)}. Replace or remove it."
        )
    arrays = (np.ascontiguousarray(train_images), train_labels.astype(np.int64))
    return RawSplits(
        *arrays, np.ascontiguousarray(test_images), test_labels.astype(np.int64), classes
    )


def download_root(name: str) -> Path:
    """Return the folder in the cache where a download of `name` is kept, in torchvision's
    layout.
    """
    return cache_dir() / "torchvision" / name


def download(name: str) -> Path:
    """Let torchvision download `name` into the cache; the folder appears only when it is complete.

    Returns:
        the folder to read from.

    Raises:
        ConnectionError: with torchvision's reason on one line.
    """

    def fetch(part: Path) -> None:
        torchvision_class(name)(part, download=True)
        for packed in part.rglob("*.gz"):
            packed.unlink()  # only the unpacked files are read again

    try:
        return fetched(download_root(name), fetch, lambda target: is_present(name, target))
    except FAILURES as error:
        raise ConnectionError(" ".join(str(error).split()) or type(error).__name__) from error
