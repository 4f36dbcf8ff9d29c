"""The command line's part of batches: the plan, the work, runs from elsewhere."""

import argparse
import json
import signal
import sys
from contextlib import nullcontext, redirect_stdout
from typing import Any

from terminator.runs.command_line import Command, data_option, place
from terminator.runtime.settings import PROFILES, ConfigError, require
from terminator.runtime.text import terminal


def _planner(args: argparse.Namespace) -> Any:
    from terminator.batch.plan import Planner

    return Planner(
        args.profile,
        args.only,
        args.seeds,
        args.device,
        args.data_dir,
        download=args.download,
        check_data=args.check_data,
        read_data=not getattr(args, "no_data", False),
    )


def _plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", choices=PROFILES, default="smoke", help="default: smoke")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="notebooks: '1*', 20, 00_tour"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[], help="default: every study's own"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    data_option(parser)
    parser.add_argument(
        "--download", action="store_true", help="fetch data that are not on this machine"
    )
    parser.add_argument(
        "--check-data",
        action="store_true",
        help="read the data of finished runs too, to see that they are still the same",
    )


def plan(args: argparse.Namespace) -> None:
    """Print what the notebooks of a profile need, and what of it is there."""
    from terminator.batch.report import as_json, text

    # what is piped into another program holds nothing else
    with redirect_stdout(sys.stderr) if args.json or args.commands else nullcontext():
        found = _planner(args).plan()
    if args.commands:
        from terminator.batch.lines import line

        for run in found.runs.values():
            if not run.is_settled:
                print(line(run.wanted, args.data_dir))
        if found.undecided:
            waiting = ", ".join(sorted({one.experiment for one in found.undecided}))
            note = f"# {waiting}: rates are decided by these runs; ask again after them"
            print(note, file=sys.stderr)
    elif args.json:
        print(json.dumps(as_json(found, args.speed_of, args.data_dir), indent=1))
    else:
        print(*map(terminal, text(found, args.speed_of)), sep="\n")


def _plan_command_options(parser: argparse.ArgumentParser) -> None:
    _plan_options(parser)
    parser.add_argument(
        "--no-data",
        action="store_true",
        help="read no data: at once, but the ids of runs without a record stay unknown",
    )
    parser.add_argument(
        "--speed-of",
        default="",
        metavar="DEVICE",
        help="hours on this device, some of its name in records (default: that of most records)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument(
        "--commands", action="store_true", help="a shell line for every run that is not done"
    )


def _pairs(given: list[str]) -> dict[str, str]:
    for word in given:
        if "=" not in word:
            raise ConfigError(f"--slurm is {word!r}; allowed: KEY=VALUE, e.g. partition=gpu")
    return dict(word.split("=", 1) for word in given)


def _engine(args: argparse.Namespace) -> Any:
    if args.on == "slurm":
        from terminator.batch.slurm import Slurm

        return Slurm(_pairs(args.slurm))
    from terminator.batch.local import Local, visible_gpus

    gpus = () if args.device == "cpu" else visible_gpus()
    return Local(args.workers, gpus)


