"""Highlighted lines and their names, the drawing of a block, moving pictures."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from terminator.classification.figures import over_epochs
from terminator.plots import animation, charts, curves, diagram, lines


def test_lines_behind_are_grey():
    looks = lines.line_looks(["a", "b", "c"], ["c"])
    assert looks["c"]["color"] == lines.COLOURS[0]
    assert looks["a"]["color"] == looks["b"]["color"] == lines.GREY
    assert lines.line_looks(["a", "b"]) == {"a": lines.line_look(0), "b": lines.line_look(1)}
    with pytest.raises(ValueError, match="'d'; allowed: a, b, c"):
        lines.line_looks(["a", "b", "c"], ["d"])
    with pytest.raises(ValueError, match="three at most"):
        lines.line_looks(list("abcd"), list("abcd"))


def test_names_are_moved_apart_as_little_as_needed():
    assert lines.spread([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert lines.spread([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    moved = lines.spread([0.1, 0.12, 0.2, 0.8], 0.1)
    assert np.diff(moved).min() >= 0.1 - 1e-9
    assert moved[3] == 0.8


def costs(count):
    rows = [
        {
            "operator": f"mixer {i}",
            "positions": n,
            "seconds": 1e-3 * n * (i + 1),
            "bytes": n * 2**10,
        }
        for i in range(count)
        for n in (16, 64, 256)
    ]
    return pd.DataFrame(rows)


def test_cost_with_highlights_names_every_line_inside_the_figure():
    table = costs(15)
    left_out = (table["operator"] == "mixer 14") & (table["positions"] == 256)
    table.loc[left_out, ["seconds", "bytes"]] = None  # too large
    figure = charts.cost(table, "cost", highlight=["mixer 3", "mixer 14"])
    assert not figure.legends
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in figure.axes:
        boxes = sorted(
            (Text.get_window_extent(text) for text in axis.texts), key=lambda box: box.y0
        )
        assert [text.get_text() for text in axis.texts if text.get_color() != "#666666"]
        assert len(boxes) == 15
        assert all(a.y1 <= b.y0 + 2 for a, b in zip(boxes, boxes[1:], strict=False))
        assert all(box.x1 <= figure.bbox.x1 and 0 <= box.y0 for box in boxes)
    assert charts.cost(costs(15)).legends


def test_tradeoff_with_highlights():
    table = pd.DataFrame(
        {"variant": list("abcd"), "accuracy": [1.0, 2, 3, 4], "sd": None, "cost": [1.0, 2, 2, 4]}
    )
    (axis,) = curves.tradeoff(table, "cost", highlight=["b"]).axes
    assert sorted(text.get_text() for text in axis.texts) == list("abcd")


def test_over_epochs_with_highlights():
    table = pd.DataFrame(
        [
            {"epoch": e, "value": e * i, "line": f"{i}", "panel": "p"}
            for e in (1, 2)
            for i in range(5)
        ]
    )
    (axis,) = over_epochs(table, "v", highlight=["4"]).axes
    colours = {line.get_label(): line.get_color() for line in axis.lines}
    assert colours == {str(i): lines.GREY for i in range(4)} | {"4": lines.COLOURS[0]}


def test_the_drawing_has_every_branch_and_no_overlap():
    figure = diagram.sfne_block("a block")
    (axis,) = figure.axes
    text = " ".join(text.get_text() for text in axis.texts)
    for name in ("fast", "mixed", "interacted", "hyper", "glu", "l_4", "skip 2", "G-IBS"):
        assert name in text
    edges = [
        (b.x - b.width / 2, b.x + b.width / 2, b.y - b.height / 2, b.y + b.height / 2)
        for b in diagram.BOXES.values()
    ]
    for i, a in enumerate(edges):
        for b in edges[:i]:
            assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
    FigureCanvasAgg(figure).draw()
    (x0, y0), (x1, y1) = axis.transAxes.transform([(0, 0), (1, 1)])
    for box, text in zip(diagram.BOXES.values(), axis.texts, strict=False):
        width, height = box.width / 16.0 * (x1 - x0), box.height / 8.6 * (y1 - y0)
        extent = text.get_window_extent()
        assert extent.width <= width, box.text
        assert extent.height <= height, box.text


def fields_of(epochs):
    draw = np.random.default_rng(0)
    return {epoch: [draw.normal(size=(8, 8)) for _ in range(3)] for epoch in epochs}


def test_a_moving_picture_has_a_frame_per_epoch():
    fields = {"with": fields_of((0, 1, 2)), "without": fields_of((0, 1, 2))}
    made = animation.fields_over_epochs(torch.rand(1, 8, 8), fields, ["a", "b", "c"], "Scores")
    with Image.open(io.BytesIO(made)) as file:
        assert (file.format, file.n_frames) == ("GIF", 3)
    assert len(made) < 200_000
    page = made._repr_html_()
    assert base64.b64decode(page.split("base64,")[1].split('"')[0]) == made
    assert "Scores" in repr(made)


def test_a_moving_picture_needs_the_same_epochs():
    fields = {"with": fields_of((0, 1)), "without": fields_of((0, 2))}
    with pytest.raises(ValueError, match=r"\[0, 2\]; the first label has \[0, 1\]"):
        animation.fields_over_epochs(torch.rand(1, 8, 8), fields, ["a", "b", "c"], "Scores")
    with pytest.raises(ValueError, match="no epoch"):
        animation.fields_over_epochs(torch.rand(1, 8, 8), {}, [], "Scores")
