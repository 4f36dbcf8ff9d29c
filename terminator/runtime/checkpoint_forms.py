"""What a checkpoint has to be like; each function says what is wrong with a part of it, or ""."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from terminator.runtime.weights import is_finite

NOT_FINITE = "holds NaN or infinite numbers"


def of_head(saved: Mapping[str, Any]) -> str:
    """Of what every checkpoint holds: its identity and the random states of its processes."""
    if not isinstance(saved.get("identity"), dict):
        return "it lacks its identity, a mapping"
    states = saved.get("random")
    names = {"python", "numpy", "torch", "cuda"}
    if (
        not isinstance(states, list)
        or not states
        or not all(isinstance(state, dict) and names <= state.keys() for state in states)
    ):
        return "it lacks the random states of its processes"
    return ""


def of_rows(rows: Any, epochs: int) -> str:
    """Of the epochs that it has: numbered from 1, no more than there are to be, numbers (a test's
    loss may be infinite).
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return "its rows are no list of epochs"
    if len(rows) > epochs:
        return f"it has {len(rows)} epochs of {epochs}"
    numbers = [row.get("epoch") for row in rows]
    if numbers != list(range(1, len(rows) + 1)):
        return f"its epochs are numbered {numbers[:8]}, not 1 to {len(rows)}"
    for row in rows:
        known = {name: value for name, value in row.items() if value is not None}
        if not all(isinstance(name, str) and _is_number(value) for name, value in known.items()):
            return f"epoch {row['epoch']} has values that are no numbers"
        if "seconds" not in known:
            return f"epoch {row['epoch']} lacks its seconds"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def of_numbers(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Of a training under way: weights, and what the optimiser keeps of them, are finite."""
    for name, value in model.state_dict().items():
        if not is_finite(value):
            return f"the weight {name} {NOT_FINITE}"
    for kept in optimizer.state.values():
        for name, value in kept.items():
            if isinstance(value, Tensor) and not is_finite(value):
                return f"the optimiser's {name} {NOT_FINITE}"
    return ""


def of_weights(found: Any, own: Mapping[str, Tensor]) -> str:
    """Of the network's weights, beside the network's own."""
    if not isinstance(found, Mapping) or found.keys() != own.keys():
        return "its weights are not those of this network"
    for name, value in own.items():
        if (problem := _of_tensor(found[name], value)) != "":
            return f"its weight {name} {problem}"
    return ""


def _of_tensor(found: Any, own: Tensor) -> str:
    if not isinstance(found, Tensor) or found.shape != own.shape or found.dtype != own.dtype:
        said = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else "no tensor"
        return f"is {said}, expected {own.dtype} {tuple(own.shape)}"
    return "" if is_finite(found) else NOT_FINITE


def of_optimizer(found: Any, own: torch.optim.Optimizer, steps: int) -> str:
    """Of the optimiser's state, after so many steps.

    Its groups are those of the optimiser; every parameter has a state, whose tensors are numbers or
    like the parameter; what counts steps has counted no more and no fewer than there were.
    """
    if not isinstance(found, dict) or {"state", "param_groups"} - found.keys():
        return "it lacks the optimiser's state"
    groups, state = found["param_groups"], found["state"]
    ours = own.state_dict()["param_groups"]
    if not isinstance(groups, list) or not isinstance(state, dict) or len(groups) != len(ours):
        return f"its optimiser has not the {len(ours)} groups of this one"
    for theirs, group in zip(groups, ours, strict=True):
        if not isinstance(theirs, dict) or theirs.get("params") != group["params"]:
            return "its optimiser has groups of other parameters"
        needed = {name for name, value in group.items() if _is_number(value) or _is_pair(value)}
        if missing := sorted(needed - theirs.keys()):  # torch itself fills in newer switches
            return f"its optimiser's groups lack {', '.join(missing)}"
        known = group.keys() & theirs.keys()
        if strange := sorted(name for name in known if not _is_like(theirs[name], group[name])):
            return f"its optimiser has an impossible {strange[0]}"
    parameters = [p for group in own.param_groups for p in group["params"]]
    return _of_states(state, dict(enumerate(parameters)), _keeps_state(own), steps)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_like(theirs: Any, ours: Any) -> bool:
    if isinstance(ours, Tensor) or ours is None:
        return True
    if _is_pair(ours):
        return _is_pair(theirs) and len(theirs) == len(ours)
    if isinstance(ours, bool):  # a switch, which may follow the device
        return theirs is None or isinstance(theirs, bool)
    if isinstance(ours, str):
        return theirs == ours
    if isinstance(theirs, Tensor) and theirs.numel() == 1:
        return bool(theirs.isfinite().all())
    return _is_number(theirs) and math.isfinite(theirs)


def _keeps_state(own: torch.optim.Optimizer) -> bool:
    """Whether every parameter has a state after a step; plain SGD keeps none."""
    momentum = [group.get("momentum") for group in own.param_groups]
    return not (isinstance(own, torch.optim.SGD) and not any(momentum))


def _of_states(
    state: dict[Any, Any], parameters: dict[int, nn.Parameter], keeps: bool, steps: int
) -> str:
    if strange := [key for key in state if key not in parameters]:
        return f"its optimiser has a state for {strange[0]!r}, which is no parameter"
    if steps and keeps and not state:
        return f"its optimiser has no state, after {steps} steps"
    names = {frozenset(kept) for kept in state.values() if isinstance(kept, dict)}
    if len(names) > 1:
        return "its optimiser's states differ in what they keep"
    for number, kept in state.items():
        if not isinstance(kept, dict):
            return f"its optimiser's state of parameter {number} is no mapping"
        for name, value in kept.items():
            if problem := _of_kept(name, value, parameters[number], steps):
                return f"its optimiser's {name} of parameter {number} {problem}"
    counted = [float(kept["step"]) for kept in state.values() if "step" in kept]
    if counted and max(counted) != steps:
        return f"its optimiser has taken {max(counted):.0f} steps, its epochs have {steps}"
    return ""


def _of_kept(name: Any, value: Any, parameter: Tensor, steps: int) -> str:
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if name == "step":  # fewer, where a parameter had no gradient
        counts = _is_number(number) and 0 < number <= steps
        return "" if counts else f"is {str(number)[:20]}, after {steps} steps"
    if value is None or _is_number(value):
        return ""
    if not isinstance(value, Tensor):
        return "is no tensor"
    if value.shape not in (parameter.shape, torch.Size([])):
        return f"is {tuple(value.shape)}, expected {tuple(parameter.shape)}"
    return "" if is_finite(value) else NOT_FINITE


def of_moment(within: Any, steps: int) -> str:
    """Of where within an epoch of so many steps it was written; None is at an epoch's end."""
    if within is None:
        return ""
    if not isinstance(within, dict) or {"step", "seconds", "processes"} - within.keys():
        return "it does not say where in its epoch it was written"
    step, seconds, processes = within["step"], within["seconds"], within["processes"]
    if type(step) is not int or not 0 < step < steps:
        return f"it was written after step {step!r} of {steps}"
    if not _is_number(seconds) or not 0 <= seconds < math.inf:
        return f"its epoch took {seconds!r} seconds"
    if not isinstance(processes, list) or not processes:
        return "it lacks the sums of its processes"
    names = {frozenset(_totals(each)) for each in processes}
    if len(names) != 1 or "loss" not in next(iter(names)) or "correct" not in next(iter(names)):
        return "its processes have no sums of losses and right answers"
    for each in processes:
        if not all(_is_sum(value) for value in each["totals"].values()):
            return "its sums are no numbers"
        generator = each.get("generator")
        if not isinstance(generator, Tensor) or generator.dtype != torch.uint8:
            return "it lacks the state of its epoch's generator"
        if not _takes(generator):
            return "the state of its epoch's generator is none"
    return ""


def _totals(process: Any) -> Iterable[str]:
    totals = process.get("totals") if isinstance(process, dict) else None
    return totals.keys() if isinstance(totals, dict) else ()


def _is_sum(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.numel() != 1:
        return False
    return bool(value.double().isfinite().all())


def _takes(state: Tensor) -> bool:
    try:
        torch.Generator().set_state(state)
    except (RuntimeError, TypeError):
        return False
    return True


def of_history(stretches: Any, epochs: int) -> str:
    """Of what trained it: mappings whose epochs follow one another and end with the last."""
    if not isinstance(stretches, list) or not all(isinstance(s, dict) for s in stretches):
        return "its stretches are no list of mappings"
    last = 0
    for stretch in stretches:
        span = stretch.get("epochs")
        if not isinstance(span, list) or not all(type(n) is int for n in span):
            return "a stretch does not say its epochs"
        if span and (len(span) != 2 or span[0] != last + 1 or span[1] < span[0]):
            return f"a stretch has epochs {span[:4]}, after {last}"
        last = span[1] if span else last
    if stretches and last != epochs:
        return f"its stretches end with epoch {last}, its rows with {epochs}"
    return ""


def of_observed(observed: Any, epochs: int) -> str:
    """Of what was observed on the way."""
    if not isinstance(observed, list) or not all(
        isinstance(each, dict)
        and type(each.get("epoch")) is int
        and 0 <= each["epoch"] <= epochs
        and isinstance(each.get("numbers"), list)
        and all(isinstance(number, dict) for number in each["numbers"])
        and isinstance(each.get("fields"), dict)
        for each in observed
    ):
        return "what it observed is no list of epochs' numbers and fields"
    return ""


def first(*checks: Callable[[], str]) -> str:
    """The first thing that is wrong; each check may rely on those before it."""
    return next((said for check in checks if (said := check())), "")
