"""Runs from elsewhere: new, the same, conflicting; whatever is not what it says is refused, and
nothing is written where it should not be.
"""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from terminator import ConfigError
from terminator.__main__ import main
from terminator.batch import sources, transfer
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import records
from terminator.runtime import digests
from terminator.runtime.paths import results_dir


@pytest.fixture
def run(tiny_config, tiny_data, trained_once):
    """A finished run of a tiny network with observations beside its record."""
    config = tiny_config("train.epochs=1", "train.observe=true")
    return trained_once(config, tiny_data(), "tiny", "laptop")


@pytest.fixture
def elsewhere(run, monkeypatch, tmp_path):
    """An archive of it, with weights; results/ is another, empty folder from here on."""
    archive = tmp_path / "runs.tar.gz"
    assert transfer.export_runs(archive, with_weights=True) == 1
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "here"))
    return archive


def what(found):
    return [one.what for one in found]


def place(run):
    return results_dir() / "runs" / "tiny" / run.record["run_id"]


def test_an_archive_brings_records_files_and_weights_and_is_the_same_again(run, elsewhere):
    assert what(transfer.import_runs(elsewhere)) == [transfer.NEW]
    assert records.read_record(place(run) / "record.json") == run.record
    assert set(run.record["files"]) == {"observations.csv"} | set(run.record["files"])
    for name in ("metrics.csv", *run.record["files"]):
        assert (place(run) / name).read_bytes() == (run.folder / name).read_bytes()
    ours, theirs = (
        CLASSIFICATION.load(f / "model.safetensors")[0] for f in (place(run), run.folder)
    )
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert list(pd.read_csv(results_dir() / "index.csv")["run_id"]) == [run.record["run_id"]]
    assert what(transfer.import_runs(elsewhere)) == [transfer.SAME]


def test_a_folder_is_taken_too_but_weights_only_with_a_digest(run, elsewhere):
    (arrived,) = transfer.import_runs(run.folder.parents[2])
    assert (arrived.what, arrived.why[:25]) == (transfer.NEW, "its weights stay behind, ")
    assert not (place(run) / "model.safetensors").exists()
    (again,) = transfer.import_runs(elsewhere)
    assert (again.what, again.why) == (transfer.SAME, "its weights are new")
    assert (place(run) / "model.safetensors").is_file()


def test_a_run_that_started_from_a_file_travels_without_it(
    tiny_config, tiny_data, tiny_model, tmp_path, monkeypatch
):
    first, second = (tmp_path / name / "start.safetensors" for name in ("a", "b"))
    runs = []
    for seed, start in enumerate((first, second)):
        tiny_model(seed=seed).save(start)
        config = tiny_config(pretrained={"load": True, "filename": str(start)}, train={"epochs": 1})
        runs.append(CLASSIFICATION.run(config, "tiny", "laptop", data=tiny_data()).record)
        assert runs[-1]["starts"] == {"pretrained.filename": digests.of_file(start)}
        assert CLASSIFICATION.find_record(config, "tiny", "laptop") == runs[-1]
    assert runs[0]["config"] == runs[1]["config"]
    assert runs[0]["run_id"] != runs[1]["run_id"]
    assert len({CLASSIFICATION.setting(record) for record in runs}) == 2  # no seeds of one setting
    found = CLASSIFICATION.records_of(
        {"first": config.updated(pretrained={"filename": str(first)})}, runs
    )
    assert found == {"first": runs[:1]}
    first.unlink()
    second.unlink()
    transfer.export_runs(tmp_path / "runs.tar.gz")
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "here"))
    assert what(transfer.import_runs(tmp_path / "runs.tar.gz")) == [transfer.NEW] * 2
    assert {r["run_id"] for r in records.load_records("tiny")} == {r["run_id"] for r in runs}


def test_own_runs_of_the_same_settings_and_other_data_live_side_by_side(
    tiny_config, tiny_data, tmp_path, monkeypatch
):
    config = tiny_config("train.epochs=1")
    for seed in (0, 1):
        CLASSIFICATION.run(config, records.OWN, "laptop", data=tiny_data(seed=seed))
    transfer.export_runs(tmp_path / "runs.tar")
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "here"))
    assert what(transfer.import_runs(tmp_path / "runs.tar")) == [transfer.NEW] * 2


def changed(run, **fields):
    """The run's folder with another record, its digest made anew."""
    records.write_record(run.folder / "record.json", {**run.record, **fields})
    return run.folder


def test_another_record_of_the_same_run_is_kept_apart(run, elsewhere):
    transfer.import_runs(elsewhere)
    before = (place(run) / "record.json").read_bytes()
    (found,) = transfer.import_runs(changed(run, wall_s=99.0))
    assert found.what == transfer.CONFLICTING
    assert (place(run) / "record.json").read_bytes() == before
    (other,) = results_dir().glob("conflicting/tiny/*/*/record.json")
    assert records.read_record(other)["wall_s"] == 99.0
    assert len(records.load_records()) == 1


