"""A whole benchmark: cases one after another, with floors, as a record."""

import dataclasses
from collections.abc import Sequence

import pandas as pd

from terminator.bench.case import COLUMNS, Case, measure, summary
from terminator.bench.floors import _conditions, machine_rates, with_floors
from terminator.bench.records import write_record
from terminator.runtime import provenance
from terminator.runtime.progress import bar

# -- whole benchmarks ----------------------------------------------------------------------------------------


def run(cases: Sequence[Case], profile: str = "laptop", floors: bool = True,
        experiment: str = "benchmark") -> pd.DataFrame:
    """Measure the cases one after another, write a record (results/runs/<experiment>) and return its table.

    A record is evidence of one moment on one machine: it is never reused, every call measures and adds one.
    """
    rows, started = [], provenance.now()
    rates = {key: machine_rates(*key) for key in {_conditions(case): None for case in cases} if floors}
    with bar(len(cases), "benchmark", "case") as progress:
        for case in cases:
            row = summary(case, [measure(case)])
            if floors and case.what != "optimizer":
                row = with_floors(row, case, rates[_conditions(case)])
            rows.append(row)
            progress.update()
    write_record(rows, profile, started, experiment,
                 rates={f"{p} {d}, {t} threads": dataclasses.asdict(r) for (p, d, t), r in rates.items()})
    return pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*COLUMNS, *rows[0]])))
