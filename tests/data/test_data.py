"""Data sets by name, from small files that the tests make in the real layouts, without a
network.
"""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import socket
import threading
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_files import (
    class_files,
    idx,
    make_binary_cifar,
    make_cifar,
    make_mnist,
    make_stl10,
    own_places,
    pack,
    pixels_of,
    write,
)
from PIL import Image
from torchvision import datasets

from terminator.classification.config import Config
from terminator.data import (
    DatasetCorrupt,
    DatasetNotFound,
    available,
    cifar_binary,
    from_arrays,
    load,
    standard,
)
from terminator.data.decoding import convert_channels, resize_stack
from terminator.data.splits import stratified_choice
from terminator.data.standard import download_root
from terminator.data.views import permutation, permute, to_image, to_sequence
from terminator.runtime import paths
from terminator.runtime.settings import ConfigError

__all__ = ["own_places"]  # a fixture that every test here uses


# ---- digits, arguments, subsets, views
# -------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_wherever_it_keeps_them(monkeypatch):
    read = standard._digits()
    monkeypatch.setattr(
        standard, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=["gone"])
    )
    for ours, theirs in zip(read, standard._digits(), strict=True):
        assert np.array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_digits_are_the_default_and_never_change():
    data = load("digits")
    assert data.info.shape == (1, 8, 8)
    assert (data.info.train_size, data.info.test_size) == (1437, 360)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.dtype == torch.int64
    assert (data.train_images.min(), data.train_images.max()) == (0, 255)
    assert set(torch.unique(data.train_images).tolist()) == {
        round(value * 255 / 16) for value in range(17)
    }
    counts = torch.bincount(data.test_labels)
    assert counts.min() >= 35  # stratified: 174 to 183 of each digit, a fifth of them
    assert counts.max() <= 37
    assert (
        data.info.fingerprint == "87a89b79ce9b331609ad30518d417af16e3beab75adc897592a0dbf11830bd63"
    )


def test_mean_and_std_are_those_of_the_training_images():
    data = load("digits", channels=3, image_size=12, train_size=100)
    values = data.train_images.double() / 255
    assert data.info.mean == pytest.approx(values.mean((0, 2, 3)).tolist())
    assert data.info.std == pytest.approx(values.std((0, 2, 3), correction=0).tolist())


def test_subsets_are_fixed_stratified_and_part_of_the_whole():
    whole, part = load("digits"), load("digits", train_size=200, test_size=50)
    assert torch.equal(part.train_images, load("digits", train_size=200).train_images)
    assert (part.info.train_size, part.info.test_size) == (200, 50)
    assert torch.bincount(part.train_labels).min() >= 19
    rows = {image.numpy().tobytes() for image in whole.train_images}
    assert all(image.numpy().tobytes() in rows for image in part.train_images)
    assert "200 of 1437 train images" in part.info.notes
    assert (
        len(
            {
                whole.info.fingerprint,
                part.info.fingerprint,
                load("digits", channels=3).info.fingerprint,
            }
        )
        == 3
    )


def test_doubles_of_held_out_images_are_not_trained_on(monkeypatch):
    """Of one picture and its double at most one part holds any."""
    raw = standard.load_digits()
    images = raw.train_images.copy()
    images[1::2] = images[::2][: len(images[1::2])]  # every second one is a double
    labels = raw.train_labels.copy()
    labels[1::2] = labels[::2][: len(labels[1::2])]
    doubled = dataclasses.replace(raw, train_images=images, train_labels=labels)
    monkeypatch.setattr(standard, "load_digits", lambda: doubled)
    data = load("digits", held_out=200)
    trained, held = (
        {image.numpy().tobytes() for image in part}
        for part in (data.train_images, data.test_images)
    )
    assert not trained & held
    assert len(data.train_labels) < len(images) - 200
    assert any("are in the held-out part as well" in note for note in data.info.notes)


def test_held_out_images_are_training_images_that_are_not_trained_on():
    whole, data = load("digits", train_size=500), load("digits", train_size=500, held_out=100)
    assert (data.info.train_size, data.info.test_size, len(data.test_labels)) == (400, 100, 100)
    rows = [
        {image.numpy().tobytes() for image in images}
        for images in (data.train_images, data.test_images)
    ]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == {image.numpy().tobytes() for image in whole.train_images}
    assert not rows[1] & {image.numpy().tobytes() for image in whole.test_images}
    assert torch.bincount(data.test_labels).min() >= 9
    assert data.info.title == "digits (8x8), held-out part"
    assert "tested on 100 held-out training images, not on test images" in data.info.notes
    assert data.info.fingerprint != whole.info.fingerprint
    assert torch.equal(load("digits", train_size=500, held_out=100).test_images, data.test_images)
    with pytest.raises(
        ValueError, match="dataset.held_out is 500, but there are only 500 training images"
    ):
        load("digits", train_size=500, held_out=500)


