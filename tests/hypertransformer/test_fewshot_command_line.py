"""The few-shot command line: the released flags, settings of this kit, two processes, and what is
refused.
"""

import json
import os
import subprocess
import sys

import pytest

from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.flags import FLAGS, PLACES, WITHOUT_EFFECT, read_flags
from terminator.hypertransformer.fewshot.presets import preset
from terminator.runs import records
from terminator.runtime.settings import ConfigError, identity

OMNIGLOT = """--train_dataset=omniglot:0-1149 --test_dataset omniglot:1200-1622 --shuffle_labels_seed 2022
    --num_labels 20 --samples_transformer 20 --samples_cnn 60 --balanced_batches --random_rotate_by_90
    --per_label_augmentation --smooth_probability 0 --contrast_probability=0.0
    --cnn_model_name maxpool-4-layer --default_num_channels 8
    --stride 1 --lw_weight_allocation output --nolw_generate_bias --nolw_generate_bn --nouse_decoder
    --embedding_dim 32 --num_layers 3 --heads 2 --num_layerwise_features 8 --shared_feature_extractor 3-layer-bn
    --shared_feature_extractor_padding same --learning_rate 0.02 --learning_rate_decay_steps 100000
    --learning_rate_decay_rate 0.95 --train_steps 4000000 --steps_between_saves 50000 --num_task_evals 1024
    --eval_batch_size 100""".split()

SMALL = [
    "--train_dataset",
    "strokes:0-9",
    "--test_dataset=strokes:10-19",
    "--num_labels",
    "2",
    "--samples_transformer",
    "2",
    "--samples_cnn",
    "4",
    "--balanced_batches",
    "--image_size",
    "16",
    "--cnn_model_name",
    "maxpool-4-layer",
    "--default_num_channels",
    "2",
    "--stride",
    "1",
    "--num_layers",
    "1",
    "--heads",
    "1",
    "--embedding_dim",
    "4",
    "--num_layerwise_features",
    "2",
    "--train_steps",
    "3",
    "--steps_between_saves",
    "2",
    "--num_task_evals",
    "4",
    "--num_eval_batches",
    "1",
    "--eval_batch_size",
    "4",
    "test.tasks_per_epoch=4",
    "train.batch_size=2",
]


def test_the_released_command_line_means_the_released_settings():
    assert read_flags(OMNIGLOT).config == FewShotConfig()
    evaluated = read_flags([*OMNIGLOT, "--eval_datasets", "omniglot"]).config.data.specifications()
    assert evaluated == {
        "train": "omniglot:0-1149",
        "val": "omniglot:1150-1199",
        "test": "omniglot:1200-1622",
    }


def test_flags_have_their_own_defaults_and_every_one_is_read():
    config = read_flags(["--test_dataset", "emnist:8-61"]).config
    assert (config.augmentation.smooth_probability, config.augmentation.contrast_probability) == (
        0.5,
        0.5,
    )
    assert (
        config.model.cnn_model_name,
        config.model.stride,
        config.model.lw_weight_allocation,
    ) == ("3-layer", 2, "spatial")
    assert config.model.num_layerwise_features is None
    assert config.data.specifications()["train"] == "emnist:0-7"
    for flag, (path, default) in FLAGS.items():
        group, key = path.split(".")
        assert hasattr(getattr(config, group), key), flag
        assert getattr(getattr(config, group), key) == default, flag


def test_forms_of_flags_and_settings():
    start = preset("strokes")
    found = read_flags(
        [
            "--num_layers=3",
            "train.seed=4",
            "--lw_generate_bias",
            "--heads",
            "1",
            "-nouse_decoder",
            "--balanced_batches=true",
            "optimizer.name=SGD",
        ],
        start,
    ).config
    assert found == start.updated(
        "train.seed=4",
        "optimizer.name=SGD",
        model={"num_layers": 3, "lw_generate_bias": True, "heads": 1},
    )
    assert (
        read_flags(["--num_layerwise_features", ""], start).config.model.num_layerwise_features
        is None
    )
    assert (
        read_flags(
            ["--restore_shared_features_from", "a=b.safetensors"], start
        ).config.train.restore_shared_features_from
        == "a=b.safetensors"
    )


def test_flags_of_places_and_flags_without_effect():
    words = [
        "--train_log_dir",
        "here",
        "--data_numpy_dir=there",
        "--learning_momentum",
        "0.9",
        "--gpus",
        "0",
    ]
    read = read_flags(words, preset("strokes"))
    assert read.places == {"train_log_dir": "here", "data_numpy_dir": "there"}
    assert read.remarks == (
        "--learning_momentum has no effect: it never had any",
        "--gpus has no effect: choose them by CUDA_VISIBLE_DEVICES, train.device",
    )
    assert identity(read.config) == identity(preset("strokes"))
    assert not set(FLAGS) & {*PLACES, *WITHOUT_EFFECT}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num_label", "3"], "unknown flag --num_label; near it: --num_labels"),
        (["--nobalanced_batch"], "unknown flag --nobalanced_batch; near it: --balanced_batches"),
        (["--wings"], "unknown flag --wings"),
        (["--num_labels", "three"], "--num_labels is 'three'; allowed: an integer"),
        (["--learning_rate", "fast"], "--learning_rate is 'fast'; allowed: a number"),
        (["--balanced_batches=maybe"], "--balanced_batches is 'maybe'; allowed: true"),
        (["--num_labels"], "--num_labels lacks its value"),
        (["--nouse_decoder=true"], "--nouse_decoder takes no value"),
        (["omniglot"], "'omniglot' is neither a flag .* nor a setting"),
        (["optimizer.lr=1"], "unknown setting optimizer.lr"),
        (
            ["--lw_generate_bn"],
            "lw_generate_bn is True; allowed: false with lw_weight_allocation='spatial'",
        ),
    ],
)
def test_words_that_mean_nothing(words, message):
    with pytest.raises(ConfigError, match=message):
        read_flags(words)


