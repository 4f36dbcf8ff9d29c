"""Verdicts on claims about classification, from records: functions that make `Claim.verdict`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass, replace
from statistics import mean
from typing import Any

from terminator.classification import studies
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import comparison, literature, records
from terminator.runs.against import against_number
from terminator.runs.claims import (
    PROFILES,
    Records,
    Verdict,
    by_seed,
    everywhere,
    of_outcome,
    seeds_and_profiles,
)
from terminator.runs.comparison import accuracy_of, accuracy_terms
from terminator.runs.outcomes import (
    HOLDS,
    NO_WORSE,
    NOT,
    NOT_RUN,
    UNDECIDED,
    Outcome,
    Terms,
    sampled,
)
from terminator.runs.proof import compare
from terminator.runs.study import Contest, Study, firsts
from terminator.runtime.settings import identity, to_dict

BLOCKS = 5  # of the released network
CLOSE = 0.5  # points of accuracy below a published number that still count as reached


def published_number(
    runs: Records, published: float, measure: Callable[[Any], float] = accuracy_of
) -> Verdict:
    """Do accuracies (%) of runs in the published setting reach the number, less CLOSE, by their
    interval?
    """
    if not runs:
        return Verdict(NOT_RUN)
    names = (f"ours ({seeds_and_profiles(runs)})", "the published")
    terms = Terms(CLOSE, CLOSE, ceiling=None, digits=2)
    return of_outcome(against_number(sampled(runs, measure), published, names, terms))


def reaches(
    published: float,
    data: str,
    epochs: int,
    *,
    setting: Config | None = None,
    at: int | None = None,
    profile: str | None = None,
    experiment: str = "images",
    protocol: str = "released",
) -> Callable[[Records], Verdict]:
    """Is Terminator's accuracy (%), after so many epochs, that of the published number?

    Args:
        data: the data set's name in a record.
        setting: of which such runs have to be; see of_setting.
        at: an earlier epoch of such runs.
        profile: only of this one.

    Where runs of several settings fit, the setting with most seeds counts; the others are not
    pooled with it. A copy, a part or another size of the data is another setting: such runs are
    named, and count as none.
    """

    def verdict(found: Records) -> Verdict:
        runs = [r for r in found if r["model"] == "Terminator" and r["experiment"] == experiment]
        fits = [
            r
            for r in runs
            if r["data"]["name"] == data
            and r["config"]["train"]["epochs"] == epochs
            and profile in (None, r["profile"])
            and not reduced(r)
            and (setting is None or of_setting(r, setting))
        ]
        if not fits:
            near = {_differs(r) for r in runs if r["data"]["name"].lower().startswith(data.lower())}
            said = f"; not the published setting: {'; '.join(sorted(near))}" if near else ""
            return Verdict(NOT_RUN, f"no record yet{said}")
        fits = max(by_setting(fits).values(), key=len)
        return published_number(fits, published, lambda r: _accuracy(r, at, protocol))

    return verdict


COMPUTED = ("precision", "compile", "deterministic", "observe")  # how, not what is trained


def of_setting(record: Mapping[str, Any], setting: Config, **free: Sequence[str]) -> bool:
    """Whether a record is of these settings, with whatever seed and however it was computed.

    Args:
        free: further settings that may differ, {group: names}.
    """
    theirs = records.config_of(record, Config)
    free = {**free, "train": ("seed", *COMPUTED, *free.get("train", ()))}
    changes = {
        group: {name: getattr(getattr(theirs, group), name) for name in names}
        for group, names in free.items()
    }
    return CLASSIFICATION.is_of(dict(record), setting.updated(**changes))


def reduced(record: Mapping[str, Any]) -> bool:
    """Whether a run's data are a part, a lossy copy or another size of those that were published,
    or were tested on held-out training images.
    """
    return any(
        (" of " in note and "images" in note)
        or note.startswith("resized")
        or "lossy" in note
        or "held-out" in note
        for note in record["data"]["notes"]
    )


def _differs(record: Mapping[str, Any]) -> str:
    data, epochs = record["data"], record["config"]["train"]["epochs"]
    return f"{data['title']}, {', '.join(data['notes'])}, {epochs} epochs, {record['profile']}"


def _accuracy(record: Mapping[str, Any], epoch: int | None, protocol: str) -> float:
    if epoch is None:
        return accuracy_of(record, protocol)
    # as released
    return next(row["test_accuracy"] for row in record["epochs"] if row["epoch"] == epoch)


def by_setting(runs: Records) -> dict[str, list[dict[str, Any]]]:
    """Runs that differ in their seed alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(CLASSIFICATION.setting(run), []).append(run)
    return groups