@pytest.mark.parametrize("size", [0, 1, 3, 7, 50, 99, 100])
def test_stratified_choice_keeps_every_share_to_within_one(size):
    labels = np.repeat([0, 1, 2], [70, 25, 5])
    chosen = stratified_choice(labels, size, seed=3)
    assert len(np.unique(chosen)) == size
    counts = np.bincount(labels[chosen], minlength=3)
    assert np.abs(counts - np.array([0.7, 0.25, 0.05]) * size).max() < 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"train_size": 2000}, "train_size is 2000.*only 1437 train images"),
        ({"test_size": 361}, "test_size is 361.*only 360 test images"),
        ({"train_size": 0}, "train_size is 0; allowed: an integer of at least 1, or None"),
        ({"image_size": 8.0}, "image_size is 8.0; allowed: an integer"),
        ({"channels": 2}, "channels is 2; allowed: 1, 3 or None"),
        ({"view": "spiral"}, "view is 'spiral'; allowed: image, sequence, permuted"),
        (
            {"view": "permuted", "permutation_seed": -1},
            "permutation_seed is -1; allowed: an integer from 0",
        ),
    ],
)
def test_impossible_arguments_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        load("digits", **arguments)


def pictures(count=12, dtype=np.uint8):
    return np.arange(count * 3 * 8 * 8).reshape(count, 3, 8, 8).astype(dtype)


def test_arrays_are_data():
    labels = np.arange(12, dtype=np.int32) % 3
    data = from_arrays(pictures(), labels, torch.from_numpy(pictures(6)), labels[:6].tolist())
    assert data.info.classes == ("0", "1", "2")
    assert (data.info.train_size, data.info.test_size, data.info.shape) == (12, 6, (3, 8, 8))
    assert data.train_labels.dtype is torch.int64
    other = from_arrays(255 - pictures(), labels, pictures(6), labels[:6])
    named = from_arrays(pictures(), labels, pictures(6), labels[:6], classes="abc")
    prints = {one.info.fingerprint for one in (data, other, named)}
    assert len(prints) == 3


def test_arrays_are_copied_whatever_they_are():
    own, labels = pictures(), np.arange(12) % 3
    data = from_arrays(own[:, ::-1], labels, own, labels, classes=np.array(["a", "b", "c"]))
    own[:] = 0
    assert data.train_images[0, 0, 0, 0] == 2 * 64
    assert data.test_images.any()
    for nothing in (None, 3, [["a"]], [[1], [2, 3]]):
        with pytest.raises(ConfigError, match="train_images is"):
            from_arrays(nothing, labels, own, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": pictures(dtype=float)}, "train_images is 'torch.float64 .*uint8"),
        ({"train_images": pictures()[:, :, :4]}, r"shape \(12, 3, 4, 8\)'; allowed: .*H, H"),
        ({"test_images": pictures(0)}, r"test_images is .*\(0, 3, 8, 8\)"),
        ({"test_images": pictures()[..., :4, :4]}, "test_images is .*that of train_images"),
        ({"train_labels": [0] * 11}, r"train_labels is .*\(11,\)'; allowed: .*\(12,\)"),
        ({"test_labels": [0.5] * 12}, "test_labels is 'torch.float64.*allowed: integers"),
        ({"train_labels": [-1, *range(11)]}, "labels is 'from -1 to 10'"),
        ({"classes": ["a", "b"]}, "labels is 'from 0 to 2'; allowed: 0 to 1"),
        ({"classes": ["a", "b", "a"]}, "classes is .*different names"),
        ({"name": "MNIST"}, "name is 'MNIST'; allowed: another"),
    ],
)
def test_arrays_that_are_none_are_named(changes, message):
    given = {
        "train_images": pictures(),
        "train_labels": np.arange(12) % 3,
        "test_images": pictures(),
        "test_labels": np.arange(12) % 3,
    }
    with pytest.raises(ValueError, match=message):
        from_arrays(**(given | changes))


