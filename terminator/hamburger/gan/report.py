"""What the notebook on Hamburger shows of HamGAN: its runs and a table of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from terminator.hamburger.gan.frechet import judge_run
from terminator.hamburger.gan.networks import Sigmas
from terminator.hamburger.gan.presets import SEEDS, study
from terminator.hamburger.gan.runs import GAN, NAMES, GanRun
from terminator.runs.comparison import deviation
from terminator.runs.outcomes import Outcome, Terms, sampled, values_text
from terminator.runs.proof import compare
from terminator.runs.study import Study, run_these
from terminator.runs.wanted import Wanted

EXPERIMENT = "gan"


def study_runs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> list[Wanted]:
    """What `run_study` runs; before them comes the classifier that judges them."""
    runs = []
    for name, config in study(profile).items():
        for seed in tuple(seeds) or SEEDS[profile]:
            config = config.updated(train={"seed": seed, "device": device})
            before = (judge_run(config, profile),)
            runs.append(Wanted(GAN, config, EXPERIMENT, profile, name, after=before))
    return runs


def run_study(
    profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[GanRun]]:
    """All runs of the profile's study, {kind of context: one run per seed}."""
    whole = Study(EXPERIMENT, study(profile), ())
    return run_these(GAN, whole, study_runs(profile, seeds, device), profile, seeds)


def table(study_runs: Mapping[str, Sequence[GanRun]]) -> pd.DataFrame:
    """One row per kind of context: Frechet distance, mean and standard deviation over seeds (of
    three or more), what goes with it, and the distances in words.
    """
    rows = []
    for name, found in study_runs.items():
        distances = pd.Series([r.record["results"]["test"]["frechet"] for r in found])
        sigmas = (
            pd.DataFrame([r.record["sigmas"] for r in found if r.record["sigmas"]]).abs().mean()
        )
        record = found[0].record
        rows.append(
            {
                "network": NAMES[name],
                "Frechet distance": distances.mean(),
                "sd": deviation(list(distances)),
                "seeds": len(found),
                "right class (%)": sum(r.record["results"]["test"]["right_class"] for r in found)
                / len(found),
                "training images": record["results"]["train_images"]["frechet"],
                **{f"|sigma| in the {of}": sigmas.get(of) for of in Sigmas._fields},
                "parameters": record["parameters"],
                "minutes": sum(r.record["wall_s"] for r in found) / 60 / len(found),
                "distances": values_text(list(distances)),
            }
        )
    return pd.DataFrame(rows).set_index("network")


def sigma_curves(study_runs: Mapping[str, Sequence[GanRun]]) -> dict[str, list[pd.DataFrame]]:
    """{context, network: a table per run, columns step, value} of the sizes |sigma| of the weights
    of both contexts; their signs say nothing.
    """
    curves: dict[str, list[pd.DataFrame]] = {}
    for name, found in study_runs.items():
        for r in found:
            rows, train = r.metrics, r.config.train
            steps = (rows["epoch"] * train.steps_between_saves).clip(upper=train.train_steps)
            for network in Sigmas._fields:
                if f"sigma_{network}" in rows:
                    label = f"{NAMES[name].removeprefix('with ')}, {network}"
                    values = pd.DataFrame({"step": steps, "value": rows[f"sigma_{network}"].abs()})
                    start = pd.DataFrame({"step": [0], "value": [0.0]})
                    whole = pd.concat([start, values], ignore_index=True)
                    curves.setdefault(label, []).append(whole)
    return curves


MOST_RIGHT = (
    50.0  # % of the generated images that are of the class asked for; a GAN has learned then
)


def nearer(runs: Mapping[str, Sequence[GanRun]], a: str, b: str) -> Outcome:
    """Whether a comes nearer to the images than b (Frechet distance); not learned where neither
    generates the class asked for in most cases.
    """
    right = {
        name: sum(r.record["results"]["test"]["right_class"] for r in runs[name]) / len(runs[name])
        for name in (a, b)
    }
    best = max(right.values())
    few = f"at most {best:.0f} % of the images that a side generates are of the class asked for"
    terms = Terms(
        margin=None,
        worth=0.25,
        unlearned=few if best <= MOST_RIGHT else "",
        ceiling=None,
        lower_is_better=True,
        unit="of distance",
        digits=2,
    )
    sides = [sampled([r.record for r in runs[name]], _frechet) for name in (a, b)]
    return compare(sides[0], sides[1], (NAMES[a], NAMES[b]), terms)


def _frechet(record: Mapping[str, Any]) -> float:
    return float(record["results"]["test"]["frechet"])
