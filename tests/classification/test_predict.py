"""Files in, answers out: folders, tables, files that cannot be read, slow scores, other models."""

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_command import DIGITS

from terminator.__main__ import main
from terminator.classification.predict import answers, load_predictor, predict_files, show_scores
from terminator.data.reading import picture_files
from terminator.runs import records
from terminator.runs.answers import Answer, lines, table, tell
from terminator.runs.model_files import USES, OtherSystem, model_file
from terminator.runs.outputs import check_places
from terminator.runtime import weights

SMALL = [*DIGITS, "train.epochs=1", "train.device=cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder with two runs of an experiment; its run folders."""
    results = tmp_path_factory.mktemp("trained") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(results))
        patch.setenv("TERMINATOR_CACHE", str(results / "cache"))
        patch.setenv("TERMINATOR_HEADLESS", "1")
        for seed in (0, 1):
            words = [*SMALL, f"train.seed={seed}", "--profile", "smoke", "--experiment", "mine"]
            assert main(["train", *words]) == 0
    return results


@pytest.fixture
def call(call, trained, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(trained))
    return call


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures, one below another folder."""
    random = np.random.default_rng(1)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "more/a.png"):
        pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


def runs_of(trained):
    return sorted(path.parent for path in (trained / "runs" / "mine").glob("*/record.json"))


def test_a_file_a_run_and_an_experiment_are_models(trained, call, photos, monkeypatch, tmp_path):
    first, second = runs_of(trained)
    model = second / "model.safetensors"
    monkeypatch.chdir(tmp_path)
    for given in (model, second, trained / "runs" / "mine", "mine"):
        assert model_file(given, "classification") == model
    status, out, err = call("predict", "mine", photos)
    assert status == 0
    assert f"holds 2 models; taken is the last one, {second.name}" in err
    assert call("predict", first, photos)[2] == ""
    assert out == call("predict", second, photos)[1]
    status, out, _ = call("evaluate", second)
    assert status == 0
    assert "of 40 images" in out


def test_folders_tables_and_the_five_best(trained, call, photos, tmp_path):
    model = runs_of(trained)[0]
    words = ["--csv", tmp_path / "out" / "a.csv", "--json", tmp_path / "out" / "a.json"]
    status, out, _ = call("predict", model, photos, *words)
    assert status == 0
    files = picture_files([photos])
    assert [path.relative_to(photos).as_posix() for path in files] == [
        "a.png",
        "b.jpg",
        "more/a.png",
    ]
    assert all(str(path) in out for path in files)
    table = pd.read_csv(tmp_path / "out" / "a.csv")
    assert list(table["image"]) == [str(path) for path in files]
    single = predict_files(model / "model.safetensors", files)
    assert list(table["class"].astype(str)) == list(single["class"])
    assert np.allclose(table["probability"], single["probability"], atol=1e-5)
    found = json.loads((tmp_path / "out" / "a.json").read_text())
    for row, answer in zip(table.itertuples(), found, strict=True):
        odds = [entry["probability"] for entry in answer["top"]]
        assert len(odds) == 5
        assert odds == sorted(odds, reverse=True)
        assert 0 < sum(odds) <= 1 + 1e-6
        assert odds[1] == pytest.approx(row.probability_2)
        assert answer["error"] is None


def test_a_file_that_cannot_be_read_costs_its_own_row(trained, call, photos, tmp_path):
    model = runs_of(trained)[0]
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:50])
    status, out, err = call(
        "predict", model, photos, photos / "gone.png", tmp_path, "--json", tmp_path / "a.json"
    )
    assert status == 1
    # aa.png twice: by its folder, and by the folder above it
    assert err.splitlines() == ["error: 3 of 9 files could not be read, see above"]
    assert "aa.png is corrupt or truncated" in out
    assert "no image file at" in out
    found = {entry["image"]: entry for entry in json.loads((tmp_path / "a.json").read_text())}
    assert found[str(photos / "aa.png")]["top"] == []
    assert found[str(photos / "a.png")]["error"] is None
    status, _, err = call("predict", model, photos / "gone.png")
    assert status == 2
    assert "gone.png" in err


def test_answers_do_not_depend_on_the_files_beside_them(trained, photos):
    model = load_predictor(runs_of(trained)[0] / "model.safetensors")
    files = picture_files([photos])
    together = table(answers(model, files))
    alone = pd.concat([table(answers(model, [path])) for path in files])
    assert np.allclose(together["probability"], alone["probability"], atol=1e-5)
    assert list(together["error"]) == [""] * 3


def test_pictures_with_their_slow_scores(trained, call, photos, tmp_path):
    status, out, _ = call("predict", runs_of(trained)[0], photos, "--show", tmp_path / "shown")
    assert status == 0
    assert "3 pictures with their slow scores" in out
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == [
        "a-2.png",
        "a.png",
        "b.png",
    ]
    for path in (tmp_path / "shown").iterdir():
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        red, blue = pixels[..., 0], pixels[..., 2]
        assert (red - blue > 60).any()
        assert (blue - red > 60).any()


def test_shown_pictures_take_the_place_of_their_own_alone(trained, call, tmp_path):
    model, shown = runs_of(trained)[0], tmp_path / "shown"
    for folder, grey in (("x", 40), ("y", 200)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / folder / "cat.png")
    shown.mkdir()
    (shown / "cat.png").write_bytes(b"a user's own")
    os.mkfifo(shown / "cat-2.png")
    for folder in ("x", "y", "x"):
        assert call("predict", model, tmp_path / folder / "cat.png", "--show", shown)[0] == 0
    assert (shown / "cat.png").read_bytes() == b"a user's own"
    assert sorted(path.name for path in shown.iterdir()) == [
        "cat-2.png",
        "cat-3.png",
        "cat-4.png",
        "cat.png",
    ]


def test_pictures_that_were_made_here_are_not_read_as_photographs(trained, call, photos, tmp_path):
    model, inside = runs_of(trained)[0], photos / "scores"
    (photos / "list.txt").write_text("no picture")
    for _ in range(2):
        status, out, _ = call("predict", model, photos, "--show", inside, "--csv", tmp_path / "c")
        assert status == 0
        assert len(pd.read_csv(tmp_path / "c")) == 3
        assert f"note: of {photos}, 2 left out, no pictures by their names: list.txt, " in out
    assert f"note: of {photos}, 3 left out, answers of before: scores/a-2.png" in out
    assert call("predict", model, inside / "a.png")[0] == 0, "asked for by its name"


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_a_table_takes_the_place_of_tables_alone(trained, call, photos, tmp_path, option):
    model, own = runs_of(trained)[0], tmp_path / "own"
    for content in (
        b"\xff\xd8 a photograph",
        b"image,label\na.jpg,cat\n",
        b'{"run_id": 1}',
        b'[{"image": "a.jpg", "caption": "a cat"}]',
    ):
        own.write_bytes(content)
        status, _, err = call("predict", model, photos, option, own)
        assert status == 2
        assert f"{option} is '{own}', which is there and no table of answers" in err
        assert own.read_bytes() == content
    own.write_bytes(b"")  # as mktemp leaves it
    (tmp_path / "link").symlink_to(own)
    for _ in range(2):
        assert call("predict", model, photos, option, tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert own.stat().st_size > 100, "written where the link leads"
    os.mkfifo(tmp_path / "pipe")
    assert (
        "which is a pipe; allowed: a file"
        in call("predict", model, photos, option, tmp_path / "pipe")[2]
    )


def test_an_interrupt_loses_no_answer(trained, call, photos, tmp_path, monkeypatch):
    count = 2

    def interrupted(model, paths, top):
        yield from list(answers(model, paths, top))[:count]
        raise KeyboardInterrupt

    monkeypatch.setattr("terminator.classification.predict.answers", interrupted)
    words = ("predict", runs_of(trained)[0], photos, "--csv", tmp_path / "some.csv")
    status, out, _ = call(*words)
    assert status == 130
    assert len(pd.read_csv(tmp_path / "some.csv")) == count
    assert f"written: {tmp_path / 'some.csv'}" in out
    before = "image,class,probability,error\nwhole,cat,1,\n"
    (tmp_path / "some.csv").write_text(before)
    status, out, _ = call(*words)
    assert status == 130
    assert "a.png" in out
    assert (tmp_path / "some.csv").read_text() == before, "a whole table is not lost to a part"


def test_an_interrupt_before_the_first_answer(trained, call, photos, tmp_path, monkeypatch):
    def interrupted(model, paths, top):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("terminator.classification.predict.answers", interrupted)
    for option in ("--csv", "--json"):
        words = ("predict", runs_of(trained)[0], photos, option, tmp_path / "some")
        assert call(*words)[0] == 130
    assert not (tmp_path / "some").exists()


def test_a_file_that_begins_with_a_tilde(trained, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("~nobody.png")
    for name in ("~nobody.png", "./~nobody.png"):
        assert call("predict", runs_of(trained)[0], name)[0] == 0


def test_a_long_name_stops_no_other_picture(trained, call, tmp_path):
    for name in ("a" * 240, "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    files = sorted(tmp_path.glob("*.png"))
    assert call("predict", runs_of(trained)[0], *files, "--show", tmp_path / "shown")[0] == 0
    assert [len(path.stem) for path in sorted((tmp_path / "shown").iterdir())] == [150, 1]


def test_answers_are_written_before_they_are_told_and_whatever_files_are_called(tmp_path, capsys):
    odd = Path(os.fsdecode(b"caf\xe9.png"))
    found = [Answer(odd, (("cat", 0.9), ("dog", 0.1))), Answer(Path("b.png"), (("dog", 1.0),))]
    args = argparse.Namespace(csv=tmp_path / "a.csv", json=tmp_path / "a.json")
    assert tell(found, args) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"written: {args.csv}",
        f"written: {args.json}",
    ]
    assert json.loads(args.json.read_text())[0]["image"] == r"caf\xe9.png"
    for file in (args.csv, args.json):
        file.unlink()

    class Closed:
        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", Closed())
        with pytest.raises(BrokenPipeError):
            tell(found, args)
    assert args.csv.is_file()
    assert args.json.is_file()


def test_pictures_are_not_overwritten_by_their_answers(trained, call, photos, tmp_path):
    model, before = runs_of(trained)[0], {p: p.read_bytes() for p in photos.glob("*.*")}
    words = ("predict", model, photos / "a.png")
    status, out, err = call(*words, "--show", photos)
    assert (status, out) == (2, "")
    assert f"--show is '{photos}', where {photos / 'a.png'} lies" in err
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    for options, message in (
        (("--csv", photos / "a.png"), f"--csv is '{photos / 'a.png'}', which is read"),
        (("--json", photos / "a.png"), f"--json is '{photos / 'a.png'}', which is read"),
        (("--csv", tmp_path / "folder"), "folder', which is a folder; allowed: a file"),
        (("--show", tmp_path / "file"), "file', which is a file; allowed: a folder"),
        (("--csv", tmp_path / "x", "--json", tmp_path / "x"), "--csv and --json are both "),
    ):
        status, out, err = call(*words, *options)
        assert (status, out) == (2, "")
        assert message in err
    with pytest.raises(ValueError, match="--show is .*; allowed: another folder"):
        show_scores(load_predictor(model / "model.safetensors"), [Answer(photos / "a.png")], photos)
    assert {p: p.read_bytes() for p in photos.glob("*.*")} == before


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    for kind in ("files", "folders"):
        with pytest.raises(PermissionError, match="--o is .*x', and nothing can be written in "):
            check_places([], **{kind: {"--o": tmp_path / "new" / "x"}})


def test_a_place_below_a_file_and_the_place_of_a_link_are_refused(tmp_path, photos):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(PermissionError, match="nothing can be written in .*file; allowed"):
        check_places([], {"--csv": tmp_path / "file" / "a.csv"})
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "x.png").symlink_to(photos / "a.png")
    with pytest.raises(ValueError, match="--show is .*links/x.png lies"):
        check_places([tmp_path / "links" / "x.png"], folders={"--show": tmp_path / "links"})
    check_places([tmp_path / "links" / "x.png"], folders={"--show": tmp_path / "new"})


def test_no_answer_takes_the_place_of_what_is_read_or_of_another(call, trained, photos, tmp_path):
    model = tmp_path / "mine.safetensors"
    shutil.copy(runs_of(trained)[0] / "model.safetensors", model)
    before, show = model.read_bytes(), tmp_path / "shown"
    for options, words in (
        (["--csv", model], "--csv is .*mine.safetensors', which is read"),
        (["--csv", show, "--show", show], "--csv and --show are both"),
        (["--csv", show / "a.png", "--show", show], "called like the pictures that --show writes"),
    ):
        status, _, err = call("predict", model, photos, *options)
        assert status == 2
        assert re.search(words, err)
    assert model.read_bytes() == before
    assert not show.exists()
    assert call("predict", model, photos, "--csv", show / "a.csv", "--show", show)[0] == 0


def test_an_empty_word_is_no_folder(call, trained):
    model = runs_of(trained)[0]
    for words, name in ((("predict", model, ""), "images"), (("predict", "", model), "model")):
        status, out, err = call(*words)
        assert (status, out) == (2, "")
        assert f"{name}: '' is no path; allowed: the name of a file or folder" in err


def test_a_picture_in_the_models_place_is_said(call, photos):
    status, _, err = call("predict", photos / "a.png", photos / "b.png")
    assert status == 2
    assert "a.png is a picture, no model file; a model comes first: MODEL IMAGE..." in err


def test_names_stay_in_their_line(trained, photos, tmp_path):
    odd = tmp_path / "two\nlines.png"
    odd.write_bytes((photos / "a.png").read_bytes())
    model = load_predictor(runs_of(trained)[0] / "model.safetensors")
    assert len(lines(answers(model, [odd, photos / "a.png"])).splitlines()) == 3


def test_an_unfinished_training_has_no_model_yet(call, photos, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"")
    status, _, err = call("predict", tmp_path / "run", photos / "a.png")
    assert status == 2
    assert "the training is not finished (in its first epoch); the same command again goes" in err
    said = {"run_id": "a", "reason": "the loss is nan in epoch 3", "when": "2026"}
    (tmp_path / "run" / "diverged.json").write_text(json.dumps(said))
    err = call("predict", tmp_path / "run", photos / "a.png")[2]
    assert "run: the loss is nan in epoch 3" in err


# -- models of other systems -----------------------------------------------------------------------


@pytest.mark.parametrize("task", [task for task in USES if task != "classification"])
def test_a_model_of_another_system_sends_to_its_own_command(call, tmp_path, photos, task):
    path = tmp_path / "other.safetensors"
    weights.write(path, {}, {"format": f"terminator {task}", "config": "{}", "info": "{}"})
    status, _, err = call("predict", path, photos)
    assert status == 2
    assert f"holds a {task} model, not one of classification" in err
    named = {"segmentation": "segment", "few-shot": "fewshot-predict", "long-range": "longrange"}
    assert f"python -m terminator {named.get(task, task)}" in err
    assert "networks.load" not in err


def test_every_task_has_its_use_and_its_commands_exist():
    from terminator.__main__ import find_commands
    from terminator.report.tables import SYSTEMS

    assert set(USES) == {system.task for system in SYSTEMS}
    names = {command.name for commands in find_commands().values() for command in commands}
    for use in USES.values():
        said = use.split("python -m terminator ")[1].split()[0]
        assert said in names


def test_segment_sends_back(call, trained, photos):
    status, _, err = call("segment", runs_of(trained)[0], photos)
    assert status == 2
    assert "python -m terminator predict FILE IMAGE..." in err


def test_folders_without_a_model(call, trained, photos, tmp_path):
    status, _, err = call("predict", tmp_path, photos)
    assert status == 2
    assert f"no model.safetensors in the folder {tmp_path}" in err
    assert call("predict", "nowhere", photos)[0] == 2
    run = runs_of(trained)[0]
    shutil.copytree(run, tmp_path / "cli" / "a")
    record = records.read_record(tmp_path / "cli" / "a" / "record.json")
    records.write_record(tmp_path / "cli" / "a" / "record.json", record | {"task": "gan"})
    with pytest.raises(OtherSystem, match="holds no classification model, but gan"):
        model_file(tmp_path / "cli", "classification")
