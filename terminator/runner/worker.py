"""One notebook in a process of its own: executed by papermill, reported by JSON lines, laid out as
HTML.

run_all.py starts the process.
"""

import json
import os
import shutil
import signal
import threading
from pathlib import Path

from terminator.runner import headless
from terminator.runner.notebook_page import notebook_page
from terminator.runtime import text

MARKER = "papermill-error-cell-tag"


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
