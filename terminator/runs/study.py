"""Studies: sets of named configurations that are compared with one another, and contests of learning rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terminator.runtime.settings import ConfigError

PROFILES = ("smoke", "laptop", "paper")


def default_seeds(profile: str, seeds: Sequence[int] = ()) -> tuple[int, ...]:
    """The seeds given, else the profile's own: one in smoke, three elsewhere."""
    return tuple(seeds) or ((0,) if profile == "smoke" else (0, 1, 2))


@dataclass(frozen=True)
class Study:
    """Named configurations, each trained with every seed.

    experiment: the folder below results/runs;  variants: {label: configuration};  seeds: the study's own.
    """

    experiment: str
    variants: dict[Any, Any]
    seeds: tuple[int, ...]


def of_profile(values: Mapping[str, Any], profile: str) -> Any:
    if profile not in values:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(PROFILES)}")
    return values[profile]


# -- contests: who learns faster, each at its best learning rate -----------------------------------------------------


@dataclass(frozen=True)
class Contest:
    """Candidates on a common base, each with some learning rates, one of which is chosen on held-out images.

    candidates: {label: what it changes};  rates: {label: learning rates};  sweep_changes: of the base, in the
    sweep, where `held_out` training images take the test images' place.
    """

    experiment: str
    base: Any
    candidates: dict[str, dict[str, Any]]
    rates: Mapping[str, tuple[float, ...]]
    sweep_changes: dict[str, Any]
    seeds: tuple[int, ...]

    def sweep(self) -> Study:
        """Every candidate at every rate, one seed, tested on held-out training images: {(label, rate): ...}."""
        base = self.base.updated(**self.sweep_changes)
        return Study(f"{self.experiment}-rates", {
            (label, rate): _at(base, change, rate)
            for label, change in self.candidates.items() for rate in self.rates[label]}, self.seeds[:1])

    def final(self, rates: Mapping[str, float]) -> Study:
        """Every candidate at its rate, on all training images, tested on the test images."""
        return Study(self.experiment, {
            label: _at(self.base, change, rates[label]) for label, change in self.candidates.items()}, self.seeds)


def _at(base: Any, change: dict[str, Any], rate: float) -> Any:
    return base.updated(**change).updated(optimizer={"lr": rate})
