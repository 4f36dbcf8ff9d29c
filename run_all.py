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
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from terminator.batch.beside import Beside  # nothing here needs torch: --list is instant
from terminator.runner import execution, headless
from terminator.runner import notebooks as books
from terminator.runner import results_page as pages
from terminator.runner.worker import worker_main
from terminator.runtime import locks, paths, text

ROOT = Path(__file__).resolve().parent
PROFILES = {"smoke": 900, "laptop": 3 * 3600, "paper": None}  # seconds that one cell may take
LIBRARIES = ("papermill", "nbconvert", "nbformat", "ipykernel")
# and a folder: see worker_main
WORKER = [sys.executable, str(Path(__file__).resolve()), "--worker"]
# signals that came; a flag, since an exception raised by a signal handler can get lost
interrupts = []


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
        if explicit is not None and not paths.expanded(part or "?").is_dir():
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
    try:
        pages.write(results)
    except paths.ForeignFile as error:
        print(f"note: {text.terminal(error)}")
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
        notebooks = books.find_notebooks(paths.expanded(args.notebooks).absolute(), args.only)
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
