"""Which run is of which settings and data: ids, and the records that are found again."""

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from terminator.runs import records
from terminator.runs.described import Described
from terminator.runs.finished import run_name
from terminator.runs.starts import starts, starts_alike, with_starts
from terminator.runtime import provenance
from terminator.runtime.paths import results_dir
from terminator.runtime.progress import say_once
from terminator.runtime.settings import ConfigError, identity, without_places

READERS = ("torch", "torchvision", "pillow")  # their versions decide on the last bits of data


@functools.lru_cache(8192)
def _identity(config: Any) -> dict[str, Any]:
    """The identity of settings; those of a record are asked for by every study."""
    return identity(without_places(config))


def _alike(record: Mapping[str, Any]) -> str:
    """What a record says of its settings, first weights and data, but for the seed."""
    config = record["config"]
    train = {key: value for key, value in config["train"].items() if key != "seed"}
    what = [config | {"train": train}, record.get("starts"), record.get("data")]
    return json.dumps(what, sort_keys=True)


class Matched(Described):
    """A kind of experiment whose runs are found by what they are of."""

    def of_record(
        self,
        record: dict[str, Any],
        folder: Path | None = None,
        asked: Any = None,
        trained: bool = False,
    ) -> Any:
        """The finished run of a record of this system, from its own folder or another."""
        return self.run_type(record, folder or self.folder_of(record), self, trained, asked)

    def run_id(
        self, config: Any, data: Any, profile: str, starting: Mapping[str, Any] | None = None
    ) -> str:
        """`<names>-<profile>-s<seed>-<hash>`, of a resolved configuration.

        Args:
            starting: as starts.starts gives it, where it is known: of a record, say.
        """
        starting = starts(self, config) if starting is None else starting
        return run_name(
            with_starts(self, identity(without_places(config)), starting),
            data.info.fingerprint,
            profile,
            config.train.seed,
            *self.names(config, data),
        )

    def run_folder(self, config: Any, data: Any, experiment: str, profile: str) -> Path:
        """Where the run of a resolved configuration lies."""
        return results_dir() / "runs" / experiment / self.run_id(config, data, profile)

    def find_record(self, config: Any, experiment: str, profile: str) -> dict[str, Any] | None:
        """A finished record of this configuration, whatever the data's fingerprint; for machines
        without the data.
        """
        return next(self.records_like(config, experiment, profile), None)

    def has_record(self, config: Any, experiment: str, profile: str) -> bool:
        """Whether a finished run of exactly this is recorded, of whatever fingerprint."""
        return self.find_record(config, experiment, profile) is not None

    def records_like(self, config: Any, experiment: str, profile: str) -> Iterator[dict[str, Any]]:
        """Finished records of this configuration, whatever the data's fingerprint."""
        there = records.load_records(experiment, profile)
        return (record for record in there if self.is_of(record, config))

    def find_read_otherwise(
        self, config: Any, data: Any, experiment: str, profile: str
    ) -> dict[str, Any] | None:
        """A finished record that is evidence, of this configuration and the same data, as other
        versions of the libraries decoded or resized them: their last bits may differ. It is said.
        """
        if not records.is_evidence({"experiment": experiment, "profile": profile}):
            return None
        info = json.loads(json.dumps(dataclasses.asdict(data.info), default=str))  # as in a record
        for record in self.records_like(config, experiment, profile):
            known, here = record["provenance"].get("versions", {}), provenance.versions()
            read_by = {name: known[name] for name in READERS if name in known}
            if any(
                here.get(name) != version for name, version in read_by.items()
            ) and records.same_data(record["data"], info):
                by = ", ".join(f"{name} {version}" for name, version in read_by.items())
                say_once(
                    f"note: runs of {record['data']['title']} in {experiment} are read that were "
                    f"made of the data as {by} read them; others would differ in last bits"
                )
                return record
        return None

    def records_of(
        self, variants: Mapping[Any, Any], found: Iterable[dict[str, Any]]
    ) -> dict[Any, list[dict[str, Any]]]:
        """Which of these records are of named configurations, {label: one or more, of any seed};
        trains nothing.
        """
        groups: dict[str, list[dict[str, Any]]] = {}  # alike but for the seed: one speaks for all
        for record in found:
            if records.task_of(record) == self.task:
                groups.setdefault(_alike(record), []).append(record)
        chosen: dict[Any, list[dict[str, Any]]] = {label: [] for label in variants}
        for label, config in variants.items():
            for first, *rest in groups.values():
                if self.is_of(first, config.updated(train={"seed": first["seed"]})):
                    chosen[label] += [first, *rest]
        return chosen

    def is_of(self, record: dict[str, Any], config: Any) -> bool:
        """Whether a record is of a configuration, whatever the data's fingerprint."""
        if records.task_of(record) != self.task:
            return False
        with contextlib.suppress(ConfigError):
            theirs = _identity(records.config_of(record, self.config))
            alike = theirs == _identity(self.resolve_like(config, record))
            return alike and starts_alike(self, record, config)
        return False

    def but_seed(self, record: dict[str, Any]) -> str:
        """What a record's settings change, but for the seed, and its data's fingerprint, as
        JSON.
        """
        standard = self.config().train.seed
        config = records.config_of(record, self.config)
        what = [_identity(config.updated(train={"seed": standard})), record["data"]["fingerprint"]]
        what += [record["starts"]] if record.get("starts") else []
        return json.dumps(what, sort_keys=True)

    def setting(self, record: dict[str, Any]) -> str:
        """What makes a record's experiment this one, but for the seed: runs that may be averaged
        share it.
        """
        return f"{record['profile']} {self.but_seed(record)}"

    def setting_name(self, record: dict[str, Any]) -> str:
        """A short name of what is the same for all seeds, as the index has it."""
        return hashlib.sha256(self.but_seed(record).encode()).hexdigest()[:6]

    def folder_of(self, record: dict[str, Any]) -> Path:
        """Where a record lies."""
        return records.path_of(record).parent
