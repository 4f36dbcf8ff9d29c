"""Figures of accuracies, made from run records and published numbers: curves over epochs, dots per
data set.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from terminator.plots.lines import label_ends, line_look, line_looks
from terminator.plots.style import new_figure
from terminator.runtime.text import figure as plain

Frames = pd.DataFrame | Sequence[pd.DataFrame]


def accuracy_curves(
    frames: Mapping[str, Frames],
    reference: Mapping[str, pd.DataFrame] | None = None,
    title: str | None = None,
) -> Figure:
    """Test accuracy per epoch: per label the mean line of the runs that have come so far, and the
    band from least to most where there are more (of one epoch: a line); the first label on top.

    Args:
        frames: {label: one table per run, or a list of them}, columns epoch and test_accuracy (%).
        reference: {label: table} of curves that are not ours, drawn in black without markers.

    Raises:
        ValueError: for a table without these columns or a label without runs.
    """
    figure = new_figure(7.4, 3.6, title)
    axis = figure.subplots()
    _draw_curves(axis, frames, reference or {}, "test_accuracy")
    axis.legend(loc="lower right")
    return figure


def learning_curves(frames: Mapping[str, Frames], title: str | None = None) -> Figure:
    """Accuracy on the training batches (left) and on the test images (right) per epoch; see
    accuracy_curves.
    """
    figure = new_figure(8.8, 3.7, title)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw_curves(left, frames, {}, "train_accuracy")
    _draw_curves(right, frames, {}, "test_accuracy")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_curves(
    axis, frames: Mapping[str, Frames], reference: Mapping[str, pd.DataFrame], column: str
) -> None:
    for i, (label, runs) in enumerate(frames.items()):
        table = _by_epoch(label, [runs] if isinstance(runs, pd.DataFrame) else list(runs), column)
        counts = table.notna().sum(axis=1)  # runs may have come unequally far
        least, most = counts.min(), counts.max()
        look = line_look(i)
        seeds = "one seed" if most == 1 else f"n = {most} seeds"
        seeds = seeds if least == most else f"n = {least} to {most} seeds"
        axis.plot(
            table.index,
            table.mean(axis=1),
            label=f"{plain(label)} ({seeds})",
            markevery=max(1, len(table) // 12),
            zorder=3 - i / len(frames),  # the first on top: it is what the figure is about
            **look,
        )
        several = table[counts > 1]
        low, high = several.min(axis=1), several.max(axis=1)
        if len(several) == 1:  # a band of no width
            axis.vlines(several.index, low, high, color=look["color"])
        elif len(several):
            axis.fill_between(
                several.index, low, high, color=look["color"], alpha=0.18, linewidth=0
            )
    for i, (label, frame) in enumerate(reference.items()):
        table = _by_epoch(label, [frame], column)
        axis.plot(
            table.index,
            table.iloc[:, 0],
            color=("black", "#777777")[i % 2],
            marker="none",
            linewidth=1.2,
            linestyle=line_look(i)["linestyle"],
            label=plain(label),
        )
    axis.set(
        xlabel="epoch", ylabel=f"{'test' if column == 'test_accuracy' else 'training'} accuracy (%)"
    )
    axis.xaxis.get_major_locator().set_params(integer=True)


def _by_epoch(label: str, runs: Sequence[pd.DataFrame], column: str) -> pd.DataFrame:
    """Accuracy with a row per epoch and a column per run."""
    if not runs:
        raise ValueError(f"{label!r} has no runs; at least one table is needed")
    for run in runs:
        _require_columns(f"a table of {label!r}", run, ("epoch", column))
    return pd.concat([run.set_index("epoch")[column] for run in runs], axis=1)


def rate_sweep(table: pd.DataFrame, title: str | None = None) -> Figure:
    """Accuracy on held-out images against the learning rate, a line per candidate, its chosen rate
    ringed.

    Args:
        table: columns candidate, rate, accuracy (%), chosen (comparison.rate_table).
    """
    _require_columns("table", table, ("candidate", "rate", "accuracy", "chosen"))
    figure = new_figure(7.4, 3.6, title)
    axis = figure.subplots()
    for i, (name, group) in enumerate(table.groupby("candidate", sort=False)):
        axis.plot(group["rate"], group["accuracy"], label=plain(name), **line_look(i))
    best = table[table["chosen"]]
    axis.plot(
        best["rate"],
        best["accuracy"],
        "o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor="black",
        linestyle="none",
        label="chosen",
    )
    axis.set(
        xscale="log",
        xlabel="peak learning rate",
        ylabel="accuracy on held-out\ntraining images (%)",
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def difference_dots(
    table: pd.DataFrame, kinds: Mapping[str, str], title: str | None = None
) -> Figure:
    """Difference of every variant to the reference (points): dot, 95 % interval; better or worse
    ones are filled.

    Args:
        table: comparison.difference_table, the reference's row included.
        kinds: {variant: kind}, which decides order, colour and marker; rows without a kind (the
            reference) and without runs are left out.
    """
    _require_columns("table", table, ("variant", "difference", "low", "high", "clear"))
    rows = table[table["variant"].isin(kinds) & table["difference"].notna()]
    names = list(dict.fromkeys(kinds.values()))
    rows = rows.assign(order=rows["variant"].map(kinds).map(names.index)).sort_values(
        ["order", "difference"]
    )
    figure = new_figure(7.8, 1.5 + 0.27 * max(len(rows), 1), title)
    axis = figure.subplots()
    axis.axvline(0, color="black", linewidth=0.8)
    heights = dict(zip(rows["variant"], range(len(rows)), strict=True))
    for i, name in enumerate(names):
        look = line_look(i)
        group = rows[rows["order"] == i]
        at = group["variant"].map(heights)
        axis.errorbar(
            group["difference"],
            at,
            xerr=[
                (group["difference"] - group["low"]).fillna(0.0),
                (group["high"] - group["difference"]).fillna(0.0),
            ],
            fmt="none",
            capsize=3,
            ecolor=look["color"],
            linewidth=1.2,
        )
        for clear, fill in ((True, look["color"]), (False, "white")):
            part = group["clear"] == clear
            axis.plot(
                group["difference"][part],
                at[part],
                look["marker"],
                color=look["color"],
                linestyle="none",
                markerfacecolor=fill,
                markersize=6,
            )
        if len(group):
            axis.plot([], [], look["marker"], color=look["color"], linestyle="none", label=name)
    axis.set_yticks(range(len(rows)), rows["variant"].map(plain))
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel(
        "difference in test accuracy (points)\nbars: 95 % interval; filled: better or worse"
    )
    axis.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def accuracy_bars(
    table: pd.DataFrame, published: pd.DataFrame | None = None, title: str | None = None
) -> Figure:
    """Mean ± standard deviation over seeds per setting, both evaluations; published results in rows
    of their own.

    Args:
        table: as summary_table makes it (dataset, image_size, train_images, epochs, seeds,
            released, released_sd, calibrated, calibrated_sd); may be empty.
        published: rows of literature.csv (dataset, model, epoch, value in %); each model's last
            epoch is shown.

    Raises:
        ValueError: if a column is missing.
    """
    figure = new_figure(8.4, 4.0, title)
    axis = figure.subplots()
    rows = _draw_ours(axis, table) if len(table) else []
    if published is not None and len(published):
        rows += _draw_published(axis, published, len(rows))
    axis.set_yticks(range(len(rows)), map(plain, rows))
    axis.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axis.set_xlabel("test accuracy (%); bars: standard deviation over seeds")
    axis.grid(False, axis="y")
    figure.set_figheight(1.7 + 0.55 * max(len(rows), 1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _require_columns(name: str, frame: pd.DataFrame, needed: Sequence[str]) -> None:
    if missing := [column for column in needed if column not in frame.columns]:
        raise ValueError(
            f"{name} lacks {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}"
        )


def _draw_ours(axis, table: pd.DataFrame) -> list[str]:
    """Two dots per setting, as released and calibrated; returns the labels of the rows."""
    protocols = ("released", "calibrated")
    _require_columns(
        "table",
        table,
        (
            "dataset",
            "image_size",
            "train_images",
            "epochs",
            "seeds",
            *protocols,
            *(f"{p}_sd" for p in protocols),
        ),
    )
    for i, protocol in enumerate(protocols):
        heights = np.arange(len(table)) + 0.26 * i - 0.13
        spread = table[f"{protocol}_sd"].astype(float).fillna(0.0)
        look = line_look(i)
        axis.errorbar(
            table[protocol],
            heights,
            xerr=spread,
            fmt=look["marker"],
            color=look["color"],
            capsize=3,
            markersize=6,
            linestyle="none",
            label="ours, as released" if i == 0 else "ours, calibrated",
        )
    return [
        f"{r.dataset}\n{r.image_size} px, {r.train_images:,} images, {r.epochs} epochs, n = "
        f"{r.seeds}"
        for r in table.itertuples()
    ]


def _draw_published(axis, published: pd.DataFrame, start: int) -> list[str]:
    """An open mark per model in a row per data set; returns the labels of the rows."""
    _require_columns("published", published, ("dataset", "model", "epoch", "value"))
    last = published.assign(epoch=published["epoch"].astype(float).fillna(0.0)).sort_values(
        "epoch", kind="stable"
    )
    last = last.drop_duplicates(["dataset", "model"], keep="last")
    datasets, models = (
        list(dict.fromkeys(published["dataset"])),
        list(dict.fromkeys(published["model"])),
    )
    for i, model in enumerate(models):
        rows = last[last["model"] == model]
        shift = 0.14 * (i - (len(models) - 1) / 2)  # else equal values would hide one another
        axis.plot(
            rows["value"],
            [start + datasets.index(d) + shift for d in rows["dataset"]],
            marker="sD^vXP<>"[i % 8],
            markersize=8,
            color="black",
            markerfacecolor="none",
            linestyle="none",
            label=plain(f"{model}, published"),
        )
    return [f"{name}\npublished" for name in datasets]


def tradeoff(
    table: pd.DataFrame, label: str, title: str | None = None, highlight: Sequence[str] = ()
) -> Figure:
    """Accuracy against a cost, a mark per variant with its standard deviation (columns variant,
    accuracy, sd, cost).

    Args:
        highlight: variants that are drawn in colour, all others in grey; every mark then has its
            name beside it instead of a legend. Empty: all in colour.
    """
    _require_columns("table", table, ("variant", "accuracy", "sd", "cost"))
    figure = new_figure(7.6, 3.8, title)
    axis = figure.subplots()
    looks = line_looks(list(table["variant"]), highlight)
    for row in table.itertuples():
        look = looks[row.variant]
        axis.errorbar(
            row.cost,
            row.accuracy,
            yerr=0.0 if pd.isna(row.sd) else row.sd,
            fmt=look["marker"] if look["marker"] != "none" else "o",
            color=look["color"],
            capsize=3,
            markersize=7,
            label=plain(row.variant),
        )
    axis.set(xscale="log", xlabel=label, ylabel="test accuracy (%)")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    if highlight:
        ends = {row.variant: (row.cost, row.accuracy) for row in table.itertuples()}
        label_ends(axis, ends, looks)
    else:
        figure.legend(loc="outside right upper")
    return figure