def test_views_read_in_order_and_permute_both_splits_alike():
    image, sequence, permuted = (
        load("digits", channels=3, view=view) for view in ("image", "sequence", "permuted")
    )
    assert sequence.info.shape == permuted.info.shape == (3, 64)
    # the second row
    assert torch.equal(sequence.train_images[5, 1, 8:16], image.train_images[5, 1, 1])
    order = permutation(64, 0)
    assert torch.equal(order.sort().values, torch.arange(64))
    for split in ("train_images", "test_images"):
        assert torch.equal(getattr(permuted, split), getattr(sequence, split)[:, :, order])
    other = load("digits", channels=3, view="permuted", permutation_seed=1)
    assert not torch.equal(other.test_images, permuted.test_images)
    assert "pixels permuted (seed 1)" in other.info.notes


def test_the_order_of_permuted_mnist_never_changes():
    assert (
        permutation(784, 0)[:6].tolist() == np.random.RandomState(0).permutation(784)[:6].tolist()
    )
    with pytest.raises(ValueError, match="order of length L"):
        permute(torch.zeros(2, 1, 5), permutation(4, 0))
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        to_sequence(torch.zeros(2, 1, 5))


def test_sequences_fold_back_into_their_images():
    images = torch.arange(2 * 3 * 16).reshape(2, 3, 4, 4)
    order = permutation(16, 3)
    assert torch.equal(to_image(to_sequence(images)), images)
    assert torch.equal(to_image(permute(to_sequence(images), order), order), images)
    with pytest.raises(ValueError, match="square length"):
        to_image(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="square length"):
        to_image(torch.zeros(2, 16), permutation(9, 0))


def test_channels_and_size_agree_with_pil_image_by_image():
    images = pixels_of(5, 3, 10, 10)
    as_pil = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    grey = convert_channels(images, 1, "x")
    assert np.array_equal(
        grey[:, 0], np.stack([np.asarray(image.convert("L")) for image in as_pil])
    )
    assert np.array_equal(convert_channels(grey, 3, "x"), np.repeat(grey, 3, axis=1))
    for size in (4, 16):
        small = [
            np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in as_pil
        ]
        assert np.array_equal(resize_stack(images, size), np.stack(small).transpose(0, 3, 1, 2))


# ---- torchvision's layouts
# -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_mnist_layout(tmp_path, name):
    images, labels = make_mnist(tmp_path, name)
    data = load(name, data_dir=tmp_path)
    assert np.array_equal(data.train_images[:, 0], images["train"])
    assert np.array_equal(data.test_images[:, 0], images["t10k"])
    assert np.array_equal(data.test_labels, labels["t10k"])
    assert data.info.classes[9] == {"MNIST": "9", "FashionMNIST": "Ankle boot"}[name]
    assert load(name, data_dir=tmp_path, channels=3, image_size=14).info.shape == (3, 14, 14)


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar_layout(tmp_path, monkeypatch, name):
    *train, test = make_cifar(tmp_path, monkeypatch, name)
    monkeypatch.setenv("TERMINATOR_DATA", str(tmp_path))
    data = load(name)
    assert np.array_equal(data.train_images, np.concatenate(train))
    assert np.array_equal(data.test_images, test)
    assert len(data.info.classes) == (10 if name == "CIFAR10" else 100)
    assert data.train_labels[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_the_binary_version_of_cifar_is_the_same_data(tmp_path, monkeypatch, name):
    make_cifar(tmp_path / "pickled", monkeypatch, name)
    folder = make_binary_cifar(tmp_path / "binary", monkeypatch, name)
    pickled, binary = (load(name, data_dir=tmp_path / kind) for kind in ("pickled", "binary"))
    assert binary.info == pickled.info  # its fingerprint too
    assert torch.equal(binary.train_images, pickled.train_images)
    (tmp_path / "binary" / getattr(datasets, name).base_folder).mkdir()  # empty, in nobody's way
    row = next(row for row in available(tmp_path / "binary") if row.name == name)
    assert row.status == f"ready: {tmp_path / 'binary'} (binary version)"

    test_file = next(folder.glob("test*.bin"))
    test_file.write_bytes(test_file.read_bytes()[:-1])
    length = 4 * (3072 + (1 if name == "CIFAR10" else 2))
    with pytest.raises(
        DatasetCorrupt, match=f"{test_file.name} has {length - 1:,} bytes instead of {length:,}"
    ):
        load(name, data_dir=tmp_path / "binary")
    test_file.unlink()
    row = next(row for row in available(tmp_path / "binary") if row.name == name)
    assert row.status == f"incomplete: {tmp_path / 'binary'} lacks {test_file.name}"


def test_sizes_of_the_binary_version_are_the_published_ones():
    sizes = {
        name: [*version.train.values(), *version.test.values()]
        for name, version in cifar_binary.VERSIONS.items()
    }
    assert sizes == {"CIFAR10": [10_000] * 6, "CIFAR100": [50_000, 10_000]}


def test_stl10_layout_without_the_unlabelled_images(tmp_path, monkeypatch):
    train, test = make_stl10(tmp_path, monkeypatch)
    data = load("STL10", data_dir=tmp_path)
    assert np.array_equal(data.train_images, train)
    assert np.array_equal(data.test_images, test)
    assert data.train_labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["cut", "missing", "no header", "labels"])
