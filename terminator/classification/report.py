"""What notebooks show of runs: what observations say, and tables.

Observations are of features, slow scores and hyper-kernels; everything that reads them takes one
table, made by `gathered`. See observations.py for what its quantities mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from terminator.classification.runs import CLASSIFICATION
from terminator.runs.comparison import deviation
from terminator.runs.literature import literature
from terminator.runs.outcomes import Outcome, Sample, Terms, sampled, values_text
from terminator.runs.proof import compare

ZERO = 0.1  # a mean below this share of the standard deviation is called zero
STABLE = 1.5  # a deviation that changes by less than this factor during training is called stable


def gathered(runs: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """The observations of {label: runs} in one table: network, seed, epoch, quantity, block, part,
    value.

    Args:
        runs: as study.run_study gives them, made with train.observe.
    """
    return pd.concat(
        [
            run.observations.assign(network=label, seed=run.record["seed"])
            for label, found in runs.items()
            for run in found
        ],
        ignore_index=True,
    )


def select(table: pd.DataFrame, quantity: str, *parts: str, last: bool = False) -> pd.DataFrame:
    """The rows of one quantity; of some parts, and of the last epoch, if so wished."""
    chosen = table[table["quantity"] == quantity]
    if parts:
        chosen = chosen[chosen["part"].isin(parts)]
    return chosen[chosen["epoch"] == table["epoch"].max()] if last else chosen


# -- slow scores -----------------------------------------------------------------------------------


def score_table(table: pd.DataFrame) -> pd.DataFrame:
    """After training, per network and block: AUROC and concentration of slow score, input and
    hyper-kernel.

    `gain` is the slow score's minus the input's: what the hyper-kernel adds. Means over seeds.
    """
    rows = []
    for quantity in ("auroc", "concentration"):
        wide = select(table, quantity, last=True).pivot_table(
            "value", ["network", "block"], "part", sort=False
        )
        wide["gain"] = wide["slow score"] - wide["input"]
        rows.append(wide[["slow score", "input", "hyper-kernel", "gain"]])
    return pd.concat(rows, axis=1, keys=("auroc", "concentration"))


def object_score(seen: pd.DataFrame, part: str, quantity: str = "auroc") -> float:
    """AUROC (%) or concentration after the last epoch, of one run's observations: the mean over all
    blocks but the first (where there are others), whose input is the picture that tells where the
    object is.

    Args:
        part: "slow score", or "input" for the activations alone.
        quantity: "auroc" or "concentration".
    """
    found = select(seen, quantity, part, last=True)
    beyond = found[found["block"] > 1]
    value = float((beyond if len(beyond) else found)["value"].mean())
    return 100 * value if quantity == "auroc" else value


def score_and_control(scores: Sequence[Sample], controls: Sequence[Sample]) -> Outcome:
    """Whether slow scores single out the object more than the activations alone, by the AUROC (%)
    of both in the same runs.
    """
    names, terms = ("AUROC of |S|", "of |Z| alone"), Terms(floors={"chance": 50.0})
    return compare(scores, controls, names, terms, same_runs=True)


def score_verdict(runs: Mapping[str, Sequence[Any]], with_loss: str, without: str) -> str:
    """Whether slow scores single out the object, more than the activations alone, and what the loss
    changes: AUROC (%), see `object_score`, compared seed by seed.

    Args:
        runs: {label: runs}, see `gathered`.
    """

    def side(found: Sequence[Any], seen: Mapping[str, pd.DataFrame], part: str) -> list[Sample]:
        records = (run.record for run in found)
        return sampled(records, lambda record: object_score(seen[record["run_id"]], part))

    lines, sides = [], []
    for label in (with_loss, without):
        seen = {run.record["run_id"]: run.observations for run in runs[label]}
        scores, controls = (side(runs[label], seen, part) for part in ("slow score", "input"))
        found = score_and_control(scores, controls)
        lines.append(f"{label}: hyper-kernels add to what activations say: {found.said}; {found}.")
        sides.append(scores)
    terms = Terms(floors={"chance": 50.0})
    found = compare(sides[0], sides[1], ("with the loss", "without"), terms)
    lines.append(f"The loss raises the AUROC of |S|: {found.said}; {found}.")
    return "\n".join(lines)


# -- hyper-kernels ---------------------------------------------------------------------------------


def kernel_table(table: pd.DataFrame) -> pd.DataFrame:
    """Per network, before and after training: cosine and relative distance over pairs of blocks,
    size of W.
    """
    end = table["epoch"].max()
    rows = {}
    for quantity in ("kernel_cosine", "kernel_distance", "kernel_rms"):
        found = select(table, quantity)
        for name, epoch in (("before", 0), ("after", end)):
            rows[quantity, name] = (
                found[found["epoch"] == epoch].groupby("network", sort=False)["value"].mean()
            )
    return pd.DataFrame(rows)


def kernel_verdict(table: pd.DataFrame) -> str:
    """Whether training brings the blocks' hyper-kernels together, and by what: growing alike, or
    growing small.
    """
    lines = []
    for label, row in kernel_table(table).iterrows():
        before, after = row["kernel_cosine"]
        shrunk = row["kernel_rms"]["after"] / row["kernel_rms"]["before"]
        alike = "more alike" if after > before + 0.05 else "no more alike"
        lines.append(
            f"{label}: mean cosine {before:+.3f} -> {after:+.3f}, so the hyper-kernels grow "
            f"{alike}; their size changes by a factor of {shrunk:.2f}; relative distance "
            f"{row['kernel_distance']['before']:.2f} -> {row['kernel_distance']['after']:.2f}."
        )
    return "\n".join(lines)


# -- features --------------------------------------------------------------------------------------


def relative_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, and channel offset, of every feature map in units of its standard deviation: columns
    mean, offset, sd.
    """
    keys = ["network", "seed", "epoch", "block", "part"]
    wide = table[table["quantity"].isin(("mean", "sd", "channel_offset"))].pivot_table(
        "value", keys, "quantity"
    )
    wide["offset"], wide["mean"] = wide["channel_offset"] / wide["sd"], wide["mean"] / wide["sd"]
    return wide[["mean", "offset", "sd"]].reset_index()


