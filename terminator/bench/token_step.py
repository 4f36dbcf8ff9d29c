"""One measurement of one token mixer: python - '{"name": ...}' < sequence_step.py, or `main` called in this process.

Handed over by `terminator.sequence_bench` to a process of its own, whose memory is then that of the measurement. The
last line that it prints is its result.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from terminator.bench import measure, network
from terminator.mixers.registry import make_mixer
from terminator.runtime.memory import keep_freed_memory

UNIT = 512  # side of the matrices whose product is the unit of time


def step_of(name: str, length: int, width: int, heads: int, batch: int, device: str
            ) -> tuple[Callable[[], None], int]:
    """A forward and backward pass of a mixer on random tokens (batch, length, width); and its parameters."""
    torch.manual_seed(0)
    mixer = make_mixer(name, width, length, heads).to(device)
    x = torch.randn(batch, length, width, device=device, requires_grad=True)
    cotangent = torch.randn_like(x)

    def run() -> None:
        with torch.enable_grad():  # also where memory is watched
            mixer.zero_grad(set_to_none=True)
            x.grad = None
            mixer(x).backward(cotangent)

    return run, sum(p.numel() for p in mixer.parameters())


def unit_seconds(device: str, clock: Callable[[], float]) -> float:
    """The shortest time of a float32 matrix product of fixed size."""
    a = torch.randn(UNIT, UNIT, device=device)
    return min(network.seconds(lambda: a @ a, 5, 1, device, clock)[1:])


def main(name: str, length: int, width: int, heads: int, batch: int, device: str, threads: int, repeats: int
         ) -> dict[str, Any]:
    """Times of every repeat (s), the unit's before and after (the shorter), the tensors' peak, the process's growth."""
    before_threads, clock = torch.get_num_threads(), network.clock_of(device, threads)
    torch.set_num_threads(threads)
    try:
        unit = unit_seconds(device, clock)
        before = network.peak_bytes(device)
        if device == "cpu":
            keep_freed_memory()
        run, parameters = step_of(name, length, width, heads, batch, device)
        times = network.seconds(run, repeats, 1, device, clock)
        grown = network.peak_bytes(device) - before
        tensors = measure.peak_bytes(run)
        return {"parameters": parameters, "clock": "process" if clock is time.process_time else "wall",
                "seconds": times[1:], "unit": min(unit, unit_seconds(device, clock)), "bytes": tensors,
                "process_bytes": grown}
    finally:
        torch.set_num_threads(before_threads)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
