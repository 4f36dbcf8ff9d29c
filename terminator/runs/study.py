"""Studies: sets of named configurations that are compared, contests of learning rates, their runs.

A system runs them: `run_study(CLASSIFICATION, study, profile)`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from terminator.runs import records
from terminator.runs.system import System
from terminator.runs.wanted import Wanted
from terminator.runtime.progress import say
from terminator.runtime.settings import PROFILES, require_one_of
from terminator.trainer import TrainingDiverged


def default_seeds(profile: str, seeds: Sequence[int] = ()) -> tuple[int, ...]:
    """The seeds given, else the profile's own: one in smoke, three elsewhere."""
    return tuple(seeds) or ((0,) if profile == "smoke" else (0, 1, 2))


@dataclass(frozen=True)
class Study:
    """Named configurations, each trained with every seed.

    Attributes:
        experiment: the folder below results/runs.
        variants: {label: configuration}.
        seeds: the study's own.
    """

    experiment: str
    variants: dict[Any, Any]
    seeds: tuple[int, ...]


def of_profile(values: Mapping[str, Any], profile: str) -> Any:
    """What belongs to a profile.

    Raises:
        ConfigError: for another one.
    """
    require_one_of("profile", profile, PROFILES)
    return values[profile]


# -- contests: who learns faster, each at its best learning rate -----------------------------------


@dataclass(frozen=True)
class Contest:
    """Candidates on a common base, each with some learning rates, one of which is chosen on
    held-out images.

    Attributes:
        candidates: {label: what it changes}.
        rates: {label: learning rates}.
        sweep_changes: of the base, in the sweep, where `held_out` training images take the test
            images' place.
    """

    experiment: str
    base: Any
    candidates: dict[str, dict[str, Any]]
    rates: Mapping[str, tuple[float, ...]]
    sweep_changes: dict[str, Any]
    seeds: tuple[int, ...]

    def sweep(self) -> Study:
        """Every candidate at every rate, one seed, tested on held-out training images: {(label,
        rate): ...}.
        """
        base = self.base.updated(**self.sweep_changes)
        return Study(
            f"{self.experiment}-rates",
            {
                (label, rate): _at(base, change, rate)
                for label, change in self.candidates.items()
                for rate in self.rates[label]
            },
            self.seeds[:1],
        )

    def final(self, rates: Mapping[str, float]) -> Study:
        """Every candidate at its rate, on all training images, tested on the test images."""
        return Study(
            self.experiment,
            {
                label: _at(self.base, change, rates[label])
                for label, change in self.candidates.items()
            },
            self.seeds,
        )


def _at(base: Any, change: dict[str, Any], rate: float) -> Any:
    return base.updated(**change).updated(optimizer={"lr": rate})


Rates = Mapping[str, Sequence[float]]  # {candidate: learning rates, the best first}


def firsts(rates: Rates) -> dict[str, float]:
    """Every candidate's first rate."""
    return {label: of[0] for label, of in rates.items()}


def give_way(
    rates: Rates, diverged: Callable[[Rates], Collection[str]]
) -> Iterator[tuple[str, float, float]]:
    """Final runs again and again, a rate at which a training diverges giving way to the next.

    Args:
        rates: as the sweep ranks them (comparison.ranked_rates).
        diverged: makes the final runs at the first of the rates that are left to every candidate;
            says for which candidates one of them diverged.

    Yields:
        (candidate, the rate that gave way, the next one); nothing where no other is left.
    """
    left = {label: list(of) for label, of in rates.items()}
    while failed := [label for label in diverged(left) if len(left[label]) > 1]:
        for label in failed:
            yield label, left[label].pop(0), left[label][0]


@dataclass(frozen=True)
class Finals:
    """The final runs of a contest, which follow from what its sweep has reached.

    Attributes:
        sweep: the runs of the sweep.
        seeds: of the final runs.
        device: that they are trained on.
    """

    system: System
    contest: Contest
    profile: str
    sweep: tuple[Wanted, ...]
    seeds: tuple[int, ...]
    device: str = "auto"

    def at(self, rates: Mapping[str, float]) -> list[Wanted]:
        """The final runs with every candidate at its rate."""
        study = self.contest.final(rates)
        return study_runs(self.system, study, self.profile, self.seeds, self.device)


