"""What a run costs: operations, and hours by the speeds that records of one device show."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from terminator.batch.plan import Run, examples
from terminator.classification.presets import SUBSTITUTES
from terminator.runs import records
from terminator.runs.system import System
from terminator.runtime.settings import ConfigError, identity, without_places

PASSES = 3  # forward, and a backward pass of twice its operations
NOT_THE_NETWORK = {"train", "optimizer", "scheduler", "test", "augmentation", "pretrained"}
NOT_THE_FORM = {"train_size", "test_size", "val_size", "held_out", "crop_padding", "flip"}
BY_DATA = {"size", "in_channels", "classes", "dimensions", "factors", "trained_size", "channels"}
BY_DATA |= {"num_labels"}  # what resolving a configuration adds
ORIGINAL = {copy: name for name, copy in SUBSTITUTES.items()}
COUNTED = ("flops_per_image", "flops_per_example")  # of a forward pass, in records


@dataclass(frozen=True)
class Cost:
    """Of the whole training; None where no record helps.

    Attributes:
        operations: floating point, a multiplication and an addition being two.
        seconds: on one device of the name that the costs are of.
    """

    operations: float | None
    seconds: float | None


def seen(config: Any, train_size: int | None) -> int | None:
    """Examples that a training sees, repeats counted."""
    train = config.train
    if hasattr(train, "train_steps"):
        return train.train_steps * train.batch_size
    return None if train_size is None else train.epochs * train_size


class Costs:
    """Costs by the records that are here, of one device.

    Args:
        systems: by their tasks.
        device: some of the device's name as records have it; nothing: the one with most records.

    Raises:
        ConfigError: for a device of which there is no record.
    """

    def __init__(self, systems: Mapping[str, System], device: str = ""):
        found = [
            r
            for r in records.load_records()
            if r.get("device") and r.get("epochs") and records.task_of(r) in systems
        ]
        names = Counter(r["device"] for r in found if device.lower() in r["device"].lower())
        if device and not names:
            known = ", ".join(sorted({r["device"] for r in found}))
            raise ConfigError(
                f"--speed-of is {device!r}; allowed: some of {known or 'nothing, without records'}"
            )
        self.device = names.most_common(1)[0][0] if names else None
        self._of: dict[str, list[Speed]] = {task: [] for task in systems}
        for record in found:
            task = records.task_of(record)
            self._of[task].append(Speed.of(systems[task], record))

    def of(self, run: Run) -> Cost:
        """The cost of a run: by a run of the same network, else by its operations."""
        wanted = run.wanted
        count = seen(wanted.config, run.train_size)
        if count is None:
            return Cost(None, None)
        asked = _network(wanted.system, wanted.config)
        known = self._of[wanted.system.task]
        alike = [speed for speed in known if speed.batch == wanted.config.train.batch_size]
        alike = [speed for speed in alike if _same(asked, speed.network)]
        counted = [PASSES * speed.operations for speed in alike if speed.operations]
        operations = counted[0] * count if counted else None
        if here := [speed.seconds for speed in alike if speed.device == self.device]:
            return Cost(operations, median(here) * count)
        rates = [s.operations / s.seconds for s in known if s.device == self.device if s.operations]
        if counted and rates:
            return Cost(operations, counted[0] / PASSES / median(rates) * count)
        return Cost(operations, None)


@dataclass(frozen=True)
class Speed:
    """What a record says of the speed of a network: per example that was trained on."""

    network: dict[str, dict[str, Any]]
    batch: int
    device: str
    operations: float
    seconds: float

    @classmethod
    def of(cls, system: System, record: Mapping[str, Any]) -> "Speed":
        """That of a record."""
        config = records.config_of(record, system.config)
        count = seen(config, examples(record["data"])) or 1
        operations = next((record[key] for key in COUNTED if record.get(key)), 0)
        seconds = max(record["wall_s"], 1e-3) / count
        return cls(
            _network(system, config), config.train.batch_size, record["device"], operations, seconds
        )


def _network(system: System, config: Any) -> dict[str, dict[str, Any]]:
    """The settings that say what network is trained on inputs of what form."""
    what = identity(without_places(config))
    kept = {key: dict(value) for key, value in what.items() if key not in NOT_THE_NETWORK}
    for group in set(system.data_groups) & kept.keys():
        kept[group] = {k: v for k, v in kept[group].items() if k not in NOT_THE_FORM}
        if (name := kept[group].get("name")) in ORIGINAL:
            kept[group]["name"] = ORIGINAL[name]
    return kept


def _same(asked: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> bool:
    """Whether a network is the one that is asked for; what only the data say is not asked for."""
    for group in asked.keys() | other.keys():
        mine, theirs = asked.get(group, {}), other.get(group, {})
        keys = mine.keys() | (theirs.keys() - BY_DATA)
        if any(mine.get(key) != theirs.get(key) for key in keys):
            return False
    return True
