"""The command line, called in this process: what it prints, writes and refuses."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from small_command import SMALL

from terminator import Config
from terminator.classification.commands import build_config
from terminator.classification.presets import PRESETS, preset
from terminator.runs import records


@pytest.fixture
def model_file(call):
    """A small trained model's file."""
    status, out, _ = call("train", *SMALL, "--profile", "smoke")
    assert status == 0
    return out.strip().splitlines()[-1].split("model: ", 1)[1]


def test_train_then_read(call):
    status, out, err = call("train", *SMALL, "--profile", "smoke", "--experiment", "mine")
    assert (status, err) == (0, "")
    assert "epoch   1/1" in out
    assert "released:" in out
    assert "calibrated:" in out
    (record,) = records.load_records("mine")
    assert record["profile"] == "smoke"
    assert record["config"]["train"]["batch_size"] == 16
    status, again, _ = call("train", *SMALL, "--profile", "smoke", "--experiment", "mine")
    assert status == 0
    assert "epoch   1/1" not in again  # it was read
    assert (
        "epoch   1/1"
        in call("train", *SMALL, "--profile", "smoke", "--experiment", "mine", "--force")[1]
    )


def test_options_may_stand_between_settings(call):
    status, _, err = call(
        "train", SMALL[0], "--profile", "smoke", *SMALL[1:], "--experiment", "mixed", "train.seed=3"
    )
    assert (status, err) == (0, "")
    assert records.load_records("mixed")[0]["seed"] == 3


def test_test_a_saved_model(call, model_file):
    status, out, err = call("evaluate", model_file)
    assert (status, err) == (0, "")
    assert "of 40 images" in out  # on the data it was trained with
    status, other, _ = call(
        "train",
        *SMALL,
        "train.do=False",
        "pretrained.load=True",
        f"pretrained.filename={model_file}",
    )
    assert status == 0
    assert other == out
    assert "of 24 images" in call("evaluate", model_file, "dataset.test_size=24")[1]


def test_other_data_are_tested_whole(call):
    words = ("train", *SMALL, "--profile", "smoke", "dataset.held_out=20")
    told = call(*words)[1]
    assert "of 20 images" in told
    file = told.strip().splitlines()[-1].split("model: ", 1)[1]
    assert "of 20 images" in call("evaluate", file)[1]
    assert "of 360 images" in call("evaluate", file, "dataset.name=digits")[1]


def test_predict_image_files(call, model_file, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "black.png")
    status, out, _ = call("predict", model_file, tmp_path / "black.png", tmp_path / "black.png")
    assert status == 0
    assert out.count("black.png") == 2
    assert "probability" in out
    status, _, err = call("predict", model_file, tmp_path / "gone.png")
    assert status == 2
    assert "gone.png" in err


def test_presets_and_datasets(call):
    status, out, _ = call("presets")
    assert status == 0
    assert all(name in out.splitlines() for name in PRESETS)
    status, out, _ = call("datasets")
    assert status == 0
    lines = out.splitlines()
    assert any(line.startswith("digits") and "ready" in line for line in lines)
    assert any(line.startswith("CIFAR10") for line in lines)
    assert "TERMINATOR_DATA" in out


