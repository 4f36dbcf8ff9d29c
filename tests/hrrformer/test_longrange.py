"""Long range experiments: settings, loss and schedule against golden numbers, training, resuming,
records, studies.
"""

import json

import numpy as np
import pytest
import torch
from gpu_rehearsal import waits_of_a_step
from places import GOLDEN

from terminator.data import DatasetNotFound
from terminator.data.sequences.tokens import Sequences, Split, describe
from terminator.hrrformer.longrange import presets, report
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.data import load_long_range
from terminator.hrrformer.longrange.presets import PRESETS, ember, preset, study
from terminator.hrrformer.longrange.runs import LONG_RANGE, LongRange, mixer_name
from terminator.hrrformer.longrange.tasks import build_network, flops_per_example
from terminator.hrrformer.longrange.trainer import SequenceTrainer, learning_rate
from terminator.hrrformer.network import build
from terminator.model import count_parameters
from terminator.runs import records
from terminator.runs.comparison import of_examples
from terminator.runtime.settings import ConfigError, from_dict, to_dict

SMALL = {
    "data": {"kind": "imdb", "length": 8},
    "network": {"task": "text", "layers": 1, "width": 16, "mlp_width": 16, "heads": 2},
    "train": {"epochs": 2, "batch_size": 8, "device": "cpu"},
    "optimizer": {"learning_rate": 1e-2},
}


def golden(name):
    with np.load(GOLDEN / f"hrrformer_{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def letters(count, seed):
    """Texts whose label is whether they hold more b than a; of various lengths."""
    random = np.random.RandomState(seed)
    texts = [bytes(random.randint(97, 99, random.randint(3, 9)).tolist()) for _ in range(count)]
    return Split(
        (Sequences.of(texts, 1),), torch.tensor([int(t.count(b"b") * 2 > len(t)) for t in texts])
    )


def small_data(train=64, test=32):
    return describe(
        {"train": letters(train, 0), "test": letters(test, 1)},
        "letters",
        "letters",
        8,
        257,
        ("few", "many"),
    )


def small_config(**changes):
    return from_dict(LongRangeConfig, SMALL).updated(**changes)


def small_trainer(config=None, data=None, folder=None):
    data = data or small_data()
    config = LONG_RANGE.resolve(config or small_config(), data)
    return SequenceTrainer(build_network(config), config, data, folder)


# -- settings --------------------------------------------------------------------------------------


def test_presets_have_the_published_sizes():
    published = {
        "listops": 9_173_514,
        "text": 12_996_610,
        "retrieval": 428_034,
        "image": 1_120_394,
        "pathfinder": 11_804_162,
        "listops-1layer": 2_613_514,
        "text-1layer": 2_495_490,
        "retrieval-1layer": 181_314,
        "image-1layer": 462_730,
        "pathfinder-1layer": 7_083_266,
        "ember": 4_853_762,
    }
    for name, parameters in published.items():
        with torch.device("meta"):
            network = build_network(preset(name))
        assert count_parameters(network) == parameters, name


@pytest.mark.parametrize(
    ("name", "batch", "steps", "updates", "final"),
    [
        ("listops", 32, 3062, 3000, 1.27e-4),
        ("text", 32, 1562, 782, 3.48e-4),
        ("retrieval", 64, 2570, 2298, 1.52e-4),
        ("image", 32, 1875, 1406, 4.63e-4),
        ("pathfinder", 128, 1406, 1250, 4.02e-4),
        ("pathx", 256, 703, 625, 4.02e-4),
    ],
)
def test_recipes_are_the_published_ones(name, batch, steps, updates, final):
    config = preset(name)
    assert config.train.batch_size == batch
    assert config.optimizer.decay_examples // batch == steps
    assert learning_rate(config, 20 * updates) == pytest.approx(final, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"listops": {"max_depth": 9}}, "listops.max_depth is 9; allowed: the default, for dat"),
        ({"pathfinder": {"level": "easy"}}, "pathfinder.level is 'easy'; allowed: the default"),
        ({"data": {"val_size": 100}}, "data.val_size is 100; allowed: nothing, since digits"),
        (
            {"data": {"kind": "imdb", "name": "mine"}, "network": {"task": "text"}},
            "data.name is 'mine'; allowed: nothing .IMDB., or the path of a folder or archive, ./mi",
        ),
    ],
)
def test_settings_that_the_data_have_no_use_for(changes, message):
    config = preset("digits-sequence").updated(**changes)
    with pytest.raises(ConfigError, match=message):
        load_long_range(config)


