"""A run that somebody wants: what `System.run` is called with, said once, for whoever trains it now
and for whoever plans it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from terminator.runs.system import System


@dataclass(frozen=True)
class Wanted:
    """One run.

    Attributes:
        system: whose run it is.
        config: its settings, not yet resolved.
        experiment: the folder below results/runs.
        profile: what its record says it is.
        label: what a reader of its study calls it.
        need_model: whether its weights are looked at, so that a record alone is not enough.
        after: runs that it reads, and that come before it.
    """

    system: System
    config: Any
    experiment: str
    profile: str
    label: Any = ""
    need_model: bool = False
    after: tuple[Wanted, ...] = ()

    @property
    def seed(self) -> int:
        """The seed that it is trained with."""
        return self.config.train.seed

    def with_model(self) -> Wanted:
        """The same, its weights included."""
        return dataclasses.replace(self, need_model=True)

    def run(self, **options: Any) -> Any:
        """Train it, or find it: the FinishedRun; options as of `System.run`."""
        if self.need_model:
            options = {"need_model": True, **options}
        return self.system.run(self.config, self.experiment, self.profile, **options)
