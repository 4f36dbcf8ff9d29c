"""What the notebook on Hrrformer measures inside trained networks, kept as records.

A record holds the numbers and the few maps that its figures need, so that they can be drawn where
neither weights nor data are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.data.sequences.tokens import TokenData
from terminator.data.views import permutation
from terminator.hrrformer import anatomy, capacity
from terminator.hrrformer.longrange import report
from terminator.hrrformer.longrange.presets import SEEDS
from terminator.hrrformer.longrange.tasks import build_network
from terminator.runs import literature, measurements
from terminator.runtime.settings import require_one_of

EXPERIMENT = "hrr_inside"
TRAINED, UNTRAINED, PERMUTED = "trained", "untrained", "trained, pixels permuted"
SHUFFLED_POSITIONS = "trained, positions shuffled"
CONTROLS = [UNTRAINED, PERMUTED]
# labels of longrange.presets.study("image", ...)
MAIN, SHUFFLED = ("Hrrformer", "Hrrformer, permuted pixels")
IMAGES = {"smoke": 256, "laptop": 512, "paper": 1024}  # test images that the mean maps are means of
SHOWN = 6  # images whose own maps are kept
DIGITS = 4  # significant ones of a map that is kept
CAPACITY_EXPERIMENT = "hrr_capacity"
# widths, pairs
CAPACITY = {
    "smoke": ((16, 64, 256), (1, 2, 4, 8, 16, 32, 64, 256)),
    "laptop": ((16, 64, 256, 1024), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
    "paper": ((16, 64, 256, 1024), (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
}


def capacity_curve(profile: str) -> pd.DataFrame:
    """capacity.capacity_table at the sizes of a profile, from a record that is made here if it is
    missing.

    Raises:
        ConfigError: for an unknown profile.
    """
    require_one_of("profile", profile, CAPACITY)
    widths, pairs = CAPACITY[profile]
    queries = 256 if profile == "smoke" else 2048

    def measured() -> dict[str, Any]:
        table = capacity.capacity_table(widths, pairs, queries=queries)
        return {
            "config": {"widths": list(widths), "pairs": list(pairs), "queries": queries},
            "data": {"title": "random vectors", "fingerprint": "a formula"},
            "results": {"capacity": measurements.as_rows(table)},
        }

    name = _of_capacity(profile)
    return _curve(measurements.named(CAPACITY_EXPERIMENT, name, "probes", profile, measured))


def found_capacity(profile: str) -> pd.DataFrame | None:
    """The same, if its record is there."""
    record = measurements.found(CAPACITY_EXPERIMENT, _of_capacity(profile))
    return None if record is None else _curve(record)


def _of_capacity(profile: str) -> str:
    return f"capacity-{profile}"


def _curve(record: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(record["results"]["capacity"])


# -- inside networks of the Image task -------------------------------------------------------------


def recorded(
    profile: str, seeds: Sequence[int] = (), device: str = "auto", again: bool = False
) -> dict[str, Any]:
    """The newest record of this profile (and these seeds, if any are given), or a new one, which is
    computed on the CPU from networks that are trained here if their weights are not.

    Returns:
        rows, one per network (TRAINED and its controls), seed and head: see
        anatomy.structure_table, and `mean_map`, T w averaged over the images; row (pixels);
        mean_image: its row contrast; layers: branch_ratio and weight_spread before training and
        after it; shown: one network's maps of a few images, and its attention taken apart;
        positions: similarity of the Pathfinder network's learned positions, with controls.
    """
    require_one_of("profile", profile, IMAGES)

    for record in reversed(measurements.load(profile, EXPERIMENT)) if not again else ():
        if _seeds(record) == set(seeds) if seeds else _of_profile(record, profile):
            return record
    return measurements.add(EXPERIMENT, profile, lambda: _measured(profile, seeds, device))


def found_record(profile: str) -> dict[str, Any] | None:
    """The newest record that has all seeds of a profile: others are somebody's own look."""
    there = measurements.load(profile, EXPERIMENT)
    return next((r for r in reversed(there) if _of_profile(r, profile)), None)


def _of_profile(record: dict[str, Any], profile: str) -> bool:
    return _seeds(record) >= set(SEEDS[profile])


def _seeds(record: dict[str, Any]) -> set[int]:
    return {row["seed"] for row in record["rows"]}