def contest_runs(
    system: System, contest: Contest, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> tuple[list[Wanted], Finals]:
    """The runs of a contest: those of its sweep, and what follows from them."""
    sweep = study_runs(system, contest.sweep(), profile, seeds[:1], device)
    chosen = tuple(seeds) or contest.seeds
    return sweep, Finals(system, contest, profile, tuple(sweep), chosen, device)


# -- running them, or reading what is there -------------------------------------------------------


def study_runs(
    system: System, study: Study, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> list[Wanted]:
    """The runs of a study as `run_study` takes them: all variants with the first seed come
    first.
    """
    chosen = tuple(seeds) or study.seeds

    @cache  # one answer for all: variants of different data would be no comparison
    def recorded() -> bool:
        return all(
            system.has_record(config.updated(train={"seed": seed}), study.experiment, profile)
            for seed in chosen
            for config in study.variants.values()
        )

    variants = {
        label: system.ready(config, profile, recorded) for label, config in study.variants.items()
    }
    return [
        Wanted(
            system,
            config.updated(train={"seed": seed, "device": device}),
            study.experiment,
            profile,
            label,
        )
        for seed in chosen
        for label, config in variants.items()
    ]


def run_study(
    system: System, study: Study, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[Any, list[Any]]:
    """The runs of a study, {label: one per seed}; all variants with the first seed come first.

    Where no seeds are given, finished runs of other seeds count as well (`with_further`). A
    training that diverges is said and left out: its label has fewer runs, or none.

    Raises:
        as System.run, but for TrainingDiverged.
    """
    runs = study_runs(system, study, profile, seeds, device)
    return _every_label(study, run_these(system, study, runs, profile, seeds))


def run_these(
    system: System,
    study: Study,
    runs: Iterable[Wanted],
    profile: str,
    seeds: Sequence[int] = (),
    **options: Any,
) -> dict[Any, list[Any]]:
    """As `run_study`, of a study that says itself which of its runs are wanted; a label without a
    run is left out.

    Args:
        seeds: that the user asked for, if any.
        options: of System.run.
    """
    found = run_all(runs, **options)
    return found if seeds else with_further(system, study, profile, found)


def with_further(
    system: System, study: Study, profile: str, found: Mapping[Any, Sequence[Any]]
) -> dict[Any, list[Any]]:
    """Those runs and, in order of their seeds, finished ones of other seeds whose records are here,
    of the same data and made on the same kind of machine: what a notebook shows and what the tables
    say are of the same runs.

    Args:
        found: {label: runs} of the study.
    """
    there = study_records(system, study, profile)
    return {label: [*runs, *_others(system, runs, there[label])] for label, runs in found.items()}


def _others(system: System, runs: Sequence[Any], there: Sequence[dict[str, Any]]) -> list[Any]:
    seen = {run.record["seed"] for run in runs}
    machines = {run.record["device"] for run in runs}
    further = {
        record["seed"]: record
        for record in there
        if record["seed"] not in seen
        and record["device"] in machines
        and any(records.same_data(record["data"], run.record["data"]) for run in runs)
    }
    return [system.of_record(record) for record in further.values()]


def _every_label(study: Study, found: Mapping[Any, list[Any]]) -> dict[Any, list[Any]]:
    """The runs of a study, with nothing for a label without a run."""
    return {label: found.get(label, []) for label in study.variants}


def run_all(runs: Iterable[Wanted], **options: Any) -> dict[Any, list[Any]]:
    """All of these runs by label, {label: one per seed}; one that diverges is said and left out,
    and so is a label all of whose runs do.

    Args:
        options: of System.run.
    """
    found: dict[Any, list[Any]] = {}
    for wanted in runs:
        try:
            run = wanted.run(**options)
            found.setdefault(wanted.label, []).append(run)
        except TrainingDiverged as error:
            say(f"{wanted.label}, seed {wanted.seed}: {error}")
    return found


def run_sweep(
    system: System, contest: Contest, profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> dict[Any, list[Any]]:
    """The runs of a contest's sweep, {(candidate, rate): one}, of the first seed alone: rates are
    chosen as a plan of all runs chooses them (contest_runs).
    """
    sweep = contest.sweep()
    return _every_label(sweep, run_all(study_runs(system, sweep, profile, seeds[:1], device)))


def run_finals(
    system: System,
    contest: Contest,
    rates: Rates,
    profile: str,
    seeds: Sequence[int] = (),
    device: str = "auto",
) -> dict[str, list[Any]]:
    """The final runs of a contest, {candidate: one per seed}.

    Args:
        rates: {candidate: learning rates, the best first} (comparison.ranked_rates).

    A rate at which a candidate diverges with any seed, now that it trains on all images, gives way
    to its next one. Other seeds count as in `run_study`.
    """
    found: dict[str, list[Any]] = {}
    at = firsts(rates)

    def diverged(left: Rates) -> list[str]:
        final = contest.final(firsts(left))
        runs = study_runs(system, final, profile, seeds, device)
        found.update(_every_label(final, run_all(runs)))
        count = len(tuple(seeds) or contest.seeds)
        return [label for label in left if len(found[label]) < count]

    for label, rate, following in give_way(rates, diverged):
        say(f"{label}: at {rate:g} not every seed trains to the end; next {following:g}")
        at[label] = following
    return found if seeds else with_further(system, contest.final(at), profile, found)


def study_records(system: System, study: Study, profile: str) -> dict[Any, list[dict[str, Any]]]:
    """The records of a study that are here, {label: in order of their seeds}; trains nothing."""
    there = records.load_records(study.experiment, profile)
    return system.records_of(study.variants, sorted(there, key=lambda record: record["seed"]))
