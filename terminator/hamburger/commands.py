"""The command line's part of Hamburger: train and use networks that label pixels, train GANs."""

import argparse
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from terminator.runs.command_line import (
    Command,
    Settings,
    images_option,
    model_option,
    place,
    run_and_print,
    training_options,
)
from terminator.runs.model_files import model_file
from terminator.runtime.text import terminal


def _segmentation_presets() -> ModuleType:
    from terminator.hamburger.segmentation import presets

    return presets


def _gan_presets() -> ModuleType:
    from terminator.hamburger.gan import presets

    return presets


SEGMENTATION_SETTINGS = Settings("segmentation", _segmentation_presets, "context")
GAN_SETTINGS = Settings("gan", _gan_presets, "digits")


def segmentation(args: argparse.Namespace) -> None:
    """Train a network that labels every pixel; print mIoU and accuracy of every split."""
    from terminator.hamburger.segmentation.runs import SEGMENTATION
    from terminator.plots.run_curves import run_curves

    run_and_print(SEGMENTATION, SEGMENTATION_SETTINGS.config(args), args, _overlaps, run_curves)


def _overlaps(record: dict[str, Any]) -> Iterator[str]:
    for split, found in record["results"].items():
        yield (
            f"{split:>12}: mIoU {found['miou']:6.2f} %, {found['accuracy']:6.2f} % of the pixels "
            f"of {found['pictures']} pictures"
        )


def segment(args: argparse.Namespace) -> int:
    """Label every pixel of image files; print each class's share; 1 if some could not be read."""
    from terminator.data.reading import picture_files
    from terminator.hamburger.segmentation.predict import Segmented, segmentations
    from terminator.runs.answers import unread

    files = picture_files(args.images)
    model = model_file(args.model, "segmentation")
    found = list[Segmented]()
    try:
        found.extend(segmentations(model, files, args.out, args.multi_scale, args.show))
    finally:  # of an interrupted call, what is there
        _tell(found, args)
    wrong = [str(one.error) for one in found if one.error is not None]
    if len(found) > 1:
        print(*map(terminal, wrong), sep="\n", end="\n" * bool(wrong))
    return unread(wrong, len(found))


def _tell(found: Sequence[Any], args: argparse.Namespace) -> None:
    """Each class's share of every picture that was read, and what was written of them.

    Args:
        found: Segmented, of every picture.
    """
    from terminator.hamburger.segmentation.predict import share_table

    read = sum(one.error is None for one in found)
    if not read:
        return
    table = share_table(found)
    print(terminal(table.to_string(index=False, float_format=lambda value: f"{value:.1f} %")))
    for folder, what in ((args.out, "label maps"), (args.show, "pictures with their labels")):
        if folder:
            print(f"written: {read} {what} in {terminal(folder)}")


def gan(args: argparse.Namespace) -> None:
    """Train a GAN; print the Frechet distance of its samples."""
    from terminator.hamburger.gan.runs import GAN
    from terminator.plots.run_curves import run_curves

    run_and_print(
        GAN,
        GAN_SETTINGS.config(args),
        args,
        _distance,
        run_curves,
        "record, metrics, samples and model",
    )


def _distance(record: dict[str, Any]) -> Iterator[str]:
    result, judge = record["results"], record["classifier"]
    yield (
        f"Frechet distance {result['test']['frechet']:.3f} ± {result['test']['sd_over_draws']:.3f} "
        f"(over draws), of training images {result['train_images']['frechet']:.3f}; in the "
        f"features of {judge['run_id']} ({judge['network']}, {judge['accuracy']:.2f} % right)"
    )


def _segment_options(parser: argparse.ArgumentParser) -> None:
    model_option(
        parser,
        "the name of a model that comes with the package (see models), a .safetensors file of the "
        "command segmentation, or its run's folder",
    )
    images_option(parser)
    parser.add_argument(
        "--out", type=place, help="a folder for the label maps (PNG, one class index per pixel)"
    )
    parser.add_argument(
        "--show",
        type=place,
        metavar="DIR",
        help="write each photograph beside its labels in colours",
    )
    parser.add_argument(
        "--multi-scale",
        action="store_true",
        help="sum the logits of several scales and mirrors (MSFlip)",
    )


COMMANDS = (
    Command(
        "segmentation",
        segmentation,
        "train a network that labels every pixel, test it, write a record",
        training_options,
        "settings",
        SEGMENTATION_SETTINGS,
        SEGMENTATION_SETTINGS.config,
        (
            ("", "drawn pictures: no download"),
            ("preset=context ham.kind=CD ham.inverse_temperature=100", "another ham"),
            (
                "preset=camvid model.context=none train.seed=1 --data-dir DATA",
                "CamVid, without context",
            ),
        ),
    ),
    Command(
        "segment",
        segment,
        "label every pixel of image files with a saved segmentation model",
        _segment_options,
        examples=(
            ("camvid street.jpg --show shown", "with a model that comes with the package"),
            ("model.safetensors street.jpg --out maps --multi-scale", "label maps as PNG"),
        ),
    ),
    Command(
        "gan",
        gan,
        "train a GAN with a Hamburger, attention or neither, write a record with samples",
        training_options,
        "settings",
        GAN_SETTINGS,
        GAN_SETTINGS.config,
        (
            ("", "digits: no download, a few seconds"),
            (
                "preset=mnist model.context=attention train.seed=1",
                "attention in the Hamburger's place",
            ),
        ),
    ),
)
