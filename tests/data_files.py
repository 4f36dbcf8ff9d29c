"""Small data sets in the real layouts, written by the tests that read them."""

import hashlib
import io
import pickle
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from terminator.data import cifar_binary


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Keep the user's cache and data out of the tests, and make any use of the network fail."""

    def no_network(*_args, **_kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setenv("TERMINATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TERMINATOR_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", no_network)


def pixels_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(pixels, suffix=".png"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, format={".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP"}[suffix]
    )
    return buffer.getvalue()


def class_files(
    splits=("train/", "test/"), counts=(6, 3), classes=("cat", "ant", "bee"), size=8, suffix=".png"
):
    """Return {relative name: file content} of a small data set; every image is different."""
    return {
        f"{split}{name}/{index}{suffix}": encode(
            pixels_of(size, size, 3, seed=_seed_of(split, name, index)), suffix
        )
        for split, count in zip(splits, counts, strict=True)
        for name in classes
        for index in range(count)
    }


def _seed_of(*parts):
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16)


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def pack(path, files, top=""):
    """Write an archive whose kind follows from the name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(top + name, content)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def idx(array):
    return (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def make_mnist(root, name="MNIST", train=20, test=10):
    images = {"train": pixels_of(train, 28, 28), "t10k": pixels_of(test, 28, 28, seed=1)}
    labels = {part: np.arange(len(pixels)) % 10 for part, pixels in images.items()}
    files = {f"{name}/raw/{part}-images-idx3-ubyte": idx(images[part]) for part in images}
    files |= {f"{name}/raw/{part}-labels-idx1-ubyte": idx(labels[part]) for part in labels}
    write(root, files)
    return images, labels


def make_cifar(root, monkeypatch, name="CIFAR10", per_batch=4):
    """Write CIFAR pickles and let torchvision's class expect their check sums."""
    cls, coarse = getattr(datasets, name), name == "CIFAR10"
    names = [f"class{index}" for index in range(10 if coarse else 100)]
    files, pixels = {}, {}
    for index, (file, _) in enumerate([*cls.train_list, *cls.test_list]):
        pixels[file] = pixels_of(per_batch, 3072, seed=index)
        labels = [(index + step) % len(names) for step in range(per_batch)]
        files[file] = pickle.dumps(
            {"data": pixels[file], "labels" if coarse else "fine_labels": labels}
        )
    files[cls.meta["filename"]] = pickle.dumps({cls.meta["key"]: names})
    write(root / cls.base_folder, files)
    sums = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    for key in ("train_list", "test_list"):
        monkeypatch.setattr(cls, key, [[file, sums[file]] for file, _ in getattr(cls, key)])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": sums[cls.meta["filename"]]})
    return [pixels[file].reshape(-1, 3, 32, 32) for file in pixels]


def make_binary_cifar(root, monkeypatch, name="CIFAR10", per_file=4):
    """Write CIFAR's binary version with fewer pictures, the same as make_cifar's."""
    version = cifar_binary.VERSIONS[name]
    listed = [*version.train, *version.test]
    names = [f"class{index}" for index in range(10 if name == "CIFAR10" else 100)]
    files = {version.names: "\n".join([*names, ""]).encode()}
    for index, file in enumerate(listed):
        pixels = pixels_of(per_file, 3072, seed=index)
        labels = (index + np.arange(per_file)[:, None]) % len(names)
        superclass = [labels // 5] if version.label_bytes == 2 else []
        files[file] = np.hstack([*superclass, labels, pixels]).astype(np.uint8).tobytes()
    sizes = {part: dict.fromkeys(getattr(version, part), per_file) for part in ("train", "test")}
    monkeypatch.setitem(cifar_binary.VERSIONS, name, version._replace(**sizes))
    return write(root / version.folder, files)


def make_stl10(root, monkeypatch, count=3):
    images = pixels_of(2, count, 3, 96, 96)
    labels = np.arange(1, count + 1, dtype=np.uint8)
    files = {"class_names.txt": "\n".join(f"kind{index}" for index in range(10)).encode()}
    for part, pixels in zip(("train", "test"), images, strict=True):  # stored column by column
        files |= {
            f"{part}_X.bin": pixels.transpose(0, 1, 3, 2).tobytes(),
            f"{part}_y.bin": labels.tobytes(),
        }
    write(root / "stl10_binary", files)
    for key in ("train_list", "test_list"):
        listed = getattr(datasets.STL10, key)
        sums = [
            [file, hashlib.md5(files[file]).hexdigest() if file in files else md5]
            for file, md5 in listed
        ]
        monkeypatch.setattr(datasets.STL10, key, sums)
    return images
