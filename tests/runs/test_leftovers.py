"""What a kill leaves behind, the next start puts in order; what no record could hold is refused
before a training.
"""

import dataclasses
import os

import pandas as pd
import pytest

from terminator.__main__ import main
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.trainer import Trainer
from terminator.runs import folders, records
from terminator.runtime import checkpoint, locks
from terminator.runtime.paths import results_dir


class Killed(BaseException):
    """As by SIGKILL: nothing behind it runs."""


@pytest.fixture
def run(tiny_config, tiny_data):
    def make(**options):
        return CLASSIFICATION.run(
            tiny_config("train.epochs=1"), "left", "laptop", data=tiny_data(), **options
        )

    return make


def index():
    path = results_dir() / "index.csv"
    return list(pd.read_csv(path)["run_id"]) if path.is_file() else None


@pytest.mark.parametrize("when", ["before the index", "while the index is written"])
def test_a_kill_between_record_and_end(when, run, monkeypatch, capsys):
    results = results_dir()
    with monkeypatch.context() as patch:

        def killed(path, frame):
            if path.name == "index.csv":
                if when == "while the index is written":
                    half = results / ".index-0123abcd.tmp.csv"
                    half.write_text("half")
                    os.utime(half, (1, 1))
                raise Killed
            return whole(path, frame)

        whole = records.write_csv
        patch.setattr(records, "write_csv", killed)
        with pytest.raises(Killed):
            run()
    (folder,) = (results / "runs" / "left").iterdir()
    assert records.read_record(folder / "record.json")["status"] == records.FINISHED
    assert (folder / "checkpoint.pt").is_file()
    assert index() is None
    (folder / ".metrics-0123abcd.tmp.csv").write_text("half")
    capsys.readouterr()
    again = run()
    said = capsys.readouterr().out
    assert "what an interrupted end had left is put in order" in said
    assert "epoch" not in said
    assert index() == [again.record["run_id"]]
    left = {path.name for path in (*folder.iterdir(), *results.iterdir())}
    assert left <= {"record.json", "metrics.csv", "model.safetensors", ".lock", "index.csv", "runs"}
    run()
    assert "in order" not in capsys.readouterr().out


def test_an_index_that_another_process_writes_without_the_lock_is_left_alone():
    results = results_dir()
    results.mkdir(parents=True, exist_ok=True)
    fresh, old = (results / f".index-{token}.tmp.csv" for token in ("0123abcd", "4567abcd"))
    fresh.write_text("of a process that waited for the lock for too long")
    old.write_text("of one that was killed")
    somebodys, of_another = (results / f".index-{name}.csv" for name in ("notes.tmp", "0123abcd"))
    for path in (somebodys, of_another):
        path.write_text("not half an index")
    for path in (old, somebodys, of_another):
        os.utime(path, (1, 1))
    with folders.index_alone(results / "index.csv"):
        assert all(path.is_file() for path in (fresh, somebodys, of_another))
        assert not old.exists()


def test_what_another_process_needs_is_left_alone(run):
    first = run()
    path = first.folder / "checkpoint.pt"
    path.write_bytes(b"of another process")
    lock = locks.folder_lock(first.folder)
    lock.acquire()
    run()
    assert path.is_file()
    lock.release()
    run()
    assert not path.is_file()


def test_a_checkpoint_whose_model_is_gone_is_kept(run):
    first = run()
    (first.folder / "model.safetensors").unlink()
    path = first.folder / "checkpoint.pt"
    path.write_bytes(b"the way back to the weights")
    run()
    assert path.is_file()


def test_an_index_is_read_and_written_by_one_at_a_time(run, monkeypatch):
    first = run()
    lock = locks.folder_lock(results_dir() / "runs")
    lock.acquire()
    monkeypatch.setattr(folders, "INDEX_WAIT_S", 0.0)
    CLASSIFICATION.rebuild_index()  # another that hangs stops nobody for good
    lock.release()
    assert index() == [first.record["run_id"]]


# -- records that cannot be ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"classes": ("a", "b", "caf\udce9", "d")}, r"data.classes\[2\]"),
        ({"title": "x\ud800"}, "data.title"),
        ({"notes": ("fine", b"bytes")}, r"data.notes\[1\]"),
        ({"name": object()}, "data.name"),
    ],
)
def test_what_no_record_could_hold_is_refused_before_training(
    changes, field, tiny_config, tiny_data, monkeypatch
):
    data = tiny_data()
    data = dataclasses.replace(data, info=dataclasses.replace(data.info, **changes))
    monkeypatch.setattr(CLASSIFICATION, "names", lambda config, data: ("x",))
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("it was trained"))
    with pytest.raises(ValueError, match=f"could not be written: its {field} is"):
        CLASSIFICATION.run(tiny_config(), "left", data=data)
    assert records.load_records() == []


def test_what_a_record_holds_is_as_it_is_read_again():
    record = {"a": (1, 2), "b": {"c": None, "d": "été"}, "e": [True, 1.5]}
    assert records.check_writable_record(record) == {**record, "a": [1, 2]}


def test_a_class_folder_that_is_not_utf8_is_refused_by_name(tmp_path, capsys):
    for name in (b"caf\xe9", b"tea"):
        folder = bytes(tmp_path) + b"/drinks/" + name
        os.makedirs(folder)
        for number in range(4):
            with open(folder + b"/%d.png" % number, "wb") as file:
                file.write(b"x")
    assert main(["train", f"dataset.name={tmp_path / 'drinks'}"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "has the class folder 'caf\\udce9', whose name is not UTF-8: rename it" in said


def test_checkpoints_of_a_killed_training_are_still_gone_on_with(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(CLASSIFICATION, "results", lambda trainer: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run()
    (folder,) = (results_dir() / "runs" / "left").iterdir()
    assert len(checkpoint.read(folder / "checkpoint.pt")["rows"]) == 1
    assert run().folder == folder
    assert not (folder / "checkpoint.pt").exists()
