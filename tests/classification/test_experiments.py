"""Run once, read often: what makes a run this run, and when it is trained, resumed or read."""

import contextlib
import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from terminator import ConfigError, Terminator, calibrate
from terminator.classification import runs
from terminator.classification.evaluation import evaluate_file
from terminator.classification.presets import PRESETS, preset
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.trainer import Trainer
from terminator.data import DatasetNotFound
from terminator.runs import folders, records
from terminator.runs.study import Contest, run_finals
from terminator.runtime import locks
from terminator.runtime.paths import results_dir
from terminator.trainer import TrainingDiverged


@pytest.fixture
def epochs_trained(monkeypatch):
    """Counts the epochs that are really trained."""
    counted, original = [], Trainer._train_epoch
    monkeypatch.setattr(
        Trainer,
        "_train_epoch",
        lambda self, epoch, *rest: (counted.append(epoch), original(self, epoch, *rest))[1],
    )
    return counted


def test_a_record_is_evidence(tiny_config, tiny_data):
    done = CLASSIFICATION.run(tiny_config(), "images", "laptop", data=tiny_data())
    r = done.record
    assert json.loads(json.dumps(r)) == records.read_record(done.folder / "record.json")
    assert r.keys() >= {
        "run_id",
        "experiment",
        "status",
        "profile",
        "seed",
        "model",
        "parameters",
        "flops_per_image",
        "results",
        "epochs",
        "config",
        "data",
        "wall_s",
        "images_per_s",
        "peak_memory_bytes",
        "device",
        "precision",
        "deterministic_algorithms",
        "provenance",
        "started",
        "finished",
    }
    assert (r["experiment"], r["profile"], r["seed"], r["status"]) == ("images", "laptop", 0, "ok")
    assert r["data"]["fingerprint"] == "stripes-32-12-0"
    assert (r["data"]["train_size"], r["data"]["test_size"], r["data"]["name"]) == (
        32,
        12,
        "stripes",
    )
    assert r["config"]["model"]["classes"] == 4
    assert r["started"] <= r["finished"]
    assert r["parameters"] == sum(p.numel() for p in done.model().parameters())
    assert r["flops_per_image"] > 0
    assert r["results"].keys() == {"released", "calibrated"}
    assert (
        done.accuracy() == r["results"]["released"]["accuracy"] == r["epochs"][-1]["test_accuracy"]
    )
    assert done.accuracy("calibrated") == r["results"]["calibrated"]["accuracy"]
    assert list(done.metrics["epoch"]) == [1, 2]
    kept = sorted(file.name for file in done.folder.iterdir() if not file.name.startswith("."))
    assert kept == ["metrics.csv", "model.safetensors", "record.json"]
    assert list(pd.read_csv(results_dir() / "index.csv")["run_id"]) == [r["run_id"]]


def test_smoke_runs_stay_out_of_the_index(tiny_config, tiny_data):
    done = CLASSIFICATION.run(tiny_config("train.epochs=1"), "images", "smoke", data=tiny_data())
    assert done.record["profile"] == "smoke"
    assert not (results_dir() / "index.csv").exists()


def test_a_finished_run_is_read_not_trained(tiny_config, tiny_data, epochs_trained):
    first = CLASSIFICATION.run(tiny_config(), "images", data=tiny_data())
    again = CLASSIFICATION.run(
        tiny_config("train.device=auto", "train.num_nodes=5"), "images", data=tiny_data()
    )
    assert epochs_trained == [0, 1]
    assert again.folder == first.folder
    assert again.record == json.loads(json.dumps(first.record))
    (first.folder / "model.safetensors").unlink()
    assert not CLASSIFICATION.run(
        tiny_config(), "images", data=tiny_data()
    ).has_model  # the record is enough
    assert epochs_trained == [0, 1]
    assert CLASSIFICATION.run(tiny_config(), "images", data=tiny_data(), need_model=True).has_model
    assert epochs_trained == [0, 1, 0, 1]
    forced = CLASSIFICATION.run(tiny_config(), "images", data=tiny_data(), force=True)
    assert epochs_trained == [0, 1] * 3
    assert forced.accuracy() == first.accuracy()


