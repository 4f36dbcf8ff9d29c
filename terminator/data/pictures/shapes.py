"""Drawn pictures of simple things that hide each other, with a label per pixel; no file and no
network is needed.
"""

import numpy as np

from terminator.data.pictures.batches import IGNORE

SIDE = 33  # 1 modulo 8: nothing needs to be padded
CLASSES = ("background", "disc", "ring", "square", "triangle", "cross")
SIZES = {"train": 320, "val": 40, "test": 80}
# of the things
COLOURS = ((215, 70, 60), (70, 175, 80), (65, 105, 220), (225, 190, 50), (180, 70, 200))
# of 255: how far a thing's colour may be from its class's; deviation of a pixel's noise
JITTER, NOISE = (35.0, 22.0)


def _masks(kind: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a thing of size 1 at the origin is, for coordinates x, y (H, W)."""
    radius, wide = np.hypot(x, y), np.maximum(abs(x), abs(y))
    return {
        "disc": radius < 1,
        "ring": (radius < 1) & (radius > 0.55),
        "square": wide < 0.85,
        "triangle": (y < 0.7) & (y > 2 * abs(x) - 1),
        "cross": (wide < 1) & (np.minimum(abs(x), abs(y)) < 0.32),
    }[kind]


def draw_shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 3, 33, 33) and labels (count, 33, 33), both uint8; the outermost pixels of a
    thing do not count.

    Each has two to four things in about their classes' colours, of any size and direction, in front
    of a grey slope.
    """
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    images = np.empty((count, 3, SIDE, SIDE), dtype=np.uint8)
    labels = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
    for image, label in zip(images, labels):
        slope = (rows * random.uniform(-1, 1) + columns * random.uniform(-1, 1)) * 60 / SIDE
        picture = np.full((3, 1, 1), random.uniform(60, 200)) + slope
        for _ in range(random.randint(2, 5)):
            number = random.randint(1, len(CLASSES))
            size, angle = random.uniform(5, 9), random.uniform(0, 2 * np.pi)
            x, y = ((axis - random.uniform(4, SIDE - 4)) / size for axis in (columns, rows))
            x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
            whole = _masks(CLASSES[number], x, y)
            label[whole] = IGNORE
            label[whole & _eroded(whole)] = number
            colour = np.array(COLOURS[number - 1]) + random.uniform(-JITTER, JITTER, 3)
            picture = np.where(whole, colour[:, None, None], picture)
        image[:] = np.rint(picture + NOISE * random.standard_normal(picture.shape)).clip(0, 255)
    return images, labels


def _eroded(mask: np.ndarray) -> np.ndarray:
    """The mask without its pixels that touch others, or the picture's edge."""
    padded = np.pad(mask, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
