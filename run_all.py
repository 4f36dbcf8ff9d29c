#!/usr/bin/env python
"""Execute the notebooks in order, each in a process and a kernel of its own, and say how it went.

    python run_all.py                        every notebook in the smoke profile, minutes on two
        cores
    python run_all.py --only '00*' 11        some of them, by name
    python run_all.py --profile laptop --jobs 4 --data-dir ~/data
    python run_all.py --list                 what there is, its parameters, what is done

The executed notebooks and an HTML copy of each go to results/notebooks/<profile>/;
results/index.html links everything. A notebook that ran to its end is skipped by later calls until
its source, its parameters, the data folder or the package changes; what failed or was interrupted
runs again. Trainings that notebooks need are made first, each once, as by
`python -m terminator work`; a notebook starts when its own are there. As many trainings and
notebooks run at a time as there are cores, each with its share of threads. Notebooks from 90 on
read the records of all others: they wait for them, and run again when a record has changed.
TERMINATOR_RESULTS names another results folder, TERMINATOR_DATA the data
folders. Kernels find TERMINATOR_HEADLESS=1 set. Exit status: 0 all well, 1 a notebook failed, 2
refused before anything started, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from terminator.batch.beside import Beside  # nothing here needs torch: --list is instant
from terminator.runner import execution, headless
from terminator.runner import notebooks as books
from terminator.runner import results_page as pages
from terminator.runner.notebook_page import notebook_page
from terminator.runtime import locks, paths, text

ROOT = Path(__file__).resolve().parent
PROFILES = {"smoke": 900, "laptop": 3 * 3600, "paper": None}  # seconds that one cell may take
MARKER = "papermill-error-cell-tag"
LIBRARIES = ("papermill", "nbconvert", "nbformat", "ipykernel")
# and a folder: see worker_main
WORKER = [sys.executable, str(Path(__file__).resolve()), "--worker"]
# signals that came; a flag, since an exception raised by a signal handler can get lost
interrupts = []


# ---- the worker: one notebook in a process of its own
# ----------------------------------------------------


def watch_parent():
    """Interrupt this process when its standard input ends: the parent wants it to stop, or is
    gone.
    """
    while os.read(0, 1024):
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def worker_main(folder):
    """Run the notebook that folder/job.json describes; report by JSON lines on standard output."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library or the kernel prints goes to the log

    def say(**message):
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch_parent, daemon=True).start()
    try:
        # so that all names below are short ones: papermill formats braces in paths
        os.chdir(folder)
        error = execute(json.loads(Path("job.json").read_text(encoding="utf-8")), say)
    except KeyboardInterrupt:
        if os.getppid() != parent:  # it was killed and cannot tidy up
            shutil.rmtree(Path(folder).parent, ignore_errors=True)
        return 130
    say(status="failed" if error else "ok", error=error)
    return 0