def _measured(profile: str, seeds: Sequence[int], device: str) -> dict[str, Any]:
    chosen = tuple(seeds) or SEEDS[profile]
    rows: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    shown: dict[str, Any] = {}
    for seed in chosen:
        run, data = report.main_run("image", profile, MAIN, seed, device)
        tokens = test_tokens(data, IMAGES[profile])
        networks: dict[str, Any] = {TRAINED: run.model(), UNTRAINED: build_network(run.config)}
        for label, network in networks.items():
            rows += _structure(label, seed, network, tokens, None)
            layers += [
                {"network": label, "seed": seed, **row}
                for row in anatomy.branch_numbers(network, tokens[:64])
            ]
        if not shown:
            shown = _shown(run.model(), tokens) | {
                "data": data.info.title,
                "run_id": run.record["run_id"],
            }
    run, data = report.main_run("image", profile, SHUFFLED, chosen[0], device)
    order = permutation(data.info.length, run.config.data.permutation_seed or 0)
    tokens = test_tokens(data, IMAGES[profile])[:, torch.argsort(order)]  # in reading order again
    rows += _structure(PERMUTED, chosen[0], run.model(), tokens, order)
    side = math.isqrt(data.info.length)
    return {
        "rows": rows,
        "layers": layers,
        "shown": shown,
        "row": side,
        "mean_image": anatomy.row_contrast(tokens.double().mean(0), side).item(),
        "positions": _positions(profile, chosen[0], device),
    }


def _positions(profile: str, seed: int, device: str) -> dict[str, dict[str, Any]]:
    """Learned positions of the Pathfinder network: contrast of their similarity, and that to the
    middle one as a map.

    Controls: as they began, and as they are after training but in a random order.
    """
    run, data = report.main_run("pathfinder", profile, MAIN, seed, device)
    side = math.isqrt(data.info.length)
    model: Any = run.model()
    trained = anatomy.position_similarity(model)
    order = permutation(len(trained), 0)
    found = {
        TRAINED: trained,
        UNTRAINED: anatomy.position_similarity(build_network(run.config)),
        SHUFFLED_POSITIONS: trained[order][:, order],
    }
    middle = side // 2 * (side + 1)
    for similarity in found.values():
        # of a position to itself: it would pale all others in a picture
        similarity[middle, middle] = 0
    return {
        label: {
            "contrast": anatomy.similarity_contrast(similarity, side),
            "map": _kept(similarity[middle]),
        }
        for label, similarity in found.items()
    }


def test_tokens(data: TokenData, count: int) -> Tensor:
    """The first test sequences, (N, T)."""
    part = data.splits["test"]
    return part.texts[0].batch(torch.arange(min(count, len(part))), data.info.length)


def _structure(
    label: str, seed: int, network: Any, tokens: Tensor, order: Tensor | None
) -> list[dict[str, Any]]:
    orders = {} if order is None else {label: order}
    table = anatomy.structure_table({label: network}, tokens, orders)
    means = anatomy.image_weights(network, tokens, order).mean(0)
    return [
        {**row, "seed": seed, "device": "cpu", "images": len(tokens), "mean_map": _kept(mean)}
        for row, mean in zip(table.to_dict("records"), means, strict=True)
    ]


def _shown(network: Any, tokens: Tensor) -> dict[str, Any]:
    """What the figures of one network need: images, their weights, and the attention over the first
    of them.
    """
    found = anatomy.anatomy(network, tokens[0])
    # (h, T, T)
    cosine = (
        F.normalize(found.retrieved, dim=-1, eps=1e-8)
        @ F.normalize(found.value, dim=-1, eps=1e-8).mT
    )
    # another token's value
    other = cosine[:, torch.arange(cosine.shape[1]), torch.arange(cosine.shape[1]).roll(1)]
    return {
        "tokens": _kept(tokens[:SHOWN]),
        "weights": _kept(anatomy.weights_over(network, tokens[:SHOWN])),
        "superposition": _kept(found.superposition),
        "own": _kept(found.cosine),
        "other": _kept(other),
        "width": found.value.shape[-1],
        "retrieval": anatomy.retrieval_table(found).reset_index().to_dict("records"),
    }


def _kept(values: Tensor) -> Any:
    """Rounded, for figures: a list of lists whose innermost are texts, since JSON gives every
    number a line.
    """
    if values.ndim > 1:
        return [_kept(part) for part in values]
    return " ".join(f"{value:.{DIGITS}g}" for value in values.tolist())


def kept(values: Any) -> Tensor:
    """The tensor that was kept in a record."""
    if isinstance(values, str):
        return torch.tensor([float(value) for value in values.split()])
    return torch.stack([kept(part) for part in values])


def structure(record: dict[str, Any]) -> pd.DataFrame:
    """One row per network, seed and head: row_contrast, position_share, grey_correlation."""
    return pd.DataFrame(record["rows"]).drop(columns=["mean_map", "device"])


