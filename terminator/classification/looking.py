"""What a trained network looks at in photographs, and what of it is the slow scores' own: beside
the activations alone, a shuffled hyper-kernel, and Grad-CAM.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from terminator import hyperzzw
from terminator.classification import controls
from terminator.classification.presets import PHOTOGRAPHS
from terminator.data import catalogue
from terminator.data.augment import normalize
from terminator.data.images import load
from terminator.data.pixels import resize_image
from terminator.model import Terminator

# where in scikit-learn's two photographs, as shares of their smaller side: left, top, side
CROPS = {
    "flower.jpg": ((0.25, 0.1, 0.75), (0.55, 0.35, 0.5)),
    "china.jpg": ((0.0, 0.0, 1.0), (0.1, 0.3, 0.45), (0.5, 0.0, 1.0)),
}


CLOSE = 0.05  # correlations that differ by less are called the same


class Photographs(NamedTuple):
    """Pictures and what each is called: pixels (N, 3, H, H) uint8."""

    pixels: Tensor
    names: tuple[str, ...]


class Views(NamedTuple):
    """Maps of one block over N pictures, each (N, H, W), and the answers (N,) they belong to."""

    score: Tensor  # S = W * Z, mean over channels, signed
    sizes: dict[str, Tensor]  # name: mean of absolute values over channels; Grad-CAM
    answers: Tensor
    probabilities: Tensor


def sample_photographs(size: int) -> Photographs:
    """Parts of scikit-learn's two sample photographs (a flower, a building in China)."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    pictures, names = [], []
    for name, crops in CROPS.items():
        whole = Image.fromarray(load_sample_image(name))
        side = min(whole.size)
        for left, top, share in crops:
            x, y, edge = (round(part * side) for part in (left, top, share))
            x, y = min(x, whole.width - edge), min(y, whole.height - edge)
            part = resize_image(whole.crop((x, y, x + edge, y + edge)), size)
            pictures.append(torch.from_numpy(np.asarray(part).copy()).permute(2, 0, 1))
            names.append(Path(name).stem)
    return Photographs(torch.stack(pictures), tuple(names))


def photographs(profile: str, size: int, data_dir: str | None = None) -> Photographs:
    """Sample photographs; beyond smoke, one test picture of each of five classes of CIFAR-10 before
    them, where a copy of it is on this machine.
    """
    samples = sample_photographs(size)
    there = catalogue.ready(data_dir)
    name = next((name for name in PHOTOGRAPHS if name in there), None)
    if profile == "smoke" or name is None:
        return samples
    data = load(name, data_dir=data_dir, image_size=size)
    first = [int((data.test_labels == kind).nonzero()[0]) for kind in range(0, 10, 2)]
    names = tuple(data.info.classes[kind] for kind in range(0, 10, 2))
    return Photographs(torch.cat([data.test_images[first], samples.pixels]), names + samples.names)


def inputs_of(model: Terminator, pixels: Tensor) -> Tensor:
    """Pictures (N, C, H, H) uint8 as a model of the package takes them."""
    data: Any = model.info["data"]
    return normalize(pixels, tuple(data["mean"]), tuple(data["std"]))


@torch.no_grad()
def views(model: Terminator, x: Tensor, block: int = -1, seed: int = 0) -> Views:
    """What one block sees: its slow scores and their controls.

    Args:
        x: (N, C, H, H), normalised.
        block: its index; the last one's output decides.
        seed: of the order into which the hyper-kernel's positions are shuffled.

    Grad-CAM is that of the answer in the network's last output, (N, C, H, H): the mean over
    positions and a linear classifier follow it, so its gradients are the classifier's weights.
    Source: Selvaraju et al. 2017 (arXiv 1610.02391).
    """
    parts, inputs = controls.seen_by_blocks(model, x)
    part, z = parts.blocks[block], inputs[block]
    (shuffled,) = controls.shuffles(part, seed, draws=1)
    probabilities, answers = parts.logits.softmax(1).max(1)
    weight = model.classifier.weight[answers]  # (N, C)
    cam = torch.einsum("nc,nchw->nhw", weight, parts.blocks[-1].output).relu()
    sizes = {
        "|S|": controls.strength(part.slow_score),
        "|Z|": controls.strength(z),
        "|S|, W shuffled": controls.strength(hyperzzw.slow_score(z, shuffled)),
        "Grad-CAM": cam,
    }
    return Views(part.slow_score.mean(1), sizes, answers, probabilities)


def likeness(found: Views) -> pd.DataFrame:
    """How alike maps are: correlation over the positions of a picture (Pearson), mean over
    pictures; of |S| with every control, and of every control with |Z|.
    """
    centred = {name: _centred(field) for name, field in found.sizes.items()}

    def of(a: str, b: str) -> float:
        return float((centred[a] * centred[b]).sum((1, 2)).mean())

    names = [name for name in centred if name != "|S|"]
    rows = {name: {"with |S|": of("|S|", name), "with |Z|": of("|Z|", name)} for name in names}
    return pd.DataFrame(rows).T


def _centred(field: Tensor) -> Tensor:
    """Maps (N, H, W) with mean 0 and norm 1 each."""
    field = field - field.mean((1, 2), keepdim=True)
    return field / field.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-12)


def sentence(found: Views) -> str:
    """What of the slow scores' sizes is their own, in words."""
    alike = likeness(found)
    ours, shuffled = alike.loc["|Z|", "with |S|"], alike.loc["|S|, W shuffled", "with |Z|"]
    same = "as much as" if abs(ours - shuffled) < CLOSE else "more" if ours > shuffled else "less"
    than = "" if same == "as much as" else " than"
    return (
        f"Over the positions of a picture, |S| goes with the activations alone by a correlation of "
        f"{ours:+.2f}: {same}{than} with the positions of W shuffled ({shuffled:+.2f}; within "
        f"{CLOSE} is called the same). With Grad-CAM it goes by "
        f"{alike.loc['Grad-CAM', 'with |S|']:+.2f}."
    )


def drawn(model: Terminator, pictures: Photographs, found: Views, profile: str) -> Any:
    """The Figure of what a model sees in pictures, with its answers."""
    from terminator.plots import fields  # with matplotlib, which numbers do without

    answers = answer_names(model, found)
    titles = [f"{name}: {answer}" for name, answer in zip(pictures.names, answers, strict=True)]
    title = f"Slow scores of the last block beside their controls, profile {profile}"
    return fields.beside_controls(pictures.pixels, found.score, found.sizes, titles, title)


def save_picture(
    profile: str = "laptop", name: str = "cifar10", data_dir: str | None = None
) -> Any:
    """Write the README's picture, of a model of the package, among the figures of a profile."""
    from terminator.classification.networks import load_named
    from terminator.plots import style

    model: Any = load_named(name)
    pictures = photographs(profile, model.config.size, data_dir)
    found = views(model, inputs_of(model, pictures.pixels))
    style.style()
    return style.save(drawn(model, pictures, found, profile), "slow_scores_photographs", profile)


def answer_names(model: Terminator, found: Views) -> Sequence[str]:
    """The answer to every picture with its probability."""
    classes: Any = model.info["data"]["classes"]
    pairs = zip(found.answers.tolist(), found.probabilities.tolist(), strict=True)
    return [f"{classes[answer]}\n{p:.0%}" for answer, p in pairs]
