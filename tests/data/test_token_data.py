"""Token sequences: padding, grey pixels against golden numbers, texts, pairs and byte files made
here.
"""

import gzip
import tarfile

import numpy as np
import pytest
import torch
from places import GOLDEN

from terminator.data import DatasetNotFound
from terminator.data.errors import DatasetCorrupt
from terminator.data.sequences import byte_files, pixels, text
from terminator.data.sequences.tokens import Sequences, Split, describe


def ragged(shift=1):
    return Sequences.of([b"abc", b"", b"hello world"], shift)


# -- sequences -------------------------------------------------------------------------------------


def test_batches_are_cut_shifted_and_padded():
    found = ragged().batch(torch.tensor([0, 1, 2]), 5)
    assert found.dtype == torch.int64
    assert found.tolist() == [[98, 99, 100, 0, 0], [0] * 5, [105, 102, 109, 109, 112]]
    assert ragged(0).batch(torch.tensor([0]), 4).tolist() == [[97, 98, 99, 0]]
    assert ragged().longest(torch.tensor([0, 1]), 5) == 3
    assert ragged().longest(torch.tensor([0, 1]), 2) == 2
    assert ragged().longest(torch.tensor([1]), 5) == 1  # nothing but padding
    assert Sequences.of([b"", b""], 1).batch(torch.tensor([0, 1]), 3).tolist() == [[0] * 3] * 2


def test_a_byte_of_zero_is_no_padding():
    assert Sequences.of([b"\x00\xff"], 1).batch(torch.tensor([0]), 3).tolist() == [[1, 256, 0]]


def test_selecting_and_cutting():
    some = ragged().select(torch.tensor([2, 0, 2]))
    assert [some[i] for i in range(3)] == [b"hello world", b"abc", b"hello world"]
    cut = ragged().cut(2)
    assert [cut[i] for i in range(3)] == [b"ab", b"", b"he"]
    rows = Sequences.equal(torch.arange(6, dtype=torch.uint8).view(2, 3))
    assert rows.batch(torch.tensor([1]), 3).tolist() == [[3, 4, 5]]


def test_a_description_covers_every_token_and_label():
    labels = torch.tensor([0, 1, 1])
    plain = ragged()

    def info(train=plain, test=plain, y=labels, vocabulary=257):
        splits = {"train": Split((train,), y), "test": Split((test,), labels)}
        return describe(splits, "x", "X", 5, vocabulary, ("a", "b")).info

    assert info().sizes == {"train": 3, "test": 3}
    assert info().median_length == {"train": 3.0, "test": 3.0}
    assert info().fingerprint == info().fingerprint
    for other in (
        info(y=torch.tensor([1, 1, 1])),
        info(test=Sequences.of([b"abd", b"", b"hello"], 1)),
    ):
        assert other.fingerprint != info().fingerprint
    # cut off
    assert (
        info(train=Sequences.of([b"abc", b"", b"hello moon!"], 1)).fingerprint == info().fingerprint
    )
    with pytest.raises(ValueError, match="the train split of x has token 112; allowed: 0 to 99"):
        info(vocabulary=100)
    with pytest.raises(ValueError, match="the train split of x has label 2; allowed: 0 to 1"):
        info(y=torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="the train split of x has no examples"):
        info(train=Sequences.of([]), y=labels[:0])


def test_reduced_splits_keep_the_shares_of_classes():
    split = Split((Sequences.of([bytes([i]) for i in range(40)]),), torch.arange(40) % 4)
    assert split.reduced(8, "data.train_size").labels.bincount().tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match="data.train_size is 41; allowed: at most 40"):
        split.reduced(41, "data.train_size")


# -- pixels ----------------------------------------------------------------------------------------


