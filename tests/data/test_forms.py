"""A folder where a file should be, a file where a folder should be, pipes, links to nowhere, empty
files, no permission: one line that names what it is about, and what to do.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from data_files import own_places, pixels_of, write
from places import TESTS
from readers import READERS, message

from terminator.__main__ import main
from terminator.data import DatasetCorrupt, DatasetNotFound, load
from terminator.data.episodes.sources import load_classes
from terminator.data.files import read_file
from terminator.data.places import kind_of
from terminator.data.sequences import listops, text

__all__ = ["own_places"]  # a fixture that every test here uses


def said(kind, root):
    began = time.monotonic()
    found = message(kind, root)
    assert time.monotonic() - began < 20
    assert "\n" not in found
    assert "[Errno" not in found
    return found


def put(path, what):
    """Something else in the place of a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a file":
        path.write_bytes(b"content")
    elif what == "a link that leads nowhere":
        path.symlink_to(path.parent / "nowhere")
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", READERS)
def test_the_files_themselves_are_read(tmp_path, kind):
    READERS[kind].make(tmp_path)
    assert message(kind, tmp_path) == "it was read"


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("what", ["a folder", "a pipe", "a link that leads nowhere", "a device"])
def test_something_else_in_a_files_place(tmp_path, kind, what):
    READERS[kind].make(tmp_path)
    path = tmp_path / READERS[kind].file
    put(path, what)
    found = said(kind, tmp_path)
    if what == "a folder" and kind in ("reviews", "bytes", "classes"):
        assert found == "it was read"  # the others: a folder among the files disturbs nothing
        return
    assert found != "it was read"
    assert path.name.split(".")[0] in found, found


@pytest.mark.parametrize("kind", [kind for kind in READERS if READERS[kind].folder])
@pytest.mark.parametrize("what", ["a file", "a pipe", "a link that leads nowhere"])
def test_something_else_in_a_folders_place(tmp_path, kind, what):
    READERS[kind].make(tmp_path)
    path = tmp_path / READERS[kind].folder
    put(path, what)
    found = said(kind, tmp_path)
    assert found != "it was read"
    assert any(part in found for part in (str(path), path.name, str(tmp_path / "set"))), found


@pytest.mark.parametrize("kind", READERS)
def test_empty_files_are_named(tmp_path, kind):
    READERS[kind].make(tmp_path)
    path = tmp_path / READERS[kind].file
    path.write_bytes(b"")
    found = said(kind, tmp_path)
    assert READERS[kind].empty in found, found
    assert path.name.split(".")[0] in found, found


