"""Models to give away: made from a run, measured by themselves, known by name, damaged, refused."""

import argparse
import json
import math
import random
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from places import ROOT
from small_command import NETWORK

import terminator
from terminator import Config, Terminator
from terminator.classification import finetuning
from terminator.classification.commands import build_config
from terminator.classification.evaluation import evaluate_file
from terminator.classification.runs import CLASSIFICATION
from terminator.data import load, normalize
from terminator.data.decoding import write_class_folders
from terminator.hypertransformer.fewshot.learner import Learner, shown_in
from terminator.runs import records
from terminator.runs.comparison import of_examples
from terminator.runs.model_files import task_in
from terminator.runtime import checkpoint, shipped, weights
from terminator.runtime.settings import identity
from terminator.slow_net import SinusoidalFilter
from terminator.zoo import cards, making

WORDS = [
    "dataset.name=digits",
    "dataset.channels=3",
    "dataset.train_size=128",
    "dataset.test_size=60",
    *NETWORK,
    "train.batch_size=16",
    "train.epochs=2",
    "train.device=cpu",
    "scheduler.warmup_epochs=0",
    "test.calibration_images=64",
    "test.batch_size=20",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run, and the checkpoint that it had after its first epoch, in a folder each."""
    root = tmp_path_factory.mktemp("shipping")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(root / "results"))
        patch.setenv("TERMINATOR_CACHE", str(root / "cache"))
        patch.setenv("TERMINATOR_HEADLESS", "1")

        def keep(rows):
            for path in root.glob("results/runs/*/*/checkpoint.pt"):
                if len(rows) == 1:
                    shutil.copytree(path.parent, root / "stopped")

        config = Config().updated(*WORDS)
        run = CLASSIFICATION.run(config, "some", "smoke", callbacks=[keep])
    return run.folder, root / "stopped"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder of the package's models that is empty."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def mine(trained, package):
    """The model "mine" of the package."""
    return shipped.add("mine", making.make(trained[0], "mine"))


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (20, 30), (200, 10, 30)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


# -- made and measured -----------------------------------------------------------------------------


def test_a_model_takes_the_place_of_its_own_file_alone(trained, package, call, tmp_path):
    run, own = trained[0], tmp_path / "own.safetensors"
    for place, words in (
        (run / "model.safetensors", "which is a file of something else; allowed: a new file, or"),
        (run / "record.json", "which is a file of something else"),
        (tmp_path, "which is a folder; allowed: a new file"),
    ):
        before = place.read_bytes() if place.is_file() else None
        status, _, err = call("ship", run, "mine", "--to", place)
        assert status == 2
        assert f"--to is '{place}', {words}" in err
        assert before is None or place.read_bytes() == before
    for _ in range(2):
        assert call("ship", run, "mine", "--to", own)[0] == 0
    assert "of something else" in call("ship", run, "other", "--to", own)[2]
    assert call("ship", run, "mine")[0] == 0
    before = terminator.pretrained("mine").info["card"]
    for name in ("mine", "Mine"):
        status, _, err = call("ship", run, name)
        assert status == 2
        assert f"NAME is '{name}', and the package has a model 'mine'; allowed: another" in err
    assert "has a model 'mine'" in call("ship", run, "MINE", "--renew")[2]
    assert call("ship", run, "mine", "--renew", "--test-images", "40")[0] == 0
    assert terminator.pretrained("mine").info["card"] != before


def test_a_file_says_what_exactly_it_reaches(trained, package, call):
    status, out, _ = call("ship", trained[0], "mine")
    assert status == 0
    model = terminator.pretrained("mine")
    card = model.info["card"]
    again = evaluate_file("mine", Config().updated(*WORDS))
    for protocol, found in card["accuracy"].items():
        for measure in ("accuracy", "cross_entropy", "images"):
            assert found[measure] == pytest.approx(again[protocol][measure])
    assert card["accuracy"]["calibrated"]["calibration_images"] == 64
    assert (card["epochs"], card["of"], card["steps_of_next"]) == (2, 2, 0)
    assert model.info["run_id"] == trained[0].name
    reached = card["accuracy"]["calibrated"]["accuracy"]
    half = of_examples(reached, 60)  # by the number of images
    assert f"{reached:.2f} ± {half:.2f} % of 60 test images" in out
    assert call("models")[1].strip() in out.splitlines()
    assert cards.page() != (ROOT / "docs" / "models.md").read_text(encoding="utf8")
    text = call("card", "mine")[1]
    assert "after 2 of 2 epochs" in text
    assert trained[0].name in text
    assert text in cards.page().replace("## mine", "# mine")
    words = shlex.split(text.split("```\n")[1])[4:]
    assert build_config(words) == Config().updated(*WORDS).updated("train.device=auto")


def test_weights_are_16_bits_wide_but_for_the_frequencies(mine, trained):
    model, whole = (
        Terminator.from_pretrained("mine"),
        CLASSIFICATION.load(trained[0] / "model.safetensors")[0],
    )
    from safetensors import safe_open

    wide = weights.wide_weights(model)
    assert {name.split(".")[-3] for name in wide} == {"filters"}
    assert SinusoidalFilter.needs_float32
    with safe_open(mine, "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}
    for name, kind in kinds.items():
        if name.endswith(".value") or name.endswith("moments"):
            assert kind == torch.float64
        elif kind != torch.float64:
            assert kind == (torch.float32 if name in wide else torch.float16), name
    for name, value in model.named_parameters():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, whole.get_parameter(name), rtol=1e-3, atol=1e-7)
    assert mine.stat().st_size < 0.85 * (trained[0] / "model.safetensors").stat().st_size


def test_narrowing_again_changes_nothing(mine, tmp_path):
    weights.narrow(
        mine, tmp_path / "again.safetensors", weights.wide_weights(terminator.pretrained("mine"))
    )
    assert (tmp_path / "again.safetensors").read_bytes() == mine.read_bytes()


def test_a_run_under_way_says_how_far_it_is(trained, package, call):
    assert call("ship", trained[1], "half", "--test-images", "40", "--profile", "smoke")[0] == 0
    info = terminator.pretrained("half").info
    assert (info["card"]["epochs"], info["card"]["of"]) == (1, 2)
    assert info["card"]["accuracy"]["released"]["images"] == 40
    assert info["run_id"] == trained[0].name
    assert "after 1 of 2 epochs" in call("models")[1]
    assert "| 40 of 60 |" in call("card", "half")[1]


def test_a_checkpoint_alone_is_enough(trained, tmp_path, call):
    path = tmp_path / "copy" / "checkpoint.pt"
    path.parent.mkdir()
    shutil.copy(trained[1] / "checkpoint.pt", path)
    words = ("--to", tmp_path / "given.safetensors", "--profile", "smoke")
    assert call("ship", path, "given", *words)[0] == 0
    model = Terminator.from_pretrained(tmp_path / "given.safetensors")
    assert model.info["run_id"] == trained[0].name
    saved = checkpoint.read(path)["model"]["classifier.weight"]
    torch.testing.assert_close(model.classifier.weight, saved, rtol=1e-3, atol=1e-7)


def test_what_cannot_be_shipped(trained, package, tmp_path, call):
    assert "allowed: a run's folder" in call("ship", tmp_path, "x")[2]
    assert "NAME is 'a/b'" in call("ship", trained[0], "a/b")[2]
    assert (
        "test-images is 61; allowed: 2 to 60"
        in call("ship", trained[0], "x", "--test-images", "61")[2]
    )
    shutil.copytree(trained[1], tmp_path / "other")
    saved = checkpoint.read(tmp_path / "other" / "checkpoint.pt")
    saved["identity"]["data"] = "0" * 64
    checkpoint.write(tmp_path / "other" / "checkpoint.pt", saved)
    status, _, err = call("ship", tmp_path / "other", "x")
    assert status == 2
    assert "not those that" in err
    saved["model"].pop(next(iter(saved["model"])))
    checkpoint.write(tmp_path / "other" / "checkpoint.pt", saved)
    status, _, err = call("ship", tmp_path / "other", "x")
    assert status == 2
    assert "does not hold a whole model: its weights do not fit" in err
    assert shipped.names() == []


# -- used ------------------------------------------------------------------------------------------


def test_a_name_in_the_place_of_a_file(mine, call, picture, tmp_path):
    status, out, _ = call(
        "predict", "mine", picture, "--json", tmp_path / "a.json", "--show", tmp_path / "shown"
    )
    assert status == 0
    assert len(json.loads((tmp_path / "a.json").read_text())[0]["top"]) == 5
    assert (tmp_path / "shown" / "red.png").is_file()
    assert out.splitlines()[:2] == call("predict", mine, picture)[1].splitlines()
    assert call("predict", "mine", picture, "--top", "10", "--json", tmp_path / "b.json")[0] == 0
    assert len(json.loads((tmp_path / "b.json").read_text())[0]["top"]) == 10
    (tmp_path / "mine").mkdir()
    assert "is the model of the package" in call("predict", "mine", picture)[2]


def test_what_is_refused(mine, call, picture, tmp_path):
    status, _, err = call("predict", "yours", picture)
    assert status == 2
    assert "model is 'yours'" in err
    assert "(mine)" in err
    with pytest.raises(
        shipped.NoSuchModel, match="'yours'; allowed: a model of the package .mine."
    ):
        terminator.pretrained("yours")
    status, _, err = call("predict", "mine", picture, "--top", "11")
    assert (status, "top is 11; allowed: 1 to 10" in err) == (2, True)
    (tmp_path / "text.png").write_text("no picture")
    status, _, err = call("predict", "mine", tmp_path / "text.png")
    assert (status, "text.png" in err) == (2, True)
    status, _, err = call("evaluate", "mine", "dataset.channels=1", "dataset.train_size=128")
    assert (status, "takes inputs (3, 8, 8) of 10 classes" in err) == (2, True)


def test_a_damaged_file_is_known(mine, call, picture):
    content = bytearray(mine.read_bytes())
    content[-5] ^= 1
    mine.write_bytes(content)
    status, _, err = call("predict", "mine", picture)
    assert status == 2
    assert "is not the file that was shipped" in err
    with pytest.raises(ValueError, match="its weights are not those that were saved"):
        Terminator.from_pretrained(mine)
    mine.unlink()
    assert "begins with gone" in call("card", "mine")[2]


def test_a_file_of_a_later_version(mine, call, picture, tmp_path):
    tensors, metadata = weights.read(mine)
    path = tmp_path / "later.safetensors"
    weights.write(path, tensors, {**metadata, "version": "3"})
    status, _, err = call("predict", path, picture)
    assert status == 2
    assert "is a model file of version '3', written by a later version of the kit" in err


def test_a_file_without_a_card(trained, call):
    status, _, err = call("card", trained[0] / "model.safetensors")
    assert (status, "has no card" in err) == (2, True)


# -- taken to other classes ------------------------------------------------------------------------


@pytest.fixture
def threes(tmp_path):
    """A folder of pictures of three classes that have names of their own."""
    digits = load("digits", channels=3)
    kept = digits.train_labels < 3
    folder = tmp_path / "threes"
    images, labels = digits.train_images[kept][:60], digits.train_labels[kept][:60]
    write_class_folders(folder, images.numpy(), labels.numpy(), ("ball", "stick", "swan"))
    return folder


def test_other_classes_get_a_new_classifier_and_the_rest_of_the_weights(mine, call, threes):
    words = ["pretrained.load=True", "pretrained.filename=mine", f"dataset.name={threes}"]
    fast = ["train.epochs=1", "train.device=cpu", "optimizer.lr=1e-9", "--profile", "smoke"]
    status, out, _ = call("train", "preset=own", *words, *fast)
    assert status == 0
    assert "dataset.image_size=8, as mine takes it" in out
    file = Path(out.split("model: ")[-1].strip())
    model = terminator.pretrained(str(file))
    known = terminator.pretrained("mine")
    assert model.info["data"]["classes"] == ["ball", "stick", "swan"]
    assert model.info["data"]["mean"] == known.info["data"]["mean"]
    assert model.classifier.weight.shape[0] == 3
    given = Terminator.from_pretrained(shipped.add("threes", making.make(file.parent, "threes")))
    for key in ("mean", "std"):  # as it was trained, not as the new pictures are
        assert given.info["data"][key] == known.info["data"][key]
    reached = records.read_record(file.parent / "record.json")["results"]["released"]["accuracy"]
    assert given.info["card"]["accuracy"]["released"]["accuracy"] == pytest.approx(reached)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), known.named_parameters()):
        if not name.startswith("classifier"):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    status, _, err = call("train", "preset=own", *words, *fast, "dataset.image_size=16")
    assert status == 2
    assert "whose model.size is 8; allowed: 16" in err
    assert "dataset.image_size=8 makes images fit it" in err


def test_as_many_classes_of_other_names_are_others(mine):
    config = Config().updated(*WORDS, "pretrained.load=True", "pretrained.filename=mine")
    data = CLASSIFICATION.load_data(config)
    config = CLASSIFICATION.resolve(config, data)
    known = terminator.pretrained("mine").classifier.weight
    assert torch.equal(CLASSIFICATION.start(config, data).classifier.weight, known)
    from dataclasses import replace

    renamed = replace(data, info=replace(data.info, classes=tuple("abcdefghij")))
    assert not torch.equal(CLASSIFICATION.start(config, renamed).classifier.weight, known)


def test_what_weights_are_worth_is_said_by_the_rule_of_proof(mine, threes):
    ways = finetuning.both_ways(
        threes, "mine", "smoke", train={"epochs": 1, "device": "cpu"}, model={"skips": True}
    )  # a group that a way itself sets, too
    scratch, taken = (group[0].record for group in ways.values())
    assert list(ways) == ["from scratch", "from mine"]
    assert taken["parameters"] == scratch["parameters"]
    assert taken["config"]["model"] == scratch["config"]["model"]
    said = finetuning.sentence(ways)
    assert said.startswith("3 classes, 48 pictures to train, 12 to test")
    assert "from mine: " in said
    assert "one seed, no verdict with fewer than 3" in said


def test_few_pictures_of_few_classes(tmp_path):
    assert finetuning.few_pictures("smoke", tmp_path / "few") == "digits"
    for split, count in (("train", 12), ("test", 10)):
        folders = sorted((tmp_path / "few" / split).iterdir())
        assert [folder.name for folder in folders] == ["0", "1", "2"]
        assert all(len(list(folder.iterdir())) == count for folder in folders)


# -- what the package holds ------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped.names())
def test_models_of_the_package_are_whole(name):
    _, found = cards.facts(shipped.path(name))
    assert found.card["name"] == name
    assert found.card["licence"] == "MIT"
    assert not found.card["made"]["dirty"]
    assert type(terminator.pretrained(name)) is type(found.model)
    assert shipped.path(name).stat().st_size < 4e6


@pytest.mark.parametrize("name", shipped.names())
def test_the_command_of_a_card_trains_what_the_file_is_of(name):
    kind, found = cards.facts(shipped.path(name))
    command, *words = cards.training(kind, found.config)
    assert command == kind.system.command
    typed = identity(kind.settings.config(argparse.Namespace(words=words)))
    theirs = identity(found.config)
    for settings in (typed, theirs):
        for group, key in kind.of_data:
            settings.get(group, {}).pop(key, None)
    assert typed == {group: values for group, values in theirs.items() if values}
    assert shlex.join(words) in cards.text_of(shipped.path(name))


@pytest.mark.parametrize(
    "name", [n for n in shipped.names() if task_in(shipped.path(n)) == "classification"]
)
def test_classifiers_of_the_package_answer(name):
    model = terminator.pretrained(name)
    assert model.info["card"]["accuracy"]["calibrated"]["images"] >= 1_000
    data = model.info["data"]
    shape = (1, *data["shape"])
    x = normalize(torch.full(shape, 128, dtype=torch.uint8), data["mean"], data["std"])
    with torch.no_grad():
        assert model(x).shape == (1, len(data["classes"]))


def test_the_learner_of_the_package_names_strokes_of_a_pen(tmp_path):
    """Drawn here, by lines of other angles and sizes: no character of its training."""
    draw = random.Random(0)
    signs = {
        "cross": [[(0.2, 0.2), (0.8, 0.8)], [(0.8, 0.2), (0.2, 0.8)]],
        "tee": [[(0.2, 0.25), (0.8, 0.25)], [(0.5, 0.25), (0.5, 0.8)]],
        "zed": [[(0.25, 0.2), (0.75, 0.2), (0.25, 0.8), (0.75, 0.8)]],
        "hook": [[(0.3, 0.2), (0.3, 0.7), (0.45, 0.82), (0.65, 0.75), (0.7, 0.6)]],
        "bar": [[(0.5, 0.15), (0.5, 0.85)]],
    }
    for name, lines in signs.items():
        for i in range(4):
            picture = Image.new("L", (200, 200), 240)
            turn, size = draw.uniform(-0.2, 0.2), draw.uniform(160, 200)
            for line in lines:
                points = [
                    (
                        100 + size * ((x - 0.5) * math.cos(turn) - (y - 0.5) * math.sin(turn)),
                        100 + size * ((x - 0.5) * math.sin(turn) + (y - 0.5) * math.cos(turn)),
                    )
                    for x, y in line
                ]
                ImageDraw.Draw(picture).line(points, fill=20, width=7)
            folder = tmp_path / ("new" if i else f"shown/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{name}-{i}.png")
    learner = Learner(shipped.path("omniglot"))
    learner.show(shown_in(tmp_path / "shown"))
    files = sorted((tmp_path / "new").iterdir())
    right = [a.top[0][0] == a.image.name.split("-")[0] for a in learner.answers(files)]
    assert sum(right) >= 13, f"{sum(right)} of 15"
