"""Verdicts on what is seen inside networks while they train: features, slow scores."""

from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

import pandas as pd

from terminator.classification import control_study, report, studies
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.verdicts import by_setting, place_of, put
from terminator.runs import observations
from terminator.runs.against import against_number
from terminator.runs.claims import Records, Verdict, everywhere, first_of, of_outcome
from terminator.runs.outcomes import NOT_RUN, Outcome, Sample, Terms, sampled
from terminator.runs.power import core_hours
from terminator.runs.proof import comparable


def _watched(found: Records) -> dict[str, list[dict[str, Any]]]:
    """Trainings of Terminator that were watched from inside, by setting."""
    return by_setting(
        [
            r
            for r in found
            if r["config"]["train"].get("observe")
            and r["model"] == "Terminator"
            and (CLASSIFICATION.folder_of(r) / "observations.csv").is_file()
        ]
    )


def _seen(record: Mapping[str, Any]) -> pd.DataFrame:
    table = observations.read_numbers(CLASSIFICATION.folder_of(dict(record)))
    return table.assign(network="Terminator", seed=record["seed"])


def features_keep_mean_zero(found: Records) -> Verdict:
    """Do the features that a block hands on keep a mean below report.ZERO standard deviations, in
    every epoch and block? Right after a standardisation they do by construction, which is no
    finding.
    """
    terms = Terms(None, report.ZERO, ceiling=None, unit="deviations", digits=2)
    names = ("largest |mean| of an output", "the bound")
    places: dict[str, Outcome] = {}
    for group in _watched(found).values():
        means = sampled(group, _largest_mean)
        outcome = against_number(means, report.ZERO, names, terms, below=True)
        put(places, _named_place(group[0]), outcome, group[0])
    return everywhere(places)


def _largest_mean(record: Mapping[str, Any]) -> float:
    table = report.feature_table(_seen(record)).set_index("features")
    return float(table.loc["output", "largest |mean| / sd"])


def scores_single_out_the_object(found: Records) -> Verdict:
    """Are slow scores larger on the object than beside it, and more so than activations alone?

    By AUROC (%), see report.object_score, where a training says what the object is; by
    concentration it is told as well. Controls beyond |Z| alone (shuffled hyper-kernels, Grad-CAM):
    see by_controls.
    """
    places: dict[str, Outcome] = {}
    for group in _watched(found).values():
        tables = [(r, _seen(r)) for r in group]
        seen = {r["run_id"]: t for r, t in tables if (t["quantity"] == "auroc").any()}
        if seen:
            group = [r for r in group if r["run_id"] in seen]
            outcome = report.score_and_control(*_sides(group, seen, "auroc"))
            # the same runs
            kept = comparable(*_sides(group, seen, "concentration"), same_runs=True)[:2]
            ours, theirs = (mean(sample.value for sample in side) for side in kept)
            outcome = control_study.with_concentration(outcome, ours, theirs)
            put(places, _named_place(group[0]), outcome, group[0])
    return everywhere(places)


def _sides(
    group: Records, seen: Mapping[str, pd.DataFrame], quantity: str
) -> tuple[list[Sample], list[Sample]]:
    """Of slow scores, and of their inputs alone; seen: the observations by run id."""

    def side(part: str) -> list[Sample]:
        return sampled(group, lambda r: report.object_score(seen[r["run_id"]], part, quantity))

    return side("slow score"), side("input")


def _named_place(record: Mapping[str, Any]) -> str:
    """The place, and by which settings this training differs from others there."""
    config = record["config"]
    loss = config["train"]["slow_neural_loss"]
    view = config["dataset"].get("view", "image")
    more = "" if view == "image" else f", {view}, {config['model']['operator']}"
    return f"{place_of(record)}{'' if loss else ', without slow neural loss'}{more}"


def by_controls(
    judge: Callable[[Mapping[str, Any]], Outcome],
    read: Callable[[str], Mapping[str, Any] | None] = control_study.found_record,
) -> Callable[[Records], Verdict]:
    """The verdict of a comparison on the record of control_study, of the first profile that has
    one.

    Args:
        read: gives a profile's record.
    """

    def verdict(found: Records) -> Verdict:
        def of(profile: str) -> Verdict:
            record = read(profile)
            if record is None:
                return Verdict(NOT_RUN, "no measurement of trained networks yet")
            said = of_outcome(judge({**record, "hours": _hours(found, profile)}))
            return said._replace(evidence=f"{said.evidence} ({record['data']['title']})")

        return first_of(of)

    return verdict


def _hours(found: Records, profile: str) -> float:
    """Core-hours that a network of the controls took to train, mean of the runs that are there."""
    study = studies.parts(profile)
    full = {studies.FULL: study.variants[studies.FULL]}
    of_profile = [
        r for r in found if (r["profile"], r["experiment"]) == (profile, study.experiment)
    ]
    runs = CLASSIFICATION.records_of(full, of_profile)[studies.FULL]
    return mean(core_hours(r["wall_s"], r["device"]) for r in runs) if runs else 0.0
