"""The controls of controls.py over trained networks (studies.full_networks): measured once, kept as
a record, and what it says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import stdev
from typing import Any

import pandas as pd

from terminator.classification import controls, studies
from terminator.classification.network_records import NetworkRecord
from terminator.classification.observations import ink
from terminator.classification.runs import CLASSIFICATION, ClassificationRun
from terminator.data.augment import normalize
from terminator.data.images import ImageData
from terminator.runs import power
from terminator.runs.comparison import accuracy_of
from terminator.runs.outcomes import NOT_RUN, SEEDS, Outcome, Sample, Terms
from terminator.runs.proof import compare

EXPERIMENT = "inside_controls"
GROUPS = {"global": controls.GLOBAL, "local": controls.LOCAL, "fast": controls.FAST}
WAYS = (controls.SCORE, controls.INPUT, controls.SHUFFLED, controls.GRAD_CAM)
WHOLE = "nothing"


def recorded(profile: str, device: str = "auto") -> dict[str, Any]:
    """The record of these controls, see NetworkRecord.recorded."""
    return RECORD.recorded(profile, device)


def found_record(profile: str) -> dict[str, Any] | None:
    """The same, if it is there."""
    return RECORD.found(profile)


def _one(run: ClassificationRun, data: ImageData, images: int) -> dict[str, Any]:
    """What is measured of one trained network."""
    config, model = run.config.updated(train={"device": "cpu"}), run.model()  # as the record says
    trainer = CLASSIFICATION.trainer(model, config, data)
    batch = config.test.batch_size
    x = normalize(data.test_images[:images], data.info.mean, data.info.std)
    accuracies = {WHOLE: trainer.evaluate("released")["accuracy"]}
    for name, branches in GROUPS.items():
        with controls.without_branches(model, branches, x[:2]):
            accuracies[name] = trainer.evaluate("released")["accuracy"]
    shares = controls.branch_shares(model, x[:batch])
    inked = ink(data.test_images[:images], data.info.name)
    return {
        "accuracy_without": accuracies,
        "share": {name: controls.share_of(shares, of) for name, of in GROUPS.items()},
        "object": {}
        if inked is None
        else controls.object_scores(partial(controls.object_maps, model), x, inked, batch),
    }


RECORD = NetworkRecord(EXPERIMENT, "controls", studies.full_networks, studies.FULL, _one)


# -- what it says ----------------------------------------------------------------------------------


def _networks(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return record["results"]["networks"]


def branch_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """A row per group of branches: share of the bottlenecks' input power (%, mean over blocks and
    seeds, and the largest of a block), accuracy (%) with it set to zero.
    """
    rows = []
    for name in (WHOLE, *GROUPS):
        shares = [value for r in _networks(record) for value in r["share"].get(name, [])]
        accuracy = pd.Series([r["accuracy_without"][name] for r in _networks(record)])
        rows.append(
            {
                "set to zero": name,
                "share of power (%)": 100 * sum(shares) / len(shares) if shares else float("nan"),
                "largest of a block (%)": 100 * max(shares) if shares else float("nan"),
                "accuracy": accuracy.mean(),
                "lowest": accuracy.min(),
                "highest": accuracy.max(),
                "seeds": len(accuracy),
            }
        )
    return pd.DataFrame(rows).set_index("set to zero")


def object_table(record: Mapping[str, Any]) -> pd.DataFrame:
    """A row per way of saying where the object is: AUROC (%) and concentration, means over images,
    blocks and seeds; and by how much slow scores exceed it, with the bootstrap's 95 % interval over
    images and seeds.
    """
    rows = []
    networks = [r["object"] for r in _networks(record) if r["object"]]
    for way in networks[0] if networks else ():
        scores = [_mean(r[way]["auroc"]) for r in networks]
        gains = [
            [s - o for s, o in zip(r[controls.SCORE]["auroc"], r[way]["auroc"], strict=True)]
            for r in networks
        ]
        low, high = controls.bootstrap_interval(gains)
        same = way == controls.SCORE
        rows.append(
            {
                "way": way,
                "AUROC": _mean(scores),
                "concentration": _mean([r[way]["concentration"] for r in networks]),
                "|S| exceeds it by": 0.0 if same else _mean([_mean(of) for of in gains]),
                "from": 0.0 if same else low,
                "to": 0.0 if same else high,
            }
        )
    return pd.DataFrame(rows).set_index("way") if rows else pd.DataFrame(rows)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def operator_used(record: Mapping[str, Any]) -> Outcome:
    """Whether accuracy falls when the global branches of trained networks are set to zero."""
    sides = [
        _of_seeds(record, {r["seed"]: r["accuracy_without"][name] for r in _networks(record)})
        for name in (WHOLE, "global")
    ]
    names = ("accuracy of the trained network", "with its global branches set to zero")
    return compare(sides[0], sides[1], names, Terms(), same_runs=True)


def _of_seeds(record: Mapping[str, Any], values: Mapping[int, float]) -> list[Sample]:
    """A sample per seed."""
    where, hours = record["device"], record.get("hours", 0.0)
    return [Sample(seed, value, where, hours) for seed, value in values.items()]


def score_beyond(record: Mapping[str, Any], way: str) -> Outcome:
    """Whether slow scores single out the object better than another way, by AUROC (%) of all
    blocks, seed by seed; with the concentration of both.
    """
    seen = {r["seed"]: r["object"] for r in _networks(record) if r["object"]}
    sides = [
        _of_seeds(record, {seed: _mean(of[name]["auroc"]) for seed, of in seen.items()})
        for name in (controls.SCORE, way)
    ]
    names = (f"AUROC of {controls.SCORE}", f"of {way}")
    terms = Terms(floors={"chance": 50.0})
    found = compare(sides[0], sides[1], names, terms, same_runs=way in WAYS)
    if found.word == NOT_RUN:
        return found
    dense = (
        _mean([of[name]["concentration"] for of in seen.values()]) for name in (controls.SCORE, way)
    )
    return with_concentration(found, *dense)


def with_concentration(found: Outcome, ours: float, theirs: float) -> Outcome:
    """A verdict by AUROC with what the other measure says, which weighs how strong pixels are and
    not only their order.
    """
    note = f"concentration {ours:.2f} against {theirs:.2f}"
    return replace(found, notes=(*found.notes, note))


def announced(profile: str, full: Sequence[Mapping[str, Any]]) -> str:
    """The difference that the study of parts can be expected to show, from the spread of the full
    network's seeds alone, as if it had no more of them than each variant.
    """
    study = studies.parts(profile)
    values = [accuracy_of(record) for record in full]
    seeds = min(len(values), len(study.seeds))
    if seeds < SEEDS:
        return f"{seeds} seeds: no verdict, whatever the difference"
    variants = len(study.variants) - 1
    return power.announced(
        seeds,
        stdev(values),
        f"of the full network, whose {len(values)} seeds count as no more here",
        paired=False,
        comparisons=variants,
    )