def test_an_interrupted_run_goes_on(tiny_config, tiny_data, epochs_trained, monkeypatch):
    original = Trainer._save

    def stop(self, rows):
        original(self, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            CLASSIFICATION.run(tiny_config(), "images", data=tiny_data())
    assert records.load_records() == []
    done = CLASSIFICATION.run(tiny_config(), "images", data=tiny_data())
    assert epochs_trained == [0, 1]
    whole = CLASSIFICATION.run(tiny_config(), "elsewhere", data=tiny_data())
    one, other = done.model().state_dict(), whole.model().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@contextlib.contextmanager
def stopped_in_the_third_epoch(monkeypatch):
    original = Trainer._train_epoch

    def stop(self, epoch, *rest):
        if epoch == 2:
            raise KeyboardInterrupt
        return original(self, epoch, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            yield


def test_an_unfinished_run_has_a_record_of_the_epochs_so_far(tiny_config, tiny_data, monkeypatch):
    config = tiny_config(train={"epochs": 3})
    with stopped_in_the_third_epoch(monkeypatch):
        CLASSIFICATION.run(config, "images", "laptop", data=tiny_data())
    (half,) = records.load_records(status="running")
    assert [row["epoch"] for row in half["epochs"]] == [1, 2]
    assert records.load_records() == records.evidence("classification") == []  # no result yet
    done = CLASSIFICATION.run(config, "images", "laptop", data=tiny_data())
    assert records.load_records(status="running") == []
    assert [row["test_accuracy"] for row in done.record["epochs"]][:2] == [
        row["test_accuracy"] for row in half["epochs"]
    ]
    first, second = done.record["stretches"]
    assert (first["epochs"], second["epochs"]) == ([1, 2], [3, 3])
    assert first["source_hash"] == done.record["provenance"]["source_hash"]
    assert first["device"] == done.record["device"]


def test_a_forced_training_that_stops_loses_no_finished_record(tiny_config, tiny_data, monkeypatch):
    config = tiny_config(train={"epochs": 3})
    done = CLASSIFICATION.run(config, "images", "laptop", data=tiny_data())
    with stopped_in_the_third_epoch(monkeypatch):
        CLASSIFICATION.run(config, "images", "laptop", data=tiny_data(), force=True)
    assert records.load_records() == [done.record]
    assert records.load_records(status="running") == []
    kept = torch.load(done.folder / "checkpoint.pt", weights_only=False)
    again = CLASSIFICATION.run(config, "images", "laptop", data=tiny_data())  # goes on from there
    assert again.trained
    assert again.record["stretches"][0]["epochs"] == [1, len(kept["rows"])]
    assert again.record != done.record
    assert not CLASSIFICATION.run(config, "images", "laptop", data=tiny_data()).trained
    assert not (done.folder / "checkpoint.pt").exists()


def test_while_a_run_is_made_again_its_record_is_read(tiny_config, tiny_data, monkeypatch):
    config = tiny_config(train={"epochs": 3})
    done = CLASSIFICATION.run(config, "images", "laptop", data=tiny_data())
    with stopped_in_the_third_epoch(monkeypatch):
        CLASSIFICATION.run(config, "images", "laptop", data=tiny_data(), force=True)
    monkeypatch.setattr(locks, "holder", lambda folder: "process 1 on another machine")
    found = CLASSIFICATION.run(config, "images", "laptop", data=tiny_data(), wait=False)
    assert (found.record, found.trained) == (done.record, False)


def test_a_run_that_diverges_when_it_is_made_again_leaves_its_record(tiny_data, tmp_path):
    record = {"run_id": "a"}

    def diverge():
        with folders.told(tmp_path, record):
            (tmp_path / "checkpoint.pt").write_bytes(b"of its first epoch")
            raise TrainingDiverged("the loss is nan.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "finished_record", lambda folder: record)
        with pytest.raises(TrainingDiverged):
            folders.once(tmp_path, diverge, force=True)
        assert folders.once(tmp_path, diverge) == record


def test_a_run_that_diverged_leaves_no_record(tiny_config, tiny_data):
    config = tiny_config(optimizer={"name": "SGD", "lr": 1e30})
    with pytest.raises(TrainingDiverged):
        CLASSIFICATION.run(config, "images", data=tiny_data())
    assert records.load_records() == []


def test_a_rate_that_diverges_on_all_images_gives_way_to_the_next(tiny_config, capsys):
    base = tiny_config(
        dataset={"name": "digits", "channels": 3, "train_size": 32, "test_size": 16},
        optimizer={"name": "SGD"},
    )
    contest = Contest("try", base, {"SGD": {}}, {"SGD": (0.01, 1e30)}, {}, (0,))
    found = run_finals(CLASSIFICATION, contest, {"SGD": [1e30, 0.01]}, "smoke")
    assert [done.record["config"]["optimizer"]["lr"] for done in found["SGD"]] == [0.01]
    assert "SGD: at 1e+30 not every seed trains to the end; next 0.01" in capsys.readouterr().out
    assert run_finals(CLASSIFICATION, contest, {"SGD": [1e30]}, "smoke") == {"SGD": []}


def test_the_saved_model_is_calibrated_and_knows_its_data(tiny_config, tiny_data):
    done = CLASSIFICATION.run(tiny_config(), "images", data=tiny_data())
    model, x = done.model(), torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x[:1]), model(x)[:1], rtol=1e-5, atol=1e-5)
    assert model.info["data"]["classes"] == ["a", "b", "c", "d"]
    assert model.info["run_id"] == done.record["run_id"]


# -- identity --------------------------------------------------------------------------------------


def test_run_id_tells_runs_apart_and_nothing_else(tiny_config, tiny_data):
    data = tiny_data()

    def name(config=None, given=data, profile="smoke"):
        return CLASSIFICATION.run_id(
            CLASSIFICATION.resolve(config or tiny_config(), given), given, profile
        )

    assert name() == name(
        tiny_config(
            "model.size=8", "model.classes=4", "train.device=auto", "optimizer.momentum=0.9"
        )
    )
    assert name().startswith("stripes-smoke-s0-")
    others = [
        name(tiny_config("train.seed=1")),
        name(given=tiny_data(seed=1)),
        name(profile="laptop"),
        name(tiny_config("optimizer.lr=0.5")),
        name(tiny_config("model.rgu=false")),
        name(),
    ]
    assert len(set(others)) == len(others)


def test_data_fill_in_the_shape_and_contradictions_are_errors(tiny_config, tiny_data):
    config = CLASSIFICATION.resolve(
        tiny_config("model.factors=[12,1]"), tiny_data(channels=1, size=6, classes=3)
    )
    assert (config.model.in_channels, config.model.size, config.model.classes) == (1, 6, 3)
    with pytest.raises(ConfigError, match="model.classes is 7, but stripes has 4"):
        CLASSIFICATION.resolve(tiny_config("model.classes=7"), tiny_data())
    with pytest.raises(ConfigError, match="model.size is 16, but stripes has 8"):
        CLASSIFICATION.resolve(tiny_config("model.size=16"), tiny_data())
    flat = tiny_data()
    flat = replace(
        flat, train_images=flat.train_images.flatten(2), info=replace(flat.info, shape=(3, 64))
    )
    assert CLASSIFICATION.resolve(tiny_config(), flat).model.dimensions == 1


def test_impossible_profiles_presets_and_folders(tiny_config, tiny_data, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="profile is 'huge'; allowed: smoke, laptop, paper"):
        CLASSIFICATION.run(tiny_config(), "images", "huge", data=tiny_data())
    with pytest.raises(ConfigError, match="preset is 'imagenet'; allowed: digits"):
        preset("imagenet")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "file"))
    with pytest.raises(PermissionError, match="cannot write to the results folder"):
        CLASSIFICATION.run(tiny_config(), "images", data=tiny_data())


