"""What a user's own run leaves: curves, a page, a row of the results page, words on the terminal."""

import re
import sys
import types
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from places import ROOT
from small_command import DIGITS

from terminator.classification.presets import preset
from terminator.classification.runs import CLASSIFICATION
from terminator.plots.run_curves import run_curves
from terminator.runs import folders, records
from terminator.runs.leavings import TensorBoard
from terminator.runtime.paths import ForeignFile

SMALL = [*DIGITS, "train.epochs=2", "train.device=cpu"]


def test_a_run_leaves_curves_a_page_and_the_way_to_its_model(call, tmp_path):
    status, out, _ = call("train", *SMALL, "--profile", "smoke")
    assert status == 0
    (record,) = records.load_records("cli")
    folder = CLASSIFICATION.folder_of(record)
    lines = out.splitlines()
    assert lines[-1] == f"model: {folder / 'model.safetensors'}"
    assert lines[-2] == f"page: {folder / 'index.html'}"
    assert Image.open(folder / "curves.png").size > (600, 200)
    page = (folder / "index.html").read_text()
    for link in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert (folder / unquote(link)).exists(), link
    accuracy = record["results"]["released"]["accuracy"]
    assert f"{accuracy:.4g}" in page
    assert f"python -m terminator predict {folder / 'model.safetensors'} IMAGE..." in page
    assert "train.epochs" in page
    assert "//" not in page  # nothing is loaded from elsewhere
    index = (tmp_path / "results" / "index.html").read_text()
    assert f'href="runs/cli/{record["run_id"]}/index.html"' in index
    assert f"released {accuracy:.2f} %" in index


def test_a_page_of_somebody_elses_stays(call, tmp_path):
    page = tmp_path / "results" / "index.html"
    page.parent.mkdir()
    page.write_text("<h1>mine</h1>")
    status, out, _ = call("train", *SMALL, "--profile", "smoke")
    assert status == 0
    assert f"note: {page} is no page of this kit, and stays as it is" in out
    assert page.read_text() == "<h1>mine</h1>"


@pytest.mark.parametrize("name", [*folders.WRITTEN, "checkpoint.pt"])
def test_a_folder_of_somebody_elses_stays(tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / ".notes.tmpl").write_text("mine, too")
    with pytest.raises(ForeignFile, match=f"has a file {name} and no record of a run"):
        folders.once(tmp_path, lambda: pytest.fail("trained"), force=True, given=True)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine", "mine, too"}
    left = tmp_path / ".metrics-0123abcd.tmp.csv"
    (tmp_path / name).unlink()
    left.touch()
    (tmp_path / "diverged.json").write_text("mine as well")  # no such thing of the kit's
    assert folders.once(tmp_path, lambda: {"made": True}, given=True) == {"made": True}
    assert (tmp_path / ".notes.tmpl").is_file()
    assert not left.exists()
    (tmp_path / name).write_text("a training's own, which was here")
    assert folders.once(tmp_path, lambda: {"made": 2}, force=True, given=True) == {"made": 2}


def test_a_repeated_command_says_that_nothing_was_trained(call):
    first = call("train", *SMALL, "--profile", "smoke")[1]
    assert "finished before" not in first
    again = call("train", *SMALL, "--profile", "smoke")[1]
    assert "finished before, nothing trained (--force trains again)" in again
    assert again.splitlines()[-1] == first.splitlines()[-1]
    assert "finished before" not in call("train", *SMALL, "--profile", "smoke", "--force")[1]


def test_a_record_without_its_model_says_so(call):
    call("train", *SMALL, "--profile", "smoke")
    (record,) = records.load_records("cli")
    (CLASSIFICATION.folder_of(record) / "model.safetensors").unlink()
    out = call("train", *SMALL, "--profile", "smoke")[1]
    assert out.splitlines()[-1].endswith("(not on this machine; --need-model trains it)")


