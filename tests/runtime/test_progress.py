"""Progress: a bar where somebody watches, one for each cell of a notebook, and lines elsewhere."""

import os
from unittest import mock

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from terminator.runtime import progress
from terminator.runtime.progress import HEADLESS_VARIABLE, bar

TRAININGS = """
from terminator.runtime.progress import bar, say
for training in range(4):
    for epoch in range(3):
        with bar(5, f"epoch {epoch + 1}", "batch") as progress:
            for step in range(5):
                progress.set_postfix(loss="0.5", refresh=False)
                progress.update()
        say(f"training {training}, epoch {epoch + 1}")
"""
NESTED = """
from terminator.runtime.progress import bar
with bar(2, "outside") as outside:
    for _ in range(2):
        with bar(3, "inside") as inside:
            inside.update(3)
        outside.update()
assert outside.n == 2, outside.n
"""


def test_the_pace_counts_every_step_however_seldom_it_tells(monkeypatch, capsys):
    """As on a GPU, where a loss is read every fifty steps: 20 steps a second, of 64 images."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "shows_bars", lambda: False)
    pace = progress.Pace(10_000, 64, "images")
    for step in range(2_000):
        now[0] += 0.05
        pace.step()
        if step % 50 == 0:
            pace.tell(0, 10, step, 1_000 * 10, 1.0)
    first, *later = capsys.readouterr().out.splitlines()
    assert first == "10,000 steps of 64 images to go, about 8 min at 1280 images/s"
    (line,) = later
    assert "1280 images/s  7 min left in it, 7 min in all" in line


@pytest.fixture(scope="module")
def watched():
    """The outputs of both cells where a person could watch; neighbouring texts are joined, as
    JupyterLab does.
    """
    notebook = new_notebook(cells=[new_code_cell(TRAININGS), new_code_cell(NESTED)])
    with mock.patch.dict(os.environ):
        os.environ.pop(HEADLESS_VARIABLE, None)
        NotebookClient(
            notebook, timeout=120, kernel_name="python3", coalesce_streams=True
        ).execute()
    nbformat.validate(notebook)
    return [cell["outputs"] for cell in notebook.cells]


def test_many_trainings_in_a_cell_are_one_bar_and_one_text(watched):
    kinds = [output["output_type"] for output in watched[0]]
    assert kinds.count("display_data") == 1
    assert kinds.count("stream") == 1
    text = next(output["text"] for output in watched[0] if output["output_type"] == "stream")
    assert text.count("training") == 12


def test_a_bar_inside_a_bar_has_a_place_of_its_own(watched):
    assert sum(output["output_type"] == "display_data" for output in watched[1]) >= 2


def test_nothing_is_drawn_where_nobody_watches(capfd, monkeypatch):
    monkeypatch.setenv(HEADLESS_VARIABLE, "1")
    with bar(3, "unseen") as progress:
        progress.update(3)
    assert progress.disable
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_nobody_watches_says_a_line_a_minute(monkeypatch, capsys):
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.bar(1200, "making trees", "part", lines=True) as shown:
        for _ in range(6):
            shown.update(100)
    assert capsys.readouterr().err.splitlines() == [
        f"making trees: {count} of 1,200 parts" for count in ("300", "600")
    ]
    with progress.bar(3, "steps") as shown:
        shown.update(3)
    assert capsys.readouterr() == ("", "")