def test_a_damaged_record_stops_the_run_by_name(tiny_config, tiny_data):
    done = CLASSIFICATION.run(tiny_config("train.epochs=1"), "images", data=tiny_data())
    (done.folder / "record.json").write_text("{")
    with pytest.raises(ValueError, match="record.json is no readable run record"):
        CLASSIFICATION.run(tiny_config("train.epochs=1"), "images", data=tiny_data())


def test_digits_come_by_their_configuration():
    config = preset("digits").updated("dataset.train_size=20", "dataset.test_size=10")
    data = CLASSIFICATION.load_data(config)
    assert (tuple(data.info.shape), data.info.train_size, data.info.test_size) == (
        (3, 8, 8),
        20,
        10,
    )
    assert "digits" in PRESETS


# -- a pretrained start ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "train.accumulate=8",
            "train.accumulate is 8; allowed: at most 4, half of train.batch_size",
        ),
        (
            "pretrained.filename=digits",
            "pretrained.load is False; allowed: true, since pretrained.f",
        ),
        (
            "dataset.permutation_seed=4",
            "permutation_seed is 4; allowed: 0, since only dataset.view",
        ),
    ],
)
def test_settings_that_would_be_dropped_are_refused_but_can_be_read(
    tiny_config, tiny_data, word, message
):
    config = tiny_config(word)  # as a record of before, or a model, may have it
    with pytest.raises(ConfigError, match=message):
        CLASSIFICATION.run(config, "tiny", data=tiny_data())


