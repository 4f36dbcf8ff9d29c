"""Jobs as processes of this machine, with a share of its cores, or a GPU, each."""

import os
from collections.abc import Callable

from terminator.batch import nursery
from terminator.batch.jobs import Job, Process, end
from terminator.runtime.machine import thread_variables


class Local:
    """So many processes at a time.

    Args:
        workers: how many.
        gpus: names of the GPUs that they share (of CUDA_VISIBLE_DEVICES); none: cores alone.
        wanted: asked for how many of the workers' places something else is in, or waits for.
    """

    name = "local"
    poll_s = 0.2

    def __init__(
        self, workers: int, gpus: tuple[str, ...] = (), wanted: Callable[[], int] = lambda: 0
    ):
        self.workers, self.gpus, self._wanted = workers, gpus, wanted
        self._running: dict[str, tuple[int, Process]] = {}  # the place, the process
        self._nursery: nursery.Nursery | None = None

    def free(self) -> int:
        return self.workers - len(self._running) - self._wanted()

    def running(self) -> set[str]:
        return set(self._running)

    def start(self, jobs: list[Job]) -> None:
        for job in jobs:
            place = min(set(range(self.workers)) - {taken for taken, _ in self._running.values()})
            self._running[job.key] = (place, self._start(job, place))

    def _start(self, job: Job, place: int) -> Process:
        """Fork it where that can be done, else start it from the beginning."""
        variables = self._variables(place, job.processes)
        if self.gpus or job.processes > 1 or not nursery.is_possible():
            return job.start(variables)
        if self._nursery is None or self._nursery.is_gone:
            self._nursery = nursery.Nursery(variables)
        return self._nursery.start(job) or job.start(variables)

    def _variables(self, place: int, processes: int) -> dict[str, str]:
        found = thread_variables(self.workers * processes)
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
        if self._nursery is not None:
            self._nursery.close()


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs here, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    if not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(named.split(",")) if named else tuple(map(str, range(torch.cuda.device_count())))
