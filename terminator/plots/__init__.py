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
from terminator.plots.fewshot import (
    accuracy_dots,
    accuracy_lines,
    answers_grid,
    attention,
    continual_tables,
    episode,
    generated_filters,
    learning,
)
from terminator.plots.fields import (
    Row,
    block_view,
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
from terminator.plots.hamburger import (
    bases,
    energy_curves,
    gan_grids,
    ham_cost,
    ham_errors,
    ham_parts,
    sigma_curves,
    spread_lines,
)
from terminator.plots.inside import over_epochs, ridgelines
from terminator.plots.results import (
    accuracy_bars,
    accuracy_curves,
    difference_dots,
    learning_curves,
    rate_sweep,
    tradeoff,
)
from terminator.plots.segmentation import class_ious, miou_curves, miou_dots, segmentations, steps_curve
from terminator.plots.style import COLOURS, save, style

__all__ = [
    "COLOURS",
    "Row",
    "accuracy_bars",
    "accuracy_curves",
    "accuracy_dots",
    "accuracy_lines",
    "answers",
    "answers_grid",
    "attention",
    "bases",
    "block_view",
    "branch_heat",
    "channel_kernels",
    "class_ious",
    "continual_tables",
    "cost",
    "dependence_maps",
    "difference_dots",
    "energy_curves",
    "episode",
    "field_grid",
    "frequencies",
    "gan_grids",
    "generated_filters",
    "group_means",
    "ham_cost",
    "ham_errors",
    "ham_parts",
    "hyper_kernels",
    "images",
    "jacobians",
    "learning",
    "learning_curves",
    "local_kernels",
    "loss_terms",
    "miou_curves",
    "miou_dots",
    "operator_steps",
    "over_epochs",
    "parts_bars",
    "radial_spectra",
    "rate_sweep",
    "ridgelines",
    "save",
    "segmentations",
    "sigma_curves",
    "slow_scores",
    "spectra",
    "spread_lines",
    "steps_curve",
    "style",
    "tradeoff",
    "training",
]
