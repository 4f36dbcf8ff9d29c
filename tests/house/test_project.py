"""The project's own files agree with each other."""

import tomllib

import pytest
import yaml
from places import ROOT

from terminator.report import pages, tables
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


def block(path, name):
    start, end = pages.markers(name)
    return path.read_text(encoding="utf8").split(start, 1)[1].split(end, 1)[0].strip()


def test_pages_are_made_from_the_records(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    page = (ROOT / "results" / "RESULTS.md").read_text(encoding="utf8")
    assert page == pages.results_page("../notebooks/")
    assert tables.result_tables("../notebooks/") in page
    assert block(ROOT / "README.md", "verdicts") == pages.verdict_lines()
    assert block(ROOT / "docs" / "speed.md", "speed") == pages.speed_table()


@pytest.mark.parametrize("system", tables.SYSTEMS, ids=lambda system: system.task)
def test_the_index_of_every_system_is_made_from_the_records(monkeypatch, system):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    committed, path = records.evidence(system.task), ROOT / "results" / system.index
    assert path.is_file() == bool(committed)
    if committed:
        assert path.read_text() == system.runs_table(committed).to_csv(index=False)


def test_version_is_written_once_in_effect():
    import terminator

    assert terminator.__version__ == project()["version"]
    assert f"version: {terminator.__version__}" in (ROOT / "CITATION.cff").read_text()


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