def test_damaged_mnist_files_are_named(tmp_path, damage):
    make_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    file.write_bytes(
        {"cut": content[:-10], "no header": b"<html>", "labels": idx(pixels_of(7, 28, 28))}.get(
            damage, b""
        )
    )
    if damage == "missing":
        file.unlink()
    with pytest.raises(
        DatasetCorrupt, match="7 images but 10 labels" if damage == "labels" else file.name
    ):
        load("MNIST", data_dir=tmp_path)


def test_a_damaged_cifar_batch_is_named(tmp_path, monkeypatch):
    make_cifar(tmp_path, monkeypatch)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DatasetCorrupt, match="data_batch_3 does not have the published MD5 sum"):
        load("CIFAR10", data_dir=tmp_path)


# ---- not found, download
# ---------------------------------------------------------------------------------


def test_not_found_names_the_places_the_reason_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_DATA", str(tmp_path / "absent"))
    write(tmp_path, {"cifar-10-python.tar.gz": b"not unpacked"})
    with pytest.raises(DatasetNotFound) as caught:
        load("CIFAR10", data_dir=tmp_path)
    text = str(caught.value)
    for part in (
        "'CIFAR10'",
        f"{tmp_path} (cifar-10-python.tar.gz is there but not unpacked",
        "no network in tests",
        f"{tmp_path / 'absent'} (no such folder)",
        "cifar-10-batches-py",
        "--data-dir",
        "TERMINATOR_DATA",
    ):
        assert part in text
    assert isinstance(caught.value, FileNotFoundError)
    assert not list((tmp_path / "cache").rglob("*.gz"))
    assert socket.getdefaulttimeout() is None
    with pytest.raises(DatasetNotFound, match="download not allowed"):
        load("CIFAR10", data_dir=tmp_path, download=False)


