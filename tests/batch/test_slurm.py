"""A real Slurm on this machine: an array through submitit, a job cancelled by hand, another whose
training is killed; every run is there in the end, with the weights of an undisturbed one.

Skipped where Slurm (Debian: slurm-wlm, munge), the right to start it, or submitit is missing.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import batch_tools
import pytest
import torch

from terminator.__main__ import main
from terminator.batch import slurm
from terminator.batch.jobs import Job
from terminator.batch.plan import Planner
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import records
from terminator.runtime import locks
from terminator.runtime.paths import results_dir
from terminator.runtime.settings import ConfigError

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")
CONF = """ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
JobRequeue=1
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def waited(what, seconds=30.0, look=0.1):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, what
        time.sleep(look)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A Slurm with one node, this machine; its daemons end with the tests."""
    pytest.importorskip("submitit")
    if any(not shutil.which(name, path=PATH) for name in PROGRAMS) or os.geteuid() != 0:
        pytest.skip("no Slurm here, or no right to start it")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    conf = {"host": socket.gethostname().split(".")[0], "cores": os.cpu_count()}
    text = CONF.format(folder=folder, ports=free_ports(2), **conf)
    (folder / "slurm.conf").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PATH", PATH)
        own = [f"--socket={folder}/munge.socket"]
        own += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munge.pid"]
        own += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed", "--force"]
        daemons = []
        try:
            for program in (
                ["munged", "--foreground", *own],
                ["slurmctld", "-D"],
                ["slurmd", "-D"],
            ):
                log = open(folder / f"{program[0]}.out", "wb")
                with log:
                    daemons.append(subprocess.Popen(program, stdout=log, stderr=log))
                time.sleep(1)
            waited(lambda: "idle" in said("sinfo", "--noheader", "--format", "%T"))
            yield folder
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(timeout=20)


def said(*program):
    return subprocess.run(program, capture_output=True, text=True, check=False).stdout


def weights(folder):
    return CLASSIFICATION.load(folder / "model.safetensors")[0].state_dict()


def owner(folder):
    """The process that trains in a run's folder, 0 for none."""
    for path in folder.glob(f"{locks.OWNER}*"):
        if path.suffix != ".new" and (found := locks._read(path)):
            return found[0].get("pid", 0)
    return 0


@pytest.mark.slow
def test_an_array_whose_jobs_are_cancelled_and_killed_ends_with_all_records(
    cluster, tmp_path, monkeypatch
):
    needs = batch_tools.tiny_needs(2)
    monkeypatch.setattr("terminator.batch.plan.notebooks_of", lambda *given: needs)
    first, second = Planner("smoke").plan().runs.values()
    folders = {run.key: run.folder for run in (first, second)}
    settings = ("timeout_min=30", "cpus_per_task=1", "array_parallelism=2")
    working = batch_tools.work("--on", "slurm", "--slurm", *settings)
    jobs = results_dir() / "logs" / "slurm" / "jobs.json"
    waited(lambda: jobs.is_file() and len(json.loads(jobs.read_text())) == 2)
    numbers = json.loads(jobs.read_text())
    waited(lambda: owner(first.folder), 60)
    said("scancel", numbers[first.key])
    os.kill(waited(lambda: owner(second.folder), 60), signal.SIGKILL)
    told = working.communicate(timeout=240)[0]
    assert working.returncode == 0, told
    assert "2 of 2 runs are there" in told
    again = json.loads(jobs.read_text())
    assert again == {}  # nothing is left in the queue
    assert len(list(jobs.parent.glob("*_*"))) >= 4  # both were submitted twice
    found = {record["run_id"] for record in records.load_records("tiny")}
    assert found == {first.run_id, second.run_id}
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "undisturbed"))
    for run in (first, second):
        other = run.wanted.run().folder
        assert other != folders[run.key]
        mine, theirs = weights(folders[run.key]), weights(other)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_jobs_that_another_work_submitted_are_not_submitted_again(cluster):
    one, other = (slurm.Slurm({"timeout_min": "5"}, poll_s=0.2) for _ in range(2))
    job = Job("tiny/nothing", ("--version",))
    one.start([job])
    other.start([job])
    assert one.running() == other.running() == {job.key}
    waited(lambda: not (one.ended() or one.running()) or not one.running())
    assert "terminator-kit" in job.log.read_text()
    assert job.log.read_text().count("terminator-kit") == 1
    assert other.ended() == {job.key: 0}


@pytest.mark.slow
def test_jobs_that_only_another_work_asked_for_are_left_to_it(cluster):
    one, other = (slurm.Slurm({"timeout_min": "5"}, poll_s=0.2) for _ in range(2))
    held, brief = Job("tiny/held", ("presets",)), Job("tiny/brief", ("--version",))
    one.start([held])
    other.start([brief])
    assert one.running() <= {held.key}
    assert other.running() <= {brief.key}
    assert waited(other.ended) == {brief.key: 0}
    other.cancel()
    assert waited(one.ended) == {held.key: 0}  # cancelled by nobody, and nothing else ended


# -- without a cluster -------------------------------------------------------------------------


def test_a_job_that_is_to_end_leaves_its_checkpoint_and_is_queued_again(tmp_path):
    pytest.importorskip("submitit")
    training = slurm.Training(Job("tiny/sleeper", ()), {"TERMINATOR_RESULTS": str(tmp_path)})
    training._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    again = training.checkpoint()
    assert training._process.wait(timeout=5) == -signal.SIGTERM
    assert again.function.job == training.job
    assert again.function.variables == training.variables


def test_slurm_is_refused_where_it_is_not(monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(ConfigError, match="sbatch and squeue are not on this machine"):
        slurm.Slurm({})
    assert main(["work", "--on", "slurm", "--slurm", "partition"]) == 2
    assert "--slurm is 'partition'; allowed: KEY=VALUE" in capsys.readouterr().err
