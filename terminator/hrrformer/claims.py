"""What Hrrformer's paper claims or needs; the comparisons are those of notebook 21."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from terminator.bench.mixers import TokenCase
from terminator.hrrformer import report as inside
from terminator.hrrformer import verdicts
from terminator.hrrformer.longrange import presets, report
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.runs import measurements
from terminator.runs.claims import ASKED, PROFILES, Claim, Records, Verdict, ahead, measured

NOTEBOOK, PAPER = "21_hrrformer", "arXiv 2305.19534"


def _ahead(name: str, a: str, b: str) -> Callable[[Records], Verdict]:
    return ahead(LONG_RANGE, partial(presets.study, name), a, b, partial(report.compare, name))


def _costs(profile: str) -> pd.DataFrame | None:
    record = measurements.newest(TokenCase.experiment, profile)
    return None if record is None else pd.DataFrame(record["rows"])


CLAIMS = [
    *(
        Claim(
            "Hrrformer",
            f"{report.TITLES[name]}: {text}",
            PAPER if text == report.BEATS_SOFTMAX else ASKED,
            NOTEBOOK,
            _ahead(name, a, b),
            "settled at this size; for the published sizes, paper runs with three seeds",
            LONG_RANGE.task,
        )
        for name in report.TITLES
        for text, a, b in report.CLAIMS
        if any({a, b} <= presets.study(name, profile).keys() for profile in PROFILES)
    ),
    *(
        Claim(
            "Hrrformer",
            text,
            PAPER if text in verdicts.OF_PAPER else ASKED,
            NOTEBOOK,
            measured(read, judge),
            "settled for these sizes; for others, the paper profile of notebook 21",
            LONG_RANGE.task,
        )
        for read, judges in (
            (_costs, verdicts.OF_COST),
            (inside.found_record, verdicts.OF_INSIDE),
            (inside.found_capacity, verdicts.OF_CAPACITY),
        )
        for text, judge in judges.items()
    ),
]
