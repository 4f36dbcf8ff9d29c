"""Named few-shot settings, and which of them make up the notebook's experiment in each profile.

A preset holds only what differs from the defaults, which are the released Omniglot 20-way 1-shot
script's.
"""

from typing import Any

from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.runtime.settings import ConfigError, from_preset


def _adam(steps: int, rate: float = 1e-3, saves: int = 250, batch: int = 8) -> dict[str, Any]:
    """Adam, its rate rising for a while and then falling to a tenth; several episodes a step."""
    return {
        "optimizer": {
            "name": "Adam",
            "learning_rate": rate,
            "learning_rate_decay_steps": steps,
            "learning_rate_decay_rate": 0.1,
            "learning_rate_warmup_steps": min(50, steps // 4),
        },
        "train": {
            "train_steps": steps,
            "steps_between_saves": min(saves, steps),
            "batch_size": batch,
        },
    }


_STROKES = {
    "data": {
        "train_dataset": "strokes:0-79",
        "val_dataset": "strokes:80-94",
        "test_dataset": "strokes:95-119",
        "shuffle_labels_seed": 0,
    },
    "episodes": {"num_labels": 3, "samples_transformer": 3, "samples_cnn": 9, "image_size": 16},
    "model": {"num_layers": 2, "shared_features_dim": 16},
    "test": {
        "num_task_evals": 128,
        "num_eval_batches": 1,
        "eval_batch_size": 15,
        "tasks_per_epoch": 32,
    },
}
_OMNIGLOT28 = {
    "data": {
        "train_dataset": "omniglot28:0-181",
        "val_dataset": "omniglot28:182-191",
        "test_dataset": "omniglot28:192-241",
    }
}
_FIVE_WAYS = {
    **_OMNIGLOT28,
    "episodes": {"num_labels": 5, "samples_transformer": 5, "samples_cnn": 15},
    "test": {"num_task_evals": 1024, "num_eval_batches": 1, "eval_batch_size": 25},
}
_PAPER = {
    "test": {"num_eval_batches": 16, "eval_batch_size": 100},
    "data": {"val_dataset": "omniglot:1150-1199"},
}
_IMAGENET = {
    "augmentation": {
        "random_rotate_by_90": False,
        "per_label_augmentation": False,
        "apply_image_augmentations": True,
    },
    "optimizer": {"learning_rate": 0.01},
    "test": {"eval_batch_size": 100},
}
_IMAGENET_MODEL = {
    "heads": 8,
    "lw_key_query_dim": 0.5,
    "lw_value_dim": 0.5,
    "lw_inner_dim": 0.5,
    "transformer_nonlinearity": "lrelu",
    "cnn_activation": "lrelu",
    "shared_features_dim": 16,
    "shared_feature_extractor": "4-layer",
}
_MINI = {
    **_IMAGENET,
    "data": {
        "train_dataset": "miniimagenet:0-63",
        "val_dataset": "miniimagenet:64-79",
        "test_dataset": "miniimagenet:80-99",
        "shuffle_labels_seed": 0,
    },
    "model": {**_IMAGENET_MODEL, "default_num_channels": 16, "num_layerwise_features": 16},
    "train": {"train_steps": 1_000_000},
}
_TIERED = {
    **_IMAGENET,
    "data": {
        "train_dataset": "tieredimagenet:0-350",
        "val_dataset": "tieredimagenet:351-447",
        "test_dataset": "tieredimagenet:448-607",
        "shuffle_labels_seed": 0,
    },
    "model": _IMAGENET_MODEL,
}
_FIVE_84 = {"num_labels": 5, "samples_cnn": 100, "image_size": 84}

PRESETS: dict[str, dict[str, Any]] = {
    "strokes": {**_STROKES, **_adam(120, saves=40)},  # smoke: no file, no network
    "omniglot28-5way": {**_FIVE_WAYS, **_adam(2000)},
    "omniglot28-20way": {
        "data": {**_OMNIGLOT28["data"], "val_dataset": ""},  # it has only ten classes
        "episodes": {"samples_cnn": 40},
        **_adam(2000, batch=4),
        "test": {"num_task_evals": 1024, "num_eval_batches": 1, "eval_batch_size": 100},
    },
    "omniglot-20way-1shot": _PAPER,  # the released scripts
    "omniglot-20way-5shot": {
        **_PAPER,
        "episodes": {"samples_transformer": 100, "samples_cnn": 100},
    },
    "miniimagenet-1shot": {**_MINI, "episodes": {**_FIVE_84, "samples_transformer": 5}},
    "miniimagenet-5shot": {**_MINI, "episodes": {**_FIVE_84, "samples_transformer": 25}},
    "tieredimagenet-1shot": {**_TIERED, "episodes": {**_FIVE_84, "samples_transformer": 5}},
}


def preset(name: str, **changes: Any) -> FewShotConfig:
    """A named configuration, with changes: preset("omniglot28-5way", train={"seed": 1}).

    Raises:
        ConfigError: for an unknown name, listing the known ones.
    """
    return from_preset(FewShotConfig, PRESETS, name, changes)


MAIN = {"smoke": "strokes", "laptop": "omniglot28-5way", "paper": "omniglot-20way-1shot"}
MANY_WAYS = {"laptop": "omniglot28-20way"}  # the second main setting, where there is one
# of the methods; the other studies take one
SEEDS = {"smoke": (0,), "laptop": (0, 1, 2), "paper": (0, 1, 2)}
WIDTHS = {"smoke": (4, 8), "laptop": (4, 6, 8, 16), "paper": (4, 6, 8, 16)}
SHOTS = {"smoke": (1, 5), "laptop": (1, 5), "paper": (1, 5)}
UNLABELED = {"smoke": (0, 2), "laptop": (0, 2, 4), "paper": (0, 2, 4)}  # per class
# of the Transformers, with unlabelled samples
LAYERS = {"smoke": (1, 2), "laptop": (1, 2), "paper": (1, 2)}
_BRIEF = {"smoke": 30, "laptop": 1200}  # steps of a demonstration


def with_shots(config: FewShotConfig, shots: int, unlabeled: int = 0) -> FewShotConfig:
    """The same with so many labelled and unlabelled support images of each class."""
    ways = config.episodes.num_labels
    return config.updated(
        episodes={
            "samples_transformer": ways * (shots + unlabeled),
            "unlabeled_samples_per_class": unlabeled,
        }
    )


def brief(config: FewShotConfig, profile: str) -> FewShotConfig:
    """The same with a demonstration's number of steps; the paper profile's is the whole."""
    if profile not in _BRIEF:
        return config
    return config.updated(
        **_adam(_BRIEF[profile], config.optimizer.learning_rate, 200, config.train.batch_size)
    )


def study(name: str, profile: str) -> dict[str, FewShotConfig]:
    """The runs of one study, by label: methods, widths, shots, unlabeled or continual.

    Raises:
        ConfigError: for an unknown study or profile.
    """
    if profile not in MAIN:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(MAIN)}")
    if name not in STUDIES:
        raise ConfigError(f"study is {name!r}; allowed: {', '.join(STUDIES)}")
    return STUDIES[name](preset(MAIN[profile]), profile)


