"""Which runs the notebook on Hamburger needs."""

from collections.abc import Sequence

from terminator.hamburger.gan import report as gan
from terminator.hamburger.segmentation import mixers
from terminator.hamburger.segmentation import report as segmentation
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.runs.study import study_runs
from terminator.runs.wanted import Wanted


def needs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> dict[str, list[Wanted]]:
    """{notebook: its runs}; seeds as the notebook takes them, none: its own."""
    return {
        "20_hamburger": [
            *segmentation.context_runs(profile, seeds, device),
            *study_runs(SEGMENTATION, mixers.study(profile), profile, seeds, device),
            *segmentation.camvid_runs(profile, seeds, device),
            *gan.study_runs(profile, seeds, device),
        ]
    }
