"""What is written into Markdown: RESULTS.md, and blocks between markers."""

import re

import pytest
from places import ROOT

from terminator.report import claims, pages
from terminator.runs.claims import ASKED
from terminator.runs.outcomes import HOLDS, NOT, NOT_RUN, UNDECIDED
from terminator.runtime.paths import results_dir


def test_a_block_goes_between_the_markers_of_a_file(tmp_path):
    path = tmp_path / "README.md"
    start, end = pages.markers("results")
    path.write_text(f"before\n{start}\nold\n{end}\nafter\n", encoding="utf8")
    assert pages.update_block(path, "new", "results") == path
    assert path.read_text(encoding="utf8") == f"before\n{start}\nnew\n{end}\nafter\n"
    for content in ("no markers", f"{start}\n", f"{end}\n"):
        path.write_text(content)
        with pytest.raises(ValueError, match="README.md lacks the lines"):
            pages.update_block(path, "new", "results")
        assert path.read_text() == content


SOURCES = ("a paper", f"follows from it; {ASKED}")


def rows(system, *verdicts):
    return [
        {"system": system, "claim": f"{system} {i}", "verdict": word, "source": SOURCES[i % 2]}
        for i, word in enumerate(verdicts)
    ]


def test_clear_verdicts_are_named_and_others_counted():
    found = rows("A", HOLDS, NOT, HOLDS, UNDECIDED, HOLDS, HOLDS) + rows("B", NOT_RUN, UNDECIDED)
    first, second, claimed, asked, last = pages.verdict_list(found).splitlines()
    assert first == (f"- **A**: *{HOLDS}*: “A 0”, “A 2”, 2 more; *{NOT}*: “A 1”; 1 *{UNDECIDED}*.")
    assert second.startswith("- **B**: ")
    assert f"1 *{UNDECIDED}*" in second
    assert f"1 *{NOT_RUN}*" in second
    assert claimed == (f"- Claimed by a paper or a release (4): 3 *{HOLDS}*, 1 *{NOT_RUN}*.")
    assert asked == f"- Asked beside them (4): 1 *{HOLDS}*, 1 *{NOT}*, 2 *{UNDECIDED}*."
    assert last.startswith("- All 8, each with its evidence")


def test_a_verdict_in_other_words_is_counted_too():
    assert pages.verdict_list(rows("A", "new word", HOLDS)).splitlines()[0] == (
        f"- **A**: *{HOLDS}*: “A 1”; 1 *new word*."
    )


def test_every_claim_is_counted_once():
    *systems, claimed, asked, last = pages.verdict_list(claims.claims_table({})).splitlines()
    assert len(systems) == len({claim.system for claim in claims.CLAIMS})
    counts = [int(re.search(rf"(\d+) \*{NOT_RUN}\*", line)[1]) for line in (claimed, asked)]
    assert sum(counts) == len(claims.CLAIMS)
    assert f"All {len(claims.CLAIMS)}, each" in last


def test_results_elsewhere_touch_nothing_of_the_project(monkeypatch):
    before = (ROOT / "README.md").read_bytes(), (ROOT / "docs" / "speed.md").read_bytes()
    assert pages.write_all(claims.judged()) == [results_dir() / "RESULTS.md"]
    text = (results_dir() / "RESULTS.md").read_text(encoding="utf8")
    assert "No records yet (of" in text
    assert "notebooks/" not in text
    assert before == ((ROOT / "README.md").read_bytes(), (ROOT / "docs" / "speed.md").read_bytes())


def test_the_projects_own_results_write_its_blocks(monkeypatch, tmp_path):
    start, end = zip(*map(pages.markers, ("verdicts", "speed")))
    suite = "\n".join(pages.markers("suite"))
    (tmp_path / "docs").mkdir()
    files = tmp_path / "README.md", tmp_path / "docs" / "speed.md"
    for file, first, last in zip(files, start, end):
        file.write_text(f"{first}\n{last}\n{suite}\n")
    monkeypatch.setattr(pages, "project_root", lambda: tmp_path)
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path / "results"))
    assert pages.write_all(claims.judged()) == [tmp_path / "results" / "RESULTS.md", *files]
    assert f"All {len(claims.CLAIMS)}, each" in files[0].read_text(encoding="utf8")
    assert "times the floor" in files[1].read_text(encoding="utf8")
    assert "times its serial floor" in files[1].read_text(encoding="utf8")
