"""What the tests of run_all.py share: tiny notebooks, an environment full of traps, ways to call
it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from places import ROOT

PARAMETERS = """profile = "smoke"  # smoke | laptop | paper
seeds = [0]  # integers
device = "auto"  # auto | cpu | cuda
"""
COUNT = "import os\nwith open(os.environ['TERMINATOR_RESULTS'] + '/count', 'a') as file:\n    print('run', file=file)"
SHOW = """import os, sys
print(profile, seeds, device, sys.prefix, os.environ["OMP_NUM_THREADS"], "TERMINATOR_DATA" in os.environ)"""
WAIT = """import os, pathlib, time
results = pathlib.Path(os.environ["TERMINATOR_RESULTS"])
(results / "pid").write_text(str(os.getpid()))
deadline = time.monotonic() + 60
while not (results / "go").exists() and time.monotonic() < deadline:
    time.sleep(0.05)"""

FOREIGN = tempfile.TemporaryDirectory(prefix="foreign_jupyter_")  # removed when the tests end


def book(folder, name, *codes, parameters=""):
    folder.mkdir(exist_ok=True)
    tagged = new_code_cell(PARAMETERS + parameters, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(f"# About {name}"), tagged, *map(new_code_cell, codes)]
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")


def surroundings(results, **more):
    """An environment full of traps: a foreign kernel called python3, a plotting backend without
    pictures.
    """
    kernel = Path(FOREIGN.name) / "kernels" / "python3"
    kernel.mkdir(parents=True, exist_ok=True)
    spec = {
        "argv": ["no-such-python", "{connection_file}"],
        "display_name": "foreign",
        "language": "python",
    }
    (kernel / "kernel.json").write_text(json.dumps(spec))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TERMINATOR_")}
    traps = {"JUPYTER_PATH": FOREIGN.name, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    return kept | traps | {"TERMINATOR_RESULTS": str(results)} | more


def command(notebooks, *options):
    return [sys.executable, str(ROOT / "run_all.py"), "--notebooks", str(notebooks), *options]


def call(notebooks, results, *options, **environment):
    """Run to the end; returns the exit status and what was printed."""
    env = surroundings(results, **environment)
    done = subprocess.run(
        command(notebooks, *options), env=env, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def state(results, name):
    return json.loads((results / "notebooks" / "smoke" / "state.json").read_text())[name]


def executed(results, name):
    return nbformat.read(results / "notebooks" / "smoke" / f"{name}.ipynb", 4)


def texts(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def errors(notebook):
    return [
        o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"
    ]


def runs(results):
    path = results / "count"
    return path.read_text().count("run") if path.exists() else 0