def test_names_in_a_page_are_text(call, tmp_path):
    folder = tmp_path / "<b>pictures"
    random = np.random.default_rng(0)
    for name, low in (("dark<i>", 0), ("light", 120)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(low, low + 130, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    words = [word for word in SMALL if not word.startswith(("dataset", "train.batch"))]
    assert call("train", "preset=own", f"dataset.name={folder}", *words)[::2] == (0, "")
    (record,) = records.load_records("cli")
    pages = [CLASSIFICATION.folder_of(record) / "index.html", tmp_path / "results" / "index.html"]
    for page in pages:
        assert "<b>" not in page.read_text()
        assert "&lt;b&gt;" in page.read_text()


# -- curves ----------------------------------------------------------------------------------------


def test_curves_of_any_system():
    rows = pd.DataFrame(
        {
            "epoch": [1, 2],
            "lr": [0.1, 0.0],
            "discriminator_loss": [1.0, 0.5],
            "generator_loss": [-1.0, 0.5],
            "val_accuracy": [50.0, 60.0],
            "val_interval": [1.0, 1.0],
            "frechet": [3.0, 2.0],
            "seconds": [1.0, 1.0],
            "images_per_s": [9.0, 9.0],
        }
    )
    figure = run_curves(rows)
    assert [axis.get_ylabel() for axis in figure.axes] == ["%", "loss", "learning rate", "others"]
    drawn = {
        line.get_label(): list(line.get_ydata()) for axis in figure.axes for line in axis.lines
    }
    assert drawn == {
        "val accuracy": [50.0, 60.0],
        "discriminator loss": [1.0, 0.5],
        "generator loss": [-1.0, 0.5],
        "lr": [0.1, 0.0],
        "frechet": [3.0, 2.0],
    }
    assert figure.axes[1].get_yscale() == "linear"  # a GAN's loss may lie below 0
    with pytest.raises(ValueError, match="nothing to draw"):
        run_curves(rows[["epoch", "seconds"]])


# -- callbacks -------------------------------------------------------------------------------------


def small():
    return preset("digits").updated(*SMALL)


def test_callbacks_hear_of_every_epoch():
    heard = []
    run = CLASSIFICATION.run(
        small(), "mine", callbacks=[lambda rows: heard.append((len(rows), rows[-1]["loss"]))]
    )
    assert run.trained
    assert heard == [(row["epoch"], row["loss"]) for row in run.record["epochs"]]
    again = CLASSIFICATION.run(small(), "mine", callbacks=[lambda rows: heard.append(rows)])
    assert not again.trained
    assert len(heard) == 2


@pytest.fixture
def writer(monkeypatch):
    """A stand-in for torch.utils.tensorboard that keeps what is written."""
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            pass

        def close(self):
            pass

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return written


def test_tensorboard_is_told_every_number(call, writer):
    status, out, _ = call("train", *SMALL, "--profile", "smoke", "--tensorboard")
    assert status == 0
    (record,) = records.load_records("cli")
    folder = CLASSIFICATION.folder_of(record) / "tensorboard"
    assert f"tensorboard --logdir {folder}" in out
    assert writer[0] == (str(folder), 1)
    for row in record["epochs"]:
        for name in ("loss", "lr", "test_accuracy"):
            assert (name, row[name], row["epoch"]) in writer
    assert not [entry for entry in writer[1:] if entry[0] == "epoch"]


def test_tensorboard_after_a_checkpoint_hears_of_the_epochs_before(writer):
    board = TensorBoard()
    board([{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}])
    board([{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}, {"epoch": 3, "loss": 1.0}])
    assert writer[1:] == [("loss", 3.0, 1), ("loss", 2.0, 2), ("loss", 1.0, 3)]


def test_one_tensorboard_for_two_runs_writes_to_both_folders(writer, tmp_path):
    board = TensorBoard()
    for name in ("first", "second"):
        board.start(name, tmp_path / name)
        board([{"epoch": 1, "loss": 3.0}])
    folders = [entry for entry in writer if str(tmp_path) in str(entry)]
    assert [str(tmp_path / name / "tensorboard") in str(folders) for name in ("first", "second")]
    assert len(folders) == 2


def test_without_tensorboard_nothing_is_trained(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    status, _, err = call("train", *SMALL, "--tensorboard")
    assert status == 2
    assert "pip install tensorboard" in err
    assert not records.load_records()


def test_what_a_callback_does_with_its_rows_changes_no_record():
    def spoil(rows):
        rows[-1].pop("seconds")
        rows[-1]["mine"] = object()

    run = CLASSIFICATION.run(small(), "mine", callbacks=[spoil, lambda rows: rows.clear()])
    assert all("seconds" in row and "mine" not in row for row in run.record["epochs"])
    assert len(run.record["epochs"]) == small().train.epochs


def test_the_documented_callbacks_work(monkeypatch, writer):
    """The examples of docs/callbacks.md, with stand-ins for the services."""
    calls = []

    def service(name, *functions):
        module = types.ModuleType(name)
        for function in functions:
            setattr(module, function, lambda *a, f=function, **k: calls.append((name, f, a, k)))
        monkeypatch.setitem(sys.modules, name, module)

    service("wandb", "init", "log")
    service("mlflow", "set_experiment", "start_run", "log_metrics", "end_run")
    text = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names = {"small": small()}
    for number, block in enumerate(blocks):
        block = block.replace('"mine"', f'"mine{number}"')
        exec(block.replace('preset("digits")', "small"), names)
    logged = [call for call in calls if call[1] in ("log", "log_metrics")]
    assert [k["step"] for _, _, _, k in logged] == [1, 2, 1, 2]
    assert all("test_accuracy" in a[0] for _, _, a, _ in logged)
    assert [call[1] for call in calls if "start" in call[1] or "init" in call[1]] == [
        "init",
        "start_run",
    ]
    assert [call[1] for call in calls if call[0] == "mlflow"][-1] == "end_run"
    assert [entry for entry in writer if entry[0] == "loss"]
