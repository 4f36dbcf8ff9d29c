"""Whatever tables read is what was written, each run counts once, and what is damaged is named
in one line.
"""

import json
import random
import shutil

import pytest
import torch
from places import ROOT
from record_files import put, record

from terminator.runner import notebooks, results_page
from terminator.runs import finished, literature, measurements, observations, records
from terminator.runtime import digests
from terminator.runtime.paths import results_dir

COMMITTED = ROOT / "results"


def flips(content, count, seed=0):
    """`count` copies of some bytes with one bit flipped."""
    chance = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield bytes(damaged)


def refusal(read, *arguments):
    """What a reader says of a damaged file; None if it reads it. Any other error than its own is
    a failure.
    """
    try:
        read(*arguments)
    except ValueError as error:
        return str(error)
    return None


# -- published numbers -----------------------------------------------------------------------------


def test_the_committed_list_covers_what_no_record_covers(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(COMMITTED))
    listed = digests.listed(COMMITTED)
    assert {"literature.csv", "literature/terminator_released_accuracy_logs.csv"} <= listed.keys()
    for name, digest in listed.items():
        assert digests.of((COMMITTED / name).read_bytes()) == digest, name
    for path in COMMITTED.glob("runs/*/*/observations.*"):
        files = records.read_record(path.parent / "record.json").get("files", {})
        assert files.keys() | listed.keys() & {path.relative_to(COMMITTED).as_posix()}, path


@pytest.fixture
def published(monkeypatch):
    """A results folder with the published numbers."""
    folder = results_dir()
    for name in (
        "literature.csv",
        "literature/terminator_released_accuracy_logs.csv",
        "evidence.sha256",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(COMMITTED / name, folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("literature.csv", literature.literature),
        ("literature/terminator_released_accuracy_logs.csv", literature.released_logs),
    ],
)
def test_a_flipped_bit_in_published_numbers_is_noticed(published, name, read):
    path = published / name
    whole, content = read(), path.read_bytes()
    for damaged in flips(content, 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path.name} is not what was written.*digests.py"):
            read()
    path.write_bytes(content)
    assert read().equals(whole)


def test_a_flipped_bit_in_the_list_is_noticed(published):
    path = published / "evidence.sha256"
    content = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    whole = literature.literature(), literature.released_logs()
    for damaged in flips(content, 100, 1):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="evidence.sha256|is not what was written"):  # noqa: PT012
            literature.literature()
            literature.released_logs()
    path.write_bytes(content)
    assert literature.literature().equals(whole[0])


def test_what_is_not_listed_is_refused_with_the_command_that_lists_it(published):
    (published / "evidence.sha256").unlink()
    with pytest.raises(
        ValueError,
        match=r"literature.csv is not listed in .*sha256sum literature.csv >> evidence.sha256",
    ):
        literature.literature()


# -- observations ----------------------------------------------------------------------------------


def observed(folder, files=True):
    """A run with observations, as `file_record` leaves it; without `files` as older ones did."""
    rows = [{"quantity": "mean", "block": 1, "part": "output", "value": 0.1 * i} for i in range(5)]
    moments = [
        {"epoch": e, "numbers": rows, "fields": {"slow_score": torch.rand(1, 2, 3, 3)}}
        for e in (0, 1)
    ]
    made = record() | {"run_id": folder.name}
    if files:
        finished.file_record(folder, made, [{"epoch": 1}], False, lambda: None, moments)
    else:
        observations.write(folder, moments)
        records.write_record(folder / "record.json", made)
    return folder