def put(places: dict[str, Outcome], at: str, found: Outcome, of: Mapping[str, Any]) -> None:
    """Add the outcome of a run's setting at a place; where another setting has that place already,
    in what a place does not say (precision, say), under its own name.
    """
    if at in places:
        at = f"{at}, setting {CLASSIFICATION.setting_name(dict(of))}"
    places[at] = found


# -- parts and settings ----------------------------------------------------------------------------


def better_with(key: str, value: Any, other: Any) -> Callable[[Records], Verdict]:
    """Is accuracy higher with setting `key` at `value` than at `other`, all else equal, on every
    data set?

    Args:
        key: a dot-list key, e.g. "model.rgu".

    The ablations are a table of many variants against one network, and judged as such (as in
    notebook 13).
    """

    def verdict(found: Records) -> Verdict:
        places = _in_ablations(found, key, value, other)
        groups: dict[str, tuple[list, list]] = {}
        for r in found:
            config = records.config_of(r, Config).updated(train={"seed": Config().train.seed})
            has = _value(config, key)
            if has in (value, other) and not _elsewhere_judged(r):
                rest = config.updated(**_nested(key, _value(Config(), key)))
                same = repr(identity(rest)) + r["data"]["fingerprint"] + r["profile"]
                groups.setdefault(same, ([], []))[has != value].append(r)
        for sides in groups.values():
            if all(sides):
                names = (_named(key, value), _named(key, other))
                put(places, place_of(sides[0][0]), _compared(sides, names), sides[0][0])
        return everywhere(places)

    return verdict


def wins(make: Callable[[str], Contest], a: str, b: str) -> Callable[[Records], Verdict]:
    """Does candidate a of a contest reach a higher accuracy than b, each at a rate of its own: the
    one with most seeds, among equals that with the lowest training loss?

    Args:
        make: gives a profile's contest; the first profile that has runs of both speaks.
    """

    def verdict(runs: Records) -> Verdict:
        for profile in PROFILES:
            contest = make(profile)
            if {a, b} <= contest.candidates.keys():
                sides = [_finals(contest, label, runs, profile) for label in (a, b)]
                if all(sides):
                    found = _compared(sides, (a, b))
                    rates = [
                        _rate(contest, label, side)
                        for label, side in zip((a, b), sides, strict=True)
                    ]
                    outcome = replace(found, notes=(*found.notes, *rates))
                    return everywhere({place_of(sides[0][0]): outcome})
        return Verdict(NOT_RUN, "no runs of both sides yet")

    return verdict


def _rate(contest: Contest, label: str, runs: Records) -> str:
    """At which rate a candidate is judged, and whether no smaller or no larger one was tried."""
    rate, tried = _chosen(runs)[0]["config"]["optimizer"]["lr"], contest.rates[label]
    edges = {min(tried): ", the lowest tried", max(tried): ", the highest tried"}
    return f"{label} at rate {rate:g}{edges.get(rate, '')}"


def _finals(contest: Contest, label: str, found: Records, profile: str) -> Records:
    """The final runs of a candidate, at any of its rates."""
    there = [r for r in found if (r["profile"], r["experiment"]) == (profile, contest.experiment)]
    first = firsts(contest.rates)
    at = {
        rate: contest.final({**first, label: rate}).variants[label] for rate in contest.rates[label]
    }
    return [run for group in CLASSIFICATION.records_of(at, there).values() for run in group]


def _compared(sides: Sequence[Records], names: tuple[str, str]) -> Outcome:
    """The settings of both sides that count."""
    ours, theirs = (_chosen(side) for side in sides)
    terms = accuracy_terms(ours[0])
    return compare(sampled(ours, accuracy_of), sampled(theirs, accuracy_of), names, terms)


def _named(key: str, value: Any) -> str:
    return value if isinstance(value, str) else f"{key}={value}"


def _elsewhere_judged(record: Mapping[str, Any]) -> bool:
    """Runs of the tables of parts, and those that chose learning rates on held-out images."""
    return record["experiment"] == _PARTS or record["experiment"].endswith("-rates")


def _chosen(runs: Records) -> list[dict[str, Any]]:
    """The runs of one setting; which is not decided by test images."""
    groups = by_setting(runs).values()
    return max(groups, key=lambda group: (len(by_seed(group)), -mean(map(_training_loss, group))))


