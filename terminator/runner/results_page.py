"""What lies in the results folder, summed up: as results/index.html, and as text for a terminal.

The page is made afresh from the files that are there and loads nothing from elsewhere, so that it
can be read offline, sent along with the folder, or served as it is. Standard library only. Used by:
run_all.py, at the end of each call.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from urllib.parse import quote

from terminator.runtime.text import html, terminal

ENTRY = {
    "status": str,
    "error": str | None,
    "title": str,
    "parameters": dict,
    "fingerprint": str,
    "seconds": int | float,
    "finished": str,
    "output": str | None,
}  # of the state, per notebook
HEADLINE = ("experiment", "dataset", "profile", "metric", "value", "spread", "n_seeds")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2; font-weight: 600 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd }
a { color: #0b5394 } .note { color: #666 }
table { border-collapse: collapse; margin: .5rem 0 1rem }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid #eee }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.ok { color: #00694a } .failed { color: #a33000; font-weight: 600 }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem }
figure { margin: 0; border: 1px solid #eee; padding: .5rem }
figure img { width: 100%; height: 11rem; object-fit: contain }
figcaption { font-size: .85rem; overflow-wrap: anywhere }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Terminator: results</title>
<style>{style}</style>
</head>
<body>
<h1>Terminator: results</h1>
<p class="note">Made by run_all.py from the files in this folder. The smoke profile shows that
everything works; its numbers stand for nothing else.</p>
{body}
</body>
</html>
"""


