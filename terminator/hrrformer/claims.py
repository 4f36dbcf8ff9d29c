"""What Hrrformer's paper claims or needs of accuracies; the comparisons are those of notebook 21."""

from functools import partial

from terminator.claims.base import Claim, ahead
from terminator.longrange import presets, studies
from terminator.longrange.runs import LONG_RANGE

NOTEBOOK, PAPER = "21_hrrformer", "arXiv 2305.19534"


CLAIMS = [
    Claim("Hrrformer", f"{studies.TITLES[name]}: {text}", PAPER, NOTEBOOK,
          ahead(LONG_RANGE, partial(presets.study, name), a, b, studies.compare),
          "laptop: two seeds or more of both sides; for the published sizes, paper runs", LONG_RANGE.task)
    for name in studies.TITLES for text, a, b in studies.CLAIMS
    if any({a, b} <= presets.study(name, profile).keys() for profile in ("laptop", "paper"))]
