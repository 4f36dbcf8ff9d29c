"""run_all.py on tiny notebooks: what succeeds, fails, resumes, is refused, and how it stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = 'profile = "smoke"  # smoke | laptop | paper\nseeds = [0]  # integers\ndevice = "auto"  # auto | cpu | cuda\n'
COUNT = "import os\nwith open(os.environ['TERMINATOR_RESULTS'] + '/count', 'a') as file:\n    print('run', file=file)"
SHOW = "import os, sys\nprint(profile, seeds, device, sys.prefix, os.environ['OMP_NUM_THREADS'], 'TERMINATOR_DATA' in os.environ)"
WAIT = """import os, pathlib, time
results = pathlib.Path(os.environ["TERMINATOR_RESULTS"])
(results / "pid").write_text(str(os.getpid()))
deadline = time.monotonic() + 60
while not (results / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.05)"""


def book(folder, name, *codes, parameters=""):
    folder.mkdir(exist_ok=True)
    tagged = new_code_cell(PARAMETERS + parameters, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(f"# About {name}"), tagged, *map(new_code_cell, codes)]
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")


def surroundings(results, **more):
    """An environment full of traps: a foreign kernel called python3, a plotting backend without pictures."""
    kernel = results.parent / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    spec = {"argv": ["no-such-python", "{connection_file}"], "display_name": "foreign", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TERMINATOR_")}
    traps = {"JUPYTER_PATH": str(results.parent / "jupyter"), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    return kept | traps | {"TERMINATOR_RESULTS": str(results)} | more


def command(notebooks, *options):
    return [sys.executable, str(ROOT / "run_all.py"), "--notebooks", str(notebooks), *options]


def call(notebooks, results, *options, **environment):
    """Run to the end; returns the exit status and what was printed."""
    env = surroundings(results, **environment)
    done = subprocess.run(command(notebooks, *options), env=env, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def state(results, name):
    return json.loads((results / "notebooks" / "smoke" / "state.json").read_text())[name]


def executed(results, name):
    return nbformat.read(results / "notebooks" / "smoke" / f"{name}.ipynb", 4)


def texts(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def errors(notebook):
    return [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]


# ---- one call with every kind of notebook --------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A call over six notebooks, four of which fail; folder names with spaces and braces, which papermill formats."""
    folder = tmp_path_factory.mktemp("mixed")
    notebooks, results = folder / "note books", folder / "res{ults}"
    book(notebooks, "00_good", SHOW, "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    book(notebooks, "01_failing", "print('before')", "1 / 0", "print('after')")
    book(notebooks, "02_dying", "import os\nos._exit(3)", "print('after')")
    book(notebooks, "03_slow", "import time\ntime.sleep(30)")
    book(notebooks, "04_leaving", "import sys\nsys.exit(0)", "print('after')")
    book(notebooks, "05_parameters", "print(rate, names, note)",
         parameters='rate = 0.5  # a number\nnames = ["a"]  # texts\nnote = None  # anything\n')
    (results / "tables").mkdir(parents=True)
    rows = ["experiment,dataset,profile,metric,value,spread,n_seeds", "tiny,digits,smoke,accuracy,98.1,0.4,3",
            "tiny,digits,paper,accuracy,12.3,,1"]
    (results / "tables" / "headline.csv").write_text("\n".join(rows) + "\n")
    options = ["--jobs", "2", "--cell-timeout", "2", "--seeds", "3", "1", "--data-dir", str(folder)]
    code, text = call(notebooks, results, *options, "-p", "rate", "2", "-p", "names", '["x", "y"]', "-p", "note", "two words")
    return notebooks, results, code, text


def test_a_failure_stops_no_other_and_gives_status_1(mixed):
    _, results, code, text = mixed
    assert code == 1
    expected = {"00_good": "ok", "01_failing": "failed", "02_dying": "failed", "03_slow": "failed",
                "04_leaving": "failed", "05_parameters": "ok"}
    assert {name: state(results, name)["status"] for name in expected} == expected
    table = {line.split()[0]: line.split()[1] for line in text.splitlines() if line[:2].isdigit() and ".ipynb" in line}
    assert table == expected
    assert text.splitlines()[-1].startswith("a notebook failed")
    assert "python run_all.py --notebooks" in text.splitlines()[-1]


def test_executed_notebook_is_complete_and_knows_no_machine(mixed):
    _, results, _, _ = mixed
    notebook = executed(results, "00_good")
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


def test_failed_notebook_keeps_its_traceback(mixed):
    notebook = executed(mixed[1], "01_failing")
    assert texts(notebook) == "before\n"
    (error,) = errors(notebook)
    assert error.ename == "ZeroDivisionError"
    assert "1 / 0" in "".join(error.traceback).replace("\x1b[", "").replace("m", "") or len(error.traceback) > 1
    assert "ZeroDivisionError" in state(mixed[1], "01_failing")["error"]
    assert "ZeroDivisionError" in (mixed[1] / "notebooks" / "smoke" / "01_failing.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "kind"), [("02_dying", "DeadKernelError"), ("03_slow", "CellTimeoutError"), ("04_leaving", "not every cell")]
)
def test_what_papermill_calls_completed_is_a_failure(mixed, name, kind):
    assert kind in state(mixed[1], name)["error"]
    notebook = executed(mixed[1], name)
    assert kind in notebook.cells[0].source  # said on top
    assert "after" not in texts(notebook)
    assert errors(notebook)


def test_headline_results_of_this_profile_are_shown(mixed):
    assert "98.1 ± 0.4  n = 3" in mixed[3]
    assert "12.3" not in mixed[3]


def test_index_links_what_there_is(mixed):
    _, results, _, _ = mixed
    page = (results / "index.html").read_text(encoding="utf-8")
    for link in ("notebooks/smoke/00_good.html", "notebooks/smoke/01_failing.ipynb", "tables/headline.csv"):
        assert f'href="{link}"' in page
        assert (results / link).is_file()
    assert "About 00_good" in page
    assert 'class="failed">failed' in page
    assert "http" not in page.replace('href="http', "")  # nothing is loaded from elsewhere


def test_list_shows_titles_parameters_and_status_without_torch(mixed):
    notebooks, results, _, _ = mixed
    code = ("import runpy, sys\ntry:\n    runpy.run_path(sys.argv[0], run_name='__main__')\nfinally:\n"
            "    print(sorted({'torch', 'papermill', 'nbformat'} & set(sys.modules)))")
    arguments = command(notebooks, "--list")[1:]
    code = f"import sys\nsys.argv = {arguments!r}\n{code}"
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=surroundings(results), capture_output=True, text=True)
    assert time.monotonic() - begin < 5
    assert done.stdout.splitlines()[-1] == "[]"
    assert "01_failing  [smoke: failed]\n    About 01_failing\n" in done.stdout
    assert "00_good  [smoke: out of date]" in done.stdout  # other seeds than those it was run with
    assert '    rate = 0.5  # a number\n    names = ["a"]  # texts\n' in done.stdout