def _training_loss(record: Mapping[str, Any]) -> float:
    return record["epochs"][-1].get("loss", 0.0)


def _in_ablations(found: Records, key: str, value: Any, other: Any) -> dict[str, Outcome]:
    """What the tables of parts say of one setting, by place; a part helps where the network without
    it is worse.
    """
    places = {}
    for profile in PROFILES:
        for make in (studies.parts, studies.ablations, studies.global_mixers):
            study = make(profile)
            name, full = next(iter(study.variants.items()))
            changed = full.updated(**_nested(key, other)).updated(train={"observe": False})
            label = next((n for n, config in study.variants.items() if config == changed), None)
            if label is None or _value(full, key) != value:
                continue
            runs = [r for r in found if (r["profile"], r["experiment"]) == (profile, _PARTS)]
            groups = by_setting(runs)
            by_label = {n: groups[key] for n, key in _labelled(study, groups).items()}
            if name in by_label and label in by_label:
                outcome = comparison.family(by_label, name).outcomes[label].turned()
                places[place_of(by_label[name][0])] = outcome
                break
    return places


_LABELLED: dict[tuple[Any, ...], dict[str, str]] = {}  # every claim on parts asks for the same


def _labelled(study: Study, groups: Mapping[str, Records]) -> dict[str, str]:
    """{variant: the setting of its runs} of a study, for runs by setting."""
    key = (tuple(study.variants), *groups)
    if key not in _LABELLED:
        first = [group[0] for group in groups.values()]
        of = CLASSIFICATION.records_of(study.variants, first)
        _LABELLED[key] = {n: CLASSIFICATION.setting(found[0]) for n, found in of.items() if found}
    return _LABELLED[key]


_PARTS = "ablations"  # the experiment of both tables


def keeps_accuracy_when_calibrated(found: Records) -> Verdict:
    """Are fixed statistics no worse than those of the test batch? Within CLOSE points, in the 2-D
    table's settings, run by run.
    """
    runs = [r for r in found if r["experiment"] == "images" and "calibrated" in r["results"]]
    places: dict[str, Outcome] = {}
    for group in by_setting(runs).values():
        first = accuracy_terms(group[0])
        terms = Terms(CLOSE, CLOSE, first.floors, ceiling=None, digits=2)
        outcome = compare(
            sampled(group, lambda r: accuracy_of(r, "calibrated")),
            sampled(group, accuracy_of),
            ("calibrated", "as released"),
            terms,
            NO_WORSE,
            same_runs=True,
        )
        put(places, place_of(group[0]), outcome, group[0])
    return everywhere(places)


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
        single: list[tuple[str, str, Verdict]] = []
        for title, of in titles.items():
            runs = [
                r
                for r in found
                if r["experiment"] == "sequences"
                and r["profile"] == "paper"
                and (r["config"]["dataset"]["name"], r["config"]["dataset"]["view"]) == of
            ]
            for group in by_setting(runs).values():
                got = published_number(group, published[title])
                single.append((title, records.config_of(group[0], Config).model.operator, got))
        if not single:
            return Verdict(NOT_RUN, "no record of full length yet")
        text = "; ".join(f"{title}, {reading}: {got.evidence}" for title, reading, got in single)
        if missing := [title for title in titles if title not in {t for t, _, _ in single}]:
            return Verdict(UNDECIDED, f"{text}; nothing on {', '.join(missing)}")
        best = {
            title: min((got.word for t, _, got in single if t == title), key=_RANK.index)
            for title in titles
        }
        return Verdict(max(best.values(), key=_RANK.index), text)

    return verdict


_RANK = [HOLDS, UNDECIDED, NOT]  # the better reading counts, and the worst task


def place_of(record: Mapping[str, Any]) -> str:
    """What was trained on, in short: "MNIST, 1,000 images of 14 pixels, 3 epochs, laptop"; and the
    network, where it has fewer blocks than the released one.
    """
    data, config = record["data"], record["config"]
    blocks = len(config["model"].get("factors") or ()) or BLOCKS
    smaller = record["model"] == "Terminator" and blocks != BLOCKS
    network = f", {blocks} blocks, {record['parameters']:,} parameters" if smaller else ""
    return (
        f"{data['title']}, {data['train_size']:,} images of {data['shape'][-1]} pixels, "
        f"{config['train']['epochs']} epochs, {record['profile']}{network}"
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
