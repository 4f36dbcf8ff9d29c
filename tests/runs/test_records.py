"""Records: complete, readable, and averaged only over what belongs together."""

import json
import math
import mmap
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from places import ROOT
from record_files import put, record

from terminator.classification import report
from terminator.classification.runs import CLASSIFICATION
from terminator.report import tables
from terminator.runs import literature, outcomes, records
from terminator.runs.finished import FinishedRun
from terminator.runtime import provenance
from terminator.runtime.paths import results_dir
from terminator.runtime.settings import ConfigError


def test_mean_and_deviation_over_seeds():
    accuracies = (90.0, 92.0, 97.0)
    (row,) = report.summary_table(record(seed, a) for seed, a in enumerate(accuracies)).to_dict(
        "records"
    )
    assert (row["seeds"], row["released"], row["calibrated"]) == (3, 93.0, 92.0)
    assert row["released_sd"] == round(math.sqrt(sum((a - 93) ** 2 for a in accuracies) / 2), 2)
    assert row["minutes"] == 1.0
    (single,) = report.summary_table([record()]).to_dict("records")
    assert single["released_sd"] is None or math.isnan(single["released_sd"])


@pytest.mark.parametrize(
    "other",
    [
        {"optimizer": {"lr": 0.01}},
        {"model": {"rgu": False}},
        {"train": {"epochs": 3}},
        {"train": {"label_smoothing": 0.0}},
        {"dataset": {"flip": False}},
        {"profile": "paper"},
        {"experiment": "ablations"},
        {"fingerprint": "e" * 64},
        {"train": {"precision": "bf16"}},
    ],
)
def test_different_settings_are_never_averaged(other):
    table = report.summary_table([record(0), record(1), record(0, **other), record(1, **other)])
    assert list(table["seeds"]) == [2, 2]


def test_where_a_run_was_made_does_not_part_it():
    table = report.summary_table(
        [record(0), record(1, train={"seed": 1, "device": "cuda", "distributed": True})]
    )
    assert list(table["seeds"]) == [2]


def test_index_holds_laptop_and_paper_runs_only():
    put(record(0), record(0, profile="paper"), record(0, profile="smoke"))
    index = pd.read_csv(CLASSIFICATION.rebuild_index())
    assert sorted(index["profile"]) == ["laptop", "paper"]
    assert index.columns[-1] == "variant"
    assert len(records.load_records()) == 3
    assert len(records.load_records("images", "smoke")) == 1
    assert records.load_records("ablations") == []


def test_tables_without_records():
    assert report.summary_table([]).empty
    assert report.headline_table([]).empty
    assert CLASSIFICATION.rebuild_index() is None


def test_headlines_name_both_protocols():
    table = report.headline_table([record(0), record(1, 94.0)])
    assert list(table["metric"]) == ["test accuracy (%), released", "test accuracy (%), calibrated"]
    assert list(table["value"]) == [92.0, 91.0]


@pytest.mark.parametrize("content", ["", "{", '{"run_id": "a"', "[1]", '{"run_id": "a"}', "null"])
def test_a_damaged_record_is_named(content):
    put(record(0))
    path = results_dir() / "runs" / "images" / "broken" / "record.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(
        ValueError, match="images/broken/record.json is no readable run record.*Remove its folder"
    ):
        records.load_records()


def test_a_record_that_goes_while_all_are_read_is_none():
    """As that of a training under way goes when it diverges."""
    put(record(0))
    place = results_dir() / "runs" / "images" / "gone"
    place.mkdir()
    (place / "record.json").symlink_to(place / "nowhere")
    assert [found["seed"] for found in records.load_records()] == [0]
    assert records.record_in(place) is None


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.json"
    records.write_json(path, {"ü": 1})
    with pytest.raises(TypeError):
        records.write_json(path, {"x": object()})
    assert json.loads(path.read_text(encoding="utf8")) == {"ü": 1}
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_provenance_says_what_ran():
    found = provenance.provenance()
    assert found.keys() == {"commit", "dirty", "source_hash", "versions", "system"}
    assert {"python", "torch", "numpy"} <= found["versions"].keys()
    assert len(found["source_hash"]) == 64
    assert provenance.peak_memory_bytes("cpu") > 10**7
    assert "threads" in provenance.device_name("cpu")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone can")
def test_a_peak_of_memory_is_not_that_of_the_work_before():
    code = (
        "from terminator.runtime import provenance\nprovenance.forget_peak_memory('cpu')\n"
        "print(provenance.peak_memory_bytes('cpu'))"
    )
    provenance.forget_peak_memory("cpu")
    with mmap.mmap(-1, 300 * 2**20) as held:  # given back to the system at the end
        held[:: mmap.PAGESIZE] = b"x" * (len(held) // mmap.PAGESIZE)
        before = provenance.peak_memory_bytes("cpu")
        child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    provenance.forget_peak_memory("cpu")
    assert provenance.peak_memory_bytes("cpu") < before - 200 * 2**20
    assert int(child.stdout) < 150 * 2**20  # nor that of the process that started it


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((98.0, 98.1, 98.2), "98.10 ± 0.10"),
        ((98.1,), "98.10"),
        ((98.1, 97.0), "98.10 and 97.00"),
        ((), "-"),
    ],
)
def test_values_as_text(values, text):
    assert outcomes.values_text(values) == text


def test_a_results_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        PermissionError, match="cannot write to the results folder .*file/run.*TERMINATOR_RESULTS"
    ):
        records.check_writable(tmp_path / "file" / "run")
    records.check_writable(tmp_path / "fine")
    assert list((tmp_path / "fine").iterdir()) == []


def test_the_package_alone_knows_no_published_numbers(monkeypatch):
    columns = list(literature.literature().columns)
    monkeypatch.setattr(literature, "project_root", lambda: None)
    assert literature.literature().empty
    assert list(literature.literature("images").columns) == columns == literature.LITERATURE


@pytest.mark.parametrize("system", tables.SYSTEMS, ids=lambda system: system.task)
def test_settings_that_this_version_does_not_read_are_named_with_their_file(system):
    committed = map(records.read_record, sorted(ROOT.glob("results/runs/*/*/record.json")))
    whole = next(found for found in committed if records.task_of(found) == system.task)
    for group, value in (("model", {"wings": 2}), ("train", {"epochs": "many"})):
        changed = {**whole, "config": {**whole["config"], group: value}}
        run = FinishedRun(changed, system.folder_of(changed), system)
        named = f"{whole['run_id']}/record.json.* {group}"
        with pytest.raises(ConfigError, match=named):
            _ = run.config
        with pytest.raises(ConfigError, match=named):
            system.but_seed(changed)
