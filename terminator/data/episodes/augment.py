"""Augmentation of episodes: one random configuration for support and query together, per episode or
per label.

Everything runs on whole batches; drawing is apart from applying, so that more queries of the same
episode can be augmented in the same way.

Source: the reference implementation of arXiv 2201.04182.  Golden: hypertransformer_augment.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.data.episodes.settings import EpisodeAugmentation
from terminator.runtime.memory import to_device

# in the order of application
STEPS = ("rotation", "roll", "resize", "contrast", "smooth", "negate")


class Configuration(NamedTuple):
    """Random configurations, all of one shape (E, n): of every episode's labels."""

    quarter_turns: Tensor  # 0..3
    is_on: dict[str, Tensor]  # name in STEPS: bool
    angle: Tensor  # degrees
    alpha: Tensor  # -1..1, as all below but the rolls
    size: Tensor
    roll_x: Tensor  # -0.3..0.3, along H
    roll_y: Tensor  # along W

    def at(self, index: tuple[Tensor, ...]) -> "Configuration":
        """The configurations at an index into the (E, n) axes."""
        turns, is_on, *rest = self
        return Configuration(
            turns[index],
            {name: on[index] for name, on in is_on.items()},
            *(part[index] for part in rest),
        )


def draw_configuration(
    settings: EpisodeAugmentation, episodes: int, labels: int, generator: torch.Generator
) -> Configuration:
    """One configuration per episode, or per label of every episode; all as (episodes, labels) on
    the CPU.
    """
    shape = (episodes, labels if settings.per_label_augmentation else 1)

    def uniform() -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1).expand(episodes, labels)

    turns = (2 * uniform() + 2).floor().clamp(0, 3).long() * settings.random_rotate_by_90
    is_on = {step: (uniform() + 1) / 2 < getattr(settings, f"{step}_probability") for step in STEPS}
    return Configuration(
        turns,
        is_on,
        settings.angle_range * uniform(),
        uniform(),
        uniform(),
        0.3 * uniform(),
        0.3 * uniform(),
    )


def apply_configuration(images: Tensor, configuration: Configuration) -> Tensor:
    """Augment images (T, C, H, W) in 0..255, each by its own configuration (T): same shape.

    Raises:
        ValueError: for quarter turns of images that are not square.
    """
    c, images = configuration, images.clone()
    _check_square(images, bool(c.quarter_turns.any()))
    for turns in (1, 2, 3):
        rows = _rows(c.quarter_turns == turns, images)
        images[rows] = torch.rot90(images[rows], turns, (-2, -1))
    operations = {
        "rotation": lambda x, at: rotate(x, c.angle[at]),
        "roll": lambda x, at: roll(x, c.roll_x[at], c.roll_y[at]),
        "resize": lambda x, at: shrink(x, c.size[at]),
        "contrast": lambda x, at: contrast(x, c.alpha[at]),
        "smooth": lambda x, at: smooth(x),
        "negate": lambda x, at: 255 - x,
    }
    for step in STEPS:
        if c.is_on[step].any():
            at = c.is_on[step].nonzero()[:, 0]
            rows = to_device(at, images.device)
            images[rows] = operations[step](images[rows], at)
    return images


def _rows(where: Tensor, images: Tensor) -> Tensor:
    return to_device(where.nonzero()[:, 0], images.device)


def _check_square(images: Tensor, turns: bool) -> None:
    if turns and images.shape[-1] != images.shape[-2]:
        raise ValueError(f"images have shape {tuple(images.shape)}; quarter turns need square ones")


def _column(values: Tensor, images: Tensor) -> Tensor:
    return to_device(values.to(images.dtype), images.device)[:, None, None, None]  # (T, 1, 1, 1)


