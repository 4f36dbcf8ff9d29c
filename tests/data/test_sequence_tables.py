"""The long range arena's own files, and packed files beside unpacked ones: read, or refused by
name.
"""

import gzip
import io
import zipfile

import numpy as np
import pytest
from data_files import make_mnist, own_places, pack, write

from terminator.data import DatasetCorrupt, DatasetNotFound, available, load
from terminator.data.episodes.sources import load_classes
from terminator.data.files import find_source
from terminator.data.pictures.segmentation import load_segmentation
from terminator.data.sequences import byte_files, listops, tables, text
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.data import load_long_range
from terminator.runtime.settings import from_dict

__all__ = ["own_places"]  # a fixture that every test here uses
EXPRESSIONS = {
    f"basic_{split}.tsv": f"Source\tTarget\n( ( ( [MAX 2 ) {i} ) ] )\t{max(2, i)}\n5\t5\n".encode()
    for i, split in enumerate(("train", "val", "test"), 3)
}
PAIRS = {
    f"new_aan_pairs.{split}.tsv": f"1.0\tA{i}\tA2\tfirst {i}\tsecond\n0\tA1\tA{i}\tfirst\tother {i}\n".encode()
    for i, split in enumerate(("train", "eval", "test"))
}
REVIEWS = {
    f"aclImdb/{split}/{kind}/{i}.txt": f"{split} {kind} {i}".encode()
    for split in ("train", "test")
    for kind in ("neg", "pos")
    for i in range(3)
}
BYTES = {f"{kind}/{i}": f"{kind} {i}".encode() for kind in ("benign", "malware") for i in range(6)}
KINDS = {"listops_files": EXPRESSIONS, "aan": PAIRS, "imdb": REVIEWS, "byte_files": BYTES}


def loaded(kind, name, data_dir=None):
    config = from_dict(
        LongRangeConfig,
        {
            "data": {"kind": kind, "name": str(name), "length": 40},
            "network": {
                "task": {
                    "listops_files": "listops",
                    "aan": "retrieval",
                    "imdb": "text",
                    "byte_files": "text",
                }[kind]
            },
        },
    )
    data = load_long_range(config, data_dir)
    return {
        split: ([part.texts[-1][i] for i in range(len(part))], part.labels.tolist())
        for split, part in data.splits.items()
    }, data.info


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form", ["folder", "deep folder", "x.zip", "x.tar", "x.tar.gz", "x.tar.xz", "deep.zip"]
)
def test_every_kind_is_found_by_its_path_without_a_data_folder(tmp_path, kind, form):
    plain, info = loaded(kind, write(tmp_path / "plain", KINDS[kind]))
    files = {
        f"a/b/{name}" if "deep" in form else name: content for name, content in KINDS[kind].items()
    }
    source = write(tmp_path / "set", files) if "folder" in form else pack(tmp_path / form, files)
    found, other = loaded(kind, source)
    assert found == plain
    assert other.fingerprint == info.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_found_by_its_name_in_a_data_folder(tmp_path, monkeypatch, kind):
    name = "aclImdb" if kind == "imdb" else "mine"
    pack(tmp_path / f"{name}.zip", KINDS[kind])
    found, _ = loaded(kind, name, tmp_path)
    assert set(found) >= {"train", "test"}
    monkeypatch.setenv("TERMINATOR_DATA", f"{tmp_path / 'nowhere'}:{tmp_path}")
    assert loaded(kind, name)[0] == found


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_source_is_named(tmp_path, kind):
    write(tmp_path, {"set.gz": b"x", "set.rar": b"x", "aclImdb.gz": b"x"})
    with pytest.raises(DatasetNotFound, match=f"was not found. Tried .*{tmp_path / 'nothing'}"):
        loaded(kind, tmp_path / "nothing")
    with pytest.raises(DatasetNotFound, match="set.gz is neither a folder nor an archive"):
        loaded(kind, tmp_path / "set.gz")
    with pytest.raises(DatasetNotFound, match=r"\.gz.* is there, but not unpacked"):
        loaded(kind, "set" if kind != "imdb" else "imdb", tmp_path)


