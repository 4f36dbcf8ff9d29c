"""Run identities: what a record was called when it was made is what its settings are called now."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import ROOT

from terminator.classification.runs import CLASSIFICATION
from terminator.report.tables import SYSTEMS
from terminator.runs import records
from terminator.runtime import provenance
from terminator.runtime.settings import from_dict

BY_TASK = {system.task: system for system in SYSTEMS}
# Measurements: no system's configuration is stored in them, or their names are made of other
# things.
MEASURED = {"baselines", "controls", "probes", "signs", "speed"}
# Settings that name a file, whose content is part of the identity; older records do not say it.
FILES = (
    ("pretrained", "filename"),
    ("train", "start_from"),
    ("train", "restore_shared_features_from"),
    ("model", "weights"),
)


@pytest.fixture
def committed(monkeypatch):
    """The project's records, without what somebody ran in this checkout for themselves."""
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    return [
        record
        for record in records.load_records()
        if record["profile"] != records.SMOKE and record["experiment"] != records.OWN
    ]


def of_system(found):
    return [record for record in found if records.task_of(record) in BY_TASK]


def missing_files(record):
    """The files that a record's settings name, whose content it does not know and that are not on
    this machine.
    """
    if "starts" in record:
        return []
    names = (record["config"].get(group, {}).get(key) for group, key in FILES)
    return [name for name in names if name and not Path(name).is_file()]


def recomputed(record):
    """The run id that a record's stored settings, data and profile have today."""
    system = BY_TASK[records.task_of(record)]
    data = SimpleNamespace(info=SimpleNamespace(**record["data"]))
    config = from_dict(system.config, record["config"])
    return system.run_id(config, data, record["profile"], record.get("starts"))


def test_every_committed_record_keeps_its_identity(committed):
    whole = [record for record in of_system(committed) if not missing_files(record)]
    changed = {
        record["run_id"]: new for record in whole if (new := recomputed(record)) != record["run_id"]
    }
    assert changed == {}
    count = Counter(records.task_of(record) for record in whole)
    assert count.total() >= 300
    assert count.keys() == BY_TASK.keys()  # no system goes unseen
    assert min(count.values()) >= 6


def test_what_cannot_be_recomputed_is_known(committed):
    """Measurements alone: no committed run started from a file, which would be gone by now."""
    others = {records.task_of(record) for record in committed} - BY_TASK.keys()
    assert others <= MEASURED
    assert [record["run_id"] for record in of_system(committed) if missing_files(record)] == []


def test_folders_have_the_names_of_their_records(committed):
    for path in (ROOT / "results" / "runs").glob("*/*/record.json"):
        record = records.read_record(path)
        assert record["experiment"] == path.parent.parent.name
        assert record["run_id"] == path.parent.name


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.task)
def test_another_setting_seed_profile_or_data_is_another_run(committed, system):
    record = next(record for record in committed if records.task_of(record) == system.task)
    config, other = record["config"], 1 + record["config"]["train"]["seed"]
    changed = [
        record | {"config": config | {"train": config["train"] | {"seed": other}}},
        record | {"config": config | {"train": config["train"] | {"precision": "bf16"}}},
        record | {"profile": "paper" if record["profile"] == "laptop" else "laptop"},
        record | {"data": record["data"] | {"fingerprint": "other"}},
    ]
    assert len({recomputed(one) for one in (record, *changed)}) == 5
    elsewhere = record | {"config": config | {"train": config["train"] | {"device": "cuda"}}}
    assert recomputed(elsewhere) == record["run_id"]
    assert system.setting(changed[0]) == system.setting(record)  # only seeds may be averaged
    assert all(system.setting(one) != system.setting(record) for one in changed[1:])


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.task)
def test_a_record_is_found_by_the_settings_it_was_made_with(committed, system):
    for record in [record for record in committed if records.task_of(record) == system.task][:20]:
        config = from_dict(system.config, record["config"])
        found = system.find_record(config, record["experiment"], record["profile"])
        assert found["config"] == record["config"]
        run = system.of_record(record)
        assert (run.config, run.folder.name) == (config, record["run_id"])


@pytest.mark.slow
def test_a_record_of_data_that_other_libraries_read_is_evidence_still(
    tiny_config, tiny_data, tmp_path, monkeypatch, capsys
):
    config = tiny_config(train={"epochs": 1})
    done = CLASSIFICATION.run(config, "images", "laptop", data=tiny_data())
    other = tiny_data()
    bits = {"fingerprint": "resized", "mean": tuple(m + 1e-5 for m in other.info.mean)}
    other = dataclasses.replace(other, info=dataclasses.replace(other.info, **bits))
    again = CLASSIFICATION.run(config, "images", "laptop", data=other)
    assert again.trained  # by the same libraries: the data are others
    shutil.rmtree(again.folder)

    found = {**provenance.versions(), "torchvision": "0.1"}
    monkeypatch.setattr(provenance, "versions", lambda: found)
    capsys.readouterr()
    again = CLASSIFICATION.run(config, "images", "laptop", data=other)
    assert (again.trained, again.record) == (False, done.record)
    (note,) = (line for line in capsys.readouterr().out.splitlines() if "note: runs of" in line)
    assert "stripes in images are read that were made of the data as torch " in note
    elsewhere = {"data": other, "folder": tmp_path / "asked for"}
    assert CLASSIFICATION.run(config, "images", "laptop", **elsewhere).folder == elsewhere["folder"]
    assert CLASSIFICATION.run(config, "images", "laptop", data=other, need_model=True).trained
    brighter = tuple(m + 0.01 for m in other.info.mean)
    for changed in ({"train_size": 31}, {"mean": brighter}):
        info = dataclasses.replace(other.info, fingerprint=f"{changed}", **changed)
        unlike = dataclasses.replace(other, info=info)
        assert CLASSIFICATION.run(config, "images", "laptop", data=unlike).trained
    own = CLASSIFICATION.run(config, "cli", "laptop", data=tiny_data())
    own = CLASSIFICATION.run(config, "cli", "laptop", data=other)
    assert own.trained  # a reader's own pictures may have changed