def test_the_same_settings_on_other_data_are_kept_apart(run, elsewhere, tiny_config, tiny_data):
    config = tiny_config("train.epochs=1", "train.observe=true")
    CLASSIFICATION.run(config, "tiny", "laptop", data=tiny_data(seed=1))
    (found,) = transfer.import_runs(elsewhere)
    assert found.what == transfer.CONFLICTING
    assert "its data are not those of" in found.why


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"run_id": "../../outside"}, 'run_id is "../../outside"; allowed: a folder\'s name'),
        ({"run_id": "outside"}, "by its settings and data it is"),
        ({"experiment": "../up"}, 'experiment is "../up"; allowed: a folder\'s name'),
        ({"profile": "huge"}, "profile is 'huge'"),
        ({"seed": 5, "config": {"train": {"seed": 5}}}, "by its settings and data it is"),
        ({"config": {"train": {"unheard_of": 1}}}, "unknown setting train.unheard_of"),
        ({"task": "speed"}, "its task is 'speed'"),
        ({"status": "running"}, "it is not finished"),
        ({"files": {"../../x.csv": "00"}}, "'../../x.csv' is said to lie beside it; allowed:"),
        ({"files": {"index.html": "00"}}, "allowed: observations.csv, observations.npz"),
        ({"files": {"model.safetensors": "00"}}, "'model.safetensors' is said to lie beside it"),
        ({"files": {"observations.csv": "00"}}, "observations.csv is not what the record says"),
        ({"provenance": {}}, "it lacks what a finished run says: KeyError('commit')"),
        ({"results": {"released": None}}, "it lacks what a finished run says"),
        ({"epochs": None}, "its epochs is null"),
    ],
)
def test_a_record_that_is_not_what_it_says_is_refused(fields, why, run, elsewhere):
    (found,) = transfer.import_runs(changed(run, **fields))
    assert found.what == transfer.REFUSED
    assert why in found.why
    assert not list(results_dir().rglob("record.json"))


def test_what_its_owner_had_set_aside_is_not_taken(run, elsewhere, tmp_path):
    theirs = tmp_path / "theirs"
    shutil.copytree(run.folder, theirs / "runs" / "tiny" / run.folder.name)
    set_aside = theirs / "conflicting" / "tiny" / run.folder.name / "0123"
    shutil.copytree(changed(run, wall_s=1e6), set_aside)
    archive = tmp_path / "theirs.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(theirs, ".")
    for source, came in ((theirs, transfer.NEW), (archive, transfer.SAME)):
        assert what(transfer.import_runs(source)) == [came]
    (kept,) = records.load_records()
    assert kept == run.record
    assert what(transfer.import_runs(set_aside)) == [transfer.CONFLICTING]  # where it is meant


def test_the_checkpoint_of_a_run_under_way_is_kept_without_weights(run, elsewhere):
    place(run).mkdir(parents=True)
    (place(run) / "checkpoint.pt").write_bytes(b"the way to the weights")
    assert what(transfer.import_runs(elsewhere, with_weights=False)) == [transfer.NEW]
    assert (place(run) / "checkpoint.pt").is_file()


def test_an_export_of_nothing_is_refused(tmp_path):
    archive = tmp_path / "a.tar"
    with pytest.raises(ConfigError, match="no finished runs in .*, so nothing to export"):
        transfer.export_runs(archive)
    assert not archive.exists()


def test_what_is_exported_is_counted_and_never_a_link(run, tmp_path, capsys):
    model, away = run.folder / "model.safetensors", tmp_path / "away.safetensors"
    model.rename(away)
    model.symlink_to(away)
    archive = tmp_path / "a.tar"
    assert transfer.export_runs(archive, with_weights=True) == 1
    with tarfile.open(archive) as tar:
        assert all(member.isfile() for member in tar.getmembers())
    run.folder.rename(run.folder.with_name("renamed"))
    assert transfer.export_runs(tmp_path / "none.tar") == 0
    assert "lies in a folder of another name and is left out" in capsys.readouterr().out


def test_an_archive_takes_the_place_of_one_that_has_no_more(run, tmp_path, capsys):
    archive = tmp_path / "a.tar.gz"
    for _ in range(2):
        assert transfer.export_runs(archive, with_weights=True) == 1
    before = archive.read_bytes()
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="has 1 files that the new one would not have: runs/.*mo"):
        transfer.export_runs(archive, with_weights=True)
    assert f"1 of the runs have no weights here: {run.folder.name}" in capsys.readouterr().out
    assert archive.read_bytes() == before


