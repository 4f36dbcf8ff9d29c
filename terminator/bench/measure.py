"""Time and peak memory of a call, and the power with which a cost grows."""

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from terminator import hyperzzw

# -- cost against size -----------------------------------------------------------------------------------------


def context_operators(z: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Global mixing of z (N, C, H, H), several ways, as functions without arguments, for `cost_table`."""
    kernel = torch.randn_like(z[:1]) / z.shape[-1]
    tokens = z.flatten(2).transpose(1, 2).contiguous()  # (N, P, C)

    def explicit_attention() -> Tensor:
        weights = (tokens @ tokens.transpose(1, 2) / math.sqrt(tokens.shape[-1])).softmax(-1)  # (N, P, P)
        return weights @ tokens

    return {
        "HyperZ.Z.W, matrix": lambda: hyperzzw.matrix_operator(hyperzzw.slow_score(z, kernel), z),
        "HyperZ.Z.W, convolution": lambda: hyperzzw.convolution_operator(hyperzzw.slow_score(z, kernel), z),
        "softmax attention, fused": lambda: F.scaled_dot_product_attention(*[tokens[:, None]] * 3),
        "softmax attention, written out": explicit_attention,
    }


def cost_table(sizes: Iterable[int], channels: int = 12, batch: int = 1, device: str = "cpu",
               repeats: int = 5) -> pd.DataFrame:
    """Measured cost of every context operator, forward, per image side: seconds (median) and peak bytes.

    Returns: columns operator, side, positions, seconds, bytes.
    """
    rows = []
    for side in sizes:
        z = torch.randn(batch, channels, side, side, device=device)
        for name, function in context_operators(z).items():
            row = {"operator": name, "side": side, "positions": side * side}
            rows.append(row | {"seconds": median_seconds(function, device, repeats), "bytes": peak_bytes(function)})
    return pd.DataFrame(rows)


@torch.no_grad()
def median_seconds(function: Callable[[], object], device: str = "cpu", repeats: int = 5) -> float:
    """Median wall time of a call, after one to warm up; waits for the GPU."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else (lambda: None)
    times = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


@torch.no_grad()
def peak_bytes(function: Callable[[], object]) -> int:
    """The most bytes that tensors made by the call held at one time; work space inside an operation is not seen."""
    with _LiveBytes() as mode:
        function()
    return mode.peak


class _LiveBytes(TorchDispatchMode):
    """Watches every operation's results and adds up those that are still alive."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        self.live = {key: item for key, item in self.live.items() if not item[0].expired()}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in given:  # no views
                self.live[key] = StorageWeakRef(tensor.untyped_storage()), tensor.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return out


def exponent(sizes: Iterable[float], costs: Iterable[float], last: int = 3) -> float:
    """p of the law cost ~ size^p, fitted to the `last` largest sizes."""
    pairs = sorted(zip(sizes, costs, strict=True))[-last:]
    if len(pairs) < 2 or min(min(pair) for pair in pairs) <= 0:
        raise ValueError(f"exponent needs at least two positive sizes and costs, got {pairs}")
    x, y = np.log(np.array(pairs, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])
