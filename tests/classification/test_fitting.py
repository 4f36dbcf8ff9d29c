"""A first try works: short trainings, few images; what does not fit is said or refused by name."""

import numpy as np
import pytest
from PIL import Image

from terminator.__main__ import main
from terminator.classification import runs
from terminator.classification.fitting import fit_batch, fit_warmup
from terminator.classification.presets import preset
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import records
from terminator.runtime import distributed
from terminator.runtime.settings import ConfigError, identity

TINY = ["model.factors=[4,1]", "model.global_hidden=4", "model.local_hidden=4", "train.device=cpu"]
SMALL = {
    "model": {"factors": [4, 1], "global_hidden": 4, "local_hidden": 4},
    "dataset": {"image_size": 8},
    "train": {"epochs": 1, "device": "cpu"},
}


def pictures(folder, count=21):
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(low, low + 130, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def rates(config, images):
    """The learning rate of every step."""
    steps = images // config.train.batch_size

    class Data:
        train_labels = range(images)

    from terminator.classification.trainer import Trainer

    trainer = object.__new__(Trainer)
    trainer.config, trainer.data, trainer.steps_per_epoch = config, Data, steps
    return [trainer._rate(i) for i in range(config.train.epochs * steps)]


@pytest.mark.parametrize("name", ["digits", "own", "cifar10", "mnist-laptop", "sdigits"])
def test_every_preset_trains_a_single_epoch(name):
    config = fit_warmup(preset(name, train={"epochs": 1, "batch_size": 10}), 100)
    curve = rates(config, 100)
    assert len(curve) == 10
    top = config.optimizer.lr
    assert 0.9 * top < max(curve) < 2 * top  # the released schedule is no exact one
    assert curve[-1] < top / 2  # it comes down, too
    assert curve.index(max(curve)) <= 5


def test_a_warm_up_that_fits_is_left_alone():
    for config in (preset("digits"), preset("cifar10"), preset("own", train={"epochs": 2})):
        assert fit_warmup(config, 1437) is config
    constant = preset("digits", scheduler={"name": "constant", "warmup_epochs": 9})
    assert fit_warmup(constant, 1437) is constant
    assert identity(preset("digits")) == identity(fit_warmup(preset("digits"), 1437))


@pytest.mark.parametrize("name", ["cosine", "released"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("images", [10, 11, 29, 37, 99])
def test_no_length_is_refused(name, epochs, images):
    config = preset("digits", train={"epochs": epochs, "batch_size": 10})
    config = config.updated(scheduler={"name": name, "warmup_epochs": 2.5})
    assert len(rates(fit_warmup(config, images), images)) == epochs * (images // 10)


def test_the_first_try_works_and_says_what_it_did(capsys):
    words = [*TINY, "train.epochs=1", "dataset.train_size=200", "dataset.test_size=40"]
    assert main(["train", *words, "train.batch_size=50"]) == 0
    assert "scheduler.warmup_epochs=0.5: a warm-up of 1 epochs does not" in capsys.readouterr().out
    (record,) = records.load_records("cli")
    assert record["config"]["scheduler"]["warmup_epochs"] == 0.5  # what was done is what is kept


def test_a_record_is_found_without_its_data(monkeypatch):
    config = preset("digits", **SMALL).updated("dataset.train_size=100", "dataset.test_size=20")
    run = CLASSIFICATION.run(config, "images", "smoke")

    def gone(*_):
        raise runs.DatasetNotFound("gone")

    monkeypatch.setattr(CLASSIFICATION, "load_data", gone)
    assert CLASSIFICATION.run(config, "images", "smoke").record == run.record


# -- own images ------------------------------------------------------------------------------------


def test_the_command_and_the_notebook_make_the_same_run(tmp_path, capsys):
    folder = pictures(tmp_path / "pictures")
    run = runs.own_images(folder, **SMALL)
    said = capsys.readouterr().out
    line = "34 training images: train.batch_size=8 (a quarter of them at most; 64 are set); 2 of"
    assert line in said
    words = [f"dataset.name={folder}", "dataset.image_size=8", "train.epochs=1", *TINY]
    assert main(["train", "preset=own", "--profile", "smoke", *words]) == 0
    said = capsys.readouterr().out
    assert line in said
    assert "epoch   1/1" not in said  # the notebook's run is read
    assert [record["run_id"] for record in records.load_records("cli")] == [run.record["run_id"]]


def test_a_batch_that_was_asked_for_stays():
    config = preset("own", train={"batch_size": 30})
    assert fit_batch(config, 100, asked=True)[0].train.batch_size == 30
    assert fit_batch(config, 100)[0].train.batch_size == 25
    assert fit_batch(config, 120) == (config, "")
    assert fit_batch(preset("own", train={"accumulate": 4}), 100)[0].train.batch_size == 24
    assert "10 of them" in fit_batch(config, 130)[1]


def test_a_batch_is_one_that_all_processes_share(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert fit_batch(preset("own"), 100)[0].train.batch_size == 24


def test_own_images_are_asked_for(capsys):
    assert main(["train", "preset=own"]) == 2
    assert "dataset.name=FOLDER" in capsys.readouterr().err
    assert not records.load_records()


def test_errors_are_one_line_in_a_notebook():
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    try:
        with capture_output() as caught:
            shell.run_cell("from terminator.classification import runs\nruns.own_images('no/such')")
            shell.run_cell(
                "from terminator.data.catalogue import class_folder_path\nclass_folder_path('no')"
            )
            shell.run_cell("from terminator import Config\nConfig().updated('train.epochs=x')")
    finally:
        InteractiveShell.clear_instance()
    lines = [line for line in caught.stdout.splitlines() if line.strip()]
    assert len(lines) == 3
    assert lines[0] == "error: no such folder or archive: no/such"
    assert lines[1].startswith("error: unknown data set 'no'.")
    assert lines[2] == "error: train.epochs is 'x'; allowed: an integer"


# -- pictures that cannot be read ------------------------------------------------------------------


def test_all_broken_pictures_are_listed(tmp_path):
    folder = pictures(tmp_path / "pictures")
    for i in range(12):
        (folder / "dark" / f"broken{i:02}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="12 of 54 pictures in .* cannot be used") as caught:
        runs.own_images(folder, **SMALL)
    text = str(caught.value)
    assert "dataset.on_error=skip" in text
    assert all(f"broken{i:02}.png is corrupt" in text for i in range(10))
    assert "broken10" not in text
    assert text.endswith("and 2 more")


def test_broken_pictures_can_be_left_out(tmp_path):
    folder = pictures(tmp_path / "pictures")
    (folder / "dark" / "half.png").write_bytes((folder / "dark" / "1.png").read_bytes()[:60])
    with pytest.raises(ValueError, match="half.png in .* is corrupt or truncated"):
        runs.own_images(folder, **SMALL)
    skipping = SMALL | {"dataset": {"image_size": 8, "on_error": "skip"}}
    run = runs.own_images(folder, **skipping)
    assert (
        "1 pictures that cannot be read were left out: dark/half.png" in run.record["data"]["notes"]
    )
    (folder / "dark" / "half.png").unlink()
    assert runs.own_images(folder, **SMALL).record == run.record  # the same pictures, the same run


def test_what_is_left_must_still_be_a_data_set(tmp_path):
    folder = pictures(tmp_path / "pictures")
    for path in (folder / "dark").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no picture left of dark, since 21 cannot be read"):
        runs.own_images(folder, **SMALL | {"dataset": {"image_size": 8, "on_error": "skip"}})
    with pytest.raises(ConfigError, match=r"dataset.on_error is 'ignore'; allowed: refuse, skip"):
        preset("own", dataset={"on_error": "ignore"})
