"""Few-shot images by class: caches, torchvision's Omniglot, specifications, shuffles and splits."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from terminator.data import DatasetCorrupt, DatasetNotFound
from terminator.data.episodes.classes import ClassImages
from terminator.data.episodes.settings import SPLITS, parse_specification
from terminator.data.episodes.sources import load_classes
from terminator.data.episodes.strokes import CHARACTERS


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, **options)


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("TERMINATOR_DATA", raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("omniglot:0-3,7,10-12", ("omniglot", (0, 1, 2, 3, 7, 10, 11, 12))),
        ("emnist", ("emnist", None)),
        ("a:5-5", ("a", (5,))),
    ],
)
def test_specifications(text, expected):
    assert parse_specification(text) == expected


@pytest.mark.parametrize("text", ["a:1:2", "a:1-2-3", "a:x", "a:", ":1", "a:3-1", "a:1,,2", "a:-1"])
def test_malformed_specifications(text):
    with pytest.raises(ValueError, match="specification .*allowed"):
        parse_specification(text)


def test_a_class_named_twice():
    with pytest.raises(ValueError, match="names a class twice"):
        parse_specification("a:0-3,2")


def test_digits_are_embedded():
    source = load_classes("digits")
    assert source.images.shape == (1797, 1, 8, 8)
    assert source.counts.sum() == 1797
    assert source.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("file", "shape", "expected"),
    [
        ("miniimagenet.npy", (4, 5, 6, 6, 3), (20, 3, 6, 6)),
        ("omniglot.npy", (4, 5, 6, 6), (20, 1, 6, 6)),
        ("my_miniimagenet_v2_ch_first_x.npy", (4, 5, 3, 6, 6), (20, 3, 6, 6)),
        ("omniglot_ch_first.npy", (4, 5, 6, 6), (20, 1, 6, 6)),
    ],
)
def test_caches(tmp_path, file, shape, expected):
    array = pixels(*shape)
    save(tmp_path / file, array)
    source = load_classes("miniimagenet" if "mini" in file else "omniglot", tmp_path)
    assert tuple(source.images.shape) == expected
    assert source.counts.tolist() == [5, 5, 5, 5]
    last = array[3, 4] if array.ndim == 4 or "first" in file else array[3, 4].transpose(2, 0, 1)
    assert np.array_equal(source.images[-1].numpy().reshape(last.shape), last)


def test_of_caches_of_one_name_none_is_taken_by_chance(tmp_path):
    save(tmp_path / "omniglot28_ch_first.npy", pixels(9, 5, 6, 6))  # another set
    save(tmp_path / "omniglot_ch_first.npy", pixels(4, 5, 6, 6))
    assert len(load_classes("omniglot", tmp_path).counts) == 4
    save(tmp_path / "old_omniglot_ch_first.npy", pixels(4, 5, 6, 6))
    with pytest.raises(DatasetCorrupt, match=r"several files of omniglot: old_omni.*; keep one of"):
        load_classes("omniglot", tmp_path)


def test_boolean_caches_mean_0_and_255(tmp_path):
    save(tmp_path / "omniglot.npy", pixels(3, 4, 5, 5) > 127)
    assert load_classes("omniglot", tmp_path).images.unique().tolist() == [0, 255]


def test_a_folder_of_pickled_lists(tmp_path):
    stacks = [pixels(count, 6, 6, 3, seed=count) for count in (3, 5, 2)]
    for name, part in (("b", stacks[2:]), ("a", stacks[:2])):
        ragged = np.empty(len(part), dtype=object)
        ragged[:] = part
        save(tmp_path / "tieredimagenet" / f"{name}.npy", ragged, allow_pickle=True)
    source = load_classes("tieredimagenet", tmp_path)
    assert source.counts.tolist() == [3, 5, 2]
    assert np.array_equal(source.images[8:].numpy(), stacks[2].transpose(0, 3, 1, 2))


class Harmful:
    def __reduce__(self):
        return print, ("code of a data file was run",)


def test_a_pickle_cannot_run_code(tmp_path, capsys):
    harmful = np.empty(1, dtype=object)
    harmful[0] = Harmful()
    save(tmp_path / "tieredimagenet.npy", harmful, allow_pickle=True)
    with pytest.raises(DatasetCorrupt, match="builtins.print; allowed: lists and NumPy arrays"):
        load_classes("tieredimagenet", tmp_path)
    assert not capsys.readouterr().out
    assert "print" in pickle.dumps(Harmful()).decode("latin1")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pixels(4, 5), r"shape \(4, 5\); allowed: 4 or 5 axes"),
        (pixels(4, 5, 3, 6, 6), "images with 6 channels .*the last axis"),
        (pixels(2, 2, 4, 4).astype(np.float32) * 2, "values from .*; allowed: 0 to 255"),
    ],
)
def test_caches_that_do_not_fit(tmp_path, array, message):
    save(tmp_path / "miniimagenet.npy", array)
    with pytest.raises(DatasetCorrupt, match=message):
        load_classes("miniimagenet", tmp_path)


def test_a_truncated_cache_is_named(tmp_path):
    save(tmp_path / "omniglot.npy", pixels(4, 5, 6, 6))
    content = (tmp_path / "omniglot.npy").read_bytes()
    (tmp_path / "omniglot.npy").write_bytes(content[:300])
    with pytest.raises(DatasetCorrupt, match=r"omniglot.npy cannot be used"):
        load_classes("omniglot", tmp_path)


def test_what_is_not_there(tmp_path):
    with pytest.raises(
        DatasetNotFound, match=r"'miniimagenet' was not found. Tried: .*Put miniimagenet.npy"
    ):
        load_classes("miniimagenet", tmp_path)
    with pytest.raises(
        DatasetNotFound, match="the 242 characters of omniglot28.npz have the name omniglot28"
    ):
        load_classes("omniglot", tmp_path, download=False)


def test_small_omniglot(tmp_path):
    images = pixels(3, 4, 28, 28)
    np.savez(
        tmp_path / "omniglot28.npz",
        images=images,
        alphabet=np.array(["A", "A", "B"]),
        character=np.array(["1", "2", "1"]),
    )
    source = load_classes("omniglot28", tmp_path)
    assert (source.classes, source.groups) == (("A/1", "A/2", "B/1"), ("A", "A", "B"))
    assert np.array_equal(source.images.numpy().reshape(images.shape), images)
    assert "not comparable" in source.notes[0]


def test_torchvisions_omniglot(tmp_path, monkeypatch):
    # the check sums of the real archives
    monkeypatch.setattr(datasets.Omniglot, "_check_integrity", lambda self: True)
    for part, names in (
        ("images_background", ("Greek", "Latin")),
        ("images_evaluation", ("Tifinagh",)),
    ):
        for alphabet in names:
            for drawing in range(3):
                path = (
                    tmp_path / "omniglot-py" / part / alphabet / "character01" / f"01_{drawing}.png"
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                canvas = np.full((105, 105), 255, dtype=np.uint8)
                canvas[drawing] = 0
                Image.fromarray(canvas).save(path)
    source = load_classes("omniglot", tmp_path)
    assert source.groups == ("Greek", "Latin", "Tifinagh")
    assert source.images.shape == (9, 1, 105, 105)
    assert source.images[4, 0].sum(1).nonzero().flatten().tolist() == [1]  # ink bright, on dark


def test_half_a_download_is_not_taken_for_omniglot(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_CACHE", str(tmp_path))
    monkeypatch.delenv("TERMINATOR_OFFLINE", raising=False)

    class Breaks:
        def __init__(self, root, background, download=False):
            (root / "omniglot-py").mkdir()
            raise OSError("connection lost")

    monkeypatch.setattr(datasets, "Omniglot", Breaks)
    for _ in range(2):  # it is tried anew
        with pytest.raises(
            DatasetNotFound, match="omniglot could not be read from a download: con"
        ):
            load_classes("omniglot")
    assert not list(tmp_path.rglob("omniglot-py"))


def small(classes=10):
    counts = torch.arange(1, classes + 1)
    images = torch.arange(classes, dtype=torch.uint8).repeat_interleave(counts)[:, None, None, None]
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return ClassImages(
        "small", images, starts, tuple(map(str, range(classes))), tuple("aabbbccdde"[:classes])
    )


def test_label_shuffle():
    source, state = small(), random.getstate()
    shuffled = source.shuffled(2022)
    keys = list(range(10))
    random.Random(2022).shuffle(keys)
    assert shuffled.classes == tuple(map(str, keys))
    assert shuffled.groups == tuple("aabbbccdde"[key] for key in keys)
    for new, old in enumerate(keys):
        images = shuffled.images[shuffled.starts[new] : shuffled.starts[new + 1]]
        assert images.flatten().tolist() == [old] * (old + 1)
    assert source.shuffled(0) is source
    assert (
        source.shuffled(2022).fingerprint == shuffled.fingerprint != source.shuffled(1).fingerprint
    )
    assert random.getstate() == state


@pytest.mark.parametrize("name", SPLITS)
def test_known_ranges_are_disjoint_and_whole(name):
    classes = [
        c for text in SPLITS[name].values() for c in parse_specification(f"{name}:{text}")[1]
    ]
    expected = {
        "omniglot": 1623,
        "miniimagenet": 100,
        "tieredimagenet": 608,
        "omniglot28": 242,
        "digits": 10,
        "strokes": CHARACTERS,
    }
    assert sorted(classes) == list(range(expected[name]))
