"""One configuration, set from Python, from dictionaries and from the command line."""

import dataclasses
import json

import pytest

from terminator import Config, ConfigError, ModelConfig
from terminator.classification.config import DatasetConfig, TestConfig, TrainConfig
from terminator.classification.presets import PRESETS, preset
from terminator.config import OptimizerConfig, SchedulerConfig
from terminator.data.episodes.settings import EpisodeSettings
from terminator.hamburger.settings import HamSettings
from terminator.hrrformer.settings import task_settings
from terminator.hypertransformer.settings import HyperTransformerSettings
from terminator.report.tables import SYSTEMS
from terminator.runtime.settings import (
    READING_KEYS,
    WHERE_KEYS,
    changed_settings,
    from_dict,
    identity,
    parse_dotlist,
    to_dict,
)


def test_the_released_readmes_settings_are_accepted():
    config = Config().updated(
        "dataset.name=CIFAR10",
        "optimizer.name=Kar3",
        "optimizer.lr=0.001215",
        "optimizer.l2_reg=0.00005",
        "optimizer.betas=[0.5,0.95]",
        "train.epochs=100",
        "train.do=False",
        "pretrained.load=True",
        "pretrained.filename=last.ckpt",
        "train.distributed=True",
        "train.num_nodes=2",
        "train.avail_gpus=4",
    )
    assert config.optimizer == OptimizerConfig("Kar3", 0.001215, (0.5, 0.95), 5e-5)
    assert (
        config.train.do,
        config.train.distributed,
        config.train.num_nodes,
        config.train.avail_gpus,
    ) == (False, True, 2, 4)
    assert (config.pretrained.load, config.pretrained.filename) == (True, "last.ckpt")


def test_three_doors_one_configuration():
    line = Config().updated(
        "optimizer.lr=1e-2", "model.factors=[4,1]", "train.epochs=6", "model.skips=false"
    )
    python = Config().updated(
        optimizer={"lr": 0.01}, model={"factors": (4, 1), "skips": False}, train={"epochs": 6}
    )
    dictionary = from_dict(Config, json.loads(json.dumps(to_dict(python))))
    assert line == python == dictionary
    assert Config().updated("train.epochs=6", optimizer={"lr": 0.01}).optimizer.lr == 0.01
    assert Config().updated("train.epochs=6", optimizer={"lr": 0.01}).train.epochs == 6


def test_the_original_is_left_as_it_was():
    config = Config()
    config.updated("train.epochs=6")
    assert config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.train = None


@pytest.mark.parametrize(
    ("text", "value"), [("5e-5", 5e-5), ("1", 1.0), (".5", 0.5), ("1e2", 100.0)]
)
def test_numbers_as_people_write_them(text, value):
    assert Config().updated(f"optimizer.lr={text}").optimizer.lr == value


