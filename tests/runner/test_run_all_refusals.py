"""run_all.py refuses at once what cannot work, and names it."""

import os

import nbformat
import pytest
from run_all_tools import PARAMETERS, book, call


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    book(
        folder / "notebooks",
        "00_one",
        "1",
        parameters='epochs = 3  # a count\nname = "x"  # a text\n',
    )
    book(folder / "notebooks", "01_two", "1", parameters="flags = [1]  # integers\n")
    return folder / "notebooks", folder / "results"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "99*"], "no notebook matches --only 99*; there are: 00_one, 01_two"),
        (["--only", "00*", "99*"], "no notebook matches --only 99*"),
        (["--data-dir", "no/such/folder"], "--data-dir no/such/folder: no such folder"),
        (["--data-dir", ""], "--data-dir : no such folder"),
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["-p", "epochs"], "expected 2 arguments"),
        (["-p", "epoch", "3"], "no selected notebook has a parameter 'epoch'"),
        (["-p", "epoch", "3"], "00_one: profile, seeds, device, epochs, name"),
        (["--only", "01*", "-p", "epochs", "3"], "no selected notebook has a parameter 'epochs'"),
        (
            ["-p", "epochs", "three"],
            'parameter epochs = "three" (str) does not fit its default 3 (int)',
        ),
        (["-p", "epochs", "3.5"], "parameter epochs = 3.5 (float)"),
        (["-p", "epochs", "true"], "parameter epochs = true (bool)"),
        (["-p", "epochs", "NaN"], 'parameter epochs = "NaN" (str)'),
        (["-p", "flags", "3"], "parameter flags = 3 (int)"),
        (["-p", "flags", '["a"]'], 'parameter flags = ["a"] (list)'),
        (["-p", "profile", "laptop"], "use --profile"),
        (["-p", "epochs", "3", "-p", "epochs", "4"], "given twice"),
        (["--seeds", "-1"], "none below 0"),
        (["--seeds", "1", "1"], "different integers"),
        (["--jobs", "0"], "--jobs 0: at least 1"),
        (["--cell-timeout", "-3"], "--cell-timeout -3.0"),
    ],
)
def test_refusals(two, options, message):
    notebooks, results = two
    code, text = call(notebooks, results, *options)
    assert code == 2
    assert message in text
    assert not results.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{ broken", "not a readable notebook"),
        ('{"cells": []}', "needs exactly one code cell tagged 'parameters', found 0"),
        (PARAMETERS + "epochs = 2 * 3", "'epochs = 2 * 3'"),
        (PARAMETERS + "epochs += 2", "'epochs += 2'"),
        (PARAMETERS + "betas = (0.5, 0.9)", "'betas = (0.5, 0.9)'"),
        (PARAMETERS + "epochs = ", "not valid Python"),
        ('profile = "smoke"', "the parameters cell lacks seeds, device"),
    ],
)
def test_unsound_notebooks_are_refused_by_name(tmp_path, content, message):
    notebooks = tmp_path / "notebooks"
    book(notebooks, "00_odd")
    path = notebooks / "00_odd.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source = content
    path.write_text(content if content.startswith("{") else nbformat.writes(notebook))
    code, text = call(notebooks, tmp_path / "results")
    assert code == 2
    assert "00_odd.ipynb" in text
    assert message in text


def test_results_folder_that_cannot_be_written(two, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, text = call(two[0], tmp_path / "file" / "results")
    assert code == 2
    assert f"cannot write to the results folder {tmp_path / 'file' / 'results'}" in text


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_in_the_place_of_the_lock(two, tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".lock").symlink_to(tmp_path / "precious")
    code, text = call(two[0], tmp_path / "results")
    assert code == 2
    assert f"{tmp_path / 'results' / '.lock'} is a link" in text
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_folder_where_a_file_is_written_is_named_in_one_line(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    book(notebooks, "00_one", "1")
    (results / "notebooks" / "smoke" / "state.json").mkdir(parents=True)
    code, text = call(notebooks, results)
    assert code == 1
    assert "Traceback" not in text
    assert "state.json" in text.splitlines()[-1]


def test_names_of_notebooks_and_folders_send_nothing_to_the_terminal(tmp_path):
    book(tmp_path / "notebooks", "00_a\x1b[31mred")
    for options in (["--list"], ["--only", "none"], ["--data-dir", "no\x1b[31m\nfolder"]):
        _, text = call(tmp_path / "notebooks", tmp_path / "results", *options)
        assert "\x1b" not in text
        assert "\\x1b[31m" in text


def test_empty_notebook_folder(tmp_path):
    code, text = call(tmp_path, tmp_path / "results")
    assert code == 2
    assert f"no notebooks NN_name.ipynb in {tmp_path}" in text
