"""What a notebook on long sequences shows: runs of a study, what simpler answers reach, tables and
verdicts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd
import torch

from terminator.classification.runs import CLASSIFICATION
from terminator.data import pathfinder
from terminator.data.sequences import listops
from terminator.data.sequences.tokens import Split, TokenData
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.data import load_long_range
from terminator.hrrformer.longrange.presets import MAIN, SEEDS, SEEDS_USED, TITLES, preset, study
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.hrrformer.studies import pathfinder_pictures
from terminator.runs import literature, measurements, records
from terminator.runs.comparison import deviation, of_examples
from terminator.runs.finished import FinishedRun, run_name
from terminator.runs.outcomes import Outcome, Terms, sampled, values_text
from terminator.runs.proof import compare as compare_samples
from terminator.runs.study import Study, run_these
from terminator.runs.study import run_study as run_variants
from terminator.runs.wanted import Wanted
from terminator.runtime.settings import identity

EXPERIMENT = "longrange"
BASELINES = "longrange_baselines"
PUBLISHED = "long range arena"  # the table of results/literature.csv
Runs = Mapping[str, Sequence[FinishedRun]]


def study_runs(
    name: str, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> list[Wanted]:
    """What `run_study` runs: with the seeds that are given; without, with as many of the profile's
    as presets.SEEDS_USED says.
    """
    chosen = tuple(seeds) or SEEDS[profile][: SEEDS_USED.get(name, 1)]
    runs = []
    for label, config in study(name, profile).items():
        for seed in chosen[:1] if "permuted" in label and not seeds else chosen:
            config = config.updated(train={"seed": seed, "device": device})
            runs.append(Wanted(LONG_RANGE, config, EXPERIMENT, profile, label))
    return runs


def run_study(
    name: str, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[FinishedRun]]:
    """All runs of a study by label, see presets.study; other seeds count as in
    runs.study.run_study.
    """
    whole = Study(EXPERIMENT, study(name, profile), ())
    return run_these(LONG_RANGE, whole, study_runs(name, profile, seeds, device), profile, seeds)


def main_run(
    name: str, profile: str, label: str = "Hrrformer", seed: int | None = None, device: str = "auto"
) -> tuple[FinishedRun, TokenData]:
    """One run of a study with its weights, trained here if they are not, and its data."""
    config = study(name, profile)[label].updated(
        train={"seed": SEEDS[profile][0] if seed is None else seed, "device": device}
    )
    data = load_long_range(config)
    return LONG_RANGE.run(config, EXPERIMENT, profile, data=data, need_model=True), data


# -- tables ----------------------------------------------------------------------------------------


def table(study_runs: Runs) -> pd.DataFrame:
    """One row per label: test accuracy (%, mean over seeds, last and best epoch), 95 % interval of
    one test set, cost.

    branch: ||mixer branch|| / ||residual||, mean over layers, after the first and after the last
    epoch.
    """
    rows = []
    for label, found in study_runs.items():
        results = [r.record for r in found]
        accuracies = pd.Series([r.accuracy() for r in found])
        rows.append(
            {
                "setting": label,
                "test": accuracies.mean(),
                "sd": deviation(list(accuracies)),
                "seeds": len(found),
                "interval": of_examples(
                    accuracies.mean(), results[0]["results"]["test"]["examples"]
                ),
                "best epoch": pd.Series([r["best"]["test_accuracy"] for r in results]).mean(),
                "train": pd.Series([r["epochs"][-1]["train_accuracy"] for r in results]).mean(),
                "branch at first": branch_ratio(found, 0),
                "branch at last": branch_ratio(found, -1),
                "parameters": results[0]["parameters"],
                "MFLOPs": results[0]["flops_per_example"] / 1e6,
                "tokens per s": pd.Series([r["tokens_per_s"] for r in results], dtype=float).mean(),
                "minutes": pd.Series([r["wall_s"] for r in results]).mean() / 60,
                "values": values_text(list(accuracies)),
            }
        )
    return pd.DataFrame(rows).set_index("setting") if rows else pd.DataFrame()


def length_table(found: Runs) -> pd.DataFrame:
    """Test accuracy (%) of the study `lengths`: index tokens of a text, a column per network; empty
    without runs.
    """
    rows = [
        {
            "tokens": run.config.data.length,
            "network": label.rpartition(", ")[0],
            "test": run.accuracy(),
        }
        for label, runs in found.items()
        for run in runs
    ]
    table = pd.DataFrame(rows, columns=["tokens", "network", "test"])
    return table.pivot_table("test", "tokens", "network", sort=False).rename_axis(columns=None)


def branch_ratio(found: Sequence[FinishedRun], epoch: int) -> float:
    """||mixer branch|| / ||residual|| after an epoch (index), mean over layers and runs."""
    values = [
        value
        for r in found
        for name, value in r.record["epochs"][epoch].items()
        if "branch_ratio" in name
    ]
    return float(np.mean(values))


def curves(study_runs: Runs, column: str = "test_accuracy") -> pd.DataFrame:
    """A column of the epochs' rows, mean over seeds: index epoch, a column per label."""
    return pd.DataFrame(
        {
            label: pd.concat([r.metrics.set_index("epoch")[column] for r in found], axis=1).mean(
                axis=1
            )
            for label, found in study_runs.items()
        }
    )


