"""A trained Terminator against controls: what its global branches are worth, and what else singles
out the object.

`branch_shares` and `without_branches` ask how much of a block's bottleneck comes from the global
operator, and what the network still can when that is taken away after training. `object_maps` sets
slow scores beside the activations in them, beside the same scores with shuffled hyper-kernels, and
beside Grad-CAM (arXiv 1610.02391).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from terminator import hyperzzw
from terminator.classification.observations import auroc, concentration
from terminator.model import Parts, Terminator
from terminator.sfne import BlockParts
from terminator.standardization import set_evaluation

# the branches of a block that the global operator makes: S T (o), its SiLU, and the two others
GLOBAL = ("o", "glu", "o_mixed", "o_interacted")
LOCAL = ("l1", "l2", "l3", "l4")
FAST = ("fast",)
SCORE, INPUT, SHUFFLED, GRAD_CAM = "|S|", "|Z| alone", "|S|, W shuffled", "Grad-CAM"
SHUFFLES = 5


@torch.no_grad()
def branch_shares(model: Terminator, x: Tensor) -> list[dict[str, float]]:
    """Per block, the share of the bottleneck's input power (mean square) that every branch has.

    Args:
        model: in evaluation mode.
        x: (N, C, *positions).
    """
    found = []
    for part in model(x, return_parts=True).blocks:
        power = {
            name: float(branch.double().square().mean()) for name, branch in part.branches.items()
        }
        total = sum(power.values())
        found.append({name: value / total for name, value in power.items()})
    return found


def share_of(shares: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[float]:
    """Per block, what some branches have together."""
    return [sum(block.get(name, 0.0) for name in names) for block in shares]


@contextmanager
def without_branches(model: Terminator, names: Sequence[str], x: Tensor) -> Iterator[None]:
    """The same network with those branches set to zero where they enter the bottlenecks.

    Args:
        x: any input (N, C, *positions): it tells the order of a block's branches.
    """
    with torch.no_grad():
        orders = [list(part.branches) for part in model(x, return_parts=True).blocks]
    hooks = [
        block.bottleneck.register_forward_pre_hook(_zeroing([name in names for name in order]))
        for block, order in zip(model.blocks, orders, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _zeroing(away: Sequence[bool]) -> Any:
    def hook(_: nn.Module, given: tuple[list[Tensor]]) -> tuple[list[Tensor]]:
        pairs = zip(given[0], away, strict=True)
        return ([torch.zeros_like(branch) if gone else branch for branch, gone in pairs],)

    return hook


# -- what singles out the object -------------------------------------------------------------------


def object_maps(model: Terminator, x: Tensor, seed: int = 0) -> dict[str, list[Tensor]]:
    """Per way, and per block of it, how strong every position of x is: (N, *positions).

    Standardisation over the batch uses the statistics of x, as in the evaluation "released".
    SHUFFLED has SHUFFLES draws of every block, one after the other; Grad-CAM is of a block's
    output, for the class that the network says.
    """
    model.eval()
    set_evaluation(model, "released")
    parts, inputs = seen_by_blocks(model, x)
    shuffled = [
        strength(hyperzzw.slow_score(z, kernel))
        for z, part in zip(inputs, parts.blocks, strict=True)
        for kernel in shuffles(part, seed)
    ]
    return {
        SCORE: [strength(part.slow_score) for part in parts.blocks],
        INPUT: [strength(z) for z in inputs],
        SHUFFLED: shuffled,
        GRAD_CAM: grad_cam(model, x),
    }


@torch.no_grad()
def seen_by_blocks(model: Terminator, x: Tensor) -> tuple[Parts, list[Tensor]]:
    """All parts of an answer to x, and the input Z (N, C, *positions) of every block."""
    with inputs_of(model.blocks) as inputs:
        return model(x, return_parts=True), inputs


@contextmanager
def inputs_of(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """What modules are given first, in the order of their calls, until the block ends."""
    inputs: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        for module in modules
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def strength(values: Tensor) -> Tensor:
    """(N, C, *positions) to the mean of absolute values over channels, (N, *positions)."""
    return values.abs().mean(1)


def shuffles(part: BlockParts, seed: int, draws: int = SHUFFLES) -> Iterator[Tensor]:
    """The hyper-kernel (1, C, *positions) with its positions in other orders, the same for all
    channels.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = part.hyper_kernel.flatten(2)
    for _ in range(draws):
        order = torch.randperm(flat.shape[2], generator=generator).to(flat.device)
        yield flat[..., order].view_as(part.hyper_kernel)


def grad_cam(model: Terminator, x: Tensor) -> list[Tensor]:
    """Per block, ReLU(sum_c w_c A_c) (N, *positions) of its output A; w_c is the mean over
    positions of the gradient of the largest logit by A_c.

    Source: arXiv 1610.02391.
    """
    outputs: list[Tensor] = []

    def keep(_: nn.Module, given: Any, part: BlockParts) -> None:
        part.output.retain_grad()
        outputs.append(part.output)

    hooks = [block.register_forward_hook(keep) for block in model.blocks]
    try:
        with torch.enable_grad():
            model(x).max(1).values.sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
    model.zero_grad(set_to_none=True)
    axes = tuple(range(2, x.ndim))
    found = []
    for output in outputs:
        assert output.grad is not None
        weights = output.grad.mean(axes, keepdim=True)
        found.append((weights * output.detach()).sum(1).clamp(min=0))
    return found


def per_image(maps: Sequence[Tensor], inked: Tensor) -> tuple[list[float], float]:
    """AUROC (%) of every image, and the concentration, both means over blocks.

    Args:
        maps: (N, *positions) each.
        inked: where the object is, (N, *positions) bool, some of every image and not all of it.
    """
    scores = [
        [100 * auroc(values[i : i + 1], inked[i : i + 1]) for i in range(len(inked))]
        for values in maps
    ]
    dense = [concentration(values.clamp(min=1e-12), inked) for values in maps]
    return [float(value) for value in np.mean(scores, axis=0)], float(np.mean(dense))


def object_scores(
    maps_of: Callable[[Tensor, int], Mapping[str, Sequence[Tensor]]],
    x: Tensor,
    inked: Tensor,
    batch: int,
) -> dict[str, dict[str, Any]]:
    """Per way, AUROC (%) of every image that has ink, and the concentration.

    Args:
        maps_of: a batch of images and its place to the maps of every way, (N, *positions) each.
        x: (N, C, *positions).
        inked: where the object is, (N, *positions) bool.
        batch: images that are standardised together.
    """
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(x), batch):
        mask = inked[start : start + batch]
        use = mask.flatten(1).any(1)
        if not use.any():
            continue
        for way, maps in maps_of(x[start : start + batch], start).items():
            scores, dense = per_image([values[use] for values in maps], mask[use])
            of_way = found.setdefault(way, {"auroc": [], "concentration": []})
            of_way["auroc"] += [round(score, 2) for score in scores]
            of_way["concentration"] += [dense] * len(scores)
    for of in found.values():
        of["concentration"] = sum(of["concentration"]) / len(of["concentration"])
    return found


def bootstrap_interval(
    differences: Sequence[Sequence[float]], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a mean of paired differences, drawing images of a seed, then seeds.

    Args:
        differences: per seed, one of every image.
        draws: resamples.
    """
    random = np.random.default_rng(seed)
    values = [np.asarray(of_seed, dtype=float) for of_seed in differences]
    means = [
        np.mean([of[random.integers(len(of), size=len(of))].mean() for of in chosen])
        for chosen in (
            [values[i] for i in random.integers(len(values), size=len(values))]
            for _ in range(draws)
        )
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
