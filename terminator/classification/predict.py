"""Single image files through a saved, calibrated model."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from terminator.classification.networks import load
from terminator.data.augment import normalize
from terminator.data.decoding import decode
from terminator.data.files import read_file
from terminator.model import Terminator
from terminator.standardization import is_calibrated


def load_predictor(model_path: str | Path) -> Terminator:
    """A model that gives single images an answer.

    Raises:
        ValueError: if it is not calibrated, takes no images, or was saved without its data's
            description.
    """
    model = load(model_path)
    said = getattr(model, "info", {}).get("data", {})
    if not {"classes", "mean", "std"} <= said.keys() or model.config.dimensions != 2:
        raise ValueError(
            f"{model_path} was saved without the description of its data, or is no image model; "
            "predict needs classes and normalisation"
        )
    if not is_calibrated(model):
        raise ValueError(
            f"{model_path} is not calibrated, so a single image has no answer of its own; "
            "calibrate it"
        )
    return model


def read_image(path: str | Path, model: Terminator) -> Tensor:
    """An image file as the model takes it: (C, H, H), resized, cropped and normalised.

    Raises:
        FileNotFoundError: as its message says.
        ValueError: if it is no image that can be used, saying why.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image file at {path}")
    pixels, _ = decode(
        read_file(Path(path)), str(path), model.config.size, model.config.in_channels
    )
    data = model.info["data"]
    return normalize(
        torch.from_numpy(pixels.copy())[None], tuple(data["mean"]), tuple(data["std"])
    )[0]


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The model's evaluation as compiled code with weights and hyper-kernels as constants: the
    soonest single answer.

    The first image of every shape takes the time to compile, some of a minute. Weights that change
    later, or another way to evaluate (`set_evaluation`), are not noticed: compile again then.
    Inside torch.autocast in bfloat16 it answers sooner still, where the processor multiplies that.
    """
    from torch._inductor import config

    model.eval()
    network, known = torch.compile(model), set()

    def answer(x: Tensor) -> Tensor:
        kind = x.shape, x.dtype, x.device, torch.is_autocast_enabled(x.device.type)
        # asking each of hundreds of constants whether it is still the same would take 2 ms
        stance = torch.compiler.set_stance(skip_guard_eval_unsafe=kind in known)
        with torch.inference_mode(), config.patch(freezing=True), stance:
            out = network(x)
        known.add(kind)
        return out

    return answer


@torch.no_grad()
def predict_files(model_path: str | Path, images: Sequence[str | Path]) -> pd.DataFrame:
    """The most probable class of every image file, with its probability: columns image, class,
    probability.

    Raises:
        as load_predictor and read_image.
    """
    model = load_predictor(model_path)
    rows = []
    for path in images:
        probability, index = model(read_image(path, model)[None]).softmax(1).max(1)
        name = model.info["data"]["classes"][index.item()]
        rows.append({"image": str(path), "class": name, "probability": probability.item()})
    return pd.DataFrame(rows)
