"""The optimisers by name: Kar2 and Kar3, AdamW, SGD with momentum, and Lion."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from terminator.config import BETAS, OptimizerConfig
from terminator.optim import Kar2, Kar3


def make_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimiser that the configuration names, at its peak learning rate."""
    betas: Any = config.betas or BETAS[config.name]
    if config.name == "Kar2":
        return Kar2(parameters, config.lr, betas)
    if config.name == "Kar3":
        return Kar3(parameters, config.lr, betas)
    if config.name == "AdamW":
        return torch.optim.AdamW(parameters, config.lr, betas, weight_decay=config.weight_decay)
    if config.name == "Lion":
        return Lion(parameters, config.lr, betas, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)


class Lion(Optimizer):
    """Lion: p <- p - lr (sign(b1 m + (1 - b1) g) + weight_decay p), then m <- b2 m + (1 - b2) g, m
    0 at first.

    Args:
        params: parameters or groups.
        lr: step per sign, above 0.
        betas: b1, b2 in [0, 1).
        weight_decay: decoupled from the gradient, 0 or more.

    Raises:
        ValueError: for other values.
        RuntimeError: for sparse gradients.

    Source: arXiv 2302.06675, Algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, dict(lr=lr, betas=tuple(betas), weight_decay=weight_decay))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        if not group["lr"] > 0:
            raise ValueError(f"lr is {group['lr']}; it must be above 0")
        if len(group["betas"]) != 2 or not all(0 <= b < 1 for b in group["betas"]):
            raise ValueError(f"betas is {group['betas']}; Lion takes 2 in [0, 1)")
        if not group["weight_decay"] >= 0:
            raise ValueError(f"weight_decay is {group['weight_decay']}; it must be 0 or more")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; `closure` recomputes and returns the loss, which is handed back."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if any(p.grad.is_sparse for p in params):
                raise RuntimeError("Lion does not take sparse gradients")
            if not params:
                continue
            grads, (first, second) = [p.grad for p in params], group["betas"]
            for p in params:
                if not self.state[p]:
                    self.state[p]["average"] = torch.zeros_like(
                        p, memory_format=torch.preserve_format
                    )
            averages = [self.state[p]["average"] for p in params]
            directions = torch._foreach_lerp(averages, grads, 1 - first)
            torch._foreach_sign_(directions)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, directions, alpha=-group["lr"])
            torch._foreach_lerp_(averages, grads, 1 - second)
        return loss
