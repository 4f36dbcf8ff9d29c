"""What a reader calls the configurations of an experiment."""

from typing import Any

from terminator.classification.config import Config
from terminator.classification.studies.choices import mixers, precision, sequences
from terminator.classification.studies.contests import networks, optimizers
from terminator.classification.studies.given import headline, jpeg, shipped
from terminator.classification.studies.observed import feature_statistics, slow_neural_loss
from terminator.classification.studies.parts import (
    FULL,
    ablations,
    global_mixers,
    parts,
    transformers,
)
from terminator.runs.study import firsts


def named(experiment: str, profile: str) -> dict[str, Config]:
    """{what a reader calls it: configuration} of an experiment's variants, at every rate where
    rates are compared.
    """
    found: dict[str, Config] = {}
    if (study := parts(profile)).experiment == experiment:
        alike = study.variants[FULL] == ablations(profile).variants[FULL]
        base = "" if alike else " (three blocks)"
        found |= {f"{label}{base}": config for label, config in study.variants.items()}
    for make in (
        ablations,
        global_mixers,
        sequences,
        slow_neural_loss,
        feature_statistics,
        mixers,
        precision,
        headline,
        jpeg,
        shipped,
        transformers,
    ):
        study = make(profile)
        if study.experiment == experiment:
            found |= {_name(label): config for label, config in study.variants.items()}
    for hold in (networks, optimizers):
        contest = hold(profile)
        first = firsts(contest.rates)
        for label, rates in contest.rates.items():
            for rate in rates:
                made = contest.final({**first, label: rate})
                if made.experiment == experiment:
                    found[f"{label}, rate {rate:g}"] = made.variants[label]
        if (sweep := contest.sweep()).experiment == experiment:
            found |= {
                f"{label}, rate {rate:g}": config
                for (label, rate), config in sweep.variants.items()
            }
    return found


def _name(label: Any) -> str:
    return label if isinstance(label, str) else ", ".join(map(str, label))
