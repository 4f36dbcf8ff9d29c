"""The command line's part of the bench: speed and memory of cases, beside floors or a revision."""

import argparse
from typing import Any

from terminator.runs.command_line import Command, profile_option

CASES: dict[str, Any] = {  # the options that say what is measured, where --suite does not
    "what": ["training"],
    "size": [32],
    "batch": [32],
    "precision": ["float32"],
    "compile": False,
    "graphs": False,
    "other_precision": None,
}


def benchmark(args: argparse.Namespace) -> None:
    """Measure all cases asked for, or one in turns with another revision; print a table."""
    import torch

    from terminator.bench import case as bench
    from terminator.runtime.settings import require

    require(args.suite or not args.only, "only", " ".join(args.only), "rows of --suite")
    require(
        bool(args.compare) or args.other_precision is None,
        "other-precision",
        args.other_precision,
        "nothing without --compare",
    )
    require(
        bool(args.compare) or args.rounds is None,
        "rounds",
        args.rounds,
        "nothing without --compare",
    )
    args.rounds = 3 if args.rounds is None else args.rounds
    unused: tuple[str, ...] = ()
    if args.suite:
        unused, where = tuple(CASES), "--suite, whose rows say it themselves"
    elif args.what == ["optimizer"]:
        unused, where = ("size", "batch", "precision", "compile", "graphs"), "--what optimizer"
    for name in unused:
        value = getattr(args, name)
        require(value == CASES[name], name, value, f"nothing with {where}")
    for name in ("what", "size", "batch", "precision") if args.compare else ():
        require(len(getattr(args, name)) == 1, name, getattr(args, name), "one with --compare")
    if args.suite:
        _suite(args)
        return

    common = {
        "compiled": args.compile or args.graphs,
        "graphs": args.graphs,
        "device": args.device,
        "repeats": args.repeats,
        "threads": torch.get_num_threads() if args.threads is None else args.threads,
    }
    if args.compare:
        case = bench.Case(args.what[0], args.size[0], args.batch[0], args.precision[0], **common)
        _compare(case, args)
        return
    cases = [
        bench.Case(what, size, batch, precision, **common)
        for what in args.what
        if what != "optimizer"
        for size in args.size
        for batch in args.batch
        for precision in args.precision
    ]
    if "optimizer" in args.what:
        plain = common | {"compiled": False, "graphs": False}  # its step is never compiled
        cases += [bench.Case("optimizer", optimizer=name, **plain) for name in bench.OPTIMIZERS]
    table = bench.run(cases, args.profile)
    print(
        table[bench.COLUMNS].to_string(
            index=False, float_format=lambda value: f"{value:.1f}", na_rep=""
        )
    )


def _suite(args: argparse.Namespace) -> None:
    """Measure the rows of the suite, or compare them with another revision's; print a table."""
    import torch

    from terminator.bench import suite

    common = {
        "tiny": args.profile == "smoke",
        "repeats": args.repeats,
        "threads": torch.get_num_threads() if args.threads is None else args.threads,
        "device": args.device,
    }
    chosen = suite.cases(args.only, **common)
    table = (
        suite.compare(chosen, args.compare, args.rounds, args.profile)
        if args.compare
        else suite.run(chosen, args.profile)
    )
    shown = table[suite.COLUMNS].dropna(axis="columns", how="all")
    print(shown.to_string(index=False, float_format=lambda v: f"{v:.2f}", na_rep=""))


def _compare(case: Any, args: argparse.Namespace) -> None:
    from terminator.bench import revision

    result = revision.compare(case, args.compare, args.rounds, args.profile, args.other_precision)
    for name in ("here", "there"):
        row = result[name]
        speed = f" {row['images_per_s']:8.1f} images/s," if row["images_per_s"] else ""
        print(
            f"{name:>6}: {row['ms']:9.1f} ms (quartiles {row['ms_low']:.1f} to "
            f"{row['ms_high']:.1f}),{speed} peak {row['peak_mib']:.0f} MiB, {row['precision']}"
        )
    print(
        f"this kit is {result['ratio']:.2f} times as fast as {args.compare} (rounds: "
        f"{result['ratio_low']:.2f} to {result['ratio_high']:.2f}), which takes "
        f"{result['memory_ratio']:.2f} times its memory"
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--what",
        nargs="+",
        default=CASES["what"],
        help="training, inference, optimizer (default: training)",
    )
    parser.add_argument(
        "--size", nargs="+", type=int, default=CASES["size"], help="pixels a side (default: 32)"
    )
    parser.add_argument(
        "--batch", nargs="+", type=int, default=CASES["batch"], help="images a step (default: 32)"
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=CASES["precision"],
        help="float32, bf16 (default: float32)",
    )
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument(
        "--graphs", action="store_true", help="compiled, with CUDA graphs (training only)"
    )
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda (default: cpu; --suite: cpu alone)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="steps a measurement, after some to warm up (default: 5)",
    )
    parser.add_argument(
        "--compare",
        metavar="REV",
        help="measure this revision of the repository in turns with this kit",
    )
    parser.add_argument("--rounds", type=int, help="turns of --compare (default: 3)")
    parser.add_argument(
        "--other-precision", help="precision of the other revision (default: the same)"
    )
    parser.add_argument(
        "--suite",
        action="store_true",
        help="the rows of every system, data and starts included, in place of --what; profile "
        "smoke: in tiny sizes",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="ROW",
        help="these rows of the suite: terminator-training, ham-nmf, ... (a wrong one lists all)",
    )
    profile_option(parser)


COMMANDS = (
    Command(
        "benchmark",
        benchmark,
        "measure speed and memory, beside the machine's floors or another revision",
        _options,
    ),
)
