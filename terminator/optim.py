"""Kar2 and Kar3, the sign optimisers of the release, and the learning rate schedules.

Source: released code of arXiv 2401.17948.  Golden: terminator_kar3, _kar2, _lr_schedule.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from terminator.ops.vectors import Vectors, same


class _Kar(Optimizer):
    """p <- p - lr (sign(g) + sum_i sign(m_i)), then m_i <- b_i m_i + (1 - b_i) g; m_i from before
    g, 0 at first.

    A gradient that is NaN moves nothing, as it has no sign, but stays in its averages for good:
    weights tell nothing of it, so look at the loss, as the loop of trainings does.

    Args:
        params: parameters or groups.
        lr: step per sign, above 0.
        betas: one per average, in [0, 1).
        foreach: update all parameters with a few batched operations (True), or one by one (False);
            both give the same result.

    Raises:
        ValueError: for a bad lr or betas.
        RuntimeError: for sparse gradients.
    """

    averages = 0

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, ...], foreach: bool = True
    ):
        self._check(lr, betas)
        super().__init__(params, dict(lr=lr, betas=tuple(betas), foreach=foreach))
        self._vectors = Vectors(("gradient", "direction", *self._names))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or of what was saved: its vectors are made anew."""
        super().__setstate__(state)
        self._vectors = Vectors(("gradient", "direction", *self._names))

    def _check(self, lr: float, betas: tuple[float, ...]) -> None:
        if not lr > 0:
            raise ValueError(f"lr is {lr}; it must be above 0")
        if (
            not isinstance(betas, (tuple, list))
            or len(betas) != self.averages
            or not all(0 <= b < 1 for b in betas)
        ):
            raise ValueError(
                f"betas is {betas}; {type(self).__name__} takes {self.averages} in [0, 1)"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._check(self.param_groups[-1]["lr"], self.param_groups[-1]["betas"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; `closure` recomputes and returns the loss, which is handed back."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            grads = [p.grad for p in params]
            if any(g.is_sparse for g in grads):
                raise RuntimeError(f"{type(self).__name__} does not take sparse gradients")
            states = [self.state[p] for p in params]
            averages = [[state.get(name) for state in states] for name in self._names]
            if any(average is None for average in averages[-1]):
                averages = [
                    [
                        state.setdefault(name, torch.zeros_like(p))
                        for p, state in zip(params, states, strict=True)
                    ]
                    for name in self._names
                ]
            update = self._plain
            if group["foreach"]:
                update = (
                    self._flat
                    if all(g.is_cpu and g.dtype is torch.float32 for g in grads)
                    else self._foreach
                )
            if params:
                update(params, grads, averages, group["lr"], group["betas"])
        return loss

    @property
    def _names(self) -> list[str]:
        """Names of the averages in the state."""
        return [f"average{i + 1}" for i in range(self.averages)]

    @staticmethod
    def _plain(
        params: list, grads: list, averages: list[list], lr: float, betas: tuple[float, ...]
    ) -> None:
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            direction = torch.sign(g)
            for average, beta in zip(averages, betas, strict=True):
                direction += torch.sign(average[k])
                average[k].lerp_(g, 1 - beta)
            p.add_(direction, alpha=-lr)

    @staticmethod
    def _foreach(
        params: list, grads: list, averages: list[list], lr: float, betas: tuple[float, ...]
    ) -> None:
        directions = torch._foreach_sign(grads)
        for average, beta in zip(averages, betas, strict=True):
            torch._foreach_add_(directions, torch._foreach_sign(average))
            torch._foreach_lerp_(average, grads, 1 - beta)
        torch._foreach_add_(params, directions, alpha=-lr)

    def _flat(
        self, params: list, grads: list, averages: list[list], lr: float, betas: tuple[float, ...]
    ) -> None:
        """On a CPU, where foreach goes from tensor to tensor: all of them, end to end."""
        vectors = self._vectors.of(params)
        (grad, grad_parts), (direction, directions) = vectors["gradient"], vectors["direction"]
        torch._foreach_copy_(grad_parts, grads)
        torch.sign(grad, out=direction)
        for name, found, beta in zip(self._names, averages, betas, strict=True):
            average, parts = vectors[name]
            if not same(parts, found):  # new parameters, or a state that was loaded
                torch._foreach_copy_(parts, found)
                for p, part in zip(params, parts, strict=True):
                    self.state[p][name] = part
            direction += torch.sign(average)
            average.lerp_(grad, 1 - beta)
        torch._foreach_add_(params, directions, alpha=-lr)


class Kar3(_Kar):
    """Kar3: the sign of the gradient and of two of its averages; see _Kar for arguments and
    errors.
    """

    averages = 2

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001215,
        betas: tuple[float, float] = (0.5, 0.95),
        foreach: bool = True,
    ):
        super().__init__(params, lr, betas, foreach)


class Kar2(_Kar):
    """Kar2: the sign of the gradient and of one of its averages; see _Kar for arguments and
    errors.
    """

    averages = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.001215,
        betas: tuple[float] = (0.95,),
        foreach: bool = True,
    ):
        super().__init__(params, lr, betas, foreach)


def cosine_factor(step: int, total: int, warmup: int) -> float:
    """Share of the peak learning rate at `step` of `total`: linear warm-up, then half a cosine to
    0.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def released_factor(step: int, total: int, warmup: int) -> float:
    """The release's schedule: linear warm-up (from 1e-8) times a cosine that was started before
    step 0.

    The cosine's top lies at the end of the warm-up, yet it is normalised to 1 at step 0, so the
    peak exceeds the nominal learning rate: by 1.9 % for 8 of 100 epochs of warm-up, by 85 % for 2
    of 6 epochs of ten steps each (and by up to 100 % for 2 of 6 longer ones).
    """
    if total == 1:  # its one step is the top of the warm-up
        return 1.0
    phase = math.pi / (total - warmup)
    cosine = (1 + math.cos(phase * (step - warmup + 1))) / (1 + math.cos(phase * (warmup - 1)))
    return cosine * (1e-8 + (1 - 1e-8) * step / warmup if step < warmup else 1.0)


def learning_rate_factor(name: str, step: int, total: int, warmup: int) -> float:
    """Share of the peak learning rate in iteration `step` (from 0) of `total`.

    Args:
        name: cosine, released or constant.
        warmup: iterations, below `total` (released: below half).

    Raises:
        ValueError: for another name or a warm-up that is too long.
    """
    if name == "constant":
        return min(1.0, (step + 1) / max(1, warmup))
    if name not in ("cosine", "released"):
        raise ValueError(f"scheduler is {name!r}; allowed: cosine, released, constant")
    limit = total if name == "cosine" else (total + 1) / 2
    if not 0 <= warmup < limit:
        raise ValueError(
            f"the warm-up has {warmup} of {total} iterations; the {name} schedule allows fewer "
            f"than {limit:g} (scheduler.warmup_epochs, train.epochs)"
        )
    return (cosine_factor if name == "cosine" else released_factor)(step, total, warmup)


def decayed_rate(
    step: int, rate: float, decay_rate: float = 1.0, decay_steps: int = 10000
) -> float:
    """Learning rate with continuous exponential decay: rate * decay_rate^(step / decay_steps)."""
    return rate * decay_rate ** (step / decay_steps)
