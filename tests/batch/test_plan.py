"""The plan: what notebooks need, found without training; committed records are done; a command per
run that is that run.
"""

import json
import shlex
import shutil
from statistics import median
from types import SimpleNamespace

import batch_tools
import pytest
from places import ROOT

from terminator import ConfigError
from terminator.__main__ import find_commands, main, parse, parser
from terminator.batch import lines, states
from terminator.batch.cost import Costs
from terminator.batch.plan import Planner, notebooks_of
from terminator.classification.runs import CLASSIFICATION
from terminator.report.tables import SYSTEM_OF
from terminator.runner.notebooks import find_notebooks
from terminator.runs import records
from terminator.runs.folders import DIVERGED
from terminator.runs.study import Finals
from terminator.runs.wanted import Wanted
from terminator.runtime.paths import results_dir
from terminator.runtime.progress import say

SUPERSEDED = {
    # Pathfinder with a tenth of the images: no notebook asks for it any more
    "longrange/pathfinder-pathfinder-hrrformer-laptop-s0-7bbc8442",
    "longrange/pathfinder-pathfinder-hrrformer-uniform-laptop-s0-64701cca",
    "longrange/pathfinder-pathfinder-none-laptop-s0-420c480a",
    "longrange/pathfinder-pathfinder-softmax-fused-laptop-s0-70c1b4d9",
}


def is_superseded(record):
    """The study of parts was made with three epochs first."""
    config = record["config"]
    return f"{record['experiment']}/{record['run_id']}" in SUPERSEDED or (
        record["experiment"] == "ablations"
        and config["model"]["factors"] == [12, 3, 2]
        and config["train"]["epochs"] == 3
    )


ELSEWHERE = {
    "segmentation_mixers-rates",  # chose rates that stand in presets
    "given",  # models that come with the package, trained for no notebook
    "cli",  # a reader's own
}


