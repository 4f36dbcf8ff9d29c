"""How many bound pairs one superposition holds: cosine to the right value, signal to noise,
retrieval.

n random values x_i are bound to n random keys y_i and added up; every key is asked for its value:
r_j = (sum_i x_i * y_i) (#) y_j. Its cosine to x_j is the signal; its cosine to a vector that was
never stored has the deviation 1/sqrt(D) of any two random directions, the noise. Retrieved is x_j
if no other of `items` vectors, the n stored ones and others, has a larger cosine to r_j.

Source of the expected cosines: arXiv 2305.19534 and 2109.02157; see
terminator.hrrformer.algebra.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.hrrformer import algebra
from terminator.runtime.progress import bar

# (projected to unit magnitude, exact inverse); projected, both inverses agree
ARMS = {
    "raw, approximate inverse": (False, False),
    "raw, exact inverse": (False, True),
    "projected": (True, False),
}
ITEMS = 1024  # vectors among which the right value has to be found


def expected_cosine(pairs: int, arm: str) -> float:
    """Theory: 1/sqrt(n) for projected vectors, 1/sqrt(n + 1) for raw ones; none is known for the
    exact inverse.
    """
    _check_arm(arm)
    projected, exact = ARMS[arm]
    return math.nan if exact else 1 / math.sqrt(pairs if projected else pairs + 1)


def expected_accuracy(cosine: float, width: int, items: int = ITEMS) -> float:
    """Chance (%) that the right value comes first among `items`, if all cosines were normal.

    The right one has mean c and deviation sqrt((1 - c^2)/D), each of the others mean 0 and
    deviation 1/sqrt(D).
    """
    if math.isnan(cosine):
        return math.nan
    z, weight = np.polynomial.hermite_e.hermegauss(80)  # integrates against exp(-z^2 / 2)
    right = torch.from_numpy(cosine * math.sqrt(width) + math.sqrt(1 - cosine**2) * z)
    all_below = torch.special.ndtr(right).pow(items - 1)
    return 100 * float((torch.from_numpy(weight) * all_below).sum()) / math.sqrt(2 * math.pi)


def capacity_table(
    widths: Iterable[int],
    pairs: Iterable[int],
    arms: Iterable[str] = tuple(ARMS),
    queries: int = 256,
    items: int = ITEMS,
    seed: int = 0,
) -> pd.DataFrame:
    """A row per width D, number of pairs n and arm, measured on `queries` keys at least, and theory
    beside it.

    Returns:
        columns arm, width, pairs, cosine, cosine_sd, noise (deviation of the cosine to what is not
        stored), snr = cosine / noise, accuracy (%), expected_cosine, expected_snr,
        expected_accuracy.

    Raises:
        ValueError: for an unknown arm, no pairs, or more pairs than items.
    """
    widths, pairs, arms, rows = list(widths), list(pairs), list(arms), []
    for arm in arms:
        _check_arm(arm)
    for count in pairs:
        if not 1 <= count < items:
            raise ValueError(
                f"pairs is {count}; allowed: 1 to {items - 1}, fewer than the {items} items"
            )
    with bar(len(widths) * len(pairs) * len(arms), "capacity", "case") as progress:
        for width in widths:
            for count in pairs:
                for arm in arms:
                    rows.append(_measured(arm, width, count, queries, items, seed))
                    progress.update()
    return pd.DataFrame(rows)


def _check_arm(arm: str) -> None:
    if arm not in ARMS:
        raise ValueError(f"arm is {arm!r}; allowed: {'; '.join(ARMS)}")


def _measured(
    arm: str, width: int, count: int, queries: int, items: int, seed: int
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    vectors = algebra.random_vectors(items, width, generator)
    if ARMS[arm][0]:
        vectors = algebra.project(vectors)
    vectors = F.normalize(vectors, dim=-1)  # lengths change no cosine
    found = [
        _one_memory(arm, vectors, count, min(count, queries), generator)
        for _ in range(-(-queries // count))
    ]
    right, noise, first = (torch.cat(part) for part in zip(*found, strict=True))
    cosine, theory = right.mean().item(), expected_cosine(count, arm)
    deviation = noise.mean().sqrt().item()
    return {
        "arm": arm,
        "width": width,
        "pairs": count,
        "cosine": cosine,
        "cosine_sd": right.std().item(),
        "noise": deviation,
        "snr": cosine / deviation,
        "accuracy": 100 * first.double().mean().item(),
        "expected_cosine": theory,
        "expected_snr": theory * math.sqrt(width),
        "expected_accuracy": expected_accuracy(theory, width, items),
    }


def _one_memory(
    arm: str, vectors: Tensor, count: int, asked: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """`count` of the items stored, (asked,) each: cosine to the right one, mean square to those not
    stored, found.
    """
    projected, exact = ARMS[arm]
    stored = torch.randperm(len(vectors), generator=generator)[:count]
    keys = algebra.random_vectors(count, vectors.shape[1], generator)
    keys = algebra.project(keys) if projected else keys
    memory = algebra.superpose(vectors[stored], keys)  # (1, D)
    retrieved = algebra.unbind(memory, keys[:asked], exact)
    cosine = F.normalize(retrieved, dim=-1) @ vectors.T  # (asked, items)
    right = cosine[torch.arange(asked), stored[:asked]]
    square = cosine.square()
    noise = (square.sum(1) - square[:, stored].sum(1)) / (len(vectors) - count)
    return right, noise, cosine.argmax(1) == stored[:asked]


def pairs_held(table: pd.DataFrame, accuracy: float = 90.0) -> pd.DataFrame:
    """The largest tried number of pairs up to which at least `accuracy` % are retrieved: a row per
    arm, per width.
    """
    held = {}
    for (arm, width), group in table.groupby(["arm", "width"], sort=False):
        group = group.sort_values("pairs")
        good = (group["accuracy"] >= accuracy).cumprod().astype(bool)
        held[arm, width] = int(group["pairs"][good].max()) if good.any() else 0
    return pd.Series(held).unstack().rename_axis(index="arm", columns="width").astype(int)
