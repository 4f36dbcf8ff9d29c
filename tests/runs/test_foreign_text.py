"""Names from outside are text in every medium: no markup, no formula, no mathematics, no
command.
"""

import io
import json
import warnings
from html.parser import HTMLParser

import mistune
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from record_files import put, record

from terminator.classification.runs import CLASSIFICATION
from terminator.hamburger.segmentation import figures as segmentation_figures
from terminator.plots import charts, curves, fields, style
from terminator.report import claims, tables
from terminator.runner import results_page
from terminator.runner.progress import Progress
from terminator.runs import records
from terminator.runtime import progress, text
from terminator.runtime.paths import results_dir

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "a & b &lt;i&gt;",
    "a | b",
    "a \\| b",
    "**bold** _lean_ ~~gone~~",
    "[a](javascript:alert(1))",
    "![a](http://elsewhere/a.png)",
    "https://a.b www.a.b",
    "`code`",
    "\\`code\\`",
    "# head",
    "- item",
    "$\\bad{$",
    "$x$ and $y$",
    "cost: 5$",
    "=1+1",
    '=HYPERLINK("http://a")',
    "+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "-2+3+cmd",
    "\t=1+1",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "bell\x07",
    "new\nline",
    "back\rspace",
    "\x9b2J",
    "gnp.\u202egpj",
    "caf\udce9",
    "_hidden",
    "nul\x00",
    "line\u2028end",
]
ORDINARY = [
    "digits (8x8)",
    "CIFAR-10 (JPEG)",
    "my_own_images",
    "HyperTransformer, 5-way",
    "98.12 ± 0.30",
    "-0.21",
    "-",
    "+1.5 %",
    "p < 0.05",
    "R&D",
    "Vögel & Käfer",
    "猫",
    "🦋",
    "a/b",
    "50,000 of 32x32",
    "x × y",
    "don't",
    "-1e-05",
    "-0.21 ± 0.05",
    "Kar3, rate 0.001",
]


@pytest.mark.parametrize("medium", [text.terminal, text.markdown, text.csv, text.figure, text.cell])
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_stay_byte_for_byte(medium, name):
    assert medium(name) == name


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_html(name):
    for page in (f"<p>{text.html(name)}</p>", f'<p title="{text.html(name)}"></p>'):
        page.encode()
        found = Tags(page)
        assert [tag for tag, _ in found.tags] == ["p"]
        assert (found.text or found.tags[0][1][0][1]) == text.visible(name)


render = mistune.create_markdown(escape=False, plugins=["table", "strikethrough", "url"])


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_in_a_table(name):
    table = tables.markdown(pd.DataFrame({"what": [name], name: ["beside"]}))
    found = Tags(render(table))
    allowed = {"table", "thead", "tbody", "tr", "th", "td", "span"}
    assert {tag for tag, _ in found.tags} <= allowed  # no link, picture, emphasis or code
    assert [tag for tag, _ in found.tags].count("td") == 2
    assert not any(
        attribute != "style" for _, attributes in found.tags for attribute, _ in attributes
    )
    assert " ".join(text.visible(name).split()) in " ".join(found.text.split())


@pytest.mark.parametrize("name", HOSTILE)
def test_csv(name, tmp_path):
    path = records.write_csv(
        tmp_path / "a.csv", pd.DataFrame({"title": [name, "plain"], "value": [-1.5, 2.0]})
    )
    read = pd.read_csv(path)
    assert read["title"][0].lstrip()[0] not in "=+-@"
    assert text.visible(name, keep="\n") in read["title"][0]
    assert read["title"][1] == "plain"
    assert read["value"].tolist() == [-1.5, 2.0]


