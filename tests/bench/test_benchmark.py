"""The benchmark measures, compares revisions, refuses nonsense; and the network has not become
slow.
"""

import shutil
import subprocess
import sys

import pytest
import torch
from places import PACKAGE
from torch.utils.flop_counter import FlopCounterMode

from terminator.bench import case as benchmark
from terminator.bench import floors, measure, network, revision
from terminator.model import Terminator
from terminator.ops.products import product
from terminator.runs import measurements
from terminator.runtime import git
from terminator.runtime.memory import keep_freed_memory
from terminator.runtime.settings import ConfigError

USUAL_STEP = 36.0  # the step of the test below, in products of two 1024 x 1024 matrices
TINY = {"size": 4, "batch": 2, "threads": 1, "repeats": 2, "warm_up": 1}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "what",
    ["training", *(pytest.param(w, marks=pytest.mark.slow) for w in ("inference", "optimizer"))],
)
def test_a_case_is_measured_in_its_own_process(what):
    result = benchmark.measure(benchmark.Case(what, **TINY))
    assert len(result["seconds"]) == 2
    assert all(0 < s < 60 for s in result["seconds"])
    assert 2**27 < result["peak_bytes"] < 2**33  # torch alone takes more than 128 MiB


@pytest.mark.slow
def test_run_writes_a_record_with_floors(results):
    table = benchmark.run([benchmark.Case(**TINY), benchmark.Case("inference", **TINY)], "smoke")
    assert list(table["what"]) == ["training", "inference"]
    assert (table["ms_low"] <= table["ms"]).all()
    assert (table["ms"] <= table["ms_high"]).all()
    assert table["flops"][0] > 2 * table["flops"][1] > 0
    assert (table["over_floor"] > 1).all()
    assert (table["over_serial_floor"] <= table["over_floor"]).all()
    (record,) = measurements.load("smoke")
    assert record["rows"][0]["ms"] == table["ms"][0]
    assert measurements.load("paper") == []


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_a_convolution_and_its_gradients_take_three_times_its_operations(groups):
    layer = torch.nn.Conv2d(16, 32, 5, padding=2, groups=groups)
    x = torch.randn(3, 16, 8, 8, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=floors.COUNTED) as counter:
        layer(x).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 3 * 32 * 8 * 8 * 5 * 5 * 16 // groups


def test_rates_are_those_of_the_threads_asked_for():
    before = torch.get_num_threads()
    rates = floors.machine_rates(threads=1, side=256, megabytes=1)
    assert torch.get_num_threads() == before
    assert rates.flops == max(rates.matrix_product, rates.convolution)
    assert min(rates.flops, rates.bytes) > 1e8


def test_work_counts_what_is_read_and_written_but_no_views():
    x = torch.ones(100)
    (add,) = floors.work(lambda: (x + 1).view(10, 10).t())
    assert add[0] == 0
    assert 2 * x.nbytes <= add[1] < 3 * x.nbytes + 64
    (in_place,) = floors.work(lambda: x.add_(1))
    assert in_place[1] >= 2 * x.nbytes


def test_the_serial_floor_takes_every_operation_by_its_larger_part():
    a = torch.ones(50, 50)
    assert floors.work(lambda: a @ a + 1) == [(2 * 50**3, 3 * a.nbytes), (0, 2 * a.nbytes)]
    case = benchmark.Case(**TINY)
    few, many = (
        benchmark.with_floors({"ms": 1.0}, case, floors.Rates(1e9, 1e9, rate))
        for rate in (1e15, 1e9)
    )
    # copies take no time
    assert few["serial_floor_ms"] == pytest.approx(few["flop_floor_ms"], rel=1e-3)
    assert many["serial_floor_ms"] > max(many["flop_floor_ms"], many["byte_floor_ms"])
    assert many["serial_floor_ms"] < many["flop_floor_ms"] + many["byte_floor_ms"]


