"""A plan of tiny runs, and the command `work` on it in a process of its own."""

import os
import subprocess
import sys

from places import ROOT, TESTS

from terminator.classification.presets import preset
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import folders, records
from terminator.runs.wanted import Wanted

TINY = (
    *("model.factors=[4,1]", "model.global_hidden=4", "model.local_hidden=4"),
    *("dataset.train_size=160", "dataset.test_size=40", "train.batch_size=16"),
    *("train.epochs=6", "train.device=cpu", "scheduler.warmup_epochs=0"),
)
PROGRAM = """import os
import sys
from batch_tools import tiny_needs
from terminator.__main__ import main
from terminator.batch import plan
plan.notebooks_of = lambda *given: tiny_needs(2, *os.environ.get("TINY", "").split())
sys.exit(main(sys.argv[1:]))
"""


def tiny_needs(count, *more):
    """{notebook: trainings of some seconds on the embedded digits, a seed each}; of three and more
    the last comes after the first.
    """
    base = preset("digits").updated(*TINY, *more)
    runs = [
        Wanted(CLASSIFICATION, base.updated(train={"seed": seed}), "tiny", "smoke", f"seed {seed}")
        for seed in range(count)
    ]
    if count > 2:
        config = runs.pop().config
        after = (runs[0],)
        runs.append(Wanted(CLASSIFICATION, config, "tiny", "smoke", "the last", after=after))
    return {"99_tiny": runs}


def work(*options, **variables):
    """The command `work` on two tiny runs, as a process that a Ctrl-C of the tests is not for.

    Args:
        variables: of its environment; TINY: settings of the runs.
    """
    path = os.pathsep.join([str(ROOT), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "work", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, **variables},
    )


def diverge(folder):
    """What a training of the run in a folder leaves whose loss is no number any more."""
    said = {"run_id": folder.name, "reason": "the loss is nan", "when": "2026-11-29T07:00:00"}
    records.write_json(folder / folders.DIVERGED, said)