NO_PERMISSION = f"""
import ctypes, os, sys
for right in (1, 2) if os.getuid() == 0 else ():  # root's, to write and to read everything
    if ctypes.CDLL(None, use_errno=True).prctl(24, right, 0, 0, 0):
        sys.exit("not possible here")
os.execv(sys.executable, [sys.executable, "-c", '''
import json, sys
sys.path.insert(0, {str(TESTS)!r})
from readers import READERS, message
print(json.dumps([message(kind, root) for kind, root in json.loads(sys.argv[1])]))
''', sys.argv[1]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="root's right is given up in Linux's way")
def test_what_may_not_be_read_is_named_with_what_to_do(tmp_path):
    asked, closed = [], []
    for kind, reader in READERS.items():
        for part in filter(None, (reader.file, reader.folder)):
            root = tmp_path / f"{kind} {len(asked)}"
            reader.make(root)
            asked.append((kind, str(root)))
            closed.append(root / part)
            closed[-1].chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", NO_PERMISSION, json.dumps(asked)],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"TERMINATOR_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"},
        )
    finally:
        for path in closed:
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr[-2000:]
    for (kind, _), path, found in zip(asked, closed, json.loads(done.stdout), strict=True):
        assert path.name in found, (kind, found)
        assert "ermission" in found or "may not" in found, (kind, found)
        assert "[Errno" not in found, (kind, found)
        assert "damaged" not in found, (kind, found)  # it is not


def test_a_data_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("x")
    for place, words in (("file", "is a file, no folder"), ("absent", "no such folder")):
        for read in (
            lambda at: load("photos", data_dir=at),
            lambda at: load("MNIST", data_dir=at, download=False),
            lambda at: load_classes("mine", at),
            lambda at: text.load_imdb(at),
            lambda at: text.load_aan("aan", at),
        ):
            with pytest.raises(DatasetNotFound, match=words):
                read(tmp_path / place)
    assert main(["datasets", "--data-dir", str(tmp_path / "file")]) in (0, 2)


def test_few_shot_names_that_are_nearly_right_are_said(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").write_text("x")
    write(tmp_path, {"three.npy.gz": b"x"})
    for name, words in (
        ("one", r"one has no .npy or .pkl or .pickle"),
        ("two", "two is a file, not a folder of arrays"),
        ("three", r"three.npy.gz is there, but not unpacked"),
    ):
        with pytest.raises(DatasetNotFound, match=words):
            load_classes(name, tmp_path)


@pytest.mark.parametrize("what", ["folder", "pipe", "nothing", "device"])
def test_pictures_to_be_answered(tmp_path, what):
    path = tmp_path / "a.png"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(DatasetCorrupt, match=r"a\.png (is a|cannot be read)") as caught:
        read_file(path)
    assert "Errno" not in str(caught.value)


def test_what_lies_at_a_path(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("link")
    (tmp_path / "good").symlink_to("file")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(tmp_path / "sock"))
        found = {name: kind_of(tmp_path / name) for name in ("sock", "file", "pipe", "link")}
    assert found == {
        "sock": "a socket",
        "file": "a file",
        "pipe": "a pipe",
        "link": "a link that leads nowhere",
    }
    assert kind_of(tmp_path / "good") == "a file"
    assert kind_of(tmp_path) == "a folder"
    assert kind_of(tmp_path / "absent") == kind_of(tmp_path / "file" / "x") == ""
    assert kind_of("/dev/zero") == "a device"


EXPRESSION = "[MAX 1 2 ]\t2\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[AVG 1 2 ]\t2\n", r"line 2: '\[AVG' is no token of ListOps; allowed: 0 1"),
        ("hello world\t2\n", "line 2: 'hello' is no token"),
        ("[MAX 10 2 ]\t2\n", "line 2: '10' is no token"),
        ("\t2\n", "line 2: '' is no expression"),
        ("( )\t2\n", "line 2: .* is no expression"),
        ("2\n", "line 2: '2'; allowed: an expression, a tab and its value"),
        ("[MAX 1 2 ]\t\n", "line 2: .*; allowed: an expression, a tab"),
        ("[MAX 1 2 ]\t2\t3\n", "line 2: "),
        ("[MAX 1 2 ]\t2.0\n", "line 2: "),
        ("[MAX 1 2 ]\t-1\n", "line 2: "),
    ],
)
def test_lines_of_expressions_that_are_none(tmp_path, line, words):
    for split in ("train", "val", "test"):
        (tmp_path / f"basic_{split}.tsv").write_text("Source\tTarget\n" + EXPRESSION)
    (tmp_path / "basic_train.tsv").write_text(f"Source\tTarget\n{line}{EXPRESSION}")
    with pytest.raises(DatasetCorrupt, match=f"basic_train.tsv, {words}"):
        listops.read_released(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", "Source\tTarget\n", "Source\tTarget\n\n \n"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_expressions_without_any(tmp_path, content, split):
    for each in ("train", "val", "test"):
        (tmp_path / f"basic_{each}.tsv").write_text("Source\tTarget\n" + EXPRESSION)
    (tmp_path / f"basic_{split}.tsv").write_text(content)
    with pytest.raises(DatasetCorrupt, match=f"basic_{split}.tsv has no examples"):
        listops.read_released(tmp_path)


@pytest.mark.parametrize(
    "line",
    ["1\ta\tb\tone\n", "1\ta\tb\tone\ttwo\tthree\n", "2\ta\tb\tone\ttwo\n", "1,a,b,one,two\n"]
    + ["\ta\tb\tone\ttwo\n", "nan\ta\tb\tone\ttwo\n", "1\ta\tb\t\t\n", '{"label": 1}\n'],
)
def test_pairs_with_missing_columns(tmp_path, line):
    for split in ("train", "eval", "test"):
        (tmp_path / f"x.{split}.tsv").write_text("1\ta\tb\tone\ttwo\n")
    (tmp_path / "x.eval.tsv").write_text("1\ta\tb\tone\ttwo\n" + line)
    with pytest.raises(DatasetCorrupt, match=r"x.eval.tsv, line 2: "):
        text.load_aan(str(tmp_path))


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "basic_train.tsv").mkdir()
    np.save(tmp_path / "mine.npy", pixels_of(4, 5))
    os.mkfifo(tmp_path / "pipe.npy")
    words = "data.kind=listops_files", f"data.name={tmp_path / 'set'}", "network.task=listops"
    calls = (
        (["longrange-data", *words], "(basic_train.tsv is a folder)"),
        (["longrange", *words], "(basic_train.tsv is a folder)"),
        (["fewshot", "--train_dataset=mine:0-1", "--test_dataset=mine:2-3"], "mine.npy has shape"),
        (["fewshot", "--train_dataset=pipe:0-1", "--test_dataset=pipe:2-3"], "but a pipe: put"),
    )
    for call, expected in calls:
        assert main([*call, "--data-dir", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert len(error.splitlines()) == 1
