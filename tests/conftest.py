"""What the tests share: tiny models, configurations and data, and folders of their own."""

import os
import shutil

import pytest
import torch

from terminator import Config, ModelConfig, Terminator
from terminator.__main__ import main
from terminator.classification.runs import CLASSIFICATION
from terminator.data import DatasetInfo, ImageData
from terminator.runtime import progress
from terminator.runtime.paths import results_dir
from terminator.runtime.settings import from_dict

TINY = {
    "size": 8,
    "factors": (4, 1, 1),
    "classes": 4,
    "global_hidden": 4,
    "local_hidden": 4,
    "channel_hidden": 4,
    "interaction_hidden": 4,
    "dropout": (0.0,),
}


@pytest.fixture
def same_folder():
    """A test that leaves the process in another folder would make those after it fail."""
    before = os.getcwd()
    yield
    after = os.getcwd()
    os.chdir(before)
    assert after == before


@pytest.fixture(autouse=True)
def own_folders(same_folder, tmp_path, monkeypatch):
    """Results and cache of every test in its own folder; text instead of progress bars; nothing
    was said before.
    """
    monkeypatch.setattr(progress, "_said", set())
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("TERMINATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TERMINATOR_HEADLESS", "1")


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny models are fastest with one thread, and their sums then have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def call(capsys):
    """Run the command line here: call("predict", path) to its status, output and errors."""

    def run(*words):
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as stopped:  # argparse's own errors
            status = stopped.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def tiny_model():
    """Make a tiny model from its seed: tiny_model(skips=False)."""

    def make(seed=0, **changes):
        torch.manual_seed(seed)
        return Terminator(from_dict(ModelConfig, TINY | changes))

    return make


@pytest.fixture(scope="session")
def tiny_config():
    """Make the configuration of a tiny training: tiny_config(optimizer={"lr": 0.1})."""

    def make(*dotlist, **changes):
        model = {name: value for name, value in TINY.items() if name not in ("size", "classes")}
        start = from_dict(
            Config,
            {
                "model": model,
                "dataset": {"crop_padding": 0, "flip": False},
                "scheduler": {"name": "constant", "warmup_epochs": 0},
                "test": {"batch_size": 8},
                "train": {"epochs": 2, "batch_size": 8, "device": "cpu"},
            },
        )
        return start.updated(*dotlist, **changes)

    return make


@pytest.fixture(scope="session")
def tiny_data():
    """Make images whose class is where they are bright, under noise: tiny_data(train=32,
    test=12).
    """

    def make(train=32, test=12, channels=3, size=8, classes=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        splits = []
        for count in (train, test):
            labels = torch.arange(count) % classes
            images = torch.randint(0, 100, (count, channels, size, size), generator=generator)
            rows = torch.arange(size) * classes // size  # the class that each row belongs to
            images += 150 * (rows == labels[:, None])[:, None, :, None]
            splits += [images.to(torch.uint8), labels]
        info = DatasetInfo(
            name="stripes",
            title="stripes",
            shape=(channels, size, size),
            classes=tuple("abcdefghij"[:classes]),
            mean=(0.35,) * channels,
            std=(0.25,) * channels,
            fingerprint=f"stripes-{train}-{test}-{seed}",
            train_size=train,
            test_size=test,
        )
        return ImageData(*splits, info=info)

    return make


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """Train a run for the first test that asks; those after it find it finished in their results:
    trained_once(config, data, "images", "laptop").
    """
    kept = {}

    def find(config, data, experiment, profile="smoke"):
        key = (config, data.info.fingerprint, experiment, profile)
        if key in kept:
            folder = results_dir() / "runs" / experiment / kept[key].name
            shutil.copytree(kept[key], folder)
        done = CLASSIFICATION.run(config, experiment, profile, data=data)
        if key not in kept:
            place = tmp_path_factory.mktemp("once") / done.folder.name
            kept[key] = shutil.copytree(done.folder, place)
        return done

    return find
