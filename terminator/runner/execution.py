"""The notebooks in order, several at a time: what is done is skipped, what came of each is written
down at once.

Used by: run_all.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import queue
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terminator.runner import headless
from terminator.runner import notebooks as books
from terminator.runner import results_page as pages
from terminator.runner.progress import Progress
from terminator.runtime import paths, provenance

PAGE_S = 3.0  # between two pages while no notebook has ended
BEFORE = "before"  # beside executed notebooks: good ones whose next execution failed


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
        beside: given the names of notebooks that may need runs, how many places notebooks take, and
            whom to tell, begins to make the runs: a batch.beside.Beside.
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
        beside: Callable[..., Any],
    ):
        self.notebooks, self.parameters, self.args = notebooks, parameters, args
        self.results, self.data, self.source = results, data, provenance.package_hash()
        self.home, self.worker, self.interrupted = home, worker, interrupted
        self.beside, self.runs = beside, None
        self.ready: list[books.Notebook] = []  # those that only wait for a place
        self.page_s = 0.0  # when the page was written
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
        # written down, so that an interrupted --force can go on without --force
        if self.args.force:
            for notebook in self.notebooks:
                self.state.setdefault(notebook.name, {})["status"] = "to run"
            self.save()
        jobs = min(self.args.jobs, len(self.notebooks))
        environment = headless.kernel_environment(scratch, jobs, self.results, self.data)
        waiting = deque(self.notebooks)
        self.begin_runs()
        try:
            while (waiting or self.running) and not self.interrupted():
                self.start_ready(waiting, scratch, environment)
                try:
                    self.handle(*self.events.get(timeout=0.2))
                except queue.Empty:
                    self.progress.tick()
            if self.running:
                self.progress.say("interrupted: shutting down the kernels")
                self.stop()
            return not waiting and "interrupted" not in self.outcomes.values()
        finally:
            if self.runs is not None:
                self.runs.stop()
            self.progress.close()

    def begin_runs(self):
        """Have the runs made that notebooks which are to be executed may need."""
        names = [nb.name for nb in self.notebooks if nb.uses_package and not nb.reads_records]
        names = [nb.name for nb in self.notebooks if nb.name in names and not self.is_done(nb)]
        if names:
            tell = functools.partial(self.tell, "")
            self.runs = self.beside(names, self.taken, tell)

    def tell(self, name, message):
        """From any thread: have a message handled."""
        self.events.put((name, message))

    def taken(self):
        """From any thread: how many places notebooks are in, or wait for."""
        return len(self.running) + len(self.ready)

    def start_ready(self, waiting, scratch, environment):
        """Start notebooks as long as there are places, which they share with runs."""
        while waiting:
            going = [item.notebook for item in self.running.values()]
            holds = self.runs.holds if self.runs is not None else lambda name: False
            self.ready = books.ready(list(waiting), going, holds)
            places = self.runs.places() if self.runs is not None else 0
            if not self.ready or len(going) + places >= self.args.jobs:
                return
            waiting.remove(self.ready[0])
            self.start(self.ready.pop(0), scratch, environment)

    def mark(self, notebook):
        """What the run of a notebook depends on."""
        parameters = self.parameters[notebook.name]
        return books.fingerprint(notebook, parameters, self.source, self.data, self.results)

    def is_done(self, notebook):
        """Whether it ran to its end, and nothing has changed since."""
        name = notebook.name
        return books.is_done(self.state.get(name, {}), self.mark(notebook), self.folder, name)

    def start(self, notebook, scratch, environment):
        name, parameters = notebook.name, self.parameters[notebook.name]
        if self.is_done(notebook):
            self.outcomes[name] = "up to date"
            self.progress.end(name, "up to date; --force runs it again")
            return
        folder, mark = scratch / name, self.mark(notebook)
        folder.mkdir()
        job = {"name": name, "source_folder": str(notebook.path.parent), "cwd": str(self.home)}
        job |= {"parameters": parameters, "cell_timeout": self.args.cell_timeout}
        job |= {"names": books.names_in(notebook.path.parent)}
        job |= {"notebook": notebook.source_hash, "package": self.source}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        (folder / "input.ipynb").write_bytes(notebook.content)
        # a session of its own: Ctrl-C reaches the parent alone
        with open(folder / "log.txt", "wb") as log:
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
            self.tell(name, json.loads(line))
        process.wait()
        self.tell(name, None)

    def handle(self, name, message):
        if message is None:
            self.conclude(self.running.pop(name))
        elif not name:
            self.progress.runs(message)
        elif "cell" in message:
            self.progress.cell(name, message["cell"], message["cells"])
            if not self.outcomes and time.monotonic() - self.page_s > PAGE_S:
                self.write_page()  # figures are there before a notebook has ended
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
        was_good, moved = self.state.get(name, {}).get("status") == "ok", False
        for suffix in (".html", ".ipynb"):
            made, target = done.folder / f"executed{suffix}", self.folder / f"{name}{suffix}"
            kept = self.folder / BEFORE / target.name
            if answer["status"] != "ok" and was_good and target.is_file():
                kept.parent.mkdir(exist_ok=True)
                target.replace(kept)
                moved = True
            if made.is_file():
                paths.atomic_write(target, made.read_bytes())
                output = target.name
                if answer["status"] == "ok":
                    kept.unlink(missing_ok=True)
            else:
                target.unlink(missing_ok=True)  # an earlier run's would be taken for this one's
        self.state[name] = {
            "status": answer["status"],
            "error": answer["error"],
            "title": done.notebook.title,
            "parameters": self.parameters[name],
            "fingerprint": done.mark,
            "seconds": seconds,
            "finished": provenance.now(),
            "output": output,
        }
        self.save()
        self.write_page()
        self.outcomes[name] = answer["status"]
        shutil.rmtree(done.folder, ignore_errors=True)
        reason = f": {answer['error']}" if answer["error"] else ""
        if moved:
            reason += f"; as it was executed before, it is kept in {self.folder / BEFORE}"
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
            if not name or message is not None or self.running[name].answer:
                self.handle(name, message)
        for name in self.running:
            self.outcomes[name] = "interrupted"
            self.state.setdefault(name, {})["status"] = "interrupted"
        self.save()

    def write_page(self):
        """Write results/index.html, but over nobody else's page: run_all.py says so."""
        self.page_s = time.monotonic()
        with contextlib.suppress(paths.ForeignFile):
            pages.write(self.results)

    def save(self):
        text = json.dumps(self.state, indent=1, sort_keys=True) + "\n"
        paths.atomic_write(self.folder / "state.json", text)
