"""Figures of Hrrformer: capacity of superpositions, one attention taken apart, structure of its
weights.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from terminator.plots.fields import Row, field_grid
from terminator.plots.lines import line_look
from terminator.plots.style import COLOURS, MARKERS, SIGNED, new_figure


def capacity(table: pd.DataFrame, title: str | None = None) -> Figure:
    """Cosine to the right value and retrieval against the number of pairs: marks measured, lines
    theory.

    Args:
        table: of capacity.capacity_table; a row of panels per quantity, a panel per arm, a
            colour per width.
    """
    arms, widths = list(dict.fromkeys(table["arm"])), list(dict.fromkeys(table["width"]))
    figure = new_figure(0.9 + 2.65 * len(arms), 5.2, title)
    axes = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
    for column, arm in enumerate(arms):
        for i, width in enumerate(widths):
            part = table[(table["arm"] == arm) & (table["width"] == width)]
            for row, quantity in enumerate(("cosine", "accuracy")):
                axis, look = axes[row, column], {"color": COLOURS[i], "markersize": 4.5}
                axis.plot(
                    part["pairs"],
                    part[quantity],
                    MARKERS[i],
                    linestyle="none",
                    label=f"D = {width}",
                    **look,
                )
                axis.plot(
                    part["pairs"],
                    part[f"expected_{quantity}"],
                    color=COLOURS[i],
                    linewidth=1.2,
                    marker="none",
                    linestyle="-",
                )
        axes[0, column].set_title(arm, fontsize=9.5)
        axes[0, column].set_xscale("log", base=2)
        axes[0, column].set_ylim(-0.03, 1.05)
        axes[0, column].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[1, column].set_xlabel("pairs in the superposition")
    axes[0, 0].set_ylabel("cosine to the right value")
    axes[1, 0].set_ylabel("right value found (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    (line,) = axes[0, 0].plot([], [], color="#555555", linewidth=1.2, marker="none", linestyle="-")
    figure.legend(
        [*handles, line], [*labels, "theory"], loc="outside lower center", ncols=len(widths) + 1
    )
    return figure


def memory(superposition: Tensor, own: Tensor, other: Tensor, title: str | None = None) -> Figure:
    """The superposition of every head (h, D), and what a query gets back from it.

    Args:
        own: cosines (h, T) to the token's own value.
        other: a sample of cosines (h, M) to other tokens' values.
    """
    figure = new_figure(8.6, 3.1, title)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    values = np.asarray(superposition.detach().cpu().double())
    values = values / np.abs(values).max(1, keepdims=True)
    drawn = left.imshow(values, vmin=-1, vmax=1, cmap=SIGNED, aspect="auto")
    left.set_yticks(range(len(values)), [f"head {head + 1}" for head in range(len(values))])
    left.set(xlabel="component of the superposition", title="all keys * values, added up")
    left.grid(False)
    left.xaxis.get_major_locator().set_params(integer=True)
    bar = figure.colorbar(drawn, ax=left, pad=0.02, aspect=18, ticks=[-1, 0, 1])
    bar.set_label("share of the head's largest", fontsize=8)
    bins = np.linspace(-1, 1, 41)
    for i, (name, cosines) in enumerate((("its own value", own), ("another token's", other))):
        right.hist(
            np.asarray(cosines.detach().cpu().double()).ravel(),
            bins,
            density=True,
            histtype="step",
            linewidth=1.8,
            color=COLOURS[i],
            linestyle="-" if not i else "--",
            label=name,
        )
    right.axvline(0, color="#888888", linewidth=0.8)
    right.set(
        xlabel="cosine of what a query gets back to ...",
        ylabel="density",
        title="all heads together",
    )
    figure.legend(loc="outside lower right", ncols=2)
    return figure


def weight_maps(pictures: Sequence[Tensor], weights: Tensor, title: str | None = None) -> Figure:
    """Weights over images: the pictures (H, W) on top, below a row per head of T w - 1.

    Args:
        weights: T w (N, h, T) of the same images in reading order.
    """
    side = pictures[0].shape[-1]
    rows = [Row("image", list(pictures), "image")]
    for head in range(weights.shape[1]):
        fields = [weights[n, head].reshape(side, side) - 1 for n in range(len(pictures))]
        rows.append(Row(f"head {head + 1}", fields, "signed", "T w - 1"))
    return field_grid(rows, (), title, cell=1.0)


def mean_maps(maps: Mapping[str, Tensor], title: str | None = None) -> Figure:
    """Mean weight maps {network: T w (h, T)}: a row per network, a column per head, a scale of its
    own per network.
    """
    rows = []
    for label, values in maps.items():
        side = round(values.shape[-1] ** 0.5)
        fields = [value.reshape(side, side) - 1 for value in values]
        rows.append(Row(label.replace(", ", ",\n"), fields, "signed", "T w - 1"))
    heads = max(len(row.fields) for row in rows)
    return field_grid(rows, [f"head {head + 1}" for head in range(heads)], title, cell=1.05)


def autocorrelations(lines: Mapping[str, Tensor], row: int, title: str | None = None) -> Figure:
    """Autocorrelation of mean weight maps (h, lags) against the lag: mean and range over heads;
    dotted: whole rows.
    """
    figure = new_figure(7.6, 3.3, title)
    axis = figure.subplots()
    for i, (label, values) in enumerate(lines.items()):
        found, look = np.asarray(values.double()), line_look(i)
        lags = np.arange(found.shape[1])
        axis.plot(
            lags[1:], found.mean(0)[1:], label=label, **look | {"marker": "none", "linewidth": 1.3}
        )
        axis.fill_between(
            lags[1:],
            found.min(0)[1:],
            found.max(0)[1:],
            color=look["color"],
            alpha=0.12,
            linewidth=0,
        )
    for lag in range(row, found.shape[1], row):
        axis.axvline(lag, color="#888888", linewidth=0.8, linestyle=":")
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set(xlabel="lag (positions); dotted: whole rows", ylabel="autocorrelation of the mean map")
    figure.legend(loc="outside lower center", ncols=min(4, len(lines)))
    return figure
