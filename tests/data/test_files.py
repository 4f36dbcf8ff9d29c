"""What is data and what is not, for every reader alike: litter, links, loops, devices, pipes."""

import os
import socket
import time

import numpy as np
import pytest
from data_files import class_files, own_places, pack, pixels_of, write
from segmentation_files import camvid_files

from terminator.data import DatasetCorrupt, available, load
from terminator.data.episodes.sources import load_classes
from terminator.data.files import is_data, list_files, list_source, read_file
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.sequences import byte_files, listops, text

__all__ = ["own_places"]  # a fixture that every test here uses
LITTER = [
    ".hidden",
    "._0.png",
    ".DS_Store",
    ".~lock.0.png#",
    "Thumbs.db",
    "thumbs.DB",
    "desktop.ini",
    "~$0.png",
    "0.png~",
    "#0.png#",
    "Icon\r",
    "ehthumbs.db",
]
LITTERED_FOLDERS = [
    "__MACOSX",
    ".git",
    ".ipynb_checkpoints",
    "@eaDir",
    "$RECYCLE.BIN",
    "__pycache__",
    ".Trash-1000",
]


@pytest.mark.parametrize("name", [*LITTER, *(f"{folder}/a/0.png" for folder in LITTERED_FOLDERS)])
def test_litter(name):
    assert not is_data(name)
    assert not is_data(f"train/cat/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "cat/0.png",
        "/cat/0.png",
        "./cat/0.png",
        "c#/1.png",
        "#1/a.png",
        "lost/x",
        "~ cat/1.png",
        "macosx/1.png",
    ],
)
def test_no_litter(name):
    assert is_data(name)


def littered(names, content=b"rubbish"):
    """{name: rubbish} in every folder of these names, and beside the highest."""
    folders = sorted({name.rpartition("/")[0] for name in names})
    found = {f"{folder}/{litter}": content for folder in folders for litter in LITTER}
    suffix = names[0].rpartition(".")[2]
    found |= {f"{folder}/._{number}.{suffix}": content for folder in folders for number in range(3)}
    return found | {
        f"{folder}/{name}": content for folder in LITTERED_FOLDERS for name in names[:3]
    }


def review_files():
    return {
        f"{split}/{kind}/{i}_1.txt": f"{split} {kind} {i} {'x' * i}".encode()
        for split in ("train", "test")
        for kind in ("neg", "pos")
        for i in range(4)
    }


def of_classes(root, name):
    return load(str(root / name), image_size=8).info.fingerprint


def of_streets(root, name):
    return load_segmentation(str(root / name)).info.fingerprint


def of_reviews(root, name):
    splits = text.read_reviews(root / name)
    return [
        (split, part.texts[0].values.tolist(), part.labels.tolist())
        for split, part in splits.items()
    ]


def of_bytes(root, name):
    splits = byte_files.load_byte_files(str(root / name), 40)
    return [
        (split, part.texts[0].values.tolist(), part.labels.tolist())
        for split, part in splits.items()
    ]


def byte_names():
    return {
        f"{kind}/{i}.exe": f"{kind} {i}".encode()
        for kind in ("benign", "malware")
        for i in range(6)
    }


