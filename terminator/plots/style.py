"""The one look of all figures, and how they get into the results folder."""

import sys

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

from terminator.runtime.paths import atomic_path, results_dir
from terminator.runtime.text import figure as plain

# Okabe and Ito's colours, told apart by every kind of colour vision; dashes and markers differ as
# well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIGNED, POSITIVE = "RdBu_r", "viridis"  # signed fields: blue below 0, white at 0, red above
DPI = 110

SETTINGS = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "legend.fontsize": 8.5,
    "figure.titlesize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "svg.hashsalt": "terminator",
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES) + cycler(marker=MARKERS),
}


def style() -> None:
    """Set the look of all figures; in a notebook, show every Figure that ends a cell as one inline
    PNG.
    """
    matplotlib.rcParams.update(SETTINGS)
    if "IPython" in sys.modules:
        from IPython import get_ipython
        from IPython.core.pylabtools import select_figure_formats

        if (shell := get_ipython()) is not None:
            select_figure_formats(shell, {"png"}, bbox_inches=None)


def new_figure(width: float, height: float, title: str | None = None) -> Figure:
    """An empty Figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(plain(title))
    return figure


def save(figure: Figure, name: str, profile: str) -> Figure:
    """Write the figure to results/figures/<profile>/<name>.png and .svg, each whole or not at all.

    The same figure gives the same bytes: no date, fixed ids. Its title stands in both files'
    metadata, from where the results page takes it.

    Returns:
        the figure, so that a cell which ends with this call shows it.
    """
    folder = results_dir() / "figures" / profile
    title = {"Title": " ".join(figure.get_suptitle().replace(r"\$", "$").split())}
    title = title if title["Title"] else {}
    with matplotlib.rc_context(SETTINGS):
        for suffix, options in (
            ("png", {"metadata": {"Software": None, **title}}),
            ("svg", {"metadata": {"Date": None, **title}}),
        ):
            with atomic_path(folder / f"{name}.{suffix}") as temporary:
                figure.savefig(temporary, **options)
    return figure
