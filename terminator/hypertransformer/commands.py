"""The command line's part of HyperTransformer: train few-shot learners, watch their checkpoints."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from terminator.runs.command_line import (
    Command,
    Settings,
    answer_options,
    config_option,
    images_option,
    model_option,
    place,
    preset_named,
    run_and_print,
    run_options,
    training_options,
)
from terminator.runs.model_files import model_file


def _presets() -> ModuleType:
    from terminator.hypertransformer.fewshot import presets

    return presets


SETTINGS = Settings("fewshot", _presets, otherwise="the released flags' own defaults")


def _read(args: argparse.Namespace) -> Any:
    """The CommandLine: flags and settings over a preset, a file, or the flags' own defaults."""
    from terminator.hypertransformer.fewshot.flags import read_flags

    name, words = preset_named(args.words)
    return read_flags(words, SETTINGS.start(name, args.config) if name or args.config else None)


def _config(args: argparse.Namespace) -> Any:
    return _read(args).config


def _experiment(args: argparse.Namespace) -> tuple[Any, Path | None, tuple[str, ...]]:
    """Configuration, folder and remarks of a command line; its flags' data folders come to those of
    --data-dir.
    """
    read = _read(args)
    places = [args.data_dir, read.places.get("data_numpy_dir"), read.places.get("data_dir")]
    args.data_dir = os.pathsep.join(filter(None, places)) or None
    folder = (
        Path(read.places["train_log_dir"]).absolute() if "train_log_dir" in read.places else None
    )
    return read.config, folder, read.remarks


def fewshot(args: argparse.Namespace) -> None:
    """Train a few-shot learner; print the accuracy of every split."""
    from terminator.hypertransformer.fewshot.runs import FEW_SHOT
    from terminator.plots.run_curves import run_curves
    from terminator.runtime.distributed import processes, rank

    config, folder, remarks = _experiment(args)
    with processes(config.train):
        if rank() == 0:
            print(*remarks, sep="\n", end="\n" * bool(remarks))
        run_and_print(FEW_SHOT, config, args, _accuracies, run_curves, folder=folder)


def _accuracies(record: dict[str, Any]) -> Iterator[str]:
    for split, found in record["results"].items():
        yield (
            f"{split:>16}: {found['accuracy']:6.2f} ± {found['interval']:.2f} % of "
            f"{found['tasks']} tasks"
        )


def fewshot_evaluate(args: argparse.Namespace) -> None:
    """Evaluate every new checkpoint of a training that another process runs."""
    from terminator.hypertransformer.fewshot.runs import FEW_SHOT
    from terminator.hypertransformer.fewshot.watch import watch

    config, folder, remarks = _experiment(args)
    data = FEW_SHOT.load_data(config, args.data_dir)
    print(*remarks, sep="\n", end="\n" * bool(remarks))
    config = config.resolved(data.info.shape[0], data.real_classes)
    folder = folder or FEW_SHOT.run_folder(config, data, args.experiment, args.profile)
    print(f"watching {folder}", flush=True)
    watch(config, data, folder, poll_s=args.poll, timeout_s=args.timeout)


def fewshot_predict(args: argparse.Namespace) -> int:
    """Name pictures by classes that a few-shot model is shown; 1 if some could not be read."""
    from terminator.data.reading import picture_files
    from terminator.hypertransformer.fewshot.learner import Learner, shown_in
    from terminator.runs.answers import told
    from terminator.runs.outputs import check_places

    shown, images = shown_in(args.shown), picture_files(args.images)
    seen = [*images, *(path for files in shown.values() for path in files)]
    file = model_file(args.model, "few-shot")
    check_places(seen, {"--csv": args.csv, "--json": args.json}, model=file)
    learner = Learner(file)
    learner.show(shown)
    if learner.inverted:
        print(
            f"note: {learner.inverted} of the {len(seen) - len(images)} pictures shown are dark on "
            "bright and are inverted, as any that is asked"
        )
    return told(learner.answers(images, args.top), args)[1]


def _predict_options(parser: argparse.ArgumentParser) -> None:
    model_option(
        parser,
        "the name of a few-shot model that comes with the package (see models), a .safetensors "
        "file of the command fewshot, or its run's folder",
    )
    parser.add_argument(
        "shown",
        type=place,
        metavar="SHOWN",
        help="a folder with a folder of pictures for every class, one or more each",
    )
    images_option(parser)
    answer_options(parser)


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    run_options(parser)
    config_option(parser)
    parser.add_argument(
        "--poll", type=float, default=10, help="seconds between two looks (default: 10)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=3600,
        help="give up after so many seconds without a checkpoint",
    )


FLAGS = (
    "released flags (--num_labels 20 --balanced_batches --nouse_decoder ...) and settings "
    "(preset=NAME, train.batch_size=8) follow in any order"
)
COMMANDS = (
    Command(
        "fewshot",
        fewshot,
        "train a few-shot learner on episodes, test it, write a record",
        training_options,
        "flags",
        SETTINGS,
        _config,
        (
            ("preset=strokes", "drawn characters: no download, a minute"),
            ("preset=omniglot28-5way train.seed=1", "5-way, 1-shot"),
            (
                "--train_dataset omniglot:0-1149 --test_dataset omniglot:1200-1622 --num_labels 20",
                "the released flags",
            ),
        ),
        FLAGS,
    ),
    Command(
        "fewshot-predict",
        fewshot_predict,
        "name pictures by classes that a few-shot model is shown",
        _predict_options,
        examples=(
            ("omniglot shown/ unknown.png", "shown/ has a folder of pictures for every class"),
        ),
    ),
    Command(
        "fewshot-evaluate",
        fewshot_evaluate,
        "evaluate the checkpoints of a running few-shot training",
        _evaluate_options,
        "flags",
        SETTINGS,
        examples=(("preset=strokes", "beside a running fewshot preset=strokes"),),
        epilog=FLAGS,
    ),
)
