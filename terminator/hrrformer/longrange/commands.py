"""What the command line does with long range tasks: train one, or make its data and say what they are."""

from terminator.hrrformer.longrange import runs
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.data import load_long_range
from terminator.hrrformer.longrange.presets import preset
from terminator.hrrformer.longrange.report import simple_answers
from terminator.runtime.distributed import processes, rank
from terminator.runtime.text import terminal

DEFAULT = "digits-sequence"  # needs no data set


def configuration(name: str | None, changes: list[str]) -> LongRangeConfig:
    """A named configuration with the changes of a dot-list."""
    return preset(name or DEFAULT).updated(*changes)


def train(name: str | None, changes: list[str], experiment: str, profile: str, data_dir: str | None,
          force: bool) -> None:
    """Run an experiment, or read its record, and print what was reached."""
    config = configuration(name, changes)
    with processes(config.train):  # the rank is known for as long as the processes are joined
        run = runs.run(config, experiment, profile, data_dir=data_dir, force=force)
        if rank() == 0:
            for split, found in run.record["results"].items():
                print(f"{split:>8}: {found['accuracy']:6.2f} % of {found['examples']} examples, cross entropy "
                      f"{found['cross_entropy']:.4f}")
            print(f"record, metrics and model: {run.folder}")


def describe(name: str | None, changes: list[str], data_dir: str | None) -> None:
    """Make or read the data, and print their sizes, lengths and labels, and what simple answers reach."""
    data = load_long_range(configuration(name, changes), data_dir)
    info = data.info
    print(terminal(f"{info.title}: {len(info.classes)} classes, vocabulary {info.vocabulary}, at most {info.length} tokens"))
    for split, part in data.splits.items():
        lengths = part.texts[0].lengths
        shares = part.labels.bincount(minlength=len(info.classes)) / len(part)
        labels = ", ".join(f"{label} {share:.1%}" for label, share in zip(info.classes, shares.tolist(), strict=True))
        print(f"{split:>8}: {len(part)} examples, {int(lengths.min())} to {int(lengths.max())} tokens, median "
              f"{info.median_length[split]:g}; {labels}")
    for answer, accuracy in simple_answers(data).items():
        print(f"{accuracy:7.2f} % of the test examples are answered rightly by: {answer}")
    print(*(terminal(f"note: {note}") for note in info.notes), f"fingerprint: {info.fingerprint}", sep="\n")