def test_nothing_can_be_asked_for():
    config = Config().updated("dataset.image_size=16", "optimizer.betas=[0.5,0.9]")
    config = config.updated("dataset.image_size=null", "optimizer.betas=null")
    assert (config.dataset.image_size, config.optimizer.betas) == (None, None)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        (
            "optimiser.lr=1",
            ["unknown setting optimiser", "did you mean optimizer?", "model, dataset"],
        ),
        (
            "optimizer.l2reg=1",
            [
                "unknown setting optimizer.l2reg",
                "did you mean optimizer.l2_reg?",
                "optimizer.betas",
            ],
        ),
        ("train.warp=9", ["unknown setting train.warp", "train.epochs"]),
        ("train=3", ["train is a group", "train.epochs"]),
        ("train.epochs=six", ["train.epochs is 'six'", "an integer"]),
        ("train.epochs=1.5", ["train.epochs is 1.5", "an integer"]),
        ("train.epochs=true", ["train.epochs is True", "an integer"]),
        ("train.compile=on", ["train.compile is 'on'", "none, default, reduce-overhead"]),
        ("train.epochs=0", ["train.epochs is 0", "at least 1"]),
        ("train.epochs=", ["train.epochs is", "an integer"]),
        ("train.epochs=[1,", ["train.epochs is '[1,'", "an integer"]),
        ("train.epochs.more=1", ["train.epochs is {'more': 1}", "an integer"]),
        ("train.do=maybe", ["train.do is 'maybe'", "true or false"]),
        ("train.do=1", ["train.do is 1", "true or false"]),
        ("train.seed=-1", ["train.seed is -1", "from 0"]),
        ("train.seed=4294967296", ["train.seed is 4294967296", "below 2**32"]),
        ("train.accumulate=3", ["train.accumulate is 3", "divisor of train.batch_size=64"]),
        ("train.label_smoothing=1", ["train.label_smoothing is 1.0", "from 0 to below 1"]),
        ("train.slow_neural_loss=-1", ["train.slow_neural_loss is -1.0", "0 or more"]),
        (
            "train.slow_neural_loss_form=sum",
            ["train.slow_neural_loss_form is 'sum'", "kernel, channel_sum"],
        ),
        ("train.precision=fp8", ["train.precision is 'fp8'", "float32, bf16"]),
        ("train.device=tpu", ["train.device is 'tpu'", "auto, cpu, cuda"]),
        ("optimizer.name=Adam", ["optimizer.name is 'Adam'", "Kar3, Kar2, AdamW, SGD, Lion"]),
        ("optimizer.lr=0", ["optimizer.lr is 0", "positive"]),
        ("optimizer.lr=.nan", ["optimizer.lr is nan", "a finite number"]),
        ("optimizer.lr=inf", ["optimizer.lr is inf", "a finite number"]),
        ("optimizer.lr=fast", ["optimizer.lr is 'fast'", "a finite number"]),
        (
            "optimizer.betas=[0.5]",
            ["optimizer.betas is (0.5,)", "2 numbers from 0 to below 1 for Kar3"],
        ),
        ("optimizer.betas=[0.5,1]", ["optimizer.betas is (0.5, 1.0)", "below 1"]),
        (
            "optimizer.weight_decay=0.1",
            ["optimizer.weight_decay is 0.1", "allowed: 0, for optimizer.name=Kar3"],
        ),
        (
            "optimizer.momentum=0.5",
            ["optimizer.momentum is 0.5", "allowed: 0.9, for optimizer.name=Kar3"],
        ),
        ("optimizer.betas=0.5", ["optimizer.betas is 0.5", "a list of floats"]),
        ("optimizer.l2_reg=-1", ["optimizer.l2_reg is -1.0", "0 or more"]),
        ("scheduler.name=step", ["scheduler.name is 'step'", "cosine, released, constant"]),
        ("scheduler.warmup_epochs=.inf", ["scheduler.warmup_epochs is inf", "a finite number"]),
        ("scheduler.warmup_epochs=-1", ["scheduler.warmup_epochs is -1.0", "0 or more"]),
        ("dataset.view=movie", ["dataset.view is 'movie'", "image, sequence, permuted"]),
        ("dataset.channels=2", ["dataset.channels is 2", "1, 3"]),
        ("dataset.train_size=1", ["dataset.train_size is 1", "at least 2"]),
        ("dataset.held_out=-1", ["dataset.held_out is -1", "at least 0"]),
        ("dataset.crop_padding=-1", ["dataset.crop_padding is -1", "at least 0"]),
        ("test.batch_size=1", ["test.batch_size is 1", "at least 2"]),
        ("test.calibration_images=0", ["test.calibration_images is 0", "at least 2"]),
        ("pretrained.load=true", ["pretrained.filename is ''", "a file"]),
        ("model.size=1", ["model.size is 1", "at least 2"]),
        ("epochs", ["cannot read 'epochs'", "KEY=VALUE"]),
        ("=3", ["cannot read '=3'", "KEY=VALUE"]),
    ],
)
def test_bad_settings_name_key_value_and_what_is_allowed(word, words):
    with pytest.raises(ConfigError) as error:
        Config().updated(word)
    for expected in words:
        assert expected in str(error.value)


def test_from_dict_is_as_strict_with_groups():
    with pytest.raises(ConfigError, match="unknown setting trian; did you mean train?"):
        from_dict(Config, {"trian": {}})
    with pytest.raises(ConfigError, match="optimizer is a group of settings, not 'Kar3'"):
        from_dict(Config, {"optimizer": "Kar3"})
    assert from_dict(DatasetConfig, {"name": 17}).name == "17"


def test_dotlist_as_dictionaries():
    assert parse_dotlist(["a.b=1", "a.c=[x, 2]", "d=e=f"]) == {
        "a": {"b": "1", "c": "[x, 2]"},
        "d": "e=f",
    }


@pytest.mark.parametrize(
    "kind",
    [ModelConfig, DatasetConfig, OptimizerConfig, SchedulerConfig, TrainConfig, TestConfig, Config],
)
def test_dictionaries_round_trip_through_json(kind):
    assert from_dict(kind, json.loads(json.dumps(to_dict(kind())))) == kind()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_and_can_be_built(name):
    config = preset(name)
    assert from_dict(Config, to_dict(config)) == config
    assert config.updated(**changed_settings(Config(), config)) == Config()
    ModelConfig(in_channels=config.dataset.channels).resolved()


