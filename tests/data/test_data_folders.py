"""Class folders and archives: layouts, decoding, cache, and every kind of damage."""

import io
import os
import shutil
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import class_files, encode, own_places, pack, pixels_of, write
from PIL import Image, ImageFile

from terminator.config import KNOWN_DATA
from terminator.data import DatasetCorrupt, load, places, standard
from terminator.data.decoding import cache_file
from terminator.runs import finished
from terminator.runtime.paths import cache_dir

__all__ = ["own_places"]  # a fixture that every test here uses
ARCHIVES = ["set.tar", "set.tar.gz", "set.tar.xz", "set.zip"]


def _decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def test_classes_of_a_folder_are_its_own_whatever_its_name():
    assert all(map(standard.is_known, KNOWN_DATA))
    for name in ("mine", "pathfinder-mine"):
        assert standard.own_names(name, ("cat", "dog")) != standard.own_names(name, ("ant", "dog"))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_every_image_arrives_once_with_its_label(tmp_path, suffix):
    files = class_files(suffix=suffix)
    data = load(str(write(tmp_path / "set", files)))
    assert data.info.name == "set"
    assert data.info.classes == ("ant", "bee", "cat")
    for split in ("train", "test"):
        expected = {
            _decoded(content).tobytes(): data.info.classes.index(name.split("/")[1])
            for name, content in files.items()
            if name.startswith(split)
        }
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        found = {
            image.numpy().tobytes(): label
            for image, label in zip(images, labels.tolist(), strict=True)
        }
        assert found == expected


@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("top", ["", "set/", "./set/"])
def test_an_archive_is_the_same_data_as_the_folder(tmp_path, archive, top):
    files = class_files() | {
        "train/cat/.hidden.png": b"",
        "README.txt": b"x",
        "__MACOSX/train/cat/._0.png": b"",
    }
    folder = load(str(write(tmp_path / "folder", files)))
    pack(tmp_path / archive, files, top)
    data = load("set", data_dir=tmp_path)
    assert data.info.fingerprint == folder.info.fingerprint
    assert (data.info.name, data.info.classes, data.info.notes) == ("set", folder.info.classes, ())
    assert load(archive, data_dir=tmp_path).info == data.info == load(str(tmp_path / archive)).info


def test_a_path_is_looked_for_where_it_leads():
    """A name is looked for in the data folders."""
    for name in (".", "..", "./mine", "../mine", "a/b", "/a", "~/a"):
        assert places.is_path(name), name
    for name in ("mine", "mine.zip", "mine/", ".mine", ""):
        assert not places.is_path(name), name


def test_names_of_any_length_are_kept_in_the_cache(tmp_path):
    source = tmp_path / ("\u732b" * 80)  # 240 bytes
    write(source, class_files())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = load(str(source), image_size=8)
    assert list((cache_dir() / "images").glob("*.npz"))
    odd = tmp_path / os.fsdecode(b"caf\xe9")  # no UTF-8
    assert len(load(str(write(odd, class_files()))).train_labels) > 0
    assert load(str(source), image_size=8).info == first.info
    assert len(finished.run_name({}, "f", "smoke", 0, source.name, "x" * 200).encode()) < 190


def test_the_order_is_mixed_fixed_and_complete(tmp_path):
    source = str(pack(tmp_path / "set.zip", class_files(counts=(40, 20), size=2)))
    data = load(source)
    changes = (data.test_labels[1:] != data.test_labels[:-1]).sum()
    assert changes > 20  # 2 if stored class by class, 40 expected at random
    assert torch.bincount(data.test_labels).tolist() == [20, 20, 20]
    shutil.rmtree(os.environ["TERMINATOR_CACHE"])
    assert load(source).info == data.info


def test_val_stands_in_for_test_and_is_left_out_beside_it(tmp_path):
    files = class_files(splits=("train/", "val/"))
    as_test = load(str(write(tmp_path / "a", files)))
    assert as_test.info.test_size == 9
    assert as_test.info.notes == ("val split used as test",)
    both = load(str(write(tmp_path / "b", files | class_files(splits=("test/",), counts=(2,)))))
    assert both.info.test_size == 6
    assert both.info.notes == ("9 images outside train and test not used",)


