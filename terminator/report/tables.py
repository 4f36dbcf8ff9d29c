"""Tables of every study that has records: for notebook 90, and in short form for RESULTS.md.

All numbers come from records. A row is a setting, its numbers are means over seeds; columns that
say the same in every row go into the line above the table.
"""

import numbers
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from terminator.classification import studies
from terminator.classification.config import Config
from terminator.classification.presets import IMAGES, preset
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.verdicts import of_setting, reduced
from terminator.hamburger.gan.runs import GAN
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.hrrformer.studies import pathfinder_pictures
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.report.apart import tell_apart
from terminator.runs import literature, records
from terminator.runs.outcomes import values_text
from terminator.runs.system import System
from terminator.runtime import text
from terminator.runtime.settings import PROFILES

# each has records of its own
SYSTEMS: tuple[System, ...] = (CLASSIFICATION, FEW_SHOT, SEGMENTATION, LONG_RANGE, GAN)
SYSTEM_OF = {system.task: system for system in SYSTEMS}
RATES = "-rates"  # ends the name of an experiment that chose learning rates on held-out images
TITLES = {  # {experiment: what is compared, the notebook that shows it}, in the order of the tables
    "headline": ("The headline: CIFAR-10 at full size", "12_convergence"),
    "shipped": ("Models that come with the kit", "05_your_own_images"),
    "given": ("Models trained to be given away", ""),
    "images": ("Images", "11_images"),
    "jpeg": ("What JPEG costs", "12_convergence"),
    "networks": ("Networks", "12_convergence"),
    "networks-rates": ("Learning rates of the networks, on held-out images", "12_convergence"),
    "optimizers": ("Optimisers", "12_convergence"),
    "optimizers-rates": ("Learning rates of the optimisers, on held-out images", "12_convergence"),
    "ablations": ("Ablations", "13_ablations"),
    "sequences": ("Sequences of pixels", "10_sequential_images"),
    "inside": ("Trainings seen from inside, some for notebook 15", "14_slow_neural_loss"),
    "transformers": ("A small Transformer beside slow scores", "13_ablations"),
    "mixers": ("Global mixers on one bench", "30_one_bench"),
    "precision": ("Precision", "31_speed"),
    "segmentation_context": ("The context task, by context", "20_hamburger"),
    "segmentation_mixers": ("The context task, by global mixer", "20_hamburger"),
    "segmentation_mixers-rates": ("Learning rates of these mixers", "20_hamburger"),
    "segmentation_camvid": ("Segmentation with and without a Hamburger", "20_hamburger"),
    "segmentation_voc": ("Segmentation of PASCAL VOC 2012, in two stages", "20_hamburger"),
    "longrange": ("Long range tasks", "21_hrrformer"),
    "pathfinder_pictures": ("Pathfinder seen as pictures", "21_hrrformer"),
    "fewshot": ("Few-shot learning", "22_hypertransformer"),
    "gan": ("HamGAN", "20_hamburger"),
    "classifiers": ("Classifiers that judge generated images", "20_hamburger"),
}
HARDWARE, MINUTES, SEED_COUNT = "on", "minutes a run", "seeds"


# columns that stay, even where all rows agree
ALWAYS = {"what", SEED_COUNT} | {name for system in SYSTEMS for name in system.measures.values()}
# what a short form leaves out
LESS = {"batch", "tasks", "queries"} | {
    name for system in SYSTEMS for name in list(system.measures.values())[2:]
}


class StudyTable(NamedTuple):
    """One study: its experiment, its title, its notebook ("" where none is known), its rows."""

    experiment: str
    title: str
    notebook: str
    rows: pd.DataFrame

    def parts(self, brief: bool = False) -> tuple[str, pd.DataFrame]:
        """What all rows have in common, as a line; and the columns in which they differ."""
        rows = self.rows.drop(columns=[name for name in self.rows if brief and name in LESS])
        same = [
            name for name in rows if name not in ALWAYS and rows[name].astype(str).nunique() == 1
        ]
        common = [
            f"{name}: {_text(rows[name].iloc[0])}"
            for name in same
            if _text(rows[name].iloc[0]) != "-"
        ]
        return "; ".join(common), rows.drop(columns=same)


