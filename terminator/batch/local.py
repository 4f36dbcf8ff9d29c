"""Jobs as processes of this machine, with a share of its cores, or a GPU, each."""

import os
import subprocess

from terminator.batch.jobs import Job, end
from terminator.runner.headless import cores


class Local:
    """So many processes at a time.

    Args:
        workers: how many.
        gpus: names of the GPUs that they share (of CUDA_VISIBLE_DEVICES); none: cores alone.
    """

    name = "local"
    poll_s = 0.2

    def __init__(self, workers: int, gpus: tuple[str, ...] = ()):
        self.workers, self.gpus = workers, gpus
        self.threads = max(1, cores() // workers)
        self._running: dict[str, tuple[int, subprocess.Popen]] = {}  # the place, the process

    def free(self) -> int:
        return self.workers - len(self._running)

    def running(self) -> set[str]:
        return set(self._running)

    def start(self, jobs: list[Job]) -> None:
        for job in jobs:
            place = min(set(range(self.workers)) - {taken for taken, _ in self._running.values()})
            self._running[job.key] = (place, job.start(self._variables(place, job.processes)))

    def _variables(self, place: int, processes: int) -> dict[str, str]:
        threads = max(1, self.threads // processes)
        asked = os.environ.get("OMP_NUM_THREADS", "")
        found = {"OMP_NUM_THREADS": str(min(threads, int(asked) if asked.isdigit() else threads))}
        if self.gpus:
            first = place * processes
            names = [self.gpus[(first + i) % len(self.gpus)] for i in range(processes)]
            found["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(names))
        return found

    def ended(self) -> dict[str, int | None]:
        found = {key: p.poll() for key, (_, p) in self._running.items()}
        done = {key: status for key, status in found.items() if status is not None}
        for key in done:
            del self._running[key]
        return dict(done)

    def cancel(self) -> None:
        end([process for _, process in self._running.values()])
        self._running.clear()


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs here, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    if not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(named.split(",")) if named else tuple(map(str, range(torch.cuda.device_count())))
