"""The same settings give the same bits on the same machine; on another one, the same within a
stated tolerance.
"""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from places import TESTS

from terminator.classification.runs import CLASSIFICATION
from terminator.ops.pooling import pooled
from terminator.runtime.deterministic import deterministic_algorithms

SCRIPT = """
import hashlib, json, sys
import torch
sys.path.insert(0, {tests!r})
import conftest
from terminator.classification.runs import CLASSIFICATION

torch.set_num_threads({threads})
make = {{name: getattr(conftest, name).__wrapped__() for name in ("tiny_model", "tiny_config", "tiny_data")}}
torch.manual_seed(0)
x = torch.randn(8, 3, 8, 8)
logits = make["tiny_model"]().train()(x)
config = make["tiny_config"](dataset={{"crop_padding": 1, "flip": True}}, model={{"dropout": [0.1]}},
                             optimizer={{"name": "Kar3"}}, train={{"epochs": 3, "seed": 4}})
run = CLASSIFICATION.run(config, "bits", data=make["tiny_data"](train=64, test=32), force=True)
digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in run.model().state_dict().values())).hexdigest()
print("RESULT", json.dumps({{"logits": logits.tolist(), "digest": digest, "first": run.record["epochs"][0]["loss"],
                             "accuracy": run.accuracy(), "capability": torch.backends.cpu.get_cpu_capability()}}))
"""


def trained(threads=1, **environment):
    """What a fresh process finds."""
    code = SCRIPT.format(tests=str(TESTS), threads=threads)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)} | environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT "))


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return trained(TERMINATOR_RESULTS=str(tmp_path_factory.mktemp("once")))


@pytest.mark.slow
def test_two_fresh_processes_agree_bit_for_bit(once):
    assert trained() == once


# What docs/gpu-and-clusters.md states for another processor or number of threads:
LOGITS, FIRST_EPOCH = 2e-3, 0.02  # relative
POINTS = 25  # of accuracy of 32 images: what eight seeds on one processor span
# The last bit of a sine's argument, large with omega_0 = 2000, is 1e-4; initial values differ by
# such bits too.


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"threads": 2},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    ],
    ids=["two threads", "a processor without vector units"],
)
def test_another_processor_agrees_within_the_stated_tolerance(once, environment):
    other = trained(**environment)
    assert torch.allclose(
        torch.tensor(other["logits"]), torch.tensor(once["logits"]), rtol=LOGITS, atol=LOGITS
    )
    assert other["first"] == pytest.approx(once["first"], rel=FIRST_EPOCH)
    assert other["accuracy"] == pytest.approx(once["accuracy"], abs=POINTS)
    if "ATEN_CPU_CAPABILITY" in environment:
        assert other["capability"] == "DEFAULT"  # it was another code path
        assert once["capability"] != "DEFAULT"


def test_the_deterministic_mode_is_a_setting_of_the_run_and_ends_with_it(tiny_config, tiny_data):
    plain = CLASSIFICATION.run(tiny_config(), "bits", data=tiny_data())
    strict = CLASSIFICATION.run(tiny_config("train.deterministic=True"), "bits", data=tiny_data())
    assert strict.record["deterministic_algorithms"] is True
    assert plain.record["deterministic_algorithms"] is False
    assert not torch.are_deterministic_algorithms_enabled()
    assert strict.record["run_id"] != plain.record["run_id"]
    for ours, theirs in zip(strict.record["epochs"], plain.record["epochs"], strict=True):
        assert ours["loss"] == theirs["loss"]  # on the CPU nothing changes


def test_the_mode_ends_after_an_error_too():
    with pytest.raises(KeyError), deterministic_algorithms(True):
        {}[torch.are_deterministic_algorithms_enabled()]
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # a caller's own choice
    try:
        with deterministic_algorithms(True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 8, 8), (2, 3, 32, 32), (1, 2, 5, 5)])
@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_the_pooling_of_that_mode_is_torchs(shape, size):
    x = torch.randn(shape, dtype=torch.double, requires_grad=True)
    pool = F.adaptive_avg_pool1d if len(shape) == 3 else F.adaptive_avg_pool2d
    ours, theirs = pooled(x, size), pool(x, size)
    assert torch.allclose(ours, theirs)
    weights = torch.randn_like(ours)
    assert torch.allclose(
        *(torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, theirs))
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_deterministic_mode_on_cuda_gives_the_same_bits_twice(tiny_config, tiny_data):
    config = tiny_config("train.deterministic=True", train={"device": "cuda"})
    runs = [
        CLASSIFICATION.run(config, "bits", data=tiny_data(), force=True).model().state_dict()
        for _ in range(2)
    ]
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())