def test_training_can_start_from_a_saved_model(tiny_model, tiny_config, tiny_data, tmp_path):
    model = tiny_model(seed=5)
    calibrate(model, [torch.randn(8, 3, 8, 8)])
    model.save(tmp_path / "start.safetensors")
    config = tiny_config(
        pretrained={"load": True, "filename": str(tmp_path / "start.safetensors")},
        optimizer={"lr": 1e-12},
        train={"epochs": 1},
    )
    trained = CLASSIFICATION.run(config, "images", data=tiny_data()).model()
    for (name, p), (_, q) in zip(trained.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6, msg=name)


def test_a_run_from_another_models_settings_is_found_by_its_record(
    tiny_model, tiny_config, tiny_data, tmp_path
):
    tiny_model(rgu=False).save(tmp_path / "start.safetensors")
    start = {"load": True, "filename": str(tmp_path / "start.safetensors")}
    config = tiny_config(pretrained=start, train={"epochs": 1})
    run = CLASSIFICATION.run(config, "tiny", data=tiny_data())
    assert run.config.model.rgu is False
    assert CLASSIFICATION.is_of(run.record, config)
    assert not CLASSIFICATION.is_of(run.record, tiny_config(train={"epochs": 1}))


def test_a_pretrained_model_of_another_shape_is_refused(
    tiny_model, tiny_config, tiny_data, tmp_path
):
    tiny_model(size=7).save(tmp_path / "seven.safetensors")
    config = tiny_config(pretrained={"load": True, "filename": str(tmp_path / "seven.safetensors")})
    with pytest.raises(
        ConfigError, match="pretrained.filename is .*seven.* whose model.size is 7; allowed: 8"
    ):
        CLASSIFICATION.run(config, "images", data=tiny_data())
    gone = tiny_config(pretrained={"load": True, "filename": str(tmp_path / "gone.safetensors")})
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        CLASSIFICATION.run(gone, "images", data=tiny_data())
    assert isinstance(Terminator.load(tmp_path / "seven.safetensors"), Terminator)


