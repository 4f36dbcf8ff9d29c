"""Several processes, one training: started by torchrun, joined here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from terminator.runtime.settings import ConfigError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # what it sets


class Processes(Protocol):
    """The settings, `train` of any task, that say which processes train together, and on what."""

    @property
    def device(self) -> str: ...  # auto, cpu, cuda
    @property
    def distributed(self) -> bool: ...  # under torchrun
    @property
    def num_nodes(self) -> int: ...  # machines
    @property
    def avail_gpus(self) -> int: ...  # processes per machine; -1: as many as torchrun started


def choose_device(name: str) -> torch.device:
    """The device of that name: auto (CUDA where there is one), cpu or cuda.

    Raises:
        ConfigError: if CUDA is asked for and there is none, or none for this process.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device is 'cuda', but torch sees no CUDA device here; allowed: cpu, auto"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"torchrun started {os.environ.get('LOCAL_WORLD_SIZE', local + 1)} processes on this "
            f"machine, which has {count} CUDA devices; allowed: --nproc_per_node {count}, or fewer"
        )
    return torch.device("cuda", local)


def rank() -> int:
    """This process's number, 0 where there is only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class MeanOverRanks(torch.autograd.Function):
    """The mean of a tensor over all ranks of a distributed run; gradients reach every rank."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return MeanOverRanks.forward(ctx, gradient.contiguous())


@contextmanager
def processes(config: Processes) -> Iterator[None]:
    """Join torchrun's processes for the duration, if the configuration says so.

    Raises:
        ConfigError: if torchrun did not start this process, or started another number of processes.
    """
    if (
        not config.distributed
        and int(os.environ.get("WORLD_SIZE", "1")) > 1
        and "TORCHELASTIC_RUN_ID" in os.environ
    ):
        raise ConfigError(
            f"train.distributed is false, but torchrun started {os.environ['WORLD_SIZE']} "
            "processes, which would all train the same; allowed: train.distributed=True"
        )
    if not config.distributed or dist.is_initialized():
        yield
        return
    if missing := [name for name in TORCHRUN if name not in os.environ]:
        raise ConfigError(
            f"train.distributed is true, but torchrun did not start this process: {missing[0]} is "
            "not set; run `torchrun --nproc_per_node N -m terminator train train.distributed=True "
            "...`"
        )
    local, started = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if config.avail_gpus not in (-1, local):
        raise ConfigError(
            f"train.avail_gpus is {config.avail_gpus}; allowed: -1, or {local}, the number of "
            "processes that torchrun started on this machine (--nproc_per_node)"
        )
    if started != local * config.num_nodes:
        raise ConfigError(
            f"train.num_nodes is {config.num_nodes}; allowed: {started // local}, the number of "
            "machines that torchrun joined (--nnodes)"
        )
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def leave(status: int) -> NoReturn:
    """End this process with an exit status; one that torchrun started at once, without the
    interpreter's own ending.

    DistributedDataParallel does not let go of its process group when it goes, and the group's
    threads now and then abort an interpreter that takes itself down beside them: after all is done,
    the run would count as failed.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def wrap(model: nn.Module, device: torch.device) -> nn.Module:
    """The model itself, or its DistributedDataParallel wrapper."""
    if world_size() == 1:
        return model
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device] if device.type == "cuda" else None
    )


@contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process do something before the others, which find it done: data that are
    downloaded, generated or cached.
    """
    if rank() > 0:
        barrier()
    try:
        yield
    finally:
        if rank() == 0:
            barrier()


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """One picklable value of every process, in order of rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Any) -> Any:
    """Rank 0's picklable value, on every process."""
    return gather(value)[0]