# ---- doing only what is needed -----------------------------------------------------------------------------


def runs(results):
    path = results / "count"
    return path.read_text().count("run") if path.exists() else 0


def test_resume_force_and_changed_source(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    book(notebooks, "00_counting", COUNT)
    assert call(notebooks, results)[0] == 0
    code, text = call(notebooks, results)
    assert (code, runs(results)) == (0, 1)
    assert "up to date; --force runs it again" in text

    path = notebooks / "00_counting.ipynb"  # outputs are no part of the source
    shutil.copy(results / "notebooks" / "smoke" / "00_counting.ipynb", tmp_path / "with_outputs.ipynb")
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


def test_changed_package_runs_again(tmp_path):
    project, results = tmp_path / "project", tmp_path / "results"
    shutil.copytree(ROOT / "terminator", project / "terminator", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_all.py", project)
    book(project / "notebooks", "00_counting", COUNT, "print(os.getcwd())")

    def again():
        start = [sys.executable, str(project / "run_all.py")]
        return subprocess.run(start, env=surroundings(results), cwd=tmp_path, capture_output=True).returncode

    assert (again(), again(), runs(results)) == (0, 0, 1)
    assert f"{project}\n" in texts(executed(results, "00_counting"))  # kernels run in the project
    with open(project / "terminator" / "paths.py", "a") as file:
        file.write("# changed\n")
    assert (again(), runs(results)) == (0, 2)


def test_readers_wait_and_run_again_when_a_record_changed(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    write = "import os, pathlib, time\ntime.sleep(1.5)\npath = pathlib.Path(os.environ['TERMINATOR_RESULTS'], 'runs/tiny/a')\n"
    write += "path.mkdir(parents=True)\n(path / 'record.json').write_text('{}')"
    book(notebooks, "10_writer", write)
    book(notebooks, "90_reader", "assert os.path.exists(os.environ['TERMINATOR_RESULTS'] + '/runs/tiny/a/record.json')",
         parameters="")
    reader = nbformat.read(notebooks / "90_reader.ipynb", 4)
    reader.cells[-1].source = COUNT + "\n" + reader.cells[-1].source
    nbformat.write(reader, notebooks / "90_reader.ipynb")
    assert (call(notebooks, results, "--jobs", "2")[0], runs(results)) == (0, 1)
    assert (call(notebooks, results)[0], runs(results)) == (0, 1)
    (results / "runs" / "tiny" / "a" / "record.json").write_text('{"new": 1}')
    code, text = call(notebooks, results)
    assert (code, runs(results)) == (0, 2)
    assert "10_writer: up to date" in text


# ---- refused before anything starts ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    book(folder / "notebooks", "00_one", "1", parameters="epochs = 3  # a count\nname = \"x\"  # a text\n")
    book(folder / "notebooks", "01_two", "1", parameters="flags = [true_is_not_here]  # wrong\n".replace("true_is_not_here", "1"))
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
        (["-p", "epochs", "three"], 'parameter epochs = "three" (str) does not fit its default 3 (int)'),
        (["-p", "epochs", "3.5"], "parameter epochs = 3.5 (float)"),
        (["-p", "epochs", "true"], "parameter epochs = true (bool)"),
        (["-p", "epochs", "NaN"], 'parameter epochs = "NaN" (str)'),
        (["-p", "name", "3"], "parameter name = 3 (int)"),
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


def test_empty_notebook_folder(tmp_path):
    code, text = call(tmp_path, tmp_path / "results")
    assert code == 2
    assert f"no notebooks NN_name.ipynb in {tmp_path}" in text


# ---- stopping ----------------------------------------------------------------------------------------------------


def wait_for(condition, seconds=40):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start_and_wait(notebooks, results):
    """Start a call in the background, wait until its second notebook hangs; returns the process and the kernel's pid."""
    (results / "pid").unlink(missing_ok=True)
    process = subprocess.Popen(command(notebooks), env=surroundings(results), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    wait_for(lambda: (results / "pid").exists() and (results / "pid").read_text())
    return process, int((results / "pid").read_text())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_interrupt_lock_kill_and_continue(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    results.mkdir()
    book(notebooks, "00_counting", COUNT)
    book(notebooks, "01_waiting", WAIT)
    book(notebooks, "02_counting", COUNT)

    process, kernel = start_and_wait(notebooks, results)
    code, text = call(notebooks, results, "--only", "02*")  # a second call meanwhile
    assert code == 2
    assert f"another run_all.py (process {process.pid}" in text
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    text = process.communicate(timeout=40)[0]
    assert process.returncode == 130
    assert not alive(kernel)
    rows = {line.split()[0]: line.split()[1:3] for line in text.splitlines() if line[:3] in ("00_", "01_", "02_")}
    assert rows["00_counting"][0] == "ok"
    assert rows["01_waiting"] == ["interrupted"]
    assert rows["02_counting"] == ["not", "run"]
    assert "To go on:  python run_all.py" in text.splitlines()[-1]
    assert "Traceback" not in text

    process, kernel = start_and_wait(notebooks, results)  # killed outright: neither kernel nor lock stay behind
    process.kill()
    process.communicate(timeout=40)
    wait_for(lambda: not alive(kernel))
    assert str(process.pid) in (results / ".run_all.lock").read_text()

    (results / "go").touch()
    code, text = call(notebooks, results)
    assert code == 0
    assert "00_counting: up to date" in text
    assert runs(results) == 2  # 00 once, 02 once
    assert state(results, "01_waiting")["status"] == "ok"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_interrupted_force_goes_on_without_force(tmp_path):
    notebooks, results = tmp_path / "notebooks", tmp_path / "results"
    results.mkdir()
    (results / "go").touch()
    book(notebooks, "00_waiting", WAIT)
    book(notebooks, "01_counting", COUNT)
    assert call(notebooks, results)[0] == 0
    for name in ("go", "pid"):
        (results / name).unlink()
    process = subprocess.Popen(command(notebooks, "--force"), env=surroundings(results), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: (results / "pid").exists())
    process.terminate()  # SIGTERM ends as cleanly as Ctrl-C
    text = process.communicate(timeout=40)[0]
    assert process.returncode == 130
    assert "--force" not in text.splitlines()[-1]
    (results / "go").touch()
    assert (call(notebooks, results)[0], runs(results)) == (0, 2)
