"""The released command line: every flag by its name and its own default, turned into a
FewShotConfig.

`--flag value`, `--flag=value`, `--flag` and `--noflag` for switches. Beside them stand settings of
this kit, written KEY=VALUE (train.batch_size=8, optimizer.name=Adam).

Source: the flags of the reference implementation of arXiv 2201.04182 and of its public port.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.runtime.settings import ConfigError, from_dict
from terminator.runtime.settings_help import keys_like
from terminator.runtime.words import Unreadable, Word
from terminator.runtime.words import read as read_word

FLAGS: dict[str, tuple[str, Any]] = {  # flag: (setting, the flag's own default)
    "samples_transformer": ("episodes.samples_transformer", 32),
    "samples_cnn": ("episodes.samples_cnn", 128),
    "num_labels": ("episodes.num_labels", 4),
    "use_labels": ("data.use_labels", 8),
    "train_dataset": ("data.train_dataset", "emnist"),
    "test_dataset": ("data.test_dataset", "emnist:8-61"),
    "shuffle_labels_seed": ("data.shuffle_labels_seed", 0),
    "balanced_batches": ("episodes.balanced_batches", False),
    "unlabeled_samples_per_class": ("episodes.unlabeled_samples_per_class", 0),
    "max_prob_remove_unlabeled": ("episodes.max_prob_remove_unlabeled", 0.0),
    "max_prob_remove_labeled": ("episodes.max_prob_remove_labeled", 0.0),
    "image_size": ("episodes.image_size", 28),
    "rotation_probability": ("augmentation.rotation_probability", 0.0),
    "smooth_probability": ("augmentation.smooth_probability", 0.5),
    "contrast_probability": ("augmentation.contrast_probability", 0.5),
    "resize_probability": ("augmentation.resize_probability", 0.0),
    "negate_probability": ("augmentation.negate_probability", 0.0),
    "roll_probability": ("augmentation.roll_probability", 0.0),
    "angle_range": ("augmentation.angle_range", 180.0),
    "random_rotate_by_90": ("augmentation.random_rotate_by_90", False),
    "per_label_augmentation": ("augmentation.per_label_augmentation", False),
    "apply_image_augmentations": ("augmentation.apply_image_augmentations", False),
    "augment_images_individually": ("augmentation.augment_images_individually", False),
    **{
        f"test_{name}": (f"augmentation.test_{name}", -1.0)
        for name in (
            "rotation_probability",
            "smooth_probability",
            "contrast_probability",
            "resize_probability",
            "negate_probability",
            "roll_probability",
            "angle_range",
        )
    },
    "test_random_rotate_by_90": ("augmentation.test_random_rotate_by_90", False),
    "test_per_label_augmentation": ("augmentation.test_per_label_augmentation", False),
    "cnn_model_name": ("model.cnn_model_name", "3-layer"),
    "default_num_channels": ("model.default_num_channels", 16),
    "kernel_size": ("model.kernel_size", 3),
    "stride": ("model.stride", 2),
    "cnn_activation": ("model.cnn_activation", "relu"),
    "cnn_dropout_rate": ("model.cnn_dropout_rate", 0.0),
    "number_of_trained_cnn_layers": ("model.number_of_trained_cnn_layers", 0),
    "layerwise_generator": ("model.layerwise_generator", "joint"),
    "lw_weight_allocation": ("model.lw_weight_allocation", "spatial"),
    "lw_generate_bias": ("model.lw_generate_bias", False),
    "lw_generate_bn": ("model.lw_generate_bn", False),
    "add_trainable_weights": ("model.add_trainable_weights", False),
    "weight_variation_regularization": ("model.weight_variation_regularization", 0.0),
    "l2_reg_weight": ("model.l2_reg_weight", 0.0),
    "separate_evaluation_bn_vars": ("model.separate_evaluation_bn_vars", False),
    "embedding_dim": ("model.embedding_dim", 8),
    "num_layers": ("model.num_layers", 4),
    "heads": ("model.heads", 4),
    "lw_key_query_dim": ("model.lw_key_query_dim", 1.0),
    "lw_value_dim": ("model.lw_value_dim", 1.0),
    "lw_inner_dim": ("model.lw_inner_dim", 1.0),
    "dropout_rate": ("model.dropout_rate", 0.0),
    "transformer_activation": ("model.transformer_activation", "softmax"),
    "transformer_nonlinearity": ("model.transformer_nonlinearity", "relu"),
    "transformer_skip_last_nonlinearity": ("model.transformer_skip_last_nonlinearity", False),
    "use_decoder": ("model.use_decoder", False),
    "num_layerwise_features": ("model.num_layerwise_features", None),
    "lw_use_nonlinear_feature": ("model.lw_use_nonlinear_feature", False),
    "logits_feature_extractor": ("model.logits_feature_extractor", "default"),
    "shared_feature_extractor": ("model.shared_feature_extractor", "none"),
    "shared_features_dim": ("model.shared_features_dim", 32),
    "shared_feature_extractor_padding": ("model.shared_feature_extractor_padding", "valid"),
    "shared_fe_dropout": ("model.shared_fe_dropout", 0.0),
    "fe_dropout": ("model.fe_dropout", 0.0),
    "warmup_steps": ("model.warmup_steps", 0),
    "pretrain_shared_feature": ("train.pretrain_shared_feature", False),
    "shared_head_weight": ("train.shared_head_weight", 0.0),
    "restore_shared_features_from": ("train.restore_shared_features_from", ""),
    "learning_rate": ("optimizer.learning_rate", 1e-3),
    "learning_rate_decay_steps": ("optimizer.learning_rate_decay_steps", 10_000),
    "learning_rate_decay_rate": ("optimizer.learning_rate_decay_rate", 1.0),
    "label_smoothing": ("train.label_smoothing", 0.0),
    "train_steps": ("train.train_steps", 10_000),
    "steps_between_saves": ("train.steps_between_saves", 1000),
    "use_ddp": ("train.distributed", False),
    "eval_datasets": ("data.eval_datasets", ""),
    "num_task_evals": ("test.num_task_evals", 512),
    "num_eval_batches": ("test.num_eval_batches", 16),
    "eval_batch_size": ("test.eval_batch_size", 200),
}
# where files lie; no part of an experiment
PLACES = ("data_numpy_dir", "data_dir", "train_log_dir")
WITHOUT_EFFECT = {  # accepted, since scripts use them, and said to be of no effect
    "num_sample_repeats": "it never had any",
    "boundary_probability": "it never had any",
    "query_key_dim": "it never had any",
    "value_dim": "it never had any",
    "internal_dim": "it never had any",
    "learning_momentum": "it never had any",
    "test_split": "it never had any for image caches",
    "shared_input_dim": "the data's channels are taken",
    "gpus": "choose them by CUDA_VISIBLE_DEVICES, train.device",
}
WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class CommandLine:
    """What a released command line asks for."""

    config: FewShotConfig
    places: dict[str, str]  # those of PLACES that were given
    remarks: tuple[str, ...]  # what to tell the user


def read_flags(words: Iterable[str], start: FewShotConfig | None = None) -> CommandLine:
    """A configuration from flags and KEY=VALUE words, over `start` or over the flags' own defaults.

    Raises:
        ConfigError: for an unknown flag (naming the nearest), a missing or impossible value.
    """
    words = list(words)
    settings = [
        word
        for i, word in enumerate(words)
        if not word.startswith("-") and "=" in word and not (i and _awaits_value(words[i - 1]))
    ]
    rest = iter([word for word in words if word not in settings])
    values: dict[str, dict[str, Any]] = {}
    if start is None:
        for path, default in FLAGS.values():
            _put(values, path, default)
    places, remarks = {}, []
    for word in rest:
        name, text = _split(word, rest)
        if name in PLACES:
            places[name] = text
        elif name in WITHOUT_EFFECT:
            remarks.append(f"--{name} has no effect: {WITHOUT_EFFECT[name]}")
        else:
            path, default = FLAGS[name]
            _put(values, path, _read(name, text, default))
    config = from_dict(FewShotConfig, values) if start is None else start.updated(**values)
    return CommandLine(config.updated(*settings), places, tuple(remarks))


def _awaits_value(word: str) -> bool:
    """Whether a flag takes the next word, so that this word is no setting even if it has an equals
    sign.
    """
    name = word.lstrip("-")
    known = (
        name in PLACES
        or name in WITHOUT_EFFECT
        or (name in FLAGS and not isinstance(FLAGS[name][1], bool))
    )
    return word.startswith("-") and known


def _split(word: str, rest: Iterator[str]) -> tuple[str, str]:
    """Name and value of a flag; switches without a value are "true", with `no` before their name
    "false".
    """
    if not word.startswith("-"):
        raise ConfigError(f"{word!r} is neither a flag (--name value) nor a setting (KEY=VALUE)")
    name, equals, text = word.lstrip("-").partition("=")
    negated = name.removeprefix("no")
    if (
        name not in FLAGS
        and name.startswith("no")
        and isinstance(FLAGS.get(negated, ("", None))[1], bool)
    ):
        if equals:
            raise ConfigError(
                f"--{name} takes no value; allowed: --{name}, --{negated}, --{negated}=true"
            )
        return negated, "false"
    known = [*FLAGS, *PLACES, *WITHOUT_EFFECT]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        key = (keys_like(FewShotConfig(), name) or ["train.batch_size"])[0]
        value = text or next((word for word in rest if not word.startswith("-")), "8")
        raise ConfigError(
            f"unknown flag --{name}"
            + (f"; near it: {', '.join('--' + n for n in near)}" if near else "")
            + ". Settings of this kit are written KEY=VALUE, e.g. "
            + f"{key}={value}"
        )
    if equals:
        return name, text
    if name in FLAGS and isinstance(FLAGS[name][1], bool):
        return name, "true"
    try:
        return name, next(rest)
    except StopIteration:
        raise ConfigError(f"--{name} lacks its value") from None


def _read(name: str, text: str, default: Any) -> Any:
    """A flag's value in the type of its default."""
    if isinstance(default, bool):
        if text.lower() not in WORDS:
            raise ConfigError(f"--{name} is {text!r}; allowed: {', '.join(WORDS)}")
        return WORDS[text.lower()]
    if isinstance(default, str):
        return text
    if default is None and not text:
        return None
    kind = float if isinstance(default, float) else int
    try:
        return read_word(Word(text), kind)
    except Unreadable:
        allowed = "a number" if kind is float else "an integer"
        raise ConfigError(
            f"--{name} is {text!r}; allowed: {allowed} in decimal digits, without a leading zero"
        ) from None


def _put(values: dict[str, dict[str, Any]], path: str, value: Any) -> None:
    group, key = path.split(".")
    values.setdefault(group, {})[key] = value