# drawing takes its time: what matplotlib itself would read, and one of each other kind
DRAWN = (
    "$\\bad{$",
    "$x$ and $y$",
    "_hidden",
    "\x1b[31mred\x1b[0m",
    "nul\x00",
    "new\nline",
    "gnp.\u202egpj",
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in DRAWN else pytest.mark.slow) for n in HOSTILE]
)
def test_figures(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = pd.DataFrame(
            {
                "epoch": [1, 2],
                "test_accuracy": [1.0, 2.0],
                "train_accuracy": [1.0, 2.0],
                "cross_entropy": [1.0, 2.0],
            }
        )
        maps = torch.zeros(1, 4, 4, dtype=torch.long)
        summary = pd.DataFrame(
            [
                {
                    "dataset": name,
                    "image_size": 8,
                    "train_images": 1,
                    "epochs": 1,
                    "seeds": 1,
                    "released": 1.0,
                    "released_sd": None,
                    "calibrated": 1.0,
                    "calibrated_sd": None,
                }
            ]
        )
        drawn = [
            curves.accuracy_curves({name: metrics}, {name: metrics}, name),
            charts.training(metrics, name),
            charts.answers(torch.zeros(2, 2), torch.zeros(2), [name, "b"], name),
            fields.field_grid([fields.Row(name, [torch.rand(3, 3)])], [name], name),
            curves.accuracy_bars(summary, None, name),
            segmentation_figures.segmentations(
                torch.zeros(1, 3, 4, 4, dtype=torch.uint8), maps, {name: maps}, [name], name
            ),
            segmentation_figures.class_ious(*[pd.DataFrame({name: [1.0]}, index=[name])] * 2, name),
        ]
        for figure in drawn:
            assert isinstance(figure, Figure)
            figure.savefig(io.BytesIO())
    labels = [entry.get_text() for entry in drawn[5].legends[0].get_texts()]
    assert labels == [text.figure(name)]  # a class is in the legend, whatever its name
    shown = drawn[3].axes[0].title
    assert shown.get_window_extent().width > 0
    assert shown._preprocess_math(shown.get_text())[1] is False


@pytest.mark.parametrize("name", HOSTILE)
def test_terminals(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    progress.say(f"a {name} b")
    Progress(1).say(f"a {name} b")
    for line in results_page.headline_lines([dict.fromkeys(results_page.HEADLINE, name)]):
        print(line)
    out = capsys.readouterr().out
    out.encode()
    assert not any(
        ord(character) < 32 and character not in "\n\t" or 0x7F <= ord(character) < 0xA0
        for character in out
    )
    assert not set("\u202e\u2028") & set(out)
    assert f"a {text.terminal(name)} b" in out


# -- from a record, a folder or a notebook's state to the pages ------------------------------------


@pytest.mark.parametrize(
    "name", [HOSTILE[0], HOSTILE[4], HOSTILE[7], HOSTILE[12], HOSTILE[16], HOSTILE[22]]
)
def test_a_data_sets_title_reaches_no_page_as_anything_but_text(name):
    made = []
    for seed in (0, 1):
        one = record(seed)
        one["data"] |= {"title": name, "notes": [name], "name": "digits", "classes": [name]}
        one |= {"device": name, "precision": "float32"}
        made.append(one)
    put(*made)
    allowed = {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "p",
        "strong",
        "a",
        "code",
        "h1",
        "h2",
        "em",
        "ul",
        "ol",
        "li",
    }
    for page in (tables.result_tables("notebooks/"), claims.page(claims.judged())):
        found = Tags(render(page))
        assert {tag for tag, _ in found.tags} <= allowed
        assert all(
            value.startswith("notebooks/")
            for tag, words in found.tags
            if tag == "a"
            for _, value in words
        )
        assert not any("javascript" in str(words) for _, words in found.tags)
        assert text.visible(name).strip() in found.text
    index = pd.read_csv(CLASSIFICATION.rebuild_index())
    assert not index.astype(str).apply(lambda column: column.str.startswith("=")).any().any()


def test_the_results_page_takes_every_name_as_text():
    results = results_dir()
    folder = results / "notebooks" / "smoke"
    folder.mkdir(parents=True)
    hostile = [name for name in HOSTILE if "/" not in name and "\0" not in name]
    state = {
        name: {"status": name, "title": name, "finished": name, "seconds": name} for name in hostile
    }
    (folder / "state.json").write_text(json.dumps(state))
    for i, name in enumerate(hostile):
        (results / "runs" / name / str(i)).mkdir(parents=True)
        (results / "runs" / name / str(i) / "record.json").write_text("{}")
        for place, suffix in (("figures", ".svg"), ("tables", ".csv")):
            (results / place / name).mkdir(parents=True)
            (results / place / name / f"{name}{suffix}").write_text("a\n1\n")
    (results / "tables" / "headline.csv").write_text("experiment,dataset\n<b>x</b>,<i>y</i>\n")
    page = results_page.index_page(results)
    page.encode()
    found = Tags(page)
    assert {tag for tag, _ in found.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "table",
        "tr",
        "th",
        "td",
        "a",
        "div",
        "figure",
        "img",
        "figcaption",
        "br",
        "details",
        "h3",
        "li",
        "nav",
        "span",
        "summary",
        "ul",
    }
    assert not any(
        word.startswith("on") or str(value).startswith("javascript")
        for _, words in found.tags
        for word, value in words
    )
    for name in hostile:
        assert text.visible(name) in found.text


def test_a_figure_of_this_house_is_drawn_as_before():
    """Mathematics in ticks of logarithmic axes is the library's own and stays."""
    table = pd.DataFrame(
        {
            "operator": ["a", "a"],
            "positions": [64, 4096],
            "seconds": [1e-3, 1.0],
            "bytes": [2**20, 2**24],
        }
    )
    figure = charts.cost(table)
    figure.savefig(io.BytesIO())
    assert any(
        "mathdefault" in label.get_text()
        for axis in figure.axes
        for label in axis.get_yticklabels()
    )
    assert style.new_figure(1, 1, "50 %").get_suptitle() == "50 %"