def test_data_of_another_kind_leave_the_presets_name_behind():
    start = preset("digits-sequence")
    assert start.updated("data.length=49").data.name == "digits"
    text = {"network": {"task": "text"}}
    assert start.updated("data.kind=imdb", **text).data.name == LongRangeConfig().data.name
    assert start.updated("data.kind=imdb", "data.name=./mine", **text).data.name == "./mine"
    mine = start.updated("data.name=mine").updated("data.kind=byte_files", **text)
    assert mine.data.name == "mine"  # no data set's that every reader knows
    assert preset("digits-sequence", data={"kind": "imdb"}, **text).data.name != "digits"
    words = ["data.kind=listops", "network.task=listops", "data.train_size=20", "data.test_size=10"]
    words += ["listops.max_length=20", "listops.min_length=5", "listops.max_depth=3"]
    assert len(load_long_range(start.updated(*words)).splits["train"]) == 20


def test_ember_keeps_the_tokens_of_a_batch():
    for length in (256, 4096, 65_536):
        config = ember(length)
        assert config.train.batch_size * length == 65_536
        assert config.network_settings.length == length
    assert ember(131_072).train.batch_size == 1
    with pytest.raises(ConfigError, match="length is 1000; allowed: powers of two"):
        ember(1000)


def test_every_preset_survives_a_record():
    for name in PRESETS:
        config = preset(name)
        assert from_dict(LongRangeConfig, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"kind": "words"}}, "data.kind is 'words'; allowed: pixels, listops"),
        ({"data": {"padding": "left"}}, "data.padding is 'left'; allowed: full, batch"),
        (
            {"data": {"image_size": 16}},
            "data.image_size is 16; allowed: nothing for data.kind=imdb",
        ),
        ({"data": {"kind": "listops"}}, "data.train_size is None; allowed: a number"),
        ({"data": {"kind": "imdb_halves"}}, "network.task is 'text'; allowed: retrieval"),
        (
            {"network": {"task": "retrieval"}},
            "network.task is 'retrieval'; allowed: any but retrieval",
        ),
        ({"network": {"width": 15, "heads": 3}}, "width is 15; allowed: even numbers"),
        ({"network": {"heads": 3}}, "heads is 3; allowed: divisors of the width, 16"),
        ({"network": {"mixer": "gru"}}, "network.mixer is 'gru'; allowed: none, hrrformer"),
        (
            {"network": {"mixer": "linear", "weights": "uniform"}},
            "network.weights is 'uniform'; allowed: the default",
        ),
        (
            {"network": {"mixer_size": 4}},
            "network.mixer_size is 4; allowed: nothing for network.mixer=hrrformer",
        ),
        ({"network": {"dropout": 1.0}}, "network.dropout is 1.0; allowed: from 0 to below 1"),
        (
            {"network": {"weights": "uniform", "unbinding": "exact"}},
            "network.unbinding is 'exact'; allowed: the default, for network.weights=uniform",
        ),
        (
            {"optimizer": {"floor": 1.0}},
            "optimizer.floor is 1.0; allowed: 0 to optimizer.learning_rate",
        ),
        ({"optimizer": {"decay_rate": 0.0}}, "optimizer.decay_rate is 0.0; allowed: above 0"),
        (
            {"train": {"accumulate": 3}},
            "train.accumulate is 3; allowed: a divisor of train.batch_size=8",
        ),
        ({"train": {"epochs": 0}}, "train.epochs is 0; allowed: an integer of at least 1"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        small_config(**changes)


def test_settings_that_must_fit_each_other():
    with pytest.raises(
        ConfigError, match="data.length is 900; allowed: 1024, for pathfinder.size=32"
    ):
        preset("pathfinder-easy", data={"length": 900})
    with pytest.raises(
        ConfigError, match="data.length is 50; allowed: at least 99, for listops.max_length=100"
    ):
        preset("listops-short", data={"length": 50})
    with pytest.raises(
        ConfigError, match="data.padding is 'batch'; allowed: full, for a network without a mask"
    ):
        preset("image", data={"padding": "batch"})


# -- loss, schedule, cost --------------------------------------------------------------------------


def test_learning_rates_are_the_released_ones():
    case = golden("lr_schedule")
    for decay in (0.9, 0.95, 0.85):
        config = preset(
            "text",
            train={"batch_size": 32},
            optimizer={
                "decay_rate": decay,
                "decay_examples": 32 * int(case["transition_steps"]),
                "floor": float(case["floor"]),
            },
        )
        rates = torch.tensor(
            [learning_rate(config, int(n)) for n in case["step"]], dtype=torch.float64
        )
        # it was computed in float32
        torch.testing.assert_close(rates, case[f"lr_decay_{decay}"], rtol=2e-6, atol=0)


def test_label_smoothing_is_the_released_one():
    case = golden("label_smoothing")
    loss = build("image", layers=1, width=16, mlp_width=8).loss(case["log_probs"], case["labels"])
    torch.testing.assert_close(loss, case["loss"], rtol=1e-5, atol=1e-6)


def test_operations_of_attention_grow_with_length_and_its_square():
    def flops(mixer, length):
        network = build(
            "text", layers=1, width=16, mlp_width=16, heads=2, length=length, mixer=mixer
        )
        return flops_per_example(network, (torch.ones(2, length, dtype=torch.int64),))

    for mixer, square in (
        ("hrrformer", False),
        ("none", False),
        ("fnet", False),
        ("softmax_fused", True),
    ):
        steps = flops(mixer, 256) - 2 * flops(mixer, 128)
        assert (steps > 100_000) == square, mixer
    # four maps, and transforms
    assert flops("hrrformer", 128) > flops("none", 128) + 128 * 4 * 2 * 16 * 16


# -- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["preset=digits-sequence", "network.masking=full"],
            "network.masking is 'full'; allowed: none, for data.kind=pixels, whose token 0 is a bl",
        ),
        (
            ["preset=digits-sequence", "network.task=text"],
            "network.masking is 'released'; allowed: none",
        ),
        (
            ["preset=retrieval-halves", "data.kind=aan"],
            "data.name is 'CIFAR10'; allowed: a folder or an archive of files",
        ),
    ],
)
def test_settings_that_data_cannot_go_with(words, message):
    name, *more = words
    with pytest.raises(ConfigError, match=message):
        load_long_range(preset(name.removeprefix("preset=")).updated(*more))


