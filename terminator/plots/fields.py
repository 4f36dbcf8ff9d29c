"""Figures of fields over positions: images, hyper-kernels, slow scores, spectra, dependence."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from terminator.plots.style import POSITIVE, SIGNED, new_figure
from terminator.runtime.text import figure as plain

# quantile of a row's absolute values that has the strongest colour; outliers would pale the rest
CLIP = 0.985
SMALL = 16  # pixels a side, below which a picture is confetti to the eye


class Row(NamedTuple):
    """One row of a grid of fields, which share their limits.

    Attributes:
        label: at the left.
        fields: (H, W) each, or (3, H, W) or (1, H, W) for kind "image".
        kind: "signed" (diverging map, centred on 0), "positive" (from 0 up) or "image".
        bar: what the colour bar measures.
    """

    label: str
    fields: Sequence[Tensor]
    kind: str = "signed"
    bar: str = ""


def field_grid(
    rows: Sequence[Row], titles: Sequence[str] = (), title: str | None = None, cell: float = 1.15
) -> Figure:
    """A grid of fields: common limits and one labelled colour bar per row; `titles` above the
    columns.

    Limits leave out the largest 1.5 % of a row's values, which the arrows of its colour bar say.
    """
    columns = max(len(row.fields) for row in rows)
    labels = max((len(line) for row in rows for line in row.label.split("\n")), default=0)
    width = columns * cell + 0.075 * labels + 0.95
    heads = max((text.count("\n") + 1 for text in titles), default=0)
    height = len(rows) * cell + 0.12 + 0.19 * heads + 0.35 * bool(title)
    figure = new_figure(max(width, 0.095 * len(title or "")), height, title)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(rows, axes, strict=True):
        _draw_row(figure, row, line)
    for axis, text in zip(axes[0], titles, strict=False):
        axis.set_title(plain(text), fontsize=9)
    return figure


def _draw_row(figure: Figure, row: Row, line: Sequence) -> None:
    for axis in line:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.grid(False)
    line[0].set_ylabel(plain(row.label), rotation=0, ha="right", va="center")
    for axis in line[len(row.fields) :]:
        axis.set_visible(False)
    values = [np.asarray(torch.as_tensor(field).detach().cpu().double()) for field in row.fields]
    if row.kind == "image":
        for axis, value in zip(line, values, strict=False):
            show_image(axis, value)
        return
    sizes = np.abs(np.concatenate([value.ravel() for value in values]))
    top = float(np.quantile(sizes, CLIP)) or float(sizes.max()) or 1.0
    low, colours = (-top, SIGNED) if row.kind == "signed" else (0.0, POSITIVE)
    for axis, value in zip(line, values, strict=False):
        drawn = axis.imshow(value, vmin=low, vmax=top, cmap=colours)
    ticks = [low, (low + top) / 2, top]
    bar = figure.colorbar(
        drawn,
        ax=list(line),
        shrink=0.85,
        pad=0.012,
        aspect=9,
        ticks=ticks,
        extend="neither" if sizes.max() <= top else "both" if low else "max",
    )
    bar.ax.set_yticklabels([f"{tick:.2g}" for tick in ticks], fontsize=7.5)
    bar.outline.set_visible(False)
    bar.set_label(row.bar, fontsize=8)


def show_image(axis, value: np.ndarray) -> None:
    """Draw (C, H, W) scaled to [0, 1]; one channel, or three equal ones, in grey. A picture of few
    pixels is drawn smoothly, for the eye: what a network sees of it stays as it is.
    """
    smooth = "bicubic" if value.shape[-1] < SMALL else "nearest"
    low, high = value.min(), value.max()
    value = (value - low) / ((high - low) or 1.0)
    if value.ndim == 2 or len(value) == 1 or (value == value[:1]).all():
        axis.imshow(
            value if value.ndim == 2 else value[0],
            cmap="gray",
            vmin=0,
            vmax=1,
            interpolation=smooth,
        )
    else:
        axis.imshow(value.transpose(1, 2, 0), interpolation=smooth)


def images(pictures: Tensor, titles: Sequence[str] = (), title: str | None = None) -> Figure:
    """A row of images (N, C, H, W)."""
    return field_grid([Row("", list(pictures), "image")], titles, title)


def beside_controls(
    pictures: Tensor,
    score: Tensor,
    sizes: Mapping[str, Tensor],
    titles: Sequence[str] = (),
    title: str | None = None,
) -> Figure:
    """Slow scores of one block below the images, and below them their sizes beside other maps.

    Args:
        pictures: (N, C, H, W).
        score: (N, H, W), signed.
        sizes: {name: (N, H, W)}, from 0 up; a scale of its own each.
        titles: above each image.
    """
    rows = [Row("image", list(pictures), "image"), Row("S", list(score), "signed", "S")]
    rows += [Row(name, list(field), "positive") for name, field in sizes.items()]
    return field_grid(rows, titles, title)


def slow_scores(
    pictures: Tensor, scores: Sequence[Tensor], titles: Sequence[str] = (), title: str | None = None
) -> Figure:
    """Pixel-level slow scores of every block below the images: S = W * Z, mean over channels, own
    scale per block.

    Args:
        pictures: (N, C, H, W).
        scores: per block (N, C_i, H, W).
        titles: above each image.
    """
    rows = [Row("image", list(pictures), "image")]
    rows += [
        Row(f"block {i}", list(score.mean(1)), "signed", "S")
        for i, score in enumerate(scores, start=1)
    ]
    return field_grid(rows, titles, title)


def hyper_kernels(
    kernels: Mapping[str, Sequence[Tensor]], channels: int = 5, title: str | None = None
) -> Figure:
    """The first channels of hyper-kernels W (1, C, H, W): a row per block and label, {label: kernel
    per block}.
    """
    blocks = len(next(iter(kernels.values())))
    rows = [
        Row(f"block {i + 1}\n{label}", list(kernel[i][0, :channels]), "signed", "W")
        for i in range(blocks)
        for label, kernel in kernels.items()
    ]
    return field_grid(rows, (), title, cell=0.85)


def local_kernels(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    names: tuple[str, str],
    channel: int = 0,
    title: str | None = None,
) -> Figure:
    """One channel of the local kernels {branch: (C, 1, k, k)} for two batches, and their
    difference.
    """
    rows = []
    for branch in sorted(first, key=lambda key: first[key].shape[-1]):
        a, b = first[branch][channel, 0], second[branch][channel, 0]
        rows.append(Row(f"{branch}, {len(a)}x{len(a)}", [a, b, b - a], "signed", "weight"))
    return field_grid(rows, [*names, "difference"], title)


def operator_steps(steps: Sequence[tuple[str, Tensor]], title: str | None = None) -> Figure:
    """The fields of one channel side by side, each on a scale of its own: [(what, (H, W)), ...]."""
    lines = max(text.count("\n") for text, _ in steps)
    figure = new_figure(1.75 * len(steps), 2.5 + 0.2 * lines, title)
    axes = figure.subplots(1, len(steps), squeeze=False)[0]
    for axis, (text, field) in zip(axes, steps, strict=True):
        _draw_signed(figure, axis, text, field)
    return figure


def _draw_signed(figure: Figure, axis, text: str, field: Tensor) -> None:
    """A signed field (H, W) with a scale and a colour bar of its own."""
    value = np.asarray(field.detach().cpu().double())
    top = float(np.abs(value).max()) or 1.0
    drawn = axis.imshow(value, vmin=-top, vmax=top, cmap=SIGNED)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.set_title(text, fontsize=9.5)
    ticks = [-top, 0, top]
    bar = figure.colorbar(
        drawn, ax=axis, orientation="horizontal", shrink=0.9, aspect=14, pad=0.03, ticks=ticks
    )
    bar.ax.set_xticklabels([f"{tick:.2g}" for tick in ticks], fontsize=7.5)
    bar.outline.set_visible(False)


def block_view(picture: Tensor, fields: Mapping[str, Tensor], title: str | None = None) -> Figure:
    """An image (C, H, W) and fields (H, W) of one block and channel beside it, each on a scale of
    its own.
    """
    figure = new_figure(1.9 * (len(fields) + 1), 2.6, title)
    axes = figure.subplots(1, len(fields) + 1, squeeze=False)[0]
    show_image(axes[0], np.asarray(picture.detach().cpu().double()))
    axes[0].set(xticks=[], yticks=[])
    axes[0].spines[:].set_visible(False)
    axes[0].set_title("image", fontsize=9.5)
    for axis, (text, field) in zip(axes[1:], fields.items(), strict=True):
        _draw_signed(figure, axis, text, field)
    return figure


def dependence_maps(
    maps: Mapping[str, Tensor], position: tuple[int, int], title: str | None = None
) -> Figure:
    """How strongly one output position (marked) depends on every input position: |Jacobian| on a
    log scale.
    """
    figure = new_figure(2.05 * len(maps) + 0.7, 2.75, title)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axis, (text, field) in zip(axes, maps.items(), strict=True):
        value = np.asarray(field.detach().cpu().double())
        value = value / value.max()
        shades = np.ma.masked_less_equal(np.log10(np.where(value > 0, value, 1e-300)), -300)
        axis.set_facecolor("white")
        drawn = axis.imshow(shades, vmin=-4, vmax=0, cmap=POSITIVE)
        axis.plot(
            position[1], position[0], marker="+", color="#D55E00", markersize=11, markeredgewidth=2
        )
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        for spine in axis.spines.values():
            spine.set(visible=True, color="#999999")
        axis.set_title(text, fontsize=9)
    bar = figure.colorbar(
        drawn, ax=list(axes), shrink=0.75, pad=0.015, ticks=range(-4, 1), extend="min"
    )
    bar.set_label("log10 of share of the largest\n(white: exactly none)", fontsize=8)
    return figure


def jacobians(maps: Mapping[str, Tensor], title: str | None = None) -> Figure:
    """|d out[t] / d z[s]| of maps of a sequence, (L, L) each: exactly 0 is white."""
    figure = new_figure(2.5 * len(maps) + 0.5, 3.35, title)
    axes = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    for axis, (text, field) in zip(axes, maps.items(), strict=True):
        value = np.asarray(field.detach().cpu().double())
        drawn = axis.imshow(
            np.ma.masked_equal(value / value.max(), 0.0), vmin=0, vmax=1, cmap=POSITIVE
        )
        axis.set(title=text, xlabel="input position s")
        axis.grid(False)
    axes[0].set_ylabel("output position t")
    bar = figure.colorbar(drawn, ax=list(axes), shrink=0.8, pad=0.015)
    bar.set_label("|d out / d in|, share of the largest", fontsize=8)
    return figure


def spectra(powers: Mapping[str, Tensor], title: str | None = None) -> Figure:
    """2-D power spectra (H, H) against white noise, which is white; zero frequency, grey, in the
    middle.
    """
    figure = new_figure(1.75 * len(powers) + 0.8, 2.75, title)
    axes = figure.subplots(1, len(powers), squeeze=False)[0]
    for axis, (text, power) in zip(axes, powers.items(), strict=True):
        value = np.asarray(power.detach().cpu().double())
        half = len(value) // 2
        level = np.log10(np.maximum(value * (value.size - 1), 1e-9))
        level = np.ma.masked_less(level, -8)  # the mean was taken off
        axis.set_facecolor("#bbbbbb")
        extent = (-half - 0.5, len(value) - half - 0.5, len(value) - half - 0.5, -half - 0.5)
        drawn = axis.imshow(level, vmin=-1, vmax=1, cmap=SIGNED, extent=extent)
        axis.set(title=text, xticks=[-half, 0, len(value) - 1 - half], yticks=[])
        axis.tick_params(labelsize=7.5)
        axis.grid(False)
    figure.supxlabel("cycles per image", fontsize=8.5)
    bar = figure.colorbar(
        drawn, ax=list(axes), shrink=0.75, pad=0.015, ticks=[-1, 0, 1], extend="both"
    )
    bar.set_label("log10 of power,\nwhite noise: 0", fontsize=8)
    return figure
