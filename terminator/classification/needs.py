"""Which runs the notebooks of images and sequences need."""

from collections.abc import Sequence

from terminator.classification import studies
from terminator.classification.runs import CLASSIFICATION, image_runs, tour_run
from terminator.runs.study import Finals, contest_runs, study_runs
from terminator.runs.wanted import Wanted

STUDIES = {
    "10_sequential_images": (studies.sequences,),
    "12_convergence": (studies.jpeg,),
    "13_ablations": (studies.parts, studies.full_networks, studies.ablations, studies.transformers),
    "14_slow_neural_loss": (studies.slow_neural_loss,),
    "15_feature_statistics": (studies.feature_statistics,),
    "30_one_bench": (studies.mixers, studies.global_mixers),
    "31_speed": (studies.precision,),
}
TOURS = ("00_tour", "01_slow_network", "02_hyperzzw", "03_sfne_block")


def needs(
    profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[Wanted | Finals]]:
    """{notebook: its runs}; seeds as the notebooks take them, none: each one's own.

    Not the run of notebook 05, whose pictures are the reader's own.
    """
    found: dict[str, list[Wanted | Finals]] = {
        name: [tour_run(profile, seeds[0] if seeds else 0, device)] for name in TOURS
    }
    found["11_images"] = [*image_runs(profile, seeds, device)]
    found["12_convergence"] = []
    for make in (studies.networks, studies.optimizers):
        sweep, finals = contest_runs(CLASSIFICATION, make(profile), profile, seeds, device)
        found["12_convergence"] += [*sweep, finals]
    for name, makers in STUDIES.items():
        found[name] = found.get(name, []) + [
            wanted
            for make_study in makers
            for wanted in study_runs(CLASSIFICATION, make_study(profile), profile, seeds, device)
        ]
    return found
