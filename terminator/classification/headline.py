"""The headline run: CIFAR-10 at full size with the released settings, epoch by epoch beside the
released log, as far as it has come; on the published pixels, and on JPEG files, a lossy copy.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import pandas as pd

from terminator.classification import studies
from terminator.classification.config import Config
from terminator.classification.presets import PHOTOGRAPHS, preset
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.verdicts import by_setting, of_setting, published_number, reduced
from terminator.runs import comparison, literature, records
from terminator.runs.claims import Records, Verdict, by_seed
from terminator.runs.outcomes import NOT_RUN, SEEDS, count_of_seeds
from terminator.runtime.settings import changed_settings
from terminator.runtime.settings_help import words_of

EXPERIMENT, PROFILE, EPOCHS = "headline", "paper", 100
ORIGINAL, COPY = PHOTOGRAPHS
NOT_KNOWN = (
    "What the same training reaches on the original images cannot be known from these runs: the "
    "files are JPEG (quality 75), the log is of the originals, one run."
)
NOT_BOTH = "What JPEG files cost: no seed has been trained on both, all else equal"


class Headline(NamedTuple):
    """Runs that repeat the released setting, on its pixels or on their copy as JPEG."""

    runs: Records  # of one setting and one kind of files, of any seed
    # {what differs: runs} of the other files, and of settings that count as released, too: how a
    # local context starts was read in two ways
    others: Mapping[str, Records]


def gathered() -> Headline:
    """The headline's runs by their records, finished ones and those under way."""
    return chosen(
        [
            record
            for status in (records.FINISHED, records.RUNNING)
            for record in records.load_records(EXPERIMENT, PROFILE, status)
        ]
    )


def chosen(found: Records, files: Sequence[str] = PHOTOGRAPHS) -> Headline:
    """The headline's runs among some records: on the published pixels before their copy, of the
    setting with most seeds, of such the one that has come furthest.

    Args:
        files: names of the data sets that are looked at.
    """
    fits = [r for r in found if records.task_of(r) == CLASSIFICATION.task and _fits(r, files)]

    def worth(group: Records) -> tuple[bool, int, int]:
        original = group[0]["data"]["name"] == ORIGINAL
        return original, len(by_seed(group)), max(len(run["epochs"]) for run in group)

    first, *others = sorted(by_setting(fits).values(), key=worth, reverse=True) or [[]]
    return Headline(first, {_difference(first[0], group[0]): group for group in others})


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The settings of another record that are not one's, as words of the command line."""
    theirs = records.config_of(other, Config)
    ours = records.config_of(one, Config).updated(train={"seed": theirs.train.seed})
    return ", ".join(words_of(changed_settings(theirs, ours)))


def _fits(record: Mapping[str, Any], files: Sequence[str]) -> bool:
    if (record["experiment"], record["profile"]) != (EXPERIMENT, PROFILE):
        return False
    data = record["data"]
    exact = {**record, "data": {**data, "notes": [n for n in data["notes"] if not _is_of_copy(n)]}}
    return (
        data["name"] in files
        and bool(record.get("epochs"))
        and not reduced(exact)
        and of_setting(record, preset("cifar10"), dataset=("name",), model=("local_context_init",))
    )


def _is_of_copy(note: str) -> bool:
    return note.startswith("lossy JPEG copy of ")


def log() -> pd.Series:
    """Test accuracy (%) per epoch in the released log of CIFAR-10."""
    logs = literature.released_logs()
    return logs[logs["dataset"] == "CIFAR-10"].set_index("epoch")["test_accuracy"]


def beside_the_log(found: Headline) -> pd.DataFrame:
    """A row per epoch that one of the runs has: the log, each seed, and the mean less the log, in
    percent and points; behind it the seeds of other settings.
    """
    ours = _by_epoch(found.runs, "seed {}")
    theirs = [_by_epoch(runs, f"seed {{}}, {what}") for what, runs in found.others.items()]
    table = ours.reindex(sorted({epoch for seeds in (ours, *theirs) for epoch in seeds.index}))
    table.insert(0, "released log", log().reindex(table.index))
    table["ours - log"] = ours.mean(axis=1) - table["released log"]
    return table.join(theirs).rename_axis("epoch")


def _by_epoch(found: Records, name: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name.format(seed): pd.Series(
                {row["epoch"]: row["test_accuracy"] for row in run["epochs"]}
            )
            for seed, run in sorted(by_seed(found).items())
        }
    )


def curves(found: Headline) -> dict[str, list[pd.DataFrame]]:
    """{what they are: the epochs of every run}, for a figure."""
    titles = {"ours, " + run["data"]["title"]: found.runs for run in found.runs[:1]}
    groups = {**titles, **{f"ours, {what}": runs for what, runs in found.others.items()}}
    return {
        title: [pd.DataFrame(run["epochs"]) for run in by_seed(runs).values()]
        for title, runs in groups.items()
    }


def log_so_far(found: Headline) -> pd.DataFrame:
    """The released log, for a figure: as far as twice the epochs that the runs have, ten at
    least.
    """
    most = max(10, 2 * max((len(run["epochs"]) for run in found.runs), default=0))
    table = log().rename_axis("epoch").reset_index()
    return table[table["epoch"] <= most]


def last_common_epoch(found: Sequence[Mapping[str, Any]]) -> int:
    """The last epoch that SEEDS of the runs have; of fewer runs, the last that any has."""
    reached = sorted((len(run["epochs"]) for run in by_seed(found).values()), reverse=True)
    return reached[SEEDS - 1] if len(reached) >= SEEDS else reached[0]