def test_a_damaged_archive_is_refused_by_both(run, tmp_path):
    archive = tmp_path / "a.tar.gz"
    transfer.export_runs(archive, with_weights=True)
    whole = archive.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:2000] + bytes(500) + whole[2500:]):
        archive.write_bytes(damaged)
        with pytest.raises(sources.Refused, match="cannot be read as a tar archive"):
            sources.ArchiveSource(archive)
        with pytest.raises(ConfigError, match="which is there and no archive of runs"):
            transfer.export_runs(archive, with_weights=True)
        assert archive.read_bytes() == damaged


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tar", b"", "which is there and no archive of runs; allowed: a new name"),
        ("a.tar.gz", b"a photograph", "which is there and no archive of runs"),
        ("a.tar.xz", None, "which is a folder; allowed: a new name"),
        ("photo.gz", None, "allowed: names in .tar, .tar.gz, .tgz, .tar.xz"),
    ],
)
def test_an_archive_takes_the_place_of_nothing_else(run, tmp_path, name, content, words):
    place = tmp_path / name
    place.mkdir() if content is None else place.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        transfer.export_runs(place)
    assert place.is_dir() if content is None else place.read_bytes() == content


def test_a_changed_digit_and_a_record_without_a_digest_are_refused(run, elsewhere):
    path = run.folder / "record.json"
    content = json.loads(path.read_text())
    for broken in (content | {"wall_s": 0.5}, {k: v for k, v in content.items() if k != "digest"}):
        path.write_text(json.dumps(broken))
        assert what(transfer.import_runs(run.folder)) == [transfer.REFUSED]
    assert not list(results_dir().rglob("record.json"))


def repacked(archive, path, change):
    """The archive with every member given to change(member, content), which returns both."""
    with tarfile.open(archive) as old, tarfile.open(path, "w:gz") as new:
        for member in old.getmembers():
            member, content = change(member, old.extractfile(member).read())
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return path


def test_weights_that_are_not_what_the_list_says_are_refused(run, elsewhere, tmp_path):
    def damage(member, content):
        flip = member.name.endswith("model.safetensors")
        return member, content[:-1] + bytes([content[-1] ^ 1]) if flip else content

    (found,) = transfer.import_runs(repacked(elsewhere, tmp_path / "bad.tar.gz", damage))
    assert (found.what, "MANIFEST.sha256 says" in found.why) == (transfer.REFUSED, True)
    assert not list(results_dir().rglob("*.safetensors"))
    assert not list(results_dir().rglob("record.json"))


@pytest.mark.parametrize("kind", ["up", "absolute", "link", "hard link", "device"])
def test_an_archive_that_leads_outside_is_refused_whole(kind, elsewhere, tmp_path):
    bad = tmp_path / "bad.tar"
    with tarfile.open(bad, "w") as tar:
        member = tarfile.TarInfo({"up": "../x", "absolute": "/tmp/x"}.get(kind, "runs/x"))
        member.type = {
            "link": tarfile.SYMTYPE,
            "hard link": tarfile.LNKTYPE,
            "device": tarfile.CHRTYPE,
        }.get(kind, tarfile.REGTYPE)
        member.linkname = "/etc/passwd" if "link" in kind else ""
        tar.addfile(member)
    with pytest.raises(sources.Refused, match="outside|no ordinary file"):
        transfer.import_runs(bad)


def test_links_in_a_folder_are_refused(run, elsewhere, tmp_path):
    theirs = tmp_path / "theirs"
    shutil.copytree(run.folder, theirs / "run")
    name = next(iter(run.record["files"]))
    (theirs / "run" / name).unlink()
    (theirs / "run" / name).symlink_to(run.folder / name)
    (found,) = transfer.import_runs(theirs)
    assert "is a link" in found.why
    (theirs / "more").symlink_to(run.folder)
    (theirs / "run" / "record.json").unlink()
    (theirs / "run" / "record.json").symlink_to(run.folder / "record.json")
    with pytest.raises(sources.Refused, match="is a link"):
        transfer.import_runs(theirs)


def test_the_commands_say_what_came_of_it(run, elsewhere, tmp_path, capsys):
    assert main(["import-runs", str(elsewhere)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 new, 0 same, 0 conflicting, 0 refused"
    assert main(["export-runs", str(tmp_path / "out.tar.xz")]) == 0
    assert "1 runs in" in capsys.readouterr().out
    assert main(["export-runs", str(tmp_path / "no.tar"), "--profile", "paper"]) == 2
    assert "nothing to export" in capsys.readouterr().err
    assert main(["export-runs", str(tmp_path / "no.tar"), "--experiment", "nosuch"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: no finished runs of nosuch in ")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "no.tar").exists()
    assert main(["export-runs", str(tmp_path / "out.zip")]) == 2
    assert main(["import-runs", str(tmp_path / "none.tar")]) == 2
    (Path(tmp_path) / "noise.tar").write_bytes(b"noise" * 999)
    assert main(["import-runs", str(tmp_path / "noise.tar")]) == 2
    assert "cannot be read as a tar archive" in capsys.readouterr().err