@pytest.mark.slow
def test_compare_runs_another_revision_in_turns(results, tmp_path, monkeypatch):
    """A repository whose older revision is this kit, slowed down by a sleep."""
    repository = tmp_path / "kit"
    shutil.copytree(
        PACKAGE, repository / "terminator", ignore=shutil.ignore_patterns("__pycache__")
    )
    model = repository / "terminator" / "model.py"
    text = model.read_text()
    check = "        self._check_input(x)\n"
    slow = text.replace(check, f"{check}        __import__('time').sleep(1)\n")
    assert slow != text
    model.write_text(slow)
    someone = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*someone, "commit", "-qm", "slow"]):
        subprocess.run(["git", *command], cwd=repository, check=True, capture_output=True)
    monkeypatch.setattr(git, "checkout", lambda: repository)
    result = revision.compare(benchmark.Case(**TINY), "HEAD", rounds=1, profile="smoke")
    assert result["there"]["ms"] > max(1000, result["here"]["ms"])
    assert result["ratio"] == pytest.approx(result["there"]["ms"] / result["here"]["ms"])
    assert measurements.load("smoke")[0]["comparison"]["revision"] == "HEAD"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"what": "training", "batch": 1}, "batch is 1; allowed: an integer of at least 2"),
        (
            {"graphs": True},
            "graphs is True for training that is not compiled; allowed: for compiled training",
        ),
        ({"precision": "half"}, "precision is 'half'; allowed: float32, bf16"),
        ({"what": "nothing"}, "what is 'nothing'; allowed: training"),
        ({"repeats": 0}, "repeats is 0"),
        ({"optimizer": "Adam"}, "optimizer is 'Adam'; allowed: Kar3"),
    ],
)
def test_cases_that_cannot_be(changes, named):
    with pytest.raises(ConfigError, match=named):
        benchmark.Case(**changes)


def test_a_revision_that_is_not_there():
    with pytest.raises(ConfigError, match="revision is 'nowhere'"):
        revision.compare(benchmark.Case(**TINY), "nowhere")


def test_a_failing_process_says_why(tmp_path):
    (tmp_path / "terminator").mkdir()
    (tmp_path / "terminator" / "__init__.py").write_text("raise ImportError('this kit is broken')")
    with pytest.raises(RuntimeError, match="this kit is broken"):
        benchmark.measure(benchmark.Case(**TINY), root=tmp_path)


def test_memory_is_kept_and_reused():
    keep_freed_memory()  # of no effect elsewhere than with glibc, but no error either
    code = (
        "import resource, torch; from terminator.runtime.memory import keep_freed_memory; "
        "keep_freed_memory()\ndef faults(): return "
        "resource.getrusage(resource.RUSAGE_SELF).ru_minflt\nfor _ in range(40): "
        "torch.ones(2**22)\nbefore = faults()\nfor _ in range(10): "
        "torch.ones(2**22)\nprint(faults() - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # pages of five such tensors; those of ten, if memory were mapped anew
    assert int(out.stdout) < 4096 * 5


@pytest.mark.slow
def test_a_training_step_has_not_become_slow():
    """In units of a matrix product of fixed size, timed beside it; twice the usual figure is a
    failure.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, x, labels = network.build(16, 16, 2, "cpu")
        step = network.training_step(model, model, x, labels, "float32")
        step()
        ratios, a = [], torch.randn(1024, 1024)
        for _ in range(5):
            unit = measure.best_seconds(lambda: product(a, a), repeats=9)
            ratios.append(measure.best_seconds(step, repeats=1) / unit)
    finally:
        torch.set_num_threads(threads)
    assert min(ratios) < 2 * USUAL_STEP, ratios


def test_kar3_for_all_parameters_at_once_is_faster_than_one_by_one():
    """In one of a few rounds at least: what else the machine does must not decide."""
    steps = [network.optimizer_step(Terminator(size=8), name) for name in ("Kar3", "Kar3 plain")]
    ratios = []
    for _ in range(6):
        together, one_by_one = (measure.best_seconds(step, repeats=9) for step in steps)
        ratios.append(together / one_by_one)
    assert min(ratios) < 0.8, ratios
