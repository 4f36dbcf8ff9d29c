"""Image files through a saved, calibrated model: classes, probabilities, slow scores."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from terminator.classification.networks import load
from terminator.data.augment import normalize
from terminator.data.files import read_file
from terminator.data.marks import is_taken, mark
from terminator.data.pixels import decode, open_as, resize_image
from terminator.model import Terminator
from terminator.runs.answers import Answer, how_many, of_logits
from terminator.runs.outputs import check_places
from terminator.runtime import shipped, weights
from terminator.runtime.paths import atomic_path
from terminator.runtime.text import shortened
from terminator.standardization import is_calibrated

BATCH = 32  # files that are read before they are answered
SHOWN = 384  # pixels a side of a picture under its slow scores
KIND = "slow scores"  # of pictures that show them


def load_predictor(model_path: str | Path) -> Terminator:
    """A model that gives single images an answer, by its file, or by its name if it comes with the
    package.

    Raises:
        ValueError: if it is not calibrated, takes no images, or was saved without its data's
            description.
    """
    model = load(shipped.model_path(model_path))
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


# -- many files, some of which cannot be read ------------------------------------------------------


@torch.no_grad()
def answers(model: Terminator, paths: Sequence[Path], top: int | None = None) -> Iterator[Answer]:
    """What a model says of every file, in order; a file that cannot be read has an error.

    Args:
        top: how many classes an answer has; without it TOP, or all where there are fewer.

    Raises:
        ConfigError: for more classes than the model knows.
    """
    classes = model.info["data"]["classes"]
    top = how_many(top, len(classes), "as many classes as the model knows")
    for start in range(0, len(paths), BATCH):
        read: dict[Path, Tensor] = {}
        wrong: dict[Path, str] = {}
        for path in paths[start : start + BATCH]:
            try:
                read[path] = read_image(path, model)
            except (OSError, ValueError) as error:
                wrong[path] = str(error)
        logits = model(torch.stack(list(read.values()))) if read else None
        row = dict(zip(read, range(len(read))))
        for path in paths[start : start + BATCH]:
            if path in wrong or logits is None:
                yield Answer(path, error=wrong[path])
                continue
            yield of_logits(path, logits[row[path]], classes, top)


# -- what it looks at ------------------------------------------------------------------------------


@torch.no_grad()
def show_scores(model: Terminator, found: Iterable[Answer], folder: Path) -> list[Path]:
    """Write every answered picture with its slow scores over it, block by block, as PNG.

    Returns:
        the files, called like the pictures; with a number where another file has that name.

    Raises:
        ValueError: if the model makes no slow scores, or a picture lies in that folder.
    """
    from terminator.classification.figures import scores_over

    if not isinstance(model, Terminator) or model.config.global_mixer != "hyperzzw":
        raise ValueError("this model makes no slow scores, so none can be shown: leave out --show")
    found, written, own = list(found), list[Path](), weights.digest_of(model)
    check_places((answer.image for answer in found), folders={"--show": folder})
    for answer in (answer for answer in found if answer.top):
        parts = model(read_image(answer.image, model)[None], return_parts=True)
        picture = open_as(read_file(answer.image), str(answer.image), model.config.in_channels)
        shown = np.asarray(
            resize_image(picture, max(SHOWN, model.config.sizes.size)).convert("RGB")
        )
        scores = [block.slow_score[0].mean(0).numpy() for block in parts.blocks]
        title = ", ".join(f"{name} {p:.0%}" for name, p in answer.top[:3])
        figure = scores_over(shown, scores, f"{answer.image.name}: {title}")
        path = _free(folder / f"{shortened(answer.image.stem)}.png", answer.image, own, written)
        with atomic_path(path) as temporary:
            text = {"Software": None, **mark(answer.image, KIND, own)}
            figure.savefig(temporary, dpi=110, metadata=text)
        written.append(path)
    return written


def _free(path: Path, picture: Path, model: str, taken: Sequence[Path]) -> Path:
    """The path, or with a number where another file has that name, of this call or from before."""
    free, number = path, 1
    while free in taken or is_taken(free, picture, KIND, model):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
