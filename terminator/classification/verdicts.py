"""Verdicts on claims about classification, from records: functions that make `Claim.verdict`."""

from collections.abc import Callable
from dataclasses import is_dataclass
from statistics import mean
from typing import Any

import pandas as pd

from terminator.classification import report
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import literature, observations
from terminator.runs.claims import SEEDS, Records, Verdict, by_seed, described, deviation, spread
from terminator.runs.comparison import HOLDS, NOT, NOT_RUN, PARTLY, UNSETTLED
from terminator.runtime.settings import from_dict, identity, to_dict

CLOSE, NEAR = (
    0.5,
    2.0,
)  # points of accuracy below a published number that still count as reached, and as partly


def against(values: list[float], published: float, runs: Records) -> Verdict:
    """Of accuracies (%) over seeds and a published one; see CLOSE and NEAR."""
    evidence = f"{spread(values)} % against {published:g} %, {described(runs)}"
    if len(values) < SEEDS:
        return Verdict(UNSETTLED, evidence)
    ours = mean(values)
    return Verdict(
        HOLDS if ours >= published - CLOSE else PARTLY if ours >= published - NEAR else NOT,
        evidence,
    )


def reaches(
    published: float,
    data: str,
    epochs: int,
    *,
    at: int | None = None,
    profile: str | None = None,
    experiment: str = "images",
    protocol: str = "released",
) -> Callable[[Records], Verdict]:
    """Is Terminator's mean accuracy (%) over seeds, after so many epochs, that of the published
    number?

    Args:
        data: the data set's name in a record.
        at: an earlier epoch of such runs.
        profile: only of this one.

    Where runs of several settings fit, the setting with most seeds counts; the others are not
    pooled with it.
    """

    def verdict(found: Records) -> Verdict:
        runs = [
            r
            for r in found
            if r["data"]["name"] == data
            and r["config"]["train"]["epochs"] == epochs
            and r["model"] == "Terminator"
            and r["experiment"] == experiment
            and profile in (None, r["profile"])
        ]
        if not runs:
            return Verdict(NOT_RUN)
        runs = max(_by_setting(runs).values(), key=len)
        return against([_accuracy(r, at, protocol) for r in runs], published, runs)

    return verdict


def _accuracy(record: dict[str, Any], epoch: int | None, protocol: str) -> float:
    if epoch is None:
        return record["results"][protocol]["accuracy"]
    return next(
        row["test_accuracy"] for row in record["epochs"] if row["epoch"] == epoch
    )  # as released


