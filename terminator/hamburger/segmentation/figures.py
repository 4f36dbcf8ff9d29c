"""Figures of segmentation: label maps beside pictures, mIoU of arms and classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from terminator.plots.charts import line_look
from terminator.plots.style import COLOURS, new_figure
from terminator.runtime.text import figure as plain

# where nothing counts; a class of that name
VOID, BACKGROUND = ((0.82, 0.82, 0.82), (0.16, 0.16, 0.2))
# CamVid's classes in their order: what things look like, where they look like something; lightness
# differs as well
STREET = (
    "#8ecae6",
    "#8d6e63",
    "#f4a261",
    "#5c5470",
    "#cdb4db",
    "#2a7f3f",
    "#ffd60a",
    "#b5651d",
    "#1d4ed8",
    "#e63946",
    "#ff8fab",
)


def class_colours(count: int) -> list[tuple[float, float, float]]:
    """As many colours as classes, as different as can be."""
    if count == len(STREET):
        return [to_rgb(colour) for colour in STREET]
    if count < len(COLOURS) + 2:
        return [to_rgb(colour) for colour in (*COLOURS, "#999999")[:count]]
    from matplotlib import colormaps

    return [tuple(colormaps["tab20"](i % 20)[:3]) if i else (0.1, 0.1, 0.1) for i in range(count)]


def _colours_of(classes: Sequence[str]) -> list[tuple[float, float, float]]:
    colours = class_colours(len(classes))
    return [BACKGROUND, *colours[1:]] if classes[0] == "background" else colours


def coloured(labels: Tensor, colours: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """A label map (H, W) as a picture (H, W, 3); labels beyond the classes in grey."""
    table = np.array([*colours, VOID])
    return table[np.minimum(labels.cpu().numpy(), len(colours))]


def segmentations(
    images: Tensor,
    labels: Tensor,
    predicted: Mapping[str, Tensor],
    classes: Sequence[str],
    title: str | None = None,
) -> Figure:
    """Pictures, their labels and every model's answers, a row each, with a legend of the classes
    that occur.

    Args:
        images: uint8 (N, C, H, W), of more than three channels the first three.
        labels: (N, H, W).
        predicted: {row: (N, H, W)}.
    """
    count, (height, width) = len(images), images.shape[2:]
    cell = 1.75
    shown = {"picture": None, "labels": labels, **predicted}
    wide = count * cell + 0.5 + 0.08 * max(len(name) for name in shown)
    figure = new_figure(wide, len(shown) * cell * height / width + 1.1 + 0.3 * bool(title), title)
    axes = figure.subplots(len(shown), count, squeeze=False)
    colours = _colours_of(classes)
    for line, (name, maps) in zip(axes, shown.items(), strict=True):
        for i, axis in enumerate(line):
            picture = (
                images[i, :3].permute(1, 2, 0).numpy()
                if maps is None
                else coloured(maps[i], colours)
            )
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(plain(name), rotation=0, ha="right", va="center")
    occurring = sorted({int(i) for part in (labels, *predicted.values()) for i in part.unique()})
    handles = [
        Patch(color=colours[i], label=plain(classes[i])) for i in occurring if i < len(classes)
    ]
    handles += [Patch(color=VOID, label="not counted")] * any(i >= len(classes) for i in occurring)
    room = 0.75 + 0.075 * max(len(handle.get_label()) for handle in handles)  # inches for an entry
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(wide / room))),
    )
    return figure


def labelled_photograph(
    photograph: np.ndarray, labels: Tensor, classes: Sequence[str], title: str | None = None
) -> Figure:
    """A photograph beside its labels, with a legend of the classes that occur, the largest first.

    Args:
        photograph: uint8 (H, W, 3).
        labels: (H, W).
    """
    height, width = labels.shape
    figure = new_figure(8.4, 0.8 + 3.4 * min(1.6, height / width), title)
    colours = _colours_of(classes)
    for axis, picture in zip(
        figure.subplots(1, 2), (photograph, coloured(labels, colours)), strict=True
    ):
        axis.imshow(picture)
        axis.set_axis_off()
    shares = labels.flatten().bincount(minlength=len(classes)) / labels.numel()
    order = [i for i in shares.argsort(descending=True).tolist() if shares[i] > 0]
    figure.legend(
        handles=[
            Patch(color=colours[i], label=f"{plain(classes[i])} {100 * shares[i]:.0f} %")
            for i in order
        ],
        loc="outside lower center",
        ncols=4,
    )
    return figure


def miou_dots(table: pd.DataFrame, title: str | None = None) -> Figure:
    """A row per arm: mean mIoU with the standard deviation over seeds.

    Args:
        table: of segmentation.report.table (index arm; miou, sd, seeds).
    """
    figure = new_figure(7.0, 1.2 + 0.29 * len(table), title)
    axis = figure.subplots()
    heights = np.arange(len(table))
    least, most = int(table["seeds"].min()), int(table["seeds"].max())
    seeds = f"{most}" if least == most else f"{least} to {most}"
    label = f"mean of {seeds} seeds; bar: their standard deviation" if most > 1 else "one seed"
    axis.errorbar(
        table["miou"],
        heights,
        xerr=table["sd"].fillna(0),
        fmt=line_look(0)["marker"],
        color=COLOURS[0],
        capsize=3,
        linestyle="none",
        label=label,
    )
    for height, value in zip(heights, table["miou"], strict=True):
        axis.annotate(
            f"{value:.1f}",
            (value, height),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
        )
    axis.set_yticks(heights, map(plain, table.index))
    axis.set_ylim(len(table) - 0.5, -0.7)
    axis.margins(x=0.08)
    axis.set_xlabel("mean intersection over union (%)")
    axis.grid(False, axis="y")
    figure.legend(loc="outside lower center")
    return figure


def class_ious(table: pd.DataFrame, spread: pd.DataFrame, title: str | None = None) -> Figure:
    """Intersection over union of every class, a bar per arm; a line on it: the deviation of seeds.

    Args:
        table, spread: of segmentation.report.class_tables (index class, a column per arm).
    """
    figure = new_figure(max(6.0, 0.62 * len(table) + 1.2), 3.3, title)
    axis = figure.subplots()
    places, width = np.arange(len(table)), 0.8 / len(table.columns)
    for i, name in enumerate(table):
        axis.bar(
            places + (i - (len(table.columns) - 1) / 2) * width,
            table[name],
            width * 0.94,
            yerr=None if spread[name].isna().all() else spread[name],
            error_kw={"elinewidth": 1, "capsize": 2},
            color=COLOURS[i],
            label=plain(name),
        )
    axis.set_xticks(places, map(plain, table.index), rotation=35, ha="right")
    axis.set_ylabel("intersection over union (%)")
    axis.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
