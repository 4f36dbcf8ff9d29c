"""Pathfinder: do two dots lie on the same dashed contour? Images made by the published procedure.

Both contours grow dash by dash among what is already there; an attempt that finds no way is given
up, which is what nearly all attempts end in. So many are grown side by side, as arrays, and those
that succeed are drawn.

Source: the procedure of drewlinsley/pathfinder with the long range arena's documented values (arXiv
2011.04006). Whether the released files used exactly these values could not be checked: these images
are "generated". Where the description leaves something open (masks add up, a distractor whose
dashes collide is left out, where the first pivot of a contour lies at 32 pixels) it is what brings
the statistics of 32-pixel samples; at 128 there are none to compare. On one core an image takes
some 5 ms (easy) or 25 ms (hard) at 32 pixels, and some ten seconds for Path-X.
Golden: hrrformer_pathfinder32_samples (statistics).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.data.generated import NOTE, Arrays, parts
from terminator.data.pathfinder_drawing import Dashes, dashes, dilated, disc, moved
from terminator.data.pathfinder_settings import GEOMETRIES, LEVELS, PICTURES, PathfinderSettings
from terminator.data.splits import RawSplits

TRAIN_SIZE, TEST_SIZE = 40_000, 2_000
CLASSES = ("apart", "connected")
PART = 250  # images in one part of the cache
VERSION = 1
TRIES, DISTRACTOR_TRIES = 3, 5  # of one dash; of one distractor
OVERLAP = 1.8  # mask values that add up to this collide
FREE = 0.3  # a first dash may lie where the masks are at most this
CELLS = 2**21  # of the canvases that grow side by side


class Canvases:
    """Masks of B images under way, (B, H, W) with a frame around, and the contours that grow in
    them.
    """

    def __init__(self, kind: Dashes, masks: np.ndarray, random: np.random.RandomState):
        self.kind, self.masks, self.random = kind, masks, random
        self.frame = (masks.shape[1] - kind.geometry.window) // 2
        # two neighbours collided: no dash fits any more
        self.crowded = masks.max((1, 2)) >= OVERLAP

    @classmethod
    def empty(cls, kind: Dashes, count: int, random: np.random.RandomState) -> Canvases:
        """Nothing but the border of `padding` pixels, which is taken."""
        window, padding, frame = kind.geometry.window, kind.geometry.padding, frame_of(kind)
        masks = np.zeros((count, window + 2 * frame, window + 2 * frame), np.float32)
        inner = masks[:, frame:-frame, frame:-frame]
        inner[:] = 1
        inner[:, padding:-padding, padding:-padding] = 0
        return cls(kind, masks, random)

    def __len__(self) -> int:
        return len(self.masks)

    def _cells(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the patches (B, P, P) around `places` (B, 2)."""
        reach = np.arange(-self.kind.half, self.kind.half + 1) + self.frame
        rows, columns = places[:, 0, None] + reach, places[:, 1, None] + reach
        return np.arange(len(self))[:, None, None], rows[:, :, None], columns[:, None, :]

    def keep(self, index: np.ndarray) -> None:
        self.masks, self.crowded = self.masks[index], self.crowded[index]

    def add(self, patches: np.ndarray, places: np.ndarray) -> None:
        """Put masks (B, P, P) around `places` (B, 2)."""
        cells = self._cells(places)
        self.masks[cells] = total = self.masks[cells] + patches
        self.crowded |= total.max((1, 2)) >= OVERLAP

    def extend(
        self, pivots: np.ndarray, angles: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next dash of a contour in every image, seen from its pivot (B, 2), where the last
        angle was (B,).

        Returns:
            success (B,) bool, which of the kind's dashes (B,), and where it starts (B, 2).
        """
        kind, count = self.kind, len(self)
        places = pivots[:, None] + kind.offsets  # (B, K, 2)
        inside = ((places >= 0) & (places < kind.geometry.window)).all(-1)
        where = np.clip(places, 0, kind.geometry.window - 1) + self.frame
        taken = np.zeros(inside.shape, np.float32)
        for row, column in kind.disc:
            np.maximum(
                taken,
                self.masks[np.arange(count)[:, None], where[..., 0] + row, where[..., 1] + column],
                out=taken,
            )
        turn = np.abs((kind.angles - angles[:, None] + np.pi) % (2 * np.pi) - np.pi)  # at most pi
        weight = np.cos(np.minimum(kind.geometry.continuity * turn, np.pi / 2)).clip(0) ** 2
        weight = weight * (1 - taken).clip(0) * inside
        total = weight.sum(1)
        possible, found = (total >= 1e-4) & ~self.crowded, np.zeros(count, bool)
        chosen = np.zeros(count, np.int64)
        for _ in range(TRIES):
            level = self.random.random_sample(count) * total
            draw = np.minimum((weight.cumsum(1) <= level[:, None]).sum(1), len(kind.angles) - 1)
            here = np.clip(places[np.arange(count), draw], 0, kind.geometry.window - 1)
            free = (self.masks[self._cells(here)] + kind.masks[draw]).max((1, 2)) < OVERLAP
            chosen = np.where(found, chosen, draw)
            found |= possible & free
        return found, chosen, np.clip(places[np.arange(count), chosen], 0, kind.geometry.window - 1)


@dataclass
class Contour:
    """One contour in each of B images: where its dashes start, and which of the kind's dashes they
    are.
    """

    degrees: np.ndarray  # of the first dash, (B,)
    places: list[np.ndarray]  # (B, 2) each
    chosen: list[np.ndarray]  # (B,) each, of all but the first dash
    pivots: np.ndarray  # (B, 2)
    angles: np.ndarray  # (B,)

    @classmethod
    def start(cls, kind: Dashes, tails: np.ndarray, degrees: np.ndarray) -> Contour:
        angles = np.deg2rad(degrees)
        pivots = moved(tails, angles + np.pi, kind.margin + kind.geometry.setback)
        return cls(degrees, [tails], [], pivots, angles)

    def last_masks(self, kind: Dashes) -> np.ndarray:
        return kind.masks[self.chosen[-1]] if self.chosen else kind.seed_masks[self.degrees]

    def keep(self, index: np.ndarray) -> None:
        self.degrees, self.pivots, self.angles = (
            self.degrees[index],
            self.pivots[index],
            self.angles[index],
        )
        self.places, self.chosen = [p[index] for p in self.places], [c[index] for c in self.chosen]

    def grow(self, canvases: Canvases) -> np.ndarray:
        """Add a dash, then the mask of the one before to the canvases; returns who succeeded,
        (B,).
        """
        kind = canvases.kind
        self.pivots = moved(self.pivots, self.angles, kind.geometry.dash_length + 2 * kind.margin)
        reach = canvases.frame + kind.geometry.window
        self.pivots = self.pivots.clip(-reach, 2 * reach)
        found, chosen, places = canvases.extend(self.pivots, self.angles)
        canvases.add(self.last_masks(kind), self.places[-1])
        self.chosen.append(chosen)
        self.places.append(places)
        self.angles = kind.angles[chosen]
        return found

    def draw(
        self, canvas: np.ndarray, kind: Dashes, number: int, contrast: float, frame: int
    ) -> None:
        """Put the contour of image `number` on its canvas (H, W), by the maximum."""
        patches = [
            kind.seed_images[self.degrees[number]],
            *(kind.images[chosen[number]] for chosen in self.chosen),
        ]
        for patch, place in zip(patches, self.places):
            paste(canvas, patch * contrast, place[number], frame)


def paste(canvas: np.ndarray, patch: np.ndarray, place: np.ndarray, frame: int) -> None:
    """The maximum of a canvas (H, W), with its frame, and a patch around `place`."""
    half = len(patch) // 2
    row, column = place + frame - half
    part = canvas[row : row + len(patch), column : column + len(patch)]
    np.maximum(part, patch, out=part)


def frame_of(kind: Dashes) -> int:
    return kind.half + kind.margin


def grow_contours(
    kind: Dashes, length: int, count: int, random: np.random.RandomState
) -> tuple[Canvases, Contour, Contour]:
    """Try `count` images at once; those whose two contours reached their length."""
    g = kind.geometry
    canvases = Canvases.empty(kind, count, random)
    # only there the first tail may lie
    central = (2 * g.seed_distance, g.window - 2 * g.seed_distance)
    tails = random.randint(*central, size=(count, 2))
    first = Contour.start(kind, tails, random.randint(0, 360, count))
    others = moved(tails, random.random_sample(count) * 2 * np.pi, g.seed_distance)
    second = Contour.start(kind, others, random.randint(0, 360, count))
    for _ in range(length - 1):
        for contour in (first, second):
            alive = contour.grow(canvases)
            if not alive.all():
                canvases.keep(alive)
                first.keep(alive)
                second.keep(alive)
    canvases.add(second.last_masks(kind), second.places[-1])
    return canvases, first, second


def add_distractors(canvases: Canvases, images: np.ndarray, settings: PathfinderSettings) -> None:
    """Draw distractors into images (B, H, W), with their frame; those that find no place are left
    out.
    """
    count, length = settings.distractors
    for number, image in enumerate(images):
        for _ in range(count):
            own = Canvases(
                canvases.kind, canvases.masks[number : number + 1].copy(), canvases.random
            )
            contour = _distractor(own, length)
            if contour is not None:
                canvases.masks[number] = own.masks[0]
                contour.draw(image, own.kind, 0, own.kind.geometry.snake_contrast, own.frame)


def _distractor(own: Canvases, length: int) -> Contour | None:
    """A short contour on one canvas, from a free pixel; nothing where it finds no way, or its
    dashes collide.
    """
    kind, random, frame = own.kind, own.random, own.frame
    for _ in range(DISTRACTOR_TRIES):
        degree = random.randint(0, 360)
        footprint = np.argwhere(kind.seed_masks[degree] > FREE) - kind.half
        free = np.argwhere(dilated(own.masks[0], footprint)[frame:-frame, frame:-frame] <= FREE)
        if len(free) < 0.01 * kind.geometry.window**2:
            return None
        contour = Contour.start(kind, free[random.randint(len(free))][None], np.array([degree]))
        if all(contour.grow(own)[0] for _ in range(length - 1)):
            own.add(contour.last_masks(kind), contour.places[-1])
            return None if own.crowded[0] else contour
    return None


def _finish(image: np.ndarray, tips: list[np.ndarray], frame: int, radius: float) -> np.ndarray:
    """With its two markers, stretched to 0..255, without the frame."""
    for tip in tips:
        paste(image, disc(radius), tip, frame)
    image = image[frame:-frame, frame:-frame]
    low, high = image.min(), image.max()
    return np.rint(255 * (image - low) / (high - low)).astype(np.uint8)


def make_part(settings: PathfinderSettings, number: int) -> Arrays:
    """PART images (PART, S, S), labels (PART,), and how many attempts of how many succeeded."""
    seed = hashlib.sha256(f"pathfinder {settings.generator_seed} {number}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(seed, np.uint32))
    g, length = GEOMETRIES[settings.size], LEVELS[settings.level]
    images: list[np.ndarray] = []
    labels: list[int] = []
    attempts = successes = 0
    while len(images) < PART:
        kind = dashes(settings.size, g.margins[random.randint(len(g.margins))])
        frame = frame_of(kind)
        tried = max(16, CELLS // (g.window + 2 * frame) ** 2)
        canvases, *contours = grow_contours(kind, length, tried, random)
        attempts, successes = attempts + tried, successes + len(canvases)
        drawn = np.zeros_like(canvases.masks)
        for contour in contours:
            for i, image in enumerate(drawn):
                contour.draw(image, kind, i, g.snake_contrast * g.dash_contrast, frame)
        add_distractors(canvases, drawn, settings)
        for i, image in enumerate(drawn):
            origin, label = random.randint(2, size=2)
            tips = [
                contours[origin].places[0][i],
                contours[origin if label else 1 - origin].places[-1][i],
            ]
            images.append(_finish(image, tips, frame, g.marker_radius))
            labels.append(label)
    return {
        "images": np.stack(images[:PART]),
        "labels": np.array(labels[:PART], np.uint8),
        "attempts": np.array([attempts, successes]),
    }


def generate(
    settings: PathfinderSettings, count: int, processes: int | None = None
) -> tuple[Tensor, Tensor]:
    """`count` images uint8 (N, S, S) and labels int64 (N,); with a larger count, these and
    others.
    """
    made = parts("pathfinder", settings, make_part, -(-count // PART), VERSION, processes)
    images = np.concatenate([part["images"] for part in made])[:count]
    labels = np.concatenate([part["labels"] for part in made])[:count]
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def load_pictures(
    name: str, train_size: int | None = None, test_size: int | None = None
) -> RawSplits:
    """One of PICTURES at 32 pixels as an image data set: the long range task's own images, the
    first ones for testing.

    Args:
        train_size, test_size: how many to make (default: TRAIN_SIZE, TEST_SIZE).
    """
    train, test = train_size or TRAIN_SIZE, test_size or TEST_SIZE
    images, labels = generate(PathfinderSettings(PICTURES[name]), train + test)
    pixels, answers = images[:, None].numpy(), labels.numpy()
    return RawSplits(pixels[test:], answers[test:], pixels[:test], answers[:test], CLASSES, (NOTE,))


def dots(images: Tensor) -> Tensor:
    """Where the two dots of 32-pixel images are: (row, column) of each, int64 (N, 2, 2), brighter
    first.

    A dot is the only thing there that fills two by two pixels, whose lower right one is its place.

    Args:
        images: (N, S, S).
    """
    # the darkest of each two by two
    squares = -F.max_pool2d(-images[:, None].float(), 2, stride=1)[:, 0]
    side = squares.shape[-1]
    grid = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    found = []
    squares = squares.flatten(1)
    for _ in range(2):
        place = squares.argmax(1)
        found.append(grid[place] + 1)
        near = (grid[None] - grid[place, None]).abs().amax(-1) <= 2
        squares = squares.masked_fill(near, -1)
    return torch.stack(found, dim=1)


def answer_by_distance(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Test accuracy (%) of a decision tree that sees nothing but how far the two dots are apart.

    Args:
        train, test: images (N, S, S) and labels (N,).
    """
    from sklearn.tree import DecisionTreeClassifier

    x, asked = (
        (places[:, 0] - places[:, 1]).double().norm(dim=-1)[:, None].numpy()
        for places in (dots(train[0]), dots(test[0]))
    )
    tree = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=10, random_state=0).fit(
        x, train[1].numpy()
    )
    return 100 * float(tree.score(asked, test[1].numpy()))
