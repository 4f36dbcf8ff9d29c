"""What Hrrformer's paper claims or needs of accuracies; the comparisons are those of notebook
21.
"""

from collections.abc import Callable
from functools import partial

from terminator.hrrformer.longrange import presets, report
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.runs.claims import PROFILES, Claim, Records, Verdict, ahead

NOTEBOOK, PAPER = "21_hrrformer", "arXiv 2305.19534"


def _ahead(name: str, a: str, b: str) -> Callable[[Records], Verdict]:
    return ahead(LONG_RANGE, partial(presets.study, name), a, b, partial(report.compare, name))


CLAIMS = [
    Claim(
        "Hrrformer",
        f"{report.TITLES[name]}: {text}",
        PAPER,
        NOTEBOOK,
        _ahead(name, a, b),
        "settled at this size; for the published sizes, paper runs with three seeds",
        LONG_RANGE.task,
    )
    for name in report.TITLES
    for text, a, b in report.CLAIMS
    if any({a, b} <= presets.study(name, profile).keys() for profile in PROFILES)
]
