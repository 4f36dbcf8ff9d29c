"""What the papers claim, and what our records say to it: results/REPRODUCIBILITY.md.

CLAIMS is the one list. A claim's verdict is computed from the records by a small function, so nobody types one:
    def verdict(records) -> Verdict
Add a claim with the notebook that tests it; `python -m terminator tables` writes the page afresh.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from terminator import records
from terminator.config import Config, from_dict, identity, to_dict
from terminator.paths import atomic_write, results_dir

HOLDS, PARTLY, NOT, NOT_RUN = "holds", "partly", "does not", "not run"
CLOSE, NEAR = 0.5, 2.0  # points of accuracy below a published number that still count as reached, and as partly
Records = Sequence[dict[str, Any]]


class Verdict(NamedTuple):
    """One of HOLDS, PARTLY, NOT, NOT_RUN, and the evidence for it in words; run ids where there are some."""

    word: str
    evidence: str = "no record yet"


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    system: whose;  text: the claim;  source: where it stands;  notebook: that tests it, without suffix;
    verdict: from the records that are evidence;  settles: what would settle it.
    """

    system: str
    text: str
    source: str
    notebook: str
    verdict: Callable[[Records], Verdict]
    settles: str


# -- verdicts ----------------------------------------------------------------------------------------------------


def reaches(published: float, data: str, epochs: int, *, model: str = "Terminator", profile: str | None = None,
            protocol: str = "released") -> Callable[[Records], Verdict]:
    """Is the mean accuracy (%) over seeds after so many epochs that of the published number?

    Args:  data: the data set's name in a record;  profile: only of this one;  see CLOSE and NEAR.
    """
    def verdict(found: Records) -> Verdict:
        runs = [r for r in found if r["data"]["name"] == data and r["config"]["train"]["epochs"] == epochs
                and r["model"] == model and profile in (None, r["profile"])]
        if not runs:
            return Verdict(NOT_RUN)
        values = [r["results"][protocol]["accuracy"] for r in runs]
        ours = mean(values)
        word = HOLDS if ours >= published - CLOSE else PARTLY if ours >= published - NEAR else NOT
        return Verdict(word, f"{_spread(values)} % against {published} %, {_of(runs)}")
    return verdict


def better_with(key: str, value: Any, other: Any, free: str | None = None) -> Callable[[Records], Verdict]:
    """Is accuracy higher with setting `key` at `value` than at `other`, all else equal, on every data set?

    Args:  key: a dot-list key, e.g. "optimizer.name";  free: a group of settings that may differ as well, say
           "optimizer", where each side has its own best setting.
    Two seeds of each at least. Holds if the mean is higher by more than both standard deviations everywhere, partly
    if somewhere; the evidence says where.
    """
    def verdict(found: Records) -> Verdict:
        groups: dict[str, dict[bool, dict[str, list[float]]]] = {}
        where: dict[str, str] = {}
        for r in found:
            config = from_dict(Config, r["config"]).updated(train={"seed": Config().train.seed})
            has = _value(config, key)
            if has in (value, other):
                open_part = free or key
                rest = config.updated(**_nested(open_part, _value(Config(), open_part)))
                same = repr(identity(rest)) + r["data"]["fingerprint"]
                where[same] = _setting(r)
                side = groups.setdefault(same, {True: {}, False: {}})[has == value]
                side.setdefault(repr(config), []).append(r["results"]["released"]["accuracy"])
        several = {same: [[runs for runs in sides[which].values() if len(runs) > 1] for which in (True, False)]
                   for same, sides in groups.items()}
        pairs = {where[same]: [max(side, key=mean) for side in sides] for same, sides in several.items() if all(sides)}
        if not pairs:
            return Verdict(NOT_RUN, "no two seeds of records that differ in this alone")
        clear = [mean(a) - mean(b) > max(_sd(a), _sd(b)) for a, b in pairs.values()]
        text = "; ".join(f"{_spread(a)} % with {value}, {_spread(b)} % with {other} ({place})"
                         for place, (a, b) in pairs.items())
        return Verdict(HOLDS if all(clear) else PARTLY if any(clear) else NOT, text)
    return verdict