@pytest.mark.parametrize("cover", ["record", "list"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("observations.csv", observations.read_numbers),
        ("observations.npz", observations.read_fields),
    ],
)
def test_a_flipped_bit_in_observations_is_noticed(name, read, cover):
    folder = observed(results_dir() / "runs" / "images" / "a-run", files=cover == "record")
    path = folder / name
    content = path.read_bytes()
    assert (name in records.read_record(folder / "record.json").get("files", {})) == (
        cover == "record"
    )
    if cover == "list":
        (results_dir() / "evidence.sha256").write_text(
            f"{digests.of(content)}  runs/images/a-run/{name}\n"
        )
    for damaged in flips(content, 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} is not what was written"):
            read(folder)
    path.write_bytes(content)
    assert len(read(folder))
    if cover == "record":
        forged = json.loads((folder / "record.json").read_text())
        forged["files"][name] = digests.of(b"other")
        (folder / "record.json").write_text(json.dumps(forged))
        with pytest.raises(ValueError, match="record.json is no readable run record"):
            read(folder)


def test_older_observations_are_read_and_their_damage_is_named():
    folder = observed(results_dir() / "runs" / "images" / "old", files=False)
    assert len(observations.read_numbers(folder)) == 10
    assert list(observations.read_fields(folder)) == [0, 1]
    for name, read in (
        ("observations.csv", observations.read_numbers),
        ("observations.npz", observations.read_fields),
    ):
        path = folder / name
        content = path.read_bytes()
        noticed = 0
        for damaged in [
            *flips(content, 200),
            content[: len(content) // 2],
            b"",
            b"\xff" * 50,
            b"a,b\n1,2\n",
        ]:
            path.write_bytes(damaged)
            message = refusal(read, folder)
            assert message is None or name in message
            noticed += message is not None
        # without a digest not every flip can be seen; none ends in a foreign error
        assert noticed >= 4


def test_a_flipped_bit_in_a_measurement_is_noticed():
    row = {"what": "training", "device": "cpu", "ms": 1.5}
    measurements.add("benchmark", "smoke", lambda: {"rows": [row]})
    (path,) = results_dir().glob("runs/benchmark/*/benchmark.json")
    content = path.read_bytes()
    assert measurements.load("smoke")[0]["rows"] == [row]
    for damaged in flips(content, 100):
        path.write_bytes(damaged)
        message = refusal(measurements.load, "smoke")
        if message is None:  # a space became another one
            assert measurements.load("smoke")[0]["rows"] == [row]
        else:
            assert "benchmark.json is no readable measurement" in message
    old = json.loads(content)
    del old["digest"]
    path.write_text(json.dumps(old))
    assert measurements.load("smoke")[0]["rows"] == [row]


# -- each run once ---------------------------------------------------------------------------------


def test_a_copied_run_is_no_second_one(capsys, monkeypatch):
    first, second = record(0), record(1)
    put(first, second)
    runs = results_dir() / "runs"
    shutil.copytree(runs / "images" / first["run_id"], runs / "images" / "a-copy")
    shutil.copytree(runs / "images" / first["run_id"], runs / "elsewhere" / first["run_id"])
    for _ in range(2):
        assert sorted(r["run_id"] for r in records.load_records()) == sorted(
            [first["run_id"], second["run_id"]]
        )
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2  # once each
    assert (
        f"runs/images/a-copy holds the run images/{first['run_id']}: it is a copy of images/"
        in "\n".join(said)
    )
    assert records.load_records("elsewhere") == []


def test_a_renamed_run_counts_once_and_is_said(capsys):
    put(one := record(0))
    runs = results_dir() / "runs"
    (runs / "images" / one["run_id"]).rename(runs / "images" / "renamed")
    shutil.copytree(runs / "images" / "renamed", runs / "images" / "renamed-again")
    assert [r["run_id"] for r in records.load_records("images")] == [one["run_id"]]
    said = capsys.readouterr().out
    assert f"runs/images/renamed holds the run images/{one['run_id']}: it counts once" in said
    assert "runs/images/renamed-again holds" in said
    # of another experiment: a run of its own
    put(record(0, experiment="ablations") | {"run_id": one["run_id"]})
    assert len(records.load_records()) == 2


def test_the_committed_runs_lie_where_they_say(capsys, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(COMMITTED))
    states = (records.FINISHED, records.RUNNING)
    found = sum(len(records.load_records(status=status)) for status in states)
    assert found == len(list(COMMITTED.glob("runs/*/*/record.json")))
    assert capsys.readouterr().out == ""


# -- files of a wrong form -------------------------------------------------------------------------

WRONG = [None, True, 3, 2.5, "text", [], {}, [[]], {"a": {}}, float("nan")]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("field", sorted(records.FORM | records.OPTIONAL))
def test_a_record_with_a_field_of_a_wrong_type_is_named(field):
    put(one := record(0))
    path = results_dir() / "runs" / "images" / one["run_id"] / "record.json"
    types = (records.FORM | records.OPTIONAL)[field]
    for value in WRONG:
        path.write_text(json.dumps(one | {field: value}))
        if isinstance(value, types) and not isinstance(value, bool):
            assert records.read_record(path)[field] == value or value != value
        else:
            with pytest.raises(
                ValueError,
                match=f"record.json is no readable run record: its {field} is .*; allowed:",
            ):
                records.load_records()


@pytest.mark.parametrize(
    "content", [DEEP, f'{{"run_id": {DEEP}}}', "[]", "3", '"text"', "\udcff", "{" * 1000]
)
def test_a_record_or_measurement_that_is_none_is_named(content):
    for name, read in (
        ("record.json", records.load_records),
        ("benchmark.json", measurements.load),
    ):
        path = results_dir() / "runs" / "benchmark" / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(
            ValueError, match=f"benchmark/a/{name} is no readable .*Remove its folder"
        ) as caught:
            read()
        assert len(str(caught.value).splitlines()) == 1
        path.unlink()
        path.mkdir()  # a folder where a file should be
        with pytest.raises(ValueError, match=f"{name} is no readable"):
            read()
        path.rmdir()


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        "[]",
        "3",
        "null",
        '{"00_a": []}',
        '{"00_a": {"status": {}, "seconds": "x"}}',
        '{"00_a": {"status": "ok", "output": 3}}',
        '{"00_a": {"seconds": null}}',
    ],
)
def test_a_state_of_a_wrong_form_is_no_state(content):
    folder = results_dir() / "notebooks" / "smoke"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(content)
    state = results_page.load_state(folder)
    assert state == {}
    results_page.index_page(results_dir())
    results_page.summary(
        results_dir(), "smoke", ["00_a"], {"00_a": "up to date"}, {"00_a": {"status": "ok"}}
    )


