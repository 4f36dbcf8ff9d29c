"""Moving pictures of fields over training, as GIF files small enough for a notebook."""

import base64
import io
from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from terminator.plots.fields import CLIP, show_image
from terminator.plots.style import SIGNED, new_figure
from terminator.runtime.text import figure as plain
from terminator.runtime.text import html

PAUSE = 900  # milliseconds of a frame
COLOURS = 128  # of a file
LABEL = 16  # characters of a row's name in a line


class Gif(bytes):
    """A GIF file, which a notebook shows moving."""

    title = ""

    def _repr_html_(self) -> str:
        data = base64.b64encode(self).decode()
        return f'<img alt="{html(self.title)}" src="data:image/gif;base64,{data}">'

    def __repr__(self) -> str:
        return f"<moving picture: {self.title}>"


def fields_over_epochs(
    picture: Tensor,
    fields: Mapping[str, Mapping[int, Sequence[np.ndarray]]],
    columns: Sequence[str],
    title: str,
) -> Gif:
    """Signed fields, epoch by epoch: a row per label, a column per part, the picture at the left.

    Every field has one scale for all epochs, so that it can be seen to grow or fade; the scale of
    one field is not that of another.

    Args:
        picture: (C, H, W).
        fields: {label: {epoch: one (H, W) per column}}, the same epochs for each label.
        columns: what the parts are.
        title: to which the epoch is added.

    Raises:
        ValueError: if labels have other epochs than the first, or none.
    """
    epochs = list(next(iter(fields.values()), {}))
    for label, found in fields.items():
        if list(found) != epochs:
            raise ValueError(f"{label!r} has epochs {list(found)}; the first label has {epochs}")
    if not epochs:
        raise ValueError("fields has no epoch; at least one is needed")
    figure, drawn = _stage(picture, fields, columns, title)
    frames = []
    for epoch in epochs:
        for (label, column), image in drawn.items():
            image.set_data(fields[label][epoch][column])
        figure.suptitle(plain(f"{title}: epoch {epoch} of {epochs[-1]}"))
        frames.append(_frame(figure))
    return _gif(frames, title)


def _stage(
    picture: Tensor,
    fields: Mapping[str, Mapping[int, Sequence[np.ndarray]]],
    columns: Sequence[str],
    title: str,
) -> tuple[Figure, dict]:
    """The figure, and its images by label and column, with their scales."""
    figure = new_figure(1.15 * (len(columns) + 1) + 1.0, 1.3 * len(fields) + 0.55, title)
    axes = figure.subplots(len(fields), len(columns) + 1, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    drawn = {}
    for row, (label, of_epoch) in zip(axes, fields.items(), strict=True):
        show_image(row[0], np.asarray(picture.detach().cpu().double()))
        row[0].set_ylabel("\n".join(wrap(plain(label), LABEL)), fontsize=8.5)
        for column, axis in enumerate(row[1:]):
            values = np.concatenate([np.abs(f[column]).ravel() for f in of_epoch.values()])
            top = float(np.quantile(values, CLIP)) or 1.0
            start = next(iter(of_epoch.values()))[column]
            drawn[label, column] = axis.imshow(start, vmin=-top, vmax=top, cmap=SIGNED)
    for axis, text in zip(axes[0], ("image", *columns), strict=True):
        axis.set_title(plain(text), fontsize=9)
    return figure, drawn


def _frame(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _gif(frames: Sequence[Image.Image], title: str) -> Gif:
    """The frames as one file that begins anew after a longer rest."""
    strip = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
    palette = strip.quantize(COLOURS)  # one for all frames, or the picture would flicker
    reduced = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    pauses = [PAUSE] * (len(frames) - 1) + [2 * PAUSE]
    reduced[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=reduced[1:],
        duration=pauses,
        loop=0,
        optimize=True,
    )
    made = Gif(file.getvalue())
    made.title = title
    return made
