"""The training loop: it learns, repeats itself, goes on where it was killed, and says what went
wrong.
"""

import os
import subprocess
import sys
import time

import pytest
import torch
from gpu_rehearsal import waits_of_a_step

from terminator import ConfigError, Terminator
from terminator.classification.trainer import Trainer
from terminator.runs import records
from terminator.runtime.checkpoint import CheckpointError
from terminator.trainer import TrainingDiverged

TIMES = ("seconds", "images_per_s")


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        ("Kar3", 0.003),
        pytest.param("Kar2", 0.003, marks=pytest.mark.slow),
        pytest.param("AdamW", 0.01, marks=pytest.mark.slow),
        pytest.param("SGD", 0.05, marks=pytest.mark.slow),
    ],
)
def test_it_learns_what_can_be_learnt(tiny_model, tiny_config, tiny_data, optimizer, lr):
    config = tiny_config(train={"epochs": 6}, optimizer={"name": optimizer, "lr": lr})
    trainer = Trainer(tiny_model(), config, tiny_data(train=64, test=20))
    rows = trainer.fit()
    assert rows[-1]["train_accuracy"] > 85
    assert rows[-1]["test_accuracy"] > 85
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert trainer.calibrate() == 64
    assert trainer.evaluate("calibrated")["accuracy"] > 70


def test_it_trains_where_gradients_are_switched_off(tiny_model, tiny_config, tiny_data):
    """A network that is asked for by what only looks into it may have to be trained first."""
    made = []
    for enabled in (True, False):
        trainer = Trainer(tiny_model(), tiny_config(), tiny_data())
        with torch.set_grad_enabled(enabled):
            trainer.fit()
            assert torch.is_grad_enabled() == enabled
        made.append(weights(trainer.model))
    assert equal(*made)


