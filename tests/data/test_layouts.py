"""Which folders are splits, which are classes, and what is said of the rest: in the notes and on
the terminal.
"""

import io
import tarfile

import pytest
from data_files import class_files, encode, own_places, pack, pixels_of, write
from segmentation_files import camvid_files

from terminator.__main__ import main
from terminator.data import load
from terminator.data.decoder import FORMATS
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.sequences import byte_files, text

__all__ = ["own_places"]  # a fixture that every test here uses
TRAINS = ["train", "Train", "TRAIN", "training", "Training"]
TESTS = ["test", "Test", "TEST", "testing", "Testing"]
VALS = ["val", "Val", "valid", "Valid", "validation", "VALIDATION", "dev"]


def renamed(files, **names):
    """The files with other names for their top folders."""
    return {
        f"{names.get(name.split('/')[0], name.split('/')[0])}/{name.partition('/')[2]}": content
        for name, content in files.items()
    }


@pytest.mark.parametrize(
    ("train", "test"), [*zip(TRAINS, TESTS), ("Training", "test"), *(("train", v) for v in VALS)]
)
@pytest.mark.parametrize("top", ["", "top/", "a/b/"])
def test_names_of_splits_in_any_case(tmp_path, train, test, top):
    files = class_files()
    plain = load(str(write(tmp_path / "plain", files))).info
    found = renamed(files, train=train, test=test)
    info = load(
        str(write(tmp_path / "set", {top + name: content for name, content in found.items()}))
    ).info
    assert (info.fingerprint, info.classes, info.train_size, info.test_size) == (
        plain.fingerprint,
        ("ant", "bee", "cat"),
        18,
        9,
    )
    assert info.notes == (() if test in TESTS else (f"{test} split used as test",))


@pytest.mark.parametrize("val", VALS)
def test_a_validation_part_beside_a_test_part_is_said_not_to_be_used(tmp_path, val):
    files = class_files() | renamed(class_files(("val/",), (2,)), val=val)
    info = load(str(pack(tmp_path / "set.zip", files))).info
    assert info.test_size == 9
    assert info.notes == ("6 images outside train and test not used",)


