"""The sanitiser through which nbval compares outputs: it hides what varies, and nothing else."""

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns
from places import TESTS

SANITISER = TESTS / "nbval_sanitize.cfg"


def sanitise(text):
    for regex, replacement in get_sanitize_patterns(SANITISER.read_text(encoding="utf-8")):
        text = re.sub(regex, replacement, text)
    return text


def test_every_pattern_is_in_force():
    text = SANITISER.read_text(encoding="utf-8")
    assert (
        len(get_sanitize_patterns(text)) == text.count("\nregex:") == text.count("\nreplace:") > 0
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("trained in 12.3 s", "trained in 8 s"),
        ("forward 1.2 ms", "forward 15 ms"),
        ("1.2 ± 0.3 ms", "14.0 ± 2.1 ms"),
        ("1,234 images/s", "99.5 images/s"),
        ("[00:12<01:30, 5.1it/s]", "[00:02<00:09, 55.0it/s]"),
        ("3.2 ms/image", "0.4 ms/image"),
        ("made 2024-01-31T10:00:00+00:00", "made 2025-12-01T23:59:59+00:00"),
        ("saved /home/a/results/x.svg", "saved /srv/lab/b/results/x.svg"),
        ("<Figure at 0x7f00aa11bb22>", "<Figure at 0x55deadbeef00>"),
        ("device: cpu", "device: cuda:0"),
        ("on NVIDIA H100 80GB HBM3, bf16", "on NVIDIA A10, bf16"),
        ("on Intel(R) Xeon(R) CPU @ 2.20GHz\n", "on AMD EPYC 7B12\n"),
    ],
)
def test_sanitiser_hides_what_varies(one, other):
    assert sanitise(one) == sanitise(other)


@pytest.mark.parametrize(
    "text",
    [
        "1,336,855 parameters",
        "shape (1, 12, 8, 8)",
        "accuracy 98.3 % after 6 epochs",
        "results/tables/digits.csv",
        "https://arxiv.org/abs/2401.17948",
        "<table><tr><td>3</td></tr></table>",
        "close to golden: True",
        "64 samples, 3 seeds, 5 blocks",
        "2.21 GFLOP",
        "lr 0.0012, betas [0.5, 0.95]",
        "omega_0 = 2000, 1e-05",
    ],
)
def test_sanitiser_leaves_exact_text_alone(text):
    assert sanitise(text) == text


def run_nbval(folder, *options):
    """nbval's verdict on the notebooks of a folder, {cell: passed?}."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
        "-rA",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(
        [*command, *options, "."], cwd=folder, env=environment, capture_output=True, text=True
    )
    found = re.findall(r"^(PASSED|FAILED) \S*?(\w+)\.ipynb::Cell (\d)", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return {(name, int(cell)): verdict == "PASSED" for verdict, name, cell in found}


@pytest.mark.slow
def test_nbval_applies_the_sanitiser_and_still_compares(tmp_path):
    notebook = new_notebook(cells=[])
    cases = (
        ("print('took', 0.25, 's')", "took 9.75 s\n"),
        ("print(6 * 7)", "41\n"),
        ("print(6)", "6\n"),
    )
    for count, (source, stored) in enumerate(cases, start=1):
        output = new_output("stream", text=stored)
        notebook.cells.append(new_code_cell(source, execution_count=count, outputs=[output]))
    nbformat.write(notebook, tmp_path / "00_tiny.ipynb")
    plain, sanitised = (
        run_nbval(tmp_path),
        run_nbval(tmp_path, "--nbval-sanitize-with", str(SANITISER)),
    )
    assert plain == {("00_tiny", 0): False, ("00_tiny", 1): False, ("00_tiny", 2): True}
    assert sanitised == {("00_tiny", 0): True, ("00_tiny", 1): False, ("00_tiny", 2): True}