def test_a_row_per_epoch_with_every_term_by_name(tiny_model, tiny_config, tiny_data):
    rows = Trainer(tiny_model(), tiny_config(), tiny_data()).fit()
    assert [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert row.keys() == {
            "epoch",
            "lr",
            "cross_entropy",
            "slow_neural_loss",
            "norm_penalty",
            "loss",
            "train_accuracy",
            "test_accuracy",
            "test_cross_entropy",
            *TIMES,
        }
        assert row["loss"] == pytest.approx(
            row["cross_entropy"] + row["slow_neural_loss"] + row["norm_penalty"]
        )
        assert 0 <= row["train_accuracy"] <= 100
        assert row["lr"] == tiny_config().optimizer.lr


def test_terms_that_are_switched_off_are_gone(tiny_model, tiny_config, tiny_data):
    config = tiny_config(train={"slow_neural_loss": 0}, optimizer={"l2_reg": 0})
    row = Trainer(tiny_model(), config, tiny_data()).fit()[-1]
    assert not {"slow_neural_loss", "norm_penalty"} & row.keys()
    assert row["loss"] == pytest.approx(row["cross_entropy"])
    halved = tiny_config(train={"epochs": 1, "slow_neural_loss": 0.5}, optimizer={"lr": 1e-12})
    whole = halved.updated("train.slow_neural_loss=1")
    a, b = (
        Trainer(tiny_model(), config, tiny_data()).fit()[0]["slow_neural_loss"]
        for config in (halved, whole)
    )
    assert a == pytest.approx(b / 2, rel=1e-3)


@pytest.mark.parametrize("view", ["sequence", "permuted"])
def test_sequences_train_by_the_same_loop(tiny_model, tiny_config, tiny_data, view):
    from dataclasses import replace

    data = tiny_data()
    data = replace(
        data,
        train_images=data.train_images.flatten(2),
        test_images=data.test_images.flatten(2),
        info=replace(data.info, shape=(3, 64)),
    )
    # which sequences ignore
    config = tiny_config(dataset={"view": view, "crop_padding": 4, "flip": True})
    rows = Trainer(tiny_model(dimensions=1, size=64, operator="convolution"), config, data).fit()
    assert len(rows) == 2


def test_the_learning_rate_follows_the_schedule(tiny_model, tiny_config, tiny_data):
    config = tiny_config(train={"epochs": 3}, scheduler={"name": "cosine", "warmup_epochs": 1})
    # of the last of four steps
    lrs = [row["lr"] for row in Trainer(tiny_model(), config, tiny_data()).fit()]
    peak = config.optimizer.lr
    cosine = [0.5 * (1 + torch.tensor(torch.pi * step / 8).cos().item()) for step in (3, 7)]
    assert lrs == pytest.approx([peak, peak * cosine[0], peak * cosine[1]], rel=1e-4)


# -- repeatable ------------------------------------------------------------------------------------


def train(make_model, config, data, folder=None, trainer=Trainer):
    model = make_model(seed=config.train.seed, dropout=(0.2,))
    return trainer(model, config, data, folder).fit(), weights(model)


def test_same_seed_same_run_other_seed_another(tiny_model, tiny_config, tiny_data):
    config = tiny_config(dataset={"crop_padding": 2, "flip": True})
    rows, first = train(tiny_model, config, tiny_data())
    again, second = train(tiny_model, config, tiny_data())
    assert timeless(rows) == timeless(again)
    assert equal(first, second)
    other, third = train(tiny_model, config.updated("train.seed=1"), tiny_data())
    assert timeless(rows) != timeless(other)
    assert not equal(first, third)


class Interrupted(Trainer):
    """Stops in the middle of the third epoch."""

    def _step(self, batch, generator):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 2 * self.steps_per_epoch + 2:
            raise KeyboardInterrupt
        return super()._step(batch, generator)


@pytest.mark.parametrize("optimizer", ["Kar3", pytest.param("SGD", marks=pytest.mark.slow)])
def test_two_and_two_epochs_are_four_to_the_bit(
    tiny_model, tiny_config, tiny_data, tmp_path, optimizer
):
    config = tiny_config(
        train={"epochs": 4, "accumulate": 2},
        optimizer={"name": optimizer, "lr": 0.003},
        dataset={"crop_padding": 2, "flip": True},
        scheduler={"name": "cosine", "warmup_epochs": 1},
    )
    rows, whole = train(tiny_model, config, tiny_data())
    with pytest.raises(KeyboardInterrupt):
        train(tiny_model, config, tiny_data(), tmp_path, Interrupted)
    torch.manual_seed(999)  # a new process would be in another state
    resumed, parts = train(tiny_model, config, tiny_data(), tmp_path)
    assert timeless(resumed) == timeless(rows)
    assert equal(parts, whole)
    finished, again = train(tiny_model, config, tiny_data(), tmp_path)  # nothing is left to do
    assert finished == resumed
    assert equal(again, whole)


def command(*extra):
    return [
        sys.executable,
        "-m",
        "terminator",
        "train",
        "dataset.name=digits",
        "dataset.channels=3",
        "dataset.train_size=256",
        "dataset.test_size=64",
        "model.factors=[4,1,1]",
        "model.global_hidden=4",
        "model.local_hidden=4",
        "model.dropout=[0.1]",
        "train.batch_size=16",
        "train.epochs=4",
        "train.device=cpu",
        "scheduler.warmup_epochs=1",
        "--profile",
        "smoke",
        "--experiment",
        "kill",
        *extra,
    ]


def start(results):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERMINATOR_RESULTS": str(results)}
    return subprocess.Popen(
        command(), env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def kill_after(process, line, seconds):
    """Wait for a line of output (or for the run's folder), a little longer, and end the process for
    good.
    """
    for text in process.stdout:
        if line in text:
            break
    time.sleep(seconds)
    assert process.poll() is None, "it was to be killed under way"
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_never_been_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    reference = start(whole)
    process = start(killed)
    while not list(killed.glob("runs/kill/*")) and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.2)  # in the first epoch: there is no checkpoint yet
    process.kill()
    process.communicate()
    kill_after(start(killed), "epoch   1/4", 0.2)  # in the second
    kill_after(start(killed), "epoch   3/4", 0.0)  # right after a checkpoint
    last = start(killed)
    output, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    assert "going on after epoch 3 of 4" in output
    assert reference.communicate(timeout=120)[1] == ""
    folders = [next(results.glob("runs/kill/*")) for results in (whole, killed)]
    assert folders[0].name == folders[1].name
    one, other = (Terminator.load(folder / "model.safetensors").state_dict() for folder in folders)
    assert equal(one, other)
    one, other = (records.read_record(folder / "record.json") for folder in folders)
    assert timeless(one["epochs"]) == timeless(other["epochs"])
    assert one["results"] == other["results"]
    assert not (folders[1] / "checkpoint.pt").exists()


# -- accumulation and precision --------------------------------------------------------------------


def test_accumulated_gradients_are_those_of_the_whole_batch(tiny_model, tiny_config, tiny_data):
    runs = []
    for accumulate in (1, 2, 4):
        config = tiny_config(
            train={"accumulate": accumulate, "epochs": 1}, optimizer={"name": "SGD", "lr": 0.02}
        )
        # nothing depends on the batch
        model = tiny_model(standardization="instance", local_sizes=(0, 0, 0, 0))
        rows = Trainer(model, config, tiny_data()).fit()
        runs.append((rows, weights(model)))
    for rows, values in runs[1:]:
        for row, expected in zip(timeless(rows), timeless(runs[0][0]), strict=True):
            assert row == pytest.approx(expected, rel=1e-4, abs=1e-4)
        for name, value in values.items():
            # slow nets amplify rounding
            torch.testing.assert_close(value, runs[0][1][name], rtol=1e-3, atol=1e-4)


def test_bfloat16_trains_close_to_float32(tiny_model, tiny_config, tiny_data):
    config = tiny_config(train={"epochs": 1, "precision": "bf16"}, optimizer={"lr": 1e-6})
    half, whole = tiny_model(), tiny_model()
    trainer = Trainer(half, config, tiny_data())
    row = trainer.fit()[0]
    exact = Trainer(whole, config.updated("train.precision=float32"), tiny_data()).fit()[0]
    assert row["loss"] == pytest.approx(exact["loss"], rel=0.02)
    assert row["slow_neural_loss"] == pytest.approx(exact["slow_neural_loss"], rel=0.02)
    trainer.calibrate()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in half.parameters())
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = half.eval()(x).float()
    with torch.no_grad():
        torch.testing.assert_close(rounded, half(x), rtol=0.1, atol=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_gpu(tiny_model, tiny_config, tiny_data, tmp_path, precision):
    config = tiny_config(
        train={"epochs": 6, "device": "cuda", "precision": precision}, optimizer={"lr": 0.003}
    )
    trainer = Trainer(tiny_model(), config, tiny_data(train=64, test=20), tmp_path)
    assert trainer.fit()[-1]["train_accuracy"] > 85
    trainer.calibrate()
    assert trainer.evaluate("calibrated")["accuracy"] > 70
    trainer.model.cpu().save(tmp_path / "model.safetensors")
    again = Trainer(
        Terminator.load(tmp_path / "model.safetensors"),
        config.updated("train.device=cpu"),
        tiny_data(train=64, test=20),
    )
    assert again.evaluate("calibrated")["accuracy"] == pytest.approx(
        Trainer(trainer.model, config, tiny_data(train=64, test=20)).evaluate("calibrated")[
            "accuracy"
        ],
        abs=10,
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_change_no_loss(tiny_model, tiny_config, tiny_data):
    config = tiny_config("train.device=cuda", "train.epochs=1")
    eager, ours = (
        Trainer(tiny_model(), config.updated(f"train.compile={mode}"), tiny_data()).fit()[0]
        for mode in ("none", "reduce-overhead")
    )
    for name in ("loss", "cross_entropy", "slow_neural_loss"):
        assert ours[name] == pytest.approx(eager[name], rel=0.02), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_step_waits_on_the_gpu_itself(tiny_model, tiny_config, tiny_data):
    config = tiny_config("train.device=cuda", dataset={"crop_padding": 2, "flip": True})
    trainer = Trainer(tiny_model(), config, tiny_data())
    trainer.optimizer, trainer.network = trainer._make_optimizer(), trainer._network()
    batches = trainer._batches(0)
    trainer._step(*next(batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._step(*next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


# -- errors ----------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_stops_the_run(tiny_model, tiny_config, tiny_data, tmp_path):
    config = tiny_config(optimizer={"name": "SGD", "lr": 1e30})
    with pytest.raises(TrainingDiverged) as error:
        Trainer(tiny_model(), config, tiny_data(), tmp_path).fit()
    for words in ("in epoch 1, step 2 of 4", "learning rate 1e+30", "Try a lower optimizer.lr"):
        assert words in str(error.value)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_diverge_in_the_last_step_are_never_in_the_place_of_good_ones(
    tiny_model, tiny_config, tiny_data, tmp_path
):
    config = tiny_config(train={"epochs": 3}, optimizer={"name": "SGD"})
    trainer = Trainer(tiny_model(), config, tiny_data(), tmp_path)
    step, steps = trainer._step, []

    def spoilt(*given):
        logged = step(*given)
        steps.append(None)
        if len(steps) == 2 * trainer.steps_per_epoch:  # a loss is that from before its step
            trainer.model.classifier.bias.data[0] = float("nan")
        return logged

    trainer._step = spoilt
    with pytest.raises(TrainingDiverged, match="classifier.bias holds NaN .* after epoch 2"):
        trainer.fit()
    whole = Trainer(tiny_model(), config, tiny_data())
    whole.fit()
    again = Trainer(tiny_model(), config, tiny_data(), tmp_path)
    assert [row["epoch"] for row in again.fit()] == [1, 2, 3]  # from the first epoch's checkpoint
    assert equal(weights(again.model), weights(whole.model))


def test_an_average_that_diverged_is_not_kept_either(tiny_model, tiny_config, tiny_data, tmp_path):
    trainer = Trainer(tiny_model(), tiny_config(), tiny_data(), tmp_path)
    step = trainer._step

    def spoilt(*given):  # Kar3 moves on by the signs of what is left
        logged = step(*given)
        trainer.optimizer.state[trainer.model.classifier.bias]["average1"][0] = float("nan")
        return logged

    trainer._step = spoilt
    with pytest.raises(TrainingDiverged, match="the optimiser's average1 holds NaN"):
        trainer.fit()


def test_what_is_not_to_be_trained_is_not(tiny_model, tiny_config, tiny_data):
    with pytest.raises(ConfigError, match="train.do is False; allowed: True"):
        Trainer(tiny_model(), tiny_config("train.do=False"), tiny_data()).fit()


def test_batches_that_do_not_fit(tiny_model, tiny_config, tiny_data):
    with pytest.raises(
        ConfigError, match="train.batch_size is 64, but there are only 32 training images"
    ):
        Trainer(tiny_model(), tiny_config("train.batch_size=64"), tiny_data()).fit()


def test_schedules_that_do_not_fit_are_refused_before_the_first_step(
    tiny_model, tiny_config, tiny_data
):
    model = tiny_model()
    before = weights(model)
    config = tiny_config(scheduler={"name": "cosine", "warmup_epochs": 2})
    with pytest.raises(
        ValueError, match="8 of 8 iterations.*scheduler.warmup_epochs, train.epochs"
    ):
        Trainer(model, config, tiny_data()).fit()
    assert equal(weights(model), before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none(tiny_model, tiny_config, tiny_data):
    with pytest.raises(ConfigError, match="train.device is 'cuda', but torch sees no CUDA device"):
        Trainer(tiny_model(), tiny_config("train.device=cuda"), tiny_data())


def test_a_corrupt_checkpoint_is_named_and_kept(tiny_model, tiny_config, tiny_data, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="checkpoint.pt cannot be read as a checkpoint"):
        Trainer(tiny_model(), tiny_config(), tiny_data(), tmp_path).fit()
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"rubbish"


def test_no_room_for_the_checkpoint(tiny_model, tiny_config, tiny_data, tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not write the checkpoint"):
        Trainer(tiny_model(), tiny_config(), tiny_data(), tmp_path / "run").fit()


# -- the two evaluations ---------------------------------------------------------------------------


@torch.no_grad()
def test_a_filled_last_batch_counts_each_image_once(tiny_model, tiny_config, tiny_data):
    trainer = Trainer(tiny_model(), tiny_config(), tiny_data(test=12))
    batches = list(trainer._test_batches(fill=True))
    assert [(len(x), counted) for x, _, counted in batches] == [(8, 8), (8, 4)]
    assert torch.equal(batches[1][0][4:], batches[0][0][:4])
    found = trainer.evaluate("released")
    assert found["images"] == 12
    correct = sum(
        (trainer.model(x).argmax(1) == labels)[:counted].sum() for x, labels, counted in batches
    )
    assert found["accuracy"] == pytest.approx(100 * correct.item() / 12)
    entropy = sum(
        torch.nn.functional.cross_entropy(
            trainer.model(x)[:counted], labels[:counted], reduction="sum"
        )
        for x, labels, counted in batches
    )
    assert found["cross_entropy"] == pytest.approx(entropy.item() / 12, rel=1e-5)


def test_drop_last_drops_as_the_release_did(tiny_model, tiny_config, tiny_data):
    model, config = tiny_model(), tiny_config("test.drop_last=true")
    assert Trainer(model, config, tiny_data(test=12)).evaluate("released")["images"] == 8
    assert Trainer(model, config, tiny_data(test=16)).evaluate("released")["images"] == 16
    small = Trainer(model, config, tiny_data(test=6))
    assert small.evaluate("released")["images"] == 6  # there is no other batch
    dropping = Trainer(model, config, tiny_data(test=12))
    dropping.calibrate()
    # no batch statistics, so nothing to drop
    assert dropping.evaluate("calibrated")["images"] == 12


def test_calibrated_numbers_do_not_depend_on_the_test_batches(tiny_model, tiny_config, tiny_data):
    model, found = tiny_model(), []
    for size in (2, 5, 12):
        trainer = Trainer(model, tiny_config(f"test.batch_size={size}"), tiny_data())
        trainer.calibrate()
        found.append(trainer.evaluate("calibrated"))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_as_released_and_calibrated_can_be_taken_in_turns(tiny_model, tiny_config, tiny_data):
    trainer = Trainer(tiny_model(), tiny_config(), tiny_data())
    before = trainer.evaluate("released")
    with pytest.raises(ValueError, match="call calibrate"):
        trainer.evaluate("calibrated")
    assert trainer.calibrate() == 32
    assert trainer.evaluate("released") == before
    limited = Trainer(trainer.model, tiny_config("test.calibration_images=20"), tiny_data())
    assert limited.calibrate() == 20


# -- as on a GPU -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "accumulate"),
    [
        ("Kar3", 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("Kar2", 2), ("AdamW", 1), ("Lion", 1))
        ),
    ],
)
def test_no_step_waits_for_a_gpu(
    tiny_model, tiny_config, tiny_data, monkeypatch, optimizer, accumulate
):
    config = tiny_config(
        optimizer={"name": optimizer},
        train={"accumulate": accumulate},
        dataset={"crop_padding": 2, "flip": True},
    )
    assert not waits_of_a_step(monkeypatch, lambda: Trainer(tiny_model(), config, tiny_data()))


def test_a_step_that_waits_is_found(tiny_model, tiny_config, tiny_data, monkeypatch):
    def careless():
        trainer = Trainer(tiny_model(), tiny_config(), tiny_data())
        trainer._inputs = lambda images: images.float() + torch.ones(3, 1, 1).to(images.device)
        return trainer

    assert waits_of_a_step(monkeypatch, careless) == ["aten._to_copy.default"]
    monkeypatch.setattr(
        Trainer, "_step", lambda self, batch, generator: {"loss": self.labels.sum().item()}
    )
    with pytest.raises(RuntimeError, match="meta tensors"):
        waits_of_a_step(monkeypatch, careless)
