"""One measurement of one network, in a process of its own: python - '{"preset": ...}' < benchmark_step.py

A script rather than a module, so that it also runs on other revisions of the kit: it uses nothing that the first
version did not have, and is handed over by `terminator.benchmark`. The last line that it prints is its result.
"""

import importlib
import json
import resource
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F

from terminator.losses import norm_penalty, slow_neural_loss
from terminator.model import Terminator
from terminator.optim import Kar3


def of_revision(name: str, *modules: str) -> Any:
    """A function of the kit that is measured, wherever that revision keeps it; None where it has none."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    return None


keep_freed_memory = of_revision("keep_freed_memory", "terminator.runtime.memory", "terminator.memory") or (lambda: None)
compiled_inference = of_revision("compiled", "terminator.classification.predict", "terminator.predict") or torch.compile


def build(size: int, batch: int, dimensions: int, device: str) -> tuple[Terminator, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    operator: dict[str, Any] = {} if dimensions == 2 else {"operator": "convolution"}
    model = Terminator(size=size, dimensions=dimensions, **operator).to(device)
    x = torch.randn(batch, 3, *[size] * dimensions, device=device)
    return model, x, torch.randint(0, 10, (batch,), device=device)


def training_step(model: Terminator, network, x, labels, precision: str):
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


def inference_step(network, x, precision: str):
    def step() -> None:
        with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
            network(x)

    return step


def optimizer_step(model: torch.nn.Module, name: str):
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    makers = {"Kar3": lambda: Kar3(parameters, lr=1e-4), "Kar3 plain": lambda: Kar3(parameters, lr=1e-4, foreach=False),
              "AdamW fused": lambda: torch.optim.AdamW(parameters, fused=True)}
    return makers[name]().step


def clock_of(device: str, threads: int):
    """The clock: this process's time where one thread computes, which other work on the machine leaves alone."""
    return time.process_time if device == "cpu" and threads == 1 else time.perf_counter


def seconds(step, repeats: int, warm_up: int, device: str, clock=time.perf_counter) -> list[float]:
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    times = []
    for _ in range(warm_up + repeats):
        wait()
        start = clock()
        step()
        wait()
        times.append(clock() - start)
    return times


def peak_bytes(device: str) -> int:
    """The most memory that the GPU's tensors held, or this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:  # resource's figure would start at that of the process that started this one
        with open("/proc/self/status") as file:
            status = file.read()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def make_step(what: str, size: int, batch: int, precision: str, compiled: bool, graphs: bool, device: str,
              dimensions: int, optimizer: str):
    model, x, labels = build(size, batch, dimensions, device)
    if what == "inference":
        from terminator.standardization import calibrate

        calibrate(model, [torch.randn(16, *x.shape[1:], device=device) for _ in range(2)])
        return inference_step(compiled_inference(model) if compiled else model, x, precision)
    if what == "optimizer":
        return optimizer_step(model, optimizer)
    network = torch.compile(model, mode="reduce-overhead" if graphs else "default") if compiled else model
    return training_step(model, network, x, labels, precision)


def main(threads: int, repeats: int, warm_up: int, device: str, **case: Any) -> dict:
    torch.set_num_threads(threads)
    if device == "cpu":
        keep_freed_memory()
    step = make_step(device=device, **case)
    times = seconds(step, repeats, warm_up, device)
    return {"first_s": times[0], "seconds": times[warm_up:], "peak_bytes": peak_bytes(device)}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