def test_embedded_data_of_the_smoke_presets():
    digits = load_long_range(preset("digits-sequence"))
    assert digits.info.title == "digits (8x8), grey 8x8"
    assert digits.info.sizes == {"train": 1437, "test": 360}
    listops = load_long_range(
        preset("listops-tiny", data={"train_size": 100, "val_size": 20, "test_size": 30})
    )
    assert listops.info.sizes == {"train": 100, "val": 20, "test": 30}
    assert any("generated" in note for note in listops.info.notes)
    mixed = load_long_range(preset("digits-sequence", data={"permutation_seed": 0}))
    assert mixed.info.fingerprint != digits.info.fingerprint
    assert "pixels permuted (seed 0)" in mixed.info.notes
    with pytest.raises(
        ConfigError, match="data.length is 60, but digits .8x8. has 8x8 pixels; allowed: 64"
    ):
        load_long_range(preset("digits-sequence", data={"length": 60}))
    with pytest.raises(ValueError, match="data.train_size is 1438; allowed: at most 1437"):
        load_long_range(preset("digits-sequence", data={"train_size": 1438}))


def test_bytes_outside_the_vocabulary_are_refused(tmp_path, monkeypatch):
    for kind in ("benign", "malware"):
        (tmp_path / kind).mkdir()
        for i in range(5):
            (tmp_path / kind / str(i)).write_bytes(bytes([255] * 8))
    config = preset("ember", data={"name": str(tmp_path), "length": 8})
    data = load_long_range(config)
    assert data.info.vocabulary == 257
    assert data.info.name == tmp_path.name  # no machine's path in a record
    with pytest.raises(
        ConfigError, match="network.task is 'listops', with a vocabulary of 17 tokens; needed"
    ):
        load_long_range(config.updated(network={"task": "listops"}))