def test_folders_where_files_should_be_hide_nothing_of_the_results_page():
    results = results_dir()
    for name in (
        "notebooks/smoke/state.json",
        "tables/a.csv",
        "tables/headline.csv",
        "figures/a.png",
        "index.csv",
        "runs/x/y/record.json",
    ):
        (results / name).mkdir(parents=True)
    (results / "tables" / "b.csv").write_text("a\n1\n")
    (results / "tables" / "c.csv").write_text('"' + "x" * 200_000)
    page = results_page.index_page(results)
    assert "b.csv" in page
    assert "not readable" in page  # c.csv: longer than any field may be
    book = notebooks.Notebook(results / "90_reader.ipynb", "a title", {}, "hash", b"")
    assert notebooks.fingerprint(book, {}, "source", "", results)


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        '{"cells": [{"cell_type": "code", "source": "", "metadata": []}]}',
        "[]",
        '{"cells": {"a": 1}}',
        '{"cells": [[]]}',
        '{"cells": [{"cell_type": 3}]}',
    ],
)
def test_a_notebook_of_a_wrong_form_is_refused_by_name(tmp_path, content):
    path = tmp_path / "00_a.ipynb"
    path.write_text(content)
    with pytest.raises(notebooks.Refusal, match="00_a.ipynb: not a readable notebook"):
        notebooks.read_notebook(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(notebooks.Refusal, match="00_a.ipynb: not a readable notebook"):
        notebooks.read_notebook(path)