def test_train_read_and_evaluate(call, tmp_path):
    words = [
        *SMALL,
        "--train_log_dir",
        str(tmp_path / "log"),
        "--profile",
        "smoke",
        "--learning_momentum=0",
    ]
    status, out, err = call("fewshot", *words)
    assert (status, err) == (0, "")
    assert "--learning_momentum has no effect" in out
    assert "epoch   2/2" in out
    assert f"record, metrics and model: {tmp_path / 'log'}" in out
    record = records.read_record(tmp_path / "log" / "record.json")
    assert record["config"]["train"]["batch_size"] == 2
    assert record["results"]["test"]["tasks"] == 4
    assert "epoch" not in call("fewshot", *words)[1]
    status, out, err = call("fewshot-evaluate", *words, "--poll", "0.1", "--timeout", "5")
    assert (status, err) == (0, "")
    assert (
        f"{record['results']['test']['accuracy']:6.2f} ± "
        f"{record['results']['test']['interval']:.2f} %" in out
    )
    assert (tmp_path / "log" / "evaluation.csv").is_file()


def test_evaluation_gives_up_where_nothing_is_trained(call):
    status, _, err = call("fewshot-evaluate", *SMALL, "--poll", "0.05", "--timeout", "0.1")
    assert status == 2
    assert "error: no new checkpoint in" in err


def test_a_preset_with_changes(call):
    status, out, err = call(
        "fewshot",
        "preset=strokes",
        "train.train_steps=2",
        "--num_layers",
        "1",
        "--profile",
        "smoke",
        "test.num_task_evals=4",
        "test.tasks_per_epoch=4",
        "--experiment",
        "mine",
    )
    assert (status, err) == (0, "")
    (record,) = records.load_records("mine")
    assert record["config"]["model"]["num_layers"] == 1
    assert record["config"]["optimizer"]["name"] == "Adam"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num_label", "3"], "near it: --num_labels"),
        (["preset=none"], "preset is 'none'; allowed: strokes"),
        (["preset=strokes", "preset=strokes"], "preset is given 2 times"),
        (
            ["--train_dataset", "gone:0-9", "--test_dataset", "gone:10-19"],
            "few-shot data set 'gone' was not found",
        ),
        ([*SMALL, "--num_labels", "30"], "samples_transformer is 2; allowed: at least 30"),
        ([*SMALL, "--test_dataset", "strokes:5-19"], "shares 5 classes with train"),
    ],
)
def test_errors_are_one_line_and_exit_status_2(call, words, message):
    status, _, err = call("fewshot", *words)
    assert status == 2
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


SCRIPT = """
import json, sys
from pathlib import Path

import torch

torch.set_num_threads(1)
from terminator.runtime.distributed import gather, leave, processes
from terminator.hypertransformer.fewshot.flags import read_flags
from terminator.hypertransformer.fewshot.data import load_episode_data
from terminator.hypertransformer.fewshot.tasks import build_network
from terminator.hypertransformer.fewshot.trainer import EpisodeTrainer


def main():
    config = read_flags([*{words!r}, "--use_ddp", "--warmup_steps", "3", "train.device=cpu"]).config
    data = load_episode_data(config.data)
    with processes(config.train):
        config = config.resolved(1, data.real_classes)
        trainer = EpisodeTrainer(build_network(config), config, data)
        rows = trainer.fit()
        parts = [x.batch for step, generator in trainer._batches(0) for x, _ in trainer._parts(step, generator)]
        draws = [part.draw.support.index.tolist() for part in parts]
        found = gather([sum(p.double().sum().item() for p in trainer.model.parameters()), draws, rows,
                        trainer.evaluate("test")["accuracy"]])
        Path({out!r}).write_text(json.dumps(found))


main()
leave(0)
"""


@pytest.mark.slow
def test_two_processes_draw_other_episodes_and_hold_one_model(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(words=SMALL, out=str(tmp_path / "out.json")))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(tmp_path / "script.py"),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "out.json").read_text())
    (first, draws, rows, accuracy), (second, others, other_rows, again) = found
    assert first == second
    assert draws != others
    assert [len(draw) for draw in draws] == [1, 1]  # two episodes a step are one for each
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "episodes_per_s")} for row in part]
        for part in (rows, other_rows)
    ]
    assert timeless[0] == timeless[1]
    assert accuracy == again