class Interrupts:
    """Signals that ask to end: counted, since an exception in a handler can get lost."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, number: int, frame: Any) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt

    def __call__(self) -> bool:
        return self.count > 0


def work(args: argparse.Namespace) -> int:
    """Make every run of a plan; say what is not there in the end."""
    from terminator.batch.report import outcome
    from terminator.batch.table import Table
    from terminator.batch.work import Work

    for name in ("workers", "processes", "tries"):
        require(getattr(args, name) >= 1, f"--{name}", getattr(args, name), "at least 1")
    engine = _engine(args)
    with Interrupts() as stop:
        doing = Work(_planner(args), engine, Table(), stop, args.tries, args.processes)
        print(f"{len(doing.plan.runs)} runs, {doing.plan.count('done')} done", flush=True)
        try:
            done = doing.run()
        except BaseException:
            if args.on == "local" and args.on_interrupt != "leave":
                engine.cancel()
            raise
    if not done:
        return _interrupted(engine, args.on_interrupt)
    print(*map(terminal, outcome(doing)), sep="\n")
    return 1 if doing.left() else 0


def _interrupted(engine: Any, how: str) -> int:
    """Leave jobs running or cancel them, as was said or is asked now."""
    running = engine.running()
    if running and how == "ask":
        how = "cancel" if engine.name == "local" else "leave"
        if sys.stdin.isatty():
            print(f"\n{len(running)} jobs run: [c]ancel them, or [l]eave them running? ", end="")
            answer = sys.stdin.readline().strip().lower()[:1]
            how = {"c": "cancel", "l": "leave"}.get(answer, how)
    if how == "cancel":
        engine.cancel()
    what = "cancelled" if how == "cancel" else "left running"
    print(f"interrupted; {len(running)} jobs {what}. The same command goes on from what is there")
    return 130


def _work_options(parser: argparse.ArgumentParser) -> None:
    _plan_options(parser)
    parser.add_argument("--on", choices=("local", "slurm"), default="local", help="default: local")
    parser.add_argument(
        "--workers", type=int, default=1, help="runs at a time on this machine (default: 1)"
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="partition=gpu gpus_per_node=1 timeout_min=480 array_parallelism=16 ..., as submitit "
        "takes them",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        help="of one training, started by torchrun: a GPU each (default: 1)",
    )
    parser.add_argument(
        "--tries",
        type=int,
        default=5,
        help="starts of a run that is killed again and again without coming further (default: 5)",
    )
    parser.add_argument(
        "--on-interrupt",
        choices=("ask", "leave", "cancel"),
        default="ask",
        help="what becomes of running jobs after Ctrl-C; where nobody can be asked, local ones are "
        "cancelled and others left (default: ask)",
    )


def import_runs(args: argparse.Namespace) -> int:
    """Take runs in; a line for each that is not simply the same."""
    from terminator.batch import transfer

    found = transfer.import_runs(args.source, not args.no_weights)
    for one in found:
        if one.what != transfer.SAME or one.why:
            print(terminal(f"{one.what}: {one.run}{f': {one.why}' if one.why else ''}"))
    words = (transfer.NEW, transfer.SAME, transfer.CONFLICTING, transfer.REFUSED)
    count = {word: sum(one.what == word for one in found) for word in words}
    print(", ".join(f"{number} {word}" for word, number in count.items()))
    return 1 if count[transfer.CONFLICTING] or count[transfer.REFUSED] or not found else 0


def _import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=place, help="an archive of export-runs, or a folder with runs in it"
    )
    parser.add_argument("--no-weights", action="store_true", help="records alone")


def export_runs(args: argparse.Namespace) -> None:
    """Write an archive of finished runs."""
    from terminator.batch import transfer

    count = transfer.export_runs(args.archive, args.experiment, args.profile, args.weights)
    print(terminal(f"{count} runs in {args.archive}"))


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=place, help="a name in .tar, .tar.gz or .tar.xz")
    parser.add_argument(
        "--experiment", nargs="+", default=[], help="folders below results/runs (default: all)"
    )
    parser.add_argument("--profile", choices=PROFILES, help="of this profile only")
    parser.add_argument("--weights", action="store_true", help="model files too")


COMMANDS = (
    Command(
        "import-runs",
        import_runs,
        "take runs of another machine or person into results/, once they are checked",
        _import_options,
        examples=(("runs.tar.gz", "an archive"), ("/mnt/usb/results", "a folder")),
    ),
    Command(
        "export-runs",
        export_runs,
        "write finished runs into an archive that import-runs takes",
        _export_options,
        examples=(("runs.tar.gz --profile paper --weights", "all of a profile, with weights"),),
    ),
    Command(
        "plan",
        plan,
        "say which runs the notebooks of a profile need, and what of them is there",
        _plan_command_options,
        examples=(
            ("--profile laptop --only '1*' 20", "of some notebooks"),
            ("--profile paper --commands", "a line per run, for GNU parallel or another scheduler"),
        ),
    ),
    Command(
        "work",
        work,
        "make the runs of a plan, several at a time, here or on a Slurm cluster",
        _work_options,
        examples=(
            ("--profile laptop --workers 2", "two at a time on this machine"),
            (
                "--profile paper --on slurm --slurm partition=gpu gpus_per_node=1 timeout_min=480",
                "arrays of jobs",
            ),
        ),
    ),
)
