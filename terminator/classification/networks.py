"""The networks by name (network.name): made from a configuration, or read from a model file."""

import json
from pathlib import Path

from torch import nn

from terminator.classification.baselines import CCNN, Baseline, ResNet18, SmallCNN
from terminator.classification.config import Config, NetworkConfig
from terminator.classification.host import Host
from terminator.config import ModelConfig
from terminator.model import Terminator
from terminator.runtime import weights
from terminator.runtime.settings import ConfigError, from_dict
from terminator.standardization import set_evaluation

BASELINES: dict[str, type[Baseline]] = {
    "resnet18": ResNet18,
    "ccnn": CCNN,
    "host": Host,
    "cnn": SmallCNN,
}


def build(config: Config) -> nn.Module:
    """A new network of a resolved configuration, initialised from torch's random state."""
    if config.network.name in BASELINES:
        return BASELINES[config.network.name](config.model, config.network)
    return Terminator(config.model)


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
    if "network" not in metadata:
        return Terminator.load(path)
    try:
        network = from_dict(NetworkConfig, json.loads(metadata["network"]))
        model = BASELINES[network.name](
            from_dict(ModelConfig, json.loads(metadata["model"])), network
        )
        model.load_state_dict(tensors)
        model.info = json.loads(metadata["info"])
        if json.loads(metadata["calibrated"]):
            set_evaluation(model, "calibrated")
    except (ConfigError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not hold a whole model: {error}") from error
    return model.eval()
