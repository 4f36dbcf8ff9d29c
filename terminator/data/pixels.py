"""One image file to pixels: decoded, in grey or colour, resized and cropped."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from terminator.data.decoder import open_picture
from terminator.data.errors import LayoutError


def resize_image(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` (bilinear, antialiased) and crop the centre to a square."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def decode(
    data: bytes, where: str, image_size: int | None, channels: int | None
) -> tuple[np.ndarray, bool]:
    """Decode one image file.

    Args:
        where: what errors call it; image_size, channels: see images.load; None keeps the file's
            own.

    Returns:
        uint8, (C, H, W) with C 1 or 3; and whether it was resized.

    Raises:
        as decoder.open_picture.
        ValueError: if, without image_size, it is not square.
    """
    return fitted(open_as(data, where, channels), where, image_size)


def open_as(data: bytes, where: str, channels: int | None) -> Image.Image:
    """Decode one image file, in grey (1 channel), in colour (3), or as it is.

    Raises:
        as decoder.open_picture.
    """
    image = open_picture(data, where)
    return image if channels is None else image.convert("L" if channels == 1 else "RGB")


def fitted(image: Image.Image, where: str, image_size: int | None) -> tuple[np.ndarray, bool]:
    """A decoded picture as an array, uint8 (C, H, W) with C 1 or 3, resized; and whether it was.

    Raises:
        LayoutError: if, without image_size, it is not square.
    """
    size = image.size
    if image_size is not None:
        image = resize_image(image, image_size)
    elif image.width != image.height:
        raise LayoutError(
            f"{where} is not square ({image.width}x{image.height}): pass dataset.image_size=.."
        )
    pixels = np.asarray(image)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # (C, H, W)
    return pixels, image.size != size


def encoded_again(images: np.ndarray, quality: int) -> np.ndarray:
    """Images uint8 (N, C, H, W), C 1 or 3, as a JPEG file gives them back: of this quality, colours
    at half the height and width.
    """
    again = np.empty_like(images)
    for i, image in enumerate(images):
        file = io.BytesIO()
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        again[i] = decode(file.getvalue(), f"image {i}", None, len(image))[0]
    return again
