"""Every reader of data from outside, each on small files of its own: make(root), read(root)."""

import gzip
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from data_files import class_files, make_mnist, pixels_of, write
from segmentation_files import camvid_files, make_voc

from terminator.data import load
from terminator.data.episodes.sources import load_classes
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.sequences import byte_files, listops, text


class Reader(NamedTuple):
    """One kind of data: a file of it, a folder of it, and how it is read.

    Attributes:
        file, folder: relative names of a file that is needed, and of a folder.
        empty: what is said of the file when it is empty.
    """

    make: object
    read: object
    file: str
    folder: str
    empty: str


def _tables(names, line):
    def make(root):
        return write(root / "set", {name: line(i) for i, name in enumerate(names)})

    return make


def _arrays(name, save):
    def make(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(root / name)

    return make


def _npz(path):
    names = np.array(["a", "b"])
    np.savez(path, images=pixels_of(2, 3, 5, 5), alphabet=names, character=names)


def _npy(path):
    np.save(path, pixels_of(3, 4, 5, 5))


def _objects(path):
    value = np.empty(2, object)
    value[:] = [pixels_of(3, 5, 5, 3), pixels_of(2, 5, 5, 3)]
    np.save(path, value, allow_pickle=True)


def _pickle(path):
    value = {"image_data": pixels_of(6, 5, 5, 3), "class_dict": {"a": [0, 1, 2], "b": [3, 4, 5]}}
    path.write_bytes(pickle.dumps(value))


def _voc(root):
    make_voc(root)


def _read_voc(root):
    found = load_segmentation("voc2012", data_dir=root, train="train")
    return [part.batch([i]) for part in found.splits.values() for i in range(len(part))]


def _reviews(root):
    files = {
        f"set/{split}/{kind}/{i}.txt": f"{split} {kind} {i}".encode()
        for split in ("train", "test")
        for kind in ("neg", "pos")
        for i in range(3)
    }
    write(root, files)


def _bytes(root):
    files = {f"set/{k}/{i}": f"{k} {i}".encode() for k in ("benign", "malware") for i in range(6)}
    write(root, files | {"set/malware/6": gzip.compress(b"packed")})


VOC = "VOCdevkit/VOC2012"
LISTS = ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv")
PAIRS = ("a.train.tsv", "a.eval.tsv", "a.test.tsv")
READERS = {
    "listops": Reader(
        _tables(LISTS, lambda i: f"Source\tTarget\n[MAX {i} 7 ]\t7\n".encode()),
        lambda root: listops.read_released(root / "set"),
        "set/basic_test.tsv",
        "set",
        "has no examples",
    ),
    "aan": Reader(
        _tables(PAIRS, lambda i: f"1\ta\tb\tone {i}\ttwo\n".encode()),
        lambda root: text.load_aan(str(root / "set")),
        "set/a.train.tsv",
        "set",
        "has no examples",
    ),
    "reviews": Reader(
        _reviews,
        lambda root: text.read_reviews(root / "set"),
        "set/test/pos/1.txt",
        "set/test/pos",
        "1 reviews without text",
    ),
    "bytes": Reader(
        _bytes,
        lambda root: byte_files.load_byte_files(str(root / "set"), 8),
        "set/malware/3",
        "set/malware",
        "1 files without content",
    ),
    "npy": Reader(
        _arrays("set.npy", _npy),
        lambda root: load_classes("set", root),
        "set.npy",
        "",
        "cannot be used: it is empty. Copy",
    ),
    "npy of objects": Reader(
        _arrays("set/part.npy", _objects),
        lambda root: load_classes("set", root),
        "set/part.npy",
        "set",
        "cannot be used: it is empty. Copy",
    ),
    "pickle": Reader(
        _arrays("set/part.pkl", _pickle),
        lambda root: load_classes("set", root),
        "set/part.pkl",
        "set",
        "cannot be used: it is empty. Copy",
    ),
    "npz": Reader(
        _arrays("omniglot28.npz", _npz),
        lambda root: load_classes("omniglot28", root),
        "omniglot28.npz",
        "",
        "cannot be used",
    ),
    "classes": Reader(
        lambda root: write(root / "set", class_files(("",), (6,), ("ant", "bee"))),
        lambda root: load(str(root / "set")),
        "set/ant/3.png",
        "set/ant",
        "corrupt or truncated",
    ),
    "mnist": Reader(
        make_mnist,
        lambda root: load("MNIST", data_dir=root, download=False),
        "MNIST/raw/t10k-labels-idx1-ubyte",
        "MNIST/raw",
        "not an IDX file",
    ),
    "streets": Reader(
        lambda root: write(root / "set", camvid_files()),
        lambda root: load_segmentation(str(root / "set")),
        None,
        "set/train",
        "corrupt or truncated",
    ),
    "voc": Reader(
        _voc,
        _read_voc,
        f"{VOC}/ImageSets/Segmentation/train.txt",
        f"{VOC}/ImageSets",
        "names no pictures",
    ),
    "voc pictures": Reader(
        _voc, _read_voc, f"{VOC}/SegmentationClass/2007_000001.png", f"{VOC}/ImageSets", "000001"
    ),
}
STREET = sorted(name for name in camvid_files() if name.startswith("train/"))[0]
READERS["streets"] = READERS["streets"]._replace(file=f"set/{STREET}")


def message(kind, root):
    """What a reader says of what it cannot read."""
    try:
        READERS[kind].read(Path(root))
    except (ValueError, FileNotFoundError) as error:  # DatasetCorrupt, DatasetNotFound
        return str(error)
    return "it was read"
