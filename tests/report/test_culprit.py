"""A record with a field of a wrong kind is named in one line by whatever makes tables."""

import json
import random
import re
import shutil

import pytest
from places import ROOT

from terminator.__main__ import main
from terminator.report import culprit
from terminator.runs import records
from terminator.runtime.paths import results_dir

RUNS = ROOT / "results" / "runs"
# one of each task, at least
KINDS = [
    "images",
    "gan",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("networks", "segmentation_context", "longrange", "fewshot")
    ),
]
WRONG = [None, True, 3, "text", [], {}, [[]], -1.5, 10**400]


def ways(content, way=()):
    """The way to every field of nested dictionaries and short lists."""
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in inner if len(content) < 40 else ():
        yield (*way, key)
        if isinstance(value, (dict, list)):
            yield from ways(value, (*way, key))


def test_no_record_that_is_kept_is_a_culprit(monkeypatch):
    """Of no task: those of measurements, which have names, are in no index."""
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    first = {records.task_of(record): record for record in records.load_records()}
    assert {"probes", "controls", "classification"} <= first.keys()
    for task, record in first.items():
        assert culprit._reason(record) is None, task


def put(record):
    path = results_dir() / "runs" / record["experiment"] / record["run_id"] / "record.json"
    shutil.rmtree(results_dir() / "runs", ignore_errors=True)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("experiment", KINDS)
def test_a_wrong_field_is_named_with_its_file(experiment, capsys):
    chance = random.Random(experiment)
    whole = records.read_record(min(RUNS.glob(f"{experiment}/*/record.json")))
    put(whole)
    assert main(["tables"]) == 0
    everywhere, named = list(ways(whole)), 0
    for _ in range(20):
        record = json.loads(json.dumps(whole))
        *way, last = chance.choice(everywhere)
        place = record
        for key in way:
            place = place[key]
        if isinstance(place, dict) and chance.random() < 0.2:
            del place[last]
        else:
            place[last] = chance.choice(WRONG)
        capsys.readouterr()
        (results_dir() / "REPRODUCIBILITY.md").unlink(missing_ok=True)
        try:
            put(record)
        except (KeyError, TypeError):  # its very name is gone
            continue
        status, error = main(["tables"]), capsys.readouterr().err
        assert status in (0, 2)
        if status:
            assert f"{whole['run_id']}/record.json is no " in error
            assert len(error.splitlines()) == 1
            named += 1
    assert named


def test_an_error_that_comes_from_no_record_stays_what_it_was():
    with pytest.raises(KeyError, match="elsewhere"), culprit.named():
        raise KeyError("elsewhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("literature.csv", "table,dataset\n", "literature.csv is not listed in .*sha256sum"),
        ("evidence.sha256", "no digest\n", "evidence.sha256 is no readable list"),
    ],
)
def test_damaged_evidence_is_named_itself_and_no_record_in_its_place(
    name, content, message, capsys
):
    put(records.read_record(min(RUNS.glob("images/*/record.json"))))
    (results_dir() / "literature.csv").write_text("table,dataset\n")
    (results_dir() / name).write_text(content)
    assert main(["tables"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "record.json" not in error
