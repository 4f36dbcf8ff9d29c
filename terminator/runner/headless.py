"""What a headless run of the notebooks needs around it: an environment, and last words.

Used by: execution, and runner/worker.py.
"""

from __future__ import annotations

import json
import os
import sys

from terminator.runtime import machine
from terminator.runtime.machine import memory_bytes

KERNEL = "terminator-run-all"
KERNEL_BYTES = 2 * 2**30  # of memory, that a notebook is expected to need


def kernel_environment(scratch, jobs, results, data):
    """The environment of the kernels: this very Python, a share of the cores, absolute folders.

    Args:
        scratch: a temporary folder; jobs: notebooks at a time; results: the results folder; data:
            data folders joined as in PATH, or "".

    Returns:
        {variable: value}, which holds the kernel KERNEL under JUPYTER_PATH.
    """
    # A kernelspec of our own: one called python3 may be installed for some other environment.
    spec = scratch / "jupyter" / "kernels" / KERNEL
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": KERNEL, "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    places = [str(scratch / "jupyter"), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    environment = {
        **os.environ,
        "JUPYTER_PATH": os.pathsep.join(places),
        "TERMINATOR_RESULTS": str(results),
        "TERMINATOR_HEADLESS": "1",
        **machine.thread_variables(jobs),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # else each kernel warns about frozen modules
    }
    # a server's Agg would keep the figures out of the notebooks
    environment.pop("MPLBACKEND", None)
    for name, value in (
        ("TERMINATOR_DATA", data),
        ("TERMINATOR_CACHE", os.environ.get("TERMINATOR_CACHE")),
    ):
        if value:  # kernels run in another folder than the caller's
            folders = (
                os.path.abspath(os.path.expanduser(folder)) for folder in value.split(os.pathsep)
            )
            environment[name] = os.pathsep.join(folders)
    return environment


def default_jobs(profile):
    """Notebooks at a time: one per core, as far as memory goes; in the paper profile one alone,
    which has the machine, and its GPU, to itself.
    """
    if profile == "paper":
        return 1
    memory = memory_bytes()
    return max(
        1, min(machine.cores(), machine.cores() if memory is None else memory // KERNEL_BYTES)
    )


def post_mortem(log, code):
    """What is known of a process that ended without a word: its exit status and the end of its
    log.
    """
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    killed = " (killed; often that means that memory ran out)" if code == -9 else ""
    return f"its process ended with status {code}{killed}\n{text[-2000:]}".rstrip()
