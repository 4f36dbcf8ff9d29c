"""What the notebooks measure: spectra of hyper-kernels, what depends on what, where parameters and
work are.

Pure functions of tensors and models, whose results go to `plots`; nothing here trains, reads files
or draws.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from terminator import sfne
from terminator.link import evaluating
from terminator.model import BlockParts, Terminator, skip_sources
from terminator.sfne import SFNEBlock
from terminator.slow_net import SlowNet, forget_kernels, resample

# -- frequencies -----------------------------------------------------------------------------------


def power_spectrum(field: Tensor) -> Tensor:
    """Share of every 2-D frequency in the power of square fields, their means taken off, averaged
    over fields.

    Args:
        field: real, (..., H, H).

    Returns:
        (H, H), zero frequency in the middle (at H // 2), sum 1; zeros for constant fields.

    Raises:
        ValueError: for fields that are not square.
    """
    if field.ndim < 2 or field.shape[-1] != field.shape[-2]:
        raise ValueError(
            f"power_spectrum needs square fields (..., H, H), got {tuple(field.shape)}"
        )
    flat = field.detach().double().reshape(-1, *field.shape[-2:])
    flat = flat - flat.mean((-2, -1), keepdim=True)
    power = torch.fft.fftshift(torch.fft.fft2(flat).abs().square(), (-2, -1)).sum(0)
    return power / power.sum().clamp_min(torch.finfo(torch.float64).tiny)


def radial_spectrum(field: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power per 2-D frequency in rings of one cycle per image: white noise gives a flat line
    at 1.

    Returns:
        (frequencies 1 .. H // 2 in cycles per image, relative power of each ring).
    """
    power = power_spectrum(field)
    size = power.shape[-1]
    axis = torch.arange(size) - size // 2
    radius = (
        torch.hypot(*torch.meshgrid(axis.double(), axis.double(), indexing="ij")).round().long()
    )
    frequencies = torch.arange(1, size // 2 + 1)
    rings = torch.stack([power[radius == f].mean() for f in frequencies.tolist()])
    return frequencies, rings * (size * size - 1)


def initial_frequencies(slow_net: SlowNet) -> list[Tensor]:
    """|A_i| of every sinusoidal filter in cycles per image and axis (an image spans 2 units of
    coordinate).
    """
    return [sinusoid.weight.detach().abs().flatten() / math.pi for sinusoid in slow_net.filters]


def folded(frequency: Tensor, size: int) -> Tensor:
    """The frequency that `size` samples, from end to end, show instead: cycles per image, at most
    (size - 1) / 2.
    """
    rate = size - 1  # sampling intervals per image
    return (frequency - rate * torch.round(frequency / rate)).abs()


@torch.no_grad()
def sampled(slow_net: SlowNet, size: int) -> Tensor:
    """The hyper-kernel (1, C, size[, size]) of the same function at another number of
    coordinates.
    """
    other = copy.deepcopy(slow_net)
    other.at_size(size)
    return other()


def between_pixels(slow_net: SlowNet, size: int) -> tuple[float, float]:
    """Whether a kernel's pixels say what lies between them: sample at `size` and, nested, at 2 size
    - 1 points.

    Returns:
        (R^2 of linear interpolation at the new points: 1 smooth, 0 or less unpredictable; largest
        difference at the shared points, in standard deviations of the kernel: float32 rounding).
    """
    coarse, fine = sampled(slow_net, size)[0], sampled(slow_net, 2 * size - 1)[0]  # (C, ...)
    guess = torch.stack([resample(channel[None, None], 2 * size - 1)[0, 0] for channel in coarse])
    shared = torch.zeros(fine.shape[1:], dtype=torch.bool)
    shared[(slice(None, None, 2),) * (fine.ndim - 1)] = True
    new, rest = fine[:, ~shared], (guess - fine)[:, ~shared]
    skill = 1 - (rest.square().sum() / (new - new.mean(1, keepdim=True)).square().sum()).item()
    return skill, ((fine[:, shared] - coarse.flatten(1)).abs().max() / coarse.std()).item()


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of all values of two tensors of equal shape."""
    return torch.corrcoef(
        torch.stack([a.detach().flatten().double(), b.detach().flatten().double()])
    )[0, 1].item()


# -- dependence ------------------------------------------------------------------------------------


def dependence(function: Callable[[Tensor], Tensor], x: Tensor, *position: int) -> Tensor:
    """How strongly one output position depends on each input position: the norm of the Jacobian
    over channels.

    Args:
        function: (1, C, *positions) to (1, C', *positions).
        x: its input.
        position: of the output.

    Returns:
        (*positions), not negative.
    """
    x = x.detach().clone().requires_grad_()
    outputs = function(x)[(0, slice(None), *position)]  # (C',)
    total = torch.zeros_like(x[0])
    for i, value in enumerate(outputs):
        (gradient,) = torch.autograd.grad(value, x, retain_graph=i + 1 < len(outputs))
        total += gradient[0].square()
    return total.sum(0).sqrt()


def jacobian_1d(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """|d out[t] / d z[s]| of a map of one sequence z (L,): (L, L), row t, column s."""
    return torch.autograd.functional.jacobian(
        lambda v: function(v[None, None])[0, 0], z.detach()
    ).abs()


# -- branches --------------------------------------------------------------------------------------


@torch.no_grad()
def branch_table(model: Terminator, blocks: Iterable[BlockParts]) -> pd.DataFrame:
    """Per block and branch: root mean square of its values, and of what it adds to the bottleneck's
    output.
    """
    rows = []
    for number, (block, parts) in enumerate(zip(model.blocks, blocks, strict=True), start=1):
        width = parts.hyper_kernel.shape[1]
        for (name, values), weight in zip(
            parts.branches.items(), block.bottleneck.weight.split(width, 1), strict=True
        ):
            added = torch.einsum("oc,nc...->no...", weight, values)
            rows.append(
                {"block": number, "branch": name, "rms": _rms(values), "contribution": _rms(added)}
            )
    return pd.DataFrame(rows)


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


@torch.no_grad()
def group_means(model: Terminator, blocks: Iterable[BlockParts], block: int) -> Tensor:
    """After the block's standardisation: every image's mean over each channel group, (N,
    groups).
    """
    part, layer = list(blocks)[block], model.blocks[block]
    encoded = layer.bottleneck(list(part.branches.values()))  # (N, f C, *positions)
    standardized = layer.group_standardize(encoded)
    return standardized.unflatten(1, (model.config.groups, -1)).flatten(2).mean(-1)


@torch.no_grad()
def interaction_logits(block: SFNEBlock, parts: BlockParts) -> Tensor:
    """s_s * s_c of the block's hyper interaction, before the sigmoid, which rounds small ones
    away.
    """
    net = block.hyper_interaction
    return sfne.interaction_logits(
        parts.branches["o"], net.channel_slow_net(), net.spatial_slow_net()
    )


# -- where parameters and work are -----------------------------------------------------------------

SLOW_PARTS = ("global slow net", "channel slow nets", "spatial slow net", "local slow nets")
FAST_PARTS = (
    "RGUs",
    "global operator",
    "mixer",
    "local branches",
    "bottleneck",
    "scalars",
    "classifier",
)


def part_of(name: str) -> str:
    """The part of the network, one of SLOW_PARTS or FAST_PARTS, that a parameter or module of this
    name is in.
    """
    rules = (
        ("classifier", "classifier"),
        ("channel_slow_net", "channel slow nets"),
        ("hyper_channel_interaction.slow_net", "channel slow nets"),
        ("spatial_slow_net", "spatial slow net"),
        (".rgu_", "RGUs"),
        (".bottleneck", "bottleneck"),
        (".group_standardize", "scalars"),
        (".global_mixer", "global operator"),
    )
    for key, part in rules:
        if key in name:
            return part
    if ".locals." in name:
        return "local slow nets" if ".slow_net" in name else "local branches"
    if ".slow_net" in name:
        return "global slow net"
    return "mixer" if ".mixer" in name else "scalars"


def _block_of(name: str) -> int:
    return int(name.split("blocks.")[1].split(".")[0]) + 1 if "blocks." in name else 0


def parameter_table(model: Terminator) -> pd.DataFrame:
    """Trainable parameters per block (0: the classifier and what lies between blocks) and part;
    kind slow or fast.
    """
    rows = [
        {"block": _block_of(name), "part": part_of(name), "parameters": p.numel()}
        for name, p in model.named_parameters()
        if p.requires_grad
    ]
    return _by_part(rows, "parameters")


def counted(model: nn.Module, x: Tensor) -> FlopCounterMode:
    """What one forward pass of x costs, hyper-kernels made anew; the model's mode stays."""
    forget_kernels(model)
    with evaluating(model), FlopCounterMode(display=False) as counter:
        model(x)
    return counter


def flop_table(model: Terminator, batch_size: int = 1) -> pd.DataFrame:
    """Operations (multiply and add: two) of one forward pass of a batch, per block and part; kind
    slow or fast.

    Matrix products and convolutions count; FFTs, Hadamard products, standardisations and
    activations do not.
    """
    c = model.config
    parameter = next(model.parameters())
    x = torch.zeros(
        batch_size,
        c.in_channels,
        *[c.size] * c.dimensions,
        dtype=parameter.dtype,
        device=parameter.device,
    )
    operations = counted(model, x).get_flop_counts()
    counts = {name: sum(ops.values()) for name, ops in operations.items()}
    rows = []
    for name, total in counts.items():
        own = total - sum(
            value for other, value in counts.items() if _nearest(other, counts) == name
        )
        if own and "." in name:  # above the first dot: the sums over everything
            part = "global operator" if name.split(".")[-2] == "blocks" else part_of(name)
            rows.append({"block": _block_of(name), "part": part, "flops": own})
    return _by_part(rows, "flops")


def _nearest(name: str, counts: Mapping[str, int]) -> str | None:
    """The closest enclosing module that was counted."""
    parent = name.rpartition(".")[0]
    while parent and parent not in counts:
        parent = parent.rpartition(".")[0]
    return parent or None


def _by_part(rows: list[dict], value: str) -> pd.DataFrame:
    table = pd.DataFrame(rows).groupby(["block", "part"], as_index=False)[value].sum()
    table["kind"] = ["slow" if part in SLOW_PARTS else "fast" for part in table["part"]]
    order = {part: i for i, part in enumerate(SLOW_PARTS + FAST_PARTS)}
    table["order"] = table["part"].map(order)
    return table.sort_values(["block", "order"], ignore_index=True).drop(columns="order")


def forward_from(model: Terminator, block: int) -> Callable[[Tensor], Tensor]:
    """x to the output of block `block` (from 0) of an evaluated model, for `dependence`."""

    def run(x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for i in range(block + 1):
            skips = tuple(outputs[j] for j in skip_sources(i)) if model.config.skips else ()
            outputs.append(model.blocks[i](x, skips).output)
            x = outputs[-1] if model.fast_bias is None else outputs[-1] + model.fast_bias[i]
        return outputs[-1]

    return run