def follows_the_log(found: Records) -> Verdict:
    """Does the training follow the released log in its early epochs, on the published pixels?
    Judged at the last epoch that enough seeds have; the others are told.
    """
    return _follows(chosen(found, (ORIGINAL,)))


def follows_the_log_on_copies(found: Records) -> Verdict:
    """The same on JPEG files, with what these cost."""
    verdict = _follows(chosen(found, (COPY,)))
    costs = (copies_cost(chosen(found)), jpeg_cost([r for r in found if r["experiment"] == "jpeg"]))
    if verdict.word == NOT_RUN:
        return verdict
    return verdict._replace(evidence="; ".join([verdict.evidence, *filter(None, costs)]))


def copies_cost(found: Headline) -> str:
    """What JPEG files cost the headline's own training, by epoch and with the same seeds, in
    words; nothing where no seed was trained on both, all else equal.
    """
    return _gains(found, f"dataset.name={COPY}", "JPEG files less the published pixels")


def float32_gains(found: Headline) -> str:
    """What float32 gives in bf16's place, in the same way."""
    return _gains(found, "train.precision=float32", "Float32 less bf16")


def _gains(found: Headline, difference: str, name: str) -> str:
    """What a difference of settings gives wherever runs with and without it share seeds, be they
    those that are judged or others.
    """
    said = []
    for base, changed in permutations(filter(None, (found.runs, *found.others.values())), 2):
        if _difference(base[0], changed[0]) != difference:
            continue
        points = _by_epoch(changed, "seed {}") - _by_epoch(base, "seed {}")
        points = points.dropna(how="all").dropna(axis="columns", how="all")
        if not points.empty:
            shared = _difference(found.runs[0], base[0]) if changed is not found.runs else ""
            what = f"{name} with {shared}" if shared else name
            said.append(f"{what}, {', '.join(points)}, by epoch: {_told(points)}")
    return "; ".join(said)


def _follows(found: Headline) -> Verdict:
    if not found.runs:
        return Verdict(NOT_RUN)
    epoch = last_common_epoch(found.runs)
    reached = [_up_to(epoch, run) for run in found.runs if len(run["epochs"]) >= epoch]
    verdict = published_number(reached, float(log()[epoch]), _at(epoch))
    title = found.runs[0]["data"]["title"]
    evidence = [
        f"after epoch {epoch} of {EPOCHS}, {title}: {verdict.evidence}",
        f"ours less the log, by epoch: {_less_the_log(found.runs)}",
        *(f"with {what}: {_less_the_log(runs)}" for what, runs in found.others.items()),
    ]
    return verdict._replace(evidence="; ".join(evidence))


def _up_to(epoch: int, run: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the time that its training took up to an epoch: what others would cost."""
    return {**run, "wall_s": sum(row.get("seconds", 0.0) for row in run["epochs"][:epoch])}


def _less_the_log(runs: Records) -> str:
    points = _by_epoch(runs, "seed {}")
    return _told(points.sub(log().reindex(points.index), axis="index"))


def _told(points: pd.DataFrame) -> str:
    """Means over seeds (columns) by epoch (rows), in words."""
    counts = points.notna().sum(axis=1)
    unequal = counts.min() < counts.max()  # else the seeds are those that are named
    return ", ".join(
        f"{epoch} {value:+.2f}{f' ({count_of_seeds(counts[epoch])})' if unequal else ''}"
        for epoch, value in points.mean(axis=1).items()
    )


def _at(epoch: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda run: next(r["test_accuracy"] for r in run["epochs"] if r["epoch"] == epoch)


def jpeg_cost(found: Records, profile: str = "laptop") -> str:
    """What JPEG costs a small network, in words; nothing without records of that profile."""
    runs = [r for r in found if r["profile"] == profile]
    groups = CLASSIFICATION.records_of(studies.jpeg(profile).variants, runs)
    if not all(groups.values()):
        return ""
    table = comparison.difference_table(groups, studies.AS_THEY_ARE).set_index("variant")
    first, row = groups[studies.AS_THEY_ARE][0], table.loc[studies.AS_JPEG]
    interval = "no interval" if pd.isna(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"
    return (
        f"what JPEG costs a {first['model']} on {first['data']['title']} after "
        f"{first['config']['train']['epochs']} epochs: {row['difference']:+.2f} points ({interval})"
    )


def sentence(found: Headline) -> str:
    """How far the headline is, and how it stands to the log and to its other settings, in words."""
    if not found.runs:
        return (
            f"No record of the experiment {EXPERIMENT} ({PROFILE} profile) is in this results "
            f"folder: python -m terminator train preset=cifar10 train.precision=bf16 --profile "
            f"{PROFILE} --experiment {EXPERIMENT} makes one, from its first epoch on."
        )
    verdict, gap = _follows(found), beside_the_log(found)["ours - log"].dropna()
    on_copies = found.runs[0]["data"]["name"] == COPY
    cost = NOT_KNOWN if on_copies else f"{copies_cost(found) or NOT_BOTH}."
    precision = f" {gains}." if (gains := float32_gains(found)) else ""
    others = (
        f"With {what} ({_how_far(runs)}), less the log, by epoch: {_less_the_log(runs)}. "
        for what, runs in found.others.items()
    )
    return (
        f"{found.runs[0]['data']['title']}: {_how_far(found.runs)}. Less the log, by epoch: "
        f"{gap.min():+.2f} to {gap.max():+.2f} points, in the last one {gap.iloc[-1]:+.2f}. "
        f"{''.join(others)}Verdict: {verdict.said or verdict.word}. {cost}{precision}"
    )


def _how_far(found: Records) -> str:
    return ", ".join(
        f"seed {seed} after {len(run['epochs'])} of {EPOCHS} epochs"
        for seed, run in sorted(by_seed(found).items())
    )