def keeps_accuracy_when_calibrated(found: Records) -> Verdict:
    """Are fixed statistics as good as those of the test batch? Within CLOSE points on every data set."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for r in found:
        if r["model"] == "Terminator" and "calibrated" in r["results"]:
            groups.setdefault(r["data"]["title"], []).append(r)
    if not groups:
        return Verdict(NOT_RUN)
    gains = {title: mean(r["results"]["calibrated"]["accuracy"] - r["results"]["released"]["accuracy"] for r in runs)
             for title, runs in groups.items()}
    good = [gain >= -CLOSE for gain in gains.values()]
    text = "; ".join(f"{title} {gain:+.2f} points ({_of(groups[title])})" for title, gain in gains.items())
    return Verdict(HOLDS if all(good) else PARTLY if any(good) else NOT, text)


def never_run(found: Records) -> Verdict:
    """For a claim whose test has no record yet that could speak to it."""
    return Verdict(NOT_RUN)


def _setting(record: dict[str, Any]) -> str:
    """What was trained on, in short: "MNIST, 1,000 images of 14 pixels, 3 epochs, laptop"."""
    data = record["data"]
    return (f"{data['title']}, {data['train_size']:,} images of {data['shape'][-1]} pixels, "
            f"{record['config']['train']['epochs']} epochs, {record['profile']}")


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _nested(key: str, value: Any) -> dict[str, Any]:
    value = to_dict(value) if is_dataclass(value) else value
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _sd(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _spread(values: Sequence[float]) -> str:
    return records.mean_and_spread(mean(values), _sd(values) if len(values) > 1 else None)


def _of(runs: Records) -> str:
    profiles = ", ".join(sorted({r["profile"] for r in runs}))
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {profiles}"


# -- the claims ----------------------------------------------------------------------------------------------------

PAPER = "arXiv 2401.17948"
LOG = "accuracy logs of the released code"
GPU = "`run_all.py --profile paper --only 11*` on a GPU with the original data, three seeds"

CLAIMS: list[Claim] = [
    Claim("Terminator", "CIFAR-10: 95.31 % after 100 epochs", LOG, "11_images",
          reaches(95.31, "CIFAR10", 100, profile="paper"), GPU),
    Claim("Terminator", "CIFAR-10: 92.89 % after 20 epochs already", LOG, "12_convergence",
          reaches(92.89, "CIFAR10", 20, profile="paper"), "a 20-epoch run on the original CIFAR-10, three seeds"),
    Claim("Terminator", "CIFAR-100: 75.43 % after 100 epochs", LOG, "11_images",
          reaches(75.43, "CIFAR100", 100, profile="paper"), GPU),
    Claim("Terminator", "digits 8x8: 98.9 % after six epochs", "one run of the released code (literature.csv)",
          "11_images", reaches(98.9, "digits", 6), "settled by three seeds, unless more seeds move the mean"),
    Claim("Terminator", "predictions need the statistics of the test batch no more than fixed ones",
          "follows from standardisation without running statistics; not claimed by the paper, asked by its readers",
          "11_images", keeps_accuracy_when_calibrated, "paper runs with both evaluations"),
    Claim("Terminator", "the slow neural loss helps", PAPER, "14_slow_neural_loss",
          better_with("train.slow_neural_loss", 1.0, 0.0), "pairs with train.slow_neural_loss=1 and 0, three seeds"),
    Claim("Terminator", "Kar3 trains better than AdamW", PAPER, "12_convergence",
          better_with("optimizer.name", "Kar3", "AdamW", free="optimizer"),
          "pairs of equal length, each with a tuned learning rate"),
    Claim("Terminator", "G-IBS is better than batch standardisation", PAPER, "13_ablations",
          better_with("model.standardization", "g_ibs", "batch"), "pairs with model.standardization=g_ibs and batch"),
    Claim("Terminator", "the hyper interaction helps", PAPER, "13_ablations",
          better_with("model.hyper_interaction", True, False), "pairs with model.hyper_interaction=True and False"),
    Claim("Terminator", "the hyper-channel interaction helps", PAPER, "13_ablations",
          better_with("model.hyper_channel_interaction", True, False),
          "pairs with model.hyper_channel_interaction=True and False"),
    Claim("Terminator", "the gated units (RGU) help", PAPER, "13_ablations",
          better_with("model.rgu", True, False), "pairs with model.rgu=True and False"),
    Claim("Terminator", "sMNIST, pMNIST and sCIFAR10 at the level of state-space models", PAPER, "10_sequential_images",
          never_run, "both readings of the one-dimensional operator at full length"),
    Claim("Terminator", "features keep mean zero over training", PAPER, "15_feature_statistics",
          never_run, "statistics per block and epoch beside a batch-normed network"),
]


# -- the page --------------------------------------------------------------------------------------------------------


def claims_table(found: Records) -> list[dict[str, str]]:
    """One row per claim: system, claim, source, notebook, verdict, evidence, what would settle it."""
    rows = []
    for claim in CLAIMS:
        word, evidence = claim.verdict(found)
        rows.append({"system": claim.system, "claim": claim.text, "source": claim.source, "notebook": claim.notebook,
                     "verdict": word, "evidence": evidence, "what would settle it": claim.settles})
    return rows


def checklist(found: Records) -> list[tuple[str, str]]:
    """The fields of the machine learning reproducibility checklist that records can answer, and where the rest is."""
    settings = records.summary_table(found)
    hours = sum(r["wall_s"] for r in found) / 3600
    seeds = sorted({len(group) for _, group in records.runs_table(found).groupby(["setting"])}) if found else []
    commits = sorted({(r["provenance"]["commit"] or "unknown")[:10] for r in found})
    return [
        ("Models and algorithms described", "docstrings name equation and source; notebooks 01 to 03"),
        ("Complexity", "operations and memory against size: notebook 02; FLOPs per image in every record"),
        ("Data: statistics and splits", "; ".join(sorted(
            {f"{r['data']['title']}: {r['data']['train_size']:,} to train, {r['data']['test_size']:,} to test"
             for r in found})) or "none yet"),
        ("Data: what was left out or changed", "; ".join(sorted(
            {note for r in found for note in r["data"]["notes"]})) or "nothing noted"),
        ("Data: how to get it", "README; `python -m terminator datasets`"),
        ("Dependencies", "pyproject.toml, environment.yml; exact versions in every record"),
        ("Training and evaluation code", "`python run_all.py`; `python -m terminator train | evaluate`"),
        ("Trained models", "made again from a record's settings; weights are not committed"),
        ("Hyper-parameters, and how they were chosen", "in every record; the release's where it had them. No search on "
         "test data, except that comparisons of optimisers take each one's best setting; the last epoch counts"),
        ("Exact number of runs", f"{len(found)} runs of {len(settings)} settings, "
         f"{' or '.join(map(str, seeds)) or 'no'} seeds each"),
        ("Measure", "test accuracy (%) after the last epoch, in two evaluations (README)"),
        ("Central tendency and variation", "mean and standard deviation over seeds (n - 1)"),
        ("Run time", f"{hours:.1f} hours of training in all; per run in results/index.csv"),
        ("Computing infrastructure", "; ".join(sorted({r["device"] for r in found})) or "none yet"),
        ("Code version", f"commits {', '.join(commits) or 'none yet'}; source hash in every record"),
    ]


def page() -> str:
    """results/REPRODUCIBILITY.md from the records that are evidence."""
    found = records.evidence()
    rows = claims_table(found)
    counts = {word: sum(row["verdict"] == word for row in rows) for word in (HOLDS, PARTLY, NOT, NOT_RUN)}
    head = list(rows[0])
    lines = ["# What the papers claim, and what our records say", "",
             "Made by `python -m terminator tables` from the records in `results/runs` (laptop and paper profiles) and "
             "the list in `terminator/claims.py`; nothing here is typed by hand. An accuracy *holds* when our mean is "
             f"at most {CLOSE} points below the published number, *partly* up to {NEAR} points; a comparison holds "
             "where the means differ by more than both standard deviations.", "",
             ", ".join(f"{word}: {count}" for word, count in counts.items()) + ".", "",
             "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row[name].replace("|", "/") for name in head) + " |" for row in rows]
    lines += ["", "## Reproducibility checklist", "", "| field | answer |", "|---|---|"]
    lines += [f"| {field} | {answer.replace('|', '/')} |" for field, answer in checklist(found)]
    return "\n".join(lines) + "\n"


def write_page() -> Path:
    """Write results/REPRODUCIBILITY.md and return its path."""
    return atomic_write(results_dir() / "REPRODUCIBILITY.md", page())
