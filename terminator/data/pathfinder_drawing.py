"""What Pathfinder images are drawn with: dashes, their masks and discs, at twice the resolution and
reduced.

Coordinates are (row, column); a displacement d at angle th is (d sin th, d cos th), rounded up.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageDraw

from terminator.data.pathfinder_settings import GEOMETRIES, Geometry

ANTI_ALIASING = 2


def moved(coordinate: np.ndarray, angle: np.ndarray | float, distance: float) -> np.ndarray:
    """Coordinates (..., 2) displaced by `distance` at `angle` (...), rounded up."""
    step = distance * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    # rounded first: sin(pi) is not quite 0
    return np.ceil((coordinate + step).round(9)).astype(np.int64)


def disc_offsets(radius: float) -> np.ndarray:
    """The offsets (R, 2) of a disc, centre included."""
    reach = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    rows, columns = np.meshgrid(reach, reach, indexing="ij")
    inside = rows**2 + columns**2 <= radius**2
    return np.stack([rows[inside], columns[inside]], axis=1)


def _reduced(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255


@functools.cache
def disc(radius: float) -> np.ndarray:
    """A disc on a patch of odd size, its peak 1; a quarter of a pixel up and to the left, as
    published.
    """
    half = math.ceil(radius) + 1
    size = 2 * half + 1
    image = np.zeros((size * ANTI_ALIASING,) * 2, np.uint8)
    rows, columns = (disc_offsets(radius * ANTI_ALIASING) + half * ANTI_ALIASING).T
    image[rows, columns] = 255
    found = _reduced(Image.fromarray(image), size)
    return found / found.max()


class Dashes:
    """Every dash that one geometry and margin can have, on patches (P, P) whose centre is where it
    starts.

    half: P = 2 half + 1; offsets (K, 2), angles (K,): candidates on the circle around a pivot, and
    how they are seen from it; images, masks (K, P, P): the dash drawn from the candidate back
    towards the pivot.
    """

    def __init__(self, geometry: Geometry, margin: int):
        g = self.geometry = geometry
        self.margin = margin
        self.half = g.dash_length + math.ceil(g.thickness) + margin
        radius = g.dash_length + margin
        turn = np.arange(0, 2 * np.pi, 1 / radius)  # one per pixel of arc
        around = np.floor(
            (radius * np.stack([np.sin(turn), np.cos(turn)], axis=1)).round(9)
        ).astype(np.int64)
        self.offsets = np.unique(around, axis=0)
        self.angles = np.arctan2(self.offsets[:, 0], self.offsets[:, 1])
        drawn = [self.draw(angle + np.pi) for angle in self.angles]
        self.images, self.masks = (np.stack(part) for part in zip(*drawn))
        seeds = [self.draw(angle) for angle in np.deg2rad(np.arange(360))]
        self.seed_images, self.seed_masks = (np.stack(part) for part in zip(*seeds))
        self.disc = disc_offsets(margin)

    def draw(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """A dash from the patch's centre at `angle`, and the mask that keeps others away; both (P,
        P), 0..1.
        """
        centre = self.half * ANTI_ALIASING
        size = 2 * centre + 1
        head = moved(np.array([centre, centre]), angle, self.geometry.dash_length * ANTI_ALIASING)
        line = Image.new("L", (size, size))
        ImageDraw.Draw(line).line(
            [(centre, centre), (int(head[1]), int(head[0]))],
            fill=255,
            width=round(self.geometry.thickness * ANTI_ALIASING),
        )
        wide = dilated(np.pad(np.asarray(line), centre), disc_offsets(self.margin * ANTI_ALIASING))
        wide = wide[centre:-centre, centre:-centre]
        patch = 2 * self.half + 1
        return _reduced(line, patch), _reduced(Image.fromarray(wide), patch)


def dilated(image: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The maximum over `offsets` around every pixel of (H, W); beyond the edge there is nothing."""
    reach = int(np.abs(offsets).max())
    padded = np.pad(image, reach)
    height, width = image.shape
    out = np.zeros_like(image)
    for row, column in offsets:
        np.maximum(
            out,
            padded[reach + row : reach + row + height, reach + column : reach + column + width],
            out=out,
        )
    return out


@functools.cache
def dashes(size: int, margin: int) -> Dashes:
    """The dashes of a window size, drawn once."""
    return Dashes(GEOMETRIES[size], margin)
