"""Jobs of a Slurm cluster, submitted as arrays through submitit.

What has become of a job is not asked of Slurm's accounting, which not every cluster has: a job is
over when squeue does not know it any more, and what came of it stands in its run's folder.
"""

import contextlib
import getpass
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from terminator.batch.jobs import Job, logs
from terminator.runs.records import write_json
from terminator.runtime.locks import folder_lock
from terminator.runtime.machine import thread_variables
from terminator.runtime.paths import CACHE_VARIABLE, DATA_VARIABLE, RESULTS_VARIABLE, results_dir
from terminator.runtime.settings import ConfigError

PLAIN = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node")
REQUEUES = 1000  # of a job that ran out of its time: as often as it takes
MOST = 1000  # jobs at a time: Slurm's own limit of an array, by default


class Training:
    """What a job does: one training, as a process of its own. submitit pickles it, and calls
    `checkpoint` when the job is preempted or runs out of time.
    """

    def __init__(self, job: Job, variables: dict[str, str]):
        self.job, self.variables = job, variables
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Train; what is returned is the exit status of the training."""
        os.environ.update(self.variables)
        cores = int(os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        threads = thread_variables(self.job.processes, cores)
        self._process = self.job.start(threads, own_group=False)
        status = self._process.wait()
        write_json(status_file(self.job.key), {"status": status})
        return status

    def checkpoint(self) -> Any:
        """End the training, which has its checkpoint, and have the same job queued again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
            self._process.kill()
        return DelayedSubmission(Training(self.job, self.variables))


def status_file(key: str) -> Path:
    """Where a job says how its training ended."""
    return logs() / f"{key}.status"


class Slurm:
    """Arrays of jobs, shared with every other `work` on the same results folder: none is submitted
    twice, and of jobs that only another asked for this one says and cancels nothing.

    Args:
        settings: of the jobs, as submitit names them: partition, gpus_per_node, timeout_min, ...
        poll_s: seconds between two looks.

    Raises:
        ConfigError: without Slurm or submitit, or for a setting that submitit does not know.
    """

    name = "slurm"

    def __init__(self, settings: dict[str, str], poll_s: float = 5.0):
        if not shutil.which("sbatch") or not shutil.which("squeue"):
            raise ConfigError(
                "--on is 'slurm', but sbatch and squeue are not on this machine; allowed: a login "
                "node of a Slurm cluster, or --on local"
            )
        try:
            import submitit
        except ImportError:
            raise ConfigError(
                "--on is 'slurm', which needs submitit: python -m pip install 'submitit>=1.5'"
            ) from None
        self.poll_s = poll_s
        self.folder = logs() / "slurm"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._executor = submitit.AutoExecutor(
            self.folder / "%j", cluster="slurm", slurm_max_num_timeout=REQUEUES
        )
        given = {(k if k in PLAIN else f"slurm_{k}"): _value(v) for k, v in settings.items()}
        try:
            self._executor.update_parameters(**{"name": "terminator", **given})
        except (NameError, TypeError, AssertionError) as error:
            raise ConfigError(f"--slurm: {' '.join(str(error).split())[:500]}") from None
        self._jobs: dict[str, str] = {}  # by key: the job's number
        self._asked: set[str] = set()  # keys that this `work` asked for
        self._gone: dict[str, int | None] = {}
        self._look()

    def free(self) -> int:
        return MOST - len(self._jobs)

    def running(self) -> set[str]:
        return self._jobs.keys() & self._asked

    def start(self, jobs: list[Job]) -> None:
        places = {
            name: os.environ[name] for name in (DATA_VARIABLE, CACHE_VARIABLE) if name in os.environ
        }
        variables = {**places, RESULTS_VARIABLE: str(results_dir())}
        with self._shared() as known:
            chosen = [job for job in jobs if job.key not in known]  # another `work` may be faster
            for job in chosen:
                status_file(job.key).unlink(missing_ok=True)
            trainings = [Training(job, variables) for job in chosen]
            made = self._submit(trainings) if chosen else []
            known |= {job.key: one.job_id for job, one in zip(chosen, made)}
        self._asked |= {job.key for job in jobs}
        self._jobs = dict(known)

    def _submit(self, trainings: list["Training"]) -> list[Any]:
        from submitit.core.utils import FailedJobError

        try:
            return self._executor.map_array(Training.__call__, trainings)
        except FailedJobError as error:  # of a partition or an account that is none, say
            said = " ".join((str(error) or str(error.__cause__)).split())
            raise ConfigError(f"sbatch refuses the jobs: {said[:500]}") from error

    def ended(self) -> dict[str, int | None]:
        self._look()
        gone, self._gone = self._gone, {}
        return gone

    def cancel(self) -> None:
        if running := self.running():
            subprocess.run(["scancel", *map(self._jobs.__getitem__, running)], check=False)

    # -- what Slurm says

    def _look(self) -> None:
        """See which jobs Slurm still has; forget the others, here and for all."""
        with self._shared() as known:  # else a job that another submits now would seem gone
            if (alive := _alive()) is None:  # no answer for now
                return
            gone = {key: number for key, number in known.items() if number not in alive}
            for key in gone:
                del known[key]
        ended = gone.keys() | (self._jobs.keys() - known.keys())
        self._gone |= {key: _status(key) for key in ended & self._asked}
        self._asked -= ended  # what another `work` submits again is its own
        self._jobs = dict(known)

    @contextlib.contextmanager
    def _shared(self) -> Any:
        """{key: job} of all jobs on this results folder, which is written back."""
        path, lock = self.folder / "jobs.json", folder_lock(self.folder)
        lock.acquire()
        try:
            try:
                known = json.loads(path.read_text(encoding="utf8"))
            except (OSError, ValueError):
                known = {}
            before = dict(known)
            yield known
            if known != before:
                write_json(path, known)
        finally:
            lock.release()


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _alive() -> set[str] | None:
    """Numbers of this user's jobs that wait or run; None if Slurm does not answer."""
    user = getpass.getuser()
    asked = ["squeue", "--noheader", "--array", "--user", user, "--format", "%i"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return set(done.stdout.split()) if done.returncode == 0 else None


def _status(key: str) -> int | None:
    try:
        return json.loads(status_file(key).read_text(encoding="utf8"))["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