def feature_table(table: pd.DataFrame) -> pd.DataFrame:
    """Per network and feature map, over blocks, epochs and seeds: the largest |mean| and offset,
    and drift of the sd.

    Drift is the largest deviation over the smallest, from the first epoch on, in the block where it
    is worst.
    """
    features = relative_means(table)
    features = features[features["part"].isin(("standardised", "output"))]
    rows = []
    for (network, part), group in features.groupby(["network", "part"], sort=False):
        trained = group[group["epoch"] > 0].groupby(["seed", "block"])["sd"]
        rows.append(
            {
                "network": network,
                "features": part,
                "largest |mean| / sd": group["mean"].abs().max(),
                "largest channel offset / sd": group["offset"].max(),
                "drift of sd": (trained.max() / trained.min()).max(),
            }
        )
    return pd.DataFrame(rows)


def feature_verdict(table: pd.DataFrame) -> str:
    """Whether features are zero-mean and stable, by the limits ZERO and STABLE, in sentences."""
    lines = []
    for row in feature_table(table).itertuples(index=False):
        network, part, mean, offset, drift = row
        whole = "zero" if mean < ZERO else "not zero"
        each = "zero" if offset < ZERO else "not zero"
        lines.append(
            f"{network}, {part}: the mean is {whole} (at most {mean:.2f} sd), channel by channel "
            f"{each} ({offset:.2f} sd); the deviation is "
            f"{'stable' if drift < STABLE else 'not stable'} (it changes up to {drift:.2f}-fold)."
        )
    return "\n".join(lines)


# -- tables of runs -------------------------------------------------------------------------------

GROUP = [
    "experiment",
    "profile",
    "dataset",
    "train_images",
    "image_size",
    "model",
    "parameters",
    "optimizer",
    "epochs",
    "setting",
]


def summary_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting: mean and standard deviation of the last accuracies (%) over seeds
    (of three or more), and the same in words: fewer values stand one by one.
    """
    runs = CLASSIFICATION.runs_table(list(records))
    if runs.empty:
        return runs
    rows = []
    for key, group in runs.groupby(GROUP, sort=True):
        row = dict(zip(GROUP, key, strict=True)) | {"seeds": len(group)}
        for protocol in ("released", "calibrated"):
            values = group[f"accuracy_{protocol}"]
            row[protocol] = round(values.mean(), 2)
            row[f"{protocol}_sd"] = round(deviation(list(values)), 2)
            row[f"{protocol}_text"] = values_text(list(values))
        row["device"] = "; ".join(sorted(set(group["device"])))
        row["minutes"] = round(group["wall_s"].mean() / 60, 1)
        row["images_per_s"] = round(group["images_per_s"].mean(), 1)
        rows.append(row)
    return pd.DataFrame(rows)


def table_beside_published(
    records: Iterable[dict[str, Any]], table: str = "images"
) -> pd.DataFrame:
    """Published numbers and ours in one table, each row saying what kind of number it is and where
    it is from.

    Ours are last-epoch means over seeds, as released (statistics of the test batch), with standard
    deviation; fewer than three values stand one by one.
    """
    columns = [
        "dataset",
        "model",
        "parameters",
        "epochs",
        "accuracy",
        "calibrated",
        "kind",
        "source",
    ]
    published = literature(table)
    rows = [
        {
            "dataset": r.dataset,
            "model": r.model,
            "parameters": r.parameters,
            "epochs": r.epoch,
            "accuracy": f"{r.value:.2f}",
            "calibrated": "-",
            "kind": r.kind,
            "source": r.source,
        }
        for r in published.itertuples()
    ]
    for r in summary_table(records).itertuples():
        rows.append(
            {
                "dataset": f"{r.dataset}, {r.image_size} px, {r.train_images} images",
                "model": r.model,
                "parameters": r.parameters,
                "epochs": r.epochs,
                "accuracy": r.released_text,
                "calibrated": r.calibrated_text,
                "kind": f"ours, {r.profile}, {r.seeds} seed{'s' if r.seeds > 1 else ''}",
                "source": f"results/runs/{r.experiment}",
            }
        )
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"parameters": "Int64", "epochs": "Int64"})


def headline_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting and protocol: experiment, dataset, profile, metric, value, spread,
    n_seeds.
    """
    rows = []
    for r in summary_table(records).itertuples():
        for protocol in ("released", "calibrated"):
            rows.append(
                {
                    "experiment": r.experiment,
                    "dataset": r.dataset,
                    "profile": r.profile,
                    "metric": f"test accuracy (%), {protocol}",
                    "value": getattr(r, protocol),
                    "spread": getattr(r, f"{protocol}_sd"),
                    "n_seeds": r.seeds,
                }
            )
    return pd.DataFrame(
        rows, columns=["experiment", "dataset", "profile", "metric", "value", "spread", "n_seeds"]
    )