def test_grey_values_are_those_of_the_release():
    with np.load(GOLDEN / "hrrformer_grayscale.npz") as file:
        rgb, expected = file["rgb"], file["gray"]
    images = torch.from_numpy(rgb).permute(0, 3, 1, 2).contiguous()
    assert (pixels.grey(images)[:, 0].numpy() == expected).all()
    assert pixels.grey(images[:, :1]) is not None
    with pytest.raises(ValueError, match="2 channels; allowed: 1 or 3"):
        pixels.grey(images[:, :2])


def test_pixels_in_order_in_another_order_and_without_the_last_tenth(tiny_data):
    data = tiny_data(train=40, test=8)
    plain = pixels.pixel_splits(data)
    grey = pixels.grey(data.train_images)
    assert torch.equal(plain["train"].texts[0].batch(torch.arange(40), 64), grey.flatten(1).long())
    mixed = pixels.pixel_splits(data, permutation_seed=3)
    a, b = (splits["test"].texts[0].batch(torch.arange(8), 64) for splits in (plain, mixed))
    assert not torch.equal(a, b)
    assert torch.equal(a.sort(1).values, b.sort(1).values)
    assert len(pixels.pixel_splits(data, leave_out_last_tenth=True)["train"]) == 36


# -- texts -----------------------------------------------------------------------------------------


def write_reviews(root, per_class=6):
    for split in ("train", "test"):
        for kind in ("neg", "pos"):
            folder = root / "aclImdb" / split / kind
            folder.mkdir(parents=True)
            for i in range(per_class):
                (folder / f"{i}_1.txt").write_bytes(
                    f"{split} {kind} caf\u00e9<br />{'x' * i}".encode()
                )
    (root / "aclImdb" / "README").write_text("not a review")
    return root / "aclImdb"


@pytest.mark.parametrize("packed", [False, True])
def test_reviews_from_a_folder_and_from_an_archive(tmp_path, packed):
    folder = write_reviews(tmp_path / "data")
    if packed:
        (tmp_path / "packed").mkdir()
        with tarfile.open(tmp_path / "packed" / "aclImdb_v1.tar.gz", "w:gz") as tar:
            tar.add(folder, "aclImdb")
    place = tmp_path / ("packed" if packed else "data")
    splits = text.load_imdb(place)
    assert {name: len(part) for name, part in splits.items()} == {"train": 12, "test": 12}
    train = splits["train"]
    for i in range(12):
        content = train.texts[0][i].decode()
        # raw, HTML and all
        assert content.startswith(f"train {'pos' if train.labels[i] else 'neg'} caf\u00e9<br />")
    assert train.labels.tolist() != sorted(train.labels.tolist())  # not class by class
    again = text.load_imdb(place)  # from the cache
    assert torch.equal(again["train"].texts[0].values, train.texts[0].values)
    assert torch.equal(again["test"].labels, splits["test"].labels)


def test_a_changed_review_is_read_again(tmp_path):
    folder = write_reviews(tmp_path)
    before = text.load_imdb(tmp_path)["train"].texts[0]
    (folder / "train" / "pos" / "0_1.txt").write_bytes(
        b"a new review, longer than the one before it"
    )
    after = text.load_imdb(tmp_path)["train"].texts[0]
    assert b"a new review" not in before.values.numpy().tobytes()
    assert b"a new review" in after.values.numpy().tobytes()


def test_reviews_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("TERMINATOR_DATA", raising=False)
    with pytest.raises(DatasetNotFound, match="IMDB was not found.*aclImdb_v1.*Expected"):
        text.load_imdb(tmp_path)
    folder = write_reviews(tmp_path)
    for path in (folder / "test" / "pos").iterdir():
        path.unlink()
    with pytest.raises(DatasetCorrupt, match="no whole IMDB: it has 18 reviews"):
        text.load_imdb(tmp_path)


