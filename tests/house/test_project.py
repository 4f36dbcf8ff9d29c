"""The project's own files agree with each other."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from light import WITH_THEM, distribution, hide, project
from places import PACKAGE, ROOT

import terminator
from terminator.report import claims, pages, speed, tables
from terminator.runs import records
from terminator.runs.outcomes import HOLDS, NOT, NOT_LEARNED, NOT_RUN, SAME, UNDECIDED, WORDS
from terminator.zoo import cards

# packages whose modules have other names
IMPORTED = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
BROUGHT = {"cycler", "joblib", "scipy"}  # by matplotlib and scikit-learn


def extra(name):
    """The requirements of an extra, those of extras that it names among them."""
    found = []
    for entry in project()["optional-dependencies"][name]:
        inner = re.fullmatch(r"terminator-kit\[(\w+)\]", entry)
        found += extra(inner[1]) if inner else [entry]
    return found


def test_files_that_come_first_are_there(request):
    plugins = request.config.pluginmanager.get_plugins()
    order = next(plugin.LONGEST_FIRST for plugin in plugins if hasattr(plugin, "LONGEST_FIRST"))
    assert all((ROOT / name).is_file() for name in order)


# -- installations ---------------------------------------------------------------------------------


def test_environment_lists_the_same_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    ours = project()
    assert sorted(entry for entry in listed if not entry.startswith("-e")) == sorted(
        ours["dependencies"] + extra("test") + extra("docs")
    )
    python = next(
        entry for entry in environment if isinstance(entry, str) and entry.startswith("python")
    )
    assert ours["requires-python"] in python


def test_the_package_imports_what_it_depends_on():
    """At a module's top: dependencies alone. Inside of functions also what only notebooks need."""
    always = {IMPORTED.get(name, name) for name in map(distribution, project()["dependencies"])} | {
        "terminator"
    }
    light, used = always | BROUGHT | set(sys.stdlib_module_names), set()
    more = extra("notebooks") + extra("cluster") + extra("completion")
    with_notebooks = WITH_THEM | {distribution(entry) for entry in more}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            tops = {name.partition(".")[0] for name in names}
            used |= tops
            allowed = light if node in tree.body else light | with_notebooks
            assert tops <= allowed, f"{path} imports {tops - allowed}"
    assert always - used == set()  # and nothing is installed for nothing


def test_run_all_says_what_a_light_installation_lacks(tmp_path):
    hide(tmp_path)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, ROOT / "run_all.py", "--only", "00*"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    said = "papermill, nbconvert, nbformat, ipykernel not installed for .*pip install"
    assert re.search(said + r" -e '\.\[notebooks\]'", done.stderr), done.stderr


def test_docker_binder_and_ci_install_and_run_what_the_readme_says():
    text = (ROOT / "README.md").read_text(encoding="utf8")
    first, second = re.findall(r"```bash\n(python3 -m venv .*)\n```", text)
    docker = (ROOT / "Dockerfile").read_text(encoding="utf8")
    install, _, run = first.rpartition(" && ")
    assert f"RUN {install}\n" in docker
    assert tuple(yaml.safe_load(re.search(r"(?m)^CMD (.*)", docker)[1])) == tuple(run.split())
    wanted = re.search(r"pip install -e \"(\S+)\"", install)[1]
    binder = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf8").splitlines()
    assert f"-e {wanted}" in binder
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)
    tests = second.rpartition(" && ")[2].removeprefix(".venv/bin/python ")
    assert f'python" {tests} -m "" ' in (ROOT / ".ci" / "run").read_text(encoding="utf8")


def test_version_is_written_once_in_effect():
    assert project()["dynamic"] == ["version"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
    named = whole["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert named == "terminator.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", terminator.__version__)


def test_the_citation_is_complete():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert citation["version"] == terminator.__version__
    assert citation["license"] == project()["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert "2401.17948" in paper["url"]


# -- generated pages -------------------------------------------------------------------------------


def block(path, name):
    start, end = pages.markers(name)
    return path.read_text(encoding="utf8").split(start, 1)[1].split(end, 1)[0].strip()


@pytest.fixture(scope="module")
def rows():
    """All claims, judged by the committed records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
        return claims.judged()


def test_pages_are_made_from_the_records(rows, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    assert (ROOT / "results" / "REPRODUCIBILITY.md").read_text("utf8") == claims.page(rows)
    assert block(ROOT / "README.md", "verdicts") == pages.verdict_list(rows)
    page = (ROOT / "results" / "RESULTS.md").read_text(encoding="utf8")
    assert page == pages.results_page("../notebooks/")
    assert tables.result_tables("../notebooks/") in page
    assert block(ROOT / "docs" / "speed.md", "speed") == speed.speed_table()
    assert block(ROOT / "docs" / "speed.md", "suite") == speed.suite_table()


def test_what_is_not_decided_has_a_price(rows):
    assert {row["verdict"].partition(" (")[0].partition(" beyond")[0] for row in rows} <= set(WORDS)
    for row in rows:
        if row["verdict"].startswith(UNDECIDED):
            assert "core-hours" in row["what would settle it"], row
        decided = (f": {word}" in row["evidence"] for word in (HOLDS, NOT, SAME))  # elsewhere
        if "no verdict with fewer than 3" in row["evidence"] and not any(decided):
            assert row["verdict"].startswith((UNDECIDED, NOT_LEARNED, NOT_RUN)), row


@pytest.mark.parametrize("system", tables.SYSTEMS, ids=lambda system: system.task)
def test_the_index_of_every_system_is_made_from_the_records(monkeypatch, system):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    committed, path = records.evidence(system.task), ROOT / "results" / system.index
    assert path.is_file() == bool(committed)
    if committed:
        assert path.read_text() == system.index_table(committed).to_csv(index=False)


def test_what_the_limits_say_of_all_records(monkeypatch):
    """Two sentences of docs/limits.md that a single record could make untrue."""
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    text = " ".join((ROOT / "docs" / "limits.md").read_text(encoding="utf8").split())
    found = [record for system in tables.SYSTEMS for record in records.evidence(system.task)]
    assert found
    full = [record["run_id"] for record in found if record["profile"] == "paper"]
    assert ("no such record is here" in text) == (not full), full
    on_gpu = [record["run_id"] for record in found if "threads" not in record["device"]]
    assert ("Nothing has run on a GPU yet" in text) == (not on_gpu), on_gpu


def test_digits_reach_what_was_promised(monkeypatch):
    """The released network at 8x8, six epochs: at least 98 % on average over three seeds, by the
    records.
    """
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    found = [r for r in records.load_records("images", "laptop") if r["data"]["name"] == "digits"]
    assert len({r["seed"] for r in found}) >= 3
    assert all(r["config"]["train"]["epochs"] == 6 for r in found)
    assert sum(r["results"]["released"]["accuracy"] for r in found) / len(found) >= 98


def test_the_page_of_models_is_made_from_their_files():
    assert (ROOT / "docs" / "models.md").read_text(encoding="utf8") == cards.page()
