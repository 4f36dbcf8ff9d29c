"""The context task: images whose pixels can only be told apart by what else is in the image.

Every pixel is, independently of its place, one of three classes of its image, as a noisy point in
R^6. Which three of the eight classes an image has is what a single pixel cannot know. No file and
no network is needed.
"""

import numpy as np

CLASSES, CHANNELS, PRESENT, SIDE = 8, 6, 3, 24  # present: classes of one image
LENGTH, NOISE = 1.8, 1.1  # of a class's prototype; deviation of the noise per coordinate
RANGE = 7.0  # coordinates from -RANGE to RANGE become 0 to 255: steps of a twentieth of the noise
PROTOTYPE_SEED = 0  # the same classes for every image
# 400 steps of 8 images see every training image once
SIZES = {"train": 3200, "val": 100, "test": 200}


def prototypes() -> np.ndarray:
    """A point of R^6 for each class, (8, 6), all of length 1.8."""
    points = np.random.RandomState(PROTOTYPE_SEED).standard_normal((CLASSES, CHANNELS))
    return LENGTH * points / np.linalg.norm(points, axis=1, keepdims=True)


def draw_context(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 6, 24, 24) and labels (count, 24, 24), both uint8; the same for the same seed
    on every machine.
    """
    random = np.random.RandomState(seed)
    present = np.argsort(random.random_sample((count, CLASSES)), axis=1)[:, :PRESENT]  # (count, 3)
    labels = np.take_along_axis(present, random.randint(0, PRESENT, (count, SIDE * SIDE)), axis=1)
    points = prototypes()[labels] + NOISE * random.standard_normal((count, SIDE * SIDE, CHANNELS))
    levels = np.rint((points + RANGE) * (255 / (2 * RANGE))).clip(0, 255).astype(np.uint8)
    images = levels.transpose(0, 2, 1).reshape(count, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(images), labels.reshape(count, SIDE, SIDE).astype(np.uint8)