def changed(files, name, content):
    return files | {name: content}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content + b"\n",
        lambda content: content + b"\n  \n\r\n",
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.rstrip(b"\n"),
        lambda content: content.replace(b"\n", b"\n\n"),
    ],
)
@pytest.mark.parametrize(("kind", "files"), [("listops_files", EXPRESSIONS), ("aan", PAIRS)])
def test_marks_and_blank_lines_are_no_data(tmp_path, kind, files, change):
    plain, _ = loaded(kind, write(tmp_path / "plain", files))
    found, _ = loaded(
        kind, write(tmp_path / "set", {name: change(content) for name, content in files.items()})
    )
    assert found == plain


@pytest.mark.parametrize(("kind", "files"), [("listops_files", EXPRESSIONS), ("aan", PAIRS)])
def test_packed_files_are_read_where_unpacked_ones_are_missing(tmp_path, kind, files):
    plain, _ = loaded(kind, write(tmp_path / "plain", files))
    packed = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    assert loaded(kind, write(tmp_path / "set", packed))[0] == plain
    both = packed | {f"{name}.gz": b"no gzip" for name in files} | files
    assert loaded(kind, write(tmp_path / "both", both))[0] == plain
    with pytest.raises(DatasetCorrupt, match="train.tsv.gz cannot be read"):
        loaded(
            kind, write(tmp_path / "cut", {name: content[:-9] for name, content in packed.items()})
        )


@pytest.mark.parametrize(
    ("kind", "files", "val"),
    [("listops_files", EXPRESSIONS, "basic_val.tsv"), ("aan", PAIRS, "new_aan_pairs.eval.tsv")],
)
def test_without_a_validation_file_there_is_none_and_that_is_said(tmp_path, kind, files, val):
    found, info = loaded(
        kind, write(tmp_path / "set", {name: c for name, c in files.items() if name != val})
    )
    assert list(found) == ["train", "test"]
    assert [note for note in info.notes if note.startswith("no validation file (*")]


@pytest.mark.parametrize(
    ("kind", "files", "test"),
    [("listops_files", EXPRESSIONS, "basic_test.tsv"), ("aan", PAIRS, "new_aan_pairs.test.tsv")],
)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"has no \*(basic_)?test.tsv"),
        (b"", "test.tsv has no examples"),
        (b"\n\n", "test.tsv has no examples"),
        (b"\xef\xbb\xbf", "test.tsv has no examples"),
        ("1\t2".encode("utf-16"), "test.tsv is in UTF-16; allowed: UTF-8"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"\x80\x81\n", "test.tsv, line 1: .*allowed"),
        (b"a\tb\tc\n", "test.tsv, line 1: .*allowed"),
        (b"5\t5\n5\t10\n", "line [12]: .*allowed"),
        (b"\x00" * 200, "line 1: .*allowed"),
        (b"5\t" + b"5" * 9999, "line 1"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path, kind, files, test, content, words):
    files = {name: c for name, c in files.items() if name != test} | (
        {} if content is None else {test: content}
    )
    with pytest.raises((DatasetCorrupt, DatasetNotFound), match=words) as caught:
        loaded(kind, write(tmp_path / "set", files))
    assert "\n" not in str(caught.value)


def test_two_files_for_one_part_are_refused(tmp_path):
    with pytest.raises(
        DatasetCorrupt, match="a.train.tsv, b.train.tsv, which all end with train.tsv; allowed: one"
    ):
        text.load_aan(
            write(
                tmp_path,
                {
                    f"{which}.{split}.tsv": PAIRS["new_aan_pairs.train.tsv"]
                    for which in "ab"
                    for split in ("train", "test")
                },
            )
        )


@pytest.mark.parametrize("split", ["train", "val"])
def test_expressions_that_are_tested_on_leave(tmp_path, split):
    files = {name: content + b"7\t7\n" for name, content in EXPRESSIONS.items()}
    files[f"basic_{split}.tsv"] += b"[MIN 1 3 ]\t1\n[MIN 1 4 ]\t1\n"
    files["basic_test.tsv"] += b"( [MIN 1 3 ] )\t1\n"
    splits = listops.read_released(write(tmp_path, files))
    assert any("left out" in note or "kept" in note for note in splits[split].notes)
    assert any("expressions are in the test part as well" in note for note in splits[split].notes)