@pytest.mark.parametrize("split", ["", "train/", "top/", "top/train/"])
def test_without_a_test_split_a_fifth_of_each_class_is_held_out(tmp_path, split):
    files = class_files(splits=(split,), counts=(10,))
    data = load(str(write(tmp_path / "set", files)))
    assert torch.bincount(data.test_labels).tolist() == [2, 2, 2]
    assert torch.bincount(data.train_labels).tolist() == [8, 8, 8]
    together = {
        image.numpy().tobytes() for part in (data.train_images, data.test_images) for image in part
    }
    assert len(together) == 30
    assert data.info.notes == ("stratified 80/20 split, by the pictures' contents",)


def test_pictures_that_are_added_leave_the_others_in_their_part(tmp_path):
    def parts(folder):
        data = load(str(folder))
        return [
            {image.numpy().tobytes() for image in images}
            for images in (data.train_images, data.test_images)
        ]

    files = class_files(splits=("",), counts=(10,))
    before = parts(write(tmp_path / "set", files))
    renamed = {name.replace("/", "/x", 1): content for name, content in files.items()}
    assert parts(write(tmp_path / "renamed", renamed)) == before
    more = class_files(splits=("",), counts=(11,))
    kinds = {name.partition("/")[0] for name in more}
    after = parts(write(tmp_path / "more", more))
    assert len(after[1] & before[0]) <= len(kinds)  # one for each that was added
    assert len(before[1] - after[1]) <= len(kinds)


def test_files_that_change_places_are_decoded_again(tmp_path):
    """Though all have one date and size, as scripts and archives leave them."""
    pictures = {
        f"{kind}/{i}.bmp": encode(pixels_of(4, 4, seed=i + 10 * k), ".bmp")
        for k, kind in enumerate("ab")
        for i in range(5)
    }
    folder = write(tmp_path / "set", pictures)
    for path in folder.rglob("*.bmp"):
        os.utime(path, (1, 1))
    first = load(str(folder))
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    second = load(str(folder))
    assert first.info.fingerprint != second.info.fingerprint
    labels = [
        {
            image.numpy().tobytes(): int(label)
            for image, label in zip(data.train_images, data.train_labels)
        }
        for data in (first, second)
    ]
    both = labels[0].keys() & labels[1].keys()
    assert both
    assert all(labels[0][image] != labels[1][image] for image in both)


def test_a_jpeg_copy_of_a_standard_set_says_so(tmp_path):
    data = load(str(pack(tmp_path / "cifar10-jpeg.tar.xz", class_files(suffix=".jpg"))))
    assert data.info.title == "CIFAR-10 (JPEG)"
    assert data.info.notes == ("lossy JPEG copy of CIFAR-10",)


