"""Labelled images in two splits, and choices among them that keep the classes' shares."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RawSplits:
    """Both splits as NumPy arrays: images uint8 (N, C, H, W), labels int64 (N,); class names and
    notes.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def stratified_choice(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Choose `size` samples at random so that every class keeps its share, to within one sample.

    NumPy's RandomState is used because its stream is guaranteed never to change between versions.

    Args:
        labels: (N,) integers; size: 0..N; seed: fixed by the caller.

    Returns:
        (size,) indices in ascending order.
    """
    random = np.random.RandomState(seed)
    names, counts = np.unique(labels, return_counts=True)
    take, remainder = np.divmod(counts.astype(np.int64) * size, len(labels))
    tie_break = random.permutation(len(names))
    largest_first = tie_break[np.argsort(-remainder[tie_break], kind="stable")]
    take[largest_first[: size - take.sum()]] += 1
    shuffled = (random.permutation(np.flatnonzero(labels == name)) for name in names)
    chosen = [indices[:count] for indices, count in zip(shuffled, take, strict=True)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
