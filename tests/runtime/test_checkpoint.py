"""Checkpoints: whole or not at all, and clear words where one cannot be used."""

import os
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from saved import same

from terminator.classification.trainer import Trainer
from terminator.runtime import checkpoint
from terminator.runtime.checkpoint import CheckpointError


@pytest.fixture
def content():
    return {
        "rows": [{"epoch": 1, "loss": 0.5}],
        "identity": {"train": {"seed": 1}},
        "model": {"w": torch.arange(500.0)},
        "random": [checkpoint.random_states()],
    }


def test_round_trip_replaces_the_old_one(content, tmp_path):
    path = tmp_path / "deep" / "checkpoint.pt"
    checkpoint.write(path, {"rows": []})
    checkpoint.write(path, content)
    read = checkpoint.read(path)
    assert all(same(read[key], value) for key, value in content.items())
    assert os.listdir(path.parent) == ["checkpoint.pt"]


def test_all_random_states_come_back(tmp_path):
    random.gauss(0, 1), np.random.randn(), torch.randn(3)
    checkpoint.write(tmp_path / "c.pt", {"random": checkpoint.random_states()})

    def draw():
        return (
            random.gauss(0, 1),
            random.random(),
            np.random.randn(),
            np.random.rand(),
            torch.randn(2).tolist(),
        )

    first = draw()
    assert draw() != first
    saved = checkpoint.read(tmp_path / "c.pt")["random"]
    checkpoint.set_random_states(saved)
    assert draw() == first
    saved["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * 64  # of a machine with more GPUs
    used = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device: used.append(device))
        checkpoint.set_random_states(saved)
    assert (used, draw()) == ([0], first)


def test_missing_and_foreign_files(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(CheckpointError, match="no checkpoint at .*checkpoint.pt"):
        checkpoint.read(path)
    for foreign in ({"state_dict": {}}, [1], {"format": "other"}):
        torch.save(foreign, path)
        with pytest.raises(
            CheckpointError, match="checkpoint.pt is not a checkpoint of this kit: it lacks format"
        ):
            checkpoint.read(path)
    path.write_text("epoch 3")
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        checkpoint.read(path)


def test_truncated_anywhere(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.write(path, content)
    whole = path.read_bytes()
    for length in [0, 1, 10, *range(100, len(whole), len(whole) // 25), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(
            CheckpointError,
            match="checkpoint.pt cannot be read as a checkpoint .*Remove it to start",
        ):
            checkpoint.read(path)


def test_flipped_bits_are_an_error_or_do_no_harm(content, tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.write(path, content)
    whole, generator = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        try:
            read = checkpoint.read(path)
        except CheckpointError:
            refused += 1
        else:  # padding, dates and the like
            assert all(same(read[key], value) for key, value in content.items())
    assert refused > 50


def test_differences_are_named_by_key():
    ours = {"train": {"seed": 1, "epochs": 4}, "data": "abc"}
    theirs = {"train": {"seed": 2, "epochs": 4}, "optimizer": {"lr": 0.5}, "data": "abc"}
    assert checkpoint.differences(ours, theirs) == [
        "optimizer.lr: 0.5 -> default",
        "train.seed: 2 -> 1",
    ]
    assert checkpoint.differences(ours, ours) == []
    compiled = {"train": {"compile": "default"}}  # a value of that name is none that is not said
    assert checkpoint.differences({}, compiled) == ["train.compile: 'default' -> default"]


def test_a_checkpoint_of_another_configuration_names_what_differs(
    tiny_model, tiny_config, tiny_data, tmp_path
):
    Trainer(tiny_model(), tiny_config("train.epochs=1"), tiny_data(), tmp_path).fit()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    other = tiny_config("train.epochs=1", "optimizer.lr=0.5", "train.label_smoothing=0.2")
    with pytest.raises(CheckpointError) as error:
        Trainer(tiny_model(), other, tiny_data(), tmp_path).fit()
    for words in (
        "belongs to another configuration",
        "optimizer.lr: default -> 0.5",
        "train.label_smoothing: default -> 0.2",
        "Remove it, or choose another folder",
    ):
        assert words in str(error.value)
    with pytest.raises(CheckpointError, match="data: 'stripes-32-12-0' -> 'stripes-32-12-1'"):
        Trainer(tiny_model(), tiny_config("train.epochs=1"), tiny_data(seed=1), tmp_path).fit()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


# -- writing fails ---------------------------------------------------------------------------------


def test_a_folder_that_is_a_file(content, tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not write the checkpoint .*run/checkpoint.pt"):
        checkpoint.write(tmp_path / "run" / "checkpoint.pt", content)


FULL_DISK = """
    import resource, signal, sys, torch
    from pathlib import Path
    from terminator import ModelConfig, Terminator
    from terminator.runtime import checkpoint
    from terminator.runtime.paths import atomic_write

    folder = Path(sys.argv[1])
    model = Terminator(size=8, factors=(4,), global_hidden=4, local_hidden=4)
    checkpoint.write(folder / "checkpoint.pt", {"epoch": 1, "model": torch.zeros(10)})
    model.save(folder / "model.safetensors", kept=True)
    atomic_write(folder / "record.json", "{}")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit is then an error, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    for attempt in (lambda: checkpoint.write(folder / "checkpoint.pt", {"epoch": 2, "model": torch.zeros(10_000)}),
                    lambda: checkpoint.write(folder / "new.pt", {"epoch": 2, "model": torch.zeros(10_000)}),
                    lambda: model.save(folder / "model.safetensors"),
                    lambda: atomic_write(folder / "record.json", "x" * 10_000)):
        try:
            attempt()
        except Exception as error:
            print(f"{type(error).__name__}|{isinstance(error, (OSError, checkpoint.CheckpointError))}|{error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_disk_full_the_old_files_survive_and_nothing_is_left_behind(tmp_path):
    from terminator import Terminator

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    assert [line[1] for line in lines] == ["True"] * 4, done.stdout
    assert (
        "checkpoint.pt; the previous one is untouched (disk full, or not writable?)" in lines[0][2]
    )
    assert "new.pt (disk full, or not writable?)" in lines[1][2]
    assert "model.safetensors (disk full?)" in lines[2][2]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.pt", "model.safetensors", "record.json"]
    assert checkpoint.read(tmp_path / "checkpoint.pt")["epoch"] == 1
    assert Terminator.load(tmp_path / "model.safetensors").info == {"kept": True}
    assert (tmp_path / "record.json").read_text() == "{}"
