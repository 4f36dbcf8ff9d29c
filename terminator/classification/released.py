"""Import of checkpoints written by the released code.

The released model's keys are mapped to ours name by name. Its `train_length` entries are
bookkeeping and are ignored. Its slow nets' output weights are taken as they were in use (see
docs/limits.md).
Source: keys and shapes of the released CIFAR-10 model.  Golden: terminator_model_small.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from terminator.config import ModelConfig
from terminator.data.decoder import is_picture
from terminator.model import Terminator
from terminator.runtime.checkpoint import NotOnlyTensors, load_checked
from terminator.runtime.progress import say
from terminator.runtime.weights import is_finite, sketch

# what wrappers put before keys: DataParallel, torch.compile, Lightning modules
_WRAPPERS = re.compile(r"(?:(?:module|_orig_mod|model|network)\.)*")
# our name -> released name, applied in this order to every one of our keys
_RENAMES = (
    (r"^classifier\.", "out_layer."),
    (r"^(blocks\.\d+)\.(?!bias$)", r"\1.fast_multi_branch."),
    (r"branch\.slow_net\.", "branch.slow_net_g.Kernel."),
    (r"branch\.rgu_fast\.", "branch.Fast_Kernel_rgu."),
    (r"branch\.rgu_slow\.", "branch.Fast_Kernel_rgu_2."),
    (r"(rgu(?:_2)?)\.([kvqy])\.", r"\1.fast_linear_\2."),
    (r"branch\.mixer\.", "branch.channel_mixer_mlp."),
    (r"branch\.bottleneck\.", "branch.bottleneck_layer."),
    (r"hyper_channel_interaction\.slow_net\.", "channel_mixer_hci.slow_net_gc.Kernel."),
    (r"hyper_interaction\.channel_slow_net\.", "hyper_interact.slow_net_gc.Kernel."),
    (r"hyper_interaction\.spatial_slow_net\.", "hyper_interact.slow_net_gs.Kernel."),
    (r"locals\.l(\d)\.bias$", r"bias\1"),
    (r"locals\.l(\d)\.mixer\.", r"local_interact_conv_\1.channel_mixer."),
    (r"locals\.l(\d)\.slow_net\.", r"slow_net_l\1.Kernel."),
    (r"Kernel\.reduce\.", "Kernel.fast_reduce."),
    (r"Kernel\.context\.", "Kernel.fast_fc1."),
    (r"Kernel\.gates\.", "Kernel.fast_linears_x."),
    (r"Kernel\.output\.", "Kernel.output_linear."),
    (r"filters\.(\d+)\.", r"filters.\1.linear."),
    (r"(slow_net_l\d\.Kernel)\.bias_map$", r"\1.bias_pk"),
    (r"bias_map$", "bias_p"),
)


FEW = 4  # keys in a message


def released_key(key: str) -> str:
    """The released code's name of one of our parameters."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def read(path_or_state: str | Path | Mapping[str, Any]) -> dict[str, Tensor]:
    """The released state dict in a file (Lightning checkpoint or plain), or in a mapping.

    What wrappers put before the keys (module., _orig_mod., model., network.) is left out, and said.

    Raises:
        FileNotFoundError: as its message says.
        ValueError: if the file is no checkpoint, or unsafe to unpickle.
    """
    state, where = path_or_state, "the state dict"
    if not isinstance(path_or_state, Mapping):
        where = str(path_or_state)
        if not Path(path_or_state).is_file():
            raise FileNotFoundError(f"no checkpoint file at {where}")
        if is_picture(where):
            raise ValueError(
                f"{where} is a picture, no model file; a model comes first: MODEL IMAGE..."
            )
        try:
            state = load_checked(path_or_state)
        except NotOnlyTensors as error:
            raise ValueError(_conversion(where, error)) from error
        except ValueError as error:
            raise ValueError(
                f"{where} is no checkpoint that can be read safely (weights_only=True): {error}"
            ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(key, str) and isinstance(v, Tensor) for key, v in state.items())
    ):
        raise ValueError(f"{where} holds no state dict, a mapping of names to tensors")
    return _without_wrappers(state, where)


def _conversion(path: str, error: ValueError) -> str:
    """What to do with a file that holds more than tensors: two lines for where it was made."""
    new = f"{Path(path).stem}-weights.pt"
    load = f"state = torch.load({path!r}, map_location='cpu', weights_only=False)['state_dict']"
    return (
        f"{path} is no checkpoint that can be read safely (weights_only=True): {error}. If you "
        "made it, or trust whoever did, convert it there, where reading it may run its code, by "
        f"the two lines: {load} and torch.save(dict(state), {new!r}); {new} can be read here"
    )