def _by_setting(runs: Records) -> dict[str, list[dict[str, Any]]]:
    """Runs that differ in their seed alone, one per seed."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(CLASSIFICATION.setting(run), []).append(run)
    return {key: list(by_seed(group).values()) for key, group in groups.items()}


def better_with(
    key: str, value: Any, other: Any, free: str | None = None
) -> Callable[[Records], Verdict]:
    """Is accuracy higher with setting `key` at `value` than at `other`, all else equal, on every
    data set?

    Args:
        key: a dot-list key, e.g. "optimizer.name".
        free: a group of settings that may differ as well, say "optimizer", where each side has its
            own best setting.

    Two seeds of each at least. A difference is clear where it exceeds both standard deviations: the
    claim holds if it is clear everywhere, partly if somewhere, does not if only the opposite is
    clear, else it is not settled.
    """

    def verdict(found: Records) -> Verdict:
        groups: dict[str, dict[bool, dict[str, list[dict[str, Any]]]]] = {}
        where: dict[str, str] = {}
        for r in found:
            config = from_dict(Config, r["config"]).updated(train={"seed": Config().train.seed})
            has = _value(config, key)
            if has in (value, other):
                open_part = free or key
                rest = config.updated(**_nested(open_part, _value(Config(), open_part)))
                same = repr(identity(rest)) + r["data"]["fingerprint"]
                where[same] = _place(r)
                side = groups.setdefault(same, {True: {}, False: {}})[has == value]
                side.setdefault(repr(config), []).append(r)
        pairs = {}
        for same, sides in groups.items():
            several = [
                [
                    values
                    for runs in sides[which].values()
                    if len(values := _accuracies(runs)) >= SEEDS
                ]
                for which in (True, False)
            ]
            if all(several):
                pairs[where[same]] = [max(side, key=mean) for side in several]
        return _of_pairs(pairs, value, other)

    return verdict


def _of_pairs(pairs: dict[str, list[list[float]]], value: Any, other: Any) -> Verdict:
    """The verdict of better_with from {place: [accuracies with value, with other]}."""
    if not pairs:
        return Verdict(NOT_RUN, "no two seeds of records that differ in this alone")
    lead = [(mean(a) - mean(b), max(deviation(a), deviation(b))) for a, b in pairs.values()]
    better = [difference > noise for difference, noise in lead]
    worse = [difference < -noise for difference, noise in lead]
    text = "; ".join(
        f"{spread(a)} % with {value}, {spread(b)} % with {other} ({place})"
        for place, (a, b) in pairs.items()
    )
    word = HOLDS if all(better) else PARTLY if any(better) else NOT if any(worse) else UNSETTLED
    return Verdict(word, text)


def _accuracies(runs: Records) -> list[float]:
    return [run["results"]["released"]["accuracy"] for run in by_seed(runs).values()]


def keeps_accuracy_when_calibrated(found: Records) -> Verdict:
    """Are fixed statistics as good as those of the test batch? Within CLOSE points, in the 2-D
    table's settings.
    """
    runs = [r for r in found if r["experiment"] == "images" and "calibrated" in r["results"]]
    groups = [group for group in _by_setting(runs).values() if len(group) >= SEEDS]
    if not groups:
        return Verdict(NOT_RUN, "no two seeds of one setting")
    gains = [
        mean(
            r["results"]["calibrated"]["accuracy"] - r["results"]["released"]["accuracy"]
            for r in group
        )
        for group in groups
    ]
    good = [gain >= -CLOSE for gain in gains]
    text = "; ".join(
        f"{group[0]['data']['title']} {gain:+.2f} points ({described(group)})"
        for group, gain in zip(groups, gains, strict=True)
    )
    return Verdict(HOLDS if all(good) else PARTLY if any(good) else NOT, text)


def sequences_reach(titles: dict[str, tuple[str, str]], model: str) -> Callable[[Records], Verdict]:
    """Does the better reading of the one-dimensional operator reach another model's published
    numbers at full length?

    Args:
        titles: {data set in the literature: (dataset.name, dataset.view)}.
        model: whose numbers (literature.csv).
    """

    def verdict(found: Records) -> Verdict:
        table = literature.literature("sequences")
        published = table[table["model"] == model].set_index("dataset")["value"]
        single = []
        for title, of in titles.items():
            runs = [
                r
                for r in found
                if r["experiment"] == "sequences"
                and r["profile"] == "paper"
                and (r["config"]["dataset"]["name"], r["config"]["dataset"]["view"]) == of
            ]
            for group in _by_setting(runs).values():
                got = against(
                    [r["results"]["released"]["accuracy"] for r in group], published[title], group
                )
                single.append((title, from_dict(Config, group[0]["config"]).model.operator, got))
        if not single:
            return Verdict(NOT_RUN, "no record of full length yet")
        best = {
            title: min((got.word for t, _, got in single if t == title), key=_RANK.index)
            for title, _, _ in single
        }
        text = "; ".join(f"{title}, {reading}: {got.evidence}" for title, reading, got in single)
        if len(best) < len(titles):
            return Verdict(
                UNSETTLED, f"{text}; nothing on {', '.join(titles.keys() - best.keys())}"
            )
        words = set(best.values())
        return Verdict(
            words.pop()
            if len(words) == 1
            else PARTLY
            if HOLDS in words
            else max(words, key=_RANK.index),
            text,
        )

    return verdict


_RANK = [HOLDS, PARTLY, UNSETTLED, NOT]


def features_keep_mean_zero(found: Records) -> Verdict:
    """Do features keep a mean below report.ZERO standard deviations, in every epoch, block and
    seed?
    """
    watched = [
        r
        for r in found
        if r["config"]["train"].get("observe")
        and r["model"] == "Terminator"
        and (CLASSIFICATION.folder_of(r) / "observations.csv").is_file()
    ]
    groups = [group for group in _by_setting(watched).values() if len(group) >= SEEDS]
    if not groups:
        return Verdict(NOT_RUN, "no two seeds of one training that was watched from inside")
    good, texts = [], []
    for group in groups:
        table = report.feature_table(
            pd.concat(
                [
                    observations.read_numbers(CLASSIFICATION.folder_of(r)).assign(
                        network="Terminator", seed=r["seed"]
                    )
                    for r in group
                ],
                ignore_index=True,
            )
        )
        largest = table.set_index("features")["largest |mean| / sd"]
        good += list(largest < report.ZERO)
        each = ", ".join(f"{part} {value:.2f}" for part, value in largest.items())
        texts.append(
            f"largest |mean| in deviations: {each} ({_place(group[0])}, {described(group)})"
        )
    return Verdict(HOLDS if all(good) else PARTLY if any(good) else NOT, "; ".join(texts))


def _place(record: dict[str, Any]) -> str:
    """What was trained on, in short: "MNIST, 1,000 images of 14 pixels, 3 epochs, laptop"."""
    data = record["data"]
    return (
        f"{data['title']}, {data['train_size']:,} images of {data['shape'][-1]} pixels, "
        f"{record['config']['train']['epochs']} epochs, {record['profile']}"
    )


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _nested(key: str, value: Any) -> dict[str, Any]:
    value = to_dict(value) if is_dataclass(value) else value
    for part in reversed(key.split(".")):
        value = {part: value}
    return value
