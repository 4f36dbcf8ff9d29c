"""The command line's part of Hrrformer: train on a long range task, say what its data are."""

import argparse
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from terminator.runs.command_line import (
    Command,
    Settings,
    config_option,
    data_option,
    run_and_print,
    training_options,
)
from terminator.runtime.text import terminal


def _presets() -> ModuleType:
    from terminator.hrrformer.longrange import presets

    return presets


SETTINGS = Settings("longrange", _presets, "digits-sequence")  # needs no data set


def longrange(args: argparse.Namespace) -> None:
    """Train a network on long sequences; print accuracy and cross entropy of every split."""
    from terminator.hrrformer.longrange.runs import LONG_RANGE
    from terminator.plots.run_curves import run_curves

    run_and_print(LONG_RANGE, SETTINGS.config(args), args, _accuracies, run_curves)


def _accuracies(record: dict[str, Any]) -> Iterator[str]:
    for split, found in record["results"].items():
        yield (
            f"{split:>8}: {found['accuracy']:6.2f} % of {found['examples']} examples, cross "
            f"entropy {found['cross_entropy']:.4f}"
        )


def describe(args: argparse.Namespace) -> None:
    """Make or read the data; print their sizes, lengths, labels, and what simple answers reach."""
    from terminator.hrrformer.longrange.data import load_long_range
    from terminator.hrrformer.longrange.report import simple_answers

    data = load_long_range(SETTINGS.config(args), args.data_dir)
    info = data.info
    sizes = f"{len(info.classes)} classes, vocabulary {info.vocabulary}"
    print(terminal(f"{info.title}: {sizes}, at most {info.length} tokens"))
    for split, part in data.splits.items():
        lengths = part.texts[0].lengths
        shares = part.labels.bincount(minlength=len(info.classes)) / len(part)
        labels = ", ".join(
            f"{label} {share:.1%}"
            for label, share in zip(info.classes, shares.tolist(), strict=True)
        )
        print(
            f"{split:>8}: {len(part)} examples, {int(lengths.min())} to {int(lengths.max())} "
            f"tokens, median {info.median_length[split]:g}; {labels}"
        )
    for answer, accuracy in simple_answers(data).items():
        print(f"{accuracy:7.2f} % of the test examples are answered rightly by: {answer}")
    print(
        *(terminal(f"note: {note}") for note in info.notes),
        f"fingerprint: {info.fingerprint}",
        sep="\n",
    )


def _data_options(parser: argparse.ArgumentParser) -> None:
    config_option(parser)
    data_option(parser)


COMMANDS = (
    Command(
        "longrange",
        longrange,
        "train a network on long sequences, test it, write a record",
        training_options,
        "settings",
        SETTINGS,
        SETTINGS.config,
        (
            ("", "digits as sequences of 64 pixels: no download"),
            (
                "preset=listops-short network.mixer=softmax_fused",
                "another mixer in Hrrformer's place",
            ),
        ),
    ),
    Command(
        "longrange-data",
        describe,
        "make or read the sequences of a long range task, say what they are",
        _data_options,
        "settings",
        SETTINGS,
        examples=(("preset=listops-short", "make the data, say what they are"),),
    ),
)
