"""Arrays of pictures from files, made bytes by one rule: what 0 and what white is, is said or asked
for, never guessed.

bytes (uint8)            as they are
booleans, 0 and 1 alone  0 and 255
numbers from 0 to 1      times 255, rounded
numbers from 0 to 255    rounded; the largest must be above DARK, else the scale is another one
anything else            refused: negative or larger values, NaN and infinite ones, complex numbers,
                         texts, dates, objects
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from terminator.data.errors import DatasetCorrupt

DARK = 64  # values that end below this and above 1 are on a scale of their own, 0 to 16 say
ALLOWED = "0 to 255, 0 to 1, or booleans"


def to_bytes(stacks: Sequence[np.ndarray], where: str) -> tuple[list[np.ndarray], str | None]:
    """Arrays of one data set as uint8, all by the same rule; what was done, where it was anything.

    Args:
        where: what errors call them.

    Raises:
        DatasetCorrupt: for types and values that have no rule, with their range.
    """
    kinds = sorted({str(stack.dtype) for stack in stacks})
    if len(kinds) != 1:
        raise DatasetCorrupt(
            f"{where} has arrays of several types ({', '.join(kinds[:4])}); allowed: one, best "
            "uint8. Convert them to one type and one scale of values"
        )
    kind = stacks[0].dtype
    if kind.kind not in "buif":
        raise DatasetCorrupt(
            f"{where} has values of type {kind}; allowed: bytes (uint8), booleans, integers or "
            f"floats on a scale of {ALLOWED}. Save them as uint8"
        )
    if kind.kind == "b":
        return [stack.astype(np.uint8) * 255 for stack in stacks], "booleans: true is taken as 255"
    low, high = _range(stacks, where)
    scale, note = _rule(kind, low, high, where)
    if scale is None:
        return list(stacks), None
    return [_scaled(stack, scale) for stack in stacks], note


def _range(stacks: Sequence[np.ndarray], where: str) -> tuple[float, float]:
    """The smallest and the largest value."""
    filled = [stack for stack in stacks if stack.size]
    if not filled:
        raise DatasetCorrupt(f"{where} has no values; needed: some pictures")
    if filled[0].dtype.kind == "f":
        wrong = sum(stack.size - int(np.isfinite(stack).sum()) for stack in filled)
        if wrong:
            total = sum(stack.size for stack in filled)
            raise DatasetCorrupt(
                f"{where} has {wrong:,} values of {total:,} that are no numbers (NaN or infinite); "
                "allowed: none. Replace them where the file was made"
            )
    return min(stack.min() for stack in filled).item(), max(stack.max() for stack in filled).item()


def _rule(kind: np.dtype, low: float, high: float, where: str) -> tuple[float | None, str | None]:
    """What values are multiplied with (nothing: they are bytes already), and the note."""
    found = f"values from {low:.6g} to {high:.6g} ({kind})"
    if low < 0 or high > 255 or (1 < high <= DARK and kind != np.uint8):
        why = ", which fits neither scale" if 0 <= low and high <= 255 else ""
        raise DatasetCorrupt(
            f"{where} has {found}{why}; allowed: {ALLOWED}. Scale them to 0 to 255 and save them "
            "as uint8"
        )
    if high <= 1 and (kind.kind == "f" or high == 1):
        return 255.0, f"{found}: multiplied by 255" + (" and rounded" if kind.kind == "f" else "")
    if kind == np.uint8:
        return None, None
    return 1.0, f"{found}: " + ("rounded" if kind.kind == "f" else "taken as they are")


def _scaled(stack: np.ndarray, scale: float) -> np.ndarray:
    if stack.dtype.kind != "f":
        return stack.astype(np.uint8) * np.uint8(scale)
    precise = stack.astype(np.float32 if stack.dtype.itemsize < 8 else np.float64)
    return np.rint(precise * precise.dtype.type(scale)).astype(np.uint8)
