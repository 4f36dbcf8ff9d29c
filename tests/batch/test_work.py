"""The work: runs of a plan on this machine; whatever is killed goes on; nothing is made twice."""

import contextlib
import json
import os
import random
import signal
import time
from types import SimpleNamespace

import batch_tools
import psutil
import pytest

from terminator.batch import jobs, local, states, work
from terminator.batch.jobs import Job
from terminator.batch.plan import Plan, Planner, Run
from terminator.batch.states import State
from terminator.classification.runs import CLASSIFICATION
from terminator.data.errors import DatasetNotFound
from terminator.runs import folders, records
from terminator.runs.wanted import Wanted
from terminator.runtime import locks, machine
from terminator.runtime.paths import results_dir


@pytest.fixture
def planner(monkeypatch):
    """A planner of four tiny runs."""
    needs = batch_tools.tiny_needs(4, "train.epochs=2")
    monkeypatch.setattr("terminator.batch.plan.notebooks_of", lambda *given: needs)
    return Planner("smoke")


def outcome_of(planner, engine=None, **options):
    done = work.Work(planner, engine or local.Local(2), lambda work: None, **options)
    assert done.run()
    return done


def weights(folder):
    model = CLASSIFICATION.load(folder / "model.safetensors")[0]
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.slow
def test_two_workers_make_all_runs_in_order_and_find_them_again(planner):
    done = outcome_of(planner)
    assert done.left() == {}
    assert len(records.load_records("tiny")) == 4
    found = {run.wanted.label: run.state.record for run in done.plan.runs.values()}
    assert found["the last"]["started"] >= found["seed 0"]["finished"]
    assert all((jobs.logs() / f"{key}.log").is_file() for key in done.plan.runs)
    assert not list(results_dir().rglob("index.html"))  # a run of many leaves no page
    again = SimpleNamespace(
        name="none", poll_s=0, running=set, ended=dict, free=lambda: 9, start=pytest.fail
    )
    assert outcome_of(planner, again).left() == {}


# -- what goes wrong ---------------------------------------------------------------------------


class Pretend:
    """An engine whose jobs end at once, as it is told."""

    name, poll_s = "pretend", 0.0

    def __init__(self, end):
        self.end, self.started, self._over = end, [], {}

    def free(self):
        return 2 - len(self._over)

    def running(self):
        return set()

    def start(self, jobs):
        for job in jobs:
            self.started.append(job.key)
            self._over[job.key] = self.end(job, self.started.count(job.key))

    def ended(self):
        over, self._over = self._over, {}
        return over


def finish(job):
    """What a training that ends leaves."""
    experiment, _, run_id = job.key.partition("/")
    record = {
        **{"run_id": run_id, "experiment": experiment, "status": records.FINISHED, "epochs": []},
        **{"profile": "smoke", "seed": 0, "config": {}, "data": {}, "results": {}},
    }
    records.write_record(folder_of(job) / "record.json", record)
    return 0


def folder_of(job):
    return results_dir() / "runs" / job.key


def log(job, text):
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text(text)


def test_an_error_stops_its_run_and_those_that_read_it_but_no_other(planner):
    def end(job, count):
        if "seed=" in " ".join(job.arguments):  # all but the first, whose seed is the preset's
            return finish(job)
        log(job, "epoch 1\nerror: no room\n\n")
        return 2

    engine = Pretend(end)
    done = outcome_of(planner, engine)
    left = done.left()
    assert len(engine.started) == 3
    assert sorted(why.split(",")[0][:13] for why in left.values()) == [
        "comes after t",
        "error: no roo",
    ]
    assert len(records.load_records("tiny")) == 2


@pytest.mark.parametrize("tries", [1, 2])
def test_what_is_killed_is_started_again_as_long_as_it_comes_further(planner, tries):
    def end(job, count):
        (folder_of(job)).mkdir(parents=True, exist_ok=True)
        (folder_of(job) / "checkpoint.pt").write_text(str(count))
        os.utime(folder_of(job) / "checkpoint.pt", (count, count))
        return finish(job) if count == 9 else -9

    engine = Pretend(end)
    assert outcome_of(planner, engine, tries=tries).left() == {}
    assert len(engine.started) == 4 * 9


def test_what_never_comes_further_is_given_up_and_said(planner):
    engine = Pretend(lambda job, count: -9)
    left = outcome_of(planner, engine, tries=3).left()
    assert len(engine.started) == 3 * 3
    assert sum("3 times without coming further" in why for why in left.values()) == 3


def test_a_training_that_diverges_is_as_much_as_there_will_be(planner):
    def end(job, count):
        if len(engine.started) == 1:
            batch_tools.diverge(folder_of(job))
            return 2
        return finish(job)

    engine = Pretend(end)
    done = outcome_of(planner, engine)
    assert done.left() == {}
    assert len(engine.started) == 4  # what comes after it, too
    assert done.plan.count(states.DIVERGED) == 1


