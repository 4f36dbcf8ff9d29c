"""Settings that are made to fit, or refused where they cannot: a warm-up to the length of a
training, a batch to few images, the form of images and the network to a pretrained model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from terminator.classification.config import Config
from terminator.config import SHAPE, ModelConfig
from terminator.runtime.settings import ConfigError, changed_settings, require, to_dict

if TYPE_CHECKING:
    from terminator.data.images import DatasetInfo

FORM = ("image_size", "channels")  # of images, that a pretrained model decides
PARTS = 4  # of one's own images: a batch is at most one of so many, so that an epoch has some steps


def fit_warmup(config: Config, images: int) -> Config:
    """The configuration with a warm-up that leaves half of the training to the schedule's descent,
    where the one that is set would not end before the training does.

    Args:
        images: to train on.
    """
    steps = images // config.train.batch_size
    total = config.train.epochs * steps
    limit = _limit(config, total)
    warmup = config.scheduler.warmup_epochs
    if not steps or warmup is None or limit is None or round(warmup * steps) < limit:
        return config
    return config.updated(scheduler={"warmup_epochs": total // 2 / steps})


def _limit(config: Config, total: float) -> float | None:
    """What a warm-up has to stay below, of a training of this length; None: nothing."""
    return {"cosine": total, "released": (total + 1) / 2}.get(config.scheduler.name)


def warmup_line(asked: Config, fitted: Config) -> str:
    """What was done to the warm-up, "" where nothing was."""
    before, after = asked.scheduler.warmup_epochs, fitted.scheduler.warmup_epochs
    if before == after:
        return ""
    return (
        f"scheduler.warmup_epochs={after:g}: a warm-up of {before:g} epochs does not fit "
        f"train.epochs={asked.train.epochs}"
    )


def check_warmup(config: Config) -> None:
    """Refuse a warm-up that somebody asked for and that is no shorter than the training.

    Raises:
        ConfigError: naming it.
    """
    limit, warmup = _limit(config, config.train.epochs), config.scheduler.warmup_epochs
    if warmup is not None and limit is not None and warmup >= limit:
        raise ConfigError(
            f"scheduler.warmup_epochs is {warmup:g}; allowed: fewer than {limit:g} for "
            f"train.epochs={config.train.epochs} and scheduler.name={config.scheduler.name}"
        )


def fit_batch(config: Config, images: int, asked: bool = False) -> tuple[Config, str]:
    """The configuration with a batch that one's own images fill at least four times, and what is to
    be said of it: how large it is, how many images an epoch leaves out; "" for nothing.

    Args:
        images: to train on.
        asked: the batch size was asked for, and stays.
    """
    from terminator.runtime.distributed import world_size

    size, part = config.train.batch_size, config.train.accumulate * world_size()
    batch = size
    if not asked and images // PARTS < size:
        batch = max(2, part, images // PARTS // part * part)
    left = images % batch if batch <= images else 0
    if batch == size and not left:
        return config, ""
    fits = f" (a quarter of them at most; {size} are set)" if batch < size else ""
    rest = f"; {left} of them, others every time, are left out of an epoch" if left else ""
    line = f"{images} training images: train.batch_size={batch}{fits}{rest}"
    return config.updated(train={"batch_size": batch}), line


def fit_images(config: Config, asked: Collection[str] = ()) -> tuple[Config, str]:
    """The configuration with images in the form that its pretrained model takes, and what is to be
    said of it; "" for nothing.

    Args:
        asked: settings of the data set that somebody chose, and that stay.

    Raises:
        ValueError: if the model cannot be read.
    """
    if not config.pretrained.load:
        return config, ""
    from terminator.classification import networks  # with torch, which help does without

    model: Any = networks.load_named(config.pretrained.filename)
    form = dict(zip(FORM, (model.config.size, model.config.in_channels)))
    changed = {
        name: value
        for name, value in form.items()
        if name not in asked and getattr(config.dataset, name) != value
    }
    if not changed:
        return config, ""
    said = " ".join(f"dataset.{name}={value}" for name, value in changed.items())
    return config.updated(dataset=changed), f"{said}, as {config.pretrained.filename} takes it"


def named_by(info: DatasetInfo, config: Config) -> Config:
    """The settings with the name of images that were given as arrays, which they do not name."""
    if not info.given:
        return config
    theirs = dict.fromkeys(("image_size", "channels", "train_size", "test_size"))
    return config.updated(dataset={**theirs, "name": info.name})


def check_use(config: Config) -> None:
    """Refuse settings that nothing would use, or that no batch statistics could be had of. (Not
    where settings are made: records and models may have them.)

    Raises:
        ConfigError: naming the first of them.
    """
    data, train, start = config.dataset, config.train, config.pretrained
    require(
        data.view == "permuted" or data.permutation_seed == 0,
        "dataset.permutation_seed",
        data.permutation_seed,
        "0, since only dataset.view=permuted has an order",
    )
    require(
        train.batch_size >= 2 * train.accumulate,
        "train.accumulate",
        train.accumulate,
        f"at most {train.batch_size // 2}, half of train.batch_size: one image has no batch "
        "statistics",
    )
    require(
        start.load or not start.filename,
        "pretrained.load",
        start.load,
        f"true, since pretrained.filename is {start.filename!r}",
    )


def adopt_pretrained(config: Config, asked: Config) -> Config:
    """The resolved configuration with the model that `pretrained` names, so that records say what
    was trained; its classes are those of the data, for which it gets a new classifier.

    Raises:
        ConfigError: if that model does not fit the data, or settings of the model that were asked
            for.
    """
    if not config.pretrained.load:
        return config
    from terminator.classification import networks  # with torch, which help does without
    from terminator.model import Terminator

    model: Any = networks.load_named(config.pretrained.filename)
    own, network = model.config, networks.network_of(model)
    if network != config.network:
        raise ConfigError(
            f"pretrained.filename is {config.pretrained.filename!r}, which holds {network}; "
            f"allowed: {config.network}, that of the settings"
        )
    needed = {name: getattr(config.model, name) for name in SHAPE}
    if isinstance(model, Terminator):
        own = dataclasses.replace(own, classes=needed["classes"])
    for name, value in {**needed, **changed_settings(asked.model, ModelConfig())}.items():
        has = to_dict(own)[name]
        if has != value:
            form = {"size": "dataset.image_size", "in_channels": "dataset.channels"}.get(name)
            hint = f" ({form}={has} makes images fit it)" if form else ""
            raise ConfigError(
                f"pretrained.filename is {config.pretrained.filename!r}, whose model.{name} is "
                f"{has!r}; allowed: {value!r}, that of the data or of the settings{hint}"
            )
    return dataclasses.replace(config, model=own)
