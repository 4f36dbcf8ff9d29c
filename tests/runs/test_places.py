"""Where data lie is nobody's business: names stay, paths do not; and whose classes were renamed is
trained again.
"""

import json
import shutil

import pytest
import torch
from data_files import class_files, write
from safetensors import safe_open

from terminator import Config
from terminator.__main__ import main
from terminator.classification.runs import CLASSIFICATION
from terminator.data import load
from terminator.data.standard import COPIES, own_names
from terminator.hamburger.gan.config import GanConfig
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.data import load_long_range
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.runs import records
from terminator.runtime import checkpoint
from terminator.runtime.settings import identity, with_places, without_places

SMALL = (
    "preset=digits",
    "dataset.train_size=null",
    "dataset.test_size=null",
    "dataset.image_size=8",
    "model.factors=[4]",
    "model.global_hidden=4",
    "model.local_hidden=4",
    "train.epochs=1",
    "scheduler.name=constant",
    "scheduler.warmup_epochs=0",
    "train.batch_size=4",
    "test.batch_size=4",
)


def folder_of(path, classes=("ant", "bee")):
    return write(path, class_files(("",), (10,), classes))


def train(folder, *words):
    assert main(["train", f"dataset.name={folder}", *SMALL, "--profile", "smoke", *words]) == 0
    return [record for record in records.load_records("cli") if record["status"] == "ok"]


@pytest.mark.parametrize(
    ("config", "words", "told"),
    [
        (Config, ["dataset.name=/home/me/x"], {"dataset": {"name": "x"}}),
        (Config, ["dataset.name=x"], {"dataset": {"name": "x"}}),
        (Config, ["dataset.name=a/b/x.zip"], {"dataset": {"name": "x.zip"}}),
        (Config, ["dataset.name=/home/me/x/"], {"dataset": {"name": "x"}}),
        (Config, ["dataset.name=~/x"], {"dataset": {"name": "x"}}),
        (Config, ["dataset.name=/home/me/CIFAR10"], {"dataset": {"name": "./CIFAR10"}}),
        (Config, ["dataset.name=/home/me/digits"], {"dataset": {"name": "./digits"}}),
        (
            Config,
            ["pretrained.load=True", "pretrained.filename=/home/me/m.pt"],
            {"pretrained": {"load": True, "filename": "m.pt"}},
        ),
        (GanConfig, ["data.name=/home/me/x"], {"data": {"name": "x"}}),
        (LongRangeConfig, ["data.name=/home/me/x"], {"data": {"name": "x"}}),
        (
            SegmentationConfig,
            ["data.name=/home/me/shapes", "data.train=train", "train.start_from=/home/me/a.b"],
            {"data": {"name": "./shapes", "train": "train"}, "train": {"start_from": "a.b"}},
        ),
        (SegmentationConfig, ["model.weights=/home/me/w"], {"model": {"weights": "w"}}),
        (
            FewShotConfig,
            ["train.restore_shared_features_from=/home/me/w"],
            {"train": {"restore_shared_features_from": "w"}},
        ),
    ],
)
def test_of_a_path_the_name_stays(config, words, told):
    asked = config().updated(*words)
    found = without_places(asked)
    assert identity(found) == told
    assert without_places(found) == found
    assert with_places(found, asked) == asked


def test_record_model_and_checkpoint_hold_no_path(tmp_path, capsys):
    folder = folder_of(tmp_path / "somebody" / "pets")
    (record,) = train(folder)
    run = CLASSIFICATION.of_record(record)
    for path in run.folder.iterdir():
        assert b"somebody" not in path.read_bytes(), path.name
    assert record["config"]["dataset"]["name"] == "pets"
    with safe_open(run.folder / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["info"])["config"]["dataset"]["name"] == "pets"
    capsys.readouterr()
    assert train(folder) == [record]  # found again
    assert "epoch" not in capsys.readouterr().out