@pytest.fixture
def served(tmp_path):
    """Serve a folder to this machine alone; yield the folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_download_lands_in_the_cache_whole_and_is_used_again(tmp_path, monkeypatch, served):
    folder, address = served
    images, _ = make_mnist(tmp_path / "made")
    sums = {}
    for file in sorted((tmp_path / "made" / "MNIST" / "raw").iterdir()):
        packed = gzip.compress(file.read_bytes())
        write(folder, {f"{file.name}.gz": packed})
        sums[f"{file.name}.gz"] = hashlib.md5(packed).hexdigest()
    monkeypatch.setattr(
        urllib.request, "urlopen", urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    )
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", list(sums.items()))

    last = folder / list(sums)[-1]
    content = last.read_bytes()
    last.write_bytes(content[:-20])
    with pytest.raises(DatasetNotFound, match="corrupted"):
        load("MNIST")
    # three good files are no data set
    assert list((tmp_path / "cache" / "torchvision").iterdir()) == []

    last.write_bytes(content)
    assert np.array_equal(load("MNIST").train_images[:, 0], images["train"])
    assert list((tmp_path / "cache" / "torchvision").iterdir()) == [download_root("MNIST")]
    assert np.array_equal(load("MNIST", download=False).train_images[:, 0], images["train"])
    assert any(row.name == "MNIST" and "earlier download" in row.status for row in available())


def test_unknown_names_are_answered_with_known_and_close_ones(tmp_path):
    pack(tmp_path / "flowers.zip", class_files())
    with pytest.raises(
        DatasetNotFound,
        match="Did you mean CIFAR10.*Known: digits, pathfinder-easy.*, MNIST.*flowers",
    ):
        load("cifar-10", data_dir=tmp_path)
    with pytest.raises(DatasetNotFound, match="no such folder or archive: .*nothing"):
        load(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"notes\.txt is no archive"):
        load(str(write(tmp_path, {"notes.txt": b"x"}) / "notes.txt"))
    with pytest.raises(ValueError, match="dataset.name is .*; allowed: a name or a path"):
        load("")


def test_available_tells_ready_incomplete_and_missing(tmp_path, monkeypatch):
    make_mnist(tmp_path)
    make_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "batches.meta").unlink()
    pack(tmp_path / "stl10-jpeg.tar.gz", class_files(), top="stl10-jpeg/")
    write(tmp_path / "photos", class_files(splits=("",), counts=(3,)))
    write(tmp_path / "words", {"train/pos/1.txt": b"no images"})
    rows = {row.name: row for row in available(tmp_path)}
    assert rows["digits"].status.startswith("ready: scikit-learn")
    assert rows["MNIST"].status == f"ready: {tmp_path} (torchvision layout)"
    assert rows["CIFAR10"].status == f"incomplete: {tmp_path} lacks batches.meta"
    assert rows["STL10"].status == "not found"
    assert "TERMINATOR_DATA" in rows["STL10"].how
    assert rows["stl10-jpeg"].title == "STL-10 (JPEG)"
    assert rows["photos"].status == f"ready: {tmp_path / 'photos'} (class folders)"
    assert "words" not in rows


# ---- paths
# -----------------------------------------------------------------------------------------------


def _write_half(target):
    with paths.atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == target.suffix
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_atomic_path_replaces_or_leaves_the_old_file(tmp_path):
    target = paths.atomic_write(tmp_path / "new" / "a.txt", "grün\n")
    assert target.read_bytes() == "grün\n".encode()
    with pytest.raises(KeyboardInterrupt):
        _write_half(target)
    assert target.read_bytes() == "grün\n".encode()
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_folders_follow_argument_environment_and_project(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_DATA", f"{tmp_path / 'b'}{paths.os.pathsep}{tmp_path / 'a'}")
    assert paths.data_dirs(tmp_path / "a") == [tmp_path / "a", tmp_path / "b"]
    monkeypatch.delenv("TERMINATOR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache_dir() == tmp_path / "terminator"
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "r"))
    assert paths.results_dir() == tmp_path / "r"
    monkeypatch.delenv("TERMINATOR_RESULTS")
    monkeypatch.setattr(
        paths, "__file__", str(tmp_path / "site" / "terminator" / "runtime" / "paths.py")
    )
    monkeypatch.chdir(tmp_path)
    assert paths.project_root() is None
    assert paths.results_dir() == tmp_path / "results"
    for folder in ("kit/notebooks/deep", "kit/results"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "kit" / "notebooks" / "deep")
    for other in (
        None,
        '[project]\nname = "another"\n',
        '[project]\ndescription = "not terminator-kit"\n',
    ):
        if other:
            (tmp_path / "kit" / "pyproject.toml").write_text(other)
        assert paths.project_root() is None  # any folder may have notebooks and results
    (tmp_path / "kit" / "pyproject.toml").write_text('[project]\nname = "terminator-kit"\n')
    assert paths.project_root() == tmp_path / "kit"
    assert paths.results_dir() == tmp_path / "kit" / "results"


# -- encoded again ---------------------------------------------------------------------------------


def test_images_encoded_again_are_those_of_a_file():
    plain = load("digits", channels=3, image_size=16, train_size=20, test_size=10)
    again = load("digits", channels=3, image_size=16, train_size=20, test_size=10, jpeg_quality=30)
    file = io.BytesIO()
    pixels = plain.train_images[0].numpy().transpose(1, 2, 0)
    Image.fromarray(pixels).save(file, "JPEG", quality=30, subsampling="4:2:0")
    with Image.open(file) as picture:
        expected = np.asarray(picture).transpose(2, 0, 1)
    assert np.array_equal(again.train_images[0].numpy(), expected)
    assert again.info.notes[-1] == "encoded again as JPEG of quality 30, lossy"
    assert again.info.fingerprint != plain.info.fingerprint
    better = load("digits", image_size=16, train_size=20, test_size=10, jpeg_quality=95)
    grey = load("digits", image_size=16, train_size=20, test_size=10)
    lost = (better.train_images.float() - grey.train_images.float()).abs().mean()
    assert 0 < lost < (again.train_images.float() - plain.train_images.float()).abs().mean()


def test_encoding_again_is_for_images():
    for settings in (
        {"jpeg_quality": 0},
        {"jpeg_quality": 96},
        {"jpeg_quality": 75, "view": "sequence"},
    ):
        with pytest.raises(ConfigError, match="dataset.jpeg_quality is .*; allowed: 1 to 95"):
            Config().updated(dataset=settings)