def study_tables(found: Iterable[dict[str, Any]]) -> list[StudyTable]:
    """A table per experiment that has one of these records, of whatever task; unknown experiments
    come last.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        groups.setdefault(record["experiment"], []).append(record)
    made = []
    for experiment in sorted(
        groups, key=lambda name: list(TITLES).index(name) if name in TITLES else len(TITLES)
    ):
        title, notebook = TITLES.get(experiment, (experiment, ""))
        rows = _rows(experiment, groups[experiment])
        if len(rows):
            made.append(StudyTable(experiment, title, notebook, rows))
    return made


def _rows(experiment: str, found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows of one experiment, of every task that has a table; benchmarks, say, have their
    own.
    """
    parts = []
    for system in SYSTEMS:
        own = [record for record in found if records.task_of(record) == system.task]
        parts.append(
            classification_table(experiment, own)
            if system is CLASSIFICATION
            else system_table(system, own)
        )
    return (
        pd.concat([part for part in parts if len(part)], ignore_index=True)
        if any(map(len, parts))
        else parts[0]
    )


# -- classification -------------------------------------------------------------------------------


def named(experiment: str, profile: str) -> dict[str, Config]:
    """{what a reader calls it: configuration} of a study's variants, see studies.named; and of what
    sees Pathfinder as pictures.
    """
    study = pathfinder_pictures(profile)
    more = study.variants if study.experiment == experiment else {}
    return {**studies.named(experiment, profile), **more}


