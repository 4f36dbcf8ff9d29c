"""Two processes on the CPU, started by torchrun, train as one does."""

import json
import os
import subprocess
import sys

import pytest
import torch
from places import TESTS
from small_command import SMALL

from terminator import ConfigError
from terminator.__main__ import main
from terminator.classification.config import TrainConfig
from terminator.classification.trainer import Trainer
from terminator.runs import records
from terminator.runtime import checkpoint
from terminator.runtime.checkpoint import CheckpointError, Checkpoints
from terminator.runtime.distributed import choose_device, processes
from terminator.runtime.paths import results_dir

TERMS = ("loss", "cross_entropy", "slow_neural_loss", "norm_penalty", "test_cross_entropy")

SCRIPT = """
import json, sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import conftest
from terminator.classification.config import Config
from terminator.runtime.settings import from_dict
from terminator.runtime.distributed import gather, leave, processes, rank
from terminator.classification.trainer import Trainer
from terminator.trainer import TrainingDiverged

make = {{name: getattr(conftest, name).__wrapped__() for name in ("tiny_model", "tiny_config", "tiny_data")}}
found = {{}}
with processes(from_dict(Config, {{"train": {{"distributed": True, "device": "cpu"}}}}).train):
    for name, case in json.loads(Path({cases!r}).read_text()).items():
        model = make["tiny_model"](**case.pop("model", {{}}))
        trainer = Trainer(model, make["tiny_config"](**case), make["tiny_data"]())
        rows = trainer.fit()
        trainer.calibrate()
        total = sum(p.double().sum().item() for p in model.parameters())
        found[name] = {{"rows": rows, "calibrated": trainer.evaluate("calibrated"), "sums": gather(total)}}
    trainer = Trainer(make["tiny_model"](), make["tiny_config"](), make["tiny_data"]())
    known = trainer.task.loss_terms

    def one_is_lost(*args):
        terms, logits = known(*args)
        terms["cross_entropy"] = terms["cross_entropy"] * (float("inf") if rank() else 1.0)
        return terms, logits

    trainer.task.loss_terms = one_is_lost
    try:
        trainer.fit()
    except TrainingDiverged as error:
        found["diverged"] = gather(str(error))
    try:
        Trainer(make["tiny_model"](), make["tiny_config"]("train.batch_size=7"), make["tiny_data"]())
    except ValueError as error:
        found["odd batch"] = str(error)
    if rank() == 0:
        Path({out!r}).write_text(json.dumps(found))
leave(0)
"""

SGD = {"optimizer": {"name": "SGD", "lr": 0.02}}
CASES = {  # what to change in the tiny configuration, and how close the losses must be
    "g_ibs": ({**SGD}, 1e-4),
    "accumulate": ({**SGD, "train": {"accumulate": 2}}, 1e-4),
    "batch_affine": ({**SGD, "model": {"standardization": "batch_affine"}}, 1e-4),
    "augmented": ({**SGD, "dataset": {"crop_padding": 2, "flip": True}}, 1e-4),
    "Kar3, first epoch": ({"optimizer": {"name": "Kar3"}, "train": {"epochs": 1}}, 0.02),
    "bf16": ({**SGD, "train": {"precision": "bf16", "epochs": 1}}, 0.02),
}


def torchrun(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            *map(str, arguments),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, for every case."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "cases.json").write_text(
        json.dumps({name: case for name, (case, _) in CASES.items()})
    )
    (folder / "script.py").write_text(
        SCRIPT.format(
            tests=str(TESTS), out=str(folder / "out.json"), cases=str(folder / "cases.json")
        )
    )
    done = torchrun(folder / "script.py")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "out.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_loss_curve_of_two_processes_is_that_of_one(
    two, tiny_model, tiny_config, tiny_data, name
):
    case, tolerance = CASES[name]
    changes = {key: value for key, value in case.items() if key != "model"}
    one = Trainer(tiny_model(**case.get("model", {})), tiny_config(**changes), tiny_data())
    rows = one.fit()
    assert len(rows) == len(two[name]["rows"])
    for ours, theirs in zip(rows, two[name]["rows"], strict=True):
        for term in TERMS:
            assert theirs[term] == pytest.approx(ours[term], rel=tolerance), term
        assert theirs["train_accuracy"] == pytest.approx(ours["train_accuracy"], abs=4)
    one.calibrate()
    assert two[name]["calibrated"]["cross_entropy"] == pytest.approx(
        one.evaluate("calibrated")["cross_entropy"], rel=max(0.001, 3 * tolerance)
    )
    assert two[name]["calibrated"]["images"] == 12
    first, second = two[name]["sums"]
    assert first == second  # both hold the same weights


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(two):
    assert (
        "train.batch_size is 7; allowed: multiples of train.accumulate x processes = 1 x 2"
        in two["odd batch"]
    )


@pytest.mark.slow
def test_a_loss_that_one_process_lost_ends_both_alike(two):
    assert len(two["diverged"]) == 2
    assert len(set(two["diverged"])) == 1
    assert "the loss is inf in epoch 1, step 1 of" in two["diverged"][0]


