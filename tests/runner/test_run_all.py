"""run_all.py on tiny notebooks: what succeeds, fails, resumes, and how it stops."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from urllib.parse import unquote

import nbformat
import psutil
import pytest
from run_all_tools import (
    COUNT,
    ROOT,
    SHOW,
    WAIT,
    book,
    call,
    command,
    errors,
    executed,
    runs,
    state,
    surroundings,
    texts,
)

from terminator.runner.execution import BEFORE, Runner, Running
from terminator.runner.notebooks import read_notebook
from terminator.runtime.provenance import package_hash

# ---- one call with every kind of notebook
# --------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A call over six notebooks, four of which fail; folder names with spaces and braces, which
    papermill formats.
    """
    folder = tmp_path_factory.mktemp("mixed")
    notebooks, results = folder / "note books", folder / "res{ults}"
    book(
        notebooks, "00_good", SHOW, "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    )
    book(notebooks, "01_failing", "print('before')", "1 / 0", "print('after')")
    book(notebooks, "02_dying", "import os\nos._exit(3)", "print('after')")
    book(notebooks, "03_slow", "import time\ntime.sleep(30)")
    book(notebooks, "04_leaving", "import sys\nsys.exit(0)", "print('after')")
    book(
        notebooks,
        "05_parameters",
        "print(rate, names, note)",
        parameters='rate = 0.5  # a number\nnames = ["a"]  # texts\nnote = None  # anything\n',
    )
    (results / "tables").mkdir(parents=True)
    rows = [
        "experiment,dataset,profile,metric,value,spread,n_seeds",
        "tiny,digits,smoke,accuracy,98.1,0.4,3",
        "tiny,digits,paper,accuracy,12.3,,1",
    ]
    (results / "tables" / "headline.csv").write_text("\n".join(rows) + "\n")
    for name in ("figures/a b.svg", "figures/a b.png", "runs/tiny/x/record.json", "index.csv"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).touch()
    options = ["--jobs", "2", "--cell-timeout", "8", "--seeds", "3", "1", "--data-dir", str(folder)]
    options += ["-p", "rate", "2", "-p", "names", '["x", "y"]', "-p", "note", "two words"]
    code, text = call(notebooks, results, *options)
    return notebooks, results, code, text


def test_a_failure_stops_no_other_and_gives_status_1(mixed):
    _, results, code, text = mixed
    assert code == 1
    expected = {
        "00_good": "ok",
        "01_failing": "failed",
        "02_dying": "failed",
        "03_slow": "failed",
        "04_leaving": "failed",
        "05_parameters": "ok",
    }
    assert {name: state(results, name)["status"] for name in expected} == expected
    table = {
        line.split()[0]: line.split()[1]
        for line in text.splitlines()
        if line[:2].isdigit() and ".ipynb" in line
    }
    assert table == expected
    assert text.splitlines()[-1].startswith("a notebook failed")
    assert "python run_all.py --notebooks" in text.splitlines()[-1]


def test_executed_notebook_is_complete_and_knows_no_machine(mixed):
    notebooks, results, _, _ = mixed
    notebook = executed(results, "00_good")
    ran = read_notebook(notebooks / "00_good.ipynb")
    assert notebook.metadata["run_all"]["notebook"] == ran.source_hash
    assert notebook.metadata["run_all"]["package"] == package_hash()
    assert f"smoke [3, 1] auto {sys.prefix} 1 True" in texts(notebook)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    page = (results / "notebooks" / "smoke" / "00_good.html").read_text(encoding="utf-8")
    assert "data:image/png;base64" in page  # in spite of MPLBACKEND
    assert "papermill" not in notebook.metadata
    assert str(results) not in json.dumps(notebook)
    assert not list((results / "notebooks" / "smoke").glob(".*"))  # no temporary files left


def test_parameters_reach_the_notebook(mixed):
    assert "2 ['x', 'y'] two words" in texts(executed(mixed[1], "05_parameters"))
    assert state(mixed[1], "05_parameters")["parameters"]["rate"] == 2
    assert "rate" not in state(mixed[1], "00_good")["parameters"]


def test_what_was_executed_before_is_kept_until_it_is_executed_again(tmp_path):
    args = SimpleNamespace(profile="smoke", jobs=1, force=False, cell_timeout=None)
    notebook = SimpleNamespace(name="00_long", title="Long")
    runner = Runner([notebook], {"00_long": {}}, args, tmp_path, "", tmp_path, [], bool, print)
    shown, kept = runner.folder / "00_long.html", runner.folder / BEFORE / "00_long.html"

    def ends(text, **answer):
        folder = tmp_path / "scratch"
        folder.mkdir()
        (folder / "log.txt").touch()
        for suffix in (".html", ".ipynb") if text else ():
            (folder / f"executed{suffix}").write_text(text)
        process = SimpleNamespace(returncode=-9)
        runner.conclude(Running(notebook, process, None, folder, "mark", 0.0, answer or None))

    runner.folder.mkdir(parents=True)
    ends("good", status="ok", error=None)
    ends("")  # killed
    assert not shown.exists()
    assert kept.read_text() == "good"
    ends("half", status="failed", error="a cell")
    ends("half again", status="failed", error="a cell")
    assert (shown.read_text(), kept.read_text()) == ("half again", "good")
    ends("better", status="ok", error="")
    assert shown.read_text() == "better"
    assert not kept.exists()


def test_failed_notebook_keeps_its_traceback(mixed):
    notebook = executed(mixed[1], "01_failing")
    assert texts(notebook) == "before\n"
    (error,) = errors(notebook)
    assert error.ename == "ZeroDivisionError"
    assert "----> 1" in re.sub("\x1b\\[[0-9;]*m", "", "\n".join(error.traceback))
    assert "ZeroDivisionError" in state(mixed[1], "01_failing")["error"]
    assert "ZeroDivisionError" in (mixed[1] / "notebooks" / "smoke" / "01_failing.html").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("02_dying", "DeadKernelError"),
        ("03_slow", "CellTimeoutError"),
        ("04_leaving", "not every cell"),
    ],
)
def test_what_papermill_calls_completed_is_a_failure(mixed, name, kind):
    assert kind in state(mixed[1], name)["error"]
    notebook = executed(mixed[1], name)
    assert kind in notebook.cells[0].source  # said on top
    assert "after" not in texts(notebook)
    assert errors(notebook)