def _without_wrappers(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The state dict by the released keys, without bookkeeping.

    Raises:
        ValueError: if two keys become one.
    """
    found: dict[str, Tensor] = {}
    seen: dict[str, str] = {}
    left_out: dict[str, int] = {}
    for key, value in state.items():
        before = _WRAPPERS.match(key)
        bare = key[before.end() :].replace("_orig_mod.", "") if before else key
        if before and before[0]:
            left_out[before[0]] = left_out.get(before[0], 0) + 1
        if bare.endswith("train_length"):
            continue
        if bare in found:
            raise ValueError(f"{where} has {bare} twice, as {seen[bare]} and as {key}")
        found[bare], seen[bare] = value, key
    for prefix, count in left_out.items():
        say(f"note: {where}: {prefix!r} before {count} of {len(state)} keys is left out")
    return found


def infer_config(state: Mapping[str, Tensor]) -> ModelConfig:
    """The network that a released state dict belongs to, from its shapes.

    Raises:
        ValueError: if the keys needed for it are missing.
    """
    try:
        branch = "blocks.{}.fast_multi_branch.{}"
        blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
        first = branch.format(0, "slow_net_g.Kernel.")
        channels = [
            state[branch.format(i, "slow_net_g.Kernel.output_linear.weight")].shape[0]
            for i in range(blocks)
        ]
        channels.append(state[branch.format(blocks - 1, "bottleneck_layer.weight")].shape[0])
        hidden = {
            "global_hidden": first + "output_linear.weight",
            "local_hidden": branch.format(0, "slow_net_l1.Kernel.output_linear.weight"),
            "channel_hidden": branch.format(
                0, "channel_mixer_hci.slow_net_gc.Kernel.output_linear.weight"
            ),
            "interaction_hidden": branch.format(
                0, "hyper_interact.slow_net_gc.Kernel.output_linear.weight"
            ),
        }
        local_sizes = [
            state[branch.format(0, f"slow_net_l{i}.Kernel.bias_pk")].shape[-1] for i in (1, 2, 3, 4)
        ]
        return ModelConfig(
            size=state[first + "bias_p"].shape[-1],
            in_channels=channels[0],
            classes=state["out_layer.bias"].shape[0],
            factors=tuple(high // low for low, high in zip(channels, channels[1:])),
            local_sizes=tuple(local_sizes),
            **{name: state[key].shape[1] for name, key in hidden.items()},
        )
    except (KeyError, ValueError, IndexError) as error:
        keys = sorted(state)
        raise ValueError(
            "the state dict is not one of the released 2-D model (one of this kit is kept by "
            f"model.save, in a .safetensors file); missing or misshapen: {error}. It has "
            f"{len(keys)} keys: {', '.join(keys[:FEW])}{', ...' if len(keys) > FEW else ''}"
        ) from error


def load(
    path_or_state: str | Path | Mapping[str, Any], config: ModelConfig | None = None
) -> Terminator:
    """Our model with a released checkpoint's weights, in evaluation mode.

    Args:
        path_or_state: a Lightning .ckpt, a plain state dict file, or a mapping.
        config: the network; without one it is read off the shapes.

    Raises:
        ValueError: that lists missing, unexpected and misshapen keys by name.
    """
    state = read(path_or_state)
    config = config or infer_config(state)
    found = sketch(lambda: Terminator(config))  # compared before anything takes memory
    problems, weights = [], {}
    expected = {released_key(name): (name, p) for name, p in found.named_parameters()}
    problems += [f"missing: {key}" for key in expected if key not in state]
    problems += [f"unexpected: {key}" for key in state if key not in expected]
    for key, (name, parameter) in expected.items():
        if key in state and _shape(state[key]) != _shape(parameter):
            problems.append(
                f"misshapen: {key} is {tuple(state[key].shape)}, expected {tuple(parameter.shape)}"
            )
        elif key in state and (wrong := _unusable(state[key])):
            problems.append(f"of no use: {key} {wrong}")
        elif key in state:
            weights[name] = state[key].reshape(parameter.shape)
    if problems:
        raise ValueError(
            "the released state dict does not fit the model:\n  " + "\n  ".join(problems)
        )
    model = Terminator(config)
    model.load_state_dict(weights, strict=False)
    return model.eval()


def _unusable(value: Tensor) -> str:
    """What is wrong with a weight; nothing if it can be used."""
    if not value.is_floating_point():
        return f"is of type {str(value.dtype).removeprefix('torch.')}; allowed: floating point"
    if value.layout != torch.strided:
        return f"is {value.layout}; allowed: dense weights"
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        return "is not stored whole"
    return "" if is_finite(value) else "holds NaN or infinite numbers"


def _shape(tensor: Tensor) -> list[int]:
    """Shape without the ones, which 1x1 convolutions and broadcast maps carry."""
    return [n for n in tensor.shape if n != 1]
