"""One rule for the values of arrays from files: scaled and said, or refused by name."""

import warnings

import numpy as np
import pytest
import torch
from data_files import own_places, pixels_of

from terminator.__main__ import main
from terminator.data import DatasetCorrupt
from terminator.data.episodes.sources import load_classes
from terminator.data.levels import to_bytes

__all__ = ["own_places"]  # a fixture that every test here uses
PIXELS = pixels_of(3, 4, 6, 6, 3)
PIXELS[0, 0, 0, 0] = 0, 255, 128


def cache(tmp_path, array, name="mine"):
    np.save(tmp_path / f"{name}.npy", array)
    return load_classes(name, tmp_path)


def channels_first(array):
    return torch.from_numpy(array.reshape(-1, 6, 6, 3).transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4", ">f8"])
def test_floats_from_0_to_1_are_multiplied_by_255(tmp_path, kind):
    found = cache(tmp_path, (PIXELS / 255).astype(kind))
    wrong = (found.images.int() - channels_first(PIXELS).int()).abs().max()
    assert wrong <= (1 if kind == "float16" else 0)
    assert found.notes == (f"values from 0 to 1 ({np.dtype(kind)}): multiplied by 255 and rounded",)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f8"])
def test_floats_from_0_to_255_are_rounded(tmp_path, kind):
    found = cache(tmp_path, (PIXELS - (PIXELS > 200) * 0.25).astype(kind))
    assert torch.equal(found.images, channels_first(PIXELS))
    assert found.notes == (f"values from 0 to 254.75 ({np.dtype(kind)}): rounded",)


@pytest.mark.parametrize("kind", ["int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_integers_from_0_to_255_are_taken_as_they_are(tmp_path, kind):
    found = cache(tmp_path, PIXELS.astype(kind))
    assert torch.equal(found.images, channels_first(PIXELS))
    assert found.notes == (f"values from 0 to 255 ({np.dtype(kind)}): taken as they are",)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int64", "int8", "float32"])
def test_two_levels_are_black_and_white(tmp_path, kind):
    found = cache(tmp_path, (PIXELS > 127).astype(kind))
    assert torch.equal(found.images, channels_first((PIXELS > 127).astype(np.uint8) * 255))
    assert len(found.notes) == 1


def test_bytes_stay_as_they_are_without_a_word(tmp_path):
    for array in (PIXELS, PIXELS // 16, np.zeros_like(PIXELS)):
        found = cache(tmp_path, array)
        assert torch.equal(found.images, channels_first(array))
        assert found.notes == ()


REFUSED = {
    "negative": (PIXELS / 127.5 - 1, r"values from -1 to 1 \(float64\); allowed: 0 to 255, 0 to 1"),
    "standardised": ((PIXELS - 120.0) / 60, r"values from -2 to 2\.25 \(float64\)"),
    "signed bytes": (PIXELS.view(np.int8), r"values from -128 to 127 \(int8\)"),
    "16 bits": (PIXELS.astype(np.uint16) * 257, r"values from 0 to 65535 \(uint16\)"),
    "sixteen levels": (PIXELS / 255 * 16, r"values from 0 to 16 \(float64\), which fits neither"),
    "overshoot": (PIXELS / 250, r"values from 0 to 1\.02 \(float64\), which fits neither"),
    "levels as int": (PIXELS.astype(int) // 16, r"values from 0 to 15 \(int64\), which fits"),
    "nan": (np.where(PIXELS == 255, np.nan, PIXELS), r"\d+ values of 1,296 .*NaN or infinite"),
    "infinite": (np.where(PIXELS == 255, np.inf, PIXELS), r"\d+ values of 1,296 .*NaN or infinite"),
    "-infinite": (np.where(PIXELS == 0, -np.inf, PIXELS / 255), r"\d+ values of 1,296"),
    "complex": (PIXELS.astype(complex), r"of type '<c16'; allowed: bytes \(u1\)"),
    "text": (PIXELS.astype("U3"), r"of type '<U3'; allowed: bytes"),
    "bytes text": (PIXELS.astype("S3"), r"of type '\|S3'"),
    "dates": (PIXELS.astype("M8[s]"), "of type '<M8"),
    "long double": (PIXELS.astype(np.longdouble), "of type '<f(16|8)|values"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_rule_is_refused_with_its_range_or_type(tmp_path, what):
    array, words = REFUSED[what]
    if what == "long double" and array.dtype.itemsize <= 8:
        pytest.skip("a long double is a double here")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DatasetCorrupt, match=words) as caught:
            cache(tmp_path, array)
    assert "mine.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


AXES = {
    "channels first": ((3, 4, 3, 6, 7), r"7 channels .*Its first axis has 3; if they are, add"),
    "alpha": ((3, 4, 6, 6, 4), r"images with 4 channels"),
    "no classes": ((40, 6, 6, 3), r"one axis too few: are its classes missing\? Allowed"),
    "no classes, channels first": ((40, 3, 6, 6), "one axis too few"),
    "no classes, grey": ((40, 1, 6, 6), "one axis too few"),
    "one picture": ((6, 6, 3), r"shape \(6, 6, 3\); allowed: 4 or 5 axes"),
    "six axes": ((1, 2, 2, 6, 6, 3), "allowed: 4 or 5 axes"),
    "no pictures": ((3, 0, 6, 6, 3), "class of shape"),
    "nothing": ((0, 4, 6, 6, 3), "has no classes; needed: some"),
}


@pytest.mark.parametrize("what", AXES)
def test_axes_in_another_order_are_refused(tmp_path, what):
    shape, words = AXES[what]
    with pytest.raises(DatasetCorrupt, match=words):
        cache(tmp_path, pixels_of(*shape))


def test_channels_last_under_a_name_that_says_first(tmp_path):
    np.save(tmp_path / "mine_ch_first.npy", pixels_of(3, 4, 6, 7, 3))
    with pytest.raises(DatasetCorrupt, match="leave out _ch_first from the file's name"):
        load_classes("mine", tmp_path)


def test_all_files_of_a_folder_are_on_one_scale(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    np.save(folder / "a.npy", np.full((2, 4, 6, 6), 1.0))  # alone it would be white
    np.save(folder / "b.npy", np.full((2, 4, 6, 6), 200.0))
    assert load_classes("mine", tmp_path).images.unique().tolist() == [1, 200]
    np.save(folder / "b.npy", PIXELS[..., 0])
    with pytest.raises(DatasetCorrupt, match=r"several types \(float64, uint8\); allowed: one"):
        load_classes("mine", tmp_path)


def test_small_omniglot_has_the_same_rule(tmp_path):
    names = np.array(["a", "b"])
    np.savez(
        tmp_path / "omniglot28.npz",
        images=pixels_of(2, 3, 5, 5) // 128,
        alphabet=names,
        character=names,
    )
    found = load_classes("omniglot28", tmp_path)
    assert found.images.unique().tolist() == [0, 255]
    assert "multiplied by 255" in found.notes[1]


def test_the_terminal_says_what_was_done(tmp_path, monkeypatch, capsys):
    array = pixels_of(10, 4, 8, 8) / 255
    array[0, 0, 0, :2] = 0, 1
    np.save(tmp_path / "mine.npy", array)
    words = ["data.train_dataset=mine:0-4", "data.test_dataset=mine:5-9", "method.name=pixels"]
    words += ["episodes.num_labels=2", "episodes.samples_transformer=2", "episodes.samples_cnn=2"]
    words += ["episodes.image_size=8", "train.device=cpu", "--data-dir", str(tmp_path)]
    words += ["test.eval_batch_size=2", "test.num_eval_batches=1", "test.num_task_evals=2"]
    assert main(["fewshot", *words, "--profile", "smoke"]) == 0
    said = capsys.readouterr().out
    assert "note: values from 0 to 1 (float64): multiplied by 255 and rounded" in said


def test_the_rule_of_arrays_that_are_empty():
    with pytest.raises(DatasetCorrupt, match="it has no values"):
        to_bytes([np.zeros((0, 3))], "it")
