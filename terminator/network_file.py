"""A network in one safetensors file that describes it: written, read and checked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from terminator.config import ModelConfig
from terminator.runtime import weights
from terminator.runtime.settings import from_dict, to_dict
from terminator.standardization import is_calibrated, set_evaluation, warn_of_old_calibration

TINY = 1e-9  # below what an intensity's deviation can be


def write(
    path: str | Path, model: Any, make: Callable[[], nn.Module], info: dict[str, Any], **more: str
) -> None:
    """Write the model file that `read` reads: the model's `config` and weights, `info`, and
    what more its metadata say.

    Args:
        make: makes the network that the file describes.

    Raises:
        ValueError: for a model or an info that would be refused when they are read.
    """
    warn_of_old_calibration(model)
    state, said = model.state_dict(), json.dumps(info)
    try:
        weights.check_fit(path, make, state)
        check_info(json.loads(said), model.config)
        if wrong := [name for name, value in state.items() if not weights.is_finite(value)]:
            raise ValueError(f"its weight {wrong[0]} holds NaN or infinite numbers")
    except ValueError as error:
        raise ValueError(f"this model could not be read again: {error}") from error
    metadata = {
        "model": json.dumps(to_dict(model.config)),
        "info": said,
        "calibrated": json.dumps(is_calibrated(model)),
    }
    weights.write(path, state, {**more, **metadata})


def read(
    path: str | Path,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    make: Callable[[ModelConfig], Any],
) -> Any:
    """The network of a model file that says `model`, `info` and `calibrated`, in evaluation mode.

    Raises:
        ValueError: naming the file, where description and weights do not go together.
    """
    with weights.understood(path):
        config = from_dict(ModelConfig, weights.values(metadata["model"], "model"))
        model = weights.fitted(path, lambda: make(config), tensors)
        model.info = weights.values(metadata["info"], "info")
        check_info(model.info, model.config)
        calibrated = json.loads(metadata.get("calibrated", "null"))
        if calibrated is not None and calibrated is not is_calibrated(model):
            raise ValueError(
                f"it says calibrated={calibrated!r}, and its statistics say "
                f"{is_calibrated(model)}; they do not go together"
            )
        if calibrated:
            set_evaluation(model, "calibrated")
    return model.eval()


def check_info(info: dict[str, Any], config: ModelConfig) -> None:
    """Check what a model file says of its data, as far as it does.

    Raises:
        ValueError: for classes, shape or normalisation that are none of this network's.
    """
    data = info.get("data", {})
    if not isinstance(data, dict):
        raise ValueError(f"its data are {data!r}; allowed: an object")
    count, channels, classes = config.classes, config.in_channels, data.get("classes")
    if "classes" in data and not (
        isinstance(classes, list)
        and len({name for name in classes if isinstance(name, str)}) == count
        and len(classes) == count
    ):
        raise ValueError(f"its classes are {str(classes)[:80]}; allowed: {count} names")
    shapes = [
        [channels, *[size] * config.dimensions] for size in (config.size, config.trained_size)
    ]
    if "shape" in data and data["shape"] not in shapes:
        raise ValueError(f"its data have shape {data['shape']}; the network takes {shapes[0]}")
    for name, least in (("mean", -TINY), ("std", TINY)):
        found = data.get(name)
        if name in data and not (
            isinstance(found, list)
            and len(found) == channels
            and all(type(value) in (int, float) and least < value <= 1 for value in found)
        ):
            raise ValueError(
                f"its {name} is {str(found)[:80]}; allowed: {channels} numbers from 0 to "
                "1, of intensities"
            )
