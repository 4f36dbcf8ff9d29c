"""The command line's part of trained models that are given away: list, describe, make."""

import argparse
import contextlib
import re
from pathlib import Path

from terminator.data.places import kind_of
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
    if args.to:
        _check_file(args.to, args.name)
    else:
        _check_name(args.name, args.renew)
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


def _check_name(name: str, renew: bool) -> None:
    """Refuse the name of a model of the package, but where that one is to be made anew."""
    # on some disks letters of either case are one file
    same = next((n for n in shipped.names() if n.casefold() == name.casefold()), None)
    if same is not None and not (renew and same == name):
        raise ConfigError(
            f"NAME is {name!r}, and the package has a model {same!r}; allowed: another name, --to "
            f"FILE, or {same} --renew, which replaces that model"
        )


def _check_file(file: Path, name: str) -> None:
    """Refuse the place of anything but this model's own file of before."""
    from terminator.runtime import weights  # with torch, which help does without

    kind, called = kind_of(file), None
    if kind == "a file":
        with contextlib.suppress(ValueError):  # no model at all
            card = weights.info_of(file).get("card")
            called = card.get("name") if isinstance(card, dict) else None
    if kind and called != name:
        raise ConfigError(
            f"--to is {str(file)!r}, which is {kind}{' of something else' * (kind == 'a file')}; "
            f"allowed: a new file, or one that was made as {name!r}"
        )


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
        "--renew", action="store_true", help="replace the package's model of this name"
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
            ("results/runs/cli/RUN mine --to mine.safetensors", "a finished run"),
            ("checkpoint.pt cifar10 --renew --profile paper --test-images 2000", "a run under way"),
        ),
    ),
)
