"""What the notebook on few-shot learning shows: its runs, what it looks at inside a model, and its
verdicts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from terminator.data.episodes.sampling import EpisodeBatch, episode_generator
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.data import EpisodeData, load_episode_data
from terminator.hypertransformer.fewshot.presets import MAIN, SEEDS, preset, study
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.hypertransformer.fewshot.speed import episode_speed
from terminator.hypertransformer.model import HyperTransformer
from terminator.runs import measurements
from terminator.runs.comparison import deviation
from terminator.runs.finished import FinishedRun
from terminator.runs.outcomes import values_text
from terminator.runs.study import Study, run_these
from terminator.runs.wanted import Wanted
from terminator.runtime import provenance
from terminator.runtime.distributed import choose_device

EXPERIMENT = "fewshot"


def study_runs(
    name: str, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> list[Wanted]:
    """What `run_study` runs: with the seeds that are given; without, methods with every seed of the
    profile, all else with the first.
    """
    chosen = tuple(seeds) or SEEDS[profile][: None if name == "methods" else 1]
    runs = []
    for label, config in study(name, profile).items():
        for seed in chosen:
            config = config.updated(train={"seed": seed, "device": device})
            runs.append(Wanted(FEW_SHOT, config, EXPERIMENT, profile, label))
    return runs


def run_study(
    name: str, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[FinishedRun]]:
    """All runs of a study by label, see presets.study; other seeds count as in
    runs.study.run_study.
    """
    whole = Study(EXPERIMENT, study(name, profile), ())
    return run_these(FEW_SHOT, whole, study_runs(name, profile, seeds, device), profile, seeds)


def main_run(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> Wanted:
    """What `main_model` runs."""
    seed = (tuple(seeds) or SEEDS[profile])[0]
    config = preset(MAIN[profile], train={"seed": seed, "device": device})
    return Wanted(FEW_SHOT, config, EXPERIMENT, profile, "main", need_model=True)


def main_model(
    profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> tuple[FinishedRun, EpisodeData]:
    """The model that is looked at, trained here if its weights are not, and its data."""
    wanted = main_run(profile, seeds, device)
    data = load_episode_data(wanted.config.data)
    return wanted.run(data=data), data


def table(study_runs: Mapping[str, Sequence[FinishedRun]]) -> pd.DataFrame:
    """One row per label: mean over seeds, standard deviation (of three or more), 95 % interval over
    one seed's tasks (all in %), and the values in words.
    """
    rows = []
    for label, found in study_runs.items():
        part = FEW_SHOT.runs_table([r.record for r in found])
        rows.append(
            {
                "setting": label,
                "test": part["test"].mean(),
                "sd": deviation(list(part["test"])),
                "seeds": len(part),
                "interval": part["interval"].mean(),
                "train classes": part["train_classes"].mean(),
                "overlapping": part["overlapping"].astype(float).mean(),
                "parameters": part["parameters"].iloc[0],
                "steps": part["steps"].iloc[0],
                "minutes": part["wall_s"].mean() / 60,
                "values": values_text(list(part["test"])),
            }
        )
    return pd.DataFrame(rows).set_index("setting")


def by_number(
    study_runs: Mapping[str, Sequence[FinishedRun]], ending: str
) -> dict[str, pd.DataFrame]:
    """What every seed reached against the number in its label, "KIND, NUMBER ending".

    Returns:
        {kind: a row per run, columns x, seed, test (accuracy on unseen classes, %)}.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    for label, found in study_runs.items():
        kind, number = label.removesuffix(ending).split(", ")
        for run in found:
            reached = run.record["results"]["test"]["accuracy"]
            row = {"x": int(number), "seed": run.record["seed"], "test": reached}
            rows.setdefault(kind, []).append(row)
    return {kind: pd.DataFrame(of) for kind, of in rows.items()}


def example(
    config: FewShotConfig, data: EpisodeData, split: str = "test", episodes: int = 3, seed: int = 0
) -> EpisodeBatch:
    """Some episodes of a split, always the same ones, without random removal."""
    return data.episodes(config, split).batch(episodes, episode_generator(seed, 1))


@torch.no_grad()
def first_filters(model: HyperTransformer, batch: EpisodeBatch) -> Tensor:
    """The generated kernels of the first layer, (episodes, channels, rows, columns), of the first
    input channel.
    """
    return model.generate(batch.support_images, batch.support_labels).convs[0].kernel[:, :, 0]


@torch.no_grad()
def attention_to_support(model: HyperTransformer, batch: EpisodeBatch) -> dict[str, Tensor]:
    """How much every placeholder attends to every support image: {layer: (blocks, images)} of the
    first episode.

    Of the last Transformer layer, mean over heads; what a row lacks to 1 goes to placeholders.
    Images in the order of their labels.
    """
    layers = (
        model.generate(batch.support_images, batch.support_labels, return_attention=True).attention
        or ()
    )
    order, count = batch.support_labels[0].argsort(), batch.support_labels.shape[1]
    found = {}
    for i, maps in enumerate(layers):
        if maps:
            last = maps[-1][0].mean(0)  # placeholders and images among each other; or, of a
            blocks = last.shape[1] - count  # separate decoder, placeholders to images
            name = "logits" if i + 1 == len(layers) else f"conv {i + 1}"
            found[name] = (last[:blocks, blocks:] if blocks else last)[:, order]
    return found


def own_label_share(attention: Tensor, labels: Tensor) -> float:
    """Of the logits layer's attention to the support set, the share that row y gives to images of
    label y.

    Without any preference it is the share of these images, 1/n in balanced episodes.
    """
    same = labels.sort().values[None] == torch.arange(len(attention))[:, None]
    return (attention[same].sum() / attention.sum()).item()


def speed(profile: str, data: EpisodeData, device: str = "auto") -> pd.DataFrame:
    """Training episodes per second with one and with eight episodes per step, in float32 with plain
    SGD; measured once per machine and kept as a record.
    """
    config = preset(MAIN[profile], train={"device": device})
    kind = provenance.device_name(choose_device(device).type)
    name = "speed-" + "".join(c if c.isalnum() else "-" for c in f"{profile}-{kind}".lower())

    def measured() -> dict[str, Any]:
        found = episode_speed(config, data)
        about = {"title": data.info.title, "fingerprint": data.info.fingerprint}
        return {"data": about, "results": found.pop("rows"), **found}

    frame = pd.DataFrame(
        measurements.named("fewshot_speed", name, "speed", profile, measured)["results"]
    )
    return frame.assign(times=frame["episodes_per_s"] / frame["episodes_per_s"].iloc[0]).set_index(
        "batch"
    )


def continual_table(found: FinishedRun, kind: str) -> pd.DataFrame:
    """Accuracy (%) of task j (column) after task t (row), class_incremental or task_incremental;
    empty above.
    """
    accuracies = found.record["results"]["test"][kind]
    names = [f"task {i + 1}" for i in range(len(accuracies))]
    frame = pd.DataFrame(
        [row + [float("nan")] * (len(names) - len(row)) for row in accuracies], columns=names
    )
    return frame.set_index(pd.Index([f"after {name}" for name in names]))
