"""The command line's part of trained models that are given away: list, describe, make."""

import argparse
import re
from pathlib import Path

from terminator.runs.command_line import Command, data_option, model_option, place, profile_option
from terminator.runs.model_files import model_file
from terminator.runtime import shipped
from terminator.runtime.paths import atomic_write, expanded, project_root, shown
from terminator.runtime.settings import ConfigError
from terminator.runtime.text import terminal

PAGE = Path("docs") / "models.md"


def models(args: argparse.Namespace) -> None:
    """Every model that comes with the package, a line each."""
    from terminator.zoo import cards

    for name in shipped.names():
        print(terminal(cards.line(name, shipped.path(name))))


def card(args: argparse.Namespace) -> None:
    """What a model file says of itself."""
    from terminator.zoo import cards

    print(terminal(cards.text_of(model_file(args.model))), end="")


def ship(args: argparse.Namespace) -> None:
    """Make a model file that describes itself; put it into the package, or into another file."""
    from terminator.zoo import cards, making

    if not re.fullmatch(r"[\w-]+", args.name):
        raise ConfigError(f"NAME is {args.name!r}; allowed: letters, digits, - and _")
    content = making.make(
        expanded(args.run),
        args.name,
        data_dir=args.data_dir,
        profile=args.profile,
        precision=args.precision or "",
        test_images=args.test_images,
    )
    if args.to:
        print(f"written: {terminal(shown(atomic_write(args.to, content)))}")
        return
    path = shipped.add(args.name, content)
    print(terminal(cards.line(args.name, path)))
    print(f"written: {terminal(shown(path))}, listed in {shipped.LIST}")
    root = project_root()
    if root and shipped.FOLDER == root / "terminator" / "weights":  # not an installed package's
        print(f"written: {terminal(shown(atomic_write(root / PAGE, cards.page())))}")


def _ship_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", type=place, help="a run's folder, finished or under way, or a checkpoint.pt"
    )
    parser.add_argument("name", metavar="NAME", help="what the model is called")
    data_option(parser)
    profile_option(parser)
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16"),
        help="of calibration and measurement (default: that of the training)",
    )
    parser.add_argument(
        "--test-images",
        type=int,
        metavar="N",
        help="measure a classifier on N test images, drawn at random (default: all)",
    )
    parser.add_argument(
        "--to", type=place, metavar="FILE", help="write this file instead of one of the package"
    )


def _card_options(parser: argparse.ArgumentParser) -> None:
    model_option(parser, "the name of a model that comes with the package, or a file")


COMMANDS = (
    Command("models", models, "list the trained models that come with the package"),
    Command(
        "card",
        card,
        "what a trained model was trained on, how good it is, its licence",
        _card_options,
        examples=(("cifar10", "a model of the package"),),
    ),
    Command(
        "ship",
        ship,
        "make a 16-bit model file from a run, measure it, put it into the package",
        _ship_options,
        examples=(
            ("results/runs/cli/RUN digits", "a finished run"),
            ("checkpoint.pt cifar10 --profile paper --test-images 2000", "a run under way"),
        ),
    ),
)
