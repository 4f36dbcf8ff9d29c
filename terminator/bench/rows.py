"""The rows of the suite by name, and the measurement of one.

This file is handed over to a process of its own, with those that it imports; where a revision has
no such name as a row needs, that row is left out.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from terminator.bench.measure import clock_of, peak_bytes, process_bytes, seconds, unit_seconds
from terminator.bench.network import keep_freed_memory
from terminator.bench.steps import (
    FIRST_STEP,
    Work,
    attention,
    augment,
    baseline,
    decode,
    episodes,
    epoch,
    ham,
    hamburger,
    hypertransformer,
    layer,
    start,
    terminator,
    tokens,
    trees,
    uncalibrated,
)


class Row(NamedTuple):
    """One row of the suite."""

    what: str  # as a reader calls it
    make: Callable[..., Work]
    full: Mapping[str, Any] = {}  # arguments of `make`
    tiny: Mapping[str, Any] = {}  # those that differ in a size that takes no time
    has_floor: bool = True  # its operations are torch's
    counts_tensors: bool = True  # with thousands of them alive, that would take minutes


_HAM = {"batch": 2, "channels": 512, "side": 32, "rank": 64}
_SMALL_HAM = {"batch": 2, "channels": 8, "side": 4, "rank": 2}
_HRR, _SMALL_HRR = {"batch": 4, "width": 256, "heads": 8}, {"batch": 2, "length": 16, "width": 16}
_FEW, _FEWER = {"ways": 20}, {"ways": 2, "size": 16}
_IMAGES = {"size": 32, "batch": 32}
_CCNN = {"form": "released", "dropout": 0.1}
_FEW_IMAGES = {"size": 8, "batch": 2}


def _training(how: str, **full: Any) -> Row:
    full, tiny = {"what": "training", **full}, {"size": 4, "batch": 2}
    return Row(f"Terminator, training{how}", terminator, full, tiny, counts_tensors=False)


ROWS = {
    "terminator-training": _training("", **_IMAGES),
    "terminator-training-bf16": _training(", bf16", precision="bf16", **_IMAGES),
    "terminator-training-8x8": _training(", 64 of 8x8", size=8, batch=64),
    "terminator-training-14x14": _training(", 64 of 14x14", size=14, batch=64),
    "terminator-epoch-8x8": Row(
        "Terminator, an epoch of 8 steps of 64 of 8x8, and its test",
        epoch,
        {"size": 8, "images": 512},
        {"size": 4, "images": 8, "batch": 2},
        has_floor=False,
        counts_tensors=False,
    ),
    "terminator-answer": Row(
        "Terminator, one image, calibrated",
        terminator,
        {"what": "inference", "size": 32, "batch": 1},
        {"size": 4},
    ),
    "terminator-answer-bf16": Row(
        "Terminator, one image, calibrated, bf16",
        terminator,
        {"what": "inference", "size": 32, "batch": 1, "precision": "bf16"},
        {"size": 4},
    ),
    "terminator-answer-uncalibrated": Row(
        "Terminator, one image, as released", uncalibrated, {"size": 32}, {"size": 4}
    ),
    "ham-nmf": Row("Ham, NMF, 512 x 1,024", ham, {"kind": "NMF", **_HAM}, _SMALL_HAM),
    "ham-nmf-64": Row(
        "Ham, NMF, 512 x 4,096", ham, {"kind": "NMF", **_HAM, "batch": 1, "side": 64}, _SMALL_HAM
    ),
    "ham-nmf-answer": Row(
        "Ham, NMF, 512 x 1,024, answer", ham, {"kind": "NMF", **_HAM, "training": False}, _SMALL_HAM
    ),
    "ham-cd": Row("Ham, CD, 512 x 1,024", ham, {"kind": "CD", **_HAM}, _SMALL_HAM),
    "ham-vq": Row("Ham, VQ, 512 x 1,024", ham, {"kind": "VQ", **_HAM}, _SMALL_HAM),
    "hamburger-nmf": Row("Hamburger block, NMF", hamburger, {"kind": "NMF", **_HAM}, _SMALL_HAM),
    "hamburger-cd": Row("Hamburger block, CD", hamburger, {"kind": "CD", **_HAM}, _SMALL_HAM),
    "hamburger-vq": Row("Hamburger block, VQ", hamburger, {"kind": "VQ", **_HAM}, _SMALL_HAM),
    "hrr-attention-1024": Row(
        "Hrrformer attention, T 1,024", attention, {"length": 1024, **_HRR}, _SMALL_HRR
    ),
    "hrr-attention-4096": Row(
        "Hrrformer attention, T 4,096", attention, {"length": 4096, **_HRR}, _SMALL_HRR
    ),
    "hrr-attention-answer": Row(
        "Hrrformer attention, T 4,096, answer",
        attention,
        {"length": 4096, "training": False, **_HRR},
        _SMALL_HRR,
    ),
    "hrr-layer-1024": Row("Hrrformer layer, T 1,024", layer, {"length": 1024, **_HRR}, _SMALL_HRR),
    "hrr-layer-4096": Row("Hrrformer layer, T 4,096", layer, {"length": 4096, **_HRR}, _SMALL_HRR),
    "hypertransformer-1": Row(
        "HyperTransformer, training, 20-way, one episode",
        hypertransformer,
        {"episodes": 1, **_FEW},
        _FEWER,
    ),
    "hypertransformer-8": Row(
        "HyperTransformer, training, 20-way, eight episodes",
        hypertransformer,
        {"episodes": 8, **_FEW},
        _FEWER,
    ),
    "hypertransformer-answer": Row(
        "HyperTransformer, answer, 20-way, one episode",
        hypertransformer,
        {"episodes": 1, "training": False, **_FEW},
        _FEWER,
    ),
    "ccnn-training": Row(
        "CCNN-4,140, training, kernels of 33x33",
        baseline,
        {"name": "ccnn", **_CCNN, **_IMAGES},
        {**_FEW_IMAGES, "hidden": 4},
    ),
    "ccnn-cropped": Row(
        "CCNN-4,140, training, kernels cropped to 5x5",
        baseline,
        {"name": "ccnn", **_CCNN, "mask_width": 0.075, **_IMAGES},
        {**_FEW_IMAGES, "hidden": 4},
    ),
    "ccnn-answer": Row(
        "CCNN-4,140, one image",
        baseline,
        {"name": "ccnn", **_CCNN, "size": 32, "batch": 1, "training": False},
        {"size": 8, "hidden": 4},
    ),
    "resnet18-training": Row(
        "ResNet-18, training", baseline, {"name": "resnet18", **_IMAGES}, _FEW_IMAGES
    ),
    "resnet18-answer": Row(
        "ResNet-18, one image",
        baseline,
        {"name": "resnet18", "size": 32, "batch": 1, "training": False},
        {"size": 8},
    ),
    "data-decode": Row(
        "JPEG files of 64x64 decoded to 32x32",
        decode,
        {"images": 256, "side": 64, "size": 32},
        {"images": 4},
        has_floor=False,
    ),
    "data-augment": Row(
        "Crops and flips of 32x32, normalised", augment, {"images": 512, "size": 32}, {"images": 4}
    ),
    "data-episodes": Row(
        "20-way episodes drawn", episodes, {"count": 8, **_FEW}, {"count": 1, **_FEWER}
    ),
    "data-tokens": Row(
        "Texts to batches of 4,096 tokens", tokens, {"batch": 32, "length": 4096}, {"length": 64}
    ),
    "data-listops": Row(
        "ListOps trees drawn", trees, {"length": 2000}, {"length": 64}, has_floor=False
    ),
    "start-import": Row(
        "Import of terminator",
        start,
        {"code": "import terminator"},
        has_floor=False,
        counts_tensors=False,
    ),
    "start-model": Row(
        "Import of the model",
        start,
        {"code": "import terminator.model"},
        has_floor=False,
        counts_tensors=False,
    ),
    "start-step": Row(
        "From nothing to the first step, 64 of 8x8",
        start,
        {"code": FIRST_STEP},
        {"code": "import terminator"},
        has_floor=False,
        counts_tensors=False,
    ),
}


def make(row: str, tiny: bool = False) -> Work:
    """The work of a row, in full or in a tiny size."""
    found = ROWS[row]
    return found.make(**{**found.full, **(found.tiny if tiny else {})})


def main(
    row: str, tiny: bool, threads: int, repeats: int, warm_up: int, device: str = "cpu"
) -> dict[str, Any]:
    """Measure a row in this process, and change its threads and memory for good.

    Returns:
        amount, unit_of_amount; first_s, seconds (of every repeat), clock (process or wall), unit
        (s of the fixed matrix product, timed before and after), bytes (the peak of what tensors
        held, what is kept for the backward pass included; 0 uncounted), process_bytes; or
        `lacking`, why this revision cannot be measured so.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    apart = row.startswith("start-")
    clock = time.perf_counter if apart else clock_of(device, threads)
    before = unit_seconds(device, clock)
    try:
        work = make(row, tiny)
    except (ImportError, AttributeError) as error:
        return {"lacking": f"{type(error).__name__}: {error}"}
    times = seconds(work.step, repeats, warm_up, device, clock)
    peak = process_bytes(device)
    counted = ROWS[row].counts_tensors
    held = peak_bytes(torch.enable_grad()(work.step), device) if counted else 0
    return {
        "amount": work.amount,
        "unit_of_amount": work.unit,
        "first_s": times[0],
        "seconds": times[warm_up:],
        "clock": "process" if clock is time.process_time else "wall",
        "unit": min(before, unit_seconds(device, clock)),
        "bytes": held,
        "process_bytes": peak,
    }
