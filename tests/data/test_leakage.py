"""Nothing is trained on and tested on: it leaves the training part, or an error or a note names
it.
"""

import numpy as np
import pytest
from data_files import class_files, encode, own_places, pack, pixels_of, write
from segmentation_files import camvid_files, make_voc

from terminator.data import load
from terminator.data.leakage import apart
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.sequences import byte_files, text

__all__ = ["own_places"]  # a fixture that every test here uses


def test_what_is_shared_leaves_and_is_named():
    assert apart("abcd", [1, 2, 3, 4], [0, 0, 1, 1], {9}, "images") == ([0, 1, 2, 3], [])
    stay, notes = apart("abcd", [1, 2, 3, 4], [0, 0, 1, 1], {2, 4, 9}, "images")
    assert (stay, notes) == (
        [0, 2],
        ["2 training images are in the test part as well (b, d): left out of the training part"],
    )
    stay, (note,) = apart("abcd", [1, 2, 3, 4], [0, 0, 1, 1], {1, 2}, "texts", "val")
    assert stay == [0, 1, 2, 3]
    assert note == (
        "2 training texts are in the val part as well (a, b): kept, as a class would have no "
        "others to be trained on"
    )
    stay, (note,) = apart("abcd", [1, 2, 3, 4], [0, 0, 1, 1], {1}, "texts", published=True)
    assert stay == [0, 1, 2, 3]
    assert note.endswith("(a): kept, as the published split has them")


@pytest.mark.parametrize("packed", ["", ".zip", ".tar"])
@pytest.mark.parametrize("other", ["test", "val", "Testing"])
def test_pictures_of_class_folders(tmp_path, packed, other):
    files = class_files(("train/", f"{other}/"))
    copies = {f"train/bee/copy{i}.png": files[f"{other}/bee/{i}.png"] for i in range(2)}
    # under another class as well
    files |= copies | {"train/cat/of_bee.png": files[f"{other}/bee/2.png"]}
    source = pack(tmp_path / f"set{packed}", files) if packed else write(tmp_path / "set", files)
    data = load(str(source))
    assert (data.info.train_size, data.info.test_size) == (18, 9)
    train, test = (
        {image.numpy().tobytes() for image in images}
        for images in (data.train_images, data.test_images)
    )
    assert not train & test
    assert data.info.notes[-1] == (
        "3 training images are in the test part as well (train/bee/copy0.png, train/bee/copy1.png, "
        "train/cat/of_bee.png): left out of the training part"
    )
    assert load(str(source)).info == data.info  # from the cache


def test_copies_on_both_sides_of_a_split_of_ours(tmp_path):
    files = class_files(("",), (10,))
    data = load(
        str(
            write(
                tmp_path / "set",
                files | {name.replace("/", "/again_"): content for name, content in files.items()},
            )
        )
    )
    train, test = (
        {image.numpy().tobytes() for image in images}
        for images in (data.train_images, data.test_images)
    )
    assert not train & test  # a copy lies where its original does, or leaves the training part
    assert len(train | test) == 30


