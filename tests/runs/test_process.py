"""What a run does to the process it runs in, and what others in it do to the run: nothing."""

import ctypes
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import terminator
from terminator.classification.presets import preset
from terminator.classification.runs import CLASSIFICATION
from terminator.data import from_arrays
from terminator.runtime.locks import Busy


def losses(run):
    return [row["loss"] for row in run.record["epochs"]]


@pytest.fixture
def train(tiny_config, tiny_data):
    """Train a tiny network with dropout: train("mine", seed=1)."""

    def run(experiment, seed=0, **options):
        config = tiny_config(f"train.seed={seed}", model={"dropout": (0.3,)})
        return CLASSIFICATION.run(config, experiment, data=tiny_data(), **options)

    return run


@pytest.mark.parametrize("name", ["omniglot", "camvid", "digits"])
def test_a_model_that_is_loaded_leaves_the_random_numbers_alone(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    terminator.pretrained(name)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_leaves_the_random_numbers_alone_trained_or_read(train):
    torch.manual_seed(5)
    expected = torch.rand(3)
    for trained in (True, False):
        torch.manual_seed(5)
        assert train("mine").trained is trained
        assert torch.equal(torch.rand(3), expected)


def test_a_callback_that_draws_changes_no_training(train):
    class Watch:
        def start(self, run_id, folder):
            torch.rand(7)

        def __call__(self, rows):
            torch.manual_seed(3)

    assert losses(train("watched", callbacks=[Watch()])) == losses(train("alone"))


def test_trainings_in_threads_are_those_of_one_after_the_other(train):
    def both(experiment):
        return [losses(train(experiment, seed)) for seed in (1, 2)]

    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(train, "threads", seed) for seed in (1, 2)]
        assert all(run.result().trained for run in runs)
    assert not train("threads", 1).trained
    assert both("threads") == both("one-by-one")


def test_who_does_not_wait_is_told_of_another_training(train, capsys):
    inside, go_on = threading.Event(), threading.Event()

    def hold(rows):
        inside.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor() as threads:
        first = threads.submit(train, "first", callbacks=[hold])
        assert inside.wait(60)
        with pytest.raises(Busy, match="another thread of this process trains"):
            train("second", wait=False)
        second = threads.submit(train, "second")
        while "waiting for another training" not in capsys.readouterr().out:
            assert not second.done()
        go_on.set()
        assert losses(first.result()) == losses(second.result())


def test_loading_in_threads_is_of_one_type():
    torch.set_default_dtype(torch.float64)
    try:
        with ThreadPoolExecutor(4) as threads:
            models = list(threads.map(terminator.pretrained, ["digits"] * 8))
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for model in models for p in model.parameters()} == {torch.float32}


def test_neither_saving_nor_loading_seeds_anything(tiny_model, tmp_path, monkeypatch):
    model, seeds = tiny_model(), []
    monkeypatch.setattr(torch, "default_generator", SimpleNamespace(manual_seed=seeds.append))
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    model.save(tmp_path / "model.safetensors")
    for name in ("camvid", "omniglot", "digits"):
        terminator.pretrained(name)
    assert not seeds


def test_a_run_of_arrays_is_none_of_the_data_that_the_settings_name():
    pixels = np.random.default_rng(0).integers(0, 256, (150, 3, 16, 16), dtype=np.uint8)
    labels = np.arange(150) % 3
    data = from_arrays(pixels[:100], labels[:100], pixels[100:], labels[100:], "abc")
    config = preset("own").updated("train.epochs=1", "model.factors=[12,2]")
    run = CLASSIFICATION.run(config, "mine", data=data)
    assert run.record["config"]["dataset"]["name"] == run.record["data"]["name"] == "arrays"
    assert CLASSIFICATION.find_record(config, "mine", "smoke") is None
    assert not CLASSIFICATION.run(config, "mine", data=data).trained


def test_the_users_default_type_and_inference_mode_are_not_the_runs(train):
    torch.set_default_dtype(torch.float64)
    try:
        model = terminator.pretrained("digits")
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        found = losses(train("double"))
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        inside = losses(train("inference"))
        assert torch.is_inference_mode_enabled()
    assert found == inside == losses(train("plain"))


def test_a_folder_may_be_named_by_its_text(train, tmp_path):
    assert train("mine", folder=str(tmp_path / "here")).folder == tmp_path / "here"


MEMORY = """
import os
import torch
from terminator.runtime import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def used():
    pieces = [torch.ones(2**20) for _ in range(100)]  # 400 MiB
    del pieces
    return resident()

before = used()
memory.keep_freed_memory()
kept = used()
memory.give_back()
print(kept - before, resident() - before)
"""


GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_memory_that_was_kept_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    kept, given_back = map(float, done.stdout.split())
    assert kept > 300
    assert given_back < 100


def test_a_run_ends_with_memory_as_it_was(train, monkeypatch):
    calls = []
    monkeypatch.setattr("terminator.trainer.keep_freed_memory", lambda: calls.append("keep"))
    monkeypatch.setattr("terminator.runs.threads.give_back", lambda: calls.append("give back"))
    train("mine")
    assert calls == ["keep", "give back"]
