"""What the machine could do at best: measured rates, and the operations and bytes of a step beside
them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from terminator.bench.measure import best_seconds, threads_of_cpu
from terminator.ops.products import product

RATES_SIDE = 2048  # of the matrices that rates are measured with: large enough for the best rate


@dataclass(frozen=True)
class Rates:
    """What the machine does in the best case: operations/s of large products, bytes/s of a copy
    (read and write).
    """

    matrix_product: float
    convolution: float
    bytes: float

    @property
    def flops(self) -> float:
        """The better rate of arithmetic, operations/s."""
        return max(self.matrix_product, self.convolution)


def machine_rates(
    precision: str = "float32",
    device: str = "cpu",
    threads: int | None = None,
    side: int = RATES_SIDE,
    megabytes: int = 256,
) -> Rates:
    """Measure the rates: side x side matrices and a 3x3 convolution in that precision, a copy too
    large for any cache.

    Args:
        threads: CPU threads (default: torch's).
    """
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(side, side, device=device).to(kind)
    images = torch.randn(8, side // 4, 32, 32, device=device).to(
        kind, memory_format=torch.channels_last
    )
    kernels = torch.randn(side // 8, side // 4, 3, 3, device=device).to(kind)
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.ones_like(source)
    with threads_of_cpu(threads or torch.get_num_threads()):
        multiply = best_seconds(lambda: product(a, a), device)
        convolution = best_seconds(lambda: F.conv2d(images, kernels, padding=1), device)
        copy = best_seconds(lambda: target.copy_(source), device)
    return Rates(
        2 * side**3 / multiply,
        2 * 8 * 32 * 32 * 9 * (side // 4) * (side // 8) / convolution,
        2 * source.nbytes / copy,
    )


class _Work(TorchDispatchMode):
    """What every operation does: `operations`, pairs of floating point operations and bytes read or
    written.

    Views cost nothing.
    """

    def __init__(self, counter: FlopCounterMode):
        super().__init__()
        self.operations: list[tuple[int, int]] = []
        self._counter = counter

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = self._counter.get_total_flops()
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        storages = {t.untyped_storage()._cdata for t in given}
        is_view = (
            made
            and all(t.untyped_storage()._cdata in storages for t in made)
            and not func._schema.is_mutable
        )
        if not is_view:
            self.operations.append(
                (
                    self._counter.get_total_flops() - before,
                    sum(t.numel() * t.element_size() for t in (*given, *made)),
                )
            )
        return out


def _convolution_gradients(
    gradient: Any, x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """Operations of a convolution's gradients: torch counts a depth-wise kernel's as if it had no
    groups.
    """
    given = [shape for shape in out_shape[:2] if shape is not None]
    return len(given) * 2 * torch.Size([gradient[0], *gradient[2:], *weight]).numel()


# in place of torch's own formulas
COUNTED = {torch.ops.aten.convolution_backward: _convolution_gradients}


def work(step: Callable[[], object]) -> list[tuple[int, int]]:
    """Floating point operations and bytes read or written, of every operation of a step on the
    CPU.
    """
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter, _Work(counter) as done:
        step()
    return done.operations


def floors_of(step: Callable[[], object], rates: Rates) -> dict[str, Any]:
    """The least that a step on the CPU needs at these rates.

    Returns:
        flops, bytes; flop_floor_ms, byte_floor_ms (all operations together); serial_floor_ms, the
        sum of every operation's larger one.
    """
    done = np.array(work(step))  # (operations, 2)
    floors = 1e3 * done / (rates.flops, rates.bytes)  # ms
    whole = floors.sum(0)
    return {
        "flops": int(done[:, 0].sum()),
        "bytes": int(done[:, 1].sum()),
        "flop_floor_ms": whole[0],
        "byte_floor_ms": whole[1],
        "serial_floor_ms": floors.max(1).sum(),
    }
