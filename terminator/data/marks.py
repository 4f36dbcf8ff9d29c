"""The mark of pictures that the kit makes of a user's own: what each was made of, and as what.

So one takes the place of its own earlier self alone, and is not read as a photograph.
"""

import os
import re
from pathlib import Path

from terminator.data.decoder import text_of_png
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
    return not mark(picture, kind, model).items() <= text_of_png(path).items()


def is_made_here(path: Path) -> bool:
    """Whether a file is such a picture, of whatever kind."""
    if path.suffix != ".png":
        return False
    text = text_of_png(path)
    named = text.get(TITLE, "").startswith(f"{MAKER}: ")
    return named and SHA_256.fullmatch(text.get(SOURCE, "")) is not None