# -- training --------------------------------------------------------------------------------------


def test_training_learns_what_a_bag_of_letters_tells():
    rows = small_trainer(small_config(train={"epochs": 8}), small_data(train=160, test=200)).fit()
    assert rows[-1]["test_accuracy"] > 80
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"branch_ratio_1", "sequences_per_s", "test_cross_entropy", "lr"} <= rows[0].keys()


@pytest.mark.parametrize(
    "mixer", ["none", "softmax_fused", "linear", "fnet", "luna", "linformer", "performer"]
)
def test_other_mixers_train_as_well(mixer):
    rows = small_trainer(small_config(network={"mixer": mixer}, train={"epochs": 1})).fit()
    assert np.isfinite(rows[0]["loss"])
    assert (rows[0]["branch_ratio_1"] == 0) == (mixer == "none")


def test_parts_of_a_batch_have_the_same_gradient():
    gradients = []
    for accumulate in (1, 4):
        trainer = small_trainer(
            small_config(train={"accumulate": accumulate}, network={"dropout": 0.0})
        )
        trainer.optimizer, trainer.network = trainer._make_optimizer(), trainer.model
        trainer._step(torch.arange(8), torch.Generator())
        gradients.append(trainer.model.head_output.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_training_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch):
    whole = small_trainer(small_config(train={"epochs": 3})).fit()

    class Killed(Exception):
        pass

    stopped = small_trainer(small_config(train={"epochs": 3}), folder=tmp_path)
    test = stopped._test

    def once_more():
        if (tmp_path / "checkpoint.pt").exists():
            raise Killed
        return test()

    monkeypatch.setattr(stopped, "_test", once_more)
    with pytest.raises(Killed):
        stopped.fit()
    torch.rand(7)  # whatever happened in between
    rest = small_trainer(small_config(train={"epochs": 3}), folder=tmp_path).fit()
    for a, b in zip(whole, rest, strict=True):
        assert {k: v for k, v in a.items() if "per_s" not in k and k != "seconds"} == {
            k: v for k, v in b.items() if "per_s" not in k and k != "seconds"
        }


def test_every_test_example_counts_once():
    trainer = small_trainer(small_config(test={"batch_size": 7}))
    found = trainer.evaluate("test")
    assert found["examples"] == 32
    assert found == small_trainer(small_config(test={"batch_size": 32})).evaluate("test") | {
        "cross_entropy": pytest.approx(found["cross_entropy"])
    }
    assert trainer.evaluate("train", 10)["examples"] == 10


def test_rows_of_nothing_but_padding_give_finite_numbers():
    empty = Split((Sequences.of([b"", b"ab"] * 8, 1),), torch.arange(16) % 2)
    data = describe({"train": empty, "test": empty}, "x", "x", 8, 257, ("a", "b"))
    for padding in ("full", "batch"):
        for masking in ("released", "full"):
            config = small_config(
                data={"padding": padding}, network={"masking": masking}, train={"epochs": 1}
            )
            assert np.isfinite(small_trainer(config, data).fit()[0]["loss"])


def test_batches_of_the_longest_member():
    trainer = small_trainer(small_config(data={"padding": "batch", "length": 100}))
    (tokens,), labels = trainer._examples("train", torch.arange(4))
    assert tokens.shape[1] == trainer.data.splits["train"].texts[0].lengths[:4].max()
    assert labels.shape == (4,)


