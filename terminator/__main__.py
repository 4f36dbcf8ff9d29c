"""The command line: python -m terminator train | evaluate | predict | fewshot | segmentation | gan | benchmark ...

    python -m terminator train preset=digits train.seed=1
    python -m terminator train dataset.name=CIFAR10 optimizer.name=Kar3 "optimizer.betas=[0.5,0.95]"
    python -m terminator train dataset.name=CIFAR10 train.do=False pretrained.load=True pretrained.filename=FILE
    torchrun --nproc_per_node 2 -m terminator train preset=cifar10 train.distributed=True
    python -m terminator fewshot preset=omniglot28-5way train.seed=1
    python -m terminator longrange preset=text-short network.mixer=softmax_fused
    python -m terminator segmentation preset=camvid model.context=none
    python -m terminator gan preset=mnist model.context=attention
    python -m terminator fewshot --train_dataset omniglot:0-1149 --num_labels 20 --balanced_batches ...
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from terminator.classification.config import Config
from terminator.runtime.settings import ConfigError, changed_settings
from terminator.runtime.text import terminal


def _named(words: list[str], standard: str) -> tuple[str, list[str]]:
    """The preset that a command line names with preset=NAME, or the standard one; and its other words."""
    names = [word.removeprefix("preset=") for word in words if word.startswith("preset=")]
    if len(names) > 1:
        raise ConfigError(f"preset is given {len(names)} times: {', '.join(names)}; allowed: once")
    return (names or [standard])[0], [word for word in words if not word.startswith("preset=")]


def build_config(words: list[str]) -> Config:
    """The configuration of a command line: KEY=VALUE words, with preset=NAME for a named start.

    Without preset or dataset.name it is the preset "digits", which needs no data set.
    """
    from terminator.classification.presets import preset

    name, changes = _named(words, "")
    if not name and not any(word.startswith("dataset.name=") for word in changes):
        name = "digits"
    config = preset(name) if name else Config()
    return config.updated(*changes) if changes else config


def train(args: argparse.Namespace) -> None:
    from terminator.classification import runs as experiments
    from terminator.runtime.distributed import processes, rank

    config = build_config(args.settings)
    if not config.train.do:
        if not config.pretrained.load:
            raise ConfigError("train.do is False and pretrained.load is False, so there is nothing to do; set "
                              "pretrained.load=True pretrained.filename=FILE to test a model")
        with processes(config.train):
            result = experiments.evaluate_file(config.pretrained.filename, config, args.data_dir)
            if rank() == 0:
                _show(result)
        return
    with processes(config.train):  # the rank is known for as long as the processes are joined
        run = experiments.run(config, args.experiment, args.profile, data_dir=args.data_dir, force=args.force)
        if rank() == 0:
            _show(run.record)
            print(f"record, metrics and model: {run.folder}")


def evaluate(args: argparse.Namespace) -> None:
    from terminator.classification import runs as experiments

    config = experiments.trained_with(args.model)
    if config is None or any(word.startswith("preset=") for word in args.settings):
        config = build_config(args.settings)
    else:
        if any(word.startswith("dataset.name=") for word in args.settings):  # other data, in the same form
            config = config.updated(dataset={"train_size": None, "test_size": None})
        config = config.updated(*args.settings)
    _show(experiments.evaluate_file(args.model, config, args.data_dir))


def _fewshot_experiment(args: argparse.Namespace):
    """Configuration, data, folder and remarks of a few-shot command line."""
    from terminator.hypertransformer.fewshot.data import load_episode_data
    from terminator.hypertransformer.fewshot.flags import read_flags
    from terminator.hypertransformer.fewshot.presets import preset

    name, words = _named(args.flags, "")
    read = read_flags(words, preset(name) if name else None)
    places = [args.data_dir, read.places.get("data_numpy_dir"), read.places.get("data_dir")]
    data = load_episode_data(read.config.data, os.pathsep.join(filter(None, places)) or None)
    folder = Path(read.places["train_log_dir"]).absolute() if "train_log_dir" in read.places else None
    return read.config, data, folder, read.remarks


def fewshot(args: argparse.Namespace) -> None:
    from terminator.hypertransformer.fewshot import runs
    from terminator.runtime.distributed import processes, rank

    config, data, folder, remarks = _fewshot_experiment(args)
    with processes(config.train):
        if rank() == 0:
            print(*remarks, sep="\n", end="\n" * bool(remarks))
        run = runs.run(config, args.experiment, args.profile, data=data, folder=folder, force=args.force)
        if rank() == 0:
            for split, found in run.record["results"].items():
                print(f"{split:>16}: {found['accuracy']:6.2f} ± {found['interval']:.2f} % of {found['tasks']} tasks")
            print(f"record, metrics and model: {run.folder}")


def fewshot_evaluate(args: argparse.Namespace) -> None:
    from terminator.hypertransformer.fewshot import runs
    from terminator.hypertransformer.fewshot.watch import watch

    config, data, folder, remarks = _fewshot_experiment(args)
    print(*remarks, sep="\n", end="\n" * bool(remarks))
    config = config.resolved(data.info.shape[0], data.real_classes)
    folder = folder or runs.run_folder(config, data, args.experiment, args.profile)
    print(f"watching {folder}", flush=True)
    watch(config, data, folder, poll_s=args.poll, timeout_s=args.timeout)


def longrange(args: argparse.Namespace) -> None:
    from terminator.hrrformer.longrange import commands

    name, changes = _named(args.settings, "")
    commands.train(name or None, changes, args.experiment, args.profile, args.data_dir, args.force)


def longrange_data(args: argparse.Namespace) -> None:
    from terminator.hrrformer.longrange import commands

    name, changes = _named(args.settings, "")
    commands.describe(name or None, changes, args.data_dir)


def segmentation(args: argparse.Namespace) -> None:
    from terminator.hamburger.segmentation import presets, runs
    from terminator.runtime.distributed import processes, rank

    name, changes = _named(args.settings, "context")
    config = presets.preset(name).updated(*changes)
    with processes(config.train):
        run = runs.run(config, args.experiment, args.profile, data_dir=args.data_dir, force=args.force)
        if rank() == 0:
            for split, found in run.record["results"].items():
                print(f"{split:>12}: mIoU {found['miou']:6.2f} %, {found['accuracy']:6.2f} % of the pixels of "
                      f"{found['pictures']} pictures")
            print(f"record, metrics and model: {run.folder}")


def segment(args: argparse.Namespace) -> None:
    from terminator.hamburger.segmentation.predict import segment_files

    table = segment_files(args.model, args.images, args.out, args.multi_scale)
    print(terminal(table.to_string(index=False, float_format=lambda value: f"{value:.1f} %")))


def gan(args: argparse.Namespace) -> None:
    from terminator.hamburger.gan.presets import preset
    from terminator.hamburger.gan.runs import run

    name, changes = _named(args.settings, "digits")
    config = preset(name).updated(*changes)
    found = run(config, args.experiment, args.profile, data_dir=args.data_dir, force=args.force)
    result, judge = found.record["results"], found.record["classifier"]
    print(f"Frechet distance {result['test']['frechet']:.3f} ± {result['test']['sd_over_draws']:.3f} (over draws), of "
          f"training images {result['train_images']['frechet']:.3f}; in the features of {judge['run_id']} "
          f"({judge['network']}, {judge['accuracy']:.2f} % right)")
    print(f"record, metrics, samples and model: {found.folder}")


def _show(result: dict) -> None:
    """Print accuracies of both protocols, a line each."""
    for protocol, meaning in (("released", "statistics of the test batch"), ("calibrated", "fixed statistics")):
        numbers = (result.get("results") or result)[protocol]
        print(f"{protocol:>11}: {numbers['accuracy']:6.2f} % of {numbers['images']} images, cross entropy "
              f"{numbers['cross_entropy']:.4f}  ({meaning})")


def predict(args: argparse.Namespace) -> None:
    from terminator.classification.predict import predict_files

    print(terminal(predict_files(args.model, args.images).to_string(index=False)))


def datasets(args: argparse.Namespace) -> None:
    from terminator.data import available

    for place in filter(None, (args.data_dir or "").split(os.pathsep)):
        if not Path(place).is_dir():
            raise ConfigError(f"--data-dir is {place!r}; allowed: a folder that exists")
    for row in available(args.data_dir):
        shape = "x".join(map(str, row.shape)) if row.shape else "?"
        classes = row.classes or "?"
        print(f"{row.name:14} {row.title:18} {shape:10} {classes:>4} classes   {row.status}")
        if not row.status.startswith("ready"):
            print(f"{'':14} {row.how}")


def presets(args: argparse.Namespace) -> None:
    from terminator.classification import presets as images
    from terminator.hrrformer.longrange import presets as sequences

    known: Any = {"images": images, "longrange": sequences}[args.of]
    for name in known.PRESETS:
        print(name)
        config = known.preset(name)
        for group, values in changed_settings(config, type(config)()).items():
            for key, value in values.items():
                print(f"    {group}.{key}={json.dumps(value)}")


def benchmark(args: argparse.Namespace) -> None:
    import torch

    from terminator.bench import case as bench
    from terminator.bench import revision, whole

    common = {"compiled": args.compile or args.graphs, "graphs": args.graphs, "device": args.device,
              "repeats": args.repeats, "threads": torch.get_num_threads() if args.threads is None else args.threads}
    if args.compare:
        case = bench.Case(args.what[0], args.size[0], args.batch[0], args.precision[0], **common)
        result = revision.compare(case, args.compare, args.rounds, args.profile, args.other_precision)
        for name in ("here", "there"):
            row = result[name]
            print(f"{name:>6}: {row['ms']:9.1f} ms (quartiles {row['ms_low']:.1f} to {row['ms_high']:.1f}), "
                  f"{row['images_per_s']:8.1f} images/s, peak {row['peak_mib']:.0f} MiB, {row['precision']}")
        print(f"this kit is {result['ratio']:.2f} times as fast as {args.compare} (rounds: "
              f"{result['ratio_low']:.2f} to {result['ratio_high']:.2f}), which takes "
              f"{result['memory_ratio']:.2f} times its memory")
        return
    cases = [bench.Case(what, size, batch, precision, **common) for what in args.what if what != "optimizer"
             for size in args.size for batch in args.batch for precision in args.precision]
    if "optimizer" in args.what:
        cases += [bench.Case("optimizer", optimizer=name, **common) for name in bench.OPTIMIZERS]
    table = whole.run(cases, args.profile)
    print(table[bench.COLUMNS].to_string(index=False, float_format=lambda value: f"{value:.1f}", na_rep=""))


def tables(args: argparse.Namespace) -> None:
    from terminator.report import culprit

    with culprit.named():
        _tables()


def _tables() -> None:
    from terminator.classification import report
    from terminator.report import claims, readme
    from terminator.report import tables as tables_of
    from terminator.runtime.paths import project_root, results_dir

    indices = [report.rebuild_index(), *(system.rebuild_index() for system in tables_of.SYSTEMS)]
    for path in (*indices, claims.write_page()):
        if path is not None:
            print(path)
    root = project_root()
    if root is not None and results_dir() == root / "results":  # other results are not this README's
        readme.update_readme(root / "README.md", tables_of.readme_tables())
        readme.update_readme(root / "README.md", readme.speed_table(), "speed")
        print(root / "README.md")


def _training_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--experiment", default="cli", help="folder below results/runs (default: cli)")
    sub.add_argument("--profile", choices=("smoke", "laptop", "paper"), default="laptop",
                     help="what the record says it is (default: laptop)")
    sub.add_argument("--force", action="store_true", help="train again, even if a finished record is there")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line here as all others are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    main = Parser(prog="python -m terminator", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = main.add_subparsers(dest="command", required=True)

    def command(action, help_text: str, settings: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(action.__name__.replace("_", "-"), help=help_text)
        sub.set_defaults(action=action)
        if settings:
            sub.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE",
                             help="settings, e.g. train.epochs=6")
        return sub

    sub = command(train, "train (or go on, or read what is finished), test, write a record", settings=True)
    _training_options(sub)
    sub = command(segmentation, "train a network that labels every pixel, test it, write a record", settings=True)
    _training_options(sub)
    sub = command(gan, "train a GAN with a Hamburger, attention or neither, write a record with samples", settings=True)
    _training_options(sub)
    sub = command(segment, "label every pixel of image files with a saved segmentation model")
    sub.add_argument("model", help="a .safetensors file of the command segmentation")
    sub.add_argument("images", nargs="+", type=Path, help="image files")
    sub.add_argument("--out", type=Path, help="a folder for the label maps (PNG, one class index per pixel)")
    sub.add_argument("--multi-scale", action="store_true", help="sum the logits of several scales and mirrors (MSFlip)")
    sub = command(evaluate, "test a saved model, as released and calibrated")
    sub.add_argument("model", help="a .safetensors file of this kit, or a released checkpoint")
    sub.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE", help="settings, e.g. dataset.name=MNIST")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    sub = command(predict, "classify single image files with a saved, calibrated model")
    sub.add_argument("model", help="a .safetensors file of this kit")
    sub.add_argument("images", nargs="+", type=Path, help="image files")
    sub = command(benchmark, "measure speed and memory, beside the machine's floors or another revision")
    sub.add_argument("--what", nargs="+", default=["training"], help="training, inference, optimizer")
    sub.add_argument("--size", nargs="+", type=int, default=[32], help="pixels a side (default: 32)")
    sub.add_argument("--batch", nargs="+", type=int, default=[32], help="images a step (default: 32)")
    sub.add_argument("--precision", nargs="+", default=["float32"], help="float32, bf16")
    sub.add_argument("--compile", action="store_true", help="with torch.compile")
    sub.add_argument("--graphs", action="store_true", help="compiled, with CUDA graphs (training only)")
    sub.add_argument("--device", default="cpu", help="cpu, cuda")
    sub.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    sub.add_argument("--repeats", type=int, default=5, help="steps a measurement, after four to warm up")
    sub.add_argument("--compare", metavar="REV", help="measure this revision of the repository in turns with this kit")
    sub.add_argument("--rounds", type=int, default=3, help="turns of --compare (default: 3)")
    sub.add_argument("--other-precision", help="precision of the other revision (default: the same)")
    sub.add_argument("--profile", choices=("smoke", "laptop", "paper"), default="laptop",
                     help="what the record says it is (default: laptop)")
    sub = command(datasets, "list data sets: what is there, what is not, how to get it")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    flags = ("released flags (--num_labels 20 --balanced_batches --nouse_decoder ...) and settings (preset=NAME, "
             "train.batch_size=8) follow in any order")
    for action, text in ((fewshot, "train a few-shot learner on episodes, test it, write a record"),
                         (fewshot_evaluate, "evaluate the checkpoints of a running few-shot training")):
        sub = command(action, text)
        sub.epilog, sub.allow_abbrev = flags, False
        sub.set_defaults(flags=[])
        sub.add_argument("--experiment", default="cli", help="folder below results/runs (default: cli)")
        sub.add_argument("--profile", choices=("smoke", "laptop", "paper"), default="laptop",
                         help="what the record says it is (default: laptop)")
        sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    sub.add_argument("--poll", type=float, default=10, help="seconds between two looks (default: 10)")
    sub.add_argument("--timeout", type=float, default=3600, help="give up after so many seconds without a checkpoint")
    commands.choices["fewshot"].add_argument("--force", action="store_true",
                                             help="train again, even if a finished record is there")
    sub = command(longrange, "train a network on long sequences, test it, write a record", settings=True)
    sub.epilog = "presets: python -m terminator presets longrange"
    sub.add_argument("--experiment", default="cli", help="folder below results/runs (default: cli)")
    sub.add_argument("--profile", choices=("smoke", "laptop", "paper"), default="laptop",
                     help="what the record says it is (default: laptop)")
    sub.add_argument("--force", action="store_true", help="train again, even if a finished record is there")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    sub = command(longrange_data, "make or read the sequences of a long range task, say what they are", settings=True)
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    command(tables, "write index.csv, REPRODUCIBILITY.md and the README's table afresh from the records")
    sub = command(presets, "list the named configurations")
    sub.add_argument("of", nargs="?", choices=("images", "longrange"), default="images", help="default: images")
    return main


def main(argv: list[str] | None = None) -> int:
    """Run a command; errors of the user's making are one line, not a traceback. Exit status 2 then."""
    args, rest = parser().parse_known_args(argv)
    if hasattr(args, "flags"):
        args.flags, rest = rest, []
    if rest and not hasattr(args, "settings") or any(word.startswith("-") for word in rest):
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # argparse takes settings in one row only; here options may stand between them
        args.settings = [*args.settings, *rest]
    from terminator.runtime.checkpoint import CheckpointError
    from terminator.trainer import TrainingDiverged

    try:
        args.action(args)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ConfigError, CheckpointError, TrainingDiverged, ValueError, OSError) as error:
        print(terminal(f"error: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command, without --force, goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    from terminator.runtime.distributed import leave

    leave(main())
