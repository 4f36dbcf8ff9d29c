"""Which runs the notebook on HyperTransformer needs."""

from collections.abc import Sequence

from terminator.hypertransformer.fewshot.presets import STUDIES
from terminator.hypertransformer.fewshot.report import main_run, study_runs
from terminator.runs.wanted import Wanted


def needs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> dict[str, list[Wanted]]:
    """{notebook: its runs}; seeds as the notebook takes them, none: its own."""
    of_studies = [run for name in STUDIES for run in study_runs(name, profile, seeds, device)]
    return {"22_hypertransformer": [main_run(profile, seeds, device), *of_studies]}
