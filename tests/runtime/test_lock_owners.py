"""Owners of locks on shared file systems: who is gone is found out, who lives is respected, and of
many that come at once one has the folder.
"""

import errno
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time

import pytest
from filelock import FileLock, Timeout

from terminator.runs import folders
from terminator.runtime import locks


@pytest.fixture
def no_system_locks(monkeypatch):
    """A file system that knows no locks, as some clusters' do not."""

    def refuse(self, timeout=None, **more):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(FileLock, "acquire", refuse)


def sign(folder, age=0.0, **said):
    """The file of another owner, last renewed so many seconds ago."""
    path = folder / f"{locks.OWNER}{len(list(folder.iterdir())):016x}"
    path.write_text(json.dumps({**locks._self(), **said}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def taken(folder):
    lock = locks.folder_lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


ELSEWHERE = {"host": "node7", "space": "another machine", "job": "34"}


@pytest.mark.parametrize(
    ("said", "age", "free"),
    [
        (ELSEWHERE, 0, False),
        (ELSEWHERE, locks.SILENT_S - 30, False),
        (ELSEWHERE, locks.SILENT_S + 30, True),  # no sign of life
        ({}, 9 * locks.SILENT_S, False),  # stopped, but there: this process
        ({"pid": 2**22 + 1}, 0, True),  # gone
        ({"began": "1"}, 0, True),  # its number belongs to another process now
        ({"space": "an earlier start of this machine"}, 0, False),
        ({"space": "an earlier start of this machine"}, locks.SILENT_S + 30, True),
        ({"pid": "x"}, 0, False),
    ],
)
def test_who_is_gone_gives_way_and_who_lives_is_respected(said, age, free, tmp_path):
    if "began" in said and locks._began(os.getpid()) is None:
        pytest.skip("no /proc here")
    path = sign(tmp_path, age, **said)
    assert (locks.holder(tmp_path) is None) == free
    assert taken(tmp_path) == free
    assert path.exists() != free
    assert len(list(tmp_path.glob(f"{locks.OWNER}*"))) == (not free)  # nothing of ours is left


@pytest.mark.skipif(locks._began(os.getpid()) is None, reason="no /proc here")
def test_who_has_ended_gives_way_though_its_parent_has_not_asked(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        sign(tmp_path, pid=child.pid, began=locks._began(child.pid))
        assert not taken(tmp_path)
        child.kill()
        until = time.monotonic() + 30
        while locks._began(child.pid) is not None and time.monotonic() < until:
            time.sleep(0.02)
        assert os.path.exists(f"/proc/{child.pid}")  # nobody has waited for it
        assert taken(tmp_path)
    finally:
        child.kill()
        child.communicate()


def test_the_holder_is_named_with_its_job(tmp_path, monkeypatch):
    sign(tmp_path, **ELSEWHERE, pid=12)
    assert locks.holder(tmp_path) == "process 12 on node7 (job 34)"
    with pytest.raises(locks.Busy, match=r"process 12 on node7 \(job 34\) is training it"):
        folders.once(tmp_path, lambda: pytest.fail("trained"), wait=False)


def test_force_takes_no_checkpoint_from_who_trains(tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_text("theirs")
    other = sign(tmp_path, **ELSEWHERE, pid=12)
    with pytest.raises(locks.Busy):
        folders.once(tmp_path, lambda: pytest.fail("trained"), force=True, wait=False)
    assert checkpoint.read_text() == "theirs"
    other.unlink()
    found = folders.once(tmp_path, lambda: {"went on": checkpoint.exists()}, force=True)
    assert found == {"went on": False}


def test_a_half_written_sign_and_a_link_are_nobodys_for_long(tmp_path):
    (tmp_path / f"{locks.OWNER}aa").write_text("{")
    assert not taken(tmp_path)
    os.utime(tmp_path / f"{locks.OWNER}aa", (1, 1))
    (tmp_path / "precious").write_text("kept")
    (tmp_path / f"{locks.OWNER}bb").symlink_to(tmp_path / "precious")
    assert taken(tmp_path)
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_sign_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_S", 0.02)
    lock = locks.folder_lock(tmp_path)
    lock.acquire()
    (path,) = tmp_path.glob(f"{locks.OWNER}*")
    os.utime(path, (1, 1))
    until = time.monotonic() + 10
    while path.stat().st_mtime == 1 and time.monotonic() < until:
        time.sleep(0.02)
    assert time.time() - path.stat().st_mtime < 60
    lock.release()
    assert not path.exists()


def test_who_was_taken_for_gone_learns_of_it(tmp_path):
    lock = locks.folder_lock(tmp_path)
    lock.acquire()
    locks.check_held(tmp_path)
    (path,) = tmp_path.glob(f"{locks.OWNER}*")
    path.unlink()
    sign(tmp_path, **ELSEWHERE, pid=12)
    with pytest.raises(locks.Busy, match="taken over by process 12 on node7"):
        locks.check_held(tmp_path)
    lock.release()
    locks.check_held(tmp_path)  # not ours: nothing to lose
    assert platform.node() not in locks.holder(tmp_path)


def test_without_locks_of_the_system_the_signs_alone_keep_others_out(tmp_path, no_system_locks):
    one = locks.folder_lock(tmp_path)
    one.acquire()
    assert not taken(tmp_path)
    one.release()
    assert taken(tmp_path)


def _contend(folder, rounds, results):
    """Take a folder again and again without the system's locks; count who was not alone."""
    FileLock.acquire = lambda self, timeout=None, **more: (_ for _ in ()).throw(
        OSError(errno.ENOSYS, "none")
    )
    locks.LOOK_S = 0.002
    together = 0
    for _ in range(rounds):
        lock = locks.folder_lock(folder)
        lock.acquire()
        mark = folder / "inside"
        together += mark.exists()
        mark.write_text("x")
        time.sleep(0.001)
        together += not mark.exists()
        mark.unlink(missing_ok=True)
        lock.release()
    results.put(together)


def test_of_many_that_come_at_once_one_has_the_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    several = [context.Process(target=_contend, args=(tmp_path, 15, results)) for _ in range(3)]
    for process in several:
        process.start()
    assert [results.get(timeout=60) for _ in several] == [0, 0, 0]
    for process in several:
        process.join(timeout=20)
    assert list(tmp_path.glob(f"{locks.OWNER}*")) == []