def test_two_texts_of_a_batch_have_one_width():
    texts = [Sequences.of([b"a" * n for n in lengths], 1) for lengths in ([3, 4] * 8, [7, 2] * 8)]
    part = Split(tuple(texts), torch.arange(16) % 2)
    data = describe({"train": part, "test": part}, "x", "x", 8, 257, ("a", "b"))
    config = small_config(data={"padding": "batch", "kind": "aan"}, network={"task": "retrieval"})
    tokens, _ = small_trainer(config, data)._examples("train", torch.arange(4))
    assert [text.shape for text in tokens] == [(4, 7), (4, 7)]


def test_too_few_examples_and_positions():
    with pytest.raises(
        ConfigError, match="train.batch_size is 128, but there are only 64 training examples"
    ):
        small_trainer(small_config(train={"batch_size": 128})).fit()
    network = build("listops", length=6, layers=1, width=8, mlp_width=8, heads=2)
    with pytest.raises(ValueError, match="has 7 tokens; this network has positions for 6"):
        network(torch.ones(1, 7, dtype=torch.int64))


# -- runs and studies ------------------------------------------------------------------------------


def test_a_run_is_made_once_and_read_then():
    first = LONG_RANGE.run(small_config(), "letters", data=small_data())
    record = first.record
    assert record["task"] == "long-range"
    assert record["results"]["test"]["examples"] == 32
    assert record["tokens_per_s"] > 0
    assert record["flops_per_example"] > 0
    assert record["steps"] == 16
    assert record["best"]["test_accuracy"] == max(row["test_accuracy"] for row in record["epochs"])
    assert LONG_RANGE.run(small_config(), "letters", data=small_data()).record == record
    assert first.folder.name.startswith("letters-text-hrrformer-smoke-s0-")
    model = first.model()
    tokens = small_data().splits["test"].texts[0].batch(torch.arange(32), 8)
    right = (model(tokens).argmax(1) == small_data().splits["test"].labels).double().mean().item()
    assert 100 * right == pytest.approx(first.accuracy())
    row = LONG_RANGE.runs_table([record]).iloc[0]
    assert (row["method"], row["task"], row["test"]) == ("hrrformer", "text", first.accuracy())
    other = LONG_RANGE.run(
        small_config(network={"weights": "uniform"}), "letters", data=small_data()
    )
    assert other.record["run_id"] != record["run_id"]
    assert mixer_name(other.config) == "hrrformer uniform"


def test_a_record_is_enough_where_the_data_are_not(monkeypatch):
    monkeypatch.delenv("TERMINATOR_DATA", raising=False)
    with pytest.raises(DatasetNotFound):
        LONG_RANGE.run(small_config(), "letters")
    record = LONG_RANGE.run(small_config(), "letters", data=small_data()).record
    assert LONG_RANGE.run(small_config(), "letters").record == record


def test_studies_name_their_runs():
    assert list(study("image", "smoke")) == [*presets.CONTROLS, "Hrrformer, permuted pixels"]
    assert study("text", "smoke") == {}
    assert "Hrrformer, padding masked" in study("text", "laptop")
    assert (
        study("lengths", "laptop")["Hrrformer, 256 tokens"] == study("text", "laptop")["Hrrformer"]
    )
    assert set(presets.OTHERS) < set(study("listops", "paper"))
    with pytest.raises(ConfigError, match="study is 'speech'; allowed: image"):
        study("speech", "smoke")
    with pytest.raises(ConfigError, match="profile is 'desk'; allowed: smoke"):
        study("image", "desk")