def make_engine(say, current):
    """papermill's own engine, made to say which cell begins and to remember it in current[0]."""
    from papermill.engines import NBClientEngine

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            begin = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                current[0] = cell_index
                say(cell=cell_index, cells=len(nb_man.nb.cells))
                return begin(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    return Engine


def execute(job, say):
    """Execute input.ipynb into executed.ipynb and executed.html.

    Returns: None after a complete run, else the reason why it failed.
    """
    import nbformat
    import papermill

    current, error, raised = [0], None, None
    papermill.engines.papermill_engines.register("run_all", make_engine(say, current))
    options = {
        "engine_name": "run_all",
        "kernel_name": headless.KERNEL,
        "language": "python",
        "cwd": job["cwd"],
    }
    limits = {"start_timeout": 180, "iopub_timeout": 120, "execution_timeout": job["cell_timeout"]}
    try:
        papermill.execute_notebook(
            "input.ipynb",
            "executed.ipynb",
            job["parameters"],
            progress_bar=False,
            **options,
            **limits,
        )
    except papermill.PapermillExecutionError as failure:  # the cell holds the traceback already
        error = f"{failure.ename}: {failure.evalue}"
    except Exception as failure:  # timeout, dead kernel: papermill calls the cell completed
        raised, error = failure, explain(failure, job)
    notebook = nbformat.read("executed.ipynb", 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    # sys.exit() looks like success
    if error is None and any(cell.execution_count is None for cell in code):
        error = "not every cell was executed: a cell left the notebook early"
    finish(notebook, job, current[0], error, raised)
    return error


def explain(failure, job):
    """One line for what stopped a notebook, other than an exception in a cell."""
    kind = type(failure).__name__
    if kind == "CellTimeoutError":
        return f"{kind}: a cell took longer than {job['cell_timeout']:g} s; --cell-timeout sets it"
    if kind == "DeadKernelError":
        return f"{kind}: the kernel died; often that means that memory ran out"
    return f"{kind}: {failure}"


def finish(notebook, job, index, error, raised):
    """Say in the notebook how its run ended, then write it and its HTML copy."""
    import nbformat

    # paths of this machine, and "completed" where nothing was
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata["kernelspec"] = kernel  # ours is gone after the run
    notebook.metadata["run_all"] = {
        "status": "failed" if error else "ok",
        "parameters": job["parameters"],
        # SHA-256 of what was run: of the notebook without its outputs, of the package's source
        "notebook": job["notebook"],
        "package": job["package"],
    }
    if raised is not None and notebook.cells[index].cell_type == "code":
        lines = str(raised).splitlines() or [error]
        output = nbformat.v4.new_output(
            "error", ename=type(raised).__name__, evalue=error, traceback=lines
        )
        notebook.cells[index].outputs.append(output)
    if error and MARKER not in notebook.cells[0].metadata.get("tags", []):
        note = nbformat.v4.new_markdown_cell(f"**This run failed.** {text.markdown(error)}")
        note.metadata["tags"] = [MARKER]
        notebook.cells.insert(0, note)
    nbformat.write(notebook, "executed.ipynb")
    page = notebook_page(notebook, job["name"], job["source_folder"], job["names"])
    Path("executed.html").write_text(page, encoding="utf-8")


# ---- the command line
# ------------------------------------------------------------------------------------


def parse_arguments(argv):
    """The command line as a namespace; what is wrong with it by itself ends the program here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--profile", choices=PROFILES, default="smoke", help="how much is run (default: smoke)")
    add("--only", nargs="+", metavar="PATTERN", help="only notebooks of that name: '00*', tour")
    text = (
        "trainings and notebooks at a time, which share the cores (default: one per core; paper: 1)"
    )
    add("--jobs", type=int, metavar="N", help=text)
    add("--seeds", type=int, nargs="+", metavar="SEED", help="default: the profile's own")
    add("--data-dir", metavar="DIR", help="where data sets lie (several: joined as in PATH)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--force", action="store_true", help="run again what is up to date")
    add("--list", action="store_true", help="show notebooks, parameters and status; run nothing")
    text = "a notebook parameter, its value as JSON or plain text; may be repeated"
    add(
        "-p",
        dest="parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help=text,
    )
    text = "limit for one cell, 0 for none (default: smoke 900, laptop 10800, paper none)"
    add("--cell-timeout", type=float, metavar="SECONDS", help=text)
    add(
        "--notebooks",
        metavar="DIR",
        default=str(ROOT / "notebooks"),
        help="another folder of notebooks",
    )
    args = parser.parse_args(argv)
    args.jobs = headless.default_jobs(args.profile) if args.jobs is None else args.jobs
    if args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least 1")
    if args.seeds is not None and (min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds)):
        parser.error(f"--seeds {' '.join(map(str, args.seeds))}: different integers, none below 0")
    if args.cell_timeout is not None and not args.cell_timeout >= 0:
        parser.error(f"--cell-timeout {args.cell_timeout}: seconds, or 0 for no limit")
    args.cell_timeout = (
        PROFILES[args.profile] if args.cell_timeout is None else args.cell_timeout
    ) or None
    return args


def find_data(explicit):
    """The data folders for the kernels, joined as in PATH; those asked for by --data-dir must
    exist.
    """
    for part in (explicit or "").split(os.pathsep):
        if explicit is not None and not Path(part or "?").expanduser().is_dir():
            raise books.Refusal(f"--data-dir {part}: no such folder")
    return os.pathsep.join(map(str, paths.data_dirs(explicit)))


def check_ready(results, folder):
    """Refuse at once what would fail later: a results folder that cannot be written, a missing
    library.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        what = f"cannot write to the results folder {results} ({error.strerror})"
        raise books.Refusal(f"{what}; set {paths.RESULTS_VARIABLE} to another") from error
    missing = [name for name in LIBRARIES if not importlib.util.find_spec(name)]
    if missing:
        raise books.Refusal(
            f"{', '.join(missing)} not installed for {sys.executable}: "
            "pip install -e '.[notebooks]'"
        )


def interrupt(number, frame):
    """Signal handler for Ctrl-C and for a polite kill; the second one no longer waits for
    kernels.
    """
    interrupts.append(number)
    if len(interrupts) > 1:
        raise KeyboardInterrupt


def run(notebooks, parameters, args, results, data, argv):
    """Run, write the index page, sum up; the last line names the command that goes on from here."""
    if data:
        os.environ[paths.DATA_VARIABLE] = data
    asked = (args.profile, args.seeds or (), args.device, args.jobs)
    runner = execution.Runner(
        notebooks,
        parameters,
        args,
        results,
        data,
        ROOT,
        WORKER,
        lambda: bool(interrupts),
        lambda names, taken, tell: Beside(names, *asked, taken, tell),
    )
    with tempfile.TemporaryDirectory(prefix="run_all_", ignore_cleanup_errors=True) as scratch:
        code = 0 if runner.run(Path(scratch)) else 130
    paths.atomic_write(results / "index.html", pages.index_page(results))
    names = [notebook.name for notebook in notebooks]
    if runner.runs is not None and runner.runs.outcome:
        print("", *map(text.terminal, runner.runs.outcome), sep="\n")
    print("", *pages.summary(results, args.profile, names, runner.outcomes, runner.state), sep="\n")
    if code == 0 and "failed" in runner.outcomes.values():
        code = 1
    if code:
        command = shlex.join(
            ["python", "run_all.py", *(word for word in argv if word != "--force")]
        )
        what = "interrupted" if code == 130 else "a notebook failed"
        print(f"{what}; what is done is kept. To go on:  {command}")
    return code


def main(argv):
    args = parse_arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    results = paths.results_dir()
    try:
        notebooks = books.find_notebooks(Path(args.notebooks).expanduser().absolute(), args.only)
        parameters, data = books.choose_parameters(notebooks, args), find_data(args.data_dir)
        if args.list:
            state = pages.load_state(results / "notebooks" / args.profile)
            lines = books.listing(notebooks, parameters, results, data, args.profile, state)
            print(*map(text.terminal, lines), sep="\n")
            return 0
        check_ready(results, results / "notebooks" / args.profile)
        with locks.held(results):
            return run(notebooks, parameters, args, results, data, argv)
    except (books.Refusal, locks.Busy, locks.Unlockable) as refusal:
        print(text.terminal(f"run_all.py: {refusal}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (
        OSError
    ) as error:  # a full disk, a folder where a file should be; workers end with this process
        print(text.terminal(f"run_all.py: {error}; what is done is kept"), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(worker_main(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main(sys.argv[1:]))
