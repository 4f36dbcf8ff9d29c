"""What lines of a figure look like, and their names at their ends."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from terminator.plots.style import COLOURS, DASHES, MARKERS
from terminator.runtime.text import figure as plain

GREY = "#b0b0b0"  # of lines that stand behind
APART = 0.045  # of an axis' height, between two names


def line_look(index: int) -> dict:
    """Colour, dash and marker of line number `index`; no two of the first seven share one, later
    ones combine anew.
    """
    i, again = index % len(COLOURS), index // len(COLOURS)
    return {
        "color": COLOURS[i],
        "linestyle": DASHES[(i + again) % len(DASHES)],
        "marker": MARKERS[(i + 2 * again) % len(MARKERS)],
    }


def line_looks(names: Sequence[Any], highlight: Sequence[Any] = ()) -> dict[Any, dict]:
    """The look of every line: of the highlighted ones in colour and in front, of all others thin
    and grey.

    Args:
        names: of all lines.
        highlight: some of them, three at most; none: each has a colour of its own.

    Raises:
        ValueError: if a highlighted name is none of them, or there are more than three.
    """
    if not highlight:
        return {name: line_look(i) for i, name in enumerate(names)}
    if missing := [name for name in highlight if name not in names]:
        raise ValueError(f"highlight has {missing[0]!r}; allowed: {', '.join(map(str, names))}")
    if len(highlight) > 3:
        raise ValueError(f"highlight has {len(highlight)} names; allowed: three at most")
    others = [name for name in names if name not in highlight]
    few = len(others) <= len(DASHES)  # many are told apart by the names at their ends
    looks = {}
    for name in names:
        if name in highlight:
            looks[name] = line_look(list(highlight).index(name)) | {"zorder": 3.0}
        else:
            dash = DASHES[others.index(name)] if few else "-"
            looks[name] = {"color": GREY, "linestyle": dash, "marker": "none"}
            looks[name] |= {"linewidth": 0.9, "zorder": 1.5}
    return looks


def label_ends(
    axis: Any, ends: Mapping[Hashable, tuple[float, float]], looks: Mapping[Any, dict]
) -> None:
    """Write every line's name right of the axis, at the height of its last point, names moved
    apart where they would overlap.

    Args:
        axis: with its scales set and its lines drawn.
        ends: last point of every line, in data.
        looks: of every line, as line_looks makes them.
    """
    axis.margins(x=0.03, y=0.06)
    axis.autoscale_view()
    (_, top), (_, bottom) = axis.transAxes.transform([(0, 1), (0, 0)])
    shown = {k: p for k, p in ends.items() if np.isfinite(p).all()}
    at = {k: (axis.transData.transform(p)[1] - bottom) / (top - bottom) for k, p in shown.items()}
    names = sorted(at, key=at.__getitem__)
    heights = spread([at[name] for name in names], APART)
    for name, height in zip(names, heights, strict=True):
        x, y = shown[name]
        strong = looks[name]["color"] != GREY
        axis.annotate(
            plain(name),
            (x, y),
            (1.04, height),
            xycoords="data",
            textcoords="axes fraction",
            fontsize=8 if strong else 7,
            fontweight="bold" if strong else "normal",
            color=looks[name]["color"] if strong else "#666666",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#cccccc", "linewidth": 0.5, "shrinkB": 2},
        )


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Rising heights moved as little as possible until neighbours are `apart` from one another."""
    groups: list[list[float]] = []  # lowest height, how many
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1 and groups[-2][0] + groups[-2][1] * apart > groups[-1][0]:
            low, count = groups.pop()
            before, number = groups[-1]
            middle = (
                number * (before + (number - 1) * apart / 2)
                + count * (low + (count - 1) * apart / 2)
            ) / (number + count)
            groups[-1] = [middle - (number + count - 1) * apart / 2, number + count]
    return [low + i * apart for low, count in groups for i in range(int(count))]
