"""The notebooks in order, several at a time: what is done is skipped, what came of each is written
down at once.

Used by: run_all.py.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from terminator.runner import headless
from terminator.runner import notebooks as books
from terminator.runner import results_page as pages
from terminator.runner.progress import Progress
from terminator.runtime import paths, provenance


@dataclass
class Running:
    """A notebook that is being executed."""

    notebook: books.Notebook
    process: subprocess.Popen
    listener: threading.Thread
    folder: Path
    mark: str
    started: float
    answer: dict | None = None


class Runner:
    """Executes notebooks in order, `args.jobs` at a time, and writes down at once what came of
    each.

    Args:
        notebooks: of books.find_notebooks.
        parameters: of books.choose_parameters.
        args: jobs, force, profile and cell_timeout (seconds, None for no limit).
        results: the results folder.
        data: data folders joined as in PATH.
        home: the folder that kernels run in.
        worker: a command that executes the notebook in the folder that is added to it.
        interrupted: says whether to stop.
    """

    def __init__(
        self,
        notebooks,
        parameters,
        args,
        results,
        data,
        home,
        worker: list[str],
        interrupted: Callable[[], bool],
    ):
        self.notebooks, self.parameters, self.args = notebooks, parameters, args
        self.results, self.data, self.source = results, data, provenance.package_hash()
        self.home, self.worker, self.interrupted = home, worker, interrupted
        self.folder = results / "notebooks" / args.profile
        self.state = pages.load_state(self.folder)
        self.outcomes: dict[str, str] = {}
        self.running: dict[str, Running] = {}
        self.events: queue.Queue = queue.Queue()
        self.progress = Progress(len(notebooks))

    def run(self, scratch):
        """Run what is not done; once interrupted, stop what is running.

        Returns:
            True if it came to its end, False if it was interrupted.
        """
        if (
            self.args.force
        ):  # written down, so that an interrupted --force can go on without --force
            for notebook in self.notebooks:
                self.state.setdefault(notebook.name, {})["status"] = "to run"
            self.save()
        jobs = min(self.args.jobs, len(self.notebooks))
        environment = headless.kernel_environment(scratch, jobs, self.results, self.data)
        waiting = deque(self.notebooks)
        try:
            while (waiting or self.running) and not self.interrupted():
                while waiting and len(self.running) < jobs:
                    notebook = books.next_to_start(
                        list(waiting), [item.notebook for item in self.running.values()]
                    )
                    if notebook is None:
                        break
                    waiting.remove(notebook)
                    self.start(notebook, scratch, environment)
                try:
                    if self.running:
                        self.handle(*self.events.get(timeout=0.2))
                except queue.Empty:
                    self.progress.tick()
            if self.running:
                self.progress.say("interrupted: shutting down the kernels")
                self.stop()
            return not waiting and "interrupted" not in self.outcomes.values()
        finally:
            self.progress.close()

    def start(self, notebook, scratch, environment):
        name, parameters = notebook.name, self.parameters[notebook.name]
        mark = books.fingerprint(notebook, parameters, self.source, self.data, self.results)
        if books.is_done(self.state.get(name, {}), mark, self.folder, name):
            self.outcomes[name] = "up to date"
            self.progress.end(name, "up to date; --force runs it again")
            return
        folder = scratch / name
        folder.mkdir()
        job = {"name": name, "source_folder": str(notebook.path.parent), "cwd": str(self.home)}
        job |= {"parameters": parameters, "cell_timeout": self.args.cell_timeout}
        job |= {"names": books.names_in(notebook.path.parent)}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (folder / "input.ipynb").write_bytes(notebook.content)
        with open(
            folder / "log.txt", "wb"
        ) as log:  # a session of its own: Ctrl-C reaches the parent alone
            process = subprocess.Popen(
                [*self.worker, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        listener = threading.Thread(target=self.listen, args=(name, process), daemon=True)
        self.running[name] = Running(notebook, process, listener, folder, mark, time.monotonic())
        self.progress.start(name)
        listener.start()

    def listen(self, name, process):
        """Thread: pass a worker's messages on, and None when it has ended."""
        for line in process.stdout:
            self.events.put((name, json.loads(line)))
        process.wait()
        self.events.put((name, None))

    def handle(self, name, message):
        if message is None:
            self.conclude(self.running.pop(name))
        elif "cell" in message:
            self.progress.cell(name, message["cell"], message["cells"])
        else:
            self.running[name].answer = message

    def conclude(self, done):
        """Publish the files of a notebook that ended, then its state: ok on the worker's own
        word only.
        """
        name = done.notebook.name
        answer = done.answer
        if answer is None:
            error = headless.post_mortem(done.folder / "log.txt", done.process.returncode)
            answer = {"status": "failed", "error": error}
        seconds, output = round(time.monotonic() - done.started, 1), None
        for suffix in (".html", ".ipynb"):
            made, target = done.folder / f"executed{suffix}", self.folder / f"{name}{suffix}"
            if made.is_file():
                paths.atomic_write(target, made.read_bytes())
                output = target.name
            else:
                target.unlink(missing_ok=True)  # an earlier run's would be taken for this one's
        self.state[name] = {
            "status": answer["status"],
            "error": answer["error"],
            "title": done.notebook.title,
            "parameters": self.parameters[name],
            "fingerprint": done.mark,
            "seconds": seconds,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "output": output,
        }
        self.save()
        paths.atomic_write(self.results / "index.html", pages.index_page(self.results))
        self.outcomes[name] = answer["status"]
        shutil.rmtree(done.folder, ignore_errors=True)
        reason = f": {answer['error']}" if answer["error"] else ""
        self.progress.end(name, f"{answer['status']} in {seconds} s{reason}")

    def stop(self):
        """Have every worker shut its kernel down; end those that need over 20 s, or at a second
        Ctrl-C.
        """
        for item in self.running.values():
            if item.process.stdin:
                item.process.stdin.close()
        deadline = time.monotonic() + 20
        for item in self.running.values():
            try:
                item.process.wait(max(0.1, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                item.process.kill()  # its kernel notices within a second or two, and leaves
            item.listener.join(timeout=2)
        while not self.events.empty():  # what came to its end just before
            name, message = self.events.get()
            if message is not None or self.running[name].answer:
                self.handle(name, message)
        for name in self.running:
            self.outcomes[name] = "interrupted"
            self.state.setdefault(name, {})["status"] = "interrupted"
        self.save()

    def save(self):
        text = json.dumps(self.state, indent=1, sort_keys=True) + "\n"
        paths.atomic_write(self.folder / "state.json", text)
