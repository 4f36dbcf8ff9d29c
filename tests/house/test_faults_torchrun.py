"""Two processes under torchrun, as a user starts them, killed at random moments; fault_runner.py
forks its own.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file
from small_command import OF_A_COMMAND

psutil = pytest.importorskip("psutil", reason="psutil is not installed (it comes with ipykernel)")

COMMAND = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node",
    "2",
    "-m",
    "terminator",
    "train",
    "dataset.name=digits",
    "dataset.channels=3",
    "dataset.train_size=64",
    "dataset.test_size=40",
    "model.factors=[4]",
    "model.global_hidden=4",
    "model.local_hidden=4",
    "model.dropout=[0.2]",
    "scheduler.warmup_epochs=1",
    "train.batch_size=16",
    "train.device=cpu",
    "train.distributed=True",
    "--profile",
    "smoke",
]
EPOCH = re.compile(r"epoch +\d+/\d+")


def start(folder, epochs):
    """torchrun in the background; what it says goes to a file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*COMMAND, f"train.epochs={epochs}"],
            stdout=log,
            stderr=log,
            env=os.environ
            | {
                "TERMINATOR_RESULTS": str(folder),
                "TERMINATOR_HEADLESS": "1",
                "OMP_NUM_THREADS": "1",
            },
        )


def wait_for_epoch(process, folder, before, seconds=120):
    """Wait until it has said one more epoch than `before`, or has ended: whichever comes first."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and epochs_said(folder) <= before:
        assert time.monotonic() < deadline, "torchrun takes too long"
        time.sleep(0.01)


def kill_all(process):
    """SIGKILL to torchrun and to all it started, which sits in sessions of its own; and nothing is
    left of them.
    """
    everyone = [psutil.Process(process.pid)]
    everyone += everyone[0].children(recursive=True)
    for one in everyone:
        one.suspend()  # else torchrun might see a dead worker and say good-bye before its turn
    for one in everyone:
        one.kill()
    process.wait()
    psutil.wait_procs(everyone[1:], timeout=20)


def kill_worker(process, chance):
    """SIGKILL to one of the two: torchrun has to end the other, and itself with an error."""
    workers = [
        one for one in psutil.Process(process.pid).children() if "terminator" in one.cmdline()
    ]
    chance.choice(workers).kill()
    assert process.wait(60) != 0


def finish(folder, epochs, kills, chance, longest):
    """Train to the end, killed so many times up to `longest` s after an attempt's first epoch;
    returns the moments.
    """
    moments = []
    while True:
        before = epochs_said(folder)
        process = start(folder, epochs)
        try:
            if len(moments) == kills:
                assert process.wait(240) == 0, said(folder)
                return moments
            wait_for_epoch(process, folder, before)
            patience = chance.uniform(0, longest)
            time.sleep(patience)
            # it must not have failed, or come to its end
            assert process.poll() is None, said(folder)
            kill_all(process) if len(moments) % 2 == 0 else kill_worker(process, chance)
            moments.append(patience)
        finally:
            if process.poll() is None:
                kill_all(process)


def said(folder):
    return (folder / "log.txt").read_text() if (folder / "log.txt").is_file() else ""


def epochs_said(folder):
    return len(EPOCH.findall(said(folder)))


def left_behind(folder):
    """Digest of the weights and of every number of the record that is no time; and the names of the
    files.
    """
    (path,) = folder.glob("runs/cli/*/record.json")
    record = json.loads(path.read_text())
    numbers = [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")}
        for row in record["epochs"]
    ]
    whole = hashlib.sha256(json.dumps([numbers, record["results"]], sort_keys=True).encode())
    for name, value in sorted(load_file(path.parent / "model.safetensors").items()):
        whole.update(name.encode() + value.numpy().tobytes())
    return whole.hexdigest(), sorted(p.name for p in path.parent.iterdir() if p.name != ".lock")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("kills", [1, 6])
def test_torchrun_killed_ends_with_the_same_bits(tmp_path, kills):
    if kills > 1 and not os.environ.get("TERMINATOR_ALL_FAULTS"):
        pytest.skip("many kills: TERMINATOR_ALL_FAULTS=1 makes them (CONTRIBUTING.md)")
    chance, epochs = random.Random(kills), 3 + 2 * kills  # every attempt makes one epoch at least
    finish(tmp_path / "whole", epochs, 0, chance, 0)
    whole = left_behind(tmp_path / "whole")
    (record,) = (tmp_path / "whole").glob("runs/cli/*/record.json")
    seconds = sum(row["seconds"] for row in json.loads(record.read_text())["epochs"])
    moments = finish(tmp_path / "killed", epochs, kills, chance, 0.5 * seconds / kills)
    assert len(set(moments)) == kills
    # weights, statistics and every number, bit for bit
    assert left_behind(tmp_path / "killed") == whole
    assert whole[1] == OF_A_COMMAND  # and nothing half-written