def test_headline_results_of_this_profile_are_shown(mixed):
    shown = mixed[3].partition("headline results")[2]  # behind the notebooks' seconds
    assert "98.1 ± 0.4  n = 3" in shown
    assert "12.3" not in shown


def test_index_links_what_there_is(mixed):
    _, results, _, _ = mixed
    page = (results / "index.html").read_text(encoding="utf-8")
    links = {unquote(link) for link in re.findall(r'href="([^"]+)"', page)}
    assert links >= {
        "notebooks/smoke/00_good.html",
        "notebooks/smoke/01_failing.ipynb",
        "tables/headline.csv",
        "figures/a b.svg",
        "figures/a b.png",
        "runs/tiny",
        "index.csv",
    }
    assert all((results / link).exists() for link in links if not link.startswith("#"))
    assert 'src="figures/a%20b.svg"' in page
    assert "About 00_good" in page
    assert 'class="failed">failed' in page
    assert "//" not in page  # nothing is loaded from elsewhere


def test_list_shows_titles_parameters_and_status_without_torch(mixed):
    notebooks, results, _, _ = mixed
    code = (
        "import runpy, sys\ntry:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nfinally:\n "
        "   print(sorted({'torch', 'papermill', 'nbformat'} & set(sys.modules)))"
    )
    arguments = command(notebooks, "--list")[1:]
    code = f"import sys\nsys.argv = {arguments!r}\n{code}"
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings(results), capture_output=True, text=True
    )
    assert time.monotonic() - begin < 5
    assert done.stdout.splitlines()[-1] == "[]"
    assert "01_failing  [smoke: failed]\n    About 01_failing\n" in done.stdout
    assert "00_good  [smoke: out of date]" in done.stdout  # other seeds than those it was run with
    assert '    rate = 0.5  # a number\n    names = ["a"]  # texts\n' in done.stdout


# ---- doing only what is needed
# -----------------------------------------------------------------------------


