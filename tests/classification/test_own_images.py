"""A stranger's folder of images: from files to predictions."""

import numpy as np
import pytest
from data_files import class_files, write
from PIL import Image

from terminator.classification import runs
from terminator.classification.predict import predict_files
from terminator.data import load
from terminator.data.decoding import write_class_folders
from terminator.runs import records

SMALL = {
    "model": {"factors": [4, 1], "global_hidden": 4, "local_hidden": 4},
    "dataset": {"image_size": 8, "crop_padding": 0},
    "scheduler": {"warmup_epochs": 0},
    "train": {"epochs": 2, "device": "cpu"},
}


def stripes(folder, count=20):
    """Two classes: bright above, bright below."""
    random = np.random.default_rng(0)
    for name, rows in (("above", slice(0, 10)), ("below", slice(10, 20))):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 90, (20, 20, 3), dtype=np.uint8)
            pixels[rows] += 150
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def test_from_a_folder_to_the_classes_of_single_files(tmp_path, capsys):
    folder = stripes(tmp_path / "stripes")
    run = runs.own_images(folder, **SMALL)
    assert "train.batch_size=8" in capsys.readouterr().out  # 32 images to train
    assert run.record["data"]["classes"] == ["above", "below"]
    assert run.record["experiment"] == records.OWN
    assert run.record not in records.evidence(runs.CLASSIFICATION.task)
    files = [folder / "above" / "0.png", folder / "below" / "1.png"]
    frame = predict_files(run.folder / "model.safetensors", files)
    assert list(frame.columns) == ["image", "class", "probability"]
    assert list(frame["class"]) == ["above", "below"]
    assert frame["probability"].between(0.5, 1).all()
    runs.own_images(folder, **SMALL)
    assert "epoch" not in capsys.readouterr().out  # found again


def test_arrays_become_a_folder_and_come_back(tmp_path):
    digits = load("digits")
    for split in ("train", "test"):
        images, labels = (
            getattr(digits, f"{split}_images")[:60],
            getattr(digits, f"{split}_labels")[:60],
        )
        assert (
            write_class_folders(
                tmp_path / "pictures" / split, images.numpy(), labels.numpy(), digits.info.classes
            )
            == 60
        )
    again = load(str(tmp_path / "pictures"))
    assert again.info.classes == digits.info.classes
    assert again.info.shape == digits.info.shape
    for split in ("train", "test"):
        ours = {
            (image.numpy().tobytes(), int(label))
            for image, label in zip(
                getattr(again, f"{split}_images"), getattr(again, f"{split}_labels")
            )
        }
        theirs = {
            (image.numpy().tobytes(), int(label))
            for image, label in zip(
                getattr(digits, f"{split}_images")[:60], getattr(digits, f"{split}_labels")[:60]
            )
        }
        assert ours == theirs


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no images found in .*folder: expected"),
        ({"readme.txt": b"x"}, "no images found"),
        (class_files(("",), (3,), ("only",)), "only one class"),
        (class_files(("",), (3,)) | {"loose.png": b"x"}, "loose.png in .* lies in no class folder"),
        (
            class_files(("",), (3,)) | {"cat/broken.png": b"x"},
            "cat/broken.png in .* is corrupt or truncated",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(tmp_path, files, words):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=words):
        runs.own_images(write(tmp_path / "folder", files), **SMALL)
