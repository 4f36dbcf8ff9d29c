"""The mark of pictures that the kit makes of a user's own: what each was made of, and as what.

So one takes the place of its own earlier self alone, and is not read as a photograph.
"""

import os
import re
import warnings
from pathlib import Path

from PIL import Image, PngImagePlugin

from terminator.runtime import digests

SOURCE, TITLE = "Source", "Title"  # in a PNG's text: the SHA-256 of a picture, and kind and model
MAKER = "terminator"
SHA_256 = re.compile("[0-9a-f]{64}")


def mark(picture: Path, kind: str, model: str) -> dict[str, str]:
    """The text of a PNG that is made of a picture.

    Args:
        kind: what it shows, "slow scores" say.
        model: the digest of its weights (weights.digest_of).
    """
    return {SOURCE: digests.of_file(picture), TITLE: f"{MAKER}: {kind}, {model[:16]}"}


def is_taken(path: Path, picture: Path, kind: str, model: str) -> bool:
    """Whether a file is there that is not what would be made now, of this picture."""
    if not os.path.lexists(path):
        return False
    return not mark(picture, kind, model).items() <= _text(path).items()


def is_made_here(path: Path) -> bool:
    """Whether a file is such a picture, of whatever kind."""
    if path.suffix != ".png":
        return False
    text = _text(path)
    return SHA_256.fullmatch(text.get(SOURCE, "")) is not None and TITLE in text


def _text(path: Path) -> dict[str, str]:
    """What stands in a PNG before its pixels; nothing in what is none."""
    if not path.is_file():  # a pipe would never end
        return {}
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=["PNG"]) as there:
            assert isinstance(there, PngImagePlugin.PngImageFile)
            return {key: str(value) for key, value in there.info.items() if key in (SOURCE, TITLE)}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}
