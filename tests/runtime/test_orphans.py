"""A killed process leaves no children behind: those that make data, and those that are measured."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLOW = """
import time
from pathlib import Path

def main(**case):
    Path(case["mark"]).touch()
    time.sleep(300)

def make(settings, number):
    (Path(settings.folder) / f"began {number}").touch()
    time.sleep(300)
"""
POOL = """
import dataclasses, sys
import slow
from terminator.data import generated

@dataclasses.dataclass
class Settings:
    folder: str

generated.parts("slow", Settings(sys.argv[1]), slow.make, 8, processes=3)
"""
MEASURED = """
import dataclasses, sys
import slow
from terminator.bench.measure import in_process

@dataclasses.dataclass
class Case:
    mark: str
    threads: int = 1

in_process(slow, Case(sys.argv[1] + "/began"))
"""
COMMAND = """
import sys
from terminator.__main__ import main
from terminator.data import generated

generated.os.cpu_count = lambda: 3
sys.exit(main(["longrange-data", "data.kind=pathfinder", "network.task=pathfinder", "data.length=1024",
    "pathfinder.level=easy", "data.train_size=40000", "data.test_size=100"]))
"""


def of_session(session):
    """Processes of a session that are alive, {number: how they were called}."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, _, _, own = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if int(own) == session and state != "Z":
                found[int(folder.name)] = name
    return found


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.parametrize(
    ("code", "children", "sign"),
    [
        (POOL, 3, signal.SIGKILL),
        (POOL, 3, signal.SIGTERM),
        pytest.param(MEASURED, 1, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(COMMAND, 3, signal.SIGKILL, marks=pytest.mark.slow),
    ],
    ids=["pool", "pool, asked to end", "bench", "command"],
)
def test_children_end_with_a_killed_parent(tmp_path, code, children, sign):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "parent.py").write_text(textwrap.dedent(code))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:

        def at_work():
            if code == COMMAND:  # some have already made a part
                return len(list(tmp_path.rglob("*.npz"))) > 0
            return len(list(tmp_path.glob("began*"))) >= children

        assert wait_for(at_work, 120), of_session(parent.pid)
        assert len(of_session(parent.pid)) > children
        parent.send_signal(sign)
        parent.wait(10)
        assert wait_for(lambda: not of_session(parent.pid), 8), of_session(parent.pid)
    finally:
        for number in of_session(parent.pid):
            os.kill(number, signal.SIGKILL)
