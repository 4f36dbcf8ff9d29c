"""Segmentation experiments: records, two stages, studies, verdicts, predictions, commands,
figures.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from data_files import pixels_of, write
from PIL import Image
from segmentation_files import camvid_files

from terminator.data import DatasetNotFound
from terminator.data.pictures.batches import IGNORE
from terminator.hamburger.segmentation import figures, mixers, presets, report
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.figures import class_colours
from terminator.hamburger.segmentation.predict import (
    load_segmenter,
    segment,
    segmentations,
    share_table,
)
from terminator.hamburger.segmentation.presets import SMOKE_ARMS, camvid_arms, context_arms, preset
from terminator.hamburger.segmentation.runs import SEGMENTATION, SegmentationRun, method_name
from terminator.report.tables import study_tables
from terminator.runs import records
from terminator.runtime.paths import results_dir
from terminator.runtime.settings import ConfigError

TINY = [
    "augmentation.scales=[1.0]",
    "augmentation.crop=[17,17]",
    "data.size=null",
    "model.squeeze=16",
    "model.align=8",
    "ham.width=16",
    "ham.rank=2",
    "train.train_steps=2",
    "train.steps_between_saves=1",
    "train.batch_size=2",
    "train.device=cpu",
    "test.batch_size=2",
    "test.repeats=1",
]


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    folder = tmp_path_factory.mktemp("street")
    write(folder / "camvid", camvid_files((4, 2, 3), (16, 24)))
    return folder


@pytest.fixture
def config():
    return preset("camvid").updated(*TINY)


# -- runs ------------------------------------------------------------------------------------------


def test_a_run_is_trained_once_recorded_and_read_without_its_data(config, street, monkeypatch):
    first = SEGMENTATION.run(config, "try", data_dir=street)
    assert first.record["task"] == "segmentation"
    assert first.record["results"].keys() == {"val", "test"}
    assert first.record["results"]["test"]["pictures"] == 3
    assert len(first.record["results"]["test"]["iou"]) == 11
    assert first.folder.name.startswith("camvid-hamburger-v2-nmf-smoke-s0-")
    assert first.miou() == first.record["results"]["test"]["miou"]
    assert first.miou("val") == first.record["results"]["val"]["miou"]
    assert not (first.folder / "checkpoint.pt").exists()
    monkeypatch.setattr(SEGMENTATION, "start", None)  # training again would fail
    assert SEGMENTATION.run(config, "try", data_dir=street).record == first.record
    assert SEGMENTATION.run(config, "try").record == first.record
    with pytest.raises(DatasetNotFound):
        SEGMENTATION.run(config, "try", need_model=True)
    model = first.model()
    assert not model.training
    (row,) = SEGMENTATION.runs_table([first.record]).to_dict("records")
    assert (row["method"], row["split"], row["miou"]) == ("hamburger V2 NMF", "test", first.miou())


def test_runs_differ_by_what_differs(config, street):
    data = SEGMENTATION.load_data(config, str(street))
    names = {
        SEGMENTATION.run_id(SEGMENTATION.resolve(c, data), data, "smoke")
        for c in (
            config,
            config.updated("train.seed=1"),
            config.updated("ham.rank=3"),
            config.updated("model.context=none"),
        )
    }
    assert len(names) == 4
    same = config.updated("train.device=auto", "train.avail_gpus=1")
    assert SEGMENTATION.run_id(SEGMENTATION.resolve(same, data), data, "smoke") in names


def test_a_smoke_run_is_nobodys_evidence_and_a_named_laptop_run_is(config, street):
    SEGMENTATION.run(config, "try", data_dir=street)
    assert SEGMENTATION.rebuild_index() is None
    SEGMENTATION.run(config, "try", "laptop", data_dir=street)
    table = pd.read_csv(results_dir() / "index_segmentation.csv")
    assert list(table["profile"]) == ["laptop"]
    (of_study,) = study_tables(records.evidence("segmentation"))
    assert of_study.rows["what"].tolist() == ["hamburger V2 NMF"]
    assert of_study.rows["mIoU (%)"].tolist() == [f"{table['miou'][0]:.2f}"]
    common, _ = of_study.parts()
    assert "rank: 2" in common
    assert "split: test" in common


def test_the_second_stage_starts_from_the_weights_of_the_first(
    config, street, monkeypatch, tmp_path
):
    for name in ("voc", "voc-second"):
        monkeypatch.setitem(presets.PRESETS, name, presets.PRESETS["camvid"])
    changes = {
        "train": {"train_steps": 1, "steps_between_saves": 1, "batch_size": 2},
        "data": {"size": None},
        "augmentation": {"scales": [1.0], "crop": [17, 17]},
        "optimizer": {"lr": 1e-9},
        "ham": {"rank": 2},
        "test": {"repeats": 1},
    }
    first, second = report.two_stages("smoke", "cpu", str(street), **changes)
    before, after = first.model().state_dict(), second.model().state_dict()
    assert first.folder != second.folder
    torch.testing.assert_close(after["squeeze.0.weight"], before["squeeze.0.weight"])
    torch.manual_seed(0)
    other = preset("voc", **changes).updated(
        ham={"rank": 8, "width": 32}, train={"start_from": str(first.folder / "model.safetensors")}
    )
    with pytest.raises(
        ConfigError, match="train.start_from is .* differs from this network in .* entries"
    ):
        SEGMENTATION.run(other, "try", data_dir=street)
    with pytest.raises(ConfigError, match="train.start_from is .*there is no file"):
        SEGMENTATION.run(
            other.updated(train={"start_from": str(tmp_path / "none")}), "try", data_dir=street
        )


def test_msflip_is_recorded_where_it_is_asked_for(config, street):
    config = config.updated(test={"multi_scale": True, "scales": [1.0, 1.5]})
    found = SEGMENTATION.run(config, "try", data_dir=street).record
    assert found["results"].keys() == {"val", "test", "val_msflip", "test_msflip"}


def test_names_of_methods():
    config = SegmentationConfig()
    assert method_name(config) == "hamburger V2 NMF"
    assert (
        method_name(
            config.updated(ham={"kind": "CD", "inverse_temperature": 100.0, "one_step": False})
        )
        == "hamburger V2 CD tau 100 BPTT"
    )
    assert method_name(config.updated(model={"context": "pooling"})) == "pooling"


# -- studies ---------------------------------------------------------------------------------------


def test_arms_of_the_studies():
    arms = context_arms("laptop")
    assert len(arms) == 18
    assert context_arms("smoke").keys() == set(SMOKE_ARMS)
    assert len({str(config) for config in arms.values()}) == len(arms)
    bptt = arms["VQ tau 100, BPTT"].ham
    assert (bptt.kind, bptt.inverse_temperature, bptt.one_step) == ("VQ", 100.0, False)
    without, with_ham = camvid_arms("laptop").values()
    assert without == with_ham.updated(model={"context": "none"})
    assert {config.data.name for config in camvid_arms("smoke").values()} == {"shapes"}
    with pytest.raises(ConfigError, match="profile is 'huge'"):
        context_arms("huge")


@pytest.fixture
def brief(monkeypatch):
    """The context study with two arms of three steps."""
    monkeypatch.setitem(presets.CONTEXT_STEPS, "smoke", 3)
    monkeypatch.setattr(presets, "SMOKE_ARMS", ("no context", "NMF, one-step"))
    return report.context("smoke", seeds=(0, 1), device="cpu")


def test_the_context_study_its_tables_and_what_is_looked_at(brief):
    table = report.table(brief)
    assert list(table.index) == ["no context", "NMF, one-step"]
    assert list(table["seeds"]) == [2, 2]
    assert table["spread of bases"].isna().tolist() == [True, False]
    means, spreads = report.class_tables(brief)
    assert means.shape == spreads.shape == (8, 2)
    assert spreads.isna().all(axis=None)  # of two seeds there is none
    _, spreads = report.class_tables({"three": brief["no context"] + brief["NMF, one-step"][:1]})
    assert (spreads["three"] > 0).any()
    assert list(report.learning(brief)["no context"]["step"]) == [3]
    found = report.recorded("context", "smoke")
    assert {label: [r.record["seed"] for r in part] for label, part in found.items()} == {
        "no context": [0, 1],
        "NMF, one-step": [0, 1],
    }
    with pytest.raises(ConfigError, match="study is 'voc'; allowed: context, camvid"):
        report.recorded("voc", "smoke")
    model, config, data = report.model_of(brief["NMF, one-step"][0])
    seen = report.examples(model, config, data, "val", count=3)
    assert seen.predicted.shape == seen.labels.shape == (3, 24, 24)
    assert torch.equal(
        report.examples(model, config, data, "val", count=3).predicted, seen.predicted
    )
    with pytest.raises(ConfigError, match="split is 'dev'"):
        report.examples(model, config, data, "dev")


def fake(mious, name="street"):
    return [
        SegmentationRun(
            {
                "results": {"test": {"miou": value}},
                "seed": seed,
                "data": {"name": name, "classes": ["sky", "road", "tree", "car"]},
            },
            None,
            SEGMENTATION,
        )
        for seed, value in enumerate(mious)
    ]


def test_verdicts_come_from_seeds():
    runs = {"a": fake([50.0, 52.0, 54.0]), "b": fake([40.0, 41.0, 42.0])}
    found = mixers.compare(runs, "a", "b")
    assert found.test.difference == pytest.approx(11)
    assert found.test.kind == "paired by seed, 3 seeds"
    assert (found.word, mixers.compare(runs, "b", "a").word) == ("holds", "does not hold")
    table = report.claims(
        {"NMF, one-step": runs["b"], "no context": runs["a"], "NMF, BPTT": runs["a"]},
        {"with Hamburger": fake([31.0]), "without Hamburger": fake([30.0])},
    )
    assert list(table["verdict"]) == ["does not hold", "does not hold", "undecided"]
    assert "one seed" in table["evidence"].iloc[-1]
    assert report.claims().empty


def test_a_context_has_to_beat_what_single_pixels_tell_and_a_decomposition_a_mere_mean():
    none, mean = fake([30.0, 31.0, 32.0], "context"), fake([60.0, 61.0, 60.5], "context")
    runs = {"NMF, one-step": fake([50.0, 51.0, 52.0], "context"), "no context": none}
    table = report.claims({**runs, "pooling": mean}).set_index("claim")
    assert table["verdict"].tolist() == ["holds", "does not hold"]
    runs["NMF, one-step"] = fake([34.0, 35.0, 36.0], "context")
    (row,) = report.claims(runs).to_dict("records")
    assert row["verdict"] == "not learned"
    assert "not surely above the most probable answer to single pixels (37.5)" in row["evidence"]
    assert "not above one class" in str(
        mixers.compare({"a": fake([20.0]), "b": fake([24.0])}, "a", "b")
    )


# -- predictions and commands ----------------------------------------------------------------------


@pytest.fixture
def model_file(config, street):
    return SEGMENTATION.run(config, "try", data_dir=street).folder / "model.safetensors"


def test_photographs_beside_their_labels(model_file, tmp_path, call):
    Image.fromarray(pixels_of(30, 40, 3)).save(tmp_path / "a.jpg")
    words = ("segment", model_file, tmp_path / "a.jpg", "--show", tmp_path / "shown")
    status, out, _ = call(*words, "--out", tmp_path / "maps")
    assert status == 0
    assert "written: 1 pictures with their labels in" in out
    labels = np.asarray(Image.open(tmp_path / "maps" / "a.png"))
    shown = np.asarray(Image.open(tmp_path / "shown" / "a.png").convert("RGB"))
    most = np.bincount(labels.flatten()).argmax()
    colour = np.round(255 * np.array(class_colours(11)[most]))
    share = (abs(shown.astype(int) - colour).max(-1) <= 1).mean()
    assert share > 0.2 * (labels == most).mean(), "half the picture is labels"
    (tmp_path / "b").mkdir()
    Image.fromarray(pixels_of(30, 40, 3)).save(tmp_path / "b" / "a.jpg")
    twice = (*words[:3], tmp_path / "b" / "a.jpg", *words[3:])
    assert "several images are called a" in call(*twice)[2]


def test_labels_take_the_place_of_their_own_pictures_alone(model_file, tmp_path, call):
    words = ("segment", model_file, tmp_path / "a.jpg")
    Image.fromarray(pixels_of(30, 40, 3)).save(tmp_path / "a.jpg")
    places = {option: tmp_path / option.strip("-") for option in ("--out", "--show")}
    for option, folder in places.items():
        assert call(*words, option, folder)[0] == 0
        assert call(*words, option, folder)[0] == 0, "the same again"
    Image.fromarray(pixels_of(20, 40, 3)).save(tmp_path / "a.jpg")
    for option, folder in places.items():
        before = (folder / "a.png").read_bytes()
        status, _, err = call(*words, option, folder)
        assert status == 2
        assert f"{option} is '{folder}', where a.png lies, which is none of the label" in err
        assert (folder / "a.png").read_bytes() == before
    other = call(*words, "--show", tmp_path / "out")
    assert "none of the labels that this model made" in other[2], "a map of labels"


def segment_files(model_path, images, **options):
    """The shares of image files, all of which can be read."""
    found = []
    for one in segmentations(model_path, images, **options):
        if one.error is not None:
            raise one.error
        found.append(one)
    return share_table(found)


def test_label_maps_of_image_files(model_file, tmp_path):
    Image.fromarray(pixels_of(30, 40, 3)).save(tmp_path / "a.jpg")
    Image.fromarray(pixels_of(20, 20)).save(tmp_path / "b.png")
    table = segment_files(
        model_file, [tmp_path / "a.jpg", tmp_path / "b.png"], out=tmp_path / "maps"
    )
    assert table.groupby("image")["share"].sum().tolist() == pytest.approx([100, 100])
    labels = np.asarray(Image.open(tmp_path / "maps/a.png"))
    assert labels.shape == (30, 40)
    model, config, _ = load_segmenter(model_file)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert np.array_equal(segment(model, config, picture.convert("RGB")), labels)
        assert segment(
            model, config.updated("data.size=[16,24]"), picture.convert("RGB"), True
        ).shape == (30, 40)


def test_a_file_that_cannot_be_read_costs_itself_alone(model_file, tmp_path, call):
    (tmp_path / "in").mkdir()
    for name in "ac":
        Image.fromarray(pixels_of(20, 20, 3)).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "b.png").write_text("no picture")
    words = ("segment", model_file, tmp_path / "in", "--out", tmp_path / "maps")
    status, out, err = call(*words)
    assert (status, err) == (1, "error: 1 of 3 files could not be read, see above\n")
    assert "b.png is corrupt or truncated" in out
    assert "written: 2 label maps in" in out
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a.png", "c.png"]
    status, out, err = call("segment", model_file, tmp_path / "in" / "b.png")
    assert (status, out) == (2, "")
    assert "b.png is corrupt or truncated" in err


def test_predictions_that_cannot_be_made_are_refused(model_file, tmp_path, brief):
    with pytest.raises(FileNotFoundError, match="no image file"):
        segment_files(model_file, [tmp_path / "none.jpg"])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="text.png is corrupt or truncated"):
        segment_files(model_file, [tmp_path / "text.png"])
    with pytest.raises(ValueError, match="several images are called text"):
        segment_files(
            model_file, [tmp_path / "text.png", tmp_path / "x" / "text.jpg"], out=tmp_path
        )
    for where in ({"out": tmp_path}, {"show": tmp_path / "x" / ".."}):
        with pytest.raises(ValueError, match=r"text.png lies, and files there could be overwr"):
            segment_files(model_file, [tmp_path / "text.png"], **where)
    with pytest.raises(ValueError, match=r"--out and --show are both .*; allowed: two places"):
        segment_files(
            model_file, [tmp_path / "text.png"], out=tmp_path / "new", show=tmp_path / "new"
        )
    assert (tmp_path / "text.png").read_text() == "no picture"
    context = brief["no context"][0].folder / "model.safetensors"
    with pytest.raises(ValueError, match="trained on the context task"):
        segment_files(context, [tmp_path / "text.png"])


def test_the_command_line_trains_segments_and_reads_again(call, street, tmp_path):
    words = ["segmentation", "preset=camvid", *TINY, "--data-dir", street, "--profile", "smoke"]
    status, out, _ = call(*words)
    assert status == 0
    assert "mIoU" in out.splitlines()[-4]
    folder = out.splitlines()[-1].split("model: ")[1].removesuffix("/model.safetensors")
    status, again, _ = call(*words)
    assert status == 0
    assert "epoch" not in again
    Image.fromarray(pixels_of(30, 40, 3)).save(tmp_path / "a.jpg")
    status, out, _ = call(
        "segment",
        f"{folder}/model.safetensors",
        tmp_path / "a.jpg",
        "--out",
        tmp_path / "maps",
        "--multi-scale",
    )
    assert status == 0
    assert "%" in out
    assert (tmp_path / "maps/a.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preset=camvid", "preset=voc"], "preset is given 2 times"),
        (["preset=coco"], "preset is 'coco'; allowed:"),
        (["ham.rank=0"], "rank is 0"),
        (["model.contxt=none"], "did you mean model.context"),
        (["data.name=nowhere"], "data.name is 'nowhere'"),
        (["preset=camvid"], "camvid was not found"),
    ],
)
def test_the_command_line_refuses_in_one_line(call, words, message, monkeypatch):
    monkeypatch.delenv("TERMINATOR_DATA", raising=False)
    status, out, err = call("segmentation", *words)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
def test_two_processes_train_as_one_does_but_for_batch_statistics(street, tmp_path):
    """Without batch statistics to differ in (none are shared on the CPU) the losses of the first
    steps are the same.
    """
    found = {}
    for processes in (1, 2):
        environment = {
            **os.environ,
            "TERMINATOR_RESULTS": str(tmp_path / str(processes)),
            "OMP_NUM_THREADS": "1",
        }
        start = [sys.executable, "-m"] + (
            ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29641", "-m"]
            if processes == 2
            else []
        )
        words = [
            "terminator",
            "segmentation",
            "preset=context",
            "model.context=none",
            "train.train_steps=2",
            "train.steps_between_saves=1",
            "train.device=cpu",
            "data.train_size=16",
            "data.test_size=6",
            "test.batch_size=2",
            "train.batch_size=16",
            *["train.distributed=True"] * (processes == 2),
        ]
        done = subprocess.run(
            [*start, *words], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (path,) = (tmp_path / str(processes)).rglob("record.json")
        found[processes] = json.loads(path.read_text())
    one, two = found[1], found[2]
    assert one["run_id"] == two["run_id"]
    assert two["results"]["test"]["pictures"] == 6
    # every process normalises its own eight images: close, not equal
    assert two["epochs"][0]["loss"] == pytest.approx(one["epochs"][0]["loss"], rel=0.1)
    assert sum(value is not None for value in two["results"]["test"]["iou"]) == 8
    assert records.read_record(path)["status"] == "ok"


# -- figures ---------------------------------------------------------------------------------------


def test_label_maps_have_a_legend_of_what_occurs():
    labels = torch.tensor([[[0, 3], [3, IGNORE]]] * 2)
    predicted = torch.tensor([[[0, 3], [8, 8]]] * 2)
    classes = [f"thing {i}" for i in range(11)]
    figure = figures.segmentations(
        torch.zeros(2, 3, 2, 2, dtype=torch.uint8), labels, {"ours": predicted}, classes
    )
    assert len(figure.axes) == 6
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["picture", "labels", "ours"]
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "thing 0",
        "thing 3",
        "thing 8",
        "not counted",
    ]
    maps = figure.axes[2].images[0].get_array()
    assert np.allclose(maps[1, 1], figures.VOID)
    assert np.allclose(maps[0, 1], figures.class_colours(11)[3])


@pytest.mark.parametrize("count", [2, 8, 11, 21])
def test_every_class_has_a_colour_of_its_own(count):
    colours = figures.class_colours(count)
    assert len(set(colours)) == count
    assert figures.VOID not in colours


def test_dots_bars_and_curves_show_the_numbers():
    table = pd.DataFrame(
        {"miou": [40.0, 52.5], "sd": [1.0, 2.0], "seeds": [3, 3]}, index=["none", "ham"]
    )
    (axis,) = figures.miou_dots(table).axes
    assert [text.get_text() for text in axis.texts] == ["40.0", "52.5"]
    classes = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["sky", "road"])
    (axis,) = figures.class_ious(classes, classes / 10).axes
    assert len(axis.collections) == 2  # a line on every bar
    assert not figures.class_ious(classes, classes * np.nan).axes[0].collections
    assert [patch.get_height() for patch in axis.patches] == [1, 2, 3, 4]