@pytest.mark.slow
def test_two_processes_train_one_run_once(tiny_config, tmp_path):
    import subprocess
    import sys

    code = (
        "from terminator.classification.presets import preset\nfrom terminator.classification.runs "
        "import CLASSIFICATION\nconfig = preset('tour', dataset={'train_size': 128, 'test_size': "
        "64}, model={'factors': [4, 1]}, train={'epochs': 2, 'device': 'cpu'})\nprint('finished', "
        "CLASSIFICATION.run(config, 'race', 'smoke').record['finished'])"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert all(process.returncode == 0 for process in started)
    assert sum("epoch   2/2" in output for output in outputs) == 1
    assert len({output.split("finished ")[1] for output in outputs}) == 1


# -- records without data, data without names, models without guesses ------------------------------


def test_a_record_is_enough_where_its_data_are_not(tiny_config, tiny_data, monkeypatch):
    config = tiny_config(dataset={"name": "stripes"})
    done = CLASSIFICATION.run(config, "here", "laptop", data=tiny_data())

    def gone(*arguments, **options):
        raise DatasetNotFound("stripes is not here")

    monkeypatch.setattr(runs, "load", gone)
    assert CLASSIFICATION.run(config, "here", "laptop").record == done.record
    for changed in (config.updated(train={"seed": 1}), config.updated(model={"si_glu": False})):
        with pytest.raises(DatasetNotFound):
            CLASSIFICATION.run(changed, "here", "laptop")
    with pytest.raises(DatasetNotFound):
        CLASSIFICATION.run(config, "here", "laptop", need_model=True)
    with pytest.raises(DatasetNotFound):
        CLASSIFICATION.run(config, "here", "paper")


def test_the_place_of_a_folder_is_no_part_of_the_identity(tiny_config, tiny_data):
    data = tiny_data()
    ids = {
        CLASSIFICATION.run_id(
            CLASSIFICATION.resolve(tiny_config(dataset={"name": name}), data), data, "smoke"
        )
        for name in ("animals", "here/animals", "/elsewhere/animals")
    }
    assert len(ids) == 1


def test_a_pretrained_start_is_known_by_its_content_and_recorded_as_it_is(
    tiny_model, tiny_config, tiny_data, tmp_path
):
    file = tmp_path / "start.safetensors"
    config = tiny_config(pretrained={"load": True, "filename": str(file)}, train={"epochs": 1})
    tiny_model(si_glu=False).save(file)
    first = CLASSIFICATION.run(config, "start", "smoke", data=tiny_data())
    assert first.record["config"]["model"]["si_glu"] is False
    tiny_model(seed=1, si_glu=False).save(file)
    assert CLASSIFICATION.run(config, "start", "smoke", data=tiny_data()).folder != first.folder
    with pytest.raises(
        ConfigError, match="pretrained.filename is .* whose model.skips is True; allowed: False"
    ):
        CLASSIFICATION.run(config.updated("model.skips=False"), "start", "smoke", data=tiny_data())


def test_a_file_is_evaluated_with_its_own_normalisation_and_classes(
    tiny_model, tiny_config, tiny_data, tmp_path, monkeypatch
):
    data, file = tiny_data(), tmp_path / "model.safetensors"
    model = tiny_model()
    model.save(file, data=asdict(data.info))
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: data)
    expected = evaluate_file(file, tiny_config())
    other = replace(data, info=replace(data.info, mean=(0.9, 0.9, 0.9), std=(0.1, 0.1, 0.1)))
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: other)
    assert evaluate_file(file, tiny_config()) == expected
    wrong = replace(data, info=replace(data.info, classes=tuple("wxyz")))
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: wrong)
    with pytest.raises(ValueError, match="knows the classes a, b, c, d; stripes has w, x, y, z"):
        evaluate_file(file, tiny_config())