BEATS_SOFTMAX = "it beats softmax attention under the same recipe"
CLAIMS = (  # claim, arm that is better if it is true, arm it is compared with
    (
        "the attention adds something: it beats the network without it",
        "Hrrformer",
        "branch removed",
    ),
    ("its weights matter: it beats weights of 1/T", "Hrrformer", "weights 1/T"),
    (BEATS_SOFTMAX, "Hrrformer", "softmax attention"),
    (
        "padding in the superposition and the mean costs accuracy",
        "Hrrformer, padding masked",
        "Hrrformer",
    ),
)


def compare(name: str, runs: Runs, a: str, b: str) -> Outcome:
    """Test accuracies (%) of a against b in a study; what either has to beat are chance and the
    simple answers whose records are there.
    """
    record, other = runs[a][0].record, runs[b][0].record
    classes = record["data"]["classes"]
    count = classes if isinstance(classes, int) else len(classes)
    floors = {"chance": 100 / count, **measured_answers(name, record)}
    terms = Terms(floors=floors, examples=record["results"]["test"]["examples"])
    sides = [sampled([r.record for r in runs[label]], _test_accuracy) for label in (a, b)]
    found = compare_samples(sides[0], sides[1], (a, b), terms)
    sizes = f"{record['parameters']:,} against {other['parameters']:,} parameters"
    unequal = record["parameters"] != other["parameters"]
    return replace(found, notes=(*found.notes, sizes)) if unequal else found


def _test_accuracy(record: Mapping[str, Any]) -> float:
    return float(record["results"]["test"]["accuracy"])


def claims(studies: Mapping[str, Runs]) -> pd.DataFrame:
    """What the paper claims or needs, what the runs of {name: runs of a study} say, and a verdict
    from the numbers.
    """
    rows = []
    for name, runs in studies.items():
        for text, a, b in CLAIMS:
            if runs.get(a) and runs.get(b):
                found = compare(name, runs, a, b)
                rows.append(
                    {
                        "claim": f"{TITLES[name]}: {text}",
                        "evidence": str(found),
                        "verdict": found.said,
                    }
                )
    return pd.DataFrame(rows, columns=["claim", "evidence", "verdict"])


# -- what simpler answers reach --------------------------------------------------------------------


