"""Faults on purpose: killed trainings, damaged files, full disks, folders that cannot be written.

CONTRIBUTING.md has the figures of the whole run; by default fewer kills are made.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from places import TESTS
from small_command import OF_A_COMMAND

from terminator.runs import records


def killed(folder, kills, processes, seed=0, timeout=900):
    """What fault_runner.py reports of so many kills."""
    command = [
        sys.executable,
        str(TESTS / "fault_runner.py"),
        str(folder),
        str(kills),
        str(processes),
        str(seed),
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(found, kills):
    assert found["kills"] == kills
    assert len(set(found["moments"])) > kills // 2  # at random moments
    for (whole, files), (interrupted, left) in found["results"]:
        assert interrupted == whole  # weights, statistics and every number, bit for bit
        # and nothing half-written
        assert left == files == ["metrics.csv", "model.safetensors", "record.json"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks")
@pytest.mark.parametrize(
    ("kills", "processes"),
    [
        pytest.param(8, 1, marks=pytest.mark.slow),
        pytest.param(3, 2, marks=pytest.mark.slow),
        pytest.param(50, 1, marks=pytest.mark.slow),
        pytest.param(20, 2, marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_with_the_same_bits(tmp_path, kills, processes):
    if kills >= 20 and not os.environ.get("TERMINATOR_ALL_FAULTS"):
        pytest.skip("many kills: TERMINATOR_ALL_FAULTS=1 makes them (CONTRIBUTING.md)")
    check(killed(tmp_path, kills, processes, seed=kills), kills)


# -- full disks and folders that cannot be written -------------------------------------------------

TINY = [
    "dataset.name=digits",
    "dataset.channels=3",
    "dataset.train_size=64",
    "dataset.test_size=40",
    "model.factors=[4]",
    "model.global_hidden=4",
    "model.local_hidden=4",
    "train.batch_size=16",
    "train.epochs=2",
    "train.device=cpu",
    "scheduler.warmup_epochs=0",
    "--profile",
    "smoke",
]

LIMITED = """
import resource, sys
from terminator.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)  # writing past it fails, as on a full disk
sys.exit(main(sys.argv[2:]))
"""

UNPRIVILEGED = """
import ctypes, os, sys
CAPBSET_DROP, DAC_OVERRIDE = 24, 1  # linux/prctl.h, linux/capability.h: root without it obeys permissions
if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).prctl(CAPBSET_DROP, DAC_OVERRIDE, 0, 0, 0):
    sys.exit("root's right to write everywhere cannot be given up here")
os.execv(sys.executable, [sys.executable, "-m", "terminator", *sys.argv[1:]])
"""


def call(code, *words, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )
    return done.returncode, done.stderr.strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_is_one_line_and_the_training_goes_on_when_there_is_room(tmp_path):
    status, error = call(LIMITED, 20_000, "train", *TINY)
    assert status == 2
    assert error.startswith("error: could not write the checkpoint")
    assert "disk full" in error
    assert "Traceback" not in error
    (folder,) = (tmp_path / "results" / "runs" / "cli").iterdir()
    assert {path.name for path in folder.iterdir()} <= {".lock"}
    status, error = call(LIMITED, 2**30, "train", *TINY)
    assert (status, error) == (0, "")
    assert sorted({path.name for path in folder.iterdir()} - {".lock"}) == OF_A_COMMAND


@pytest.mark.skipif(
    sys.platform != "linux", reason="the way root becomes an ordinary user is Linux's"
)
def test_a_read_only_results_folder_is_one_line():
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "results"
        results.mkdir()
        for folder in (results, Path(name)):
            folder.chmod(0o555)
        try:
            status, error = call(
                UNPRIVILEGED,
                "train",
                *TINY,
                TERMINATOR_RESULTS=str(results),
                HOME=name,
                TERMINATOR_CACHE=f"{name}/cache",
            )
        finally:
            for folder in (Path(name), results):
                folder.chmod(0o755)
        assert status == 2
        assert f"error: cannot write to the results folder {results}" in error
        assert "TERMINATOR_RESULTS" in error
        assert "Traceback" not in error
        assert list(results.rglob("*")) == []


# -- two at once (run_all.py itself: tests/test_run_all.py) ----------------------------------------


@pytest.mark.slow
def test_two_trainings_of_one_experiment_at_once_leave_one_whole_run(tmp_path):
    command = [sys.executable, "-m", "terminator", "train", *TINY]
    both = [
        subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("epoch   1/2" in output for output in outputs) == 1  # the other waited, or found it
    (folder,) = (tmp_path / "results" / "runs" / "cli").iterdir()
    assert records.read_record(folder / "record.json")["status"] == "ok"
    assert sorted({path.name for path in folder.iterdir()} - {".lock"}) == OF_A_COMMAND