def test_long_lines_and_much_from_little_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr("terminator.data.archives.ALWAYS_ALLOWED", 100_000)
    long = EXPRESSIONS | {"basic_test.tsv": b"5" * 2000 + b"\t5\n"}
    with pytest.raises(DatasetCorrupt, match="basic_test.tsv, line 1: more than 1,000 bytes"):
        listops.read_released(write(tmp_path / "a", long))
    bomb = {f"{name}.gz": gzip.compress(b"5\t5\n" * 200_000) for name in EXPRESSIONS}
    assert len(next(iter(bomb.values()))) < 4000
    with pytest.raises(DatasetCorrupt, match="basic_train.tsv.gz, line .* in all"):
        listops.read_released(write(tmp_path / "b", bomb))


# -- packed files beside data that want them unpacked ----------------------------------------------


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
@pytest.mark.parametrize("packed", ["all", "some", "both"])
def test_mnist_packed_as_it_is_published(tmp_path, name, packed):
    images, labels = make_mnist(tmp_path, name)
    plain = load(name, data_dir=tmp_path).info
    files = sorted((tmp_path / name / "raw").iterdir())
    for file in files[: 2 if packed == "some" else None]:
        file.with_name(f"{file.name}.gz").write_bytes(
            b"no gzip" if packed == "both" else gzip.compress(file.read_bytes())
        )
        if packed != "both":
            file.unlink()
    data = load(name, data_dir=tmp_path, download=False)
    assert data.info == plain
    assert np.array_equal(data.test_images[:, 0], images["t10k"])
    assert np.array_equal(data.train_labels, labels["train"])
    row = next(row for row in available(tmp_path) if row.name == name)
    assert row.status.startswith("ready")


def test_damaged_packed_mnist_is_named(tmp_path):
    make_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    file.unlink()
    bomb = content[:4] + (2**31).to_bytes(4, "big") + content[8:] + bytes(10**6)
    for damaged, words in (
        (gzip.compress(content)[:-20], "t10k-images-idx3-ubyte.gz"),
        (gzip.compress(content + b"x"), "gz has more bytes where its header promises"),
        (gzip.compress(bomb), "gz has 100.* bytes where its header promises"),
        (gzip.compress(b"<html>"), "gz is not an IDX file of bytes"),
    ):
        file.with_name(f"{file.name}.gz").write_bytes(damaged)
        with pytest.raises(DatasetCorrupt, match=words):
            load("MNIST", data_dir=tmp_path, download=False)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("cifar-10-python.tar.gz", lambda root: load("CIFAR10", data_dir=root, download=False)),
        ("VOCtrainval_11-May-2012.tar", lambda root: load_segmentation("voc2012", data_dir=root)),
        ("VOCdevkit.zip", lambda root: load_segmentation("voc2012", data_dir=root)),
        ("miniimagenet.npy.gz", lambda root: load_classes("miniimagenet", root)),
        ("miniimagenet.zip", lambda root: load_classes("miniimagenet", root)),
        ("lra_release.gz", lambda root: text.load_aan("lra_release", root)),
        ("files.7z", lambda root: byte_files.load_byte_files("files", 9, root)),
    ],
)
def test_what_is_there_but_packed_is_named(tmp_path, name, read):
    write(tmp_path, {name: b"x"})
    with pytest.raises(DatasetNotFound, match=f"{name} is there,? but not unpacked"):
        read(tmp_path)


def test_names_paths_and_folders_are_looked_for_in_one_order(tmp_path, monkeypatch):
    for place in ("a", "b", "here"):
        write(tmp_path / place, {"set/x": b""})
    monkeypatch.chdir(tmp_path / "here")
    places = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    assert find_source(("set",), places, "it", "x") == tmp_path / "a" / "set"
    assert find_source(("set",), None, "it", "x") == tmp_path / "here" / "set"
    assert find_source(("../b/set",), places, "it", "x").resolve() == tmp_path / "b" / "set"
    assert find_source((str(tmp_path / "b" / "set"),), places, "it", "x") == tmp_path / "b" / "set"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_source(("~/b/set",), None, "it", "x") == tmp_path / "b" / "set"
    with zipfile.ZipFile(tmp_path / "b" / "zipped.zip", "w") as archive:
        archive.writestr("x", io.BytesIO().getvalue())
    assert (
        find_source((str(tmp_path / "b" / "zipped"),), None, "it", "x")
        == tmp_path / "b" / "zipped.zip"
    )