def mean_maps(record: dict[str, Any]) -> dict[str, Tensor]:
    """{network: T w (h, T)}, of the first seed of each."""
    found: dict[str, dict[int, list[str]]] = {}
    for row in record["rows"]:
        found.setdefault(row["network"], {}).setdefault(row["seed"], []).append(row["mean_map"])
    return {label: kept(next(iter(maps.values()))) for label, maps in found.items()}


def position_maps(record: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """Similarity of every learned position to the middle one (side, side), titled with its row
    contrast.
    """
    found = []
    for label, part in record["positions"].items():
        field = kept(part["map"])
        side = math.isqrt(len(field))
        name = label.replace(", ", ",\n")
        found.append((f"{name}\n(row contrast {part['contrast']:+.3f})", field.reshape(side, side)))
    return found


def structure_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per network, over heads and seeds: mean and largest row contrasts, mean of the rest."""
    groups = table.groupby("network", sort=False)
    contrast = groups["row_contrast"].agg(["mean", "max"]).add_prefix("row contrast, ")
    by_position = (
        groups["row_contrast_shuffled"].agg(["mean", "max"]).add_prefix("pixels shuffled, ")
    )
    return contrast.join(by_position).assign(
        **{
            "share of variance by position": groups["position_share"].mean(),
            "|correlation with grey|": groups["grey_correlation"].agg(lambda x: x.abs().mean()),
            "heads": groups.size(),
        }
    )


def branch_table(record: dict[str, Any]) -> pd.DataFrame:
    """||branch|| / ||residual|| and largest weight over smallest, before and after training, mean
    over seeds.
    """
    table = pd.DataFrame(record["layers"]).assign(
        when=lambda t: t["network"].map({UNTRAINED: "before training", TRAINED: "after training"})
    )
    wide = table.pivot_table("value", ["quantity", "block"], "when", sort=False)
    return wide[["before training", "after training"]]


# -- trainings with controls -----------------------------------------------------------------------


def over_epochs(runs: report.Runs, column: str) -> pd.DataFrame:
    """A column of the epochs' rows as classification.figures.over_epochs takes it: epoch, value,
    line (label), panel (column).
    """
    parts = [
        run.metrics[["epoch", column]]
        .set_axis(["epoch", "value"], axis=1)
        .assign(line=label, panel=column)
        for label, found in runs.items()
        for run in found
    ]
    return pd.concat(parts, ignore_index=True)


def branch_growth(runs: report.Runs) -> pd.DataFrame:
    """||branch|| / ||residual|| (%) after every epoch, for classification.figures.over_epochs: a
    panel per layer; none where removed.
    """
    layers = 1 + max(
        int(name.rsplit("_", 1)[1])
        for found in runs.values()
        for run in found
        for name in run.metrics
        if name.startswith("branch_ratio_")
    )
    parts = []
    for layer in range(1, layers):
        column = f"branch_ratio_{layer}"
        have = {
            label: [run for run in found if column in run.metrics] for label, found in runs.items()
        }
        parts.append(over_epochs(have, column).assign(panel=f"layer {layer}"))
    table = pd.concat(parts, ignore_index=True)
    return table[table["value"] > 0].assign(value=lambda t: 100 * t["value"])


def arena_table(runs: Mapping[str, report.Runs], profile: str) -> pd.DataFrame:
    """Published accuracies (%) of the long range arena and ours, a row per model, a column per
    task.

    Args:
        runs: {study: {label: runs}}; the studies are named like the tasks.

    Ours are those of the profile's own data and sizes: only the paper profile's are the published
    task.
    """
    published = report.published()
    epochs = literature.literature(report.PUBLISHED).groupby("model")["epoch"].first()
    rows = [
        {
            "model": model,
            **row,
            "kind": "published",
            "epochs": f"{epochs[model]:.0f}",
            "parameters": "",
        }
        for model, row in published.to_dict("index").items()
    ]
    for label in dict.fromkeys(label for found in runs.values() for label in found):
        here = {
            name: found[label]
            for name, found in runs.items()
            if label in found and name in report.TITLES
        }
        if len(here) < len([name for name in runs if name in report.TITLES]):
            continue  # a row of one task alone stands in that task's own table
        sizes = [found[0].record["parameters"] for found in here.values()]
        trained = [found[0].config.train.epochs for found in here.values()]
        rows.append(
            {
                "model": label,
                "kind": f"ours, {profile}",
                "epochs": _range(trained),
                "parameters": _range(sizes),
                **{
                    report.TITLES[name]: np.mean([run.accuracy() for run in found])
                    for name, found in here.items()
                },
            }
        )
    columns = ["kind", *published.columns, "epochs", "parameters"]
    return pd.DataFrame(rows).set_index("model").reindex(columns=columns)


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