KINDS = {
    "classes": (class_files, of_classes),
    "streets": (camvid_files, of_streets),
    "reviews": (review_files, of_reviews),
    "bytes": (byte_names, of_bytes),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", ["", ".zip", ".tar.gz"])
def test_litter_changes_nothing(tmp_path, kind, packed):
    make, read = KINDS[kind]
    files = make()
    write(tmp_path / "clean", files)
    dirty = files | littered(list(files))
    if packed:
        pack(tmp_path / f"dirty{packed}", dirty)
    else:
        write(tmp_path / "dirty", dirty)
    assert read(tmp_path, "clean") == read(tmp_path, f"dirty{packed}")


def test_litter_beside_arrays(tmp_path):
    for name in ("omniglot", "miniimagenet"):
        array = pixels_of(3, 4, 5, 5)
        folder = tmp_path / "a" / name
        folder.mkdir(parents=True)
        np.save(folder / "part.npy", array)
        for litter in ("._part.npy", ".part.npy", "part.npy~"):
            (folder / litter).write_bytes(b"rubbish")
        (tmp_path / "a" / f"._{name}_ch_first.npy").write_bytes(b"rubbish")
        assert np.array_equal(
            load_classes(name, tmp_path / "a").images.numpy().reshape(array.shape), array
        )


# -- links, loops, devices, pipes ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_specials_under_unwanted_names_disturb_nothing(tmp_path, kind):
    make, read = KINDS[kind]
    files = make()
    expected = read(write(tmp_path / "clean", files).parent, "clean")
    root = write(tmp_path / "set", files)
    folder = root / next(iter(files)).rpartition("/")[0]
    # there every file is wanted, whatever its suffix
    extra = [] if kind == "bytes" else ["notes.doc", "link.md"]
    for name in [".dangling.png", ".#0.png", "0.png~", *extra]:
        (folder / name).symlink_to(tmp_path / "nowhere")
    (root / "README.lnk").symlink_to("README.lnk")  # to itself
    for name in ("once", "twice", "thrice"):  # loops upon loops
        (folder / name).symlink_to(root)
        (root / name).symlink_to(folder.parent)
    os.mkfifo(root / ".pipe")
    os.mkfifo(root / "pipe.fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(root / "control.sock"))
        began = time.monotonic()
        assert read(tmp_path, "set") == expected
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("classes", "train/cat/x.png"),
        ("classes", "test/ant/x.jfif"),
        ("streets", "train/x.png"),
        ("streets", "trainannot/x.png"),
        ("reviews", "test/pos/x.txt"),
        ("bytes", "malware/x.exe"),
        ("bytes", "benign/x"),
    ],
)
@pytest.mark.parametrize("what", ["nowhere", "itself", "pipe", "device", "a pipe's link"])
def test_links_and_specials_under_wanted_names_are_named(tmp_path, kind, name, what):
    make, read = KINDS[kind]
    path = write(tmp_path / "set", make()) / name
    if what == "pipe":
        os.mkfifo(path)
    elif what == "a pipe's link":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    else:
        path.symlink_to(
            {"nowhere": tmp_path / "nowhere", "itself": path, "device": "/dev/zero"}[what]
        )
    words = (
        "device or pipe; allowed: regular"
        if "pipe" in what or what == "device"
        else "link that leads nowhere"
    )
    with pytest.raises(DatasetCorrupt, match=f"{name} in .*set .*{words}"):
        read(tmp_path, "set")


def test_arrays_that_are_no_files_are_named(tmp_path):
    os.mkfifo(tmp_path / "my_omniglot_ch_first.npy")
    with pytest.raises(DatasetCorrupt, match="my_omniglot_ch_first.npy is no regular file"):
        load_classes("omniglot", tmp_path)


def test_links_to_files_and_folders_are_followed_once(tmp_path):
    files = class_files()
    plain = of_classes(write(tmp_path / "plain", files).parent, "plain")
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "test").symlink_to(tmp_path / "plain" / "test")
    for name in ("cat", "bee"):
        (tmp_path / "set" / "train" / name).symlink_to(tmp_path / "plain" / "train" / name)
    (tmp_path / "set" / "train" / "ant").mkdir()
    for file in (tmp_path / "plain" / "train" / "ant").iterdir():
        (tmp_path / "set" / "train" / "ant" / file.name).symlink_to(file)
    assert of_classes(tmp_path, "set") == plain
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set" / "train" / "ant")
    found = list_source(tmp_path / "set")
    assert found.lost == ["again is the folder train/ant once more"]
    assert len(found.files) == len(files)


def test_a_named_file_that_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name, words in (
        ("pipe.png", "device or pipe"),
        ("zero.png", "device or pipe"),
        ("absent.png", "cannot be read"),
    ):
        with pytest.raises(DatasetCorrupt, match=f"{name} .*{words}"):
            read_file(tmp_path / name)


def test_a_data_folder_with_strange_things_can_be_listed(tmp_path):
    write(tmp_path / "photos", class_files(splits=("",), counts=(3,)))
    os.mkfifo(tmp_path / "x.zip")
    (tmp_path / "y.tar").symlink_to(tmp_path / "y.tar")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [row.name for row in available(tmp_path)][-1] == "photos"


def test_names_are_in_one_order(tmp_path):
    write(
        tmp_path / "set",
        {name: b"" for name in ("b/2.png", "b/1.png", "a/x/1.png", "a/0.png", "c.png")},
    )
    assert list_files(tmp_path / "set") == ["c.png", "a/0.png", "a/x/1.png", "b/1.png", "b/2.png"]
    assert list_files(tmp_path / "set", limit=2) == ["c.png", "a/0.png"]


def test_released_listops_beside_litter(tmp_path):
    for split in ("train", "val", "test"):
        write(
            tmp_path,
            {
                f"basic_{split}.tsv": b"Source\tTarget\n[MAX 1 2 ]\t2\n",
                f"._basic_{split}.tsv": b"rubbish",
            },
        )
    assert len(listops.read_released(tmp_path)["train"]) == 1


def test_citation_pairs_beside_litter(tmp_path):
    for split in ("train", "eval", "test"):
        line = b"1\ta\tb\tone\ttwo\n"
        write(
            tmp_path,
            {
                f"pairs.{split}.tsv": line,
                f"._pairs.{split}.tsv": b"rubbish",
                f".a.{split}.tsv": b"rubbish",
            },
        )
    assert len(text.load_aan(tmp_path)["val"]) == 1
