"""Model cards: what a model file says of itself, for people to read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terminator.classification import networks
from terminator.classification.config import Config
from terminator.config import SHAPE
from terminator.runtime import digests, shipped, text
from terminator.runtime.settings import from_dict
from terminator.runtime.settings_help import typed

PROTOCOLS = {
    "calibrated": "fixed statistics, as `predict` answers",
    "released": "statistics of the test batch",
}


class NoCard(ValueError):
    """A model file that says too little of itself."""


def facts(path: Path) -> dict[str, Any]:
    """What a model file says of itself: its `info`.

    Raises:
        NoCard: if it was not made to be given away.
        ValueError: if the file is damaged.
    """
    model: Any = networks.load(path)
    info = getattr(model, "info", {})
    if not isinstance(info.get("card"), dict):
        raise NoCard(f"{path} has no card; allowed: a file that `python -m terminator ship` made")
    return {**info, "model": model.config, "class": type(model).__name__}


def so_far(card: Mapping[str, Any]) -> str:
    """How long it was trained: "after 3 of 100 epochs"."""
    steps = f" and {card['steps_of_next']} steps" if card["steps_of_next"] else ""
    return f"after {card['epochs']}{steps} of {card['of']} epochs"


def line(name: str, path: Path) -> str:
    """One line of the list of models."""
    found = facts(path)
    card, data = found["card"], found["data"]
    answer = card["accuracy"]["calibrated"]
    size = "x".join(map(str, data["shape"]))
    return (
        f"{name:10} {data['title']}, {len(data['classes'])} classes, {size}, {so_far(card)}: "
        f"{answer['accuracy']:.2f} % of {answer['images']} test images; "
        f"{card['parameters']:,} parameters, {path.stat().st_size / 1e6:.1f} MB"
    )


def text_of(path: Path, level: int = 1) -> str:
    """The whole card, Markdown.

    Args:
        level: of its heading.
    """
    found = facts(path)
    card, data = found["card"], found["data"]
    settings = _settings(found["config"])
    rows = {
        "network": f"{found['class']}, {card['parameters']:,} parameters; weights in 16 bits, "
        "frequencies of the slow networks in 32",
        "data": f"{text.markdown(data['title'])}, {card['train_images']:,} training images"
        + "".join(f"; {text.markdown(note)}" for note in card["notes"]),
        "takes": f"{' x '.join(map(str, data['shape']))} (channels, height, width); pictures are "
        "resized and cropped to it",
        "normalisation": f"mean {_numbers(data['mean'])}, deviation {_numbers(data['std'])}",
        "classes": ", ".join(map(text.markdown, data["classes"])),
        "training": f"{so_far(card)}, seed {card['seed']}",
        "run": f"{text.markdown(found['run_id'])}, profile {card['profile']}",
        "trained by": "; ".join(map(_stretch, card["stretches"])) or "not known",
        "file made by": _commit(card["made"]) + f", {card['made']['date']}",
        "licence": f"{card['licence']} (of the weights; the images have their own)",
        "SHA-256": f"`{digests.of_file(path)}`",
    }
    lines = [f"{'#' * level} {card['name']}", "", *_accuracies(card), ""]
    lines += ["| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "Trained by these settings, all others at their defaults:", ""]
    lines += ["```", f"python -m terminator train {settings}", "```"]
    return "\n".join(lines) + "\n"


def _accuracies(card: Mapping[str, Any]) -> list[str]:
    measured = card["measured"]
    whole = measured["test_images"]
    lines = ["| accuracy of exactly this file | test images | evaluation |", "|---|---|---|"]
    for protocol, meaning in PROTOCOLS.items():
        answer = card["accuracy"][protocol]
        part = f" of {whole:,}" if answer["images"] != whole else ""
        lines.append(
            f"| {answer['accuracy']:.2f} % | {answer['images']:,}{part} | {protocol}: {meaning}, "
            f"{measured['precision']} |"
        )
    return lines


def _settings(config: Mapping[str, Any]) -> str:
    """The settings of a training as words of the command line, but for what its data decide."""
    known = from_dict(Config, config)
    words = [f"dataset.name={known.dataset.name}"]
    for group, values in config.items():
        for key in values:
            of_data = group == "model" and key in (*SHAPE, "trained_size")
            if not of_data and (group, key) != ("dataset", "name"):
                value = typed(getattr(getattr(known, group), key))
                words.append(
                    f'"{group}.{key}={value}"' if "[" in value else f"{group}.{key}={value}"
                )
    return " ".join(words)


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _stretch(stretch: Mapping[str, Any]) -> str:
    epochs = stretch["epochs"] or []
    which = "part of an epoch"
    if epochs:
        which = (
            f"epochs {epochs[0]} to {epochs[1]}" if epochs[0] < epochs[1] else f"epoch {epochs[0]}"
        )
    device = text.markdown(stretch.get("device") or "an unknown machine")
    return f"{which}: {_commit(stretch)}, {device}, {(stretch['seconds'] or 0) / 60:.0f} min"


def _commit(made: Mapping[str, Any]) -> str:
    commit = made.get("commit")
    changed = " with changes" if made.get("dirty") else ""
    return f"commit {commit[:10]}{changed}" if commit else "an unknown commit"


HEAD = """# Models that come with the kit

Made by `python -m terminator ship RUN NAME`, which measures each file by itself; no number is typed
by hand, and what is said of a file below stands in the file. In Python
`terminator.pretrained("{first}")`; in a terminal `python -m terminator predict {first} PICTURE...`,
`python -m terminator models` and `python -m terminator card {first}`. How to take one to classes of
your own: [own data](own-data.md).
"""


def page() -> str:
    """docs/models.md: the cards of all models of the package."""
    names = shipped.names()
    parts = [text_of(shipped.path(name), 2) for name in names]
    return "\n".join([HEAD.format(first=names[0] if names else "NAME"), *parts])
