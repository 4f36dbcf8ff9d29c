"""The plan: every run that the notebooks of a profile need, without training anything."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from terminator.batch import states
from terminator.batch.states import State
from terminator.classification import needs as classification
from terminator.data.errors import DatasetNotFound
from terminator.hamburger import needs as hamburger
from terminator.hrrformer import needs as hrrformer
from terminator.hypertransformer import needs as hypertransformer
from terminator.runner.notebooks import matching
from terminator.runs import comparison, records
from terminator.runs.folders import divergences
from terminator.runs.study import Finals, Rates, firsts, give_way
from terminator.runs.wanted import Wanted
from terminator.runtime.paths import DATA_VARIABLE, OFFLINE_VARIABLE, results_dir
from terminator.runtime.settings import (
    PROFILES,
    ConfigError,
    require_one_of,
    to_dict,
    without_places,
)

NEEDS = (classification, hamburger, hrrformer, hypertransformer)
GLANCE = (
    *(("train", key) for key in ("seed", "batch_size", "epochs", "train_steps")),
    *(("optimizer", key) for key in ("name", "lr")),
)


@dataclass
class Run:
    """One run of a plan.

    Attributes:
        wanted: what it is; the settings as they are asked for.
        run_id: None where only its data would tell.
        state: what there is of it.
        notebooks: that wait for it.
        after: keys of runs that come before it.
        train_size: examples of its training data; None where they are not here.
    """

    wanted: Wanted
    key: str
    run_id: str | None
    state: State
    notebooks: list[str] = field(default_factory=list)
    after: tuple[str, ...] = ()
    train_size: int | None = None

    @property
    def folder(self) -> Path | None:
        """Where it lies, or will."""
        if self.run_id is None:
            return None
        return results_dir() / "runs" / self.wanted.experiment / self.run_id

    @property
    def epochs(self) -> int:
        """Of the whole training."""
        return self.wanted.config.train.epochs

    @property
    def is_settled(self) -> bool:
        """Whether there is no more to be had of it."""
        if self.state.name == states.DONE:
            return self.state.has_model or not self.wanted.need_model
        return self.state.name == states.DIVERGED

    def look(self) -> "Run":
        """The same with what its folder says now."""
        return replace(self, state=states.look(self.folder)) if self.folder else self


@dataclass
class Plan:
    """Runs in the order in which they can be made; a run's `after` stand before it.

    Attributes:
        undecided: final runs whose learning rates wait for a sweep: what they are called.
        remarks: what a reader should know.
    """

    profile: str
    runs: dict[str, Run]
    undecided: list["Undecided"]
    remarks: list[str] = field(default_factory=list)

    def count(self, state: str) -> int:
        """Of runs in a state."""
        return sum(run.state.name == state for run in self.runs.values())


@dataclass(frozen=True)
class Undecided:
    """Final runs of one candidate of a contest; after: keys of the sweep's runs."""

    experiment: str
    label: str
    seeds: tuple[int, ...]
    notebooks: tuple[str, ...]
    after: tuple[str, ...]


def notebooks_of(
    profile: str, only: Sequence[str] = (), seeds: Sequence[int] = (), device: str = "auto"
) -> dict[str, list[Wanted | Finals]]:
    """{notebook: what it needs}, of those that some pattern names ('1*', 20), in their order.

    Raises:
        ConfigError: for a pattern that names none.
    """
    require_one_of("profile", profile, PROFILES)
    found: dict[str, list[Wanted | Finals]] = {}
    for room in NEEDS:
        found |= room.needs(profile, seeds, device)
    names = sorted(found)
    for pattern in only:
        if not matching(names, pattern):
            raise ConfigError(f"--only is {pattern!r}; allowed: names of {', '.join(names)}")
    chosen = {name for pattern in only or ["*"] for name in matching(names, pattern)}
    return {name: found[name] for name in names if name in chosen}


@contextlib.contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Set a variable of this process's environment for a while; None leaves it as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if value is not None and before is None:
            del os.environ[name]
        elif value is not None:
            os.environ[name] = str(before)


