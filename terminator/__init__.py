"""Terminator (arXiv 2401.17948): slow networks make hyper-kernels, the HyperZ.Z.W operator applies
them.

from terminator import Terminator
logits = Terminator()(images)          # the released CIFAR-10 network, images (N, 3, 32, 32)
"""

import importlib
import importlib.util
from typing import Any

__version__ = "1.0.0"

_HOMES = {  # public name: module; loaded on first use, so that `import terminator` is instant
    "Terminator": "model",
    "Parts": "model",
    "count_parameters": "model",
    "connect": "link",
    "ModelConfig": "config",
    "Config": "classification.config",
    "ConfigError": "runtime.settings",
    "Kar2": "optim",
    "Kar3": "optim",
    "slow_neural_loss": "losses",
    "norm_penalty": "losses",
    "calibrate": "standardization",
    "set_evaluation": "standardization",
    "is_calibrated": "standardization",
    "plain_operations": "ops.plain",
    "pretrained": "zoo.models",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"terminator.{_HOMES[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"terminator.{name}"):
        return importlib.import_module(f"terminator.{name}")  # terminator.losses, say
    raise AttributeError(f"module 'terminator' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
