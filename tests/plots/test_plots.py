"""Figures: what is drawn is what was given, signed fields are centred, files come out the same each
time.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import terminator
from terminator.classification import analysis
from terminator.hrrformer import figures
from terminator.plots import charts, curves, style
from terminator.plots import fields as plots_fields

PACKAGE = Path(terminator.__file__).parent


@pytest.fixture(autouse=True)
def in_style():
    with matplotlib.rc_context():
        style.style()
        yield


def image_limits(figure):
    """(low, high) of every drawn field, colour bars left out."""
    return [axis.images[0].get_clim() for axis in figure.axes if axis.images]


def texts(figure):
    """Labels of all legends of a figure."""
    legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def metrics(epochs=3, offset=0.0):
    return pd.DataFrame(
        {
            "epoch": range(1, epochs + 1),
            "test_accuracy": [90.0 + offset + e for e in range(epochs)],
            "train_accuracy": [80.0 + e for e in range(epochs)],
            "cross_entropy": [1 / (e + 1) for e in range(epochs)],
            "slow_neural_loss": [0.1] * epochs,
            "norm_penalty": [0.0] * epochs,
        }
    )


# -- the house rule: matplotlib in plots only, and no files read there


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_matplotlib_is_imported_by_plots_only():
    users = {
        path
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "matplotlib" for name in imported_modules(path))
    }
    assert users
    assert all(path.parent == PACKAGE / "plots" or path.name == "figures.py" for path in users)


def test_plots_knows_nothing_above_or_beside_it():
    allowed = ("terminator.plots", "terminator.runtime.paths", "terminator.runtime.text")
    names = {name for path in (PACKAGE / "plots").glob("*.py") for name in imported_modules(path)}
    assert {
        name for name in names if name.startswith("terminator") and not name.startswith(allowed)
    } == set()


def test_the_rest_of_the_package_does_not_load_matplotlib():
    code = "import sys, terminator.model, terminator.classification.analysis; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- style and files


def test_lines_differ_without_colour():
    cycle = list(matplotlib.rcParams["axes.prop_cycle"])
    assert (
        len({(str(look["linestyle"]), look["marker"]) for look in cycle})
        == len(cycle)
        == len(style.COLOURS)
        == 7
    )


def test_save_writes_the_same_bytes_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    folder, seen = tmp_path / "figures" / "smoke", []
    for _ in range(2):
        figure = curves.accuracy_curves({"ours": metrics()}, title="one")
        assert style.save(figure, "curves", "smoke") is figure
        seen.append([(folder / f"curves.{suffix}").read_bytes() for suffix in ("png", "svg")])
    assert seen[0] == seen[1]
    assert seen[0][0].startswith(b"\x89PNG")
    assert b"<svg" in seen[0][1]
    assert b"<dc:date>" not in seen[0][1]
    assert sorted(os.listdir(folder)) == ["curves.png", "curves.svg"]  # no temporary file is left


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    style.save(charts.loss_terms(metrics()), "loss", "smoke")
    old = (tmp_path / "figures/smoke/loss.png").read_bytes()

    def broken(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        style.save(charts.loss_terms(metrics()), "loss", "smoke")
    assert (tmp_path / "figures/smoke/loss.png").read_bytes() == old
    assert sorted(os.listdir(tmp_path / "figures/smoke")) == ["loss.png", "loss.svg"]


# -- fields


def test_signed_rows_are_centred_on_zero_and_share_limits():
    first, second = torch.full((4, 4), -1.0), torch.full((4, 4), 3.0)
    limits = image_limits(
        plots_fields.field_grid(
            [plots_fields.Row("a", [first, second]), plots_fields.Row("b", [second], "positive")]
        )
    )
    assert limits[:2] == [(-3.0, 3.0)] * 2
    assert limits[2] == (0.0, 3.0)


def test_outliers_are_clipped_and_the_bar_says_so():
    field = torch.linspace(-1, 1, 400).reshape(20, 20)
    field[0, 0] = 100.0
    figure = plots_fields.field_grid([plots_fields.Row("a", [field])])
    assert image_limits(figure)[0][1] < 1.0
    bars = [axis.images or axis.collections for axis in figure.axes]
    assert len(bars) == 2
    assert figure.axes[0].images[0].colorbar.extend == "both"
    assert (
        plots_fields.field_grid([plots_fields.Row("a", [torch.ones(2, 2)])])
        .axes[0]
        .images[0]
        .colorbar.extend
        == "neither"
    )


def test_a_field_of_zeros_can_be_drawn():
    low, high = image_limits(
        plots_fields.field_grid([plots_fields.Row("nothing", [torch.zeros(3, 3)])])
    )[0]
    assert low == -high < 0


def test_images_are_grey_or_coloured():
    grey = torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert plots_fields.images(grey).axes[0].images[0].get_array().shape == (4, 4)
    assert plots_fields.images(torch.rand(2, 3, 4, 4)).axes[1].images[0].get_array().shape == (
        4,
        4,
        3,
    )


def test_slow_scores_show_the_mean_over_channels_below_each_image():
    scores = [torch.randn(3, channels, 5, 5) for channels in (3, 12)]
    figure = plots_fields.slow_scores(torch.rand(3, 3, 5, 5), scores, ["a", "b", "c"], "scores")
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(drawn) >= 9
    assert np.allclose(drawn[3 + 3 + 1], scores[1][1].mean(0), atol=1e-6)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["a", "b", "c"]
    assert [axis.get_ylabel() for axis in figure.axes[:9:3]] == ["image", "block 1", "block 2"]


def test_short_rows_hide_what_they_lack():
    kernels = [torch.randn(1, 3, 4, 4), torch.randn(1, 12, 4, 4)]
    figure = plots_fields.hyper_kernels({"before": kernels, "after": kernels}, channels=5)
    assert (
        sum(axis.get_visible() and bool(axis.images) for axis in figure.axes[:20]) == 2 * 3 + 2 * 5
    )


def test_local_kernels_show_the_difference():
    first, second = (
        {"l1": torch.randn(2, 1, 3, 3), "l2": torch.randn(2, 1, 9, 9)} for _ in range(2)
    )
    figure = plots_fields.local_kernels(first, second, ("A", "B"), channel=1)
    assert np.allclose(figure.axes[2].images[0].get_array(), (second["l1"] - first["l1"])[1, 0])


def test_steps_have_scales_of_their_own():
    figure = plots_fields.operator_steps(
        [("Z", torch.full((3, 3), 2.0)), ("W", torch.full((3, 3), -0.5))]
    )
    assert image_limits(figure)[:2] == [(-2.0, 2.0), (-0.5, 0.5)]


def test_dependence_marks_none_as_blank():
    field = torch.tensor([[0.0, 1.0], [0.01, 0.0]])
    drawn = plots_fields.dependence_maps({"map": field}, (0, 1)).axes[0].images[0].get_array()
    assert drawn.mask.tolist() == [[True, False], [False, True]]
    assert drawn[1, 0] == pytest.approx(-2)


def test_jacobians_and_spectra_draw_one_panel_each():
    figure = plots_fields.jacobians({"a": torch.eye(4), "b": torch.ones(4, 4)})
    assert [axis.get_title() for axis in figure.axes[:2]] == ["a", "b"]
    noise = torch.full((8, 8), 1 / 63)
    drawn = plots_fields.spectra({"white": noise, "other": noise}).axes[0].images[0].get_array()
    assert np.allclose(drawn, 0, atol=1e-6)


# -- charts


def test_training_shows_the_terms_that_were_used():
    figure = charts.training(metrics(), "run")
    assert {"training", "test, as released", "cross entropy", "slow neural loss"} <= set(
        texts(figure)
    )
    assert "norm penalty" not in texts(figure)  # it was 0 throughout
    assert texts(charts.loss_terms(metrics())) == ["cross entropy", "slow neural loss"]


def test_spectrum_lines_keep_their_numbers():
    frequency, power = torch.arange(1, 5), torch.tensor([1.0, 2.0, 0.5, 0.1])
    lines = charts.radial_spectra({"one": (frequency, power)}).axes[0].lines
    assert any(
        len(line.get_ydata()) == 4 and np.allclose(line.get_ydata(), power) for line in lines
    )


def test_frequencies_and_channel_kernels_draw():
    drawn = [torch.rand(50) * 1000 + 1 for _ in range(3)]
    figure = charts.frequencies(drawn, [analysis.folded(f, 8) for f in drawn], 8)
    assert figure.axes[1].get_xlim() == (0, 3.5)
    kernels = [torch.randn(1, 1, 3), torch.randn(1, 1, 12)]
    figure = charts.channel_kernels(kernels, kernels)
    assert [axis.get_title() for axis in figure.axes] == ["block 1", "block 2"]


def test_cost_has_a_line_per_operator():
    table = pd.DataFrame(
        {
            "operator": ["a", "a", "b", "b"],
            "positions": [64, 256] * 2,
            "seconds": [1e-3] * 4,
            "bytes": [2**20] * 4,
        }
    )
    figure = charts.cost(table)
    assert texts(figure) == ["a", "b"]
    assert np.allclose(figure.axes[0].lines[0].get_ydata(), 1.0)  # ms
    assert np.allclose(figure.axes[1].lines[1].get_ydata(), 1.0)  # MiB


def test_heat_map_writes_numbers_and_dashes():
    table = pd.DataFrame(
        {"block": [1, 1, 2], "branch": ["o", "fast", "fast"], "rms": [0.25, 1.0, 2.0]}
    )
    written = [text.get_text() for text in charts.branch_heat(table, "rms", "rms").axes[0].texts]
    assert sorted(written) == ["-", "0.25", "1.00", "2.00"]


def test_parts_add_up_and_slow_ones_are_hatched():
    table = pd.DataFrame(
        {
            "block": [1, 1, 0],
            "part": ["global slow net", "bottleneck", "classifier"],
            "kind": ["slow", "fast", "fast"],
            "parameters": [10, 30, 5],
        }
    )
    axis = charts.parts_bars(table, "parameters", "n").axes[0]
    assert sum(patch.get_width() for patch in axis.patches) == 45
    assert {patch.get_hatch() for patch in axis.patches if patch.get_width() == 10} == {"////"}
    assert [label.get_text() for label in axis.get_yticklabels()] == ["block 1", "the rest"]


def test_group_means_and_answers_show_every_value():
    axis = charts.group_means(torch.randn(7, 12)).axes[0]
    assert sum(len(line.get_ydata()) for line in axis.lines[:12]) == 7 * 12
    axis = charts.answers(torch.randn(5, 3), torch.randn(3), ["cat", "dog", "frog"]).axes[0]
    assert sum(len(line.get_ydata()) for line in axis.lines) == 5 * 3 + 3
    assert [label.get_text() for label in axis.get_xticklabels()] == ["cat", "dog", "frog"]


# -- results


def test_curves_show_mean_and_band_over_seeds():
    figure = curves.accuracy_curves(
        {"ours": [metrics(), metrics(offset=2.0)], "single": metrics()},
        {"theirs": metrics(5)},
        "accuracy",
    )
    axis = figure.axes[0]
    assert texts(figure) == ["ours (n = 2 seeds)", "single (one seed)", "theirs"]
    assert np.allclose(axis.lines[0].get_ydata(), [91, 92, 93])
    assert len(axis.collections) == 1  # a band for the two seeds only
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (90.0, 94.0)


def test_seeds_that_came_unequally_far_are_counted_and_spread_where_there_are_several():
    frames = [
        pd.DataFrame({"epoch": [1, 2][:n], "test_accuracy": [50.0 + n, 60.0][:n]})
        for n in (1, 1, 2)
    ]
    frames[1]["test_accuracy"] += 4
    figure = curves.accuracy_curves({"ours": frames})
    (axis,) = figure.axes
    assert texts(figure) == ["ours (n = 1 to 3 seeds)"]
    assert axis.lines[0].get_ydata()[1] == 60.0
    (spread,) = axis.collections  # of the first epoch alone: a line
    (segment,) = spread.get_segments()
    assert segment[:, 0].tolist() == [1, 1]
    assert segment[:, 1].tolist() == [51, 55]


def test_seeds_of_one_epoch_show_their_spread_and_the_first_curve_lies_on_top():
    one = [metrics(1), metrics(1, offset=2.0)]
    axis = curves.accuracy_curves({"ours": one, "single": metrics()}).axes[0]
    (spread,) = axis.collections
    assert spread.get_segments()[0].tolist() == [[1.0, 90.0], [1.0, 92.0]]
    ours, single = axis.lines
    assert ours.get_zorder() > single.get_zorder()


def test_curves_of_unequal_length_keep_all_epochs():
    figure = curves.accuracy_curves({"ours": [metrics(2), metrics(4)]})
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2, 3, 4]


def test_curves_refuse_what_they_cannot_read():
    with pytest.raises(ValueError, match="'ours' lacks test_accuracy; it has epoch"):
        curves.accuracy_curves({"ours": pd.DataFrame({"epoch": [1]})})
    with pytest.raises(ValueError, match="'ours' has no runs"):
        curves.accuracy_curves({"ours": []})


def summary(**changes):
    row = {
        "dataset": "digits (8x8)",
        "image_size": 8,
        "train_images": 1437,
        "epochs": 6,
        "seeds": 3,
        "released": 98.0,
        "released_sd": 0.5,
        "calibrated": 98.5,
        "calibrated_sd": None,
    }
    return pd.DataFrame([row | changes])


PUBLISHED = pd.DataFrame(
    {
        "dataset": ["CIFAR-10", "CIFAR-10", "STL-10"],
        "model": ["T", "T", "C"],
        "epoch": [1, 100, None],
        "value": [61.0, 95.3, 81.8],
    }
)


def test_bars_show_ours_and_the_last_published_epoch():
    figure = curves.accuracy_bars(summary(), PUBLISHED, "all")
    axis = figure.axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == [
        "digits (8x8)\n8 px, 1,437 images, 6 epochs, n = 3",
        "CIFAR-10\npublished",
        "STL-10\npublished",
    ]
    values = {float(x) for line in axis.lines for x in np.atleast_1d(line.get_xdata())}
    assert {98.0, 98.5, 95.3, 81.8} <= values
    assert 61.0 not in values
    assert {"ours, as released", "ours, calibrated", "T, published", "C, published"} == set(
        texts(figure)
    )


def test_bars_without_runs_or_without_published_numbers():
    assert len(curves.accuracy_bars(summary().iloc[:0], PUBLISHED).axes[0].get_yticklabels()) == 2
    assert len(curves.accuracy_bars(summary()).axes[0].get_yticklabels()) == 1
    with pytest.raises(ValueError, match="published lacks value"):
        curves.accuracy_bars(summary(), PUBLISHED.drop(columns="value"))
    with pytest.raises(ValueError, match="table lacks seeds"):
        curves.accuracy_bars(summary().drop(columns="seeds"))


def test_every_public_figure_can_be_saved_small(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    style.save(
        plots_fields.slow_scores(torch.rand(2, 3, 8, 8), [torch.randn(2, 3, 8, 8)], ["0", "1"]),
        "scores",
        "smoke",
    )
    assert 2_000 < (tmp_path / "figures/smoke/scores.png").stat().st_size < 200_000


# -- comparisons


def test_learning_curves_show_training_left_and_test_right():
    figure = curves.learning_curves({"a": [metrics(), metrics(offset=2.0)], "b": metrics()})
    left, right = figure.axes
    assert left.get_ylabel() == "training accuracy (%)"
    assert right.get_ylabel() == "test accuracy (%)"
    assert list(left.lines[0].get_ydata()) == [80, 81, 82]
    assert list(right.lines[0].get_ydata()) == [91, 92, 93]  # the mean of two runs
    assert len(right.collections) == 1  # one band: only "a" has two runs
    assert texts(figure) == ["a (n = 2 seeds)", "b (one seed)"]


def test_rate_sweep_rings_what_was_chosen():
    table = pd.DataFrame(
        {
            "candidate": ["a", "a", "b"],
            "rate": [0.1, 0.2, 0.1],
            "accuracy": [1.0, 2.0, 3.0],
            "chosen": [False, True, True],
        }
    )
    figure = curves.rate_sweep(table)
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    assert [list(line.get_xdata()) for line in axis.lines] == [[0.1, 0.2], [0.1], [0.2, 0.1]]
    assert texts(figure) == ["a", "b", "chosen"]
    with pytest.raises(ValueError, match="table lacks chosen"):
        curves.rate_sweep(table.drop(columns="chosen"))


def test_difference_dots_are_sorted_within_kinds_and_filled_where_clear():
    table = pd.DataFrame(
        {
            "variant": ["full", "x", "y", "z", "gone"],
            "difference": [0.0, 1.0, -5.0, 2.0, np.nan],
            "low": [np.nan, -1.0, -7.0, np.nan, np.nan],
            "high": [np.nan, 3.0, -3.0, np.nan, np.nan],
            "clear": [False, False, True, False, False],
        }
    )
    figure = curves.difference_dots(
        table, {"z": "second", "x": "first", "y": "first", "gone": "first"} | {}
    )
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["z", "y", "x"]
    assert texts(figure) == ["second", "first"]
    filled = {
        float(line.get_xdata()[0]): line.get_markerfacecolor() != "white"
        for line in axis.lines
        if line.get_marker() in "os^Dv" and len(line.get_xdata()) == 1
    }
    assert filled == {-5.0: True, 1.0: False, 2.0: False}


def test_the_lines_of_a_crowded_figure_all_differ():
    from terminator.plots.lines import line_look

    looks = {tuple(map(str, line_look(i).values())) for i in range(14)}
    assert len(looks) == 14


def test_accuracy_against_cost():
    table = pd.DataFrame(
        {"variant": ["a", "b"], "accuracy": [90.0, 80.0], "sd": [1.0, None], "cost": [0.5, 50.0]}
    )
    figure = curves.tradeoff(table, "ms")
    (axis,) = figure.axes
    assert texts(figure) == ["a", "b"]
    marks = [container.lines[0].get_xydata().tolist() for container in axis.containers]
    assert marks == [[[0.5, 90.0]], [[50.0, 80.0]]]
    with pytest.raises(ValueError, match="lacks cost"):
        curves.tradeoff(table.drop(columns="cost"), "ms")


# -- Hrrformer -------------------------------------------------------------------------------------


def test_capacity_has_a_panel_per_arm_and_a_mark_per_case():
    table = pd.DataFrame(
        [
            {
                "arm": arm,
                "width": width,
                "pairs": n,
                "cosine": 1 / n,
                "accuracy": 100 / n,
                "expected_cosine": 0.5,
                "expected_accuracy": 50.0,
            }
            for arm in ("a", "b")
            for width in (16, 64)
            for n in (1, 2, 4)
        ]
    )
    figure = figures.capacity(table)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "", ""]
    marks, theory = figure.axes[0].lines[:2]
    assert marks.get_xydata().tolist() == [[1, 1], [2, 0.5], [4, 0.25]]
    assert theory.get_ydata().tolist() == [0.5] * 3
    assert texts(figure) == ["D = 16", "D = 64", "theory"]


def test_memory_shows_every_head_and_both_kinds_of_cosines():
    figure = figures.memory(torch.randn(3, 8), torch.rand(3, 20), -torch.rand(3, 30))
    assert figure.axes[0].images[0].get_array().shape == (3, 8)
    assert image_limits(figure)[0] == (-1, 1)
    assert texts(figure) == ["its own value", "another token's"]
    own, other = figure.axes[1].patches
    assert (
        own.get_xy()[:, 0][own.get_xy()[:, 1] > 0].min()
        >= 0
        >= other.get_xy()[:, 0][other.get_xy()[:, 1] > 0].max()
    )


def test_weight_maps_are_centred_on_equal_weights():
    weights = 1 + torch.randn(2, 3, 16) / 10
    figure = figures.weight_maps([torch.rand(4, 4)] * 2, weights)
    fields = [axis.images[0] for axis in figure.axes if axis.images]
    # after the two pictures
    assert np.allclose(fields[2].get_array(), weights[0, 0].reshape(4, 4) - 1, atol=1e-6)
    low, high = fields[2].get_clim()
    assert low == -high
    means = figures.mean_maps({"trained": weights[0], "untrained": weights[1]})
    fields = [axis.images[0] for axis in means.axes if axis.images]
    assert len(fields) == 6
    assert np.allclose(fields[3].get_array(), weights[1, 0].reshape(4, 4) - 1, atol=1e-6)


def test_autocorrelations_mark_whole_rows():
    figure = figures.autocorrelations({"a": torch.rand(2, 10), "b": torch.rand(2, 10)}, row=4)
    (axis,) = figure.axes
    dotted = [
        line.get_xdata()[0]
        for line in axis.lines
        if line.get_linestyle() == ":" and len(line.get_xdata()) == 2
    ]
    assert dotted == [4, 8]
    assert texts(figure) == ["a", "b"]