@pytest.mark.parametrize(
    "names",
    [
        ("Part1", "Part2"),
        ("fold_a", "fold_b"),
        ("Trn", "Tst"),
        ("day", "night"),
        ("TRAINING DATA", "TEST DATA"),
        ("testing", "others"),
        ("valid", "invalid"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_folders_that_hold_the_same_folders_are_refused(tmp_path, names, packed):
    files = renamed(class_files(), train=names[0], test=names[1])
    source = pack(tmp_path / "set.tar.gz", files) if packed else write(tmp_path / "set", files)
    with pytest.raises(
        ValueError,
        match=f"has the folders {min(names)} and {max(names)}, which both hold ant, bee, cat: "
        "are they parts of a split.* Expected {train,test}/<class>",
    ):
        load(str(source))


@pytest.mark.parametrize("names", [("train", "Training"), ("test", "testing"), ("val", "dev")])
def test_two_folders_for_one_part_are_refused(tmp_path, names):
    files = (
        class_files()
        | renamed(class_files(("x/",), (2,)), x=names[0])
        | renamed(class_files(("x/",), (2,)), x=names[1])
    )
    with pytest.raises(
        ValueError, match=f"has the folders {min(names)} and {max(names)}, both for {names[0]}"
    ):
        load(str(write(tmp_path / "set", files)))


@pytest.mark.parametrize(
    "classes",
    [
        ("valid", "invalid"),
        ("training", "racing"),
        ("dev", "prod"),
        ("Test", "Drive"),
        ("validation", "zebra"),
    ],
)
def test_classes_may_be_called_like_parts(tmp_path, classes):
    info = load(str(write(tmp_path / "set", class_files(("",), (5,), classes)))).info
    assert info.classes == tuple(sorted(classes))


@pytest.mark.parametrize("names", [("Train", "Test"), ("train", "test"), ("TRAINING", "val")])
def test_pictures_without_class_folders_do_not_make_the_parts_classes(tmp_path, names):
    files = {
        f"{name}/{i}.png": encode(pixels_of(8, 8, 3, seed=i)) for name in names for i in range(4)
    }
    with pytest.raises(ValueError, match="0.png in .* lies in no class folder"):
        load(str(write(tmp_path / "set", files)))


def test_inner_folders_of_classes_are_still_just_folders(tmp_path):
    files = {
        f"{name}/{inner}/{i}.png": encode(pixels_of(8, 8, 3, seed=ord(name) + i))
        for name in "ab"
        for i, inner in enumerate(("images", f"{name}1", f"{name}2"))
    }
    assert load(str(write(tmp_path / "set", files))).info.classes == ("a", "b")


# -- what is dropped -------------------------------------------------------------------------------


def test_empty_classes_and_unread_files_are_notes(tmp_path):
    files = class_files() | {
        "train/yak/1.heic": b"x",
        "train/yak/2.heic": b"x",
        "train/cat/a.txt": b"x",
        "train/cat/b.xml": b"x",
        "README.md": b"x",
        "train/classes.txt": b"x",
    }
    root = write(tmp_path / "set", files)
    (root / "train" / "zebra").mkdir()
    (root / "train" / ".cache").mkdir()
    assert load(str(root)).info.notes == (
        "no class, as no picture in it is read: yak, zebra",
        "4 files in class folders not read: .heic (2), .txt (1), .xml (1)",
    )
    packed = load(str(pack(tmp_path / "packed.zip", files | {"train/zebra/": b""}))).info
    assert packed.notes[0] == "no class, as no picture in it is read: yak, zebra"
    (root / "train" / "lost").symlink_to(tmp_path / "nowhere")
    assert "left out: train/lost is a link that leads nowhere" in load(str(root)).info.notes


def test_a_class_that_is_empty_later_is_noticed_in_spite_of_the_cache(tmp_path):
    root = write(tmp_path / "set", class_files())
    assert load(str(root)).info.notes == ()
    (root / "train" / "zebra").mkdir()
    assert load(str(root)).info.notes == ("no class, as no picture in it is read: zebra",)


def test_without_splits_empty_top_folders_are_said(tmp_path):
    root = write(
        tmp_path / "set", class_files(("",), (5,)) | {"owl/1.cr2": b"x", "notes/a.md": b"x"}
    )
    (root / "test").mkdir()
    assert (
        load(str(root)).info.notes[0] == "no class, as no picture in it is read: notes, owl, test"
    )


def test_many_are_counted_and_what_a_terminal_obeys_is_spelt_out(tmp_path):
    root = write(tmp_path / "set", class_files(("",), (5,)))
    for i in range(20):
        (root / f"empty\x1b[31m{i:02d}").mkdir()
    (note, *_) = load(str(root)).info.notes
    assert "empty\\x1b[31m00" in note
    assert note.endswith("and 12 more")
    assert note.isprintable()


def test_only_unread_files_say_what_they_are(tmp_path):
    with pytest.raises(ValueError, match=r"no images found in .*; found .heic \(4\), .txt \(1\)"):
        load(
            str(
                write(
                    tmp_path / "set",
                    {f"{k}/{i}.HEIC": b"x" for k in "ab" for i in "01"} | {"a/x.txt": b""},
                )
            )
        )


def test_a_name_that_stands_twice_in_an_archive(tmp_path):
    files = class_files()
    with tarfile.open(pack(tmp_path / "set.tar", files), "a") as tar:
        member = tarfile.TarInfo("train/cat/0.png")
        content = encode(pixels_of(8, 8, 3, seed=77))
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    data = load(str(tmp_path / "set.tar"))
    assert data.info.train_size == 18
    assert data.info.notes == (
        "1 names stand more than once in the archive (train/cat/0.png): the last counts",
    )


def test_a_class_folder_that_no_record_can_name_is_refused(tmp_path):
    root = write(tmp_path / "set", class_files(("",), (3,)))
    wrong = bytes(root) + b"/caf\xe9"
    import os

    os.mkdir(wrong)
    with open(wrong + b"/0.png", "wb") as file:
        file.write(encode(pixels_of(8, 8, 3)))
    with pytest.raises(ValueError, match="whose name is not UTF-8: rename it"):
        load(str(root))


def train_lines(tmp_path, source, capsys, *more):
    settings = [
        f"dataset.name={source}",
        "dataset.image_size=8",
        "dataset.crop_padding=0",
        "model.factors=[4,1]",
        "model.global_hidden=4",
        "model.local_hidden=4",
        "scheduler.warmup_epochs=0",
        "train.epochs=1",
        "train.batch_size=4",
        "train.device=cpu",
        *more,
    ]
    assert main(["train", "preset=own", *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "train.batch_size=" in lines[0]  # what the preset fits to few images is said first
    return lines[1:]


def test_train_says_classes_counts_and_notes_before_it_starts(tmp_path, capsys):
    files = class_files(counts=(6, 3)) | {"train/yak/1.heic": b"x"}
    files["train/cat/9.png"] = files["test/cat/0.png"]
    found = train_lines(tmp_path, write(tmp_path / "pets", files), capsys)
    first = next(i for i, line in enumerate(found) if line.startswith("epoch"))
    assert found[:first] == [
        "pets: 3 classes, 18 training and 9 test images of 3x8x8",
        "  ant  6 to train, 3 to test",
        "  bee  6 to train, 3 to test",
        "  cat  6 to train, 3 to test",
        "note: no class, as no picture in it is read: yak",
        "note: 1 files in class folders not read: .heic (1)",
        "note: 1 training images are in the test part as well (train/cat/9.png): left out of the "
        "training part",
    ]


def test_train_says_many_classes_in_few_lines(tmp_path, capsys):
    files = class_files(counts=(2, 1), classes=tuple(f"c{i:02d}" for i in range(25)))
    found = train_lines(tmp_path, write(tmp_path / "many", files), capsys)
    assert found[20:22] == [
        "  c19  2 to train, 1 to test",
        "  and 5 more classes, of 2 to 2 images to train, 1 to 1 to test",
    ]


def test_the_list_of_formats_is_documented():
    from places import ROOT

    text = (ROOT / "docs" / "own-data.md").read_text(encoding="utf8")
    for kind, suffixes in FORMATS.items():
        assert all(f"{suffix}," in text or f"{suffix} |" in text for suffix in suffixes), kind


# -- the same names elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "test"), [("Train", "Valid", "TEST"), ("training", "dev", "testing")]
)
def test_labelled_pictures(tmp_path, train, val, test):
    names = {"train": train, "val": val, "test": test}
    names |= {f"{old}annot": f"{new}Annot" for old, new in names.items()}
    files = camvid_files()
    plain = load_segmentation(str(write(tmp_path / "plain", files))).info
    found = load_segmentation(str(write(tmp_path / "set", renamed(files, **names)))).info
    assert found.fingerprint == plain.fingerprint
    with pytest.raises(ValueError, match="two files for one picture"):
        load_segmentation(
            str(write(tmp_path / "twice", files | {"training/000.png": files["train/000.png"]}))
        )


@pytest.mark.parametrize("names", [{}, {"train": "Train", "test": "Testing"}])
def test_reviews_and_byte_files(tmp_path, names):
    reviews = {
        f"{split}/{kind}/{i}.txt": f"{split}{kind}{i}".encode()
        for split in ("train", "val", "test")
        for kind in ("neg", "pos")
        for i in range(3)
    }
    reviews = renamed(reviews, val="Validation", **names)
    more = {
        f"{names.get('train', 'train')}/pos/1.html": b"x",
        f"{names.get('train', 'train')}/urls.txt": b"x",
    }
    splits = text.read_reviews(write(tmp_path / "imdb", reviews | more))
    assert splits["train"].notes == (
        f"1 files beside the reviews not read ({names.get('train', 'train')}/pos/1.html)",
    )
    assert {split: len(part) for split, part in splits.items()} == {"train": 6, "val": 6, "test": 6}
    files = {
        name.replace("neg", "benign").replace("pos", "malware"): content
        for name, content in reviews.items()
    }
    splits = byte_files.load_byte_files(
        write(tmp_path / "files", renamed(files, Validation="dev")), 20
    )
    assert {split: len(part) for split, part in splits.items()} == {"train": 6, "val": 6, "test": 6}
