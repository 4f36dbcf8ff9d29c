"""What the notebook on the Hamburger shows of segmentation: runs, what is looked at in a model, and
its verdicts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from terminator.data.augment import normalize
from terminator.data.errors import DatasetNotFound
from terminator.data.pictures.segmentation import SegmentationData
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.evaluation import batches, fixed_bases, predict_logits
from terminator.hamburger.segmentation.mixers import verdicts
from terminator.hamburger.segmentation.presets import (
    CONTEXT_SEEDS,
    SEEDS,
    camvid_arms,
    context_arms,
    preset,
)
from terminator.hamburger.segmentation.runs import SEGMENTATION, SegmentationRun
from terminator.runs.comparison import deviation
from terminator.runs.outcomes import values_text
from terminator.runs.study import Study, run_these, study_records, study_runs
from terminator.runs.wanted import Wanted
from terminator.runtime.settings import ConfigError

# experiments
CONTEXT, CAMVID, VOC = ("segmentation_context", "segmentation_camvid", "segmentation_voc")
Runs = Mapping[str, Sequence[SegmentationRun]]


def context(
    profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[SegmentationRun]]:
    """The context task: every arm with every seed, {label: runs}; nothing is read from files."""
    return _runs(context_arms(profile), CONTEXT, profile, seeds, device)


def camvid(
    profile: str, seeds: Sequence[int] = (), device: str = "auto", data_dir: str | None = None
) -> dict[str, list[SegmentationRun]]:
    """CamVid with and without the Hamburger, {label: runs}; in the smoke profile drawn shapes in
    CamVid's place.

    Raises:
        DatasetNotFound: if neither the records nor the data are here.
    """
    return _runs(camvid_arms(profile), CAMVID, profile, seeds, device, data_dir)


def recorded(study: str, profile: str) -> dict[str, list[SegmentationRun]]:
    """The finished runs of a study, context or camvid, whose records are here, {label: runs};
    trains nothing.

    Raises:
        ConfigError: for another study.
    """
    studies = {"context": (context_arms, CONTEXT), "camvid": (camvid_arms, CAMVID)}
    if study not in studies:
        raise ConfigError(f"study is {study!r}; allowed: {', '.join(studies)}")
    arms, experiment = studies[study]
    found = _study(experiment, arms(profile), profile)
    there = study_records(SEGMENTATION, found, profile)
    return {
        label: [SEGMENTATION.of_record(record) for record in found]
        for label, found in there.items()
        if found
    }


def seeds_of(experiment: str, profile: str) -> tuple[int, ...]:
    """The seeds of an experiment that is given none."""
    return (CONTEXT_SEEDS if experiment == CONTEXT else SEEDS)[profile]


def _study(experiment: str, arms: dict[str, SegmentationConfig], profile: str) -> Study:
    return Study(experiment, arms, seeds_of(experiment, profile))


def two_stages(
    profile: str,
    device: str = "auto",
    data_dir: str | None = None,
    first: str = "voc",
    second: str = "voc-second",
    **changes: Any,
) -> list[SegmentationRun]:
    """The release's two trainings: the second starts from the final weights of the first, with a
    fresh optimiser.

    Args:
        first, second: presets.
        changes: of both, train={"batch_size": 8} say.

    The second is trained on its validation pictures as well: its scores on them say nothing.
    """
    start = SEGMENTATION.run(
        preset(first, **changes).updated(train={"device": device}),
        VOC,
        profile,
        data_dir=data_dir,
        need_model=True,
    )
    model = str(start.folder / "model.safetensors")
    config = preset(second, **changes).updated(train={"device": device, "start_from": model})
    return [start, SEGMENTATION.run(config, VOC, profile, data_dir=data_dir)]


def _runs(
    arms: dict[str, SegmentationConfig],
    experiment: str,
    profile: str,
    seeds: Sequence[int],
    device: str,
    data_dir: str | None = None,
) -> dict[str, list[SegmentationRun]]:
    """All arms with the first seed, then all with the second, ...: a part of them is a comparison
    already. Other seeds count as in runs.study.run_study.
    """
    try:
        data = SEGMENTATION.load_data(next(iter(arms.values())), data_dir)  # the same for all arms
    except DatasetNotFound:  # records may be there
        data = None
    study = _study(experiment, arms, profile)
    wanted = study_runs(SEGMENTATION, study, profile, seeds, device)
    return run_these(SEGMENTATION, study, wanted, profile, seeds, data=data, data_dir=data_dir)


def context_runs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> list[Wanted]:
    """What `context` runs."""
    study = _study(CONTEXT, context_arms(profile), profile)
    return study_runs(SEGMENTATION, study, profile, seeds, device)


def camvid_runs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> list[Wanted]:
    """What `camvid` runs."""
    study = _study(CAMVID, camvid_arms(profile), profile)
    return study_runs(SEGMENTATION, study, profile, seeds, device)


# -- tables ----------------------------------------------------------------------------------------


def table(found: Runs) -> pd.DataFrame:
    """One row per arm: mean mIoU (%) and its standard deviation over seeds (of three or more),
    spread of the random bases, cost, and the values in words.
    """
    rows = []
    for label, runs in _trained(found):
        values = pd.Series([r.miou() for r in runs])
        results = [r.record["results"][SEGMENTATION.judged_by(r.record)] for r in runs]
        spreads = [
            max(part["repeated"]) - min(part["repeated"]) for part in results if "repeated" in part
        ]
        rows.append(
            {
                "arm": label,
                "miou": values.mean(),
                "sd": deviation(list(values)),
                "seeds": len(values),
                "pixels right": pd.Series([part["accuracy"] for part in results]).mean(),
                "spread of bases": pd.Series(spreads, dtype=float).mean(),
                "parameters": runs[0].record["parameters"],
                "steps": runs[0].config.train.train_steps,
                "seconds": pd.Series([r.record["wall_s"] for r in runs]).mean(),
                "values": values_text([r.miou() for r in runs]),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["arm"]).set_index("arm")


def _trained(found: Runs) -> Iterator[tuple[Any, Sequence[SegmentationRun]]]:
    """The arms of which a training came to its end."""
    return ((label, runs) for label, runs in found.items() if runs)


def class_tables(found: Runs) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Intersection over union (%) of every class: a row per class, a column per arm.

    Returns:
        mean over seeds, and their standard deviation (nan with fewer than three).
    """
    means, spreads = {}, {}
    for label, runs in _trained(found):
        lists = [r.record["results"][SEGMENTATION.judged_by(r.record)]["iou"] for r in runs]
        values = pd.DataFrame(lists, dtype=float)
        means[label] = values.mean()
        spreads[label] = values.apply(lambda column: deviation(list(column)))
        names = list(runs[0].record["data"]["classes"])
    mean, spread = (
        pd.DataFrame(columns).set_axis(names if columns else []) for columns in (means, spreads)
    )
    return mean.rename_axis("class"), spread.rename_axis("class")