def test_a_run_that_another_makes_is_waited_for_and_not_started(planner, monkeypatch):
    monkeypatch.setattr(work, "ELSEWHERE_S", 0)
    key, run = next(iter(planner.plan().runs.items()))
    run.folder.mkdir(parents=True)
    lock = locks.folder_lock(run.folder)
    lock.acquire()
    looks = []

    def look(work):
        looks.append(work.doing(work.plan.runs[key]))
        if len(looks) == 3 and lock.is_locked:
            finish(Job(key, ()))
            lock.release()

    engine = Pretend(lambda job, count: finish(job))
    done = work.Work(planner, engine, look)
    assert done.run()
    assert key not in engine.started
    assert looks[0].startswith(f"by process {os.getpid()} on ")
    assert done.left() == {}


def missing():
    raise DatasetNotFound("not here")


def test_divergence_is_told_and_nobody_trains_to_it_again(tiny_config, tiny_data, monkeypatch):
    from terminator.trainer import Loop, TrainingDiverged

    config = tiny_config(optimizer={"lr": 1e30})
    with pytest.raises(TrainingDiverged):
        CLASSIFICATION.run(config, "tiny", data=tiny_data())
    (folder,) = (results_dir() / "runs" / "tiny").iterdir()
    found = states.look(folder)
    assert (found.name, "the loss is" in found.reason) == (states.DIVERGED, True)
    assert states.trained_by(folder) is None
    said = json.loads((folder / folders.DIVERGED).read_text())
    assert (said["run_id"], said["config"]["optimizer"]["lr"]) == (folder.name, 1e30)
    assert said["provenance"]["versions"]["torch"]

    trained, fit = [], Loop.fit
    monkeypatch.setattr(Loop, "fit", lambda self: trained.append(self) or fit(self))
    with pytest.raises(TrainingDiverged, match=r"the loss is .* So it ended on .*--force trains"):
        CLASSIFICATION.run(config, "tiny", data=tiny_data())
    with monkeypatch.context() as patch:
        patch.setattr(CLASSIFICATION, "load_data", lambda *_: missing())
        with pytest.raises(TrainingDiverged, match="So it ended on"):
            CLASSIFICATION.run(config, "tiny")  # a machine without the data
        with pytest.raises(DatasetNotFound):
            CLASSIFICATION.run(config, "another")
    assert not trained
    with pytest.raises(TrainingDiverged):
        CLASSIFICATION.run(config, "tiny", data=tiny_data(), force=True)
    assert len(trained) == 1


def test_epochs_before_a_divergence_are_kept_with_it(tiny_config, tiny_data, monkeypatch):
    from terminator.trainer import Loop, TrainingDiverged

    def check(self, total, epoch, *rest):
        if epoch == 1:
            raise TrainingDiverged("the loss is nan in epoch 2.")

    monkeypatch.setattr(Loop, "_check", check)
    with pytest.raises(TrainingDiverged):
        CLASSIFICATION.run(tiny_config(), "tiny", data=tiny_data())
    (folder,) = (results_dir() / "runs" / "tiny").iterdir()
    assert not (folder / "record.json").exists()  # nothing is under way
    found = states.look(folder)
    assert (found.name, found.epochs, len(found.rows)) == (states.DIVERGED, 1, 1)


def test_a_forced_training_that_diverges_has_no_epochs_of_the_one_before(
    tiny_config, tiny_data, monkeypatch
):
    from terminator.trainer import Loop, TrainingDiverged

    def check(self, total, epoch, *rest):
        if epoch == ends[0]:
            raise ends[1]

    monkeypatch.setattr(Loop, "_check", check)
    ends = 1, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        CLASSIFICATION.run(tiny_config(), "tiny", data=tiny_data())
    (folder,) = (results_dir() / "runs" / "tiny").iterdir()
    assert states.look(folder).epochs == 1
    ends = 0, TrainingDiverged("the loss is nan in epoch 1.")
    with pytest.raises(TrainingDiverged):
        CLASSIFICATION.run(tiny_config(), "tiny", data=tiny_data(), force=True)
    found = states.look(folder)
    assert (found.name, found.epochs) == (states.DIVERGED, 0)


def test_a_reason_is_that_of_the_last_start():
    job = Job("tiny/a", ())
    log(job, f"{jobs.STARTED} 1\nerror: no memory\n{jobs.STARTED} 2\nTraceback\nKeyError: 1\n")
    assert job.last_line() == "KeyError: 1"
    log(job, "error: of a log without starts\nand more\n")
    assert job.last_line() == "error: of a log without starts"


def test_a_folder_in_which_another_run_diverged_is_free(tiny_config, tiny_data, tmp_path):
    from terminator.trainer import TrainingDiverged

    with pytest.raises(TrainingDiverged):
        CLASSIFICATION.run(
            tiny_config(optimizer={"lr": 1e30}), "tiny", data=tiny_data(), folder=tmp_path / "a"
        )
    for left in (tmp_path / "a").glob("checkpoint.pt"):
        left.unlink()
    done = CLASSIFICATION.run(tiny_config(), "tiny", data=tiny_data(), folder=tmp_path / "a")
    assert done.trained
    assert not (tmp_path / "a" / folders.DIVERGED).exists()