def test_study_runs_tables_and_verdicts(monkeypatch):
    settings = {"Hrrformer": {}, "branch removed": {"mixer": "none"}}
    monkeypatch.setattr(
        report,
        "study",
        lambda name, profile: {
            label: small_config(network=changes) for label, changes in settings.items()
        },
    )
    monkeypatch.setattr(report, "load_long_range", lambda config: small_data())
    monkeypatch.setattr(LongRange, "load_data", lambda self, config, data_dir=None: small_data())
    found = report.run_study("image", "smoke", seeds=(0, 1), device="cpu")
    assert {label: len(group) for label, group in found.items()} == {
        "Hrrformer": 2,
        "branch removed": 2,
    }
    table = report.table(found)
    assert list(table.index) == list(settings)
    assert table.loc["branch removed", "branch at last"] == 0
    assert table.loc["Hrrformer", "branch at last"] > 0
    assert table.loc["Hrrformer", "parameters"] > table.loc["branch removed", "parameters"]
    assert report.curves(found).shape == (2, 2)
    claims = report.claims({"image": found})
    assert list(claims["claim"]) == [
        "Image: the attention adds something: it beats the network without it"
    ]
    assert claims["verdict"].tolist() in (["undecided"], ["not learned"])  # of two seeds
    assert "2 seeds, no verdict with fewer than 3" in claims["evidence"][0]
    assert report.table({}).empty


def test_accuracy_against_length_has_a_row_per_length_and_a_column_per_network():
    class Answered:
        def __init__(self, length, value):
            self.config, self.value = preset("text-short", data={"length": length}), value

        def accuracy(self):
            return self.value

    found = {
        f"{label}, {length} tokens": [Answered(length, value), Answered(length, value + 2)]
        for label, value in (("branch removed", 50.0), ("Hrrformer", 60.0))
        for length in (64, 128)
    }
    table = report.length_table(found)
    assert table.to_dict() == {
        "branch removed": {64: 51.0, 128: 51.0},
        "Hrrformer": {64: 61.0, 128: 61.0},
    }
    assert report.length_table({}).empty


def test_chance_is_at_least_that_of_the_test_examples():
    assert of_examples(50, 400) == pytest.approx(4.9)


def test_a_bag_of_tokens_tells_letters_apart_but_not_their_order():
    data = small_data(train=400, test=200)
    found = report.simple_answers(data)
    assert found["bag of tokens"] > 95
    assert found["most frequent label"] < 75

    def ordered(count, seed):
        labels = np.random.RandomState(seed).randint(0, 2, count)
        return Split(
            (Sequences.of([b"aabb" if label else b"bbaa" for label in labels], 1),),
            torch.from_numpy(labels),
        )

    order = describe(
        {"train": ordered(200, 0), "test": ordered(100, 1)}, "x", "x", 4, 257, ("a", "b")
    )
    assert report.simple_answers(order)["bag of tokens"] < 65
    counts = report.token_counts(
        Split((Sequences.of([b"aab", b""], 1),), torch.tensor([0, 1])), 4, 257
    )
    assert counts[0, 98] == pytest.approx(np.log(3))
    assert counts[1].sum() == 0


def test_baselines_are_kept_as_a_record():
    found = report.baselines("listops", "smoke")["test"]
    assert found["first operator, rule"] > found["most frequent label"]
    records_found = records.load_records("longrange_baselines")
    assert len(records_found) == 1
    assert records_found[0]["data"]["title"] == "ListOps, 4 to 32 tokens (generated)"
    assert report.baselines("listops", "smoke")["test"].to_dict() == found.to_dict()
    assert report.baselines("text", "smoke").empty


def test_published_accuracies_agree_with_their_printed_means():
    table = report.published()
    assert list(table.columns) == ["ListOps", "Text", "Retrieval", "Image", "Pathfinder"]
    assert table.loc["Hrrformer (1 layer)"].mean() == pytest.approx(59.97, abs=0.01)
    assert table.loc["Hrrformer (multi-layer)"].mean() == pytest.approx(60.83, abs=0.01)
    assert table.loc["Transformer"].mean() == pytest.approx(54.39, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chance"), [("digits-sequence", 10), ("listops-tiny", 13)])
def test_smoke_presets_learn(name, chance):
    run = LONG_RANGE.run(preset(name, train={"device": "cpu"}), "smoke")
    assert run.accuracy() > 2 * chance


@pytest.mark.parametrize("padding", ["full", "batch"])
def test_no_step_waits_for_a_gpu(monkeypatch, padding):
    config = small_config(data={"padding": padding})
    assert not waits_of_a_step(monkeypatch, lambda: small_trainer(config))
