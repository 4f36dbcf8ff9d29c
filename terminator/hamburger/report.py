"""What the notebook on Hamburger shows beside its probes: a picture taken apart, what a trained
block does to its features, and how far random bases move its answers.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from terminator.data import cached
from terminator.data.augment import normalize
from terminator.data.errors import DatasetNotFound
from terminator.data.images import load
from terminator.hamburger import analysis
from terminator.hamburger.analysis import CD100, NMF, VQ100, Parts
from terminator.hamburger.probes import DRAWS, PROBES
from terminator.hamburger.segmentation import report as segmentation
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.evaluation import batches, fixed_bases, predict_logits
from terminator.hamburger.segmentation.runs import SEGMENTATION, SegmentationRun
from terminator.runs import measurements
from terminator.runtime.paths import atomic_write

PATCH = 5  # pixels a side of the neighbourhoods that are a picture's features
PICTURES = {
    "smoke": ("digits",),
    "laptop": ("CIFAR10", "cifar10-jpeg", "digits"),
    "paper": ("CIFAR10", "digits"),
}
LOOKED_AT = 8  # pictures whose features and answers are measured
BLOCK_STEPS = (1, 6, 12, 30)  # K at which the answers' spread is measured


class Picture(NamedTuple):
    """An image (C, H, W) in [0, 1], what it is, and its parts by ham."""

    image: Tensor
    title: str
    parts: dict[str, Parts]

    def base_pictures(self) -> dict[str, Tensor]:
        """The bases of every ham as neighbourhoods (R, PATCH, PATCH), mean over colours."""
        return {
            name: found.bases.mT.unflatten(1, (-1, PATCH, PATCH)).mean(1)
            for name, found in self.parts.items()
        }


def picture(profile: str, rank: int = 6, index: int = 3) -> Picture:
    """A test image of the first data set that is here, and the patches around its pixels taken
    apart by every ham.
    """
    for name in PICTURES[profile]:
        try:
            data = load(name, image_size=32, download=False)
            break
        except DatasetNotFound:
            continue
    image = data.test_images[index].float() / 255
    features = analysis.patches(image, PATCH)
    found = {ham.title: analysis.parts(features, ham, rank) for ham in (NMF, VQ100, CD100)}
    return Picture(image, data.info.title, found)


# -- a trained network's answers -------------------------------------------------------------------


def answers(
    found: SegmentationRun, count: int = 3, data_dir: str | None = None
) -> segmentation.Seen | None:
    """Some test pictures and a trained network's answers, kept in the run's folder (answers.npz)
    once they are made, for as long as it is the same training.

    Nothing where the pictures are not on this machine.
    """
    path, finished = found.folder / "answers.npz", found.record["finished"]
    try:
        data = SEGMENTATION.load_data(found.config, data_dir)
    except DatasetNotFound:
        return None
    kept = cached.read(path)
    if kept is not None and "predicted" in kept:
        predicted = torch.from_numpy(kept["predicted"]).long()
        of = str(kept.get("of", finished))  # the first files do not say
        if len(predicted) == count and of == finished:
            batch = segmentation.example_pictures(data, count=count)
            return segmentation.Seen(batch.images, batch.labels, predicted)
    seen = segmentation.examples(*segmentation.model_of(found, data_dir), count=count)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, predicted=seen.predicted.to(torch.uint8).numpy(), of=finished)
    with contextlib.suppress(OSError):  # a folder that cannot be written to: made again next time
        atomic_write(path, buffer.getvalue())
    return seen


def all_answers(
    found: segmentation.Runs, labels: Sequence[str], count: int = 3, data_dir: str | None = None
) -> tuple[segmentation.Seen, dict[str, Tensor]] | None:
    """The answers of several arms (first seed) to the same pictures: one of them whole, and {label:
    answers}.
    """
    there = [label for label in labels if found.get(label)]
    seen = {label: answers(found[label][0], count, data_dir) for label in there}
    whole = {label: part for label, part in seen.items() if part is not None}
    return (
        (next(iter(whole.values())), {k: part.predicted for k, part in whole.items()})
        if whole
        else None
    )


# -- a trained block -------------------------------------------------------------------------------


def trained_block(found: SegmentationRun, data_dir: str | None = None) -> dict[str, Any]:
    """What the Hamburger of a trained segmentation network does, from a record that is made here if
    it is missing.

    Returns:
        energy (cumulative shares before the block, after it, and of the ham's reconstruction),
        spread (a row per K: share of the pixels, in %, whose answer differs between two draws of
        bases), pictures, run_id.
    """
    profile, trained = found.record["profile"], found.record["run_id"]

    def measured() -> dict[str, Any]:
        return {
            "config": {
                "draws": DRAWS[profile],
                "pictures": LOOKED_AT,
                "trained": found.record["finished"],
            },
            "data": found.record["data"],
            "results": _look_into(found, DRAWS[profile], data_dir),
        }

    seed, name = found.record["seed"], _of_block(trained)
    again = measurements.found(PROBES, name) is not None and _found_block(found) is None
    return measurements.named(PROBES, name, "probes", profile, measured, seed, again)["results"]


def found_blocks(runs: Sequence[SegmentationRun]) -> dict[int, dict[str, Any]]:
    """What `trained_block` found, {seed: ...}, of those runs whose record of it is there."""
    there = map(_found_block, runs)
    return {record["seed"]: record["results"] for record in there if record}


def _found_block(run: SegmentationRun) -> dict[str, Any] | None:
    """The record of a run's block, unless it is of weights that a forced training replaced."""
    finished = run.record["finished"]
    record = measurements.found(PROBES, _of_block(run.record["run_id"]))
    if record is not None and record["config"].get("trained", finished) != finished:
        return None
    return record


def _of_block(run_id: str) -> str:
    return f"block-{run_id}"


@torch.no_grad()
def _look_into(found: SegmentationRun, draws: int, data_dir: str | None) -> dict[str, Any]:
    model, config, data = segmentation.model_of(found, data_dir)
    pictures = data.splits[SEGMENTATION.judged_by(found.record)]
    (_, batch), *_ = batches(pictures.part(range(LOOKED_AT)), LOOKED_AT)
    x = normalize(batch.images, data.info.mean, data.info.std)
    before, after, inside = features_around(model, config, x)
    rows = []
    for steps in BLOCK_STEPS:
        answers = []
        for seed in range(draws):
            with fixed_bases(model, seed, steps):
                answers.append(predict_logits(model, config, x).argmax(1))
        rows.append({"steps": steps, "differing": 100 * disagreement(torch.stack(answers))})
    energy = {"before": before, "after": after, "reconstruction": inside}
    return {
        "energy": {key: analysis.cumulative_energy(part).tolist() for key, part in energy.items()},
        "spread": rows,
        "pictures": LOOKED_AT,
        "draws": draws,
        "run_id": found.record["run_id"],
    }


def features_around(
    model: nn.Module, config: SegmentationConfig, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What enters the Hamburger of a network, what leaves it, and its ham's reconstruction, (B, C,
    H, W) each.
    """
    seen: dict[str, Tensor] = {}
    block: Any = model.context

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen["in" if module is block else "into the ham"] = inputs[0]
        seen["out" if module is block else "out of the ham"] = output

    hooks = [part.register_forward_hook(remember) for part in (block, block.ham)]
    try:
        with fixed_bases(model, 0):
            predict_logits(model, config, x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen["in"], seen["out"], seen["out of the ham"]


def disagreement(answers: Tensor) -> float:
    """Share of the places at which two of the answers (draws, ...) differ, mean over all pairs."""
    draws = len(answers)
    agreeing = sum(
        (answers[i] == answers[j]).double().mean().item() for i in range(draws) for j in range(i)
    )
    return 1 - agreeing / (draws * (draws - 1) / 2)
