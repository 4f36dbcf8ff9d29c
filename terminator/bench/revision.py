"""This kit against another revision of itself, measured in turns."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from terminator.bench.case import Case, measure, summary
from terminator.runs import measurements
from terminator.runtime import git
from terminator.runtime.progress import bar
from terminator.runtime.settings import ConfigError, require


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with another revision of this repository, removed afterwards.

    Raises:
        ConfigError: if the kit is no git repository here, or does not know the revision.
    """
    if git.checkout() is None:
        raise ConfigError(
            f"revision is {revision!r}, but this kit is not in a git repository; clone it to "
            "compare"
        )
    found = git.commit(revision)
    if found is None:
        raise ConfigError(
            f"revision is {revision!r}; allowed: a commit, tag or branch of this repository (git "
            "log lists them)"
        )
    with tempfile.TemporaryDirectory() as folder:
        for path, content in git.contents(found):
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(content)
        yield Path(folder)


def compare(
    case: Case,
    revision: str,
    rounds: int = 3,
    profile: str = "laptop",
    precision: str | None = None,
) -> dict[str, Any]:
    """Measure this kit and another revision in turns: here, there, here, there, ...

    Args:
        rounds: of both, a process each.
        precision: the other revision's, if it is not the case's.

    Returns:
        here, there (rows of `summary`), ratio (there over here, of the medians of all rounds'
        steps), ratio_low, ratio_high (the smallest and the largest of single rounds), and
        memory_ratio (of the processes' peaks, there over here).
    """
    require(rounds >= 1, "rounds", rounds, "an integer of at least 1")
    other = dataclasses.replace(case, precision=precision or case.precision)

    def measured() -> dict[str, Any]:
        mine, theirs = _in_turns(case, other, revision, rounds)
        pairs = zip(mine, theirs, strict=True)
        ratios = [float(np.median(b["seconds"]) / np.median(a["seconds"])) for a, b in pairs]
        here, there = summary(case, mine), summary(other, theirs)
        comparison = {
            "revision": revision,
            "ratio": there["ms"] / here["ms"],
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
            "memory_ratio": there["peak_mib"] / here["peak_mib"],
        }
        return {"rows": [here, there], "comparison": comparison}

    record = measurements.add(measurements.BENCHMARK, profile, measured)
    here, there = record["rows"]
    return {"here": here, "there": there, **record["comparison"]}


def _in_turns(
    case: Case, other: Case, revision: str, rounds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measurements here and there, one after the other."""
    mine: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with checkout(revision) as root, bar(2 * rounds, f"against {revision}", "process") as progress:
        for _ in range(rounds):
            for runs, which, where in ((mine, case, None), (theirs, other, root)):
                runs.append(measure(which, where))
                progress.update()
    return mine, theirs
