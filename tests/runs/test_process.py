"""What a run does to the process it runs in, and what others in it do to the run: nothing."""

import ctypes
import subprocess
import sys
import threading

import pytest
import torch

import terminator
from terminator.classification.runs import CLASSIFICATION


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

    threads = [threading.Thread(target=train, args=("threads", seed)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert both("threads") == both("one-by-one")


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
import torch
from terminator.runtime import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

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


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
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
    monkeypatch.setattr("terminator.runs.system.give_back", lambda: calls.append("give back"))
    train("mine")
    assert calls == ["keep", "give back"]
