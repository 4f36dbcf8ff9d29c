"""The pages that are sent to a colleague: what stands on them, without a network, in any text."""

import csv
import json
import re
import shutil
import struct
import zlib
from urllib.parse import unquote

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image, PngImagePlugin
from places import ROOT

from terminator.plots import style
from terminator.report.claims import CLAIMS
from terminator.runner import gallery, verdicts
from terminator.runner.notebook_page import mathml, notebook_page
from terminator.runner.results_page import index_page

# -- the results page ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A copy of what the project keeps, without the runs."""
    folder = tmp_path_factory.mktemp("kept") / "results"
    ignore = shutil.ignore_patterns("runs", "*.svg", "index.html")
    shutil.copytree(ROOT / "results", folder, ignore=ignore)
    return folder


def test_every_claim_of_the_card_is_read(kept):
    rows = verdicts.claims(kept)
    assert len(rows) == len(CLAIMS)
    assert {verdicts.word_of(row["verdict"]) for row in rows} <= set(verdicts.WORDS)
    assert [row["system"] for row in rows] == [claim.system for claim in CLAIMS]
    assert all("\\" not in row["claim"] and "<" not in row["evidence"] for row in rows)


def test_verdicts_come_first_and_the_rest_is_folded(kept):
    page = index_page(kept)
    heads = re.findall(r'<h2 id="[\w-]+">([^<]+)</h2>', page)
    assert heads[:2] == ["What holds", "What was reached"]
    listed = re.findall(r'<li><a href="#([\w-]+)">', page)
    assert listed == re.findall(r'<h2 id="([\w-]+)">', page)
    for system in {claim.system for claim in CLAIMS}:
        assert f"<h3>{system}</h3>" in page
    counted = re.findall(r'<i class="[\w-]+" style="flex: (\d+)"></i>', page)
    assert sum(map(int, counted)) == len(CLAIMS)  # each has its place in a system's bar
    assert "notebooks without a recorded run</summary>" in page
    assert "//" not in page
    for link in re.findall(r'(?:href|src)="([^"#]+)"', page):
        assert (kept / unquote(link)).exists(), link


