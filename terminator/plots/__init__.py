"""Every figure of the kit, one function each: tensors and tables in, a Figure out. Nothing here reads a file.

Call `style()` once per notebook; a Figure that ends a cell shows itself; `save` writes it for the
results, and returns it.
matplotlib is imported nowhere else in the package. Figures are not pyplot's, so none is shown twice or leaks.
"""

from terminator.plots.charts import (
    answers,
    branch_heat,
    channel_kernels,
    cost,
    frequencies,
    group_means,
    loss_terms,
    parts_bars,
    radial_spectra,
    training,
)
from terminator.plots.fields import (
    Row,
    dependence_maps,
    field_grid,
    hyper_kernels,
    images,
    jacobians,
    local_kernels,
    operator_steps,
    slow_scores,
    spectra,
)
from terminator.plots.results import accuracy_bars, accuracy_curves
from terminator.plots.style import COLOURS, save, style

__all__ = [
    "COLOURS",
    "Row",
    "accuracy_bars",
    "accuracy_curves",
    "answers",
    "branch_heat",
    "channel_kernels",
    "cost",
    "dependence_maps",
    "field_grid",
    "frequencies",
    "group_means",
    "hyper_kernels",
    "images",
    "jacobians",
    "local_kernels",
    "loss_terms",
    "operator_steps",
    "parts_bars",
    "radial_spectra",
    "save",
    "slow_scores",
    "spectra",
    "style",
    "training",
]