def load_state(folder):
    """What run_all.py wrote about the notebooks of one profile.

    Args:
        folder: results/notebooks/<profile>.

    Returns:
        {notebook name: {status, fingerprint, seconds, finished, output, ...}}; empty if there is
        none or it cannot be read, without the entries that have a wrong form: at worst notebooks
        run again.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {name: entry for name, entry in state.items() if _sound(entry)}
        if isinstance(state, dict)
        else {}
    )


def _sound(entry):
    """Whether an entry of the state is one that run_all.py could have written."""
    return isinstance(entry, dict) and all(
        isinstance(entry[name], types) and not isinstance(entry[name], bool)
        for name, types in ENTRY.items()
        if name in entry
    )


def headline(results, profile=None):
    """The rows of every headline.csv under results/tables, of one profile or of all.

    Args:
        results: the results folder; profile: its name, or None.

    Returns:
        list of {column: text} with every column of HEADLINE; empty if there is no such table.
    """
    rows = []
    for path in sorted((results / "tables").rglob("headline.csv")):
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows += [
                    {column: row.get(column) or "" for column in HEADLINE}
                    for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, csv.Error):
            continue  # a damaged table must not hide how the notebooks went
    return [row for row in rows if profile is None or row["profile"] == profile]


def headline_lines(rows):
    """Headline rows as aligned text: experiment, dataset, profile, metric, value, and over how many
    seeds.
    """
    lines = []
    for row in rows:
        value = row["value"] + (f" ± {row['spread']}" if row["spread"] else "")
        count = f"n = {row['n_seeds']}" if row["n_seeds"] else ""
        lines.append([*(row[column] for column in HEADLINE[:4]), value, count])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [terminal("  ".join(map(str.ljust, line, widths)).rstrip()) for line in lines]


def summary(results, profile, names, outcomes, state):
    """Lines of text for the end of a call: a table of notebooks, the headline results, where the
    page is.

    Args:
        names: the notebooks in order; outcomes: {name: how it went in this call}; state: see
            load_state.

    Returns:
        list of lines; paths as seen from the current folder, where they lie below it.
    """
    width = max(map(len, names))
    lines = [f"{'notebook':{width}}  {'status':11}  {'seconds':>8}  output"]
    for name in names:
        status, entry = outcomes.get(name, "not run"), state.get(name, {})
        known = status in ("ok", "failed", "up to date")
        seconds = f"{entry['seconds']:.1f}" if known and "seconds" in entry else ""
        file = entry.get("output") if known else None
        output = _shown(results / "notebooks" / profile / file) if file else ""
        lines.append(f"{name:{width}}  {status:11}  {seconds:>8}  {output}".rstrip())
    rows = headline(results, profile)
    if rows:
        lines += ["", f"headline results, {profile} profile:", *headline_lines(rows)]
    return [*lines, "", f"everything: {_shown(results / 'index.html')}"]


def _shown(path):
    here = Path.cwd()
    return terminal(path.relative_to(here) if path.is_relative_to(here) else path)


def index_page(results):
    """The page results/index.html.

    Args:
        results: the results folder.

    Returns:
        the page as text; the caller writes it.
    """
    profiles = sorted(path for path in (results / "notebooks").glob("*") if path.is_dir())
    parts = [_headline_table(results), *(_notebooks(results, folder) for folder in profiles)]
    parts += [_figures(results), _tables(results), _runs(results)]
    return PAGE.format(style=STYLE, body="\n".join(filter(None, parts)))


def _link(results, path, text):
    """A link from the page to a file of the results folder."""
    return f'<a href="{_address(results, path)}">{html(text)}</a>'


def _address(results, path):
    """The address of a file of the results folder, whatever bytes its name holds."""
    return quote(os.fsencode(path.relative_to(results).as_posix()))


def _table(head, rows):
    """A table; cells are HTML already."""
    lines = ["<tr>" + "".join(f"<th>{html(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        cells = (cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row)
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _headline_table(results):
    rows = [[html(row[column]) for column in HEADLINE] for row in headline(results)]
    return "<h2>Headline results</h2>\n" + _table(HEADLINE, rows) if rows else ""


def _notebooks(results, folder):
    """The executed notebooks of one profile, with how their last run ended."""
    state, rows = load_state(folder), []
    found = {path.stem for path in folder.glob("*.ipynb") if not path.name.startswith(".")}
    for name in sorted(found | set(state)):
        entry = state.get(name, {})
        page, source = folder / f"{name}.html", folder / f"{name}.ipynb"
        best = page if page.is_file() else source
        status, seconds = str(entry.get("status", "not recorded")), entry.get("seconds")
        kind = status if status in ("ok", "failed") else "note"
        cells = [
            _link(results, best, name) if best.is_file() else html(name),
            html(entry.get("title", "")),
            f'<td class="{kind}">{html(status)}</td>',
            f'<td class="number">{seconds:.1f} s</td>' if isinstance(seconds, int | float) else "",
            html(entry.get("finished", "")),
            _link(results, source, "ipynb") if source.is_file() else "",
        ]
        rows.append(cells)
    head = ("notebook", "title", "status", "time", "finished", "")
    return f"<h2>Notebooks, {html(folder.name)} profile</h2>\n" + _table(head, rows) if rows else ""


def _figures(results):
    """Each figure once: one that lies there as both SVG and PNG is shown as SVG, with links to
    both.
    """
    groups: dict[Path, dict[str, Path]] = {}
    for path in sorted((results / "figures").rglob("*")):
        if (
            path.suffix in (".svg", ".png", ".pdf")
            and not path.name.startswith(".")
            and path.is_file()
        ):
            groups.setdefault(path.with_suffix(""), {})[path.suffix] = path
    blocks = []
    for stem, files in groups.items():
        shown = files.get(".svg") or files.get(".png")
        address = _address(results, shown) if shown else ""
        image = f'<img loading="lazy" src="{address}" alt="{html(stem.name)}">'
        image = f'<a href="{address}">{image}</a>' if shown else ""
        links = " ".join(_link(results, path, suffix[1:]) for suffix, path in files.items())
        name = html(stem.relative_to(results / "figures").as_posix())
        blocks.append(f"<figure>{image}<figcaption>{name} {links}</figcaption></figure>")
    return (
        '<h2>Figures</h2>\n<div class="figures">\n' + "\n".join(blocks) + "\n</div>"
        if blocks
        else ""
    )


def _tables(results):
    paths = sorted(
        path for path in (results / "tables").rglob("*.csv") if not path.name.startswith(".")
    )
    rows = []
    for path in filter(Path.is_file, paths):
        try:
            with open(path, encoding="utf-8", errors="replace", newline="") as file:
                count = f"{max(0, sum(1 for _ in csv.reader(file)) - 1)} rows"
        except (OSError, csv.Error):  # a damaged table must not hide all else
            count = "not readable"
        name = path.relative_to(results / "tables").as_posix()
        rows.append([_link(results, path, name), f'<td class="number">{count}</td>'])
    return "<h2>Tables</h2>\n" + _table(("table", ""), rows) if rows else ""


def _runs(results):
    """The index of all run records, the published numbers, and how many runs each experiment
    has.
    """
    names = [name for name in ("index.csv", "literature.csv") if (results / name).is_file()]
    counts: dict[Path, int] = {}
    for record in sorted((results / "runs").glob("*/*/record.json")):
        counts[record.parent.parent] = counts.get(record.parent.parent, 0) + 1
    rows = []
    for folder, count in counts.items():
        rows.append([_link(results, folder, folder.name), f'<td class="number">{count}</td>'])
    if not names and not rows:
        return ""
    links = " · ".join(_link(results, results / name, name) for name in names)
    table = _table(("experiment", "runs"), rows) if rows else ""
    return f"<h2>Run records</h2>\n<p>{links}</p>\n{table}"
