"""The frame that all our HTML pages share: they load nothing from elsewhere, and are read in the
dark, in the light, and on a telephone. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from terminator.runtime.text import html

STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --soft: #5b646d; --line: #dde1e5;
        --paper: #fff; --card: #f6f7f9; --link: #0b5394; --good: #00694a; --bad: #a33000;
        --half: #7a5900 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --soft: #9aa4ae; --line: #363c43; --paper: #15181b; --card: #1e2226;
          --link: #7db8f5; --good: #5ccb9f; --bad: #ff9466; --half: #e0b84c } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 70rem; margin: 0 auto; padding: 1.2rem 1rem 4rem }
h1, h2, h3 { line-height: 1.25; font-weight: 600; overflow-wrap: anywhere }
h1 { margin: .6rem 0 .2rem } h2 { margin: 2.4rem 0 .6rem; border-bottom: 1px solid var(--line) }
h3 { margin: 1.4rem 0 .4rem; font-size: 1.05rem }
a { color: var(--link) } code, pre { font-size: .9em; overflow-wrap: anywhere }
pre { background: var(--card); padding: .6rem .8rem; overflow-x: auto; border-radius: 6px }
.note { color: var(--soft) } .number { text-align: right; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } .number { white-space: nowrap }
table { border-collapse: collapse; margin: .4rem 0 1rem }
th, td { padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top;
         border-bottom: 1px solid var(--line) }
th { font-weight: 600; white-space: nowrap }
.ok, .holds { color: var(--good) } .failed, .does-not-hold { color: var(--bad); font-weight: 600 }
.no-difference { color: var(--half) } .undecided, .not-learned, .not-run { color: var(--soft) }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem }
details { margin: .5rem 0 } summary { cursor: pointer }
.cards { display: grid; gap: .8rem; align-items: start;
         grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)) }
.claims { padding-left: 1rem; margin: .4rem 0 } .claims li { margin: .5rem 0 }
.claims .note { font-size: .85rem }
.card { background: var(--card); border-radius: 8px; padding: .7rem .9rem }
.card h3 { margin: 0 0 .3rem } .card p { margin: .2rem 0 }
.bar { display: flex; height: .55rem; border-radius: 4px; overflow: hidden; margin: .5rem 0;
       background: var(--line) }
.bar i { display: block } .bar .holds { background: var(--good) }
.bar .no-difference { background: var(--half) } .bar .does-not-hold { background: var(--bad) }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: .5rem }
figure img { width: 100%; height: 9rem; object-fit: contain; background: #fff; border-radius: 4px }
figcaption { font-size: .85rem; overflow-wrap: anywhere }
img.whole { max-width: 100%; height: auto; background: #fff; border-radius: 6px }
@media (max-width: 36rem) { body { font-size: 15px; padding: .8rem .7rem 3rem }
  h1 { font-size: 1.45rem } .figures { grid-template-columns: repeat(2, minmax(0, 1fr)) }
  figure img { height: 7rem } th, td { padding-right: .6rem } }
"""


def page(title: str, body: str) -> str:
    """A whole page; the body is HTML already."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls where it is wider than the page; cells are HTML already."""
    lines = []
    if any(head):
        lines.append("<tr>" + "".join(f"<th>{html(cell)}</th>" for cell in head) + "</tr>")
    for row in rows:
        cells = (cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row)
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def with_note(text: str, note: str, target: str | bool = "") -> str:
    """A cell of two lines: what it is, with a link if it has a target, and softly what is said of
    it; the note is HTML already.
    """
    first = f'<a href="{target}">{html(text)}</a>' if target else html(text)
    return f'{first}<br><span class="note">{note}</span>'


def folded(summary: str, body: str) -> str:
    """What is shown on a click; the body is HTML already."""
    return f"<details><summary>{html(summary)}</summary>\n{body}\n</details>"


def link(path: Path, text: str, base: Path) -> str:
    """A link from a page in the folder `base` to a file."""
    return f'<a href="{address(path, base)}">{html(text)}</a>'


def address(path: Path, base: Path) -> str:
    """The address of a file as seen from a page in `base`, whatever bytes its name holds."""
    return quote(os.fsencode(os.path.relpath(path, base).replace(os.sep, "/")))
