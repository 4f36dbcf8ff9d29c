"""A training seen from inside: features, slow scores and hyper-kernels of the same test images,
epoch by epoch.

`observe` measures a network at one moment. With train.observe the trainer calls it before the first
epoch and after every one; the run keeps the numbers (observations.csv) and a few fields
(observations.npz), so that notebooks can be rendered where the weights are not.
"""

import copy
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from terminator.model import Terminator
from terminator.standardization import set_evaluation

# data sets whose object is what is bright: ground truth for the slow scores
INKED = ("digits", "MNIST")
INK = 0.5  # of full brightness
IMAGES_KEPT = 4  # images whose fields are kept
EDGES = np.linspace(-4.0, 4.0, 81)  # of the bins of histograms; what lies outside is not counted


class Observation(NamedTuple):
    """What was measured: rows of quantity, block, part and value; and fields by name (float16)."""

    numbers: list[dict[str, Any]]
    fields: dict[str, Tensor]


def ink(images: Tensor, name: str) -> Tensor | None:
    """Where the object is, (N, *positions) bool, for uint8 images (N, C, *positions) of an inked
    data set.
    """
    return images.double().mean(1) > INK * 255 if name in INKED else None


def kept_epochs(epochs: int) -> set[int]:
    """The moments whose fields are kept: before training, after the first, the middle and the last
    epoch.
    """
    return {0, 1, epochs // 2, epochs}


@torch.no_grad()
def observe(model: nn.Module, x: Tensor, inked: Tensor | None = None) -> Observation:
    """Measure a network on inputs x (N, C, *positions); it is left as it was, and no random number
    is drawn.

    Standardisation over the batch uses the statistics of x, as in the evaluation "released".

    Args:
        inked: where the object is, (N, *positions) bool, if that is known.

    Returns:
        for every block the features' statistics; for Terminator also what slow scores and
        hyper-kernels say.
    """
    model = copy.deepcopy(model).eval()
    set_evaluation(model, "released")
    seen = _watch(model)
    if not isinstance(model, Terminator):
        model(x)
        return Observation(*_features(seen))
    parts = model(x, return_parts=True).blocks
    for number, part in enumerate(parts, start=1):
        seen |= {(number, name): branch for name, branch in part.branches.items()}
    inputs = [seen.pop((number, "input")) for number in range(1, len(parts) + 1)]
    numbers, fields = _features(seen)
    for number, (z, part) in enumerate(zip(inputs, parts, strict=True), start=1):
        numbers += _scores(number, z, part.slow_score, part.hyper_kernel, inked)
    numbers += _kernels([part.hyper_kernel for part in parts])
    fields["slow_score"] = (
        torch.stack([part.slow_score[:IMAGES_KEPT].mean(1) for part in parts]).half().cpu()
    )
    return Observation(numbers, fields)


def _watch(model: nn.Module) -> dict[tuple[int, str], Tensor]:
    """A dictionary that the next forward pass fills: per block its output, and what its last
    standardisation gave.
    """
    seen: dict[tuple[int, str], Tensor] = {}
    if isinstance(model, Terminator):
        blocks, name = list(model.blocks), "group_standardize"
    else:  # torchvision's residual blocks
        blocks, name = [module for module in model.modules() if hasattr(module, "bn2")], "bn2"
    for number, block in enumerate(blocks, start=1):
        # += follows
        block.get_submodule(name).register_forward_hook(
            lambda _, given, out, number=number: seen.__setitem__(
                (number, "standardised"), out.clone()
            )
        )
        block.register_forward_hook(
            lambda _, given, out, number=number: seen.__setitem__(
                (number, "output"), out.output if hasattr(out, "output") else out
            )
        )
        if isinstance(model, Terminator):
            block.register_forward_pre_hook(
                lambda _, given, number=number: seen.__setitem__((number, "input"), given[0])
            )
    return seen


def _row(quantity: str, block: int, part: str, value: Tensor | float) -> dict[str, Any]:
    return {"quantity": quantity, "block": block, "part": part, "value": float(value)}


def _features(
    seen: dict[tuple[int, str], Tensor],
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Mean, deviation and channel offset of every feature map; histograms of standardised values
    and outputs.

    The channel offset is the root mean square of the channels' means: 0 only if every channel has
    mean 0.
    """
    numbers: list[dict[str, Any]] = []
    counts: dict[str, list[Tensor]] = {}
    for (block, part), values in sorted(seen.items()):
        wide = values.double().transpose(0, 1).flatten(1)  # (C, N * positions)
        numbers += [
            _row("mean", block, part, wide.mean()),
            _row("sd", block, part, wide.std(unbiased=False)),
            _row("channel_offset", block, part, wide.mean(1).square().mean().sqrt()),
        ]
        if part in ("standardised", "output"):
            density = np.histogram(wide.cpu().numpy(), EDGES)[0] / (wide.numel() * np.diff(EDGES))
            counts.setdefault(part, []).append(torch.from_numpy(density).half())
    return numbers, {f"histogram {part}": torch.stack(rows) for part, rows in counts.items()}


def _scores(
    block: int, z: Tensor, score: Tensor, kernel: Tensor, inked: Tensor | None
) -> list[dict[str, Any]]:
    """How far |S| = |W| |Z| singles out the object, and what its factors do alone; the size of
    W.
    """
    rows = [_row("kernel_rms", block, "hyper-kernel", kernel.double().square().mean().sqrt())]
    if inked is None:
        return rows
    maps = {
        "slow score": score,
        "input": z,
        "hyper-kernel": kernel.expand(len(z), *kernel.shape[1:]),
    }
    for part, values in maps.items():
        strength = values.abs().mean(1)  # (N, *positions)
        rows += [
            _row("auroc", block, part, auroc(strength, inked)),
            _row("concentration", block, part, concentration(strength, inked)),
        ]
    return rows


def auroc(strength: Tensor, inked: Tensor) -> float:
    """Probability that a position on the ink is stronger than one beside it, ties one half; mean
    over images.

    Args:
        strength: (N, *positions).
        inked: the same shape, bool; images all or none of which is ink are left out.
    """
    found = []
    for values, mask in zip(strength.flatten(1).double(), inked.flatten(1), strict=True):
        on, off = values[mask][:, None], values[~mask]
        if on.numel() and off.numel():
            found.append(((on > off).double() + 0.5 * (on == off).double()).mean())
    return torch.stack(found).mean().item() if found else float("nan")


def concentration(strength: Tensor, inked: Tensor) -> float:
    """(Share of the strength that lies on the ink) / (share of the positions that are ink); mean
    over images.

    1: no more on the ink than anywhere else.  Arguments as for `auroc`.
    """
    values, mask = strength.flatten(1).double(), inked.flatten(1).double()
    share = mask.mean(1)
    use = (share > 0) & (share < 1)
    return ((values * mask).sum(1) / values.sum(1) / share)[use].mean().item()


def _kernels(kernels: list[Tensor]) -> list[dict[str, Any]]:
    """What the slow neural loss pulls together: cosine and relative distance of tile(W_j) and W_i,
    j < i.

    Relative distance: mean((tile(W_j) - W_i)^2) / (mean(W_j^2) + mean(W_i^2)): 0 equal, 1
    unrelated.
    """
    rows = []
    for (j, low), (i, high) in combinations(
        enumerate((kernel.double() for kernel in kernels), start=1), 2
    ):
        tiled = low.repeat(1, high.shape[1] // low.shape[1], *[1] * (low.ndim - 2))
        rows += [
            _row(
                "kernel_cosine",
                i,
                f"block {j}",
                torch.cosine_similarity(tiled.flatten(), high.flatten(), 0),
            ),
            _row(
                "kernel_distance",
                i,
                f"block {j}",
                (tiled - high).square().mean() / (tiled.square().mean() + high.square().mean()),
            ),
        ]
    return rows
