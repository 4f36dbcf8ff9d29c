"""Characters of strokes, drawn by a formula: a stand-in for Omniglot that needs no file and no
network.

A character is two or three random curves; its drawings differ by moved control points, a small
turn, slant and scale, and the width of the pen. Nobody wrote them: numbers measured on them are
about the code, not about handwriting.
"""

import functools

import numpy as np

CHARACTERS, DRAWINGS, SIZE = 120, 20, 28
POINTS = 24  # of every curve


@functools.cache
def draw_strokes(
    characters: int = CHARACTERS, drawings: int = DRAWINGS, size: int = SIZE, seed: int = 0
) -> np.ndarray:
    """Images (characters, drawings, size, size), uint8, bright ink on dark; the same for the same
    arguments.
    """
    random = np.random.default_rng(seed)
    curve = _bernstein(np.linspace(0, 1, POINTS))  # (POINTS, 4)
    found = np.empty((characters, drawings, size, size), np.uint8)
    for character in range(characters):
        strokes = int(random.integers(2, 4))
        control = random.uniform(-1, 1, (strokes, 4, 2))
        control *= 0.8 / np.abs(curve @ control).max((0, 1))  # as wide as it is high
        moved = control + random.normal(0, 0.09, (drawings, strokes, 4, 2))
        points = np.einsum("pc,dscx->dspx", curve, moved).reshape(drawings, -1, 2) @ _shapes(
            random, drawings
        )
        pen = random.uniform(0.055, 0.085, (drawings, 1, 1))
        found[character] = np.rint(255 * _ink(points, pen, size))
    found.flags.writeable = False  # it is kept for the next call
    return found


def _bernstein(t: np.ndarray) -> np.ndarray:
    """Weights of the four control points of a cubic Bezier curve."""
    return np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=-1)


def _shapes(random: np.random.Generator, count: int) -> np.ndarray:
    """A small turn, slant and scale per drawing, (count, 2, 2)."""
    turn, slant = random.normal(0, 0.12, (2, count))
    scale = random.uniform(0.85, 1.1, (count, 2))
    rows = [
        np.stack([np.cos(turn), -np.sin(turn) + slant], -1),
        np.stack([np.sin(turn), np.cos(turn)], -1),
    ]
    return np.stack(rows, 1) * scale[:, None]


def _ink(points: np.ndarray, pen: np.ndarray, size: int) -> np.ndarray:
    """How much ink every pixel of drawings (D, P, 2) has, (D, size, size), 0 to 1, by its distance
    to the curves.
    """
    grid = np.linspace(-1.05, 1.05, size)
    square = (
        (points[:, None, :, 0] - grid[:, None]) ** 2,
        (points[:, None, :, 1] - grid[:, None]) ** 2,
    )
    nearest = (square[1][:, :, None] + square[0][:, None]).min(-1)  # (D, size, size)
    return np.clip(1.5 - np.sqrt(nearest) / pen, 0, 1)
