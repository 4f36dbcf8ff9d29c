"""Terminator: wide SFNE blocks at full resolution, global average pooling, a linear classifier.

Source: arXiv 2401.17948.  Golden: terminator_model_small (logits, losses, gradients).
"""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from terminator import network_file
from terminator.config import ModelConfig
from terminator.connectable import Connectable
from terminator.layers import computing_type, listed, mean_over
from terminator.ops.layout import channels_outermost
from terminator.runtime import weights
from terminator.runtime.settings import from_dict, require, to_dict
from terminator.sfne import RGU, BlockParts, SFNEBlock, product_scale
from terminator.slow_net import SlowNet


class Parts(NamedTuple):
    """What the network computed for a batch: the logits (N, classes) and the parts of every
    block.
    """

    logits: Tensor
    blocks: tuple[BlockParts, ...]


def skip_sources(index: int) -> tuple[int, ...]:
    """The earlier blocks whose outputs block `index` (from 0) takes as skip 1 and skip 2."""
    return () if index < 2 else (index - 2,) if index < 4 else (index - 2, index - 3)


class Terminator(Connectable):
    """The slow-fast network for images (N, C, H, H) or sequences (N, C, L).

    Args:
        config: a ModelConfig; without one, the released CIFAR-10 network (1,336,855 parameters).
        changes: single settings to replace, e.g. Terminator(classes=100), Terminator(size=8,
            in_channels=1).

    Returns:
        forward(x): logits (N, classes). With return_kernels=True: (logits, [hyper-kernel (1, C_i,
        *positions) per block]), for the losses. With return_parts=True: Parts, everything that the
        blocks computed.

    Raises:
        ConfigError: for impossible settings.
        ValueError: for inputs that do not fit.
    """

    def __init__(self, config: ModelConfig | None = None, **changes: Any):
        super().__init__()
        require(
            config is None or isinstance(config, ModelConfig),
            "config",
            config,
            "a ModelConfig, or single settings: Terminator(size=8)",
        )
        if config is not None and "size" in changes:  # a new network, which knows no other size
            changes = {"trained_size": None, **changes}
        config = from_dict(ModelConfig, changes) if config is None else _changed(config, changes)
        self.config = config = config.resolved()
        sizes = config.sizes
        self.blocks = listed(
            SFNEBlock(config, i, len(skip_sources(i)) if config.skips else 0)
            for i in range(len(sizes.factors))
        )
        self.fast_bias = (
            nn.Parameter(torch.zeros(len(self.blocks))) if config.trainable_fast_bias else None
        )
        self.classifier = nn.Linear(config.channels[-1], sizes.classes)
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, return_kernels: bool = False, return_parts: bool = False):
        self._check_input(x)
        x = channels_outermost(x.to(computing_type(x)))
        outputs: list[Tensor] = []
        kernels: list[Tensor] = []
        parts: list[BlockParts] = []
        for i, block in enumerate(self.blocks):
            skips = tuple(outputs[j] for j in skip_sources(i)) if self.config.skips else ()
            part: BlockParts = block(x, skips, tiled=return_parts)
            x = (
                part.output
                if self.fast_bias is None
                else part.output + self.fast_bias[i].to(x.dtype)
            )
            outputs.append(part.output)
            kernels.append(part.hyper_kernel)
            if return_parts:
                parts.append(part)
        logits = self.classifier(mean_over(x.flatten(2), -1))  # (N, classes)
        if return_parts:
            return Parts(logits, tuple(parts))
        return (logits, kernels) if return_kernels else logits

    def _check_input(self, x: Tensor) -> None:
        c, own = self.config, next(self.parameters()).dtype  # a classifier may be exchanged
        if not isinstance(x, Tensor) or not x.is_floating_point():
            what = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"the input is {what}; allowed: a tensor of floating-point numbers, normalised"
            )
        kind = x.device.type
        if own not in (torch.float32, torch.float64) or (
            torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) is torch.float16
        ):  # phases of 10^5 radians, sums over all positions
            raise ValueError(
                f"the weights are {own}, or autocast is to float16; allowed: weights of float32 or "
                "float64, and torch.autocast to bfloat16"
            )
        if x.dtype is not own and not torch.is_autocast_enabled(kind):
            raise ValueError(
                f"the input is {x.dtype}, the weights are {own}; allowed: the same (x.to({own})), "
                "or torch.autocast"
            )
        expected = (c.in_channels, *[c.size] * c.dimensions)
        fits = x.ndim == c.dimensions + 2 and tuple(x.shape[1:]) == expected
        if fits and not torch.compiler.is_compiling() and not len(x):
            raise ValueError(
                f"the input has shape {tuple(x.shape)}, an empty batch; allowed: one image or "
                "sequence at least"
            )
        if not fits:
            hint = ""
            if x.ndim == 4 and x.shape[-1] != x.shape[-2]:
                hint = (
                    "; images must be square: crop, pad or resize them (dataset.image_size does it)"
                )
            elif x.ndim == c.dimensions + 2 and x.shape[1] == c.in_channels:
                hint = f"; for another size take model.at_size({x.shape[-1]})"
            raise ValueError(
                f"the input has shape {tuple(x.shape)}, this model takes (N, "
                f"{', '.join(map(str, expected))}){hint}"
            )

    def at_size(self, size: int) -> "Terminator":
        """The same network for another image size (or sequence length): a copy, weights and all.

        Hyper-kernels are functions of coordinates, so these are sampled anew; bias maps are
        interpolated; the products of the global operator are divided by how many times more terms
        they sum up.
        """
        require(isinstance(size, int) and size >= 2, "size", size, "an integer of at least 2")
        changed = _changed(self.config, {"size": size}).resolved()
        model = copy.deepcopy(self)
        model.config = changed
        for module in model.modules():
            if isinstance(module, SFNEBlock):
                module.product_scale = product_scale(changed)
                module.slow_net.at_size(size)
                if module.hyper_interaction is not None:
                    module.hyper_interaction.spatial_slow_net.at_size(size)
            elif isinstance(module, RGU):
                module.at_size(size)
        return model

    def penalized_parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of the norm penalty: (fast, slow).

        fast: all of a block outside slow nets, RGUs and the scalar after G-IBS.
        slow: weights of the linear maps in the slow nets over positions (not over channels), and in
        RGUs.
        """
        fast: list[Tensor] = []
        slow: list[Tensor] = []
        for block in self.blocks:
            over_channels = _channel_slow_nets(block)
            left_out = {id(block.bias), *(id(p) for p in block.group_standardize.parameters())}
            for module in block.modules():
                if isinstance(module, (SlowNet, RGU)):
                    left_out.update(id(p) for p in module.parameters())
                    if module not in over_channels:
                        slow += [
                            p for name, p in module.named_parameters() if name.endswith("weight")
                        ]
            fast += [p for p in block.parameters() if id(p) not in left_out]
        return fast, slow

    def slow_parameters(self) -> list[Tensor]:
        """All parameters of slow nets, context maps included."""
        return [p for m in self.modules() if isinstance(m, SlowNet) for p in m.parameters()]

    def save(self, path: str | Path, **info: Any) -> None:
        """Write one self-describing safetensors file: weights, configuration, and `info` (JSON
        values).

        Raises:
            ValueError: for what `load` would refuse: networks that were connected or exchanged,
                weights that are no float32, an `info` whose data are none of this network's.
        """
        if self.is_connected:
            raise ValueError(
                "a model with connected networks cannot be saved in this file, which could not "
                "describe them; keep its state_dict() beside the code that builds it"
            )
        network_file.write(path, self, lambda: type(self)(self.config), info, format="terminator")

    @classmethod
    def load(cls, path: str | Path) -> "Terminator":
        """Read a model written by `save`; calibrated if it was. Its `info` is the attribute `info`.

        Raises:
            FileNotFoundError: as its message says.
            ValueError: if the file is corrupt, no such model, or does not fit itself.
        """
        tensors, metadata = weights.read(path)
        if metadata["format"] != "terminator":
            raise ValueError(
                f"{path} is no Terminator: its metadata says format={metadata['format']}; "
                "terminator.pretrained reads it"
            )
        return network_file.read(path, tensors, metadata, cls)

    @classmethod
    def from_pretrained(cls, name_or_file: str | Path) -> "Terminator":
        """A trained model that comes with the package, by its name, or one in a file of this kit.

        It is calibrated; `info` says what it was trained on and how good it is (docs/models.md).

        Raises:
            ValueError: for an unknown name, listing the known ones; as `load`.
        """
        from terminator.runtime import shipped  # only where one is wanted

        return cls.load(shipped.model_path(name_or_file))


def _channel_slow_nets(block: SFNEBlock) -> list[SlowNet]:
    """The block's slow nets over channels instead of positions."""
    nets = []
    if block.hyper_channel_interaction is not None:
        nets.append(block.hyper_channel_interaction.slow_net)
    if block.hyper_interaction is not None:
        nets.append(block.hyper_interaction.channel_slow_net)
    return nets


def _changed(config: ModelConfig, changes: dict[str, Any]) -> ModelConfig:
    return from_dict(ModelConfig, {**to_dict(config), **changes}) if changes else config


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
