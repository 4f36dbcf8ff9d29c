"""What lies in the results folder, summed up: as results/index.html, and as text for a terminal.

The page is made afresh from the files that are there and loads nothing from elsewhere, so that it
can be read offline, sent along with the folder, or served as it is. Standard library only. Used by:
run_all.py, after every notebook, and whoever trains a run of their own.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from terminator.runner import gallery, run_page, verdicts
from terminator.runner.html_page import address, folded, link, page, table, with_note
from terminator.runtime.paths import write_page
from terminator.runtime.text import html, terminal

# of the state, per notebook
ENTRY = {
    "status": str,
    "error": str | None,
    "title": str,
    "parameters": dict,
    "fingerprint": str,
    "seconds": int | float,
    "finished": str,
    "output": str | None,
}
HEADLINE = ("experiment", "dataset", "profile", "metric", "value", "spread", "n_seeds")
TITLE = "Terminator: results"
NOTE = """<p class="note">Made from the files in this folder. The smoke profile shows that
everything works; its numbers stand for nothing else.</p>"""
SHOWN_RUNS = 20  # own runs that are not folded away


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


def write(results):
    """Write results/index.html anew.

    Raises:
        ForeignFile: if the file of that name is no such page.
    """
    return write_page(results / "index.html", index_page(results), f"<title>{TITLE}</title>")


def index_page(results):
    """The page results/index.html.

    Args:
        results: the results folder.

    Returns:
        the page as text.
    """
    sections = {
        "What holds": verdicts.verdict_section(results),
        "What was reached": verdicts.best_section(results),
        "Headline results": _headline_table(results),
        "Notebooks": _notebooks(results),
        "Your own runs": _own_runs(results),
        "Figures": gallery.gallery(results),
        "Tables": _tables(results),
        "Run records": _runs(results),
    }
    sections = {name: body for name, body in sections.items() if body}
    items = "".join(f'<li><a href="#{_anchor(name)}">{html(name)}</a></li>' for name in sections)
    parts = [f"<h1>{TITLE}</h1>", NOTE, f"<nav><ul>{items}</ul></nav>"]
    parts += [
        f'<h2 id="{_anchor(name)}">{html(name)}</h2>\n{body}' for name, body in sections.items()
    ]
    return page(TITLE, "\n".join(parts))


def _anchor(name):
    return name.lower().replace(" ", "-")


def _headline_table(results):
    """Few columns: they fit on a telephone."""
    rows = []
    for row in headline(results):
        what = f"{row['metric']}; {row['experiment']}, {row['profile']} profile"
        value = row["value"] + (f" ± {row['spread']}" if row["spread"] else "")
        rows.append(
            [
                with_note(row["dataset"], html(what)),
                html(value.replace(" ", "\u00a0")),
                html(row["n_seeds"]),
            ]
        )
    return table(("data", "value", "seeds"), rows) if rows else ""


def _notebooks(results):
    """The executed notebooks, a part per profile, the profile that ran last first; folded away what
    no run is recorded of.
    """
    profiles = [
        (folder, load_state(folder))
        for folder in sorted((results / "notebooks").glob("*"))
        if folder.is_dir()
    ]
    profiles.sort(key=lambda pair: _last(pair[1]), reverse=True)
    return "\n".join(filter(None, (_of_profile(results, *pair) for pair in profiles)))


def _last(state):
    return max((entry.get("finished", "") for entry in state.values()), default="")


def _of_profile(results, folder, state):
    found = {path.stem for path in folder.glob("*.ipynb") if not path.name.startswith(".")}
    rows = {
        name: _notebook_row(results, folder, name, state) for name in sorted(found | set(state))
    }
    head = ("notebook", "status", "time", "")
    known = [row for name, row in rows.items() if name in state]
    rest = [row for name, row in rows.items() if name not in state]
    parts = [f"<h3>{html(folder.name)} profile</h3>"] if rows else []
    parts += [table(head, known)] if known else []
    parts += (
        [folded(f"{len(rest)} notebooks without a recorded run", table(head, rest))] if rest else []
    )
    return "\n".join(parts)


def _notebook_row(results, folder, name, state):
    entry = state.get(name, {})
    shown, source = folder / f"{name}.html", folder / f"{name}.ipynb"
    best = shown if shown.is_file() else source
    status, seconds = str(entry.get("status", "not recorded")), entry.get("seconds")
    kind = status if status in ("ok", "failed") else "note"
    title = entry.get("title", "").removeprefix(f"{name[:2]} - ") or name
    finished = entry.get("finished", "").replace("T", " ").removesuffix("+00:00")
    about = html(", finished ".join(filter(None, (name, finished))))
    return [
        with_note(title, about, best.is_file() and address(best, results)),
        f'<td class="{kind}">{html(status)}</td>',
        f'<td class="number">{seconds:.1f} s</td>' if isinstance(seconds, int | float) else "",
        link(source, "ipynb", results) if source.is_file() else "",
    ]


def _own_runs(results):
    """The runs that have a page of their own, the last one first."""
    rows = []
    for path in (results / "runs").glob(f"*/*/{run_page.PAGE}"):
        try:
            record = json.loads((path.parent / "record.json").read_text(encoding="utf-8"))
            cells = [
                link(path, f"{record['model']} on {record['data']['title']}", results),
                html(run_page.reached(record)),
                html(f"{record['profile']}, seed {record['seed']}"),
                html(record["experiment"]),
                html(record["finished"].replace("T", " ").removesuffix("+00:00")),
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # a damaged record must not hide the others
        rows.append((record["finished"], cells))
    rows = [cells for _, cells in sorted(rows, key=lambda row: row[0], reverse=True)]
    if not rows:
        return ""
    head = ("run", "reached", "profile", "experiment", "finished")
    rest = rows[SHOWN_RUNS:]
    more = folded(f"{len(rest)} earlier runs", table(head, rest)) if rest else ""
    return table(head, rows[:SHOWN_RUNS]) + more


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
        rows.append([link(path, name, results), f'<td class="number">{count}</td>'])
    return folded(f"{len(rows)} tables", table(("table", ""), rows)) if rows else ""


def _runs(results):
    """The index of all run records, the published numbers, and how many runs each experiment
    has.
    """
    names = [path for path in sorted(results.glob("index*.csv"))]
    names += [path for path in (results / "literature.csv",) if path.is_file()]
    counts: dict[Path, int] = {}
    for record in sorted((results / "runs").glob("*/*/record.json")):
        counts[record.parent.parent] = counts.get(record.parent.parent, 0) + 1
    rows = []
    for folder, count in counts.items():
        rows.append([link(folder, folder.name, results), f'<td class="number">{count}</td>'])
    if not names and not rows:
        return ""
    links = " · ".join(link(path, path.name, results) for path in names)
    found = folded(f"{len(rows)} experiments", table(("experiment", "runs"), rows)) if rows else ""
    return f"<p>{links}</p>\n{found}"