def _looked_for_in(data_dir: str | None) -> contextlib.AbstractContextManager[None]:
    """Let data be looked for in a folder as well: which ones are here decides on substitutes."""
    known = os.environ.get(DATA_VARIABLE)
    places = os.pathsep.join(filter(None, (data_dir, known)))
    return _variable(DATA_VARIABLE, places if data_dir else None)


class Planner:
    """Makes plans of one profile, again and again as its runs come to their ends.

    Args:
        profile, only, seeds, device: as of run_all.py.
        data_dir: where data lie, beside TERMINATOR_DATA.
        download: whether data may be fetched.
        check_data: read the data of finished runs as well, to see that they are the same.
        read_data: read the data of runs without a record, which their ids depend on.
    """

    def __init__(
        self,
        profile: str,
        only: Sequence[str] = (),
        seeds: Sequence[int] = (),
        device: str = "auto",
        data_dir: str | None = None,
        download: bool = False,
        check_data: bool = False,
        read_data: bool = True,
    ):
        self.profile, self.data_dir = profile, data_dir
        self.download, self.check_data, self.read_data = download, check_data, read_data
        with _looked_for_in(data_dir):
            self.notebooks = notebooks_of(profile, only, seeds, device)
        self._known: dict[str, tuple[str | None, int | None]] = {}  # by settings: run id, examples
        self._ended: dict[str, list[dict[str, Any]]] = {}  # by experiment

    def plan(self) -> Plan:
        """What is there and what is not, now."""
        with _looked_for_in(self.data_dir):
            return self._plan()

    def _plan(self) -> Plan:
        self._ended = {}
        asked = [need for needs in self.notebooks.values() for need in needs]
        single = [need for need in asked if isinstance(need, Wanted)]
        self._identify([*single, *(before for wanted in single for before in wanted.after)])
        plan = Plan(self.profile, {}, [])
        for notebook, needs in self.notebooks.items():
            for need in needs:
                if isinstance(need, Wanted):
                    self._add(plan, need, notebook)
                else:
                    self._add_finals(plan, need, notebook)
        return plan

    def _add(self, plan: Plan, wanted: Wanted, notebook: str, after: tuple[str, ...] = ()) -> Run:
        """Put a run, and before it those that it reads, into the plan; or find it there."""
        before = tuple(self._add(plan, other, notebook).key for other in wanted.after)
        run_id, count = self._known[_name(wanted)]
        key = f"{wanted.experiment}/{run_id or _name(wanted)}"
        if (run := plan.runs.get(key)) is None:
            there = State(states.NO_DATA if self.read_data else states.MISSING)
            run = Run(wanted, key, run_id, there, train_size=count)
            run = plan.runs[key] = run.look()
        if wanted.need_model and not run.wanted.need_model:
            run.wanted = run.wanted.with_model()
        run.after = tuple(dict.fromkeys((*run.after, *before, *after)))
        if notebook not in run.notebooks:
            run.notebooks.append(notebook)
        return run

    def _add_finals(self, plan: Plan, finals: Finals, notebook: str) -> None:
        """Put the final runs of a contest into the plan, if its sweep has decided on their
        rates.
        """
        sweep = [self._add(plan, wanted, notebook) for wanted in finals.sweep]
        keys = tuple(run.key for run in sweep)
        if not all(run.is_settled for run in sweep):
            plan.undecided += [
                Undecided(finals.contest.experiment, label, finals.seeds, (notebook,), keys)
                for label in finals.contest.candidates
            ]
            return
        reached = {
            run.wanted.label: [run.state.record] if run.state.record else [] for run in sweep
        }
        try:
            rates = comparison.ranked_rates(comparison.rate_table(reached))
        except ValueError as error:  # every rate of one diverged
            plan.remarks.append(f"{finals.contest.experiment}: {error}")
            return

        def diverged(left: Rates) -> set[str]:
            wanted = finals.at(firsts(left))
            self._identify(wanted)
            runs = [self._add(plan, one, notebook, keys) for one in wanted]
            return {run.wanted.label for run in runs if self._gave_way(run, finals, left)}

        for _ in give_way(rates, diverged):
            pass

    def _gave_way(self, run: Run, finals: Finals, rates: Rates) -> bool:
        """Whether a run says that its rate is given up for the next: since it diverged, here, or
        elsewhere, as records of the next rate say.
        """
        label = run.wanted.label
        if run.state.name == states.DONE or len(rates[label]) == 1:
            return False
        if run.state.name == states.DIVERGED:
            return True
        following = finals.at({**firsts(rates), label: rates[label][1]})
        following = [wanted for wanted in following if wanted.label == label]
        self._identify(following)
        found = [self._known[_name(wanted)][0] for wanted in following]
        folder = results_dir() / "runs" / finals.contest.experiment
        if any(name and states.look(folder / name).name == states.DONE for name in found):
            run.state = State(states.DIVERGED, reason="records of the next learning rate are here")
            return True
        return False

    # -- which run is it?

    def _identify(self, asked: Sequence[Wanted]) -> None:
        """Find out the run ids of what is wanted: by records where there are some, by the data
        where they are here; each data set is read once, and not kept.
        """
        groups: dict[str, list[Wanted]] = {}
        for wanted in asked:
            if _name(wanted) not in self._known:
                system = wanted.system
                use = {name: to_dict(getattr(wanted.config, name)) for name in system.data_groups}
                key = json.dumps([system.task, use], sort_keys=True, default=str)
                groups.setdefault(key, []).append(wanted)
        for group in groups.values():
            found = {_name(wanted): self._by_record(wanted) for wanted in group}
            left = [one for one in group if self.check_data or found[_name(one)] is None]
            if left and (self.check_data or self.read_data):
                found |= self._by_data(left)
            for name, known in found.items():
                self._known[name] = known or (None, None)

    def _by_record(self, wanted: Wanted) -> tuple[str, int | None] | None:
        """Run id and training examples of a run of these settings that ended, well or not, whatever
        its data.
        """
        experiment, system = wanted.experiment, wanted.system
        if experiment not in self._ended:
            finished = records.load_records(experiment, self.profile)
            self._ended[experiment] = finished + divergences(experiment, self.profile)
        for record in self._ended[experiment]:
            if _may_be(record, wanted.config) and system.is_of(record, wanted.config):
                return record["run_id"], examples(record["data"])
        return None

    def _by_data(self, group: Sequence[Wanted]) -> dict[str, tuple[str, int | None]]:
        """Run ids and training examples of runs with the same data; nothing without the data."""
        with _variable(OFFLINE_VARIABLE, None if self.download else "1"):
            try:
                data = group[0].system.load_data(group[0].config, self.data_dir)
            except DatasetNotFound:
                return {}
        found = {}
        for wanted in group:
            config = wanted.system.resolve(wanted.config, data)
            record = self.check_data and wanted.system.find_read_otherwise(
                config, data, wanted.experiment, self.profile
            )
            run_id = (
                record["run_id"] if record else wanted.system.run_id(config, data, self.profile)
            )
            found[_name(wanted)] = (run_id, examples(to_dict(data.info)))
        return found


def _may_be(record: dict[str, Any], config: Any) -> bool:
    """Whether a record can be of these settings: a glance at those that data do not change."""
    asked = {"train": to_dict(config.train), "optimizer": to_dict(config.optimizer)}
    for group, key in GLANCE:
        if key in asked[group] and record["config"].get(group, {}).get(key) != asked[group][key]:
            return False
    return True


def examples(data: dict[str, Any]) -> int | None:
    """Training examples of a data set, as its info says."""
    size = data.get("train_size", (data.get("sizes") or {}).get("train"))
    return size if isinstance(size, int) else None


def _name(wanted: Wanted) -> str:
    """What a run is called in a plan as long as its id is not known: the same for the same."""
    config = to_dict(without_places(wanted.config))
    return json.dumps([wanted.system.task, wanted.experiment, config], sort_keys=True)