def test_a_checkpoint_holds_no_path_and_one_that_does_is_gone_on_with(
    tmp_path, capsys, monkeypatch
):
    config = Config().updated(
        f"dataset.name={folder_of(tmp_path / 'somebody' / 'pets')}", *SMALL[1:]
    )
    folder = tmp_path / "run"
    data = CLASSIFICATION.load_data(config)
    config = CLASSIFICATION.resolve(config.updated("train.epochs=2"), data)
    trainer = CLASSIFICATION.trainer(CLASSIFICATION.build(config), config, data, folder)
    trainer.fit()
    saved = checkpoint.read(folder / "checkpoint.pt")
    assert saved["identity"]["dataset"]["name"] == "pets"
    assert b"somebody" not in (folder / "checkpoint.pt").read_bytes()
    saved["identity"]["dataset"]["name"] = config.dataset.name
    assert (
        checkpoint.differences(
            identity(without_places(config)) | {"data": data.info.fingerprint}, saved["identity"]
        )
        == []
    )


def test_a_run_finds_its_own_data_again(tmp_path):
    config = Config().updated(f"dataset.name={folder_of(tmp_path / 'a' / 'pets')}", *SMALL[1:])
    run = CLASSIFICATION.run(config, "places")
    assert run.config.dataset.name == config.dataset.name
    assert len(run.test_images(2)) == 2
    again = CLASSIFICATION.of_record(run.record)
    assert again.config.dataset.name == "pets"
    assert again.test_images(2) is None
    moved = config.updated(dataset={"name": str((tmp_path / "a").rename(tmp_path / "b") / "pets")})
    assert CLASSIFICATION.run(moved, "places").record == run.record


# -- class names -----------------------------------------------------------------------------------


def test_a_renamed_class_is_trained_again(tmp_path, capsys):
    folder = folder_of(tmp_path / "pets")
    (first,) = train(folder)
    (folder / "bee").rename(folder / "wasp")
    records_now = train(folder)
    assert len(records_now) == 2
    assert {tuple(record["data"]["classes"]) for record in records_now} == {
        ("ant", "bee"),
        ("ant", "wasp"),
    }
    assert len({record["run_id"] for record in records_now}) == 2
    shutil.move(folder / "wasp", folder / "bee")
    assert len(train(folder)) == 2


def test_names_of_standard_data_add_nothing():
    classes = ("a", "b")
    for name in ("digits", "MNIST", "CIFAR10", "pathfinder-easy"):
        assert own_names(name, classes) == b""
    copy = COPIES["cifar10-jpeg"]
    for name in ("cifar10-jpeg", "CIFAR10-JPEG", "/d/cifar10-jpeg", "/d/cifar10-jpeg.tar.xz"):
        assert own_names(name, copy) == b""
        assert own_names(name, ("aeroplane", *copy[1:])) != b""
    assert own_names("/d/CIFAR10", classes) != own_names("/d/CIFAR10", ("a", "c")) != b""
    assert own_names("pets", ("a", "b,c")) != own_names("pets", ("a,b", "c"))


def renamed(folder, to):
    """A copy of a folder with other class names; pixels stay."""
    copy = shutil.copytree(folder, to)
    (copy / "bee").rename(copy / "wasp")
    return copy


def test_what_pixels_are_called_counts_for_sequences_too(tmp_path):
    folder = folder_of(tmp_path / "a" / "pets")
    found = []
    for path in (folder, renamed(folder, tmp_path / "b" / "pets")):
        config = LongRangeConfig().updated(
            f"data.name={path}", "data.length=64", "data.image_size=8"
        )
        found.append(load_long_range(config))
    first, second = found
    assert torch.equal(
        first.splits["train"].texts[0].values, second.splits["train"].texts[0].values
    )
    assert first.info.fingerprint != second.info.fingerprint


def test_pixels_and_names_make_the_fingerprint(tmp_path):
    folder = folder_of(tmp_path / "a" / "pets")
    first, second = load(str(folder)), load(str(renamed(folder, tmp_path / "b" / "pets")))
    assert torch.equal(first.train_images, second.train_images)
    assert first.info.fingerprint != second.info.fingerprint
    copy = shutil.copytree(folder, tmp_path / "c" / "pets")
    assert load(str(copy)).info.fingerprint == first.info.fingerprint