def test_a_share_of_the_cores_and_a_gpu_for_each(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    share = {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE"}
    assert local.Local(2)._variables(1, 1) == share
    shared = local.Local(4, ("3", "5"))
    assert [shared._variables(i, 1)["CUDA_VISIBLE_DEVICES"] for i in range(4)] == [
        "3",
        "5",
        "3",
        "5",
    ]
    assert local.Local(1, ("0", "1"))._variables(0, 2)["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert local.Local(2)._variables(0, 1)["OMP_NUM_THREADS"] == "1"
    argv = Job("a/b", ("train", "preset=digits"), processes=2).argv()
    assert argv[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    assert argv[-1] == "train.distributed=True"


def test_a_line_per_change_where_no_terminal_is(capsys, tmp_path):
    from terminator.batch.table import Table

    table = Table()
    wanted = Wanted(
        CLASSIFICATION,
        batch_tools.tiny_needs(1, "train.epochs=3")["99_tiny"][0].config,
        "tiny",
        "smoke",
    )
    show = SimpleNamespace(plan=Plan("smoke", {}, []), doing=lambda run: run.state.name)
    rows = [{"epoch": 1, "seconds": 60.0, "test_accuracy": 51.25}]
    for state in (State(states.MISSING), State(states.UNFINISHED, 1, rows), State(states.DONE, 3)):
        show.plan.runs["tiny/a"] = Run(wanted, "tiny/a", "a", state)
        table(show)
        table(show)
    assert capsys.readouterr().out.splitlines() == [
        "unfinished  1/3  accuracy 51.25  2 min left  tiny/a",
        "done  3/3  tiny/a",
    ]


# -- kills -------------------------------------------------------------------------------------


def workers():
    """Processes that hold a run's folder, and live."""
    found = set()
    for path in results_dir().glob(f"runs/*/*/{locks.OWNER}*"):
        said = locks._read(path)
        if path.suffix != ".new" and said and alive(said[0].get("pid", 2**30)):
            found.add(said[0]["pid"])
    return found


@pytest.mark.slow
def test_kills_of_workers_and_of_the_coordinator_lose_nothing():
    whole = bool(os.environ.get("TERMINATOR_ALL_FAULTS"))
    draw = random.Random(0)
    few = {"worker": 3, "coordinator": 1, "nursery": 1}
    kills = {"worker": 20, "coordinator": 5, "nursery": 3} if whole else few
    options, epochs = ("--workers", "2", "--tries", "50"), 80 if whole else 6
    running = batch_tools.work(*options, TINY=f"train.epochs={epochs}")
    until = time.monotonic() + (1800 if whole else 120)
    while any(kills.values()) and time.monotonic() < until:
        time.sleep(draw.uniform(0.2, 1.0))
        if running.poll() is not None:
            break
        if not (there := workers()):
            continue
        if kills["coordinator"] and draw.random() < 0.25:
            kills["coordinator"] -= 1
            running.kill()
            running.communicate()
            # finds what the workers of the first still make
            running = batch_tools.work(*options, TINY=f"train.epochs={epochs}")
        elif kills["nursery"] and draw.random() < 0.25:
            for process in psutil.Process(running.pid).children():  # it forks the workers
                kills["nursery"] -= 1
                process.kill()
        elif kills["worker"]:
            kills["worker"] -= 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(sorted(there)), signal.SIGKILL)
    assert not whole or not any(kills.values())
    said = running.communicate(timeout=1200 if whole else 300)[0]
    assert running.returncode == 0, said
    assert "2 of 2 runs are there" in said
    found = records.load_records("tiny")
    assert len(found) == 2
    for record in found:
        assert [row["epoch"] for row in record["epochs"]] == [*range(1, epochs + 1)]
        log = (jobs.logs() / "tiny" / f"{record['run_id']}.log").read_text()
        assert log.count("s of training") == 1  # trained to the end once
    assert not list(results_dir().rglob(f"{locks.OWNER}*"))
    assert not list(results_dir().rglob("checkpoint.pt"))


@pytest.mark.slow
def test_an_interrupt_cancels_or_leaves_and_the_next_goes_on():
    def interrupted(how, number):
        running = batch_tools.work("--workers", "2", "--on-interrupt", how)
        while not (there := workers()):
            time.sleep(0.05)
        os.kill(running.pid, number)
        said = running.communicate(timeout=120)[0]
        assert running.returncode == 130, said
        return said, there

    said, there = interrupted("cancel", signal.SIGTERM)
    assert "jobs cancelled" in said
    assert not any(map(alive, there))
    said, there = interrupted("leave", signal.SIGINT)
    assert "jobs left running" in said
    made = records.load_records("tiny")
    assert made or all(map(alive, there))
    running = batch_tools.work("--workers", "2")
    assert "2 of 2 runs are there" in running.communicate(timeout=240)[0]
    assert len(records.load_records("tiny")) == 2


def alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
