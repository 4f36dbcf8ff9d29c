"""What is measured once in the trained networks of a study, one a seed, and kept as a record."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from terminator.classification.runs import CLASSIFICATION, ClassificationRun
from terminator.data.images import ImageData
from terminator.runs import measurements
from terminator.runs.study import Study
from terminator.runtime.provenance import device_name
from terminator.runtime.settings import identity

IMAGES = {"smoke": 32, "laptop": 256, "paper": 256}  # test images whose object is looked for


@dataclass(frozen=True)
class NetworkRecord:
    """A measurement of trained networks, profile by profile.

    Args:
        experiment: the folder below results/runs.
        kind: what its name begins with.
        study: makes a profile's study.
        variant: whose networks, one a seed, are measured.
        measure: gives the row of a network, of (run, data, how many test images are looked at).
    """

    experiment: str
    kind: str
    study: Callable[[str], Study]
    variant: str
    measure: Callable[[ClassificationRun, ImageData, int], dict[str, Any]]

    def recorded(self, profile: str, device: str = "auto") -> dict[str, Any]:
        """The record, made now where it is missing: from the trained networks, which are trained
        where their weights are not here.

        Raises:
            as System.run.
        """
        return measurements.named(
            self.experiment,
            self._name(profile),
            "controls",
            profile,
            lambda: self._measured(profile, device),
        )

    def found(self, profile: str) -> dict[str, Any] | None:
        """The same, if it is there."""
        return measurements.found(self.experiment, self._name(profile))

    def _name(self, profile: str) -> str:
        """Of the record: other networks, or more seeds of them, are another measurement."""
        study = self.study(profile)
        what = json.dumps(
            [identity(study.variants[self.variant]), list(study.seeds)], sort_keys=True
        )
        return f"{self.kind}-{profile}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"

    def _measured(self, profile: str, device: str) -> dict[str, Any]:
        study = self.study(profile)
        config = CLASSIFICATION.ready(study.variants[self.variant], profile)
        data, rows = CLASSIFICATION.load_data(config), []
        for seed in study.seeds:
            of_seed = config.updated(train={"seed": seed, "device": device})
            run = CLASSIFICATION.run(of_seed, study.experiment, profile, data=data, need_model=True)
            rows.append({"seed": seed, **self.measure(run, data, IMAGES[profile])})
        about = {"title": data.info.title, "fingerprint": data.info.fingerprint}
        return {"data": about, "results": {"networks": rows}, "device": device_name("cpu")}
