"""Models of other systems than classification: given away, described, used."""

import shlex
import shutil
from argparse import Namespace

import pytest
import torch
from PIL import Image
from segmentation_files import camvid_files
from segmentation_files import write as write_street

import terminator
from terminator.hamburger.segmentation import presets as segmentation_presets
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.hypertransformer.commands import SETTINGS
from terminator.hypertransformer.fewshot import presets as fewshot_presets
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.runtime import shipped
from terminator.zoo import learners

PIXELS = [
    "augmentation.scales=[1.0]",
    "augmentation.crop=[17,17]",
    "data.size=[16,24]",
    "model.squeeze=8",
    "model.align=8",
    "ham.width=8",
    "ham.rank=2",
    "train.train_steps=3",
    "train.steps_between_saves=2",
    "train.batch_size=2",
    "train.device=cpu",
    "test.batch_size=2",
    "test.repeats=1",
]
EPISODES = [
    "train.train_steps=3",
    "train.steps_between_saves=2",
    "train.device=cpu",
    "test.num_task_evals=6",
    "test.num_eval_batches=1",
    "test.tasks_per_epoch=2",
]


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("street")
    write_street(folder / "camvid", camvid_files((4, 2, 3), (16, 24)))
    return folder


@pytest.fixture(scope="module")
def runs(street, tmp_path_factory):
    """Finished runs, and what a run of the few-shot system left after its first save."""
    root = tmp_path_factory.mktemp("kinds")

    def keep(rows):
        for path in root.glob("results/runs/*/strokes*/checkpoint.pt"):
            if len(rows) == 1:
                shutil.copytree(path.parent, root / "stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(root / "results"))
        patch.setenv("TERMINATOR_CACHE", str(root / "cache"))
        pixels = segmentation_presets.preset("camvid-small").updated(*PIXELS)
        episodes = fewshot_presets.preset("strokes").updated(*EPISODES)
        return {
            "segmentation": SEGMENTATION.run(pixels, "some", data_dir=street),
            "few-shot": FEW_SHOT.run(episodes, "some", callbacks=[keep]),
            "stopped": root / "stopped",
        }


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder of the package's models that is empty."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")


@pytest.fixture
def call(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return call


def test_a_segmenter_is_measured_listed_and_used_by_its_name(runs, street, package, call, tmp_path):
    run = runs["segmentation"]
    status, out, err = call("ship", run.folder, "road", "--data-dir", street)
    assert status == 0, err
    model = terminator.pretrained("road")
    card = model.info["card"]
    assert card["accuracy"].keys() == {"val", "test"}
    assert card["accuracy"]["test"]["miou"] == pytest.approx(
        run.record["results"]["test"]["miou"], abs=3
    ), "16 bits change little"
    assert (card["steps"], card["of_steps"]) == (3, 3)
    line = call("models")[1].strip()
    assert line in out
    assert "11 classes of pixels, 16x24, after 3 of 3 steps: mIoU" in line
    text = call("card", "road")[1]
    assert "| sky, building, " in text.lower()
    assert "python -m terminator segmentation preset=camvid-small" in text
    assert "model.classes" not in text
    Image.new("RGB", (30, 20), (90, 120, 200)).save(tmp_path / "street.png")
    assert call("segment", "road", tmp_path / "street.png", "--out", tmp_path / "maps")[0] == 0
    with Image.open(tmp_path / "maps" / "street.png") as labels:
        assert labels.size == (30, 20)
    status, _, err = call("predict", "road", tmp_path / "street.png")
    assert (status, "holds a segmentation model" in err) == (2, True)


@pytest.mark.slow
def test_a_learner_is_measured_one_by_one_and_together(runs, package, call, tmp_path):
    status, out, err = call("ship", runs["few-shot"].folder, "signs")
    assert status == 0, err
    card = terminator.pretrained("signs").info["card"]
    together = card["accuracy"]["together"]
    assert together["tasks"] == 6
    assert together["accuracy"] == pytest.approx(
        runs["few-shot"].record["results"]["test"]["accuracy"], abs=5
    )
    assert card["accuracy"]["alone"]["tasks"] == learners.TASKS
    text = call("card", "signs")[1]
    assert "every picture alone" in text
    assert "any 3 that are shown to it" in text
    assert "3 new classes, 1 picture of each, 1x16x16, after 3 of 3 steps" in call("models")[1]
    words = shlex.split(text.split("```\n")[1])[4:]
    ours = fewshot_presets.preset("strokes").updated(*EPISODES)
    assert SETTINGS.config(Namespace(words=words)) == ours.updated("train.device=auto")
    for name in "abc":
        (tmp_path / "shown" / name).mkdir(parents=True)
        Image.new("L", (16, 16), ord(name)).save(tmp_path / "shown" / name / "one.png")
    status, out, _ = call("fewshot-predict", "signs", tmp_path / "shown", tmp_path / "shown" / "a")
    assert status == 0
    assert "one.png" in out


def test_answers_one_by_one_are_those_of_the_learner(runs):
    """The measurement asks as `fewshot-predict` does."""
    run = runs["few-shot"]
    data = FEW_SHOT.load_data(run.config)
    trainer = FEW_SHOT.trainer(run.model(), run.config, data)
    draw = torch.Generator().manual_seed(1)
    batch = trainer._test_episodes("test", 6).batch(2, draw)
    found = learners.Alone(trainer.model, run.config).evaluate(batch)
    right = [
        [
            learners.alone(
                trainer.model, batch.support_images[e], batch.support_labels[e], query[None]
            )
            .argmax()
            .item()
            == label
            for query, label in zip(batch.query_images[e], batch.query_labels[e].tolist())
        ]
        for e in range(2)
    ]
    assert found.tolist() == [sum(row) / len(row) for row in right]


@pytest.mark.slow
def test_a_learner_under_way_says_how_far_it_is(runs, package, call):
    status, _, err = call("ship", runs["stopped"], "half")
    assert status == 0, err
    assert "after 2 of 3 steps" in call("models")[1]


def test_what_is_refused(runs, street, package, call, tmp_path):
    status, _, err = call("ship", runs["few-shot"].folder, "x", "--test-images", "3")
    assert status == 2
    assert "test-images is 3; allowed: nothing for a few-shot model" in err
    for name in ("few-shot", "segmentation"):
        status, _, err = call("card", runs[name].folder)
        assert (status, "has no card" in err) == (2, True), name
    shutil.copytree(runs["few-shot"].folder, tmp_path / "other")
    record = (tmp_path / "other" / "record.json").read_text()
    (tmp_path / "other" / "record.json").write_text(record.replace("few-shot", "gan"))
    status, _, err = call("ship", tmp_path / "other", "x")
    assert status == 2
    assert shipped.names() == []
