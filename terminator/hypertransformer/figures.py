"""Figures of few-shot learning: episodes, generated filters, attention, accuracies of methods and
settings.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from terminator.plots.charts import line_look
from terminator.plots.fields import Row, field_grid
from terminator.plots.style import COLOURS, POSITIVE, new_figure
from terminator.runtime.text import figure as plain


def episode(
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    title: str | None = None,
) -> Figure:
    """One episode: support images (N, C, H, W) on top, the queries below, a column per label; n
    means no label.
    """
    ways = int(query_labels.max()) + 1
    rows = []
    for name, pictures, labels in (
        ("support", support, support_labels),
        ("query", query, query_labels),
    ):
        columns = [pictures[labels == label] for label in range(ways)]
        depth = min(map(len, columns))
        rows += [
            Row(name if not i else "", [column[i] for column in columns], "image")
            for i in range(depth)
        ]
    unlabelled = support[support_labels == ways]
    if len(unlabelled):
        rows.append(Row("support,\nno label", list(unlabelled[:ways]), "image"))
    return field_grid(rows, [f"label {label}" for label in range(ways)], title, cell=0.8)


def generated_filters(support: Tensor, filters: Tensor, title: str | None = None) -> Figure:
    """Support images (E, n, C, H, W) of some tasks, and the first-layer filters (E, O, k, k)
    generated from them.

    Below, by how much these differ from their mean over the tasks, on a scale of its own.
    """
    rows, mean = [], filters.mean(0)
    for number, (pictures, kernels) in enumerate(zip(support, filters, strict=True), start=1):
        rows.append(Row(f"task {number}, support", list(pictures), "image"))
        rows.append(Row("filters", list(kernels), "signed", "weight"))
        rows.append(Row("minus mean\nof the tasks", list(kernels - mean), "signed", "difference"))
    return field_grid(rows, (), title, cell=0.62)


def attention(
    maps: Mapping[str, Tensor], support: Tensor, labels: Sequence[str], title: str | None = None
) -> Figure:
    """Attention of weight placeholders (rows) to support images (columns), a panel per generated
    layer.

    Args:
        maps: {layer: (blocks, images)}.
        support: the images (N, C, H, W) in the same order.
        labels: of them.
    """
    count = len(maps)
    figure = new_figure(2.05 * count + 0.9, 3.4, title)
    grid = figure.subplots(2, count, squeeze=False, height_ratios=(1, 4.5))
    top = max(float(part.max()) for part in maps.values())
    strip = np.concatenate([np.asarray(image.mean(0)) for image in support], axis=1)
    for column, (name, part) in enumerate(maps.items()):
        head, axis = grid[0, column], grid[1, column]
        head.imshow(strip, cmap="gray", aspect="auto")
        head.set_title(f"{name}\n{part.shape[0]} placeholders", fontsize=8.5)
        drawn = axis.imshow(part.numpy(), vmin=0, vmax=top, cmap=POSITIVE, aspect="auto")
        axis.set_xticks(range(len(labels)), map(plain, labels), fontsize=7.5)
        axis.set_yticks([])
        for a in (head, axis):
            a.grid(False)
            a.spines[:].set_visible(False)
        head.set(xticks=[], yticks=[])
        axis.set_xlabel("label of the support image", fontsize=8)
    grid[1, 0].set_ylabel("placeholders")
    bar = figure.colorbar(drawn, ax=list(grid[1]), pad=0.012, aspect=22)
    bar.set_label("attention, mean over heads", fontsize=8)
    bar.outline.set_visible(False)
    return figure


def accuracy_dots(table: pd.DataFrame, chance: float, title: str | None = None) -> Figure:
    """A row per setting: unseen classes with 95 % interval over tasks (and sd over seeds), and
    training classes.

    Args:
        table: of fewshot.report.table (index setting; test, sd, interval, seeds, train classes).
        chance: in %.
    """
    figure = new_figure(7.6, 1.35 + 0.34 * len(table), title)
    axis = figure.subplots()
    heights = np.arange(len(table))
    axis.errorbar(
        table["test"],
        heights,
        xerr=table["interval"],
        fmt=line_look(0)["marker"],
        color=COLOURS[0],
        capsize=3,
        linestyle="none",
        label="unseen classes; bar: 95 % over tasks",
    )
    if table["sd"].notna().any():
        axis.errorbar(
            table["test"],
            heights,
            xerr=table["sd"].fillna(0),
            fmt="none",
            ecolor=COLOURS[0],
            alpha=0.35,
            elinewidth=5,
            label="thick: sd over seeds",
        )
    axis.plot(
        table["train classes"],
        heights,
        line_look(1)["marker"],
        color=COLOURS[1],
        linestyle="none",
        markerfacecolor="none",
        label="training classes",
    )
    axis.axvline(chance, color="black", linewidth=0.9, linestyle=":")
    axis.annotate(
        "chance",
        (chance, 1),
        (3, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    axis.set_yticks(heights, map(plain, table.index))
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.set_xlabel("accuracy (%)")
    axis.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def accuracy_lines(
    lines: Mapping[str, pd.DataFrame], x_label: str, chance: float, title: str | None = None
) -> Figure:
    """Accuracy against a setting, {label: table with columns x, test, a row per seed}: a small dot
    for each, a line through their means.
    """
    figure = new_figure(6.2, 3.2, title)
    axis = figure.subplots()
    for i, (label, frame) in enumerate(lines.items()):
        means = frame.groupby("x")["test"].mean()
        (line,) = axis.plot(means.index, means, label=label, **line_look(i))
        axis.plot(frame["x"], frame["test"], ".", color=line.get_color(), alpha=0.5)
    axis.axhline(chance, color="black", linewidth=0.9, linestyle=":", label="chance")
    axis.set(xlabel=x_label, ylabel="accuracy on unseen classes (%)")
    axis.set_xticks(sorted({x for frame in lines.values() for x in frame["x"]}))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def learning(frames: Mapping[str, pd.DataFrame], chance: float, title: str | None = None) -> Figure:
    """Accuracy against training steps, {label: table with columns step, accuracy}; the labels say
    of which classes.
    """
    figure = new_figure(6.6, 3.2, title)
    axis = figure.subplots()
    for i, (label, frame) in enumerate(frames.items()):
        axis.plot(frame["step"], frame["accuracy"], label=plain(label), **line_look(i))
    axis.axhline(chance, color="black", linewidth=0.9, linestyle=":", label="chance")
    axis.set(xlabel="training step", ylabel="accuracy while training (%)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def continual_tables(
    tables: Mapping[str, pd.DataFrame],
    chances: Mapping[str, Sequence[float]],
    title: str | None = None,
) -> Figure:
    """Lower triangles of accuracy (%): task in the column, after how many tasks in the row, a panel
    per reading.

    Args:
        chances: per reading, chance (%) in every row, written at its right.
    """
    size = len(next(iter(tables.values())))
    figure = new_figure(len(tables) * (0.72 * size + 1.5) + 0.4, 0.5 * size + 1.5, title)
    axes = figure.subplots(1, len(tables), squeeze=False)[0]
    for axis, (name, frame) in zip(axes, tables.items(), strict=True):
        values = frame.to_numpy(dtype=float)
        drawn = axis.imshow(values, vmin=0, vmax=100, cmap="cividis", aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                axis.text(
                    j,
                    i,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    color="white" if value < 55 else "black",
                )
        for i, chance in enumerate(chances[name]):
            axis.text(
                size - 0.4, i, f"chance {chance:.0f}", va="center", fontsize=7.5, color="#555555"
            )
        axis.set_xticks(range(size), [name.replace("task ", "") for name in frame.columns])
        axis.set_yticks(range(size), frame.index)
        axis.set_xlabel("accuracy on task")
        axis.set_title(name)
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    figure.colorbar(drawn, ax=list(axes), pad=0.11 if size < 4 else 0.08, aspect=18).set_label(
        "%", fontsize=8
    )
    return figure


def answers_grid(
    support: Tensor, query: Tensor, answers: Sequence[str], title: str | None = None
) -> Figure:
    """The support images (N, C, H, W) of a panel, and its queries (M, C, H, W) with the
    classifier's answers above.
    """
    rows = [Row("support", list(support), "image"), Row("query", list(query), "image")]
    figure = field_grid(rows, [f"label {i}" for i in range(len(support))], title, cell=0.85)
    for axis, text in zip(figure.axes[max(len(support), len(query)) :], answers, strict=False):
        axis.set_title(plain(text), fontsize=8)
    return figure
