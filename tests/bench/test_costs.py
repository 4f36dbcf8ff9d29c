"""Cost against size: what is measured, how a record is read, and what is fitted."""

import pandas as pd
import pytest

from terminator.bench import growth as costs
from terminator.bench.case import Case
from terminator.plots import charts
from terminator.runs import measurements


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_axis_has_two_sizes_and_changes_nothing_else(profile):
    found = costs.cases(profile)
    assert {axis for axis, _ in found} == set(costs.THEORY)
    for axis in costs.THEORY:
        cases = [case for name, case in found if name == axis]
        amounts = [case.batch if axis == "batch" else case.size for case in cases]
        assert len(set(amounts)) == len(amounts) >= 2
        assert len({case.size if axis == "batch" else case.batch for case in cases}) == 1
        assert {case.dimensions for case in cases} == {1 if axis == "sequence length" else 2}


@pytest.mark.slow
def test_a_record_is_measured_once_read_again_and_split_by_axis(monkeypatch):
    few = {"repeats": 1, "warm_up": 0, "threads": 1}
    sizes = [
        ("image side", Case(size=4, batch=4, **few)),
        ("image side", Case(size=6, batch=4, **few)),
        ("batch", Case(size=4, batch=2, **few)),
        ("sequence length", Case(size=9, batch=4, dimensions=1, **few)),
        ("sequence length", Case(size=16, batch=4, dimensions=1, **few)),
    ]
    asked = []
    monkeypatch.setattr(costs, "cases", lambda *words: asked.append(words) or sizes)
    record = costs.recorded("smoke", "cpu")
    assert costs.recorded("smoke", "cpu") == record
    assert asked == [("smoke", "cpu")]
    table = costs.table(record)
    assert {axis: list(group["amount"]) for axis, group in table.groupby("axis")} == {
        "image side": [4, 6],
        "batch": [2, 4],
        "sequence length": [9, 16],
    }
    assert measurements.load("smoke") == []  # no row of the table of speed
    growth = costs.growth_table(table)
    charts.growth(table, "ms", "ms", growth["time, fitted"])


def test_the_fitted_power_is_that_of_the_largest_sizes():
    rows = [
        {"axis": axis, "amount": n, "ms_low": n**power, "peak_mib": 5.0 * n}
        for axis, power in (("image side", 2.5), ("batch", 1.0))
        for n in (1, 8, 16, 32)
    ]
    growth = costs.growth_table(pd.DataFrame(rows), ("image side", "batch"))
    assert growth["time, fitted"].to_list() == pytest.approx([2.5, 1.0])
    assert growth["memory, fitted"].to_list() == pytest.approx([1.0, 1.0])
    assert growth.loc["image side", "time, theory"] == "2 to 3"
