"""What the HyperTransformer's tests share: golden cases, and models that hold their parameters."""

import json

import numpy as np
import torch
from places import GOLDEN

from terminator.hypertransformer import HyperTransformer

NONLINEARITY = {"relu": "relu", "leaky_relu_0.1": "lrelu", "leaky_relu_0.01": "lrelu"}


def golden(name):
    """Arrays of a golden case as float64 (or integer) tensors; `config` as a dictionary."""
    with np.load(GOLDEN / f"hypertransformer_{name}.npz") as file:
        case = {key: file[key] for key in file.files}
    tensors = {}
    for key, array in case.items():
        if array.dtype.kind == "U":
            tensors[key] = json.loads(str(array))
        else:
            tensors[key] = torch.from_numpy(
                array.astype(np.float64 if array.dtype.kind == "f" else np.int64)
            )
    return tensors


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def settings_of(config):
    """The settings that a golden case's `config` describes."""
    return dict(
        num_labels=config["num_labels"],
        image_size=config["image_size"],
        default_num_channels=config["channels"],
        cnn_activation=NONLINEARITY[config.get("cnn_activation", "relu")],
        lw_weight_allocation=config["allocation"],
        embedding_dim=config["embedding_dim"],
        num_layers=config["transformer_layers"],
        heads=config["heads"],
        transformer_nonlinearity=NONLINEARITY[config.get("transformer_nonlinearity", "relu")],
        num_layerwise_features=config["local_feature_dim"],
        shared_feature_extractor=config["shared"],
        shared_features_dim=config["shared_dim"] or 1,
        bn_eps=config["bn_eps"],
        profile=config["profile"],
    )


def golden_name(name):
    """Our parameter's name as the golden cases call it."""
    parts = name.split(".")
    if parts[0] == "shared":
        if parts[1] == "convs":
            return f"shared_conv{int(parts[2]) + 1}_{parts[3]}"
        return f"shared_bn_{parts[1]}"
    layer, rest = (5, parts[1:]) if parts[0] == "head" else (int(parts[1]) + 1, parts[2:])
    if rest[0] in ("gamma", "beta"):
        return f"cnn_bn{layer}_{rest[0]}"
    if rest == ["bias"]:
        return f"cnn_conv{layer}_shared_bias"
    rest = rest[1:]  # of the generator
    if rest[0] == "local":
        return f"gen{layer}_local_conv{int(rest[2]) + 1}_{rest[3]}"
    if rest[0] == "encoder":
        return f"gen{layer}_layer{int(rest[2]) + 1}_{'_'.join(p for p in rest[3:] if p not in ('attention', 'mlp'))}"
    return f"gen{layer}_{rest[0]}"


def model_of(case):
    """A float64 model with the case's parameters; every one of them is used exactly once."""
    model = HyperTransformer(**settings_of(case["config"])).double()
    used = set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            key = golden_name(name)
            if key.startswith("shared_bn_"):
                keys = [
                    f"shared_bn{i + 1}_{key.removeprefix('shared_bn_')}"
                    for i in range(len(parameter))
                ]
                parameter.copy_(torch.stack([case[k] for k in keys]))
                used.update(keys)
            else:
                assert parameter.shape == case[key].shape, key
                parameter.copy_(case[key])
                used.add(key)
    assert used == {key for key in case if key.startswith(("gen", "shared_", "cnn_"))}
    return model


def episode(model_settings, episodes=3, support=None, query=7, seed=0, dtype=torch.float32):
    """Random support images, labels (every label once and more), query images and labels."""
    s = model_settings
    support = s.num_labels + 2 if support is None else support
    shape = (s.in_channels, s.image_size, s.image_size)
    labels = torch.arange(support).remainder(s.num_labels).repeat(episodes, 1)
    return (
        normal(episodes, support, *shape, seed=seed, dtype=dtype),
        labels,
        normal(episodes, query, *shape, seed=seed + 1, dtype=dtype),
        torch.arange(query).remainder(s.num_labels).repeat(episodes, 1),
    )
