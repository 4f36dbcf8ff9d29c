"""Loss terms beside the cross entropy: the slow neural loss and the norm penalty.

Source: arXiv 2401.17948 and the released code.  Golden: terminator_slow_neural_loss,
    terminator_model_small.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from terminator.config import SLOW_NEURAL_LOSS_FORMS


def slow_neural_loss(hyper_kernels: Sequence[Tensor], form: str = "kernel") -> Tensor:
    """Sum over blocks j < i of mean((tile(W_j) - W_i)^2): local error feedback for the slow nets.

    Args:
        hyper_kernels: W_i (1, C_i, *positions) per block, each C_i a multiple of every earlier one.
        form: "kernel", or "channel_sum" (compares the sums over channels instead).

    Returns:
        a scalar; gradients reach both kernels of a pair.

    Raises:
        ValueError: for another form, or channels that do not tile.
    """
    if form not in SLOW_NEURAL_LOSS_FORMS:
        allowed = ", ".join(SLOW_NEURAL_LOSS_FORMS)
        raise ValueError(f"form is {form!r}; allowed: {allowed}")
    total = hyper_kernels[0].new_zeros(())
    for low, high in combinations(hyper_kernels, 2):
        repeats, rest = divmod(high.shape[1], low.shape[1])
        if rest:
            raise ValueError(f"{low.shape[1]} channels cannot be tiled to {high.shape[1]}")
        if form == "channel_sum":
            difference = low.sum(1) * repeats - high.sum(1)
        else:
            difference = low.repeat(1, repeats, *[1] * (low.ndim - 2)) - high
        total = total + difference.square().mean()
    return total


def norm_penalty(
    fast: Sequence[Tensor], slow: Sequence[Tensor], l2_reg: float, slow_share: float = 1e-6
) -> Tensor:
    """l2_reg * (sum of ||p|| over fast parameters + 1e-6 * sum of ||w|| over slow weights), norms
    not squared.

    Args:
        fast, slow: as Terminator.penalized_parameters() gives them.

    Returns:
        a scalar.
    """

    def norms(parameters: Sequence[Tensor]) -> Tensor:
        return (
            torch.stack(torch._foreach_norm(list(parameters))).sum()
            if parameters
            else torch.zeros(())
        )

    return l2_reg * (norms(fast) + slow_share * norms(slow))
