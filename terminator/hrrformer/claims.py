"""What Hrrformer's paper claims or needs of accuracies; the comparisons are those of notebook
21.
"""

from functools import partial

from terminator.hrrformer.longrange import presets, report
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.runs.claims import Claim, ahead

NOTEBOOK, PAPER = "21_hrrformer", "arXiv 2305.19534"


CLAIMS = [
    Claim(
        "Hrrformer",
        f"{report.TITLES[name]}: {text}",
        PAPER,
        NOTEBOOK,
        ahead(LONG_RANGE, partial(presets.study, name), a, b, report.compare),
        "laptop: two seeds or more of both sides; for the published sizes, paper runs",
        LONG_RANGE.task,
    )
    for name in report.TITLES
    for text, a, b in report.CLAIMS
    if any({a, b} <= presets.study(name, profile).keys() for profile in ("laptop", "paper"))
]
