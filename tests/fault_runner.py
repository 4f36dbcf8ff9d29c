"""A training that is killed at random moments, again and again, until it has come to its end; a
tool of the tests.

    python fault_runner.py FOLDER KILLS PROCESSES SEED

It imports torch once and forks every attempt, since fifty fresh interpreters would spend minutes on
importing. Two processes are forked with torchrun's variables and joined over gloo; when one is
killed so is the other, as torchrun does it. Prints one JSON line: kills and attempts, the moments,
and digests of the weights.
"""

import hashlib
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from safetensors.torch import load_file

import conftest
from terminator.classification.runs import CLASSIFICATION

make = {
    name: getattr(conftest, name).__wrapped__()
    for name in ("tiny_model", "tiny_config", "tiny_data")
}
EPOCHS = 8


def configuration(seed, processes):
    """A tiny Terminator with everything that has a state: dropout, augmentation, a schedule, Kar3's
    averages.
    """
    return make["tiny_config"](
        model={"factors": [4], "dropout": [0.2]},
        dataset={"crop_padding": 1, "flip": True},
        scheduler={"name": "cosine", "warmup_epochs": 1},
        optimizer={"name": "Kar3", "lr": 0.002},
        train={"epochs": EPOCHS, "batch_size": 8, "seed": seed, "distributed": processes > 1},
    )


def attempt(folder, seed, processes, port, rank):
    """In a forked process: train, or go on, to the end; never returns."""
    status = 1
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    try:
        os.environ |= {"TERMINATOR_RESULTS": str(folder), "TERMINATOR_HEADLESS": "1"}
        if processes > 1:
            os.environ |= {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
        torch.set_num_threads(1)
        CLASSIFICATION.run(
            configuration(seed, processes), "faults", data=make["tiny_data"](train=24, test=8)
        )
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def start(folder, seed, processes):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            attempt(folder, seed, processes, port, rank)
        children.append(child)
    return children


def wait(children, seconds):
    """Exit statuses of the children that ended within `seconds`: {process: status}."""
    ended, deadline = {}, time.monotonic() + seconds
    while len(ended) < len(children) and time.monotonic() < deadline:
        for child in children:
            if child not in ended:
                found, status = os.waitpid(child, os.WNOHANG)
                if found:
                    ended[child] = status
        time.sleep(0.002)
    return ended


def finish(folder, seed, processes, kills, chance, longest):
    """Train to the end, killed up to `kills` times after random times up to `longest` s; returns
    the moments.
    """
    moments = []
    while True:
        children = start(folder, seed, processes)
        patience = chance.uniform(0, longest) if len(moments) < kills else 120
        ended = wait(children, patience)
        if len(ended) == processes and not any(ended.values()):
            return moments
        if len(ended) == processes or len(moments) == kills:
            log = (folder / "log.txt").read_text()
            raise SystemExit(
                f"after {len(moments)} kills an attempt failed by itself, or was too slow:\n{log}"
            )
        for child in chance.sample(children, processes):  # one first, the other as torchrun would
            if child not in ended:
                os.kill(child, signal.SIGKILL)
        for child in children:
            if child not in ended:
                os.waitpid(child, 0)
        moments.append(round(patience, 4))


def digest(folder):
    """What a run left behind: its weights and buffers bit for bit, and every number of its record
    that is no time.
    """
    (path,) = (folder / "runs" / "faults").glob("*/record.json")
    record = json.loads(path.read_text())
    numbers = [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")}
        for row in record["epochs"]
    ]
    whole = hashlib.sha256(json.dumps([numbers, record["results"]], sort_keys=True).encode())
    for name, value in sorted(load_file(path.parent / "model.safetensors").items()):
        whole.update(name.encode() + value.numpy().tobytes())
    left = sorted(p.name for p in path.parent.iterdir() if p.name != ".lock")
    return whole.hexdigest(), left


def main(folder, kills, processes, seed):
    folder, chance = Path(folder), random.Random(seed)
    moments, results, runs = [], [], 0
    while len(moments) < kills:
        (folder / f"whole{runs}").mkdir(parents=True), (folder / f"killed{runs}").mkdir()
        began = time.monotonic()
        finish(folder / f"whole{runs}", runs, processes, 0, chance, 0)
        longest = (time.monotonic() - began) / 2
        moments += finish(
            folder / f"killed{runs}", runs, processes, kills - len(moments), chance, longest
        )
        results.append([digest(folder / f"whole{runs}"), digest(folder / f"killed{runs}")])
        runs += 1
    print(json.dumps({"kills": len(moments), "runs": runs, "moments": moments, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