def test_configuration_of_a_command_line():
    assert build_config([]) == preset("digits")
    assert build_config(["train.seed=2"]) == preset("digits").updated("train.seed=2")
    assert build_config(["preset=cifar100", "train.epochs=3"]) == preset("cifar100").updated(
        "train.epochs=3"
    )
    assert build_config(["dataset.name=CIFAR10"]) == Config().updated("dataset.name=CIFAR10")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "optimiser.lr=1"], "unknown setting optimiser; did you mean optimizer?"),
        (["train", "train.epochs=six"], "train.epochs is 'six'; allowed: an integer"),
        (["train", "epochs"], "cannot read 'epochs'"),
        (["train", "preset=imagenet"], "preset is 'imagenet'; allowed: digits"),
        (["train", "preset=mnist", "preset=digits"], "preset is given 2 times"),
        (["train", "train.do=False"], "train.do is False and pretrained.load is False"),
        (["train", "train.do=False", "pretrained.load=True"], "pretrained.filename is ''"),
        (
            ["train", "train.do=False", "pretrained.load=True", "pretrained.filename=gone.ckpt"],
            "gone.ckpt",
        ),
        (["train", "train.distributed=True"], "torchrun did not start this process"),
        (["train", "dataset.name=digitz"], "digitz"),
        (["train", *SMALL, "model.factors=[5]"], "model.factors is (5,)"),
        (
            ["train", *SMALL, "train.batch_size=100"],
            "train.batch_size is 100, but there are only 64",
        ),
        (["train", *SMALL, "dataset.crop_padding=9"], "crop_padding 9"),
        (["train", *SMALL, "scheduler.warmup_epochs=1"], "scheduler.warmup_epochs"),
        (["train", *SMALL, "optimizer.name=SGD", "optimizer.lr=1e30"], "Try a lower optimizer.lr"),
        (["evaluate", "gone.safetensors"], "gone.safetensors"),
        (["predict", "gone.safetensors", "a.png"], "gone.safetensors"),
        (["train", "optimizer.betas=[0.5"], "optimizer.betas is '[0.5'; allowed: a list of floats"),
        (["work", "--processes", "0"], "--processes is 0; allowed: at least 1"),
        (["work", "--tries", "0"], "--tries is 0; allowed: at least 1"),
        (["plan", "--no-data", "--speed-of", "abacus"], "--speed-of is 'abacus'; allowed: some of"),
        (
            ["benchmark", "--suite", "--size", "64"],
            "size is [64]; allowed: nothing with --suite, whose rows say it themselves",
        ),
        (
            ["benchmark", "--compare", "HEAD", "--batch", "8", "16"],
            "batch is [8, 16]; allowed: one with --compare",
        ),
        (["benchmark", "--other-precision", "bf16"], "allowed: nothing without --compare"),
        (["benchmark", "--rounds", "2"], "rounds is 2; allowed: nothing without --compare"),
        (
            ["benchmark", "--what", "optimizer", "--precision", "bf16"],
            "precision is ['bf16']; allowed: nothing with --what optimizer",
        ),
        (["benchmark", "--threads", "0"], "threads is 0; allowed: an integer of at least 1"),
        (
            ["benchmark", "--compare", "HEAD", "--rounds", "0"],
            "rounds is 0; allowed: an integer of at least 1",
        ),
        (
            ["datasets", "--data-dir", "/gone/away"],
            "--data-dir is '/gone/away'; allowed: a folder that exists",
        ),
        (
            ["fewshot-evaluate", "preset=strokes", "--poll", "-1"],
            "poll is -1; allowed: a number of seconds above 0",
        ),
        (
            ["fewshot-evaluate", "preset=strokes", "--timeout", "0"],
            "timeout is 0; allowed: a number of seconds above 0",
        ),
    ],
)
def test_errors_are_one_line_and_exit_status_2(call, monkeypatch, words, message):
    monkeypatch.delenv("RANK", raising=False)
    status, _, err = call(*words)
    assert status == 2
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert records.load_records() == []


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["train", "--wings"],
        ["presets", "extra"],
        ["train", "--profile", "huge"],
        ["predict", "model.safetensors"],
    ],
)
def test_words_that_argparse_refuses(call, words):
    status, _, err = call(*words)
    assert status == 2
    assert err.startswith("error: ")
    assert "--help" in err
    assert len(err.splitlines()) == 1


def test_unwritable_results_are_one_line(call, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "file"))
    status, _, err = call("train", *SMALL)
    assert status == 2
    assert "cannot write to the results folder" in err
    assert "TERMINATOR_RESULTS" in err


def test_a_model_and_data_that_do_not_fit(call, model_file):
    status, _, err = call("evaluate", model_file, "dataset.image_size=12")
    assert status == 2
    assert "takes inputs (3, 8, 8)" in err
    assert "dataset.image_size" in err


def test_help_without_torch():
    code = (
        "import sys; from terminator.__main__ import main\ntry: main(['--help'])\nexcept "
        "SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout
