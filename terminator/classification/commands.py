"""The command line's part of classification: train, evaluate, predict; what data sets there are."""

import argparse
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from terminator.classification.config import Config, DatasetConfig
from terminator.classification.fitting import FORM, check_warmup, fit_batch, fit_images
from terminator.runs.command_line import (
    Command,
    Settings,
    answer_options,
    data_option,
    images_option,
    model_option,
    place,
    preset_named,
    run_and_print,
    training_options,
)
from terminator.runs.model_files import model_file
from terminator.runtime.settings import ConfigError
from terminator.runtime.text import terminal


def _presets() -> ModuleType:
    from terminator.classification import presets

    return presets


SETTINGS = Settings(
    "images", _presets, "digits", "the preset digits (where no dataset.name is given)"
)


def build_config(words: list[str], file: Path | None = None) -> Config:
    """The configuration of a command line: KEY=VALUE words over preset=NAME, or over a file's.

    Without preset, file or dataset.name it is the preset "digits", which needs no data set.
    """
    name, changes = preset_named(words)
    if not name and not file and _names(changes, "dataset.name"):
        config = Config().updated(*changes)
    else:
        config = SETTINGS.start(name, file).updated(*changes)
    if _names(changes, "scheduler.warmup_epochs"):
        check_warmup(config)
    return config


def _names(words: Iterable[str], key: str) -> bool:
    return any(word.startswith(f"{key}=") for word in words)


def _config(args: argparse.Namespace) -> Config:
    return build_config(args.words, args.config)


def train(args: argparse.Namespace) -> None:
    """Train, or with train.do=False test a model; print both evaluations."""
    from terminator.classification.evaluation import evaluate_file
    from terminator.classification.runs import CLASSIFICATION
    from terminator.plots.run_curves import run_curves
    from terminator.runtime.distributed import processes, rank

    config = _config(args)
    if config.train.do and preset_named(args.words)[0] == "own":
        _train_own(config, args)
        return
    if config.train.do:
        run_and_print(CLASSIFICATION, config, args, _accuracies, run_curves)
        return
    if not config.pretrained.load:
        raise ConfigError(
            "train.do is False and pretrained.load is False, so there is nothing to do; set "
            "pretrained.load=True pretrained.filename=FILE to test a model"
        )
    with processes(config.train):
        result = evaluate_file(config.pretrained.filename, config, args.data_dir)
        if rank() == 0:
            print(*_accuracies(result), sep="\n")


def _train_own(config: Config, args: argparse.Namespace) -> None:
    """Train on one's own images, with the batch that notebook 05 takes."""
    from terminator.classification.runs import CLASSIFICATION
    from terminator.plots.run_curves import run_curves
    from terminator.runtime.distributed import processes, rank
    from terminator.runtime.progress import say

    if not _names(args.words, "dataset.name") and config.dataset.name == DatasetConfig().name:
        raise ConfigError(
            "preset=own trains on your images: say where they are, dataset.name=FOLDER, a folder "
            "or archive with a folder per class (CLASS/*.jpg, or train/CLASS/* and test/CLASS/*)"
        )
    with processes(config.train):
        chosen = [name for name in FORM if _names(args.words, f"dataset.{name}") or args.config]
        config, line = fit_images(config, chosen)
        if line and rank() == 0:
            say(line)
        data = CLASSIFICATION.load_data(config, args.data_dir)
        asked = _names(args.words, "train.batch_size") or args.config is not None
        config, line = fit_batch(config, data.info.train_size, asked)
        if line and rank() == 0:
            say(line)
        run_and_print(CLASSIFICATION, config, args, _accuracies, run_curves, data=data)


def evaluate(args: argparse.Namespace) -> None:
    """Test a model file, on the data that it was trained with or on others."""
    from terminator.classification.evaluation import evaluate_file
    from terminator.classification.runs import CLASSIFICATION
    from terminator.config import KNOWN_DATA
    from terminator.data.errors import DatasetNotFound
    from terminator.runtime.distributed import processes, rank

    file = model_file(args.model, "classification")
    config = CLASSIFICATION.load(file)[1]
    own = config is not None and not _names(args.words, "preset")
    if not own:
        config = build_config(args.words)
    else:
        # other data, in the same form
        if _names(args.words, "dataset.name"):
            config = config.updated(dataset={"train_size": None, "test_size": None, "held_out": 0})
        config = config.updated(*args.words)
    try:
        with processes(config.train):
            found = evaluate_file(file, config, args.data_dir)
            if rank() == 0:
                print(*_accuracies(found), sep="\n")
    except DatasetNotFound as error:
        name = config.dataset.name
        if not own or _names(args.words, "dataset.name") or name in KNOWN_DATA:
            raise
        raise DatasetNotFound(
            f"{args.model} was trained on {name!r}, and a model file keeps no path: say where that "
            f"is, by --data-dir or dataset.name=PATH. {error}"
        ) from error


def _accuracies(result: dict[str, Any]) -> Iterator[str]:
    """Accuracies of both protocols, a line each."""
    for protocol, meaning in (
        ("released", "statistics of the test batch"),
        ("calibrated", "fixed statistics"),
    ):
        numbers = (result.get("results") or result)[protocol]
        yield (
            f"{protocol:>11}: {numbers['accuracy']:6.2f} % of {numbers['images']} images, cross "
            f"entropy {numbers['cross_entropy']:.4f}  ({meaning})"
        )


def predict(args: argparse.Namespace) -> int:
    """The most probable classes of image files; 1 if some of them could not be read."""
    from terminator.classification import predict as answering
    from terminator.data.reading import picture_files
    from terminator.runs.answers import told
    from terminator.runs.outputs import check_places

    images = picture_files(args.images)
    file = model_file(args.model, "classification")
    tables = {"--csv": args.csv, "--json": args.json}
    check_places(images, tables, {"--show": args.show}, file)
    model = answering.load_predictor(file)
    found, status = told(answering.answers(model, images, args.top), args)
    if args.show:
        shown = answering.show_scores(model, found, args.show)
        print(f"written: {len(shown)} pictures with their slow scores in {terminal(args.show)}")
    return status


def datasets(args: argparse.Namespace) -> None:
    """Every data set by name: its form, whether it is here, how to get it."""
    from terminator.data.catalogue import available

    for folder in filter(None, (args.data_dir or "").split(os.pathsep)):
        if not Path(folder).is_dir():
            raise ConfigError(f"--data-dir is {folder!r}; allowed: a folder that exists")
    for row in available(args.data_dir):
        shape = "x".join(map(str, row.shape)) if row.shape else "?"
        classes = row.classes or "?"
        print(f"{row.name:14} {row.title:18} {shape:10} {classes:>4} classes   {row.status}")
        if not row.is_ready:
            print(f"{'':14} {row.how}")


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    model_option(
        parser,
        "a .safetensors file of this kit, a run's folder, a released checkpoint, or the name of a "
        "model that comes with the package",
    )
    data_option(parser)


def _predict_options(parser: argparse.ArgumentParser) -> None:
    model_option(
        parser,
        "the name of a model that comes with the package (see models), a .safetensors file of this "
        "kit, a run's folder or an experiment",
    )
    images_option(parser)
    answer_options(parser)
    parser.add_argument(
        "--show", type=place, metavar="DIR", help="write each picture with its slow scores over it"
    )


COMMANDS = (
    Command(
        "train",
        train,
        "train (or go on, or read what is finished), test, write a record",
        training_options,
        "settings",
        SETTINGS,
        _config,
        (
            ("", "6 epochs on 8x8 digits: no download, less than a minute"),
            ("preset=mnist-laptop train.epochs=6 train.seed=1", "a preset with other values"),
            ("preset=own dataset.name=path/to/folder", "own images, a folder per class"),
            (
                "preset=cifar10 train.precision=bf16 --profile paper",
                "the released settings, on a GPU",
            ),
        ),
    ),
    Command(
        "evaluate",
        evaluate,
        "test a saved model, as released and calibrated",
        _evaluate_options,
        "settings",
        replace(SETTINGS, otherwise="the model file"),
        examples=(
            ("model.safetensors", "on the data that it was trained with"),
            ("released.ckpt dataset.name=CIFAR10", "a released checkpoint"),
        ),
    ),
    Command(
        "predict",
        predict,
        "classify image files with a saved, calibrated model",
        _predict_options,
        examples=(
            (
                "cifar10 cat.jpg",
                "with a model that comes with the package: no training, no network",
            ),
            ("model.safetensors cat.jpg dog.jpg", "the most probable classes of each"),
            ("results/runs/cli photos/ --csv answers.csv", "the last model, a folder of pictures"),
            ("model.safetensors cat.jpg --show scores", "what it looks at"),
        ),
    ),
    Command(
        "datasets",
        datasets,
        "list data sets: what is there, what is not, how to get it",
        data_option,
    ),
)
