"""Studies: sets of named configurations that are compared with one another, as plain data, per
profile.

`study.run_study` trains one; everything here says only what is trained.
"""

from terminator.classification.studies.choices import mixers, precision, sequences
from terminator.classification.studies.contests import networks, optimizers
from terminator.classification.studies.given import AS_JPEG, AS_THEY_ARE, headline, jpeg, shipped
from terminator.classification.studies.names import named
from terminator.classification.studies.observed import (
    WITH,
    WITHOUT,
    feature_statistics,
    slow_neural_loss,
)
from terminator.classification.studies.parts import (
    ATTENTION,
    FULL,
    ablation_kinds,
    ablations,
    full_networks,
    global_mixers,
    part_kinds,
    parts,
    transformers,
)

__all__ = [
    "AS_JPEG",
    "AS_THEY_ARE",
    "ATTENTION",
    "FULL",
    "WITH",
    "WITHOUT",
    "ablation_kinds",
    "ablations",
    "feature_statistics",
    "full_networks",
    "global_mixers",
    "headline",
    "jpeg",
    "mixers",
    "named",
    "networks",
    "optimizers",
    "part_kinds",
    "parts",
    "precision",
    "sequences",
    "shipped",
    "slow_neural_loss",
    "transformers",
]
