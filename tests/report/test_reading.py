"""Sentences agree with the numbers that they show; verdict boxes with the card; long tables keep
every row.
"""

import re

import numpy as np
import pandas as pd
import pytest
from places import ROOT

from terminator.report import reading
from terminator.report.verdict_box import verdict_box
from terminator.runner.verdicts import claims
from terminator.runtime.paths import RESULTS_VARIABLE


def test_words_follow_the_shown_text():
    assert reading.moved(0.1, 0.3) == "rises from 0.10 to 0.30"
    assert reading.moved(0.3, 0.1) == "falls from 0.30 to 0.10"
    assert reading.moved(0.301, 0.299) == "stays at 0.30"
    assert reading.moved(0.001, -0.001) == "stays at 0.00"  # no sign of what is rounded away
    assert reading.moved(-0.001, -0.3, "{:.1f} %") == "falls from 0.0 % to -0.3 %"
    assert reading.compared(0.3, 0.1) == "0.30, above 0.10"
    assert reading.compared(1, 3, "{:.0f}", ("more than", "less than", "as")) == "1, less than 3"
    assert reading.compared(0.301, 0.299) == "0.30, the same as 0.30"


def test_extremes():
    values = {"block 1": 0.2, ("a", "b"): 0.7, "none": float("nan")}
    assert reading.extremes(values) == "largest for a, b (0.70), smallest for block 1 (0.20)"
    assert reading.extremes(pd.Series({"x": 1.001, "y": 1.002})) == "the same for all (1.00)"
    with pytest.raises(ValueError, match="all are missing"):
        reading.extremes({"x": float("nan")})
    assert r"\*a\*" in reading.extremes({"*a*": 1.0, "b": 2.0})  # names come from outside


def test_sentences_are_one_paragraph():
    said = reading.say("One.", "", "Two.")
    assert said == said._repr_markdown_() == "One. Two."


@pytest.fixture
def frame():
    values = {"name": [f"<{i}>" for i in range(20)], "value": np.arange(20) / 3, "count": range(20)}
    return pd.DataFrame(values)


def test_a_long_table_is_cut_and_written_whole(frame, tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    table = reading.long_table(frame, "things", "smoke", rows=15)
    page = table._repr_html_()
    assert page.count("<tr>") == 1 + 15  # the head, and its rows
    assert "&lt;3&gt;" in page
    assert "<3>" not in page
    assert "&lt;15&gt;" not in page
    assert "15 of 20 rows; all of them in tables/smoke/things.csv" in page
    assert "15 of 20 rows" in repr(table)
    assert str(tmp_path) not in page
    written = pd.read_csv(tmp_path / "tables" / "smoke" / "things.csv")
    assert written["value"].to_list() == pytest.approx(frame["value"].to_list())
    assert page == reading.long_table(frame, "things", "smoke", rows=15)._repr_html_()


def test_a_short_table_has_no_note_and_its_index_is_written(frame, tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    table = reading.long_table(frame.head(3).set_index("name"), "few", "smoke")
    assert not table.note
    assert "rows;" not in table._repr_html_()
    written = pd.read_csv(tmp_path / "tables" / "smoke" / "few.csv")
    assert list(written) == ["name", "value", "count"]


def test_missing_values_and_twin_rows_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    twins = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "x": [None, 0.5]})
    twins.index = pd.Index(["same", "same"], name="row")
    page = reading.long_table(twins, "twins", "smoke")._repr_html_()
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert cells == ["1", "", "", "0.50"]
    assert page.count("same") == 2


# -- verdicts --------------------------------------------------------------------------------------

CARD = """# Card

| system | claim | source | notebook | verdict | evidence | what would settle it |
|---|---|---|---|---|---|---|
| T | a \\| b helps | paper | 11_images | undecided (would have seen 1) | 1 < 2, laptop | more |
| T | it holds | paper | 11_images | holds | all, paper | |
| T | another | paper | 12_other | not run | no record yet | a run |
"""


def test_a_box_has_the_claims_of_its_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    (tmp_path / "REPRODUCIBILITY.md").write_text(CARD, encoding="utf8")
    box = verdict_box("11_images", "smoke")
    assert box.summary == (
        "Claims that this notebook tests: holds: 1, undecided: 1. Records: paper profile and "
        "laptop profile. This run (smoke) decides none."
    )
    page = box._repr_html_()
    assert "a | b helps" in page
    assert "1 &lt; 2, laptop" in page
    assert "another" not in page
    assert "decides none" not in verdict_box("11_images", "laptop").summary
    assert "Records: no record yet." in verdict_box("12_other", "paper").summary
    with pytest.raises(ValueError, match="13_none"):
        verdict_box("13_none", "smoke")


def test_a_box_in_another_results_folder_reads_the_projects_card(tmp_path, monkeypatch):
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    rows = [row for row in claims(ROOT / "results") if row["notebook"] == "11_images"]
    box = verdict_box("11_images", "smoke")
    assert box.rows == rows
    for row in rows:
        assert f"{row['verdict']}: {row['claim']}" in repr(box)