def test_halves_tell_nothing_by_their_length():
    reviews = [bytes([97 + i]) * (10 + 7 * i) for i in range(41)]
    pairs = text.halves(Split((Sequences.of(reviews, 1),), torch.zeros(41, dtype=torch.int64)))
    assert torch.equal(pairs.texts[0].lengths, pairs.texts[1].lengths)
    assert pairs.labels.sum() == 21
    for i in range(41):
        assert (pairs.texts[0][i] == pairs.texts[1][i]) == bool(pairs.labels[i])
    used = [pairs.texts[0][i][:1] for i in range(41)]
    assert used == [review[:1] for review in reviews]  # every text once
    with pytest.raises(ValueError, match="too few for pairs"):
        text.halves(Split((Sequences.of(reviews[:2], 1),), torch.zeros(2, dtype=torch.int64)))


def test_citation_pairs(tmp_path):
    line = "1.0\tA1\tA2\tfirst text\tsecond text\n0\tA1\tA3\tfirst text\t\n"
    for name in ("new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv"):
        (tmp_path / name).write_text(line)
    splits = text.load_aan(tmp_path)
    assert list(splits) == ["train", "val", "test"]
    assert splits["train"].labels.tolist() == [1, 0]
    assert [part[1] for part in splits["val"].texts] == [b"first text", b""]
    (tmp_path / "new_aan_pairs.test.tsv").write_text(line + "1\tA1\tA2\tonly one text\n")
    with pytest.raises(
        DatasetCorrupt, match="test.tsv, line 3: 4 columns, the first is '1'; allowed: label"
    ):
        text.load_aan(tmp_path)
    (tmp_path / "new_aan_pairs.test.tsv").unlink()
    with pytest.raises(DatasetNotFound, match=r"has no \*test.tsv"):
        text.load_aan(tmp_path)


# -- byte files ------------------------------------------------------------------------------------


def write_byte_files(root, count=10):
    for label, kind in enumerate(("benign", "malware")):
        (root / kind).mkdir(parents=True)
        for i in range(count):
            content = bytes([200 * label]) * (3 + i)
            (root / kind / f"{i}.bin").write_bytes(gzip.compress(content) if i % 2 else content)
    return root


def test_byte_files_raw_and_packed(tmp_path):
    splits = byte_files.load_byte_files(write_byte_files(tmp_path / "files"), length=6)
    assert {name: len(part) for name, part in splits.items()} == {"train": 16, "test": 4}
    assert splits["test"].labels.sum() == 2
    for part in splits.values():
        for i in range(len(part)):
            assert set(part.texts[0][i]) == {200 * int(part.labels[i])}
            assert 3 <= len(part.texts[0][i]) <= 6
    for split in ("train", "test"):
        write_byte_files(tmp_path / "parted" / split, 3)
    assert len(byte_files.load_byte_files("parted", 6, tmp_path)["test"]) == 6


def test_a_folder_around_byte_files_may_be_called_as_a_class_is(tmp_path):
    write_byte_files(tmp_path / "set" / "malware")
    splits = byte_files.load_byte_files(tmp_path / "set", 6)
    assert {name: part.labels.sum().item() for name, part in splits.items()} == {
        "train": 8,
        "test": 2,
    }


def test_byte_files_that_cannot_be_used(tmp_path):
    write_byte_files(tmp_path / "half" / "train")
    with pytest.raises(DatasetNotFound, match="test/benign has no files"):
        byte_files.load_byte_files(tmp_path / "half", 6)
    root = write_byte_files(tmp_path / "files")
    (root / "malware" / "1.bin").write_bytes(gzip.compress(bytes(1000))[:-12])
    with pytest.raises(DatasetCorrupt, match="1.bin cannot be read"):
        byte_files.load_byte_files(root, 2000)
    for path in (root / "benign").iterdir():
        path.unlink()
    with pytest.raises(DatasetNotFound, match="benign has no files; expected"):
        byte_files.load_byte_files(root, 6)
    with pytest.raises(DatasetNotFound, match="the folder of byte files was not found"):
        byte_files.load_byte_files("nowhere", 6, tmp_path)