def baselines(name: str, profile: str, device: str = "auto") -> pd.DataFrame:
    """Test accuracy (%) of answers without any attention on a study's data; measured once, kept as
    records.

    most frequent label; ListOps: from the first operator alone; Pathfinder: from the distance of
    the two dots, and by CNNs that see pictures; but for ListOps: logistic regression on how often
    every token occurs. Empty where the profile has no data for the study.
    """
    if profile not in MAIN.get(name, {}):
        study(name, profile)  # an unknown name or profile is an error
        return pd.DataFrame()
    config = preset(MAIN[name][profile])
    what, run_id = _data_settings(config), _name_of_answers(name, profile)

    def measured() -> dict[str, Any]:
        data = load_long_range(config)
        return {
            "config": what,
            "data": {"title": data.info.title, "fingerprint": data.info.fingerprint},
            "results": simple_answers(data),
        }

    found = dict(measurements.named(BASELINES, run_id, "baselines", profile, measured)["results"])
    if name == "pathfinder":
        trained = run_variants(CLASSIFICATION, pathfinder_pictures(profile), profile, device=device)
        found |= {
            f"{label}, on pictures": mean(run.accuracy() for run in runs)
            for label, runs in trained.items()
            if runs  # not all diverged
        }
    return pd.DataFrame({"test": found}).rename_axis("answer")


def _name_of_answers(name: str, profile: str) -> str:
    what = _data_settings(preset(MAIN[name][profile]))
    return run_name(what, "", profile, 0, "baselines", MAIN[name][profile])


def measured_answers(name: str, record: Mapping[str, Any]) -> dict[str, float]:
    """Test accuracy (%) of the simple answers to the task of a run; empty without their record."""
    profile = record["profile"]
    if profile not in MAIN.get(name, {}):
        return {}
    run_id = _name_of_answers(name, profile)
    there = records.load_records(BASELINES, profile)
    return next((dict(found["results"]) for found in there if found["run_id"] == run_id), {})


def _data_settings(config: LongRangeConfig) -> dict[str, Any]:
    """The settings that say what the data are."""
    return {
        group: values
        for group, values in identity(config).items()
        if group in ("data", "listops", "pathfinder")
    }


def simple_answers(data: TokenData) -> dict[str, float]:
    """Test accuracy (%) of each simple answer, see baselines."""
    train, test = data.splits["train"], data.splits["test"]
    if data.info.vocabulary == listops.VOCABULARY:
        return listops.baselines(train, test)
    most = int(train.labels.bincount().argmax())
    found = {"most frequent label": 100 * float((test.labels == most).double().mean())}
    side = math.isqrt(data.info.length)
    if data.info.name == "pathfinder" and side == 32:  # dots are told from dashes at that size only
        sides = [
            (
                part.texts[0].batch(torch.arange(len(part)), side**2).view(-1, side, side),
                part.labels,
            )
            for part in (train, test)
        ]
        found["distance of the dots"] = pathfinder.answer_by_distance(*sides)
    return found | {
        "bag of tokens": bag_of_tokens(train, test, data.info.length, data.info.vocabulary)
    }


def token_counts(split: Split, length: int, vocabulary: int) -> np.ndarray:
    """log(1 + how often each token occurs) in the texts of every example, (N, texts * vocabulary),
    padding left out.
    """
    rows = []
    for text in split.texts:
        part = text.cut(length)
        owner = torch.arange(len(part)).repeat_interleave(part.lengths)
        cells = owner * vocabulary + part.values.long() + part.shift
        rows.append(
            torch.bincount(cells, minlength=len(part) * vocabulary).view(len(part), vocabulary)
        )
    return torch.cat(rows, dim=1).double().log1p().numpy()


def bag_of_tokens(train: Split, test: Split, length: int, vocabulary: int) -> float:
    """Test accuracy (%) of a logistic regression on token counts, which knows nothing of order."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(token_counts(train, length, vocabulary), train.labels.numpy())
    return 100 * float(model.score(token_counts(test, length, vocabulary), test.labels.numpy()))


# -- beside the published numbers ------------------------------------------------------------------


def published() -> pd.DataFrame:
    """The published accuracies (%), a row per model, a column per task."""
    rows = literature.literature(PUBLISHED)
    return rows.pivot(index="model", columns="dataset", values="value").loc[
        rows["model"].unique(), TITLES.values()
    ]