def _methods(main: FewShotConfig, profile: str) -> dict[str, FewShotConfig]:
    settings = [main] + ([preset(MANY_WAYS[profile])] if profile in MANY_WAYS else [])
    found: dict[str, FewShotConfig] = {}
    for config in settings:
        ways = f"{config.episodes.num_labels}-way"
        found |= {
            f"{ways}, all layers": config,
            f"{ways}, logits only": config.updated(
                model={"number_of_trained_cnn_layers": config.model.conv_layers}
            ),
            f"{ways}, prototypical network": config.updated(method={"name": "prototypical"}),
            f"{ways}, nearest mean of pixels": config.updated(method={"name": "pixels"}),
        }
    return found


def _widths(main: FewShotConfig, profile: str) -> dict[str, FewShotConfig]:
    main = brief(main, profile) if profile == "smoke" else main
    return {
        f"{kind}, {width} channels": main.updated(model={"default_num_channels": width} | changes)
        for width in WIDTHS[profile]
        for kind, changes in (
            ("all layers", {}),
            ("logits only", {"number_of_trained_cnn_layers": main.model.conv_layers}),
        )
    }


def _shots(main: FewShotConfig, profile: str) -> dict[str, FewShotConfig]:
    main = brief(main, profile) if profile == "smoke" else main
    found = {f"{shots}-shot": with_shots(main, shots) for shots in SHOTS[profile]}
    # the published one, with as many queries as it had
    return found | ({"5-shot": preset("omniglot-20way-5shot")} if profile == "paper" else {})


def _unlabeled(main: FewShotConfig, profile: str) -> dict[str, FewShotConfig]:
    main = brief(main, profile)
    return {
        f"{layers} layer{'s' * (layers > 1)}, {count} unlabelled": with_shots(
            main.updated(model={"num_layers": layers}), 1, count
        )
        for layers in LAYERS[profile]
        for count in UNLABELED[profile]
    }


def _continual(main: FewShotConfig, profile: str) -> dict[str, FewShotConfig]:
    tasks, steps = {"smoke": (2, 40), "laptop": (3, 1200), "paper": (5, 200_000)}[profile]
    ways = 5 if profile == "paper" else main.episodes.num_labels
    config = main.updated(
        method={"name": "continual", "tasks": tasks, "test_tasks": 3 if profile == "smoke" else 5},
        episodes={"num_labels": ways, "samples_transformer": ways, "samples_cnn": 2 * ways},
        test={
            "num_task_evals": min(256, main.test.num_task_evals),
            "num_eval_batches": 1,
            "eval_batch_size": 5 * ways,
        },
        **_adam(steps, 1e-3, 200, 4),
    )
    return {f"trained on {tasks} tasks": config}


STUDIES = {
    "methods": _methods,
    "widths": _widths,
    "shots": _shots,
    "unlabeled": _unlabeled,
    "continual": _continual,
}
