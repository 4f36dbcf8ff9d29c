"""The page of one run, made from its record: what was reached, curves, settings, data, how to go
on. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from terminator.runner.html_page import address, folded, link, page, table
from terminator.runtime.text import html

PAGE, CURVES = "index.html", "curves.png"
FIRST = ("accuracy", "miou", "frechet")  # measures by which a run is known, the first there is
UNITS = {"accuracy": " %", "miou": " % mIoU", "frechet": " Frechet distance"}
FILES = (
    ("model.safetensors", "the trained network"),
    ("record.json", "everything that was done and reached"),
    ("metrics.csv", "a row per epoch"),
    (CURVES, "the curves"),
)


def reached(record: dict[str, Any]) -> str:
    """What a run reached, in a few words: "released 98.3 %, calibrated 98.1 %"."""
    found = []
    results = record.get("results")
    for part, numbers in results.items() if isinstance(results, dict) else ():
        name = next((name for name in FIRST if _number(numbers, name) is not None), None)
        if name:
            found.append(f"{part} {_number(numbers, name):.2f}{UNITS[name]}")
    return ", ".join(found)


def _number(numbers: Any, name: str) -> float | None:
    value = numbers.get(name) if isinstance(numbers, dict) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def run_page(record: dict[str, Any], folder: Path, results: Path, use: str) -> str:
    """The page of a run as text; the caller writes it.

    Args:
        record: of the run.
        folder: where it lies, with its files.
        results: the results folder, whose page it leads back to if it lies below it.
        use: the command that takes its model, with FILE for it.
    """
    data = record["data"]
    title = f"{record.get('model', 'run')} on {data.get('title') or data.get('name', '')}"
    parts = []
    if folder.is_relative_to(results):
        parts.append(f"<p>{link(results / 'index.html', '← all results', folder)}</p>")
    parts += [
        f"<h1>{html(title)}</h1>",
        f'<p class="note">{html(record["run_id"])}, experiment {html(record["experiment"])}, '
        f"profile {html(record['profile'])}, seed {html(record['seed'])}</p>",
        f"<h2>Reached</h2>\n{_results(record)}",
    ]
    if (folder / CURVES).is_file():
        where = address(folder / CURVES, folder)
        parts.append(f'<p><img class="whole" src="{where}" alt="curves of the training"></p>')
    parts.append(folded("every epoch", _epochs(record)))
    parts.append(f"<h2>Use it</h2>\n<pre>{html(use)}</pre>\n{_files(folder)}")
    parts.append(f"<h2>Data</h2>\n{_data(data)}")
    parts.append(f"<h2>How it was made</h2>\n{_made(record)}")
    parts.append(folded("all settings", _settings(record["config"])))
    return page(title, "\n".join(parts))


def _results(record: dict[str, Any]) -> str:
    rows = []
    results = record["results"]
    for part, numbers in results.items() if isinstance(results, dict) else ():
        for name in numbers if isinstance(numbers, dict) else ():
            if (value := _number(numbers, name)) is not None:
                shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
                cell = f'<td class="number">{shown}</td>'
                rows.append([html(part), html(name.replace("_", " ")), cell])
    return table(("", "", ""), rows)


def _epochs(record: dict[str, Any]) -> str:
    rows = record.get("epochs") or []
    head = list(rows[0]) if rows else []
    cells = [[_cell(row.get(name)) for name in head] for row in rows]
    return table([name.replace("_", " ") for name in head], cells)


def _cell(value: Any) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f'<td class="number">{html(shown)}</td>'


def _files(folder: Path) -> str:
    rows = [
        [link(folder / name, name, folder), html(what), _size(folder / name)]
        for name, what in FILES
        if (folder / name).is_file()
    ]
    return table(("file", "", "size"), rows)


def _size(path: Path) -> str:
    return f'<td class="number">{path.stat().st_size / 1e6:.2f} MB</td>'


def _data(data: dict[str, Any]) -> str:
    rows = [
        [html(name.replace("_", " ")), html(_plain(value))]
        for name, value in data.items()
        if name not in ("mean", "std", "notes") and value not in (None, [], {})
    ]
    notes = "".join(f"<li>{html(note)}</li>" for note in data.get("notes") or ())
    return table(("", ""), rows) + (f"<ul>{notes}</ul>" if notes else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        more = f" and {len(value) - 20} more" if len(value) > 20 else ""
        return ", ".join(map(str, value[:20])) + more
    return str(value)


def _made(record: dict[str, Any]) -> str:
    provenance = record.get("provenance") or {}
    shown = {
        "started": record.get("started"),
        "finished": record.get("finished"),
        "training": f"{record['wall_s']:.0f} s" if "wall_s" in record else None,
        "device": record.get("device"),
        "parameters": f"{record['parameters']:,}" if "parameters" in record else None,
        "commit": provenance.get("commit"),
        "fingerprint of the data": record["data"].get("fingerprint"),
    }
    return table(("", ""), [[html(k), html(v)] for k, v in shown.items() if v])


def _settings(config: dict[str, Any]) -> str:
    return table(("setting", "value"), ([html(k), html(json.dumps(v))] for k, v in _flat(config)))


def _flat(config: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
