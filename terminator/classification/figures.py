"""Figures of a training seen from inside: numbers over epochs in small multiples, distributions of
features; and slow scores over a picture.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from terminator.plots.lines import line_look, line_looks
from terminator.plots.style import SIGNED, new_figure
from terminator.runtime.text import figure as plain


def over_epochs(
    table: pd.DataFrame,
    label: str,
    reference: float | None = None,
    title: str | None = None,
    columns: int = 5,
    highlight: Sequence[str] = (),
) -> Figure:
    """A panel per `panel`, in it a line per `line`: the mean over seeds, and the band from least to
    most.

    Args:
        table: columns epoch, value, line and panel; a row per seed.
        label: what the value is.
        reference: a dotted level to compare with.
        columns: panels side by side.
        highlight: lines that are drawn in colour, all others in grey; empty: all in colour.

    Raises:
        ValueError: if a column is missing or there is no row; for a line that is not there.
    """
    if missing := {"epoch", "value", "line", "panel"} - set(table.columns):
        raise ValueError(
            f"table lacks {', '.join(sorted(missing))}; it has {', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise ValueError("table has no rows; at least one is needed")
    panels, lines = list(dict.fromkeys(table["panel"])), list(dict.fromkeys(table["line"]))
    looks = line_looks(lines, highlight)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width = max(4.6, 0.7 + (2.6 if columns < 4 else 1.75) * columns)
    figure = new_figure(width, 0.9 + 2.1 * rows, title)
    axes = figure.subplots(rows, columns, sharey=True, sharex=False, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for panel, axis in zip(panels, axes.flat, strict=False):
        _draw_lines(axis, table[table["panel"] == panel], looks)
        if reference is not None:
            axis.axhline(reference, color="#666666", linewidth=1.0, linestyle=":", zorder=1)
        axis.set_title(plain(panel), fontsize=9)
        axis.set_xlabel("epoch", fontsize=8.5)
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(label)
    handles = {
        text: handle
        for axis in axes.flat
        for handle, text in zip(*axis.get_legend_handles_labels())
    }
    columns = min(4, len(handles), int(width / 1.9))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
    return figure


def _draw_lines(axis, table: pd.DataFrame, looks: Mapping[str, dict]) -> None:
    for line, look in looks.items():
        values = table[table["line"] == line].groupby("epoch")["value"]
        if not len(values):
            continue
        mean = values.mean()
        axis.plot(mean.index, mean, label=plain(line), markevery=max(1, len(mean) // 8), **look)
        axis.fill_between(
            mean.index, values.min(), values.max(), color=look["color"], alpha=0.18, linewidth=0
        )


def ridgelines(
    histograms: Mapping[str, Mapping[int, np.ndarray]],
    edges: np.ndarray,
    label: str,
    title: str | None = None,
) -> Figure:
    """Distributions of features, a ridge per block and a shade per epoch: {panel: {epoch: (blocks,
    bins)}}.

    Every panel has a density scale of its own; what is higher than a ridge's space is cut.
    """
    blocks = max(len(field) for fields in histograms.values() for field in fields.values())
    figure = new_figure(0.6 + 2.9 * len(histograms), 1.5 + 0.5 * blocks, title)
    axes = figure.subplots(1, len(histograms), squeeze=False)[0]
    middle = (edges[1:] + edges[:-1]) / 2
    for axis, (panel, fields) in zip(axes, histograms.items(), strict=True):
        fields = {epoch: np.asarray(field, dtype=float) for epoch, field in fields.items()}
        top = float(np.median(np.concatenate(list(fields.values())).max(1))) * 1.5
        for i, (epoch, field) in enumerate(fields.items()):
            for block, density in enumerate(field):
                height = np.minimum(density / top, 0.95) - block
                axis.plot(
                    middle,
                    height,
                    **line_look(i) | {"marker": "none", "linewidth": 1.2},
                    label=f"epoch {epoch}" if block == 0 else None,
                )
        axis.axvline(0, color="#888888", linewidth=0.8)
        axis.set(
            title=plain(panel), xlabel=label, ylim=(-blocks + 0.9, 1.0), xlim=(edges[0], edges[-1])
        )
        count = len(next(iter(fields.values())))
        axis.set_yticks(range(0, -count, -1), [f"block {block}" for block in range(1, count + 1)])
        axis.grid(False, axis="y")
    handles = {
        text: handle for axis in axes for handle, text in zip(*axis.get_legend_handles_labels())
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles))
    )
    return figure


def scores_over(
    picture: np.ndarray, scores: Sequence[np.ndarray], title: str | None = None
) -> Figure:
    """A picture, and over it in grey the slow scores of every block: red above 0, blue below, the
    stronger the less is seen of the picture; each block has a scale of its own.

    Args:
        picture: (H, W, 3) uint8.
        scores: per block (h, w), spread over the whole picture.
    """
    columns = min(3, 1 + len(scores))
    rows = -(-(1 + len(scores)) // columns)
    figure = new_figure(2.6 * columns, 2.75 * rows + 0.3, title)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    grey = picture.mean(2)
    for axis in axes:
        axis.set_axis_off()
    axes[0].imshow(picture)
    axes[0].set_title("picture", fontsize=9)
    for number, (axis, score) in enumerate(zip(axes[1:], scores, strict=False), start=1):
        top = float(np.quantile(np.abs(score), 0.985)) or 1.0
        place = (-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5)
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
        strength = np.clip(np.abs(score) / top, 0, 1) * 0.8
        axis.imshow(score, cmap=SIGNED, vmin=-top, vmax=top, alpha=strength, extent=place)
        axis.set_title(f"slow scores, block {number}", fontsize=9)
    return figure
