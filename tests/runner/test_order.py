"""Which notebook is started next: none that would wait for a run that another one is training."""

import argparse
import os

import pytest
from places import ROOT

from terminator.classification import studies
from terminator.runner import headless
from terminator.runner.notebooks import SHARED, Notebook, find_notebooks, next_to_start


def book(name, *trains):
    return Notebook(ROOT / f"{name}.ipynb", name, {}, "", b"", frozenset(trains))


def test_what_is_being_trained_is_not_waited_for():
    tour, again, other = book("00_a", "images"), book("01_b", "images"), book("05_c")
    assert next_to_start([tour, again, other], []) is tour
    assert next_to_start([again, other], [tour]) is other
    assert next_to_start([again], [tour, other]) is again  # nothing else is left to do
    assert next_to_start([again, other], []) is again


def test_readers_wait_for_all():
    reader, writer = book("90_z"), book("10_y")
    assert next_to_start([reader], [writer]) is None
    assert next_to_start([reader], []) is reader
    assert next_to_start([reader, writer], [book("00_a")]) is writer


def test_what_notebooks_share_is_what_their_studies_say():
    for call, experiment in SHARED.items():
        if call.startswith("studies."):
            name = call.removeprefix("studies.").rstrip("(")
            assert getattr(studies, name)("smoke").experiment == experiment
    found = {book.name: book.trains for book in find_notebooks(ROOT / "notebooks", None)}
    assert {name[:2] for name, trains in found.items() if "images" in trains} >= {"00", "01", "11"}
    assert {name[:2] for name, trains in found.items() if "inside" in trains} == {"14", "15"}
    assert {name[:2] for name, trains in found.items() if "ablations" in trains} == {"13", "30"}


# -- shares of the machine -------------------------------------------------------------------------


def test_one_job_per_core(monkeypatch):
    monkeypatch.setattr(headless, "cores", lambda: 6)
    monkeypatch.setattr(headless, "memory_bytes", lambda: 64 * 2**30)
    assert headless.default_jobs("smoke") == 6
    assert headless.default_jobs("paper") == 1
    monkeypatch.setattr(headless, "memory_bytes", lambda: 5 * 2**30)
    assert headless.default_jobs("laptop") == 2
    monkeypatch.setattr(headless, "memory_bytes", lambda: 2**30)
    assert headless.default_jobs("smoke") == 1
    monkeypatch.setattr(headless, "memory_bytes", lambda: None)
    assert headless.default_jobs("smoke") == 6


@pytest.mark.parametrize(("jobs", "threads"), [(1, "6"), (2, "3"), (4, "1"), (6, "1"), (9, "1")])
def test_kernels_share_the_cores(monkeypatch, tmp_path, jobs, threads):
    monkeypatch.setattr(headless, "cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment = headless.kernel_environment(tmp_path, jobs, tmp_path, "")
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == threads
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_WAIT_POLICY" not in os.environ


def test_a_wait_policy_that_is_set_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert headless.kernel_environment(tmp_path, 1, tmp_path, "")["OMP_WAIT_POLICY"] == "ACTIVE"


def test_jobs_of_the_command_line(monkeypatch):
    import run_all

    monkeypatch.setattr(headless, "default_jobs", lambda profile: {"paper": 1}.get(profile, 7))
    assert run_all.parse_arguments([]).jobs == 7
    assert run_all.parse_arguments(["--profile", "paper"]).jobs == 1
    assert run_all.parse_arguments(["--profile", "paper", "--jobs", "3"]).jobs == 3
    assert isinstance(run_all.parse_arguments([]), argparse.Namespace)
