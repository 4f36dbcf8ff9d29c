"""Which notebook is started next: none that would wait for a run that another one is training."""

import argparse
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import ROOT

from terminator.runner import headless, notebooks
from terminator.runner.notebooks import Notebook, find_notebooks, ready
from terminator.runtime import machine


def book(name):
    return Notebook(ROOT / f"{name}.ipynb", name, {}, "", b"")


def test_notebooks_wait_for_their_runs():
    tour, other = book("00_a"), book("05_c")
    assert ready([tour, other], [], lambda name: name == "00_a") == [other]
    assert ready([tour, other], [other], lambda name: False) == [tour, other]
    assert ready([tour], [], lambda name: True) == []


def test_readers_wait_for_all():
    reader, writer, free = book("90_z"), book("10_y"), lambda name: False
    assert ready([reader], [writer], free) == []
    assert ready([reader], [], free) == [reader]
    assert ready([reader, writer], [book("00_a")], free) == [writer]
    assert ready([reader, writer], [], lambda name: True) == []


def test_who_imports_the_package_may_need_runs():
    assert all(book.uses_package for book in find_notebooks(ROOT / "notebooks", None))


# -- shares of the machine -------------------------------------------------------------------------


def test_a_notebook_that_shows_verdicts_is_out_of_date_with_the_card(tmp_path):
    def mark(name):
        (notebook,) = find_notebooks(ROOT / "notebooks", [name])
        return notebooks.fingerprint(notebook, {}, "", "", tmp_path)

    before = [mark(name) for name in ("11_images", "01_slow_network")]
    card = (ROOT / "results" / "REPRODUCIBILITY.md").read_text(encoding="utf8")
    (tmp_path / "REPRODUCIBILITY.md").write_text(card, encoding="utf8")
    after = [mark(name) for name in ("11_images", "01_slow_network")]
    assert [old == new for old, new in zip(before, after)] == [False, True]


def test_one_job_per_core(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 6)
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
    monkeypatch.setattr(machine, "cores", lambda: 6)
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


def test_a_folder_is_meant_from_where_the_command_is_given(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    known = {
        "profile": ("smoke", ""),
        "seeds": ([], ""),
        "device": ("auto", ""),
        "folder": ("", ""),
    }
    book = SimpleNamespace(name="05_own", path=Path("05_own.ipynb"), parameters=known)

    def chosen(folder):
        given = [("folder", folder)]
        args = SimpleNamespace(profile="smoke", device="auto", seeds=None, parameter=given)
        return notebooks.choose_parameters([book], args)["05_own"]["folder"]

    assert chosen("pictures") == str(tmp_path / "pictures")
    assert chosen("elsewhere") == "elsewhere"
