"""Few-shot experiments: they learn, repeat themselves, go on where they stopped, are recorded, and
refuse bad input.
"""

import dataclasses
import json
import math
import threading
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from gpu_rehearsal import waits_of_a_step

from terminator.classification.runs import CLASSIFICATION
from terminator.data import DatasetNotFound
from terminator.data.episodes.augment import STEPS
from terminator.hypertransformer.fewshot import contrasts, runs
from terminator.hypertransformer.fewshot import data as fewshot_data
from terminator.hypertransformer.fewshot import report as studies
from terminator.hypertransformer.fewshot import watch as watch_module
from terminator.hypertransformer.fewshot.config import FewShotConfig, FewShotData
from terminator.hypertransformer.fewshot.data import load_episode_data
from terminator.hypertransformer.fewshot.presets import MAIN, PRESETS, preset, study, with_shots
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.hypertransformer.fewshot.speed import episode_speed
from terminator.hypertransformer.fewshot.tasks import build_network, build_task
from terminator.hypertransformer.fewshot.trainer import EpisodeTrainer, half_width, summary
from terminator.hypertransformer.fewshot.watch import watch
from terminator.runs import records
from terminator.runs.finished import FinishedRun
from terminator.runtime.settings import ConfigError, identity, to_dict
from terminator.trainer import TrainingDiverged