def test_labelled_pictures_by_content(tmp_path):
    files = camvid_files()
    for part, other in (
        ("train/900", "test/009"),
        ("train/901", "val/006"),
        ("val/902", "test/010"),
    ):
        split, number = part.split("/")
        kind, old = other.split("/")
        files[f"{split}/{number}.png"] = files[f"{kind}/{old}.png"]
        files[f"{split}annot/{number}.png"] = files[f"{kind}annot/{old}.png"]
    data = load_segmentation(str(write(tmp_path / "set", files)))
    assert data.info.sizes == {"train": 6, "val": 3, "test": 4}
    assert (
        data.info.fingerprint
        == load_segmentation(str(write(tmp_path / "plain", camvid_files()))).info.fingerprint
    )
    assert data.info.notes[:3] == (
        "1 validation pictures are in the test part as well (val/902.png): left out of the "
        "validation part",
        "1 training pictures are in the test part as well (train/900.png): left out of the "
        "training part",
        "1 training pictures are in the val part as well (train/901.png): left out of the training "
        "part",
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_labelled_pictures_that_are_all_the_same_are_refused(tmp_path, split):
    files = camvid_files()
    tests = [name for name in files if name.startswith("test/")]
    files = {
        name: content
        for name, content in files.items()
        if not name.startswith((f"{split}/", f"{split}annot/"))
    }
    for name in tests:
        files[name.replace("test/", f"{split}/")] = files[name]
        files[name.replace("test/", f"{split}annot/")] = files[name.replace("test/", "testannot/")]
    with pytest.raises(
        ValueError, match=f"has the same pictures in {split} and test .*{split}/009.png"
    ):
        load_segmentation(str(write(tmp_path / "set", files)))


def handed_around(root, names, also):
    """trainaug.txt and SegmentationClassAug/, as they are often handed around."""
    make_voc(root)
    base = "VOCdevkit/VOC2012"
    write(
        root,
        {f"{base}/ImageSets/Segmentation/trainaug.txt": "\n".join(names).encode()}
        | {
            f"{base}/SegmentationClassAug/{name}.png": encode(np.full((20, 30), 7, np.uint8))
            for name in names
        }
        | {f"{base}/JPEGImages/{name}.jpg": encode(pixels_of(20, 30, 3), ".jpg") for name in also},
    )


def test_an_augmented_list_that_names_validation_pictures(tmp_path):
    names = ["2007_000000", "2008_000001", "2009_000005", "2007_000000", "2008_000000"]
    handed_around(tmp_path, names, ["2009_000005"])
    data = load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")
    assert [file.image.stem for file in data.splits["train"].files] == [
        "2007_000000",
        "2009_000005",
    ]
    assert data.info.sizes == {"train": 2, "val": 2}
    assert data.info.notes == (
        "trained on 2 pictures of trainaug",
        "1 names stand more than once in the list trainaug (2007_000000): taken once",
        "2 training pictures are in the val part as well (2008_000001, 2008_000000): left out of "
        "the training part",
    )
    handed_around(tmp_path, ["2008_000001"], [])
    with pytest.raises(
        ValueError, match="the lists trainaug and val in .* name the same pictures .2008_000001"
    ):
        load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")


@pytest.mark.parametrize(
    "lines", ["2007_000000\n2007_000001\n2008_000000\n", "2007_000000\n2007_000001\n2007_000000"]
)
def test_vocs_own_lists(tmp_path, lines):
    make_voc(tmp_path)
    write(tmp_path, {"VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt": lines.encode()})
    data = load_segmentation("voc2012", data_dir=tmp_path, train="train")
    assert data.info.sizes == {"train": 2, "val": 2}
    assert len(data.info.notes) == 2


def test_sbd_without_vocs_validation_pictures_says_so(tmp_path):
    make_voc(tmp_path, sbd=2)
    data = load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")
    assert data.info.notes[1].startswith(
        "1 training pictures are in the val part as well (2008_000000): left out"
    )


def reviews(**more):
    return {
        f"{split}/{kind}/{i}.txt": f"{split}{kind}{i}".encode()
        for split in ("train", "test")
        for kind in ("neg", "pos")
        for i in range(4)
    } | {name.replace("__", "/") + ".txt": content for name, content in more.items()}


def test_reviews(tmp_path, monkeypatch):
    files = reviews(
        train__pos__copy=b"testneg1", train__neg__copy=b"testneg1", train__neg__again=b"testpos0"
    )
    splits = text.read_reviews(write(tmp_path / "imdb", files))
    assert {split: len(part) for split, part in splits.items()} == {"train": 8, "test": 8}
    (note,) = splits["train"].notes
    assert note.startswith("3 training reviews are in the test part as well (example ")
    assert note.endswith("left out of the training part")
    monkeypatch.setattr(text, "PUBLISHED", 8)
    published = text.read_reviews(write(tmp_path / "published", reviews(train__pos__3=b"testneg1")))
    assert len(published["train"]) == 8
    assert published["train"].notes[0].endswith("kept, as the published split has them")
    assert text.halves(published["train"]).notes == published["train"].notes


def test_byte_files_with_copies(tmp_path):
    files = {
        f"{kind}/{i}.exe": f"{kind} {i}".encode()
        for kind in ("benign", "malware")
        for i in range(10)
    }
    files |= {
        f"{kind}/copy{i}.exe": f"{kind} {i}".encode()
        for kind in ("benign", "malware")
        for i in range(10)
    }
    splits = byte_files.load_byte_files(write(tmp_path / "files", files), 30)
    train, test = (
        {part.texts[0][i] for i in range(len(part))} for part in (splits["train"], splits["test"])
    )
    assert not train & test
    assert "training files are in the test part as well" in splits["train"].notes[0]