@pytest.mark.slow
def test_the_command_line_under_torchrun(capsys):
    words = ["-m", "terminator", "train", *SMALL, "--profile", "smoke"]
    two_processes = ("train.distributed=True", "train.avail_gpus=2", "train.num_nodes=1")
    done = torchrun(*words, *two_processes)
    assert done.returncode == 0, done.stderr[-3000:]
    # rank 0 speaks for all
    assert done.stdout.count("record, metrics and model:") == 1, done.stdout
    assert done.stdout.count("released:") == 1
    (record,) = records.load_records("cli")
    assert record["status"] == "ok"
    assert (
        record["results"]["released"]["images"] == record["results"]["calibrated"]["images"] == 40
    )
    assert main(words[2:]) == 0  # one process finds the record of two
    assert "epoch" not in capsys.readouterr().out.replace("epochs", "")
    assert records.load_records("cli") == [record]
    (model,) = (results_dir() / "runs" / "cli").glob("*/model.safetensors")
    done = torchrun("-m", "terminator", "evaluate", str(model), *two_processes)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("released:") == done.stdout.count("calibrated:") == 1, done.stdout
    assert done.stdout.count(" of 40 images") == 2, done.stdout


# -- what torchrun and the settings disagree about -------------------------------------------------


@pytest.fixture
def environment(monkeypatch):
    """Pretend that torchrun started this process as one of two on each of two machines."""
    for name, value in {
        "RANK": 0,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 2,
        "WORLD_SIZE": 4,
        "TORCHELASTIC_RUN_ID": "x",
    }.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_nodes": 2, "avail_gpus": 4}, "train.avail_gpus is 4; allowed: -1, or 2"),
        ({"num_nodes": 1, "avail_gpus": 2}, "train.num_nodes is 1; allowed: 2"),
        ({"num_nodes": 3}, "train.num_nodes is 3; allowed: 2"),
    ],
)
def test_processes_and_machines_that_torchrun_did_not_start(environment, settings, words):
    with (
        pytest.raises(ConfigError, match=words),
        processes(TrainConfig(distributed=True, device="cpu", **settings)),
    ):
        pass


def test_more_processes_than_devices(environment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match="2 processes .* has 1 CUDA devices; .*node 1, or fewer"):
        choose_device("auto")


def test_a_checkpoint_that_some_machines_do_not_see(monkeypatch, tmp_path):
    """As the first of two processes, whose results the other one does not share."""
    checkpoints = Checkpoints(tmp_path / "checkpoint.pt", {}, 0)
    monkeypatch.setattr(checkpoint, "gather", lambda value: [value, False])
    assert checkpoints.load() is None
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="there for 1 of 2 processes; .*TERMINATOR_RESULTS"):
        checkpoints.load()


def test_torchrun_without_the_setting(environment):
    with (
        pytest.raises(
            ConfigError, match="train.distributed is false, but torchrun started 4 processes"
        ),
        processes(TrainConfig()),
    ):
        pass


def test_the_setting_without_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(ConfigError, match="not start this process: RANK is not set; run `torchrun"),
        processes(TrainConfig(distributed=True)),
    ):
        pass
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # as other launchers do
        monkeypatch.setenv(name, "1")
    with (
        pytest.raises(ConfigError, match="LOCAL_WORLD_SIZE is not set"),
        processes(TrainConfig(distributed=True)),
    ):
        pass
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    with processes(TrainConfig(avail_gpus=8, num_nodes=3)):  # nothing to join: accepted and ignored
        pass


@pytest.mark.parametrize(
    ("started_by_torchrun", "status"),
    [
        (True, 3),
        (False, 0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((True, 0), (False, 3))),
    ],
)
def test_leaving_keeps_the_exit_status_and_what_was_printed(started_by_torchrun, status):
    environment = {
        name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import atexit; from terminator.runtime.distributed import "
            f"leave\natexit.register(print, 'good-bye'); print('done'); leave({status})",
        ],
        env=environment | ({"TORCHELASTIC_RUN_ID": "1"} if started_by_torchrun else {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert done.stdout.split() == ["done"] if started_by_torchrun else ["done", "good-bye"]


ALONE = """
import sys, time
from pathlib import Path

import torch.distributed as dist

from terminator.runtime.distributed import first_alone, rank

place, fails = Path(sys.argv[1]), sys.argv[3] == "fails"
dist.init_process_group("gloo", f"file://{place}/meeting", rank=int(sys.argv[2]), world_size=2)
with first_alone():
    if rank() == 0:
        time.sleep(0.5)
        if fails:
            raise ValueError("no data")
        (place / "made").touch()
    print(rank(), (place / "made").exists())
"""


@pytest.mark.parametrize("ends", ["works", "fails"])
def test_the_first_process_goes_ahead_and_the_others_never_wait_in_vain(tmp_path, ends):
    words = [sys.executable, "-c", ALONE, str(tmp_path)]
    started = [
        subprocess.Popen(
            [*words, str(rank), ends], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert told[1][0] == f"1 {ends == 'works'}\n", told
    assert ("ValueError: no data" in told[0][1]) == (ends == "fails")
