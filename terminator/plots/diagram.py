"""A drawing of one SFNE block: what is made of its input, in the paper's symbols.

Blue: made by slow networks from coordinates; orange: made from activations; black: the operator.
Source: arXiv 2401.17948; the steps are those of terminator/sfne.py.
"""

from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from terminator.plots.style import new_figure

_LOOKS = {  # kind: fill, edge
    "slow": ("#d6e8f5", "#0072B2"),
    "fast": ("#fbe6d5", "#D55E00"),
    "operator": ("#e6e6e6", "#000000"),
    "plain": ("#ffffff", "#777777"),
}


class Box(NamedTuple):
    """A box of the drawing: its middle, its size, what stands in it, its kind in _LOOKS."""

    x: float
    y: float
    width: float
    height: float
    text: str
    kind: str


_TALL, _LOW = 0.74, 0.62
BOXES = {
    "coordinates": Box(1.0, 7.9, 1.5, _TALL, "coordinates\n$c\\in[-1,1]^2$", "plain"),
    "x": Box(1.0, 4.3, 1.5, 0.9, "input $x$\n$(N,C,H,W)$", "plain"),
    "kernel": Box(3.6, 7.9, 2.3, _TALL, "global slow net\nhyper-kernel $W$", "slow"),
    "score": Box(3.6, 6.6, 2.3, _TALL, "slow score\n$S=W\\odot x$", "operator"),
    "mixed": Box(3.6, 4.3, 2.3, _TALL, "mixed\n$\\mathrm{IS}(Mx+m)$", "fast"),
    "interacted": Box(
        3.6,
        3.2,
        2.3,
        _TALL,
        "interacted\n$\\mathrm{IS}(x\\odot\\sigma((w\\odot\\bar x)\\odot\\bar x))$",
        "fast",
    ),
    "local": Box(
        3.6,
        1.1,
        2.3,
        0.9,
        "local slow nets: $K_1\\ldots K_4$\nfrom coordinates and\nthe context of the batch",
        "slow",
    ),
    "fast": Box(
        6.75, 6.0, 2.2, _TALL, "fast, $\\mathrm{IS}(\\mathrm{RGU}(S)$\n$+\\mathrm{RGU}(x))$", "fast"
    ),
    "o": Box(9.7, 7.55, 2.1, _LOW, "$o=S\\cdot\\mathrm{fast}$", "operator"),
    "glu": Box(9.7, 6.8, 2.1, _LOW, "glu $=\\sigma(o)\\odot o$", "fast"),
    "fast_out": Box(9.7, 6.05, 2.1, _LOW, "fast", "fast"),
    "o_mixed": Box(9.7, 5.3, 2.1, _LOW, "$o_x=S\\cdot\\mathrm{mixed}$", "operator"),
    "o_interacted": Box(9.7, 4.55, 2.1, _LOW, "$o_c=S\\cdot\\mathrm{interacted}$", "operator"),
    "hyper": Box(
        9.7, 3.8, 2.1, _LOW, "hyper, $x\\odot\\sigma(s_s s_c)$\nwith scores of $o$", "fast"
    ),
    "locals": Box(
        9.7,
        2.3,
        2.1,
        1.3,
        "$l_1:K_1*$ interacted\n$l_2:K_2*x$,  $l_3:K_3*x$\n$l_4:K_4*$ mixed\nmix, BS, GELU",
        "fast",
    ),
    "skips": Box(9.7, 0.95, 2.1, _LOW, "skip 1, skip 2, tiled", "plain"),
    "concatenate": Box(11.75, 4.3, 0.62, 7.3, "concatenate: $10C$ to $12C$ channels", "plain"),
    "bottleneck": Box(
        13.25,
        4.3,
        1.35,
        2.3,
        "bottleneck\nto $fC$\nchannels\n$\\downarrow$\nG-IBS, GELU\n+ scalar",
        "fast",
    ),
    "output": Box(15.1, 4.3, 1.35, 0.9, "output\n$(N,fC,H,W)$", "plain"),
}
_OUT = ("o", "glu", "fast_out", "o_mixed", "o_interacted", "hyper", "locals", "skips")
ARROWS = (  # from, to
    ("coordinates", "kernel"),
    ("x", "score"),
    ("x", "mixed"),
    ("x", "interacted"),
    ("x", "local"),
    ("kernel", "score"),
    ("score", "fast"),
    ("score", "o"),
    ("o", "glu"),
    ("fast", "o"),
    ("fast", "fast_out"),
    ("mixed", "o_mixed"),
    ("interacted", "o_interacted"),
    ("local", "locals"),
    ("bottleneck", "output"),
    ("concatenate", "bottleneck"),
)


def sfne_block(title: str | None = None) -> Figure:
    """One SFNE block as boxes and arrows, input left, output right."""
    figure = new_figure(11.6, 6.3, title)
    axis = figure.subplots()
    axis.set(xlim=(0.0, 16.0), ylim=(0.0, 8.6))
    axis.set_axis_off()
    for box in BOXES.values():
        _draw_box(axis, box)
    for start, end in ARROWS:
        _draw_arrow(axis, BOXES[start], BOXES[end])
    for name in _OUT:
        _line(axis, _right(BOXES[name]), (_left(BOXES["concatenate"])[0], BOXES[name].y))
    for kind, text, x in (
        ("slow", "from coordinates (slow)", 3.6),
        ("fast", "from activations (fast)", 7.0),
        ("operator", "HyperZ.Z.W operator", 10.4),
    ):
        _draw_box(axis, Box(x, 0.2, 0.35, 0.24, "", kind))
        axis.text(x + 0.3, 0.2, text, fontsize=8.5, va="center")
    return figure


def _draw_box(axis: Any, box: Box) -> None:
    fill, edge = _LOOKS[box.kind]
    patch = FancyBboxPatch(
        (box.x - box.width / 2, box.y - box.height / 2),
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=fill,
        edgecolor=edge,
        linewidth=1.1,
        zorder=2,
    )
    axis.add_patch(patch)
    upright = box.height > 3
    axis.text(
        box.x,
        box.y,
        box.text,
        ha="center",
        va="center",
        fontsize=8.5,
        rotation=90 if upright else 0,
        zorder=3,
    )


def _right(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y


def _left(box: Box) -> tuple[float, float]:
    return box.x - box.width / 2, box.y


def _draw_arrow(axis: Any, start: Box, end: Box) -> None:
    """From the right side to the left one; downwards where a box stands below the other."""
    if start.x == end.x:
        _line(axis, (start.x, start.y - start.height / 2), (end.x, end.y + end.height / 2))
    else:
        _line(axis, _right(start), _left(end))


def _line(axis: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = FancyArrowPatch(
        start,
        end,
        arrowstyle="-|>",
        mutation_scale=9,
        linewidth=0.9,
        color="#555555",
        shrinkA=0,
        shrinkB=0,
        zorder=1,
    )
    axis.add_patch(arrow)
