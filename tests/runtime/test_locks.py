"""Locks of folders: one holder at a time, who is named; links in a lock's or probe's place lead
nowhere.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from terminator.runs import folders, records
from terminator.runtime import locks, paths

HOLD = """import sys
from pathlib import Path
from terminator.runtime import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_holder_is_named_and_its_end_frees_the_folder(tmp_path):
    for end in ("kill", "leave"):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout.readline() == "held\n"
            for _ in range(2):  # asking takes nothing away
                with pytest.raises(
                    locks.Busy, match=f"process {other.pid} on .*TERMINATOR_RESULTS"
                ):
                    with locks.held(tmp_path):
                        pytest.fail("two held one folder")
            if end == "kill":
                other.kill()
            else:
                other.stdin.close()
            other.wait(timeout=20)
        with locks.held(tmp_path):
            assert f"process {os.getpid()} on " in locks.holder(tmp_path)


@pytest.fixture
def target(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "shared").mkdir()
    return tmp_path / "precious"


def put_link(kind, place, target):
    if kind == "dangling":
        target.unlink()
    if kind == "hard link":
        os.link(target, place)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(target)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("kind", ["link", "dangling", "hard link", "pipe", "folder"])
def test_a_link_in_the_place_of_a_lock_is_refused_by_name(tmp_path, target, kind):
    shared = tmp_path / "shared"
    put_link(kind, shared / ".lock", target)
    with pytest.raises(
        PermissionError, match=r"shared/\.lock is a link, or no ordinary file.*remove it"
    ):
        with locks.held(shared):
            pytest.fail("held")
    with pytest.raises(PermissionError, match=r"shared/\.lock is a link"):
        folders.once(shared, lambda: pytest.fail("trained"))
    assert target.exists() == (kind != "dangling")
    assert kind == "dangling" or target.read_text() == "kept"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_that_comes_after_the_look_is_refused_too(tmp_path, target, monkeypatch):
    lock = locks.folder_lock(tmp_path / "shared")
    monkeypatch.setattr(locks, "folder_lock", lambda folder: lock)
    (tmp_path / "shared" / ".lock").symlink_to(target)
    with pytest.raises(PermissionError, match=r"shared/\.lock is a link"):
        with locks.held(tmp_path / "shared"):
            pytest.fail("held")
    assert target.read_text() == "kept"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_probing_and_writing_follow_no_links(tmp_path, target, monkeypatch):
    shared = tmp_path / "shared"
    (shared / f".probe-{os.getpid()}").symlink_to(target)
    (shared / ".probe").symlink_to(target)
    records.check_writable(shared)
    assert target.read_text() == "kept"
    (shared / "table.csv").symlink_to(target)
    paths.atomic_write(shared / "table.csv", "new")  # the link is replaced, not what it leads to
    assert target.read_text() == "kept"
    assert (shared / "table.csv").read_text() == "new"
    monkeypatch.setattr(paths.secrets, "token_hex", lambda count: "guessed")
    (shared / ".table-guessed.tmp.csv").symlink_to(target)
    with pytest.raises(FileExistsError, match="table-guessed"):
        paths.atomic_write(shared / "table.csv", "newer")
    assert target.read_text() == "kept"
    assert (shared / ".table-guessed.tmp.csv").is_symlink()  # somebody else's is not removed


def test_a_folder_that_is_read_by_link_is_still_written(tmp_path):
    (tmp_path / "disk").mkdir()
    Path(tmp_path / "results").symlink_to(tmp_path / "disk")
    paths.atomic_write(tmp_path / "results" / "a.txt", "text")
    assert (tmp_path / "disk" / "a.txt").read_text() == "text"
