"""Model cards: what a model file says of itself, for people to read."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terminator.runs.model_files import task_in
from terminator.runtime import digests, shipped, text, weights
from terminator.runtime.settings import READING_KEYS, WHERE_KEYS, ConfigError
from terminator.zoo.kinds import Facts, Kind, kind_for


class NoCard(ValueError):
    """A model file that says too little of itself."""


def facts(path: Path) -> tuple[Kind, Facts]:
    """What a model file says of itself, and of which kind it is.

    Raises:
        NoCard: if it was not made to be given away.
        ValueError: if the file is damaged.
    """
    no_card = f"{path} has no card; allowed: a file that `python -m terminator ship` made"
    try:
        kind = kind_for(task_in(path) or "classification")  # which says what is damaged
    except ConfigError as error:
        raise NoCard(no_card) from error
    found = kind.load(path)
    if not isinstance(found.info.get("card"), dict):
        raise NoCard(no_card)
    return kind, found


def so_far(card: Mapping[str, Any]) -> str:
    """How long it was trained: "after 3 of 100 epochs"."""
    if "steps" in card:
        return f"after {card['steps']:,} of {card['of_steps']:,} steps"
    steps = f" and {card['steps_of_next']} steps" if card["steps_of_next"] else ""
    return f"after {card['epochs']}{steps} of {card['of']} epochs"


def line(name: str, path: Path) -> str:
    """One line of the list of models."""
    kind, found = facts(path)
    with weights.understood(path):
        what, how_good = kind.short(found)
        return (
            f"{name:10} {found.info['data']['title']}, {what}, {so_far(found.card)}: {how_good}; "
            f"{found.card['parameters']:,} parameters, {path.stat().st_size / 1e6:.1f} MB"
        )


def text_of(path: Path) -> str:
    """The whole card, Markdown."""
    kind, found = facts(path)
    with weights.understood(path):
        return _text(kind, found, level=1)


def _text(kind: Kind, found: Facts, level: int) -> str:
    card, path = found.card, found.path
    is_wide = bool(weights.wide_weights(found.model))
    wide = ", frequencies of the slow networks in 32" if is_wide else ""
    rows = {
        "network": f"{type(found.model).__name__}, {card['parameters']:,} parameters; weights in "
        f"16 bits{wide}",
        "data": f"{text.markdown(found.info['data']['title'])}, {card['train_images']:,} training "
        f"{kind.examples}" + "".join(f"; {text.markdown(note)}" for note in card["notes"]),
        **kind.rows(found),
        "training": f"{so_far(card)}, seed {card['seed']}",
        "run": f"{text.markdown(found.info['run_id'])}, profile {card['profile']}",
        "trained by": "; ".join(map(_stretch, card["stretches"])) or "not known",
        "file made by": _commit(card["made"]) + f", {card['made']['date']}",
        "licence": f"{card['licence']} (of the weights; the images have their own)",
        "SHA-256": f"`{digests.of_file(path)}`",
    }
    head, *answers = kind.table(found)
    lines = [f"{'#' * level} {card['name']}", ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in answers]
    lines += ["", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "Trained by this command, but for where the data lie:", ""]
    lines += [
        "```",
        shlex.join(["python", "-m", "terminator", *training(kind, found.config)]),
        "```",
    ]
    return "\n".join(lines) + "\n"


def training(kind: Kind, config: Any) -> list[str]:
    """What follows `python -m terminator` for a training with these settings."""
    elsewhere = {("train", key) for key in WHERE_KEYS} | {("dataset", key) for key in READING_KEYS}
    return [kind.system.command, *kind.settings.words(config, kind.of_data | elsewhere)]


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
by hand, and what is said of a file below stands in the file. `python -m terminator models` lists
them, `python -m terminator card NAME` describes one, and `terminator.pretrained("NAME")` loads it
in Python. How to take a classifier to classes of your own: [own data](own-data.md).

| model | use it |
|---|---|
{uses}
"""


def page() -> str:
    """docs/models.md: the cards of all models of the package."""
    uses, parts = [], []
    for name in shipped.names():
        kind, found = facts(shipped.path(name))
        uses.append(f"| [{name}](#{name}) | `python -m terminator {kind.use.format(name=name)}` |")
        parts.append(_text(kind, found, level=2))
    return "\n".join([HEAD.format(uses="\n".join(uses)), *parts])
