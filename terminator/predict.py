"""Single image files through a saved, calibrated model."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from terminator.data import normalize
from terminator.data.decoding import decode
from terminator.model import Terminator
from terminator.standardization import is_calibrated


@torch.no_grad()
def predict_files(model_path: str | Path, images: Sequence[str | Path]) -> pd.DataFrame:
    """The most probable class of every image file, with its probability: columns image, class, probability.

    Raises:  ValueError if the model is not calibrated or saved without its data's description, or a file is
             no image; FileNotFoundError for a missing file.
    """
    model = Terminator.load(model_path)
    data = getattr(model, "info", {}).get("data")
    if not data or model.config.dimensions != 2:
        raise ValueError(f"{model_path} was saved without the description of its data, or is no image model; "
                         "predict needs classes and normalisation")
    if not is_calibrated(model):
        raise ValueError(f"{model_path} is not calibrated, so a single image has no answer of its own; calibrate it")
    rows = []
    for path in map(Path, images):
        if not path.is_file():
            raise FileNotFoundError(f"no image file at {path}")
        pixels, _ = decode(path.read_bytes(), str(path), model.config.size, model.config.in_channels)
        x = normalize(torch.from_numpy(pixels.copy())[None], tuple(data["mean"]), tuple(data["std"]))
        probability, index = model(x).softmax(1).max(1)
        rows.append({"image": str(path), "class": data["classes"][index.item()], "probability": probability.item()})
    return pd.DataFrame(rows)
