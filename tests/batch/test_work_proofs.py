"""The work leaves what the notebooks' own training leaves, and starts torchrun where it is asked."""

import json

import batch_tools
import pytest
import torch

from terminator.batch import work
from terminator.batch.local import Local
from terminator.batch.plan import Planner
from terminator.classification import studies
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import records
from terminator.runs.study import run_study
from terminator.runtime import weights

NOT_OF_TIME = ("epochs", "results", "config", "data", "parameters", "status", "experiment", "task")


def made(planner, **options):
    done = work.Work(planner, Local(2), lambda work: None, **options)
    assert done.run()
    assert done.left() == {}
    return done.plan


def there(folder):
    """{run: what its record and model say, but for times} of a results folder."""
    found = {}
    for path in sorted(folder.glob("runs/*/*/record.json")):
        record = json.loads(path.read_text())
        rows = [
            {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")}
            for row in record["epochs"]
        ]
        said = {key: record[key] for key in NOT_OF_TIME} | {"epochs": rows}
        tensors, _ = weights.read(path.parent / "model.safetensors")
        found[f"{path.parts[-3]}/{path.parts[-2]}"] = said, tensors
    return found


@pytest.fixture
def one_thread(monkeypatch):
    """Here as in the processes of the work: other numbers of threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_the_work_leaves_the_records_of_the_notebooks_own_training(
    one_thread, tmp_path, monkeypatch
):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "work"))
    plan = made(Planner("smoke", ["10*"]))
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "notebooks"))
    run_study(CLASSIFICATION, studies.sequences("smoke"), "smoke")  # as that notebook does
    mine, theirs = there(tmp_path / "work"), there(tmp_path / "notebooks")
    assert mine.keys() == theirs.keys() == plan.runs.keys()
    assert len(mine) == 5
    for key, (said, tensors) in mine.items():
        assert said == theirs[key][0], key
        assert tensors.keys() == theirs[key][1].keys()
        assert all(torch.equal(value, theirs[key][1][name]) for name, value in tensors.items())


@pytest.mark.slow
def test_a_training_of_two_processes_in_one_job(monkeypatch):
    needs = batch_tools.tiny_needs(1, "train.epochs=2")
    monkeypatch.setattr("terminator.batch.plan.notebooks_of", lambda *given: needs)
    ((key, run),) = made(Planner("smoke"), processes=2).runs.items()
    (record,) = records.load_records("tiny")
    assert run.state.record == record
    assert [row["epoch"] for row in record["epochs"]] == [1, 2]
    log = (run.folder.parents[2] / "logs" / f"{key}.log").read_text()
    assert log.count("s of training") == 1  # the first process speaks for both