TIMES = ("seconds", "episodes_per_s")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder with bars.npy: 12 classes of 8 images, each class bright in other pixels."""
    folder = tmp_path_factory.mktemp("cache")
    random = np.random.default_rng(0)
    marks = random.integers(0, 2, (12, 1, 16, 16)) * 200
    np.save(folder / "bars.npy", (marks + random.integers(0, 50, (12, 8, 16, 16))).astype(np.uint8))
    return folder


@pytest.fixture
def make(cache):
    """make("train.seed=1", episodes={...}) gives a tiny configuration."""

    def configuration(*dotlist, **changes):
        start = FewShotConfig().updated(
            data={
                "train_dataset": "bars:0-5",
                "val_dataset": "bars:6-8",
                "test_dataset": "bars:9-11",
                "shuffle_labels_seed": 0,
            },
            episodes={
                "num_labels": 3,
                "samples_transformer": 3,
                "samples_cnn": 6,
                "image_size": 16,
            },
            augmentation={"random_rotate_by_90": False, "per_label_augmentation": False},
            model={
                "default_num_channels": 4,
                "embedding_dim": 4,
                "num_layers": 1,
                "shared_features_dim": 4,
                "num_layerwise_features": 4,
            },
            optimizer={"name": "Adam", "learning_rate": 0.003},
            train={"train_steps": 5, "steps_between_saves": 2, "batch_size": 4, "device": "cpu"},
            test={
                "num_task_evals": 20,
                "num_eval_batches": 2,
                "eval_batch_size": 6,
                "tasks_per_epoch": 6,
            },
        )
        return start.updated(*dotlist, **changes)

    return configuration


@pytest.fixture
def data(make, cache):
    return load_episode_data(make().data, str(cache))


def resolved(config, data):
    return config.resolved(data.info.shape[0], data.real_classes)


def trainer_of(config, data, folder=None, kind=EpisodeTrainer):
    config = resolved(config, data)
    return kind(build_network(config), config, data, folder)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "steps", "least"), [("prototypical", 30, 80), ("hypertransformer", 80, 50)]
)
def test_it_learns_what_can_be_learnt(make, data, method, steps, least):
    config = make(
        method={"name": method},
        train={"train_steps": steps, "steps_between_saves": steps, "batch_size": 8},
        optimizer={"learning_rate_warmup_steps": 10},
    )
    trainer = trainer_of(config, data)
    before = trainer.evaluate("train")["accuracy"]
    rows = trainer.fit()
    assert trainer.evaluate("train")["accuracy"] > max(before, least)  # chance is 33.3
    assert rows[-1]["train_accuracy"] > 100 / 3


def test_rows_epochs_and_the_shorter_last_epoch(make, data):
    rows = trainer_of(make(), data).fit()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row.keys() == {
            "epoch",
            "lr",
            "cross_entropy",
            "loss",
            "train_accuracy",
            "val_accuracy",
            "val_interval",
            *TIMES,
        }
        assert 0 <= row["train_accuracy"] <= 100
    only_train = dataclasses.replace(
        data, splits={k: v for k, v in data.splits.items() if k != "val"}
    )
    assert "seen_accuracy" in trainer_of(make(), only_train).fit()[0]


def test_the_learning_rate_decays_continuously_after_its_rise(make, data):
    config = make(
        optimizer={
            "learning_rate": 0.1,
            "learning_rate_decay_steps": 10,
            "learning_rate_decay_rate": 0.5,
        }
    )
    rates = [trainer_of(config, data)._rate(step) for step in (0, 5, 10)]
    assert rates == pytest.approx([0.1, 0.1 * math.sqrt(0.5), 0.05])
    rising = config.updated(
        "optimizer.learning_rate_warmup_steps=4", "optimizer.learning_rate_decay_rate=1.0"
    )
    assert [trainer_of(rising, data)._rate(step) for step in (0, 1, 3, 9)] == pytest.approx(
        [0.025, 0.05, 0.1, 0.1]
    )


def test_sgd_has_no_momentum_and_makes_the_step_it_should(make, data):
    config = make(
        optimizer={"name": "SGD", "learning_rate": 0.01}, train={"train_steps": 1, "batch_size": 2}
    )
    trainer = trainer_of(config, data)
    before = weights(trainer.model)
    ((step, generator),) = trainer._batches(0)
    ((x, targets),) = trainer._parts(step, generator)
    terms, _ = trainer.task.loss_terms(trainer.model, x, targets)
    gradients = torch.autograd.grad(
        sum(terms.values()), list(trainer.model.parameters()), allow_unused=True
    )
    expected = {
        name: before[name] - (0 if g is None else 0.01 * g)
        for (name, _), g in zip(trainer.model.named_parameters(), gradients)
    }
    trainer.fit()
    for name, value in expected.items():
        torch.testing.assert_close(trainer.model.state_dict()[name], value)


class Interrupted(EpisodeTrainer):
    """Stops in the middle of the second epoch."""

    def _step(self, batch, generator):
        if batch == 3:
            raise KeyboardInterrupt
        return super()._step(batch, generator)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "SGD", "learning_rate": 0.02}},
        {"model": {"dropout_rate": 0.2}, "train": {"accumulate": 2}},
    ],
    ids=["SGD", "Adam, dropout, accumulated"],
)
def test_a_stopped_training_goes_on_to_the_bit(make, data, tmp_path, changes):
    config = make(**changes)
    whole = trainer_of(config, data)
    rows = whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(config, data, tmp_path, Interrupted).fit()
    torch.manual_seed(999)
    resumed = trainer_of(config, data, tmp_path)
    assert timeless(resumed.fit()) == timeless(rows)
    assert equal(weights(resumed.model), weights(whole.model))
    other = trainer_of(config.updated("train.seed=1"), data)
    other.fit()
    assert not equal(weights(other.model), weights(whole.model))


def test_a_loss_that_is_no_number_stops_the_run(make, data):
    config = make(optimizer={"name": "SGD", "learning_rate": 1e30})
    with pytest.raises(TrainingDiverged, match="Try a lower optimizer.learning_rate"):
        trainer_of(config, data).fit()


def test_accumulated_parts_add_up_to_the_mean_over_all_their_episodes(make, data):
    trainer = trainer_of(make(train={"accumulate": 2}), data)
    (step, generator), *_ = trainer._batches(0)
    parts = list(trainer._parts(step, generator))
    assert [len(x.batch.support_images) for x, _ in parts] == [2, 2]
    assert not torch.equal(parts[0][0].batch.support_images, parts[1][0].batch.support_images)
    terms = [
        trainer.task.loss_terms(trainer.model, x, targets)[0]["cross_entropy"]
        for x, targets in parts
    ]
    trainer.optimizer, trainer.network = trainer._make_optimizer(), trainer.model
    (step, generator), *_ = trainer._batches(0)
    logged = trainer._step(step, generator)
    assert logged["loss"].item() == pytest.approx((sum(terms) / 2).item(), rel=1e-5)


# -- losses ----------------------------------------------------------------------------------------


def test_the_warm_up_moves_from_head_to_head_and_reaches_every_parameter(make, data):
    config = make(model={"warmup_steps": 3}, train={"train_steps": 4, "steps_between_saves": 1})
    trainer = trainer_of(config, data)
    rows = trainer.fit()
    assert [{name for name in row if name.startswith("warmup")} for row in rows] == [
        {"warmup_1"},
        {"warmup_2"},
        {"warmup_3"},
        set(),
    ]
    assert rows[0]["cross_entropy"] == 0
    assert rows[3]["cross_entropy"] > 0
    ((step, generator),) = trainer._batches(0)
    ((x, targets),) = trainer._parts(step, generator)
    terms, _ = trainer.task.loss_terms(trainer.model, x, targets)
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in trainer.model.warmup_heads.parameters())


def test_the_shared_head_is_asked_for_real_classes(make, data, tmp_path):
    config = make(train={"shared_head_weight": 0.5})
    trainer = trainer_of(config, data)
    assert trainer.config.model.shared_head_classes == 6
    (step, generator), *_ = trainer._batches(0)
    ((x, targets),) = trainer._parts(step, generator)
    terms, _ = trainer.task.loss_terms(trainer.model, x, targets)
    cnn = trainer.model.generate(x.batch.support_images, x.batch.support_labels)
    expected = F.cross_entropy(
        trainer.model.shared_logits(cnn).flatten(0, 1), x.batch.support_classes.flatten()
    )
    assert terms["shared_head"].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


def test_pretraining_touches_the_shared_features_alone_and_a_later_run_starts_from_them(
    make, data, tmp_path
):
    config = make(train={"pretrain_shared_feature": True})
    first = FEW_SHOT.run(config, "shared", data=data)
    start = build_network(resolved(config, data)).state_dict()
    after = first.model().state_dict()
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    assert moved
    assert all(name.startswith(("shared.", "shared_head.")) for name in moved)
    file = first.folder / "model.safetensors"
    next_one = make(train={"restore_shared_features_from": str(file), "shared_head_weight": 0.1})
    begun = FEW_SHOT.start(resolved(next_one, data), data).state_dict()
    assert all(torch.equal(begun[name], after[name]) for name in moved)
    headless = make(train={"restore_shared_features_from": str(file)})  # the recipe's second step
    begun = FEW_SHOT.start(resolved(headless, data), data).state_dict()
    assert all(torch.equal(begun[name], after[name]) for name in moved if name in begun)
    assert not any(name.startswith("shared_head.") for name in begun)
    with pytest.raises(ConfigError, match="allowed: a model with the same extractor and head"):
        FEW_SHOT.start(resolved(next_one.updated(model={"shared_features_dim": 6}), data), data)


def test_removed_and_unlabelled_samples_train(make, data):
    config = with_shots(make(episodes={"max_prob_remove_unlabeled": 1.0}), 1, 2)
    trainer = trainer_of(config, data)
    assert len(trainer.fit()) == 3
    (step, generator), *_ = trainer._batches(0)
    ((x, _),) = trainer._parts(step, generator)
    assert x.batch.support_mask is not None
    assert (x.batch.support_labels == 3).sum(1).tolist() == [6] * 4


# -- evaluation ------------------------------------------------------------------------------------


def test_every_method_is_evaluated_on_the_same_tasks_and_the_same_way_twice(make, data):
    seen = {}

    class Spy(EpisodeTrainer):
        def _tasks(self, episodes, count, batches, generator):
            draw = episodes.draw(count, generator)
            seen.setdefault(self.config.method.name, []).append(draw.query.index)
            return torch.zeros(count)

    for method in ("hypertransformer", "prototypical", "pixels"):
        trainer_of(make(f"method.name={method}"), data, kind=Spy).evaluate("test")
    assert all(
        torch.equal(a, b) for a, b in zip(seen["hypertransformer"], seen["pixels"], strict=True)
    )
    assert all(
        torch.equal(a, b)
        for a, b in zip(seen["hypertransformer"], seen["prototypical"], strict=True)
    )
    trainer = trainer_of(make(), data)
    assert trainer.evaluate("test") == trainer.evaluate("test")
    found = trainer.evaluate("test")
    assert (found["tasks"], found["queries"]) == (20, 12)
    with pytest.raises(ConfigError, match="split is 'dev'; allowed: train, val, test"):
        trainer.evaluate("dev")


def test_pixels_are_classified_by_the_nearest_mean(make, data):
    trainer = trainer_of(make("method.name=pixels", episodes={"samples_transformer": 6}), data)
    batch = data.episodes(trainer.config, "test").batch(3, torch.Generator().manual_seed(0))
    right = []
    for e in range(3):
        means = torch.stack(
            [batch.support_images[e][batch.support_labels[e] == y].mean(0) for y in range(3)]
        )
        distance = (batch.query_images[e][:, None] - means).flatten(2).norm(dim=-1)
        right.append((distance.argmin(1) == batch.query_labels[e]).double().mean())
    torch.testing.assert_close(trainer.task.evaluate(batch), torch.stack(right))


def test_the_interval_is_that_of_a_mean():
    values = torch.tensor([0.0, 1.0] * 50, dtype=torch.float64)
    assert half_width(values) == pytest.approx(1.96 * 0.5025 / 10, rel=1e-3)
    assert summary(100 * values)["accuracy"] == 50


# -- task after task -------------------------------------------------------------------------------


@pytest.fixture
def continual(make):
    def configuration(**changes):
        return make(
            method={"name": "continual", "tasks": 2, "test_tasks": 1, "embedding": 5} | changes,
            data={"test_dataset": "bars:9-11"},
        )

    return configuration


def test_a_sequence_is_cut_into_tasks_with_their_own_labels(continual, data):
    trainer = trainer_of(continual(), data)
    (step, generator), *_ = trainer._batches(0)
    ((x, targets),) = trainer._parts(step, generator)
    images, labels = trainer.task._support(x.batch)
    assert images.shape == (4, 2, 3, 1, 16, 16)
    assert labels.sort(-1).values.tolist() == [[[0, 1, 2]] * 2] * 4
    for e in range(4):
        for task in range(2):
            for n, label in enumerate(labels[e, task].tolist()):
                (place,) = (x.batch.support_labels[e] == 3 * task + label).nonzero()[:, 0].tolist()
                assert torch.equal(images[e, task, n], x.batch.support_images[e, place])
    assert targets.shape == (4 * 6 * 3,)
    assert targets[:24].max() == 2  # after the first task there are three classes
    assert targets[24:].max() == 5


@pytest.mark.parametrize("candidates", ["class", "task"])
def test_the_continual_loss_is_that_of_its_answers(continual, data, candidates):
    trainer = trainer_of(continual(candidates=candidates), data)
    (step, generator), *_ = trainer._batches(0)
    ((x, targets),) = trainer._parts(step, generator)
    terms, logits = trainer.task.loss_terms(trainer.model, x, targets)
    images, labels = trainer.task._support(x.batch)
    queries, query_labels = trainer.task._queries(x.batch)
    answers = trainer.model(images, labels, queries)
    assert [part.shape for part in answers] == [(4, 6, 3), (4, 12, 6)]
    losses = [
        F.cross_entropy(answers[0].flatten(0, 1), query_labels[:, 0].flatten(), reduction="sum")
    ]
    for task in range(2):  # after the second
        part = answers[1][:, 6 * task : 6 * task + 6].flatten(0, 1)
        own, shift = (
            (part[:, 3 * task : 3 * task + 3], 0) if candidates == "task" else (part, 3 * task)
        )
        losses.append(
            F.cross_entropy(own, query_labels[:, task].flatten() + shift, reduction="sum")
        )
    assert terms["cross_entropy"].item() == pytest.approx(sum(losses).item() / 72, rel=1e-5)
    assert logits.shape == (72, 6)


def test_the_continual_table_is_a_lower_triangle_and_tasks_are_easier_than_classes(continual, data):
    trainer = trainer_of(continual(tasks=2), data)
    found = trainer.evaluate("train")  # as many tasks as its classes allow, at most test_tasks
    assert [len(row) for row in found["class_incremental"]] == [1]
    config = continual(test_tasks=2)
    wide = dataclasses.replace(
        data, splits=data.splits | {"test": (data.splits["test"][0], tuple(range(6, 12)))}
    )
    found = trainer_of(config, wide).evaluate("test")
    for kind in ("class_incremental", "task_incremental", "task_incremental_interval"):
        assert [len(row) for row in found[kind]] == [1, 2]
    for own, all_of_them in zip(found["task_incremental"], found["class_incremental"]):
        assert all(a >= b - 1e-9 for a, b in zip(own, all_of_them))
    assert found["accuracy"] == pytest.approx(sum(found["class_incremental"][1]) / 2)
    with pytest.raises(ValueError, match="num_labels is 6; allowed: at most 3"):
        trainer_of(config, data)


def test_a_continual_run_has_its_table_in_its_record(continual, data):
    record = FEW_SHOT.run(continual(), "continual", data=data).record
    assert record["model"] == "ContinualHyperTransformer"
    frame = studies.continual_table(FEW_SHOT.of_record(record), "task_incremental")
    assert frame.shape == (1, 1)
    assert frame.iloc[0, 0] == record["results"]["test"]["task_incremental"][0][0]
    longer = {**record, "config": to_dict(continual(test_tasks=3))}
    assert FEW_SHOT.row(longer)["ways"] == 3 * FEW_SHOT.row(record)["ways"]


# -- records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hypertransformer", "prototypical", "pixels"])
def test_a_record_is_evidence_and_is_found_again(make, data, method, capsys):
    config = make(f"method.name={method}")
    done = FEW_SHOT.run(config, "mine", "laptop", data=data)
    record = done.record
    assert record["task"] == "few-shot"
    assert record["results"].keys() == {"train", "val", "test", "test_overlapping"}
    assert len(record["epochs"]) == (0 if method == "pixels" else 3)
    assert record["data"]["classes"] == {"train": 6, "val": 3, "test": 3}
    assert not (done.folder / "checkpoint.pt").exists()
    capsys.readouterr()
    assert FEW_SHOT.run(config, "mine", "laptop", data=data).record == record
    assert "epoch" not in capsys.readouterr().out
    again = trainer_of(config, data)
    again.model.load_state_dict(done.model().state_dict())
    assert again.evaluate("test")["accuracy"] == done.accuracy()
    other = FEW_SHOT.run(config.updated("train.seed=1"), "mine", "laptop", data=data)
    assert other.folder != done.folder
    table = FEW_SHOT.runs_table(records.load_records("mine"))
    assert set(table["seed"]) == {0, 1}


def test_other_tables_leave_few_shot_records_out(make, data):
    FEW_SHOT.run(make(), "mine", "laptop", data=data)
    assert records.evidence(CLASSIFICATION.task) == []
    assert len(records.evidence("few-shot")) == 1
    assert CLASSIFICATION.runs_table(records.evidence(CLASSIFICATION.task)).empty
    assert len(pd.read_csv(FEW_SHOT.rebuild_index())) == 1


def test_where_it_runs_is_no_part_of_the_identity(make, data):
    config = resolved(make(), data)
    name = FEW_SHOT.run_id(config, data, "smoke")
    assert (
        FEW_SHOT.run_id(
            config.updated(train={"device": "auto", "distributed": True}), data, "smoke"
        )
        == name
    )
    assert FEW_SHOT.run_id(config.updated(train={"train_steps": 6}), data, "smoke") != name
    assert FEW_SHOT.run_id(config, data, "laptop") != name
    assert identity(FewShotConfig()) == {}


def test_a_record_is_enough_where_its_data_are_not(make, data, monkeypatch):
    done = FEW_SHOT.run(make(), "mine", "laptop", data=data)

    def gone(*arguments):
        raise DatasetNotFound("bars is not here")

    monkeypatch.setattr(runs, "load_episode_data", gone)
    assert FEW_SHOT.run(make(), "mine", "laptop").record == done.record
    with pytest.raises(DatasetNotFound):
        FEW_SHOT.run(make("train.seed=5"), "mine", "laptop")


def test_the_weights_of_a_record_come_back(make, data):
    done = FEW_SHOT.run(make(), "mine", data=data)
    (done.folder / "model.safetensors").unlink()
    again = FEW_SHOT.run(make(), "mine", data=data, need_model=True)
    assert again.record == done.record
    assert again.has_model


def test_a_damaged_or_foreign_model_file_is_named(make, data, tmp_path, tiny_model):
    path = FEW_SHOT.run(make(), "mine", data=data).folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="corrupt"):
        FEW_SHOT.load(path)
    tiny_model().save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no few-shot model"):
        FEW_SHOT.load(tmp_path / "other.safetensors")


def test_a_folder_of_another_run_is_not_taken_for_this_one(make, data, tmp_path):
    FEW_SHOT.run(make(), "mine", data=data, folder=tmp_path / "here")
    with pytest.raises(
        ConfigError, match="holds the finished run .* allowed: another folder, or --force"
    ):
        FEW_SHOT.run(make("train.seed=1"), "mine", data=data, folder=tmp_path / "here")


# -- evaluation beside a training ------------------------------------------------------------------


def test_checkpoints_are_evaluated_as_they_appear_until_the_end(make, data, tmp_path):
    config, folder = resolved(make(), data), tmp_path / "run"

    def wait(rows):
        """For the watch, after the first save; a record says by then that the run is under way."""
        deadline = time.monotonic() + 60
        while (
            len(rows) == 1
            and not (folder / "evaluation.csv").is_file()
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)

    thread = threading.Thread(
        target=FEW_SHOT.run,
        args=(make(), "mine"),
        kwargs={"data": data, "folder": folder, "callbacks": [wait]},
    )
    thread.start()
    found = watch(config, data, folder, poll_s=0.05, timeout_s=60)
    thread.join()
    assert found["step"].iloc[0] == 2
    assert found["step"].iloc[-1] == 5
    assert set(found["split"]) == {"train", "val", "test"}
    assert found["step"].is_monotonic_increasing
    expected = EpisodeTrainer(
        FEW_SHOT.load(folder / "model.safetensors")[0], config, data
    ).evaluate("test")
    last = found[found["split"] == "test"].iloc[-1]
    assert last["accuracy"] == pytest.approx(expected["accuracy"])
    assert last["interval"] == pytest.approx(expected["interval"])
    again = watch(config, data, folder, poll_s=0.05)  # nothing is evaluated twice
    assert len(again) == len(found)
    with pytest.raises(ConfigError, match="holds the finished run .* of other settings"):
        watch(resolved(make("train.seed=7"), data), data, folder, poll_s=0.05)
    of_before = again.assign(accuracy=1.0, started="2000-01-01T00:00:00+00:00")
    records.write_csv(folder / "evaluation.csv", of_before)  # as a forced training leaves it
    anew = watch(config, data, folder, poll_s=0.05)
    assert set(anew["started"]) == set(found["started"])
    assert anew["accuracy"].ne(1.0).all()
    assert set(anew["step"]) == {5}


def test_a_watch_of_a_training_that_was_begun_anew_keeps_no_rows_of_the_one_before(
    make, data, tmp_path
):
    config = resolved(make(), data)
    rows = [
        {"step": 5, "split": "test", "accuracy": 1.0, "interval": 0.0, "tasks": 1, "queries": 1}
    ]
    records.write_csv(tmp_path / "evaluation.csv", pd.DataFrame(rows))
    with pytest.raises(KeyboardInterrupt):
        trainer_of(config, data, tmp_path, Interrupted).fit()
    with pytest.raises(TimeoutError):
        watch(config, data, tmp_path, poll_s=0.01, timeout_s=0.05)
    found = pd.read_csv(tmp_path / "evaluation.csv")
    assert found["step"].max() < 5
    assert found["accuracy"].ne(1.0).any()


def test_a_watch_knows_the_step_within_an_epoch(make, data, tmp_path, monkeypatch):
    config = resolved(make("train.checkpoint_minutes=1e-9"), data)
    trainer, watching, seen = trainer_of(config, data, tmp_path), trainer_of(config, data), []
    save = trainer._save

    def saved(*arguments):
        save(*arguments)
        seen.append(watch_module._newest(watching, tmp_path)[0])

    monkeypatch.setattr(trainer, "_save", saved)
    trainer.fit()
    assert seen == list(range(1, config.train.train_steps + 1))


def test_one_query_has_no_batch_statistics(make, data):
    config = make("test.eval_batch_size=1")  # as a record of before may have it
    with pytest.raises(
        ConfigError, match="eval_batch_size is 1; allowed: an integer of at least 2"
    ):
        FEW_SHOT.resolve(config, data)


def test_a_watch_ends_when_nothing_comes(make, data, tmp_path):
    with pytest.raises(
        TimeoutError, match="no new checkpoint in .* for 0 s .last step seen: none."
    ):
        watch(resolved(make(), data), data, tmp_path, poll_s=0.01, timeout_s=0.05)


def test_a_watch_refuses_the_checkpoint_of_other_settings(make, data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trainer_of(make(), data, tmp_path, Interrupted).fit()
    with pytest.raises(RuntimeError, match="belongs to another configuration: train.seed"):
        watch(resolved(make("train.seed=1"), data), data, tmp_path, poll_s=0.01)


def test_a_checkpoint_of_other_classes_is_not_gone_on_from(make, data, tmp_path):
    """The data set is the same one, and so is its fingerprint."""
    with pytest.raises(KeyboardInterrupt):
        trainer_of(make(), data, tmp_path, Interrupted).fit()
    fewer = make("data.train_dataset=bars:0-3")
    assert fewer.data.train_dataset != make().data.train_dataset
    with pytest.raises(RuntimeError, match="another configuration: data.train_dataset: 'bars:"):
        trainer_of(fewer, data, tmp_path).fit()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"test_dataset": "./bars:6-8"}},
            "data.test_dataset is './bars:6-8'; allowed: what a data folder holds",
        ),
        (
            {"data": {"test_dataset": "bars:4-8"}},
            "test_dataset is 'bars:4-8' and shares 2 classes with train .4 is one",
        ),
        (
            {"data": {"test_dataset": "bars:9-12"}},
            "data.test_dataset is 'bars:9-12', with class 12; allowed: 0 to 11",
        ),
    ],
)
def test_splits_that_cannot_be(make, cache, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_episode_data(make(**changes).data, str(cache))


def test_a_part_of_omniglot_is_no_other_data_set(tmp_path, monkeypatch):
    images = torch.zeros(30, 20, 1, 28, 28, dtype=torch.uint8)

    def named(name, data_dir):
        classes = tuple(map(str, range(30)))
        return SimpleNamespace(
            name=name, images=images, classes=classes, shuffled=lambda seed: of(name)
        )

    def of(name):
        return named(name, None)

    monkeypatch.setattr(fewshot_data, "load_classes", named)
    use = FewShotData(train_dataset="omniglot:0-9", test_dataset="omniglot28:10-19")
    with pytest.raises(ConfigError, match="train is of omniglot: one is a part of the other"):
        load_episode_data(use)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"episodes": {"num_labels": 4, "samples_transformer": 4, "samples_cnn": 8}},
            "num_labels is 4; allowed: at most 3, the classes of the split",
        ),
        ({"episodes": {"samples_transformer": 21}}, "needs 9 images of a class .*; bars has 8"),
        ({"test": {"eval_batch_size": 24}}, "needs 9 images of a class"),
    ],
)
def test_episodes_that_cannot_be_drawn_are_refused_before_training(make, data, changes, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(make(**changes), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"train_dataset": "bars:0-2-4"}},
            "data.train_dataset: data set specification 'bars:0-2-4'",
        ),
        ({"data": {"train_dataset": "a:b:c"}}, "one colon"),
        (
            {"method": {"name": "prototypical", "embedding": 8}},
            "method.embedding is 8; allowed: 16, for method.name=prototypical",
        ),
        (
            {"data": {"test_dataset": "bars"}},
            "data.test_dataset is 'bars'; allowed: a name with its classes",
        ),
        ({"data": {"eval_datasets": "mnist"}}, "data.eval_datasets is 'mnist'; allowed: omniglot"),
        (
            {"episodes": {"balanced_batches": False, "unlabeled_samples_per_class": 1}},
            "unlabeled_samples_per_class is 1; allowed: 0 without balanced_batches",
        ),
        ({"model": {"num_labels": 5}}, "model.num_labels is 5; allowed: 3, that of the episodes"),
        ({"method": {"name": "magic"}}, "method.name is 'magic'; allowed: hypertransformer"),
        (
            {"method": {"name": "pixels"}, "train": {"shared_head_weight": 1}},
            "shared_head_weight is 1.0; allowed: nothing",
        ),
        (
            {"method": {"name": "continual"}, "episodes": {"samples_cnn": 7}},
            "episodes.samples_cnn is 7; allowed: a multip",
        ),
        (
            {"optimizer": {"name": "Adagrad"}},
            "optimizer.name is 'Adagrad'; allowed: SGD, Adam, AdamW",
        ),
        ({"train": {"accumulate": 3}}, "train.accumulate is 3; allowed: a divisor"),
        (
            {
                "train": {"pretrain_shared_feature": True},
                "model": {"shared_feature_extractor": "none"},
            },
            "model.shared_feature_extractor is 'none'; allowed: an extractor",
        ),
        (
            {
                "episodes": {"max_prob_remove_labeled": 0.5},
                "model": {"layerwise_generator": "separate"},
            },
            "model.layerwise_generator is 'separate'; allowed: joint",
        ),
        (
            {"episodes": {"max_prob_remove_unlabeled": 0.5}, "method": {"name": "prototypical"}},
            "max_prob_remove_unlabeled is 0.5; allowed: nothing for method.name=prototypical",
        ),
    ],
)
def test_settings_that_cannot_be(make, changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes)


def test_settings_of_the_continual_model_that_cannot_be(continual, data):
    with pytest.raises(
        ConfigError, match="add_trainable_weights is True; allowed: False, for method continual"
    ):
        trainer_of(continual().updated(model={"add_trainable_weights": True}), data)
    with pytest.raises(ConfigError, match="shared_fe_dropout is 0.5; allowed: 0.0, for method con"):
        trainer_of(continual().updated(model={"shared_fe_dropout": 0.5}), data)


def test_a_cache_of_the_wrong_shape(make, tmp_path):
    np.save(tmp_path / "bars.npy", np.zeros((4, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="bars.npy.*allowed"):
        load_episode_data(make().data, str(tmp_path))


# -- presets, studies, speed -----------------------------------------------------------------------


def test_presets_and_studies_can_be_built():
    for name in PRESETS:
        assert identity(preset(name)) or name == "omniglot-20way-1shot"
    for profile in MAIN:
        for name in ("methods", "widths", "shots", "unlabeled", "continual"):
            found = study(name, profile)
            assert found
            assert len({json.dumps(identity(config)) for config in found.values()}) == len(found)
            for config in found.values():
                network = build_network(
                    config.resolved(3 if "mini" in config.data.train_dataset else 1)
                )
                assert build_task(network, config).answers() > 0
    with pytest.raises(ConfigError, match="study is 'depth'; allowed: methods"):
        study("depth", "smoke")


def test_speed_counts_episodes(make, data):
    found = episode_speed(make(), data, batches=(1, 3), repeats=2, warm_up=1)
    assert [row["batch"] for row in found["rows"]] == [1, 3]
    for row in found["rows"]:
        assert row["episodes_per_s"] == pytest.approx(1e3 * row["batch"] / row["ms_per_step"])
        assert row["slowest"] <= row["episodes_per_s"] <= row["fastest"]


def finished(accuracies, ways=5):
    config = to_dict(of_ways(ways))
    return [
        FinishedRun(
            {"results": {"test": {"accuracy": a}}, "seed": seed, "config": config}, None, FEW_SHOT
        )
        for seed, a in enumerate(accuracies)
    ]


def of_ways(ways):
    return FewShotConfig().updated(
        episodes={"num_labels": ways, "samples_transformer": ways, "samples_cnn": ways}
    )


def test_what_has_to_be_beaten_is_chance_and_the_pixels():
    runs = {"a": finished([60.0, 61.0, 62.0]), "b": finished([50.0, 51.5, 52.0])}
    assert contrasts.compare(runs, "a", "b").word == contrasts.HOLDS
    runs["5-way, nearest mean of pixels"] = finished([63.0])
    found = contrasts.compare(runs, "a", "b")
    assert found.word == "not learned"
    assert "nearest mean of pixels (63.0)" in str(found)
    poor = {"a": finished([20.0, 20.1, 20.2]), "b": finished([19.0, 19.2, 19.0])}
    assert "chance (20.0)" in str(contrasts.compare(poor, "a", "b"))


def table_of(task_incremental, ways=5, seed=0):
    spread = [[1.0] * len(row) for row in task_incremental]
    results = {"test": {"task_incremental": task_incremental, "task_incremental_interval": spread}}
    record = {"results": results, "config": to_dict(of_ways(ways)), "seed": seed}
    return FinishedRun(record, None, FEW_SHOT)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (80.0, 60.0, "does not hold"),
        (80.0, 85.0, "holds"),
        (80.0, 79.5, "holds"),  # within a point
        (20.5, 20.0, "not learned"),
    ],
)
def test_forgetting_is_judged_where_something_was_learnt(first, last, expected):
    runs = [table_of([[first + s / 9], [last + s / 8, 50.0]], seed=s) for s in range(3)]
    assert contrasts.forgetting({"continual": {"three tasks": runs}}).word == expected
    one = contrasts.forgetting({"continual": {"three tasks": runs[:1]}}).word
    assert one == ("not learned" if expected == "not learned" else "undecided")
    assert contrasts.forgetting({}).word == contrasts.NOT_RUN


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_contrast_compares_labels_of_its_study(profile):
    for case in contrasts.contrasts(profile):
        labels = study(case.study, profile)
        assert all({better, than} <= labels.keys() for _, better, than in case.places)
    assert {case.text for case in contrasts.contrasts(profile)} == {
        case.text for case in contrasts.contrasts("paper")
    }


def test_a_contrast_is_settled_by_three_seeds_a_side():
    case = contrasts.contrasts("smoke")[0]
    ((place, better, than),) = case.places

    def settled(ours, theirs):
        runs = {better: finished(ours), than: finished(theirs)}
        return contrasts.settle(case, {case.study: runs})

    assert settled([60.0, 61.0, 62.0], [50.0, 51.0, 52.4]).word == contrasts.HOLDS
    assert settled([50.0, 51.0, 52.4], [60.0, 61.0, 62.0]).word == "does not hold"
    assert settled([60.0, 40.0, 50.0], [50.0, 51.0, 52.0]).word == contrasts.UNDECIDED
    assert settled([60.0, 61.0], [50.0, 51.0]).word == contrasts.UNDECIDED
    assert settled([60.0], []).word == contrasts.NOT_RUN
    assert "+9.9 points" in settled([60.0, 61.0, 62.0], [50.0, 51.0, 52.4]).evidence
    runs = {better: finished([60.0, 61.0, 62.0]), than: finished([50.0, 51.0, 52.4])}
    table = contrasts.table({case.study: runs}, "smoke")
    assert table["verdict"].value_counts()[contrasts.NOT_RUN] == len(table) - 1


def test_a_contrast_is_of_every_number_of_ways():
    case = contrasts.contrasts("laptop")[0]
    assert [what for what, _, _ in case.places] == ["5-way", "20-way"]
    (_, few, few_than), (_, many, many_than) = case.places
    ahead, behind = [60.0, 61.0, 62.0], [50.0, 51.0, 52.4]

    def settled(ours, theirs):
        runs = {few: finished(ahead), few_than: finished(behind)}
        runs |= {many: finished(ours, 20), many_than: finished(theirs, 20)}
        return contrasts.settle(case, {case.study: runs})

    assert settled(ahead, behind).word == contrasts.HOLDS
    assert settled(behind, ahead).word == "does not hold"
    single = settled(ahead[:1], behind[:1])
    assert single.word == contrasts.UNDECIDED
    assert "20-way: 3 seeds of both sides first" in single.settles
    assert "20-way, all layers 60.0 against 20-way, logits only 50.0" in single.evidence


def test_which_runs_take_every_seed():
    asked = [wanted.seed for wanted in studies.study_runs("methods", "laptop")]
    assert asked == [0, 1, 2] * 8  # four methods of five ways, four of twenty
    asked = [wanted.seed for wanted in studies.study_runs("shots", "laptop", seeds=[4, 5])]
    assert asked == [4, 5, 4, 5]  # that are given are taken


@pytest.mark.parametrize("method", ["hypertransformer", "prototypical", "continual"])
def test_no_step_waits_for_a_gpu(make, data, monkeypatch, method):
    augmentation = {"random_rotate_by_90": True, "apply_image_augmentations": True}
    augmentation |= {f"{step}_probability": 0.5 for step in STEPS}
    sequences = {"tasks": 2, "test_tasks": 1} if method == "continual" else {}
    config = make(method={"name": method, **sequences}, augmentation=augmentation)
    assert not waits_of_a_step(monkeypatch, lambda: trainer_of(config, data))