def _png(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", **options)
    return buffer.getvalue()


def test_grey_colour_and_transparent_images(tmp_path):
    grey = {f"{name}/{i}.png": _png(pixels_of(4, 4, seed=i)) for name in "ab" for i in range(5)}
    source = write(tmp_path / "grey", grey)
    assert load(str(source)).info.shape == (1, 4, 4)
    coloured = load(str(source), channels=3)
    assert torch.equal(coloured.train_images[:, 0], coloured.train_images[:, 2])
    clear = pixels_of(4, 4, 4)
    mixed = load(str(write(tmp_path / "mixed", grey | {"c/0.png": _png(clear)}))).info
    assert mixed.shape == (3, 4, 4)
    assert "grey images among coloured ones repeated to three channels" in mixed.notes
    luma = load(str(write(tmp_path / "colour", class_files())), channels=1)
    assert luma.info.shape == (1, 8, 8)


def test_every_class_keeps_a_picture_to_train_on_and_gives_one_to_test(tmp_path):
    counts = {"a": 20, "b": 1, "c": 2, "d": 4, "e": 1}
    files = {
        f"{name}/{i}.png": _png(pixels_of(4, 4, seed=100 * ord(name) + i))
        for name, count in counts.items()
        for i in range(count)
    }
    data = load(str(write(tmp_path / "set", files)))
    train, test = (labels.bincount(minlength=5) for labels in (data.train_labels, data.test_labels))
    assert (train + test).tolist() == list(counts.values())
    assert (train > 0).all()
    assert test.tolist()[1:] == [0, 1, 1, 0]
    assert "one picture alone, so trained on and not tested: b, e" in data.info.notes
    alone = {name: content for name, content in files.items() if name in ("b/0.png", "e/0.png")}
    with pytest.raises(DatasetCorrupt, match=r"one picture of every class \(b, e\), and nothing"):
        load(str(write(tmp_path / "alone", alone)))


def test_what_pictures_that_cannot_be_read_mean_is_one_of_two(tmp_path):
    with pytest.raises(ValueError, match="on_error is 'raise'; allowed: refuse, skip"):
        load(str(write(tmp_path / "set", class_files())), on_error="raise")


def test_photographs_are_turned_upright(tmp_path):
    pixels = pixels_of(4, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: rotate by 90 degrees clockwise
    files = class_files(size=4) | {"test/ant/0.png": _png(pixels, exif=exif)}
    images = load(str(write(tmp_path / "set", files))).test_images.numpy()
    assert (images == np.rot90(pixels, -1).transpose(2, 0, 1)).all((1, 2, 3)).any()


def test_sizes_that_differ_need_image_size(tmp_path):
    wide = write(
        tmp_path / "wide", class_files() | {"train/ant/x.png": encode(pixels_of(8, 12, 3))}
    )
    with pytest.raises(
        ValueError,
        match=r"train/ant/x.png in .* is not square \(12x8\): pass dataset.image_size=..",
    ):
        load(str(wide))
    mixed = write(
        tmp_path / "mixed", class_files() | {"train/ant/x.png": encode(pixels_of(9, 9, 3))}
    )
    with pytest.raises(ValueError, match="8 pixels a side, .*x.png has 9: pass dataset.image_size"):
        load(str(mixed))
    assert load(str(mixed), image_size=6).info.shape == (3, 6, 6)
    assert load(str(mixed), image_size=6).info.notes == ("resized to 6 pixels",)


def test_image_size_resizes_the_shorter_side_and_crops_the_centre(tmp_path):
    # 16 x 32, brighter to the right
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (16, 1))
    files = {f"{name}/{i}.png": _png(ramp) for name in "ab" for i in range(2)}
    data = load(str(write(tmp_path / "set", files)), image_size=8)
    whole = np.asarray(Image.fromarray(ramp).resize((16, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(data.train_images[0, 0], whole[:, 4:12])


# ---- damage
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("archive", [None, "set.tar", "set.zip"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_named_even_where_pil_is_told_to_accept_it(
    tmp_path, monkeypatch, archive, suffix
):
    files = class_files(suffix=suffix, size=32)
    files[f"train/bee/4{suffix}"] = files[f"train/bee/4{suffix}"][:-200]
    source = pack(tmp_path / archive, files) if archive else write(tmp_path / "set", files)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(
        DatasetCorrupt, match=f"train/bee/4{suffix} in .*{source.name} is corrupt or truncated"
    ):
        load(str(source))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert not list(Path(os.environ["TERMINATOR_CACHE"]).rglob("*.npz"))


def test_an_empty_file_and_sixteen_bits_are_named(tmp_path):
    with pytest.raises(DatasetCorrupt, match="train/cat/x.png"):
        load(str(write(tmp_path / "a", class_files() | {"train/cat/x.png": b""})))
    deep = _png(np.full((8, 8), 40000, dtype=np.uint16))
    with pytest.raises(ValueError, match="train/cat/x.png .* pixel mode I;16"):
        load(str(write(tmp_path / "b", class_files() | {"train/cat/x.png": deep})))


@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.8])
def test_a_truncated_archive_is_named(tmp_path, archive, keep):
    source = pack(tmp_path / archive, class_files(size=16))
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DatasetCorrupt, match=f"{archive} "):
        load(str(source))


def test_no_cut_of_a_tar_goes_unnoticed(tmp_path):
    source = pack(tmp_path / "set.tar", class_files(counts=(2, 1), classes=("ant", "bee"), size=2))
    content = source.read_bytes()
    with tarfile.open(source) as tar:
        end = max(member.offset_data + 512 for member in tar)
    # inside headers, inside data, and exactly between two members
    for keep in range(0, end + 1, 256):
        source.write_bytes(content[:keep])
        with pytest.raises(DatasetCorrupt, match=r"set\.tar "):
            load(str(source))


def test_a_damaged_header_does_not_end_a_tar_quietly(tmp_path):
    source = pack(tmp_path / "set.tar", class_files())
    content = bytearray(source.read_bytes())
    with tarfile.open(source) as tar:
        middle = tar.getmembers()[10].offset
    content[middle + 5] ^= 255
    source.write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=f"no end-of-archive mark at byte {middle}"):
        load(str(source))


def test_a_flipped_bit_in_a_gzip_is_noticed(tmp_path):
    source = pack(tmp_path / "set.tar.gz", class_files(size=24))
    content = bytearray(source.read_bytes())
    content[-6] ^= 1  # in the stored check sum
    source.write_bytes(content)
    with pytest.raises(DatasetCorrupt, match="set.tar.gz cannot be read"):
        load(str(source))


def test_links_and_hostile_names_in_a_tar_write_nothing(tmp_path):
    files = class_files() | {"../outside/train/x.png": b"never unpacked"}
    load(str(pack(tmp_path / "a.tar", files)))
    assert not list(tmp_path.rglob("x.png"))
    with tarfile.open(pack(tmp_path / "b.tar", class_files()), "a") as tar:
        link = tarfile.TarInfo("train/cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.png"
        tar.addfile(link)
    with pytest.raises(DatasetCorrupt, match=r"train/cat/link.png in .*b.tar is a link"):
        load(str(tmp_path / "b.tar"))


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"train/readme.txt": b"x"}, "no images found in .*set: expected {train,test}/<class>"),
        ({"train/0.png": b"", "test/0.png": b""}, "train/0.png in .* lies in no class folder"),
        ({"a/0.png": b"", "b/0.png": b"", "0.png": b""}, "0.png in .* lies in no class folder"),
        ({"a/0.png": b"", "a/1.png": b""}, r"only one class \(a\)"),
        ({"test/a/0.png": b"", "test/b/1.png": b""}, "no train folder"),
        ({"train/a/0.png": b"", "train/b/0.png": b"", "test/c/1.png": b""}, "not in train: c"),
    ],
)
def test_layouts_that_cannot_be_used_are_explained(tmp_path, files, match):
    with pytest.raises(ValueError, match=match):
        load(str(write(tmp_path / "set", files)))


