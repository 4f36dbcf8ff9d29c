"""Figures with axes: training, spectra, frequencies, cost, branches, statistics, where the
parameters are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from torch import Tensor

from terminator.plots.lines import label_ends, line_look, line_looks
from terminator.plots.style import COLOURS, DASHES, MARKERS, new_figure
from terminator.runtime.text import figure as plain


def training(metrics: pd.DataFrame, title: str | None = None) -> Figure:
    """One run, epoch by epoch: accuracies on the left, the terms of the loss on the right."""
    figure = new_figure(8.2, 3.2, title)
    left, right = figure.subplots(1, 2)
    for i, (column, label) in enumerate(
        (("train_accuracy", "training"), ("test_accuracy", "test, as released"))
    ):
        left.plot(metrics["epoch"], metrics[column], label=label, **line_look(i))
    left.set(xlabel="epoch", ylabel="accuracy (%)")
    left.xaxis.get_major_locator().set_params(integer=True)
    _draw_loss_terms(right, metrics)
    figure.legend(loc="outside lower center", ncols=5)
    return figure


def loss_terms(metrics: pd.DataFrame, title: str | None = None) -> Figure:
    """Every term of the loss per epoch, on a log scale (columns epoch and the terms that were
    used).
    """
    figure = new_figure(6.0, 3.3, title)
    _draw_loss_terms(figure.subplots(), metrics)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _draw_loss_terms(axis, metrics: pd.DataFrame) -> None:
    names = ("cross_entropy", "slow_neural_loss", "norm_penalty")
    for i, name in enumerate(
        name for name in names if name in metrics and (metrics[name] > 0).any()
    ):
        axis.plot(metrics["epoch"], metrics[name], label=name.replace("_", " "), **line_look(i + 2))
    axis.set(xlabel="epoch", ylabel="loss term", yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)


def channel_kernels(
    before: Sequence[Tensor], after: Sequence[Tensor], title: str | None = None
) -> Figure:
    """Hyper-kernels over channels (1, 1, C), one panel per block, before and after training."""
    figure = new_figure(8.6, 2.7, title)
    axes = figure.subplots(1, len(before), sharey=True, squeeze=False)[0]
    for block, axis in enumerate(axes):
        for i, (label, kernels) in enumerate((("before training", before), ("after", after))):
            values = kernels[block].detach().flatten()
            axis.plot(
                range(1, len(values) + 1),
                values,
                MARKERS[i],
                color=COLOURS[i],
                markersize=2.5,
                linestyle="none",
                label=label if block == 0 else None,
            )
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_title(f"block {block + 1}", fontsize=9)
        axis.set_xlabel("channel")
    axes[0].set_ylabel("w")
    figure.legend(loc="outside lower center", ncols=2, markerscale=2)
    return figure


def radial_spectra(lines: Mapping[str, tuple[Tensor, Tensor]], title: str | None = None) -> Figure:
    """Relative power against frequency, {label: (cycles per image, power)}; white noise lies at
    1.
    """
    figure = new_figure(6.2, 3.4, title)
    axis = figure.subplots()
    axis.axhline(1.0, color="#888888", linewidth=0.9, linestyle=":")
    axis.annotate(
        "white noise",
        (1, 1),
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="#666666",
    )
    for i, (label, (frequency, power)) in enumerate(lines.items()):
        axis.plot(frequency, power.clamp_min(1e-6), label=label, **line_look(i))
    axis.set(xlabel="frequency (cycles per image)", ylabel="power, white noise: 1", yscale="log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _decades(axis) < 1 else "")
    axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _decades(axis) -> float:
    low, high = axis.get_ylim()
    return float(np.log10(high / low))


def frequencies(
    initial: Sequence[Tensor], seen: Sequence[Tensor], size: int, title: str | None = None
) -> Figure:
    """Initial frequencies per sinusoidal filter, and what a grid of `size` points makes of them
    (aliasing).
    """
    figure = new_figure(8.2, 2.9, title)
    left, right = figure.subplots(1, 2)
    nyquist = (size - 1) / 2
    top = max(float(values.max()) for values in initial)
    bins = np.logspace(np.log10(min(nyquist, top) / 30), np.log10(top), 40)
    for i, (drawn, folded) in enumerate(zip(initial, seen, strict=True)):
        look = {"color": COLOURS[i], "linestyle": DASHES[i], "linewidth": 1.6, "histtype": "step"}
        left.hist(drawn.numpy(), bins, label=f"filter {i}", **look)
        right.hist(folded.numpy(), np.linspace(0, nyquist, 16), density=True, **look)
    left.axvline(nyquist, color="black", linewidth=1)
    left.annotate(
        f"finest the {size}-point\ngrid can show",
        (nyquist, 1),
        (4, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    left.set(xscale="log", xlabel="frequency as drawn (cycles per image)", ylabel="weights A")
    left.legend(loc="center left")
    right.axhline(1 / nyquist, color="#888888", linewidth=1)
    right.annotate(
        "uniform", (0, 1 / nyquist), (4, 3), textcoords="offset points", fontsize=8, color="#666666"
    )
    right.set(
        xlabel="frequency as seen on the grid (cycles per image)",
        ylabel="density",
        xlim=(0, nyquist),
    )
    return figure


def cost(table: pd.DataFrame, title: str | None = None, highlight: Sequence[str] = ()) -> Figure:
    """Seconds and peak memory against the number of positions, per operator (columns of
    bench.operators.cost_table).

    Args:
        highlight: operators that are drawn in colour, all others in grey; every line then has its
            name at its end instead of a legend. Empty: all in colour.
    """
    few = table["operator"].nunique() < 5
    figure = new_figure(10.4 if highlight else 8.4, 3.4 if few else 4.2, title)
    left, right = figure.subplots(1, 2)
    looks = line_looks(list(dict.fromkeys(table["operator"])), highlight)
    ends: dict[Any, dict] = {left: {}, right: {}}
    for name, group in table.groupby("operator", sort=False):
        time, memory = 1e3 * group["seconds"], group["bytes"] / 2**20
        left.plot(group["positions"], time, label=plain(name), **looks[name])
        right.plot(group["positions"], memory, **looks[name])
        for axis, values in ((left, time), (right, memory)):
            measured = values.dropna()  # what was too large for this machine is left out
            if len(measured):
                last = measured.index[-1]
                ends[axis][name] = (group["positions"][last], measured[last])
    left.set(xscale="log", yscale="log", xlabel="positions", ylabel="time (ms)")
    right.set(xscale="log", yscale="log", xlabel="positions", ylabel="peak memory of tensors (MiB)")
    if not highlight:
        figure.legend(loc="outside lower center", ncols=2 if few else 4)
        return figure
    for axis, points in ends.items():
        label_ends(axis, points, looks)
    return figure


def growth(
    table: pd.DataFrame,
    column: str,
    label: str,
    powers: Mapping[str, float],
    title: str | None = None,
) -> Figure:
    """A cost against every axis along which it was measured, both scales logarithmic (columns of
    bench.growth.table).

    Args:
        column: of the table, e.g. ms.
        powers: fitted along each axis, drawn as a line through the largest size.
    """
    figure = new_figure(8.8, 3.2, title)
    for place, (axis, power) in zip(
        figure.subplots(1, len(powers), sharey=True), powers.items(), strict=True
    ):
        group = table[table["axis"] == axis].sort_values("amount")
        place.plot(group["amount"], group[column], label="measured", **line_look(0))
        ends = group[["amount", column]].iloc[[max(0, len(group) - 3), -1]].to_numpy()
        place.plot(
            ends[:, 0],
            ends[-1, 1] * (ends[:, 0] / ends[-1, 0]) ** power,
            color="#666666",
            linewidth=1,
            linestyle=":",
            marker="",
            label="fitted power",
        )
        place.set(xscale="log", yscale="log", xlabel=axis)
        place.set_xticks(
            group["amount"], [f"{amount:,}" for amount in group["amount"]], rotation=45, fontsize=8
        )
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_major_formatter("{x:,g}")
        place.minorticks_off()
        place.set_title(f"to the power {power:.2f}", fontsize=9)
    figure.axes[0].set_ylabel(label)
    figure.axes[0].legend(fontsize=8)
    return figure


def branch_heat(table: pd.DataFrame, column: str, label: str, title: str | None = None) -> Figure:
    """A number per block and branch, written into a heat map (columns block, branch and
    `column`).
    """
    wide = table.pivot(index="block", columns="branch", values=column)
    wide = wide[sorted(table["branch"].unique(), key=lambda name: -wide[name].mean())]
    figure = new_figure(0.78 * wide.shape[1] + 1.9, 0.42 * wide.shape[0] + 1.2, title)
    axis = figure.subplots()
    drawn = axis.imshow(wide, cmap="cividis", vmin=0, aspect="auto")
    middle = np.nanmax(wide.to_numpy()) / 2
    for (i, j), value in np.ndenumerate(wide.to_numpy()):
        text = "-" if np.isnan(value) else f"{value:.2f}"
        axis.text(
            j,
            i,
            text,
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if value < middle else "black",
        )
    axis.set_xticks(range(wide.shape[1]), [name.replace("_", "\n") for name in wide.columns])
    axis.set_yticks(range(wide.shape[0]), [f"block {b}" for b in wide.index])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(drawn, ax=axis, pad=0.015).set_label(label, fontsize=8.5)
    return figure


def group_means(means: Tensor, title: str | None = None) -> Figure:
    """Every image's mean over each channel group after G-IBS (N, groups): even groups batch, odd
    ones instance.
    """
    figure = new_figure(7.4, 3.0, title)
    axis = figure.subplots()
    spread = np.linspace(-0.28, 0.28, len(means))  # side by side, so that no image hides another
    for half, name in enumerate(("batch-standardised", "instance-standardised")):
        look = line_look(half)
        for group in range(half, means.shape[1], 2):
            axis.plot(
                group + spread,
                means[:, group],
                look["marker"],
                color=look["color"],
                markersize=2.8,
                alpha=0.6,
                linestyle="none",
                label=name if group == half else None,
            )
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xlabel="channel group", ylabel="mean of one image", xticks=range(means.shape[1]))
    axis.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=2, markerscale=2)
    return figure


PART_COLOURS = {  # blues: slow nets; warm colours and greys: fast
    "global slow net": "#0072B2",
    "channel slow nets": "#004C77",
    "spatial slow net": "#56B4E9",
    "local slow nets": "#9CC8E3",
    "RGUs": "#E69F00",
    "global operator": "#000000",
    "mixer": "#F0E442",
    "local branches": "#CC79A7",
    "bottleneck": "#D55E00",
    "scalars": "#777777",
    "classifier": "#444444",
}


def parts_bars(table: pd.DataFrame, column: str, label: str, title: str | None = None) -> Figure:
    """Parameters or operations per block, stacked by part; slow nets hatched (columns block, part,
    kind, `column`).
    """
    wide = table.pivot(index="part", columns="block", values=column).fillna(0)
    kinds = dict(zip(table["part"], table["kind"], strict=True))
    blocks = sorted(wide.columns, key=lambda b: (b == 0, b))
    figure = new_figure(8.2, 0.42 * len(blocks) + 1.2)
    axis = figure.subplots()
    axis.set_title(title or "")
    left = np.zeros(len(blocks))
    known = list(PART_COLOURS)
    for part in sorted(kinds, key=lambda p: known.index(p) if p in known else len(known)):
        values = wide.loc[part, blocks].to_numpy()
        axis.barh(
            range(len(blocks)),
            values,
            left=left,
            color=PART_COLOURS.get(part, "#999999"),
            edgecolor="white",
            linewidth=0.5,
            hatch="////" if kinds[part] == "slow" else None,
            label=part,
        )
        left += values
    axis.set_xlim(0, 1.03 * left.max())
    axis.set_yticks(range(len(blocks)), [f"block {b}" if b else "the rest" for b in blocks])
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(False, axis="y")
    figure.legend(loc="outside right upper", title="hatched: slow")
    return figure


def answers(
    released: Tensor, calibrated: Tensor, classes: Sequence[str], title: str | None = None
) -> Figure:
    """The logits of one image in several batches, as released (batches, classes), and its
    calibrated ones (classes).
    """
    figure = new_figure(7.4, 3.0, title)
    axis = figure.subplots()
    spread = np.linspace(-0.22, 0.22, len(released))
    for k in range(released.shape[1]):
        axis.plot(
            k + spread,
            released[:, k],
            MARKERS[0],
            color=COLOURS[0],
            markersize=3.5,
            alpha=0.7,
            linestyle="none",
            label="as released: one dot per batch" if k == 0 else None,
        )
    axis.plot(
        range(len(calibrated)),
        calibrated,
        MARKERS[3],
        color=COLOURS[1],
        markersize=7,
        linestyle="none",
        markerfacecolor="none",
        markeredgewidth=1.6,
        label="calibrated: in every batch",
    )
    axis.set_xticks(
        range(len(classes)), map(plain, classes), rotation=0 if max(map(len, classes)) < 4 else 35
    )
    axis.set(ylabel="logit", xlabel="class")
    axis.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