@pytest.mark.slow
def test_resume_force_and_changed_source(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    book(notebooks, "00_counting", COUNT)
    assert call(notebooks, results)[0] == 0
    code, text = call(notebooks, results)
    assert (code, runs(results)) == (0, 1)
    assert "up to date; --force runs it again" in text

    path = notebooks / "00_counting.ipynb"  # outputs are no part of the source
    notebook = nbformat.read(path, 4)
    notebook.cells[-1].execution_count = 7
    nbformat.write(notebook, path)
    assert (call(notebooks, results)[0], runs(results)) == (0, 1)

    assert (call(notebooks, results, "--force")[0], runs(results)) == (0, 2)
    assert (call(notebooks, results, "--seeds", "5")[0], runs(results)) == (0, 3)
    book(notebooks, "00_counting", COUNT, "1 + 1")
    assert (call(notebooks, results, "--seeds", "5")[0], runs(results)) == (0, 4)
    (results / "notebooks" / "smoke" / "state.json").write_text("{ broken")
    assert (call(notebooks, results, "--seeds", "5")[0], runs(results)) == (0, 5)


@pytest.mark.slow
def test_changed_package_runs_again(tmp_path):
    project, results = tmp_path / "project", tmp_path / "results"
    shutil.copytree(
        ROOT / "terminator", project / "terminator", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "run_all.py", project)
    book(project / "notebooks", "00_counting", COUNT, "print(os.getcwd())")

    def again():
        start = [sys.executable, str(project / "run_all.py")]
        return subprocess.run(
            start, env=surroundings(results), cwd=tmp_path, capture_output=True
        ).returncode

    assert (again(), again(), runs(results)) == (0, 0, 1)
    assert f"{project}\n" in texts(executed(results, "00_counting"))  # kernels run in the project
    with open(project / "terminator" / "runtime" / "paths.py", "a") as file:
        file.write("# changed\n")
    assert (again(), runs(results)) == (0, 2)


@pytest.mark.slow
def test_readers_wait_and_run_again_when_a_record_changed(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    folder = "import os, pathlib, time\nfolder = pathlib.Path(os.environ['TERMINATOR_RESULTS'], 'runs/tiny/a')\n"
    write = "time.sleep(1.5)\nfolder.mkdir(parents=True)\n(folder / 'record.json').write_text('{}')"
    book(notebooks, "10_writer", folder + write)
    book(notebooks, "90_reader", COUNT, folder + "assert (folder / 'record.json').exists()")
    assert (call(notebooks, results, "--jobs", "2")[0], runs(results)) == (0, 1)
    assert (call(notebooks, results)[0], runs(results)) == (0, 1)
    (results / "runs" / "tiny" / "a" / "record.json").write_text('{"new": 1}')
    code, text = call(notebooks, results)
    assert (code, runs(results)) == (0, 2)
    assert "10_writer: up to date" in text


# ---- stopping
# ----------------------------------------------------------------------------------------------------


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start_and_wait(notebooks, results, *options):
    """Start a call in the background and wait until a notebook hangs.

    Returns: the process, the pid of that notebook's kernel.
    """
    (results / "pid").unlink(missing_ok=True)
    process = subprocess.Popen(
        command(notebooks, *options),
        env=surroundings(results),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (results / "pid").exists() and (results / "pid").read_text())
    return process, int((results / "pid").read_text())


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_interrupt_lock_kill_and_continue(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    results.mkdir()
    book(notebooks, "00_counting", COUNT)
    book(notebooks, "01_waiting", WAIT)
    book(notebooks, "02_counting", COUNT)

    process, kernel = start_and_wait(notebooks, results, "--jobs", "1")
    # from the first finished notebook on
    assert "00_counting.html" in (results / "index.html").read_text()
    code, text = call(notebooks, results, "--only", "02*")  # a second call meanwhile
    assert code == 2
    assert f"another run_all.py (process {process.pid}" in text
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    text = process.communicate(timeout=40)[0]
    assert process.returncode == 130
    assert not alive(kernel)
    rows = {
        line.split()[0]: line.split()[1:3]
        for line in text.splitlines()
        if line[:3] in ("00_", "01_", "02_")
    }
    assert rows["00_counting"][0] == "ok"
    assert rows["01_waiting"] == ["interrupted"]
    assert rows["02_counting"] == ["not", "run"]
    assert "To go on:  python run_all.py" in text.splitlines()[-1]
    assert "Traceback" not in text

    # killed outright: neither kernel nor lock stay behind
    process, kernel = start_and_wait(notebooks, results, "--jobs", "1")
    process.kill()
    process.communicate(timeout=40)
    wait_for(lambda: not alive(kernel))
    (left,) = results.glob(".owner-*")
    assert json.loads(left.read_text())["pid"] == process.pid

    (results / "go").touch()
    code, text = call(notebooks, results)
    assert code == 0
    assert "00_counting: up to date" in text
    assert runs(results) == 2  # 00 once, 02 once
    assert state(results, "01_waiting")["status"] == "ok"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_interrupted_force_goes_on_without_force(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    results.mkdir()
    (results / "go").touch()
    book(notebooks, "00_waiting", WAIT)
    book(notebooks, "01_counting", COUNT)
    assert call(notebooks, results, "--jobs", "2")[0] == 0
    (results / "go").unlink()
    process, _ = start_and_wait(notebooks, results, "--force", "--jobs", "1")
    process.terminate()  # SIGTERM ends as cleanly as Ctrl-C
    text = process.communicate(timeout=40)[0]
    assert process.returncode == 130
    assert "--force" not in text.splitlines()[-1]
    (results / "go").touch()
    assert (call(notebooks, results)[0], runs(results)) == (0, 2)