# ---- cache
# -----------------------------------------------------------------------------------------------


def test_the_cache_is_used_and_follows_changes(tmp_path, monkeypatch):
    source = pack(tmp_path / "set.zip", class_files())
    first = load(str(source))
    with monkeypatch.context() as patch:
        patch.setattr("terminator.data.reading.read_files", lambda *_: pytest.fail("decoded again"))
        assert load(str(source)).info == first.info
        assert load(str(source), train_size=3).info.train_size == 3
    assert load(str(source), image_size=4).info.shape == (3, 4, 4)
    pack(source, class_files(classes=("cat", "dog", "owl")))
    os.utime(source, ns=(1, 1))
    assert load(str(source)).info.classes == ("cat", "dog", "owl")
    folder = write(tmp_path / "folder", class_files())
    before = cache_file(folder, None, None)
    write(folder, {"train/cat/new.png": encode(pixels_of(8, 8, 3))})
    assert cache_file(folder, None, None) != before
    assert load(str(folder)).info.train_size == 19


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_corrupt_cache_is_rebuilt_with_a_warning(tmp_path, damage):
    source = pack(tmp_path / "set.zip", class_files(size=32))
    first = load(str(source))
    cached = cache_file(source, None, None)
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 255
    cached.write_bytes({"cut": content[:-999], "flipped": content, "empty": b""}[damage])
    with pytest.warns(RuntimeWarning, match="making .* again"):
        assert load(str(source)).info == first.info
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(str(source)).info == first.info


def test_a_cache_that_cannot_be_written_only_warns(tmp_path, monkeypatch):
    blocked = write(tmp_path, {"blocked": b"a file where the folder should be"}) / "blocked"
    monkeypatch.setenv("TERMINATOR_CACHE", str(blocked))
    with pytest.warns(RuntimeWarning, match="could not be kept"):
        assert load(str(pack(tmp_path / "set.zip", class_files()))).info.train_size == 18


# ---- real data, where it is
# ------------------------------------------------------------------------------


REAL_DATA = os.environ.get("TERMINATOR_DATA")  # read before the fixture hides it


def _real(*names):
    if not REAL_DATA or not any((Path(REAL_DATA) / name).exists() for name in names):
        pytest.skip(f"{names[0]} is not in TERMINATOR_DATA")
    return REAL_DATA


def test_real_mnist():
    data = load("MNIST", data_dir=_real("MNIST"), download=False)
    assert (data.info.train_size, data.info.test_size) == (60000, 10000)
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.info.mean == pytest.approx((0.1307,), abs=1e-4)
    assert data.info.std == pytest.approx((0.3081,), abs=1e-4)


@pytest.mark.slow
def test_real_cifar10_as_jpeg():
    data = load("cifar10-jpeg", data_dir=_real("cifar10-jpeg.tar.xz", "cifar10-jpeg"))
    assert data.info.shape == (3, 32, 32)
    assert torch.bincount(data.train_labels).tolist() == [5000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert data.info.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert "lossy JPEG copy of CIFAR-10" in data.info.notes
