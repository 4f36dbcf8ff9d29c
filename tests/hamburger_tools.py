"""What the tests of Hamburger share: its golden cases, features, and how near is near enough."""

import numpy as np
import pytest
import torch
from places import GOLDEN

from terminator.hamburger import cd, nmf, vq

HAMS = {"NMF": nmf, "VQ": vq, "CD": cd}
TOLERANCE = {torch.float64: 1e-8, torch.float32: 5e-5}
each_kind = pytest.mark.parametrize("kind", HAMS)
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])


def golden(name):
    with np.load(GOLDEN / f"hamburger_{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def near(ours, expected):
    """Greatest difference over greatest value, within the tolerance of our type."""
    assert ours.shape == expected.shape
    assert (ours.double() - expected).abs().max() / expected.abs().max() <= TOLERANCE[ours.dtype]


def draw(*shape, seed=0, dtype=torch.float64):
    """Features that every ham takes: non-negative, some of them zero."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).relu()