def normalized(images: Tensor) -> Tensor:
    """255 (x - min) / (max - min + 1e-7), per image and channel."""
    low, high = images.amin((-1, -2), keepdim=True), images.amax((-1, -2), keepdim=True)
    return 255 * (images - low) / (high - low + 1e-7)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image counter-clockwise about its centre ((W - 1)/2, (H - 1)/2); bilinear, 0
    outside.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(_column(degrees, images)[..., 0])
    # (H, 1)
    y = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2  # (W)
    from_x = angle.cos() * x - angle.sin() * y  # (T, H, W), pixels from the centre
    from_y = angle.sin() * x + angle.cos() * y
    # (T, H, W, 2)
    grid = torch.stack([2 * from_x / max(width - 1, 1), 2 * from_y / max(height - 1, 1)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def roll(images: Tensor, share_x: Tensor, share_y: Tensor) -> Tensor:
    """Shift each image cyclically by int(share * size): share_x along H, share_y along W."""
    for dim, share in ((-2, share_x), (-1, share_y)):
        size = images.shape[dim]
        shift = to_device((share * size).trunc().long(), images.device)[:, None]  # (T, 1)
        index = (torch.arange(size, device=images.device) - shift).remainder(size)  # (T, size)
        index = index[:, None, :, None] if dim == -2 else index[:, None, None, :]
        images = images.gather(dim, index.expand_as(images))
    return images


def shrink(images: Tensor, draw: Tensor) -> Tensor:
    """Resize each image to 0.85 + 0.15 draw of its size, bilinearly, and pad with 0 around it."""
    out = torch.zeros_like(images)
    sizes = [(size * (0.85 + 0.15 * draw.double())).long().clamp(1) for size in images.shape[-2:]]
    for height, width in {*zip(sizes[0].tolist(), sizes[1].tolist())}:
        rows = _rows((sizes[0] == height) & (sizes[1] == width), images)
        small = F.interpolate(images[rows], (height, width), mode="bilinear", align_corners=False)
        top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
        out[rows, :, top : top + height, left : left + width] = small
    return out


def contrast(images: Tensor, draw: Tensor) -> Tensor:
    """norm(tanh((z - m) a) / a + m), z = x / 128 - 1, m its mean, a = 1.5 + draw."""
    z, a = images / 128 - 1, 1.5 + _column(draw, images)
    mean = z.mean((-1, -2), keepdim=True)
    return normalized(torch.tanh((z - mean) * a) / a + mean)


def smooth(images: Tensor) -> Tensor:
    """norm of the 3x3 box mean, zeros outside."""
    return normalized(F.avg_pool2d(images, 3, 1, 1))


def network_input(images: Tensor, size: int) -> Tensor:
    """Images in 0..255, resized bilinearly to size x size where they are not: x / 128 - 1."""
    if tuple(images.shape[-2:]) != (size, size):
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    return images / 128 - 1


def augment_images(images: Tensor, individually: bool, generator: torch.Generator) -> Tensor:
    """The second kind: flip, hue, brightness, contrast with one draw per batch or image; a crop per
    image.

    Args:
        images: (E, N, C, H, H) as network input; an episode is a batch.

    Returns:
        the same shape; values are not clamped.
    """
    episodes, count = images.shape[:2]

    def uniform(low: float, high: float, per_image: bool = individually) -> Tensor:
        shape = (episodes, count if per_image else 1)
        values = low + (high - low) * torch.rand(shape, generator=generator)
        return _column(values.expand(episodes, count).flatten(), images)  # (E N, 1, 1, 1)

    x = (images.flatten(0, 1) + 1) * 128  # (E N, C, H, H)
    x = torch.where(uniform(0, 1) < 0.5, x.flip(-1), x)
    hue = uniform(-0.2, 0.2)
    x = shift_hue(x, hue) if x.shape[1] == 3 else x  # grey has no hue
    x = x + 255 * uniform(-0.3, 0.3)
    mean = x.mean((-1, -2), keepdim=True)
    x = ((x - mean) * uniform(0.8, 1.2) + mean) / 128 - 1
    side, top, left = uniform(0.6, 1, True), uniform(0, 1, True), uniform(0, 1, True)
    return _crop(x, side, top, left).view_as(images)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of RGB images (T, 3, H, W) in 0..255 by `shift` (T, 1, 1, 1) of the circle."""
    red, green, blue = images.clamp(0, 255).split(1, dim=1)
    high, low = (
        images.clamp(0, 255).amax(1, keepdim=True),
        images.clamp(0, 255).amin(1, keepdim=True),
    )
    span = (high - low).clamp(min=1e-12)
    hue = torch.where(
        high == red,
        ((green - blue) / span).remainder(6),
        torch.where(high == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    offsets = to_device(torch.tensor([5.0, 3.0, 1.0], dtype=images.dtype), images.device).view(
        1, 3, 1, 1
    )
    k = (offsets + hue + 6 * shift).remainder(6)
    return high - (high - low) * torch.minimum(k, 4 - k).clamp(0, 1)


def _crop(images: Tensor, side: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Cut a square of `side` (share of the image) from each image, at shares `top`, `left` of what
    is left over.
    """
    size = images.shape[-1]
    steps = torch.arange(size, device=images.device, dtype=images.dtype)
    positions = (2 * steps + 1) / size - 1  # centres of pixels, -1..1
    spare = 1 - side
    y = side[:, 0, 0] * positions + (2 * top - 1)[:, 0, 0] * spare[:, 0, 0]  # (T, H)
    x = side[:, 0, 0] * positions + (2 * left - 1)[:, 0, 0] * spare[:, 0, 0]
    grid = torch.stack(
        [x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
