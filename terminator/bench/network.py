"""One measurement of one network: training, inference or an optimiser's step.

This file is handed over to a process of its own (measure.in_process), where it also runs on other
revisions of the kit: of the kit it uses nothing that the first version did not have, or asks
`of_revision`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.bench.measure import process_bytes, seconds
from terminator.losses import norm_penalty, slow_neural_loss
from terminator.model import Terminator
from terminator.optim import Kar3


def of_revision(name: str, *modules: str) -> Any:
    """A function of the kit that is measured, wherever that revision keeps it; None without one.

    Raises:
        ImportError: if the revision has it in none of the modules, but elsewhere: it would be
            measured without what it has.
    """
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    (package,) = importlib.import_module("terminator").__path__
    homes = [
        str(path)
        for path in sorted(Path(package).rglob("*.py"))
        if f"\ndef {name}(" in path.read_text(encoding="utf8")
    ]
    if homes:
        raise ImportError(
            f"{name} is defined in {', '.join(homes)}; allowed: in {', '.join(modules)}"
        )
    return None


keep_freed_memory = of_revision(
    "keep_freed_memory", "terminator.runtime.memory", "terminator.memory"
) or (lambda: None)
compiled_inference = (
    of_revision("compiled", "terminator.classification.predict", "terminator.predict")
    or torch.compile
)


def build(size: int, batch: int, dimensions: int, device: str) -> tuple[Terminator, Tensor, Tensor]:
    """The network for 10 classes, images or sequences (batch, 3, size[, size]), and labels."""
    torch.manual_seed(0)
    operator: dict[str, Any] = {} if dimensions == 2 else {"operator": "convolution"}
    model = Terminator(size=size, dimensions=dimensions, **operator).to(device)
    x = torch.randn(batch, 3, *[size] * dimensions, device=device)
    return model, x, torch.randint(0, 10, (batch,), device=device)


def training_step(
    model: Terminator, network: Callable[..., Any], x: Tensor, labels: Tensor, precision: str
) -> Callable[[], None]:
    """A whole step of training, update included; network: the model, or its compiled self."""
    optimizer = Kar3(model.parameters(), lr=1e-4)
    fast, slow = model.penalized_parameters()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits, kernels = network(x, return_kernels=True)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
            loss = loss + slow_neural_loss([kernel.float() for kernel in kernels], "kernel")
        loss = loss + norm_penalty(fast, slow, 5e-5)
        loss.backward()
        optimizer.step()

    return step


def inference_step(network: Callable[..., Any], x: Tensor, precision: str) -> Callable[[], None]:
    """Answers to a batch."""

    def step() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            network(x)

    return step


def optimizer_step(model: nn.Module, name: str) -> Callable[[], object]:
    """The update alone, from random gradients; name: one of case.OPTIMIZERS."""
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "Kar3": lambda: Kar3(parameters, lr=1e-4),
        "Kar3 plain": lambda: Kar3(parameters, lr=1e-4, foreach=False),
        "AdamW fused": lambda: torch.optim.AdamW(parameters, fused=True),
    }
    return makers[name]().step


def make_step(
    what: str,
    size: int,
    batch: int,
    precision: str = "float32",
    compiled: bool = False,
    graphs: bool = False,
    device: str = "cpu",
    dimensions: int = 2,
    optimizer: str = "Kar3",
) -> Callable[[], object]:
    """The step of a case (case.Case), as a function without arguments."""
    model, x, labels = build(size, batch, dimensions, device)
    if what == "inference":
        from terminator.standardization import calibrate

        calibrate(model, [torch.randn(16, *x.shape[1:], device=device) for _ in range(2)])
        return inference_step(compiled_inference(model) if compiled else model, x, precision)
    if what == "optimizer":
        return optimizer_step(model, optimizer)
    mode = "reduce-overhead" if graphs else "default"
    network = torch.compile(model, mode=mode) if compiled else model
    return training_step(model, network, x, labels, precision)


def main(threads: int, repeats: int, warm_up: int, device: str, **case: Any) -> dict[str, Any]:
    """Measure a case in this process, and change its threads and memory for good.

    Returns:
        first_s (compilation included), seconds (of every repeat, by the clock on the wall),
        peak_bytes (of the process; of the GPU).
    """
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    times = seconds(make_step(device=device, **case), repeats, warm_up, device)
    return {"first_s": times[0], "seconds": times[warm_up:], "peak_bytes": process_bytes(device)}