def test_released_settings_of_the_cifar_presets():
    ten, hundred = preset("cifar10"), preset("cifar100")
    assert (ten.optimizer.name, ten.optimizer.lr, ten.optimizer.l2_reg) == ("Kar3", 0.001215, 5e-5)
    assert (hundred.optimizer.lr, hundred.optimizer.betas, hundred.optimizer.l2_reg) == (
        0.00120925,
        (0.75, 0.99),
        4e-5,
    )
    for config in (ten, hundred):
        assert (config.train.epochs, config.train.batch_size, config.test.batch_size) == (
            100,
            64,
            64,
        )
        assert (config.dataset.crop_padding, config.dataset.flip, config.scheduler.name) == (
            4,
            True,
            "released",
        )
        assert config.model == ModelConfig(local_context_init="torch")
        other = config.updated(network={"name": "resnet18"})  # it has no local context
        assert other.model == ModelConfig()


# -- identity --------------------------------------------------------------------------------------


def test_identity_is_what_differs_from_the_defaults():
    assert identity(Config()) == {}
    config = Config().updated(
        "train.epochs=6", "optimizer.lr=0.01", "train.seed=0", "dataset.name=digits"
    )
    assert identity(config) == {"train": {"epochs": 6}, "optimizer": {"lr": 0.01}}


def test_identity_of_any_configuration_survives_writing_all_defaults_out():
    for name in PRESETS:
        config = preset(name)
        written = to_dict(config)  # every setting, defaults included
        assert identity(from_dict(Config, written)) == identity(config)
        assert from_dict(Config, identity(config)) == config


def test_where_it_runs_is_no_part_of_the_identity():
    config = Config().updated(
        "train.device=cpu",
        "train.distributed=true",
        "train.num_nodes=2",
        "train.avail_gpus=3",
        "train.do=true",
        "dataset.on_error=skip",
    )
    assert identity(config) == {}


@pytest.mark.parametrize(
    "field",
    [
        f"{group.name}.{f.name}"
        for group in dataclasses.fields(Config)
        for f in dataclasses.fields(group.default_factory)
        if f.name not in (*WHERE_KEYS, *READING_KEYS)
    ],
)
def test_every_other_setting_is(field):
    group, name = field.split(".")
    default = getattr(getattr(Config(), group), name)
    other = {
        "name": {
            "network": "ccnn",
            "dataset": "MNIST",
            "optimizer": "AdamW",
            "scheduler": "constant",
        }.get(group),
        "operator": "convolution",
        "standardization": "batch",
        "local_context_init": "torch",
        "view": "permuted",
        "precision": "bf16",
        "compile": "default",
        "slow_neural_loss_form": "channel_sum",
        "form": "released",
        "filename": "a.ckpt",
        "channels": 3,
        "betas": (0.1, 0.2),
        "global_mixer": "none",
        "mixer": "attention_fused",
        "factors": (4, 2),
        "local_sizes": (3, 3, 3, 3),
        "dimensions": 1,
        "dropout": 0.5 if group == "network" else (0.5,),
        "accumulate": 2,
        "label_smoothing": 0.2,
    }.get(name)
    if other is None:
        other = not default if isinstance(default, bool) else (default or 7) + 1
    changes = {group: {name: other}}
    if group == "network" and name != "name":
        changes[group]["name"] = "host" if name == "mixer" else "ccnn"
    if name in ("momentum", "weight_decay"):
        changes[group]["name"] = "SGD"  # which takes both
    if group == "pretrained":
        changes[group] = {"load": True, "filename": "a.ckpt"}
    if name == "permutation_seed":
        changes[group]["view"] = "permuted"
    assert name in identity(Config().updated(**changes))[group]


@pytest.mark.parametrize(
    "make",
    [
        lambda: EpisodeSettings(num_labels=None),
        lambda: HamSettings(kind="NMF", rank=None),
        lambda: HyperTransformerSettings(heads=None),
        lambda: TrainConfig(epochs=None),
        lambda: ModelConfig(groups=None),
        lambda: task_settings("text", length=None),
    ],
)
def test_nothing_is_no_number_where_one_is_needed(make):
    with pytest.raises(ConfigError, match=r"is None; allowed: an integer of at least \d"):
        make()


def test_nothing_is_allowed_where_the_type_says_so():
    assert DatasetConfig(train_size=None).train_size is None


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.task)
def test_a_group_of_another_kind_is_named(system):
    for group in dataclasses.fields(system.config):
        kind = group.default_factory.__name__
        for wrong in (None, {"seed": 1}, Config()):
            with pytest.raises(ConfigError, match=rf"^{group.name} is .*; allowed: a {kind}; "):
                system.config(**{group.name: wrong})


def test_a_dictionary_in_a_words_place_is_named():
    with pytest.raises(ConfigError, match="cannot read {'train': 1}; settings are written KEY=VAL"):
        Config().updated({"train": 1})
