"""Figures of Hamburger: features taken apart, errors per step, spectra, cost, samples of a GAN over
training.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from terminator.plots.charts import line_look
from terminator.plots.fields import Row, field_grid
from terminator.plots.style import new_figure
from terminator.runtime.text import figure as plain


def ham_parts(
    picture: Tensor, maps: Mapping[str, Tensor], shown: int = 6, title: str | None = None
) -> Figure:
    """An image (C, H, W), and for each ham how much of each base is at each position: {ham: (R, H,
    W)}.

    The bases with the largest maps, from left to right; the colours of a row share their limits.
    """
    rows = [Row("image", [picture], "image")]
    for name, fields in maps.items():
        kind = "positive" if float(fields.min()) >= 0 else "signed"
        rows.append(Row(name, list(fields[:shown]), kind, "coefficient"))
    return field_grid(rows, (), title, cell=1.05)


def bases(pictures: Mapping[str, Tensor], title: str | None = None) -> Figure:
    """The bases of several hams as small pictures {ham: (R, k, k)}, a row each; limits shared along
    a row.
    """
    rows = [
        Row(name, list(part), "positive" if float(part.min()) >= 0 else "signed", "entry")
        for name, part in pictures.items()
    ]
    return field_grid(rows, [f"base {i + 1}" for i in range(len(rows[0].fields))], title, cell=0.85)


def ham_errors(errors: pd.DataFrame, title: str | None = None) -> Figure:
    """Relative squared error against the steps K of each ham, beside the floor of the rank, on a
    log scale.

    Args:
        errors: columns ham, steps (-1: the start, drawn at the left), error, floor.
    """
    figure = new_figure(6.8, 3.6, title)
    axis = figure.subplots()
    names = list(errors["ham"].unique())
    steps = sorted(errors["steps"].unique())
    places = {step: i for i, step in enumerate(steps)}
    for i, name in enumerate(names):
        part = errors[errors["ham"] == name].sort_values("steps")
        axis.plot(part["steps"].map(places), part["error"], label=name, **line_look(i))
    axis.axhline(
        errors["floor"].iloc[0], color="black", linewidth=1, linestyle=":", label="truncated SVD"
    )
    axis.set_yscale("log")
    axis.set_yticks(ticks := [0.05, 0.1, 0.2, 0.5, 1.0], [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xticks(range(len(steps)), ["start" if step < 0 else f"{step}" for step in steps])
    axis.set(xlabel="steps K (not to scale)", ylabel="relative squared error")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def energy_curves(curves: Mapping[str, Sequence[float]], title: str | None = None) -> Figure:
    """Share of the energy in the leading singular values, {what: cumulative shares}; the first 32
    of them.
    """
    figure = new_figure(6.4, 3.3, title)
    axis = figure.subplots()
    for i, (name, values) in enumerate(curves.items()):
        shares = np.asarray(values, dtype=float)[:32]
        axis.plot(
            np.arange(1, len(shares) + 1), shares, label=name, **line_look(i) | {"markersize": 3}
        )
    axis.set(
        xlabel="singular values, from the largest", ylabel="share of the energy", ylim=(None, 1.02)
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def ham_cost(costs: pd.DataFrame, title: str | None = None) -> Figure:
    """Operations, time and memory against the number of positions, forward and backward pass, on
    log axes.
    """
    figure = new_figure(10.2, 3.7, title)
    axes = figure.subplots(1, 3)
    part = costs[costs["what"] == "training"]
    shown = (
        ("operations", 1e6, "million multiply-accumulates (forward)"),
        ("low", 1e-3, "ms (shortest of the repeats)"),
        ("bytes", 2**20, "peak memory (MiB)"),
    )
    for axis, (column, scale, name) in zip(axes, shown, strict=True):
        for i, (operator, group) in enumerate(part.groupby("operator", sort=False)):
            axis.plot(
                group["positions"],
                group[column] / scale,
                label=operator if column == "low" else None,
                **line_look(i),
            )
        axis.set(xscale="log", yscale="log", xlabel="positions N", ylabel=name)
    figure.legend(loc="outside lower center", ncols=5)
    return figure


def spread_lines(spread: pd.DataFrame, title: str | None = None) -> Figure:
    """Spread of the reconstruction over first bases against the steps K: columns ham, steps,
    spread.
    """
    figure = new_figure(6.0, 3.2, title)
    axis = figure.subplots()
    for i, (name, part) in enumerate(spread.groupby("ham", sort=False)):
        axis.plot(part["steps"], part["spread"].clip(lower=0), label=name, **line_look(i))
    axis.set(xscale="log", xlabel="steps K", ylabel="relative RMS spread", ylim=(-0.005, None))
    axis.set_xticks(ticks := sorted(spread["steps"].unique()), [str(tick) for tick in ticks])
    axis.minorticks_off()
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def gan_grids(grids: Mapping[str, Tensor], columns: int, title: str | None = None) -> Figure:
    """Samples of several networks {name: uint8 (rows * columns, C, H, W)}, each as one mosaic, side
    by side.
    """
    height = len(next(iter(grids.values()))) // columns
    figure = new_figure(len(grids) * (0.34 * columns + 0.25) + 0.2, 0.36 * height + 0.75, title)
    axes = figure.subplots(1, len(grids), squeeze=False)[0]
    for axis, (name, samples) in zip(axes, grids.items(), strict=True):
        n, c, h, w = samples.shape
        mosaic = (
            samples.reshape(n // columns, columns, c, h, w)
            .permute(0, 3, 1, 4, 2)
            .reshape(n // columns * h, columns * w, c)
            .numpy()
        )
        # a colour image needs no map
        axis.imshow(mosaic if c == 3 else mosaic[..., 0], cmap="gray", vmin=0, vmax=255)
        axis.set_title(plain(name), fontsize=8.5)
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    return figure


def sigma_curves(curves: Mapping[str, Sequence[pd.DataFrame]], title: str | None = None) -> Figure:
    """The size of the weight sigma of GANs' contexts over training: {what: a table per run, columns
    step, value}.
    """
    figure = new_figure(6.8, 3.4, title)
    axis = figure.subplots()
    for i, (name, frames) in enumerate(curves.items()):
        for run, frame in enumerate(frames):  # one label for all of a kind
            label = "_" * bool(run) + plain(name)
            axis.plot(frame["step"], frame["value"], label=label, **line_look(i))
    axis.set(xlabel="training step (a line per seed)", ylabel="|sigma|")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
