"""A working copy of the notebooks, which nothing writes over, and which the repository ignores."""

import subprocess

import pytest
from places import ROOT

from terminator.__main__ import main

NAMES = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def test_a_copy_to_work_in(tmp_path, capsys):
    folder = tmp_path / "to work"
    assert main(["notebooks", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"to work in them:  jupyter lab '{folder}'"
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    for name in NAMES:
        assert (folder / name).read_bytes() == (ROOT / "notebooks" / name).read_bytes()


def test_work_is_kept(tmp_path, capsys):
    assert main(["notebooks", str(tmp_path)]) == 0
    for name in NAMES[:2]:
        (tmp_path / name).write_text("my work")
    (tmp_path / NAMES[2]).unlink()
    assert main(["notebooks", str(tmp_path), "--again", NAMES[1][:2]]) == 0
    out = capsys.readouterr().out
    assert "2 notebooks copied" in out  # the one that was gone, the one that was asked for
    assert f"kept as they are there: {NAMES[0]} (--again" in out
    assert (tmp_path / NAMES[0]).read_text() == "my work"
    assert (tmp_path / NAMES[1]).read_text() != "my work"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([str(ROOT / "notebooks")], "the project's own"),
        (["x", "--again", "99_gone"], "--again is '99_gone'; allowed: a name or number of 00_tour"),
    ],
)
def test_refusals(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["notebooks", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_repository_ignores_the_usual_place():
    found = subprocess.run(
        ["git", "check-ignore", "my-notebooks/00_tour.ipynb"], cwd=ROOT, capture_output=True
    )
    if found.returncode == 128:
        pytest.skip("no repository here")
    assert found.returncode == 0