def classification_table(experiment: str, found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting of an experiment: what, data, epochs, seeds, accuracies, published,
    hardware, profile.
    """
    groups = _by_setting(CLASSIFICATION, found)
    labels = {
        profile: named(experiment, profile) for profile in {group[0]["profile"] for group in groups}
    }
    rows = []
    for group in groups:
        of_name = CLASSIFICATION.records_of(labels[group[0]["profile"]], group[:1])
        names = [name for name, records_of in of_name.items() if records_of]
        rows.append(
            _classification_row(group, names[0] if names else CLASSIFICATION.label(group[0]))
        )
    same = ("what", "data", "training images", "epochs", "profile")
    tell_apart(CLASSIFICATION, rows, [group[0] for group in groups], same)
    order = {name: i for profile in PROFILES for i, name in enumerate(labels.get(profile, ()))}
    rows.sort(
        key=lambda row: (
            PROFILES.index(row["profile"]),
            order.get(row["what"], len(order)),
            row["data"],
        )
    )
    return pd.DataFrame(rows)


def _by_setting(system: System, found: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs that differ in their seed alone, in order of their first ones."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for record in found:
        key = system.setting(record), _epochs_so_far(record)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def _epochs_so_far(record: dict[str, Any]) -> int:
    """The epochs of a training that is not finished; 0 for a finished one."""
    return len(record["epochs"]) if record["status"] == records.RUNNING else 0


def _classification_row(group: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    first = group[0]
    data = first["data"]
    released, calibrated = (
        pd.Series([a for r in group if (a := _accuracy(r, protocol)) is not None], dtype=float)
        for protocol in ("released", "calibrated")
    )
    epochs, so_far = first["config"]["train"]["epochs"], _epochs_so_far(first)
    published = published_accuracy(first)
    size = "x".join(map(str, data["shape"][1:]))
    return {
        "what": name,
        "data": data["title"],
        "training images": f"{data['train_size']:,} of {size}",
        "epochs": f"after {so_far} of {epochs}" if so_far else epochs,
        SEED_COUNT: len({r["seed"] for r in group}),
        "accuracy (%)": values_text(list(released)),
        "calibrated (%)": values_text(list(calibrated)),
        "published (%)": "-" if published is None else f"{published:g}",
        "difference": "-" if published is None else f"{released.mean() - published:+.2f}",
        "parameters": first["parameters"],
        **_costs(group),
        "profile": first["profile"],
    }


def _accuracy(record: dict[str, Any], protocol: str) -> float | None:
    """Accuracy (%) of a run by a protocol; of one under way as released, after its last epoch."""
    if protocol in record["results"]:
        return record["results"][protocol]["accuracy"]
    if record["status"] == records.RUNNING and protocol == "released" and record["epochs"]:
        return record["epochs"][-1]["test_accuracy"]
    return None


def _costs(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        MINUTES: round(sum(r["wall_s"] for r in group) / len(group) / 60, 1),
        HARDWARE: "; ".join(sorted({r["device"] for r in group})),
    }


def published_accuracy(record: dict[str, Any]) -> float | None:
    """The published accuracy (%) of the same network on the same data after as many epochs, if
    there is one.

    Only for what was published: the settings of a preset that repeats it, and data at full size.
    """
    if (
        record["experiment"] != "images"
        or record["status"] == records.RUNNING
        or reduced(record)
        or not any(of_setting(record, preset(name)) for name in ("digits", *IMAGES["paper"]))
    ):
        return None
    table = literature.literature()
    same = table[
        (table["dataset"] == record["data"]["title"])
        & (table["model"] == record["model"])
        & (table["epoch"] == record["config"]["train"]["epochs"])
    ]
    return float(same["value"].iloc[0]) if len(same) else None


# -- the other systems -----------------------------------------------------------------------------


def system_table(system: System, found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting of a system's runs: what `row` says; numbers in `measures` as mean ±
    deviation over seeds.
    """
    rows, groups = [], _by_setting(system, found)
    told: dict[str, int] = {}  # names of columns, in order: how many rows have them
    for group in groups:
        cells, measured = {}, {}
        each = pd.DataFrame([system.row(record) for record in group])
        averaged = system.measures or {name: name for name in each.select_dtypes("floating")}
        for name in each:
            if name in averaged:
                values = pd.to_numeric(each[name]).dropna()
                measured[averaged[name]] = values_text(list(values))
            elif each[name].astype(str).nunique() == 1:
                cells[name] = each[name].iloc[0]
        # in the system's order
        measured = {name: measured[name] for name in averaged.values() if name in measured}
        told |= {name: told.get(name, 0) + 1 for name in cells}
        rows.append(
            {
                "what": system.label(group[0]),
                "data": group[0]["data"]["title"],
                **cells,
                SEED_COUNT: len({r["seed"] for r in group}),
                **measured,
                "parameters": group[0]["parameters"],
                **_costs(group),
                "profile": group[0]["profile"],
            }
        )
    if not rows:
        return pd.DataFrame()
    tell_apart(system, rows, [g[0] for g in groups], ("what", "data", *sorted(told), "profile"))
    table = pd.DataFrame(rows).drop(columns="method", errors="ignore")
    shared = [name for name, count in told.items() if count == len(rows)]
    others = [name for name in told if name not in shared]
    return table.sort_values(
        [name for name in ("profile", "data", *shared, "what", *others) if name in table],
        ignore_index=True,
        key=lambda column: column if pd.api.types.is_numeric_dtype(column) else column.astype(str),
    )


# -- Markdown --------------------------------------------------------------------------------------


NO_RECORDS = (
    "No records yet (of the command line's own experiment, cli, and of the profile smoke none is "
    "shown)."
)


def result_tables(notebooks: str | None = None) -> str:
    """All results, Markdown: one small table per study, from the records that are evidence.

    Args:
        notebooks: see document.
    """
    found = [record for system in SYSTEMS for record in records.evidence(system.task)]
    found += [r for r in records.evidence(CLASSIFICATION.task, records.RUNNING) if r["epochs"]]
    # no choices of settings
    results = [table for table in study_tables(found) if not table.experiment.endswith(RATES)]
    return document(results, notebooks, brief=True) or NO_RECORDS


def document(
    studied: Iterable[StudyTable],
    notebooks: str | None = "",
    brief: bool = False,
    rows: int | None = None,
) -> str:
    """Tables with their titles in Markdown.

    Args:
        studied: the tables.
        notebooks: the way to their folder, for links; None: no links.
        brief: without the columns that a short form leaves out.
        rows: of each table, of which the rest is counted; None: all.
    """
    blocks = []
    for table in studied:
        common, found = table.parts(brief)
        link = f"[{table.notebook[:2]}]({notebooks}{table.notebook}.ipynb)"
        where = f" ({link if notebooks is not None else table.notebook})" * bool(table.notebook)
        said = text.markdown(f"{common[:1].upper()}{common[1:]}")
        shown = markdown(found if rows is None else found.head(rows))
        if rows is not None and len(found) > rows:
            name = text.markdown(f"study_{table.experiment}.csv")
            shown += f"\n\n{len(found) - rows} more rows stand in {name}."
        blocks.append(f"**{text.markdown(table.title)}**{where}. {said}.\n\n{shown}")
    return "\n\n".join(blocks)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    lines = [
        "| " + " | ".join(map(text.markdown, table.columns)) + " |",
        "|---" * len(table.columns) + "|",
    ]
    lines += [
        "| " + " | ".join(text.markdown(_text(value)) for value in row) + " |"
        for row in table.itertuples(index=False)
    ]
    return "\n".join(lines)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "-"
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return f"{value:,}"
    return (
        f"{value:g}"
        if isinstance(value, numbers.Real) and not isinstance(value, bool)
        else str(value)
    )