def learning(found: Runs) -> dict[str, pd.DataFrame]:
    """mIoU (%) of the validation pictures after every epoch, first seed: {label: columns step,
    miou}.
    """
    curves = {}
    for label, runs in _trained(found):
        rows, train = runs[0].metrics, runs[0].config.train
        name = next(column for column in rows if column.endswith("_miou"))
        steps = (rows["epoch"] * train.steps_between_saves).clip(upper=train.train_steps)
        curves[label] = pd.DataFrame({"step": steps, "miou": rows[name]})
    return curves


# -- inside a trained model ------------------------------------------------------------------------


def model_of(
    found: SegmentationRun, data_dir: str | None = None
) -> tuple[torch.nn.Module, SegmentationConfig, SegmentationData]:
    """A run's trained network, trained here if its weights are not, its configuration and its
    data.
    """
    config, record = found.config, found.record
    data = SEGMENTATION.load_data(config, data_dir)
    again = SEGMENTATION.run(
        config, record["experiment"], record["profile"], data=data, need_model=True
    )
    return (*SEGMENTATION.load(again.folder / "model.safetensors"), data)


class Seen(NamedTuple):
    """Pictures beside what a network makes of them."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N, H, W), IGNORE where nothing counts
    predicted: Tensor  # int64 (N, H, W)


def example_pictures(data: SegmentationData, split: str = "", count: int = 4) -> Any:
    """Labelled pictures spread evenly over a split (the last one, if none is named), as one batch.

    Raises:
        ConfigError: for a split that the data do not have, or pictures of several sizes.
    """
    split = split or list(data.splits)[-1]
    if split not in data.splits:
        raise ConfigError(f"split is {split!r}; allowed: {', '.join(data.splits)}")
    pictures = data.splits[split]
    every = max(1, len(pictures) // count)
    chosen = list(batches(pictures.part(range(0, len(pictures), every)[:count]), count))
    if len(chosen) > 1:
        raise ConfigError(
            f"pictures of {data.info.title} differ in size; allowed here: data.size=[H,W]"
        )
    return chosen[0][1]


@torch.no_grad()
def examples(
    model: torch.nn.Module,
    config: SegmentationConfig,
    data: SegmentationData,
    split: str = "",
    count: int = 4,
    multi_scale: bool = False,
) -> Seen:
    """Pictures of a split (see example_pictures), and the network's answers."""
    batch = example_pictures(data, split, count)
    x = normalize(batch.images, data.info.mean, data.info.std)
    with fixed_bases(model, config.test.bases_seed):
        predicted = predict_logits(model, config, x, multi_scale).argmax(1)
    return Seen(batch.images, batch.labels, predicted)


# -- verdicts --------------------------------------------------------------------------------------

POOLING = "pooling"  # a mean over all positions: the context that costs least
LOOKED_INTO = "NMF, one-step"  # whose trained blocks are looked into
ATTENTION = "self-attention"
HAMS = ("NMF", "CD tau 10", "VQ tau 10", "CD tau 100", "VQ tau 100")
GRADIENTS = ("one-step", "BPTT")
CLAIMS = (  # claim, study, arm that is better if it is true, arm it is compared with
    *(
        (
            f"global context by {ham} helps where only context can",
            "context",
            f"{ham}, one-step",
            "no context",
        )
        for ham in HAMS
    ),
    *(
        (
            f"{ham} brings more context than a mean over all positions ({gradient})",
            "context",
            f"{ham}, {gradient}",
            POOLING,
        )
        for ham in HAMS
        for gradient in GRADIENTS
    ),
    *(
        (f"{ham} is better than attention ({gradient})", "context", f"{ham}, {gradient}", ATTENTION)
        for ham in HAMS
        for gradient in GRADIENTS
    ),
    *(
        (
            f"the one-step gradient is better than BPTT ({ham})",
            "context",
            *(f"{ham}, {gradient}" for gradient in GRADIENTS),
        )
        for ham in HAMS
    ),
    ("a Hamburger improves segmentation", "camvid", "with Hamburger", "without Hamburger"),
)


def claims(context_runs: Runs | None = None, camvid_runs: Runs | None = None) -> pd.DataFrame:
    """The paper's claims on segmentation, what the runs say about each, and a verdict that is
    computed from them.
    """
    of: dict[str, Runs] = {"context": context_runs or {}, "camvid": camvid_runs or {}}
    return verdicts((text, of[study], a, b) for text, study, a, b in CLAIMS)
