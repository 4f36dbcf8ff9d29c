"""Which runs the notebook on Hrrformer needs."""

from collections.abc import Sequence

from terminator.classification.runs import CLASSIFICATION
from terminator.hrrformer.longrange.presets import MAIN
from terminator.hrrformer.longrange.report import study_runs
from terminator.hrrformer.studies import pathfinder_pictures
from terminator.runs.study import study_runs as of_study
from terminator.runs.wanted import Wanted


def needs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> dict[str, list[Wanted]]:
    """{notebook: its runs}; seeds as the notebook takes them, none: its own."""
    pictures = of_study(CLASSIFICATION, pathfinder_pictures(profile), profile, device=device)
    runs = [run for name in MAIN for run in study_runs(name, profile, seeds, device)]
    return {"21_hrrformer": [*runs, *pictures]}
