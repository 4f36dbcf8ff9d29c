"""What the notebook on Hamburger shows of HamGAN: its runs and a table of them."""

from collections.abc import Mapping, Sequence

import pandas as pd

from terminator.hamburger.gan.presets import SEEDS, study
from terminator.hamburger.gan.runs import GAN, NAMES, GanRun
from terminator.runs.comparison import Gap, gap

EXPERIMENT = "gan"


def run_study(
    profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[GanRun]]:
    """All runs of the profile's study, {kind of context: one run per seed}."""
    return {
        name: [
            GAN.run(config.updated(train={"seed": seed, "device": device}), EXPERIMENT, profile)
            for seed in tuple(seeds) or SEEDS[profile]
        ]
        for name, config in study(profile).items()
    }


def table(study_runs: Mapping[str, Sequence[GanRun]]) -> pd.DataFrame:
    """One row per kind of context: Frechet distance, mean and standard deviation over seeds, and
    what goes with it.
    """
    rows = []
    for name, found in study_runs.items():
        distances = pd.Series([r.record["results"]["test"]["frechet"] for r in found])
        sigmas = [r.record["sigmas"]["generator"] for r in found if r.record["sigmas"]]
        record = found[0].record
        rows.append(
            {
                "network": NAMES[name],
                "Frechet distance": distances.mean(),
                "sd": distances.std(ddof=1),
                "seeds": len(found),
                "right class (%)": sum(r.record["results"]["test"]["right_class"] for r in found)
                / len(found),
                "training images": record["results"]["train_images"]["frechet"],
                "sigma in the generator": sum(sigmas) / len(sigmas) if sigmas else None,
                "parameters": record["parameters"],
                "minutes": sum(r.record["wall_s"] for r in found) / 60 / len(found),
            }
        )
    return pd.DataFrame(rows).set_index("network")


def sigma_curves(study_runs: Mapping[str, Sequence[GanRun]]) -> dict[str, pd.DataFrame]:
    """{what: table with columns step, value} of the weights of both contexts, of every run that has
    them.
    """
    curves = {}
    for name, found in study_runs.items():
        for r in found:
            rows, train = r.metrics, r.config.train
            steps = (rows["epoch"] * train.steps_between_saves).clip(upper=train.train_steps)
            for network in ("generator", "discriminator"):
                if f"sigma_{network}" in rows:
                    label = f"{NAMES[name].removeprefix('with ')}, {network}, seed {train.seed}"
                    values = pd.DataFrame({"step": steps, "value": rows[f"sigma_{network}"]})
                    start = pd.DataFrame({"step": [0], "value": [0.0]})
                    curves[label] = pd.concat([start, values], ignore_index=True)
    return curves


def nearer(a: Sequence[GanRun], b: Sequence[GanRun]) -> Gap:
    """Frechet distance of b less that of a: above 0 where a comes nearer to the images."""
    distances = [[r.record["results"]["test"]["frechet"] for r in runs] for runs in (b, a)]
    return gap(distances[0], distances[1])
