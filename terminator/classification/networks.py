"""The networks by name (network.name): made from a configuration, or read from a model file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from terminator import network_file
from terminator.classification.baselines import Baseline, ResNet18, SmallCNN
from terminator.classification.ccnn import CCNN
from terminator.classification.config import Config, NetworkConfig
from terminator.classification.host import Host
from terminator.config import ModelConfig
from terminator.model import Terminator
from terminator.runtime import shipped, weights
from terminator.runtime.settings import from_dict, to_dict

BASELINES: dict[str, type[Baseline]] = {
    "resnet18": ResNet18,
    "ccnn": CCNN,
    "host": Host,
    "cnn": SmallCNN,
}


def build(config: Config) -> nn.Module:
    """A new network of a resolved configuration, initialised from torch's random state."""
    return _made(config.model, config.network)


def network_of(model: nn.Module) -> NetworkConfig:
    """The settings of `network` that a model was made with."""
    return getattr(model, "network_config", NetworkConfig())


def load(path: str | Path) -> nn.Module:
    """The network in a file of this kit (.safetensors) or a released checkpoint (.ckpt, .pt, .pth),
    in evaluation mode.

    What was saved beside the weights is its attribute `info`.

    Raises:
        FileNotFoundError: as its message says.
        ValueError: if the file is corrupt, no such model, or does not fit itself.
    """
    if not str(path).endswith(".safetensors"):
        from terminator.classification import released

        return released.load(path)
    tensors, metadata = weights.read(path)
    if (kind := metadata["format"]) not in ("terminator", "terminator baseline"):
        raise ValueError(
            f"{path} is no model that classifies images or sequences: its metadata says "
            f"format={kind}"
        )
    with weights.understood(path):
        network = NetworkConfig()
        if kind == "terminator baseline":
            network = from_dict(NetworkConfig, weights.values(metadata["network"], "network"))
            if network.name not in BASELINES:
                raise ValueError(f"its network is {network.name}; allowed: {', '.join(BASELINES)}")
        model = network_file.read(path, tensors, metadata, lambda config: _made(config, network))
        _check_settings(model)
    return model


def load_named(name_or_file: str | Path) -> nn.Module:
    """A trained network that comes with the package, by its name, or one in a file, as `load`.

    Raises:
        ValueError: for an unknown name, listing the known ones; as `load`.
    """
    return load(shipped.model_path(name_or_file))


def knows(model: nn.Module, classes: Sequence[str]) -> bool:
    """Whether a model's answers are of these classes; of one that names none, their number
    counts.
    """
    of: Any = model
    known = getattr(model, "info", {}).get("data", {}).get("classes")
    return list(known) == list(classes) if known else of.config.classes == len(classes)


def with_new_classifier(model: Any, classes: int) -> Any:
    """The model with an untrained classifier for so many classes, drawn from torch's random state,
    in place.

    Raises:
        ValueError: for a network that has none to be exchanged.
    """
    if not isinstance(model, Terminator):
        raise ValueError(
            f"a {type(model).__name__} keeps its classes; allowed: a Terminator, whose classifier "
            "can be exchanged"
        )
    model.config = dataclasses.replace(model.config, classes=classes)
    fresh = nn.Linear(model.classifier.in_features, classes)
    nn.init.kaiming_normal_(fresh.weight)
    nn.init.zeros_(fresh.bias)
    model.classifier = fresh.to(model.classifier.weight)
    return model


def _made(config: ModelConfig, network: NetworkConfig) -> nn.Module:
    if network.name in BASELINES:
        return BASELINES[network.name](config, network)
    return Terminator(config)


def _check_settings(model: Any) -> None:
    """Check that the settings in a model's `info` describe the network that its file describes.

    Raises:
        ValueError: for the first difference.
    """
    saved = model.info.get("config")
    if saved is None:
        return
    settings = from_dict(Config, saved)
    pairs = [(to_dict(settings.network), to_dict(network_of(model)), "network")]
    if "model" in saved:
        pairs.append((to_dict(settings.model), to_dict(model.config), "model"))
    for theirs, ours, group in pairs:
        for key, value in ours.items():
            # a model may be kept at another size than it was trained at
            if theirs[key] != value and (group, key) not in (("model", "size"),):
                raise ValueError(
                    f"it describes itself twice, with {group}.{key}={value!r} and {theirs[key]!r}"
                )
