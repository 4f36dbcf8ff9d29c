"""run_all.py makes runs before the notebooks that need them, and ends with both."""

import os
import signal
import subprocess
from types import SimpleNamespace

import psutil
import pytest
from run_all_tools import book, command, state, surroundings

from terminator.batch import states
from terminator.batch.beside import Beside

NAME = "10_sequential_images"  # the plan's name of a notebook with five small runs
FOUND = """import os, pathlib
import terminator
folder = pathlib.Path(os.environ["TERMINATOR_RESULTS"], "runs", "sequences")
print(len(list(folder.glob("*/model.safetensors"))), "runs")
assert len(list(folder.glob("*/record.json"))) == 5"""


def start(notebooks, results):
    return subprocess.Popen(
        command(notebooks, "--jobs", "2", "--device", "cpu"),
        env=surroundings(results),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_runs_come_first_and_an_interrupt_ends_them_too(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    results.mkdir()
    book(notebooks, NAME, FOUND)
    process, trains = start(notebooks, results), []
    while not trains and process.poll() is None:  # whoever has a run's folder
        trains = list(results.glob("runs/sequences/*/.owner-*"))
    there = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert not psutil.wait_procs(there, timeout=10)[1]
    assert "not run" in said

    process = start(notebooks, results)  # goes on
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert 1 <= said.count(" runs] done") <= 5
    assert state(results, NAME)["status"] == "ok"  # it found all


# -- who waits for what ------------------------------------------------------------------------


def beside(work, names=("00_a", "01_b", "12_c")):
    """One whose plan is made, and which is at work."""
    found = Beside.__new__(Beside)
    found.names, found._work, found._alone = list(names), work, {}
    found._thread = SimpleNamespace(is_alive=lambda: True)
    return found


def run(key, notebooks, name=states.MISSING):
    return SimpleNamespace(key=key, notebooks=notebooks, state=name)


def test_notebooks_wait_for_their_runs_but_make_few_themselves():
    runs = {
        "x/1": run("x/1", ["00_a", "01_b"]),
        "x/2": run("x/2", ["12_c"]),
        "x/3": run("x/3", ["12_c"], states.DONE),
        "x/4": run("x/4", ["12_c"]),
        "x/5": run("x/5", ["05_d"]),
        "x/6": run("x/6", ["05_d"]),
    }
    running = set()
    work = SimpleNamespace(
        plan=SimpleNamespace(runs=runs, undecided=[]),
        engine=SimpleNamespace(running=lambda: running),
        has_hope=lambda one: one.state == states.MISSING,
    )
    one = beside(work)
    assert [one.holds(name) for name in ("00_a", "01_b", "12_c", "05_d")] == [
        *(False, True),  # the first makes what both need
        *(True, False),
    ]
    running |= {"x/1", "x/6"}
    assert one.holds("00_a")
    assert one.holds("05_d")
    running.clear()
    for made in runs.values():
        made.state = states.DONE
    assert not any(one.holds(name) for name in one.names)
    work.plan.undecided = [SimpleNamespace(notebooks=("12_c",))]
    assert [one.holds(name) for name in one.names] == [False, False, True]


def test_before_the_plan_is_made_those_wait_that_may_need_runs():
    one = beside(None)
    assert one.holds("12_c")
    assert not one.holds("05_d")
    one._thread.is_alive = lambda: False  # no plan could be made: notebooks go by themselves
    assert not one.holds("12_c")