@pytest.fixture(scope="module")
def laptop():
    """The plan of the committed laptop records, on a machine without data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
        patch.delenv("TERMINATOR_DATA", raising=False)
        plan = Planner("laptop", read_data=False).plan()
        costs = Costs(SYSTEM_OF)
        return plan, {key: costs.of(run) for key, run in plan.runs.items()}, costs.device


def test_the_plan_of_laptop_names_exactly_the_committed_records_as_done(laptop, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    there = {
        f"{record['experiment']}/{record['run_id']}": record
        for record in records.load_records(profile="laptop")
        if records.task_of(record) in SYSTEM_OF
        and record["experiment"] not in ELSEWHERE
        and not is_superseded(record)
    }
    done = {key for key, run in laptop[0].runs.items() if run.state.name == states.DONE}
    assert done <= there.keys()

    def setting(key):  # other versions of the libraries read data in other last bits
        record = there[key] | {"data": there[key]["data"] | {"fingerprint": ""}}
        return SYSTEM_OF[records.task_of(record)].setting(record)

    planned = {setting(key) for key in done}
    # what else is there are further seeds, which make a claim's interval narrower
    assert not [key for key in there.keys() - done if setting(key) not in planned]
    assert len(done) > 300
    assert laptop[0].undecided == []  # every rate is decided by the records of its sweep


def test_rates_that_gave_way_are_not_asked_for_again(laptop):
    given_up = [run for run in laptop[0].runs.values() if run.state.name == states.DIVERGED]
    assert {run.wanted.label for run in given_up} == {"SGD"}
    assert all(run.is_settled and "the loss is nan" in run.state.reason for run in given_up)


def test_costs_come_from_records_of_one_device(laptop):
    plan, costs, device = laptop
    assert "AMD EPYC" in device
    known = [key for key in plan.runs if costs[key].seconds]
    assert len(known) > 0.8 * len(plan.runs)
    found = {key: plan.runs[key].state.record for key in known if plan.runs[key].state.record}
    ratios = [
        costs[key].seconds / max(record["wall_s"], 0.1)
        for key, record in found.items()
        if record["device"] == device
    ]
    assert median(ratios) == pytest.approx(1, abs=0.05)  # some were made beside other work
    heavy = next(k for k, run in plan.runs.items() if run.state.record and costs[k].operations)
    assert costs[heavy].operations > 1e9


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_run_has_a_command_that_is_this_run(profile):
    commands = find_commands()
    whole, names = parser(commands), [c.name for of in commands.values() for c in of]
    asked = [need for needs in notebooks_of(profile).values() for need in needs]
    asked += [need for finals in asked if isinstance(finals, Finals) for need in first(finals)]
    runs = [need for need in asked if isinstance(need, Wanted)]
    assert len(runs) > 90
    for wanted in runs:
        typed = shlex.split(lines.line(wanted)[lines.line(wanted).index("python -m") :])
        args = parse(whole, names, typed[3:])
        assert args.command.config(args) == wanted.config, wanted
        assert (args.experiment, args.profile) == (wanted.experiment, wanted.profile)
        assert args.batch
        assert args.need_model == wanted.need_model


def first(finals):
    return finals.at({label: rates[0] for label, rates in finals.contest.rates.items()})


def test_a_line_says_where_results_and_data_lie_and_quotes_them(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", "/shared/my results")
    (wanted,) = notebooks_of("smoke", ["00"])["00_tour"]
    assert lines.line(wanted, "/d").startswith(
        "env 'TERMINATOR_RESULTS=/shared/my results' python -m terminator train preset=tour "
    )
    assert lines.line(wanted, "/d").endswith("--need-model --data-dir /d")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("11", ["11_images"]),
        ("conv", ["12_convergence"]),
        ("00*", ["00_tour"]),
        ("hyperz*", ["02_hyperzzw"]),
        ("no", None),
    ],
)
def test_a_pattern_means_here_what_it_means_to_run_all(pattern, names):
    if names is None:
        with pytest.raises(ConfigError, match="--only is 'no'; allowed: names of 00_tour, "):
            notebooks_of("smoke", [pattern])
    else:
        assert list(notebooks_of("smoke", [pattern])) == names
        assert [book.name for book in find_notebooks(ROOT / "notebooks", [pattern])] == names


def test_a_missing_run_makes_no_finished_one_missing(monkeypatch):
    """The finished one was made of the same data as other libraries decode them."""
    needs = batch_tools.tiny_needs(2, "train.epochs=1")
    monkeypatch.setattr("terminator.batch.plan.notebooks_of", lambda *given: needs)
    first, second = needs["99_tiny"]
    run = CLASSIFICATION.run(first.config, "tiny")
    data = {**run.record["data"], "fingerprint": "0" * 64}
    kept = {**run.record, "run_id": "as-decoded-elsewhere", "data": data}
    records.write_record(run.folder.with_name(kept["run_id"]) / "record.json", kept)
    shutil.rmtree(run.folder)
    states_of = {key: run.state.name for key, run in Planner("smoke").plan().runs.items()}
    assert states_of.pop("tiny/as-decoded-elsewhere") == states.DONE
    assert list(states_of.values()) == [states.MISSING]


# -- states ------------------------------------------------------------------------------------


@pytest.fixture
def planner():
    """A planner of one notebook of the embedded digits, and the folder of its only run."""
    planner = Planner("smoke", ["00"])
    (run,) = planner.plan().runs.values()
    return SimpleNamespace(plan=planner.plan, folder=run.folder, run=run)


def test_a_run_is_missing_then_unfinished_then_done(planner):
    def state():
        (run,) = planner.plan().runs.values()
        return run.state.name, run.state.epochs, run.is_settled

    assert state() == (states.MISSING, 0, False)
    record = {
        **{"run_id": planner.run.run_id, "experiment": "images", "status": records.RUNNING},
        **{"profile": "smoke", "seed": 0, "config": {}, "data": {}, "results": {}},
        "epochs": [{"epoch": 1, "seconds": 1.0}],
    }
    records.write_record(planner.folder / "record.json", record)
    assert state() == (states.UNFINISHED, 1, False)
    batch_tools.diverge(planner.folder)
    assert state() == (states.DIVERGED, 1, True)
    records.write_record(planner.folder / "record.json", {**record, "status": records.FINISHED})
    assert state() == (states.DONE, 1, False)  # its weights are looked at
    (planner.folder / "model.safetensors").write_bytes(b"weights")
    assert state() == (states.DONE, 1, True)


def test_finals_wait_for_their_sweep_and_take_its_best_rates(monkeypatch):
    planner = Planner("smoke", ["12"])
    plan = planner.plan()
    sweep = {key for key in plan.runs if "-rates/" in key}
    others = {key for key in plan.runs if key.startswith("jpeg/")}
    assert len(others) == 2
    assert len(sweep) == 16
    assert plan.runs.keys() == sweep | others
    assert {one.experiment for one in plan.undecided} == {"networks", "optimizers"}
    assert all(set(one.after) <= sweep for one in plan.undecided)
    for run in plan.runs.values():
        finish(run, accuracy=50 + 1000 * run.wanted.config.optimizer.lr)
    plan = planner.plan()
    assert plan.undecided == []
    finals = [run for key, run in plan.runs.items() if key not in sweep | others]
    assert len(finals) == 8
    rates = {run.wanted.label: run.wanted.config.optimizer.lr for run in finals}
    assert rates["AdamW"] == 0.01  # the largest that was tried
    assert all(set(run.after) <= sweep for run in finals)
    broken = next(run for run in finals if run.wanted.label == "AdamW")
    batch_tools.diverge(broken.folder)
    again = [run for run in planner.plan().runs.values() if run.wanted.label == "AdamW"]
    assert again[-1].wanted.config.optimizer.lr == 0.003  # the next best
    finish(again[-1], accuracy=60)
    (broken.folder / DIVERGED).unlink()  # marks do not travel with records: these say it, too
    first, _ = (run for run in planner.plan().runs.values() if run.wanted.label == "AdamW")
    assert "next learning rate" in first.state.reason


def finish(run, accuracy):
    """Write a record as a finished training of a sweep leaves it, as far as the plan reads it."""
    record = {
        **{"run_id": run.run_id, "experiment": run.wanted.experiment, "status": records.FINISHED},
        **{"profile": "smoke", "seed": 0, "config": {}, "data": {}, "epochs": []},
        "results": {"released": {"accuracy": accuracy, "cross_entropy": 1.0}},
    }
    records.write_record(run.folder / "record.json", record)


# -- the command -------------------------------------------------------------------------------


def test_the_command_says_all_in_words_as_json_and_as_lines(capsys):
    assert main(["plan", "--only", "20", "--no-data"]) == 0
    said = capsys.readouterr().out
    assert "15 runs of the profile smoke: 15 missing" in said
    assert "gan/?  (NMF; preset=digits) for 20; after 1 runs" in said
    assert main(["plan", "--only", "20", "--json", "--data-dir", "my data"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["state"] for run in found["runs"]] == ["missing"] * 15
    assert all(" --data-dir 'my data'" in run["command"] for run in found["runs"])
    judge = next(run for run in found["runs"] if run["experiment"] == "classifiers")
    assert all(judge["key"] in r["after"] for r in found["runs"] if r["experiment"] == "gan")
    assert main(["plan", "--only", "12", "--commands", "--no-data"]) == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 18
    assert all(" python -m terminator train " in line for line in told.out.splitlines())
    assert "networks, optimizers: rates are decided by these runs" in told.err
    assert not list(results_dir().glob("runs/*/*/*"))  # nothing was trained


def test_what_is_piped_on_holds_the_plan_alone(monkeypatch, capsys):
    planned = Planner.plan

    def talks(self):
        say("CIFAR10 is not on this machine")
        return planned(self)

    monkeypatch.setattr(Planner, "plan", talks)
    assert main(["plan", "--only", "20", "--no-data", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["profile"] == "smoke"
    assert main(["plan", "--only", "20", "--no-data", "--commands"]) == 0
    assert all("python -m terminator" in line for line in capsys.readouterr().out.splitlines())
    assert "CIFAR10 is not on this machine" in told.err


def test_what_names_no_notebook_is_refused(capsys):
    assert main(["plan", "--only", "77"]) == 2
    assert "--only is '77'; allowed: names of 00_tour" in capsys.readouterr().err


def test_data_that_are_not_here_are_not_fetched(monkeypatch):
    monkeypatch.setattr(
        "terminator.data.standard.download", lambda name: pytest.fail(f"{name} was fetched")
    )
    monkeypatch.delenv("TERMINATOR_DATA", raising=False)
    plan = Planner("paper", ["11"]).plan()
    assert {run.state.name for run in plan.runs.values()} == {states.NO_DATA}
    assert all(run.folder is None for run in plan.runs.values())
