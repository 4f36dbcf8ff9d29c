"""Settings of Pathfinder, and the sizes that they stand for. Nothing here loads torch."""

from dataclasses import dataclass
from typing import NamedTuple

from terminator.runtime.settings import require, require_one_of

LEVELS = {"easy": 6, "intermediate": 9, "hard": 14}  # dashes of a contour
PICTURES = {f"pathfinder-{level}": level for level in LEVELS}  # names of image data sets


class Geometry(NamedTuple):
    """Sizes of one kind of image, in pixels; margin is the gap between dashes, and from 0..1 to
    contrasts.
    """

    window: int
    seed_distance: int  # between the first dashes of both contours
    marker_radius: float
    dash_length: int
    thickness: float
    margins: tuple[int, ...]  # one is drawn for every batch of attempts at images
    continuity: float  # how much a contour may bend
    snake_contrast: float  # of distractors
    dash_contrast: float  # of contours, times snake_contrast
    distractor_total: int  # dashes of all distractors together, about
    setback: int  # of a contour's first pivot, beside the margin
    padding: int = 1


GEOMETRIES = {
    # setback: what the samples' statistics ask for
    32: Geometry(32, 7, 1.5, 2, 0.5, (1,), 1.0, 2.0, 0.75, 20, 2),
    128: Geometry(128, 20, 3.0, 5, 1.5, (2, 3), 1.8, 0.9, 1.0, 35, 0),  # Path-X
}


@dataclass(frozen=True)
class PathfinderSettings:
    """Which images; the long range arena's task is hard at 32 pixels, Path-X hard at 128."""

    level: str = "hard"  # easy, intermediate, hard: contours of 6, 9, 14 dashes
    size: int = 32  # pixels a side: 32 or 128
    generator_seed: int = 0  # of the images, whatever train.seed is

    def __post_init__(self) -> None:
        require_one_of("pathfinder.level", self.level, LEVELS)
        require_one_of("pathfinder.size", self.size, GEOMETRIES)
        fits = self.generator_seed >= 0
        require(fits, "pathfinder.generator_seed", self.generator_seed, "0 or more")

    @property
    def title(self) -> str:
        """What a reader of numbers calls these images."""
        return f"Pathfinder {self.size}, {self.level} (generated)"

    @property
    def distractors(self) -> tuple[int, int]:
        """Number of distractors, and their dashes."""
        length = LEVELS[self.level] // 3
        return GEOMETRIES[self.size].distractor_total // length, length
