"""The texts in a notebook's outputs, and paths of some machine in them."""

import json
import re

FOLDERS = "home|root|Users|tmp|work|workspace|mnt|opt|usr|var|srv|scratch|data"
MACHINE_PATH = re.compile(rf"(?<![\w.])/(?:{FOLDERS})/\w|\b[A-Z]:\\\w")


def output_texts(output):
    """The texts of an output, pictures left out: their base64 may spell anything."""
    data = output.get("data", {})
    texts = [
        value
        for kind, value in data.items()
        if not kind.startswith("image/") or kind == "image/svg+xml"
    ]
    texts = [text if isinstance(text, str) else json.dumps(text) for text in texts]
    return [output.get("text", ""), *(re.sub(r"base64,[\w+/=\s]+", "", text) for text in texts)]
