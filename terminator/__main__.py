"""The command line: python -m terminator train | evaluate | predict | datasets | presets | tables.

    python -m terminator train preset=digits train.seed=1
    python -m terminator train dataset.name=CIFAR10 optimizer.name=Kar3 "optimizer.betas=[0.5,0.95]"
    python -m terminator train dataset.name=CIFAR10 train.do=False pretrained.load=True pretrained.filename=FILE
    torchrun --nproc_per_node 2 -m terminator train preset=cifar10 train.distributed=True
"""

import argparse
import json
import os
import sys
from pathlib import Path

from terminator.config import Config, ConfigError, changed_settings


def build_config(words: list[str]) -> Config:
    """The configuration of a command line: KEY=VALUE words, with preset=NAME for a named start.

    Without preset or dataset.name it is the preset "digits", which needs no data set.
    """
    from terminator.presets import preset

    names = [word.removeprefix("preset=") for word in words if word.startswith("preset=")]
    changes = [word for word in words if not word.startswith("preset=")]
    if len(names) > 1:
        raise ConfigError(f"preset is given {len(names)} times: {', '.join(names)}; allowed: once")
    if not names and not any(word.startswith("dataset.name=") for word in changes):
        names = ["digits"]
    config = preset(names[0]) if names else Config()
    return config.updated(*changes) if changes else config


def train(args: argparse.Namespace) -> None:
    from terminator import experiments
    from terminator.distributed import processes, rank

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
    from terminator import experiments

    config = experiments.trained_with(args.model)
    if config is None or any(word.startswith("preset=") for word in args.settings):
        config = build_config(args.settings)
    else:
        if any(word.startswith("dataset.name=") for word in args.settings):  # other data, in the same form
            config = config.updated(dataset={"train_size": None, "test_size": None})
        config = config.updated(*args.settings)
    _show(experiments.evaluate_file(args.model, config, args.data_dir))


def _show(result: dict) -> None:
    """Print accuracies of both protocols, a line each."""
    for protocol, meaning in (("released", "statistics of the test batch"), ("calibrated", "fixed statistics")):
        numbers = (result.get("results") or result)[protocol]
        print(f"{protocol:>11}: {numbers['accuracy']:6.2f} % of {numbers['images']} images, cross entropy "
              f"{numbers['cross_entropy']:.4f}  ({meaning})")


def predict(args: argparse.Namespace) -> None:
    from terminator.predict import predict_files

    print(predict_files(args.model, args.images).to_string(index=False))


def datasets(args: argparse.Namespace) -> None:
    from terminator.data import available

    for row in available(args.data_dir):
        shape = "x".join(map(str, row.shape)) if row.shape else "?"
        classes = row.classes or "?"
        print(f"{row.name:14} {row.title:18} {shape:10} {classes:>4} classes   {row.status}")
        if not row.status.startswith("ready"):
            print(f"{'':14} {row.how}")


def presets(args: argparse.Namespace) -> None:
    from terminator.presets import PRESETS, preset

    for name in PRESETS:
        print(name)
        for group, values in changed_settings(preset(name), Config()).items():
            for key, value in values.items():
                print(f"    {group}.{key}={json.dumps(value)}")


def tables(args: argparse.Namespace) -> None:
    from terminator import records
    from terminator.paths import project_root, results_dir

    print(records.rebuild_index())
    root = project_root()
    if root is not None and results_dir() == root / "results":  # other results are not this README's
        records.update_readme(root / "README.md")
        print(root / "README.md")


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m terminator", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = main.add_subparsers(dest="command", required=True)

    def command(action, help_text: str, settings: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(action.__name__, help=help_text)
        sub.set_defaults(action=action)
        if settings:
            sub.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings, e.g. train.epochs=6")
        return sub

    sub = command(train, "train (or go on, or read what is finished), test, write a record", settings=True)
    sub.add_argument("--experiment", default="cli", help="folder below results/runs (default: cli)")
    sub.add_argument("--profile", choices=("smoke", "laptop", "paper"), default="laptop",
                     help="what the record says it is (default: laptop)")
    sub.add_argument("--force", action="store_true", help="train again, even if a finished record is there")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    sub = command(evaluate, "test a saved model, as released and calibrated")
    sub.add_argument("model", help="a .safetensors file of this kit, or a released checkpoint")
    sub.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings, e.g. dataset.name=MNIST")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    sub = command(predict, "classify single image files with a saved, calibrated model")
    sub.add_argument("model", help="a .safetensors file of this kit")
    sub.add_argument("images", nargs="+", type=Path, help="image files")
    sub = command(datasets, "list data sets: what is there, what is not, how to get it")
    sub.add_argument("--data-dir", help="where data sets lie; also TERMINATOR_DATA")
    command(tables, "write results/index.csv and the README's table afresh from the records")
    command(presets, "list the named configurations")
    return main


def main(argv: list[str] | None = None) -> int:
    """Run a command; errors of the user's making are one line, not a traceback. Exit status 2 then."""
    args, rest = parser().parse_known_args(argv)
    if rest and not hasattr(args, "settings") or any(word.startswith("-") for word in rest):
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # argparse takes settings in one row only; here options may stand between them
        args.settings += rest
    from terminator.checkpoint import CheckpointError
    from terminator.trainer import TrainingDiverged

    try:
        args.action(args)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ConfigError, CheckpointError, TrainingDiverged, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command, without --force, goes on from the last finished epoch", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
