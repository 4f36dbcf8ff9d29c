"""From pictures to label maps: padding, several scales, mirrors; and evaluation of a split.

Source: the released segmentation code of arXiv 2109.04553 (MSFlip for the test submissions).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn

from terminator.data.pictures.batches import PictureBatch, Pictures
from terminator.hamburger.ham import Ham, seeded_bases
from terminator.hamburger.segmentation.config import SegmentationConfig


def pad_to_fit(x: Tensor, divisor: int, least: int = 1) -> Tensor:
    """x (N, C, H, W) with zeros below and at the right, up to the next sizes that are 1 modulo
    `divisor`.

    Args:
        least: pixels that a side must have.
    """
    height, width = (max(size, least) for size in x.shape[2:])
    height, width = height + -(height - 1) % divisor, width + -(width - 1) % divisor
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))


def predict_logits(
    model: nn.Module, config: SegmentationConfig, x: Tensor, multi_scale: bool = False
) -> Tensor:
    """Logits (N, classes, H, W) of normalised pictures x, evaluated as the settings say; MSFlip
    with `multi_scale`.

    Small pictures are padded until their maps have as many positions as the ham has bases. The
    release, which allows more bases than positions, does not do this.
    """
    use = config.test
    scales, flip = (use.scales, use.flip) if multi_scale else ((1.0,), False)
    stride = 1 if config.model.backbone == "none" else config.model.output_stride
    positions = math.ceil(math.sqrt(config.ham.rank)) if config.model.context == "hamburger" else 1
    return logits_of(model, x, use.divisor, scales, flip, (positions - 1) * stride + 1)


def logits_of(
    model: nn.Module,
    x: Tensor,
    divisor: int = 8,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    least: int = 1,
) -> Tensor:
    """Logits (N, classes, H, W) of normalised pictures x, summed over scales and, with `flip`, over
    both mirrors.

    Each scale is a bilinear resize of the whole picture, and of its logits back; nothing is summed
    for one scale.

    Args:
        divisor, least: see pad_to_fit.
    """
    height, width = x.shape[2:]
    total: Tensor | None = None
    for scale in scales:
        size = (max(1, int(height * scale)), max(1, int(width * scale)))
        scaled = x if size == (height, width) else _resize(x, size)
        for mirrored in (False, True)[: 1 + flip]:
            seen = scaled.flip(3) if mirrored else scaled
            logits = model(pad_to_fit(seen, divisor, least))[..., : size[0], : size[1]].float()
            logits = logits.flip(3) if mirrored else logits
            logits = logits if size == (height, width) else _resize(logits, (height, width))
            total = logits if total is None else total + logits
    assert total is not None
    return total


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def batches(
    pictures: Pictures, size: int, ranks: slice = slice(None), count: int | None = None
) -> Iterator[tuple[int, PictureBatch]]:
    """Batches of pictures of one size each, with the number of the first of the chunk they are
    from.

    Args:
        ranks: which chunks this process takes.
        count: only the first so many pictures.
    """
    count = len(pictures) if count is None else min(count, len(pictures))
    for start in list(range(0, count, size))[ranks]:
        chunk = pictures.batch(range(start, min(start + size, count)))
        if bool((chunk.sizes == chunk.sizes[0]).all()):
            yield start, chunk
            continue
        for i, (height, width) in enumerate(chunk.sizes.tolist()):
            one = chunk.part(slice(i, i + 1))
            yield (
                start + i,
                PictureBatch(
                    one.images[..., :height, :width], one.labels[..., :height, :width], one.sizes
                ),
            )


@contextmanager
def fixed_bases(model: nn.Module, seed: int, steps: int | None = None) -> Iterator[None]:
    """Random bases from a seed, and so many evaluation steps in every ham, meanwhile."""
    hams = [module for module in model.modules() if isinstance(module, Ham)]
    before = [ham.eval_steps for ham in hams]
    for ham in hams:
        ham.eval_steps = ham.eval_steps if steps is None else steps
    try:
        with seeded_bases(model, seed):
            yield
    finally:
        for ham, value in zip(hams, before):
            ham.eval_steps = value


def draws_bases(model: nn.Module) -> bool:
    """Whether two evaluations may differ: some ham draws its bases anew in every pass."""
    return any(
        isinstance(module, Ham) and module.settings.random_init for module in model.modules()
    )
