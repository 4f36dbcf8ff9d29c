"""The headline run: CIFAR-10 at full size with the released settings, epoch by epoch beside the
released log, as far as it has come; on JPEG files, which are a lossy copy.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from terminator.classification import studies
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.verdicts import by_setting, published_number, reduced
from terminator.runs import comparison, literature, records
from terminator.runs.claims import Records, Verdict, by_seed
from terminator.runs.outcomes import NOT_RUN, SEEDS

EXPERIMENT, PROFILE, EPOCHS = "headline", "paper", 100
NOT_KNOWN = (
    "What the same training reaches on the original images cannot be known from these runs: the "
    "files are JPEG (quality 75), the log is of the originals, one run."
)


def gathered() -> list[dict[str, Any]]:
    """The headline's records, finished ones and those under way."""
    found = [
        record
        for status in (records.FINISHED, records.RUNNING)
        for record in records.load_records(EXPERIMENT, PROFILE, status)
    ]
    return chosen(found)


def chosen(found: Records) -> list[dict[str, Any]]:
    """Those of some records that repeat the released setting but for its files (and the start of
    the local context, which was read in two ways): of the setting with most seeds, of such the one
    that has come furthest.
    """
    fits = [r for r in found if records.task_of(r) == CLASSIFICATION.task and _fits(r)]

    def worth(group: Records) -> tuple[int, int]:
        return len(by_seed(group)), max(len(run["epochs"]) for run in group)

    return max(by_setting(fits).values(), key=worth, default=[])


def _fits(record: Mapping[str, Any]) -> bool:
    if (record["experiment"], record["profile"]) != (EXPERIMENT, PROFILE):
        return False
    data = record["data"]
    exact = {**record, "data": {**data, "notes": [n for n in data["notes"] if not _is_of_copy(n)]}}
    return (
        record["model"] == "Terminator"
        and data["name"] in ("CIFAR10", "cifar10-jpeg")
        and record["config"]["train"]["epochs"] == EPOCHS
        and bool(record.get("epochs"))
        and not reduced(exact)
    )


def _is_of_copy(note: str) -> bool:
    return note.startswith("lossy JPEG copy of ")


def log() -> pd.Series:
    """Test accuracy (%) per epoch in the released log of CIFAR-10."""
    logs = literature.released_logs()
    return logs[logs["dataset"] == "CIFAR-10"].set_index("epoch")["test_accuracy"]


def beside_the_log(found: Records) -> pd.DataFrame:
    """A row per epoch that one of the runs has: the log, each seed, and the mean less the log, in
    percent and points.
    """
    ours = {
        f"seed {seed}": pd.Series({row["epoch"]: row["test_accuracy"] for row in run["epochs"]})
        for seed, run in sorted(by_seed(found).items())
    }
    table = pd.DataFrame(ours).rename_axis("epoch")
    table.insert(0, "released log", log().reindex(table.index))
    table["ours - log"] = table.drop(columns="released log").mean(axis=1) - table["released log"]
    return table


def frames(found: Records) -> list[pd.DataFrame]:
    """The epochs of every run, for a figure."""
    return [pd.DataFrame(run["epochs"]) for run in by_seed(found).values()]


def log_so_far(found: Records) -> pd.DataFrame:
    """The released log, for a figure: as far as twice the epochs that the runs have, ten at
    least.
    """
    most = max(10, 2 * max((len(run["epochs"]) for run in found), default=0))
    table = log().rename_axis("epoch").reset_index()
    return table[table["epoch"] <= most]


def last_common_epoch(found: Sequence[Mapping[str, Any]]) -> int:
    """The last epoch that SEEDS of the runs have; of fewer runs, the last that any has."""
    reached = sorted((len(run["epochs"]) for run in by_seed(found).values()), reverse=True)
    return reached[min(SEEDS, len(reached)) - 1] if len(reached) >= SEEDS else reached[0]


def follows_the_log(found: Records) -> Verdict:
    """Does the training follow the released log in its early epochs? Judged at the last epoch that
    enough seeds have; the others are told.
    """
    runs = chosen(found)
    if not runs:
        return Verdict(NOT_RUN)
    epoch = last_common_epoch(runs)
    reached = [run for run in runs if len(run["epochs"]) >= epoch]
    verdict = published_number(reached, float(log()[epoch]), _at(epoch))
    table = beside_the_log(runs)
    told = ", ".join(f"{e} {value:+.2f}" for e, value in table["ours - log"].items())
    title = runs[0]["data"]["title"]
    evidence = f"after epoch {epoch} of {EPOCHS}, {title}: {verdict.evidence}; ours less the log, "
    cost = jpeg_cost([r for r in found if r["experiment"] == "jpeg"])
    return verdict._replace(evidence=f"{evidence}by epoch: {told}" + (f"; {cost}" if cost else ""))


def _at(epoch: int) -> Callable[[Mapping[str, Any]], float]:
    return lambda run: next(r["test_accuracy"] for r in run["epochs"] if r["epoch"] == epoch)


def jpeg_cost(found: Records, profile: str = "laptop") -> str:
    """What JPEG costs a small network, in words; nothing without records of that profile."""
    runs = [r for r in found if r["profile"] == profile]
    groups = CLASSIFICATION.records_of(studies.jpeg(profile).variants, runs)
    if not groups[studies.AS_THEY_ARE]:
        return ""
    first, said = groups[studies.AS_THEY_ARE][0], []
    table = comparison.difference_table(groups, studies.AS_THEY_ARE).set_index("variant")
    for label, row in table[table["seeds"] > 0].drop(index=studies.AS_THEY_ARE).iterrows():
        interval = (
            "no interval" if pd.isna(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"
        )
        said.append(f"{label} {row['difference']:+.2f} points ({interval})")
    size = first["data"]["shape"][-1]
    halved = ", where the files' own compression is averaged away in part"
    return (
        f"what JPEG costs a {first['model']} at {size} pixels"
        f"{halved if profile == 'laptop' else ''}: {', '.join(said)}"
    )


def sentence(found: Records) -> str:
    """How far the headline is, and how it stands to the log, in words."""
    if not found:
        return (
            f"No record of the experiment {EXPERIMENT} ({PROFILE} profile) is here: python -m "
            "terminator train preset=cifar10 dataset.name=cifar10-jpeg train.precision=bf16 "
            f"--profile {PROFILE} --experiment {EXPERIMENT} makes one, from its first epoch on."
        )
    verdict, table = follows_the_log(found), beside_the_log(found)
    seeds = ", ".join(
        f"seed {seed} after {len(run['epochs'])} of {EPOCHS} epochs"
        for seed, run in sorted(by_seed(found).items())
    )
    gap = table["ours - log"]
    return (
        f"{found[0]['data']['title']}: {seeds}. Less than the log by at most "
        f"{max(0.0, -gap.min()):.2f} points in an epoch, in the last one {gap.iloc[-1]:+.2f}. "
        f"Verdict: {verdict.said or verdict.word}. {NOT_KNOWN}"
    )