def test_the_best_of_every_system_is_computed_from_its_index(kept):
    found = {(row[0], row[1]): row for row in verdicts.best(kept)}
    with open(kept / "index.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "digits (8x8)"]
    groups = {}
    for row in rows:
        if row["model"] == "Terminator":
            key = (row["profile"], row["setting"])
            groups.setdefault(key, {})[row["seed"]] = float(row["accuracy_released"])
    most = max(map(len, groups.values()))
    mean = max(np.mean(list(of.values())) for of in groups.values() if len(of) == most)
    assert found["Terminator", "digits (8x8)"][3].startswith(f"{mean:.2f} ± ")
    assert not [data for _, data in found if "held-out" in data]
    assert {system for system, _ in found} == set(verdicts.INDICES)


def test_what_tells_settings_apart_is_no_measurement(kept):
    """A measured value is another in almost every run."""
    for file, *_ in verdicts.INDICES.values():
        with open(kept / file, newline="") as table:
            rows = list(csv.DictReader(table))
        told = [name for name in verdicts.SETTING if name in rows[0] and name != "profile"]
        for name in told:
            values = {row[name] for row in rows} - {""}
            assert len(values) <= len(rows) / 2, (file, name)


def test_damaged_tables_hide_nothing_else(tmp_path):
    (tmp_path / "REPRODUCIBILITY.md").write_text(
        "| system | claim | verdict |\n|---|---|---|\n| a |"
    )
    (tmp_path / "index.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "runs" / "cli" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "cli" / "a" / "index.html").write_text("")
    (tmp_path / "runs" / "cli" / "a" / "record.json").write_text("[1")
    (tmp_path / "figures" / "smoke").mkdir(parents=True)
    (tmp_path / "figures" / "smoke" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    (tmp_path / "notebooks" / "smoke").mkdir(parents=True)
    (tmp_path / "notebooks" / "smoke" / "00_a.ipynb").write_text("{")
    page = index_page(tmp_path)
    assert "figures/smoke/a.png" in page
    assert "00_a" in page


def test_tables_have_few_columns_and_fit_on_a_telephone(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "headline.csv").write_text(
        "experiment,dataset,profile,metric,value,spread,n_seeds\n"
        "images,<digits>,smoke,test accuracy (%),98.1,0.4,3\n"
    )
    folder = tmp_path / "notebooks" / "smoke"
    folder.mkdir(parents=True)
    (folder / "07_tale.ipynb").write_text("{}")
    entry = {"title": "07 - A tale", "status": "ok", "seconds": 2.5, "finished": "2026-01-02T03:04"}
    (folder / "state.json").write_text(json.dumps({"07_tale": entry}))
    page = index_page(tmp_path)
    heads = [head.count("<th>") for head in re.findall(r"<tr>(?=<th>).*?</tr>", page)]
    assert max(heads) <= 4
    assert (
        '<tr><td>&lt;digits&gt;<br><span class="note">test accuracy (%); images, smoke profile</span>'
        "</td><td>98.1\u00a0±\u00a00.4</td><td>3</td></tr>" in page
    )
    assert (
        '<a href="notebooks/smoke/07_tale.ipynb">A tale</a><br><span class="note">07_tale, finished '
        "2026-01-02 03:04</span>" in page
    )


def test_captions_say_title_profile_and_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    figure = style.new_figure(2, 2, "Scores λ of <digits>, ± 1")
    style.save(figure, "scores_5-way", "smoke")
    style.save(style.new_figure(2, 2), "plain_one", "smoke")
    code = 'seeds = [0]\nstyle.save(figure, f"scores_{ways}-way", profile)'
    cells = [
        new_markdown_cell("# 07 - A tale of <scores>"),
        new_code_cell(code),
        new_code_cell("# Parameters\nseeds = [3, 4]"),
    ]
    folder = tmp_path / "notebooks" / "smoke"
    folder.mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), folder / "07_tale.ipynb")
    page = gallery.gallery(tmp_path)
    assert "<h3>07 - A tale of &lt;scores&gt;, smoke profile</h3>" in page
    assert "Scores λ of &lt;digits&gt;, ± 1<br>" in page
    assert "smoke profile, seeds 3, 4</span>" in page
    assert "<h3>other figures, smoke profile</h3>" in page
    assert "plain one<br>" in page  # no title: its name


def test_a_title_of_either_kind_of_text_is_read(tmp_path):
    for text in ("plain ±", "λ" * 300):
        info = PngImagePlugin.PngInfo()
        (info.add_text if text.isascii() or "±" in text else info.add_itxt)("Title", text)
        Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
        assert gallery.png_title(tmp_path / "a.png") == text
    assert gallery.png_title(tmp_path / "gone.png") == ""
    content = b"iTXt" + b"Title\0\0\0en"  # and no more: without what ends a language
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    assert gallery.png_title(tmp_path / "cut.png") == ""


# -- notebooks as pages ----------------------------------------------------------------------------

NAMES = ["00_first", "01_second", "02_third"]


def page_of(*cells):
    notebook = new_notebook(cells=[new_markdown_cell(text) for text in cells])
    return notebook_page(notebook, "01_second", str(ROOT), NAMES)


def visible(page):
    page = re.sub(r"<(style|script|title)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", "", page)


def test_formulas_need_no_network():
    page = page_of(
        "The score $S = W \\odot Z$ and\n\n$$O = S\\,T$$\n\n"
        "\\begin{align} a &= b \\\\ c &= d \\end{align}\n\n| a | b |\n|---|---|\n| $x_i$ | 2 |"
    )
    assert page.count("<math") == 4
    assert "$" not in visible(page)
    assert "\\" not in visible(page)
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="https?:', page)


def test_a_formula_that_cannot_be_read_is_shown_as_code():
    assert mathml("x_1_2 & y", "inline") == "<code>x_1_2 &amp; y</code>"
    assert mathml("a<b", "inline").startswith("<math")


def test_ways_back_and_on():
    page = page_of("[the first](00_first.ipynb), [there](./02_third.ipynb#a), [no](99_x.ipynb)")
    assert page.count('href="../../index.html"') == 2
    assert 'href="00_first.html">the first' in page
    assert 'href="02_third.html#a"' in page
    assert 'href="99_x.ipynb"' in page
    assert ">before: 00_first<" in page
    assert ">next: 02_third<" in page


def test_answers_are_folded():
    answer = (
        "<details><summary>Answer</summary>\n\nBecause $x$.\n\n```python\na = 1\n```\n\n</details>"
    )
    page = page_of(f"**1.** Why?\n\n{answer}\n\n**2.** And?")
    (folded,) = re.findall(r"<details>(.*?)</details>", page, re.DOTALL)
    assert "Because" in folded
    assert "<math" in folded
    assert "<pre>" in folded
    assert "And?" not in folded
    assert "Why?" not in folded


def test_links_to_source_lead_from_the_page_to_the_project(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    cell = new_markdown_cell("[model](../terminator/model.py), [first](00_first.ipynb)")
    folder = str(ROOT / "notebooks")
    page = notebook_page(new_notebook(cells=[cell]), "01_second", folder, NAMES)
    (link,) = re.findall(r'href="([^"]*model\.py)"', page)
    there = (tmp_path / "notebooks" / "smoke" / link).resolve()
    assert there == ROOT / "terminator" / "model.py"
    assert 'href="00_first.html"' in page


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_formula_of_our_notebooks_is_mathml(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            for tex in re.findall(r"\$\$(.+?)\$\$|(?<![\\\w])\$([^$\n]+?)\$", text, re.DOTALL):
                found = mathml(tex[0] or tex[1], "inline")
                assert found.startswith("<math"), tex
                assert "\\" not in found, tex  # no word that the converter does not know
