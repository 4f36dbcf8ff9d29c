"""Where a number comes from: the package's own checkout, which is asked without starting what
others named.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

import terminator
from terminator.bench import revision
from terminator.runtime import git, paths, provenance
from terminator.runtime.settings import ConfigError

SAFE = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_COMMITTER_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_EMAIL": "a@b",
}
pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or os.name == "nt", reason="needs git and a shell"
)


def call(folder, *words):
    return subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **SAFE}, capture_output=True, text=True
    )


def make_project(folder):
    """A repository that looks like this project's, with one commit."""
    for name in ("terminator", "notebooks", "results"):
        (folder / name).mkdir(parents=True)
    (folder / "terminator" / "a.py").write_text("1\n")
    (folder / "notebooks" / "grün.ipynb").write_text("{}\n")
    (folder / "pyproject.toml").write_text('[project]\nname = "terminator-kit"\n')
    (folder / ".gitignore").write_text("*.log\n")
    assert call(folder, "init", "-q").returncode == 0
    call(folder, "add", ".")
    assert call(folder, "commit", "-q", "-m", "first").returncode == 0
    return folder


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A checkout that the package believes to lie in."""
    folder = make_project(tmp_path / "own")
    monkeypatch.setattr(paths, "__file__", str(folder / "terminator" / "runtime" / "paths.py"))
    return folder


def set_traps(folder, mark):
    """A configuration that starts a program at every occasion known; it leaves `mark` behind."""
    trap = folder / ".git" / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    trap.chmod(0o755)
    for hook in ("post-index-change", "reference-transaction", "pre-auto-gc", "post-checkout"):
        shutil.copy(trap, folder / ".git" / "hooks" / hook)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.gitProxy",
        "diff.external",
        "filter.t.clean",
        "filter.t.smudge",
        "filter.t.process",
        "diff.t.textconv",
        "merge.t.driver",
        "credential.helper",
        "gpg.program",
        "uploadpack.packObjectsHook",
        "remote.r.uploadpack",
        "tar.tar.command",
        "pager.ls-tree",
        "pager.rev-parse",
        "alias.rev-parse",
        "alias.ls-files",
    ):
        call(folder, "config", key, str(trap) if not key.startswith("alias") else f"!{trap}")
    for key, value in (
        ("core.hooksPath", str(folder / ".git" / "hooks")),
        ("remote.r.url", "ext::" + str(trap)),
        ("remote.r.promisor", "true"),
        ("extensions.partialClone", "r"),
        ("core.repositoryFormatVersion", "1"),
        ("protocol.ext.allow", "always"),
    ):
        call(folder, "config", key, value)
    (folder / ".git" / "info" / "attributes").write_text("* filter=t diff=t merge=t\n")


def test_a_hostile_configuration_starts_no_program(own, tmp_path):
    mark = tmp_path / "was_run"
    head = call(own, "rev-parse", "HEAD").stdout.strip()
    set_traps(own, mark)
    # git would look into it again, through the filter
    os.utime(own / "terminator" / "a.py", (1, 1))
    assert git.commit() == head
    assert git.changed("terminator", "notebooks") is False
    with revision.checkout("HEAD") as folder:
        assert (folder / "terminator" / "a.py").read_text() == "1\n"
    assert provenance.provenance()["commit"] == head
    assert not mark.exists()
    call(own, "status")
    assert mark.exists()  # the traps work


def test_an_object_that_is_missing_is_not_fetched(own, tmp_path):
    set_traps(own, mark := tmp_path / "was_run")
    tree = call(own, "rev-parse", "HEAD:terminator").stdout.strip()
    mark.unlink(missing_ok=True)
    (own / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    assert git.changed("terminator") is None
    assert not mark.exists()


def test_changed_says_what_status_would(own):
    code = own / "terminator" / "a.py"
    assert git.changed("terminator", "notebooks") is False
    code.write_bytes(b"1\r\n")  # as git checks it out on Windows
    assert git.changed("terminator") is False
    for change in (
        (lambda: code.write_text("2\n")),
        code.unlink,
        (lambda: code.symlink_to("b.py")),
        (lambda: [code.unlink(), code.mkdir()]),
    ):
        change()
        assert git.changed("terminator") is True
        assert git.changed("notebooks") is False
    code.rmdir()
    code.write_text("1\n")
    (own / "terminator" / "x.log").write_text("ignored")
    (own / "elsewhere.py").write_text("not asked for")
    assert git.changed("terminator") is False
    (own / "terminator" / "new.py").write_text("")
    assert git.changed("terminator") is True


def test_only_the_packages_own_checkout_is_asked(tmp_path, monkeypatch):
    for name in ("current", "above"):
        make_project(tmp_path / name)
        set_traps(tmp_path / name, tmp_path / "was_run")
    (tmp_path / "was_run").unlink(missing_ok=True)
    site = tmp_path / "above" / "venv" / "site-packages" / "terminator" / "runtime" / "paths.py"
    monkeypatch.setattr(paths, "__file__", str(site))
    monkeypatch.chdir(tmp_path / "current" / "notebooks")
    found = provenance.provenance()
    assert (found["commit"], found["dirty"]) == (None, None)
    assert found["versions"]["terminator-kit"] == terminator.__version__
    assert found["source_hash"] == provenance.package_hash()
    with pytest.raises(ConfigError, match="not in a git repository"), revision.checkout("HEAD"):
        pass
    assert not (tmp_path / "was_run").exists()
    monkeypatch.delenv("TERMINATOR_RESULTS")
    # JupyterLab in a clone writes there
    assert paths.results_dir() == tmp_path / "current" / "results"


def test_the_callers_variables_lead_to_no_other_repository(own, tmp_path, monkeypatch):
    other = make_project(tmp_path / "other")
    (other / "more").write_text("more")
    call(other, "add", ".")
    call(other, "commit", "-q", "-m", "second")
    head = call(own, "rev-parse", "HEAD").stdout.strip()
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert git.commit() == head
    shutil.rmtree(own / ".git")
    (own / ".git").mkdir()  # and none that lies around it
    assert git.commit() is None


def test_an_installation_used_in_a_clone_says_its_version(tmp_path):
    site, clone = tmp_path / "site", make_project(tmp_path / "clone")
    set_traps(clone, tmp_path / "was_run")
    shutil.copytree(
        ROOT / "terminator", site / "terminator", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = "from terminator.runtime import provenance as p, paths; print(p.provenance()['commit'], paths.results_dir())"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TERMINATOR_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=clone / "notebooks",
        capture_output=True,
        text=True,
        env=kept | {"PYTHONPATH": str(site)},
        check=True,
    )
    assert done.stdout.split() == ["None", str(clone / "results")]
    assert not (tmp_path / "was_run").exists()


def test_here(tmp_path):
    """This very checkout, where there is one."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    assert git.checkout() == ROOT
    assert git.commit() == call(ROOT, "rev-parse", "HEAD").stdout.strip()
    assert git.commit("no-such-branch") is None
    assert git.changed(*provenance.CODE) == bool(
        call(ROOT, "status", "--porcelain", "--", *provenance.CODE).stdout
    )
    files = call(ROOT, "ls-tree", "-r", "--name-only", "HEAD", "--", "terminator").stdout.split()
    assert set(files) <= {path.as_posix() for path, _ in git.contents("HEAD")}
    assert Path(files[0]).suffix == ".py"
