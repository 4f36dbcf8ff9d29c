"""The project's own files agree with each other."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from places import ROOT

from terminator.report import readme, tables
from terminator.report import readme as report_readme
from terminator.runs import records


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_environment_lists_the_same_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    ours = project()
    assert sorted(entry for entry in listed if not entry.startswith("-e")) == sorted(
        ours["dependencies"] + ours["optional-dependencies"]["test"]
    )
    python = next(
        entry for entry in environment if isinstance(entry, str) and entry.startswith("python")
    )
    assert ours["requires-python"] in python


def test_readme_table_is_made_from_the_records(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    text = (ROOT / "README.md").read_text(encoding="utf8")
    block = (
        text.split(report_readme.README_START, 1)[1].split(report_readme.README_END, 1)[0].strip()
    )
    assert block == tables.readme_tables()
    start, end = (
        mark.replace("results", "speed")
        for mark in (report_readme.README_START, report_readme.README_END)
    )
    assert text.split(start, 1)[1].split(end, 1)[0].strip() == readme.speed_table()


@pytest.mark.parametrize("system", tables.SYSTEMS, ids=lambda system: system.task)
def test_the_index_of_every_system_is_made_from_the_records(monkeypatch, system):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    committed, path = records.evidence(system.task), ROOT / "results" / system.index
    assert path.is_file() == bool(committed)
    if committed:
        assert path.read_text() == system.index_table(committed).to_csv(index=False)


def test_readme_links_and_commands_exist():
    text = (ROOT / "README.md").read_text(encoding="utf8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
    commands = set(re.findall(r"-m terminator ([\w-]+)", text))
    done = subprocess.run(
        [sys.executable, "-m", "terminator", "--help"], capture_output=True, text=True, check=True
    )
    assert commands
    assert commands <= set(re.findall(r"(?m)^  ([\w-]+) ", done.stdout))


def test_version_is_written_once_in_effect():
    import terminator

    assert terminator.__version__ == project()["version"]
    assert f"version: {terminator.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_digits_reach_what_was_promised(monkeypatch):
    """The released network at 8x8, six epochs: at least 98 % on average over three seeds, by the
    records.
    """
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    found = [r for r in records.load_records("images", "laptop") if r["data"]["name"] == "digits"]
    assert len({r["seed"] for r in found}) >= 3
    assert all(r["config"]["train"]["epochs"] == 6 for r in found)
    assert sum(r["results"]["released"]["accuracy"] for r in found) / len(found) >= 98
