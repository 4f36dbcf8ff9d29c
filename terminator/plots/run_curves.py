"""A training of any system at a glance: accuracies, terms of the loss, learning rate, and the rest,
epoch by epoch.
"""

import pandas as pd
from matplotlib.figure import Figure

from terminator.plots.lines import line_look
from terminator.plots.style import new_figure
from terminator.runtime.text import figure as plain

_PERCENT = ("accuracy", "miou", "right_class")
_LOSS = ("loss", "entropy", "penalty")
_NO_CURVE = ("epoch", "seconds", "interval", "_per_s")  # how columns end that are none


def run_curves(rows: pd.DataFrame, title: str | None = None) -> Figure:
    """Panels of what a run's rows have: percentages, terms of the loss, learning rate, the rest.

    Args:
        rows: a column `epoch`, and any others that a loop writes down.

    Raises:
        ValueError: without a row, or without a column to draw.
    """
    panels = _panels(rows)
    if rows.empty or not panels:
        raise ValueError("rows has nothing to draw: at least one epoch with one number is needed")
    figure = new_figure(3.4 * len(panels) + 0.6, 3.8, title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (label, columns) in zip(axes, panels.items(), strict=True):
        for i, name in enumerate(columns):
            axis.plot(
                rows["epoch"],
                rows[name],
                label=plain(name.replace("_", " ")),
                markevery=max(1, len(rows) // 12),
                **line_look(i),
            )
        if label == "loss" and (rows[columns] > 0).all(axis=None):
            axis.set_yscale("log")
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if len(columns) > 1:
            axis.legend(fontsize=7.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    return figure


def _panels(rows: pd.DataFrame) -> dict[str, list[str]]:
    """{what is measured: its columns}, without panels that would be empty."""
    found: dict[str, list[str]] = {"%": [], "loss": [], "learning rate": [], "others": []}
    for name in rows.columns:
        if name.endswith(_NO_CURVE) or not pd.api.types.is_numeric_dtype(rows[name]):
            continue
        if any(word in name for word in _LOSS):
            found["loss"].append(name)
        elif any(word in name for word in _PERCENT):
            found["%"].append(name)
        else:
            found["learning rate" if name == "lr" else "others"].append(name)
    return {label: columns for label, columns in found.items() if columns}
