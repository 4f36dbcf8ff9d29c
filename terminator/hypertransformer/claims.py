"""What the HyperTransformer papers claim; the comparisons are those of notebook 22
(fewshot/contrasts.py).
"""

from collections.abc import Callable
from typing import Any

from terminator.classification.verdicts import published_number
from terminator.hypertransformer.fewshot import contrasts
from terminator.hypertransformer.fewshot.presets import preset, study
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.runs.claims import Claim, Records, Verdict, finished, first_of
from terminator.runs.finished import FinishedRun

NOTEBOOK = "22_hypertransformer"
PAPER, CONTINUAL = "arXiv 2201.04182", "arXiv 2301.04584"


def _runs(found: Records, name: str, profile: str) -> dict[str, list[FinishedRun]]:
    return finished(FEW_SHOT, study(name, profile), found, profile)


def contrast(text: str) -> Callable[[Records], Verdict]:
    """The verdict on one of contrasts.contrasts."""

    def verdict(found: Records) -> Verdict:
        def judge(profile: str) -> Verdict:
            case = next(case for case in contrasts.contrasts(profile) if case.text == text)
            return contrasts.settle(case, {case.study: _runs(found, case.study, profile)})

        return first_of(judge)

    return verdict


def forgetting(found: Records) -> Verdict:
    """The verdict on contrasts.forgetting."""
    return first_of(
        lambda profile: contrasts.forgetting({"continual": _runs(found, "continual", profile)})
    )


def reaches(published: float, name: str) -> Callable[[Records], Verdict]:
    """Do the runs of a paper preset reach a published accuracy (%)? As released: queries may be
    support images, which the runs measure beside the rest.
    """

    def verdict(found: Records) -> Verdict:
        of_profile = [r for r in found if r["profile"] == "paper"]
        runs = FEW_SHOT.records_of({name: preset(name)}, of_profile)[name]

        def as_released(run: dict[str, Any]) -> float:
            results = run["results"]
            return results.get("test_overlapping", results["test"])["accuracy"]

        return published_number(runs, published, as_released)

    return verdict


GPU = "`run_all.py --profile paper --only 22*` on a GPU with all of Omniglot, three seeds"
CLAIMS = [
    Claim(
        "HyperTransformer",
        "Omniglot, 20-way 1-shot, 8 channels: 87.2 %",
        f"{PAPER}, Table 1, read second-hand",
        NOTEBOOK,
        reaches(87.2, "omniglot-20way-1shot"),
        GPU,
        FEW_SHOT.task,
    ),
    Claim(
        "HyperTransformer",
        "Omniglot, 20-way 5-shot, 8 channels: 94.7 %",
        f"{PAPER}, Table 1, read second-hand",
        NOTEBOOK,
        reaches(94.7, "omniglot-20way-5shot"),
        GPU,
        FEW_SHOT.task,
    ),
    *(
        Claim(
            "HyperTransformer",
            case.text,
            PAPER,
            NOTEBOOK,
            contrast(case.text),
            "settled at this size; for the published sizes, paper runs with three seeds",
            FEW_SHOT.task,
        )
        for case in contrasts.contrasts("paper")
    ),
    Claim(
        "Continual HyperTransformer",
        contrasts.FORGETTING,
        CONTINUAL,
        NOTEBOOK,
        forgetting,
        "three seeds that learn the first task well above chance",
        FEW_SHOT.task,
    ),
]
