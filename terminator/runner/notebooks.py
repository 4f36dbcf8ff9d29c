"""Notebooks on disk: titles, parameters, fingerprints, and the state that run_all.py keeps about
them.

Nothing here runs a notebook or imports more than the standard library, so `run_all.py --list` is
instant.
Convention: notebooks/NN_name.ipynb with exactly one code cell tagged `parameters`, which holds one
line
`name = literal  # remark` per parameter, among them profile, seeds and device.
Used by: run_all.py, and the tests that look at the committed notebooks.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import io
import json
import os
import re
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from terminator.runner.verdicts import claims
from terminator.runtime.provenance import package_hash

COMMON = ("profile", "seeds", "device")  # parameters that every notebook knows
PLACES = ("folder",)  # parameters that name a file or folder, from where the command was given
FIRST_READER = 90  # notebooks from this number on read what the others recorded


class Refusal(Exception):
    """Something is wrong before anything was started; the message names it and what is allowed."""


@dataclass
class Notebook:
    """A notebook on disk: its title, its parameters (name -> default, remark) and a hash of its
    source.
    """

    path: Path
    title: str
    parameters: dict
    source_hash: str
    content: bytes = field(repr=False)
    uses_package: bool = False  # else it needs no run
    shows_verdicts: bool = False

    @property
    def name(self):
        return self.path.stem

    @property
    def reads_records(self):
        return int(self.name[:2]) >= FIRST_READER


def read_notebook(path):
    """Read title, parameters and source hash of a notebook, without running anything.

    Args:
        path: NN_name.ipynb, nbformat 4.

    Returns:
        Notebook.

    Raises:
        Refusal: if it is not a notebook, or has not exactly one parameters cell of JSON literals.
    """
    try:
        content = path.read_bytes()
        cells = json.loads(content)["cells"]
        sources = [
            (c["cell_type"], "".join(c["source"]), c["metadata"].get("tags", [])) for c in cells
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(f"{path}: not a readable notebook (nbformat 4): {error!r}") from error
    tagged = [text for kind, text, tags in sources if kind == "code" and "parameters" in tags]
    if len(tagged) != 1:
        raise Refusal(
            f"{path}: needs exactly one code cell tagged 'parameters', found {len(tagged)}"
        )
    headings = (
        re.match(r"#\s+(.+)", text.lstrip()) for kind, text, _ in sources if kind == "markdown"
    )
    title = next((found[1].strip() for found in headings if found), path.stem)
    digest = hashlib.sha256(
        json.dumps(sources).encode()
    ).hexdigest()  # without outputs, which always change
    code = "\n".join(text for kind, text, _ in sources if kind == "code")
    uses, verdicts = "terminator" in code, "verdict_box" in code
    parameters = read_parameters(tagged[0], path)
    return Notebook(path, title, parameters, digest, content, uses, verdicts)


def read_parameters(source, where):
    """The literals of a parameters cell, as {name: (default, remark)}; anything else in it is
    refused.
    """
    try:
        nodes = ast.parse(source).body
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        remarks = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    except (SyntaxError, tokenize.TokenError) as error:
        raise Refusal(f"{where}: the parameters cell is not valid Python: {error}") from error
    found = {}
    for node in nodes:
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        try:
            value = ast.literal_eval(node.value)
            good = json.loads(json.dumps(value)) == value  # a tuple comes back as a list: refused
        except (AttributeError, ValueError, TypeError):
            good = False
        good = good and isinstance(node, (ast.Assign, ast.AnnAssign)) and len(targets) == 1
        if not good or not isinstance(targets[0], ast.Name):
            line = ast.get_source_segment(source, node)
            raise Refusal(f"{where}: parameters are lines `name = JSON literal`, not {line!r}")
        found[targets[0].id] = (value, remarks.get(node.lineno, ""))
    return found


def names_in(folder):
    """The names of the notebooks NN_name.ipynb in a folder, in order."""
    return sorted(path.stem for path in folder.glob("*.ipynb") if re.match(r"\d\d_", path.name))


def find_notebooks(folder, patterns):
    """The notebooks NN_name.ipynb of a folder, in order.

    Args:
        folder: where they lie; patterns: names with * and ?, or parts of names; None for all.

    Returns:
        list of Notebook, those that match any pattern.

    Raises:
        Refusal: if there are none, or if a pattern matches none.
    """
    paths = [folder / f"{name}.ipynb" for name in names_in(folder)]
    if not paths:
        raise Refusal(f"no notebooks NN_name.ipynb in {folder}")
    chosen = set()
    for pattern in patterns or ["*"]:
        names = [path.stem for path in paths]
        if not (matches := matching(names, pattern)):
            raise Refusal(f"no notebook matches --only {pattern}; there are: {', '.join(names)}")
        chosen |= matches
    return [read_notebook(path) for path in paths if path.stem in chosen]


def matching(names, pattern):
    """Which names of notebooks, a set, a pattern means: one with * and ? for a whole name, or what
    stands before or behind its first _; or a part of a name.
    """
    wanted = os.path.basename(pattern).removesuffix(".ipynb")
    if not re.search(r"[*?\[]", wanted):
        return {name for name in names if wanted.lower() in name.lower()}
    return {
        name
        for name in names
        if any(fnmatch.fnmatch(part, wanted) for part in (name, *name.split("_", 1)))
    }


def ready(waiting, running, holds):
    """The notebooks that may start beside those that run.

    Args:
        waiting: in order; running: maybe none; holds: says of a name whether its runs are still
            being made.

    Returns:
        list, in order; readers only where nothing else waits or runs.
    """
    writers = [notebook for notebook in waiting if not notebook.reads_records]
    if not writers:
        return [] if running else waiting[:1]
    return [notebook for notebook in writers if not holds(notebook.name)]


def fits(value, default):
    """Whether a JSON value may replace a default: same type; int for float; lists by their first
    element.
    """
    if default is None:
        return True
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, list) and isinstance(value, list):
        return not default or all(fits(item, default[0]) for item in value)
    return type(value) is type(default)


def parse_value(text):
    """A -p value: JSON if it is JSON (NaN and Infinity are not), else the text itself."""
    try:
        return json.loads(text, parse_constant=lambda name: float("not JSON"))
    except (ValueError, RecursionError):
        return text


def read_value(text, default):
    """A -p value for a parameter with this default: where that is text, what stands in no quotes
    is text (007, true).
    """
    value = parse_value(text)
    return text if isinstance(default, str) and not isinstance(value, str) else value


def choose_parameters(notebooks, args):
    """What is passed to each notebook, checked by name and type.

    Returns:
        {notebook name: {parameter: value}}.

    Raises:
        Refusal: naming the parameter, its value and what is allowed.
    """
    for notebook in notebooks:
        missing = [name for name in COMMON if name not in notebook.parameters]
        if missing:
            raise Refusal(f"{notebook.path}: the parameters cell lacks {', '.join(missing)}")
    given = {"profile": args.profile, "device": args.device}
    if args.seeds is not None:
        given["seeds"] = args.seeds
    typed = {}  # what stands there as it was typed
    for name, text in args.parameter:
        if name in COMMON or name in given:
            raise Refusal(
                f"-p {name} {text}: " + (f"use --{name}" if name in COMMON else "given twice")
            )
        if name in PLACES and text and Path(text).exists():  # notebooks run elsewhere
            text = str(Path(text).absolute())
        given[name] = typed[name] = text
    for name in given:
        if not any(name in notebook.parameters for notebook in notebooks):
            known = "\n".join(
                f"  {nb.name}: {', '.join(nb.parameters) or '(none)'}" for nb in notebooks
            )
            raise Refusal(f"no selected notebook has a parameter {name!r}; they know\n{known}")
    chosen = {}
    for notebook in notebooks:
        chosen[notebook.name] = {
            name: read_value(value, notebook.parameters[name][0]) if name in typed else value
            for name, value in given.items()
            if name in notebook.parameters
        }
        for name, value in chosen[notebook.name].items():
            default = notebook.parameters[name][0]
            if not fits(value, default):
                what = f"parameter {name} = {json.dumps(value)} ({type(value).__name__})"
                allowed = f"its default {json.dumps(default)} ({type(default).__name__})"
                raise Refusal(
                    f"{notebook.name}: {what} does not fit {allowed}; values are read as JSON"
                )
    return chosen


def fingerprint(notebook, parameters, source, data, results):
    """What a run depends on: notebook, parameters and what lies in folders that they name, package,
    where the data are; verdicts, where it begins with them; for readers, the records and the
    published numbers as well.
    """
    parts = [notebook.source_hash, parameters, source, data]
    if notebook.shows_verdicts:
        parts.append(claims(results))
    parts += [held for name in PLACES if (held := _held(parameters.get(name)))]
    if notebook.reads_records:
        published = results / "literature.csv"
        found = [*sorted((results / "runs").rglob("record.json")), published]
        records = filter(Path.is_file, found)
        parts += [
            [path.parent.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in records
        ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _held(place):
    """Names, sizes and dates of the files in a folder, or of a file; nothing for no path."""
    path = Path(place or "")
    if not place or not path.exists():
        return []
    files = sorted(file for file in (path, *path.rglob("*")) if file.is_file())
    return [[str(file), (s := file.stat()).st_size, s.st_mtime_ns] for file in files]


def is_done(entry, mark, folder, name):
    """Our own record of a normal return, for this fingerprint, with both files still there."""
    files = all((folder / f"{name}{suffix}").is_file() for suffix in (".ipynb", ".html"))
    return entry.get("status") == "ok" and entry.get("fingerprint") == mark and files


def listing(notebooks, parameters, results, data, profile, state):
    """Lines of text: titles, parameters with their defaults, and what is done in a profile.

    Args:
        parameters: what would be passed to each; data: data folders; state: of
            results_page.load_state.

    Returns:
        list of lines.
    """
    lines, source = [], package_hash()
    for notebook in notebooks:
        entry = state.get(notebook.name, {})
        status = entry.get("status", "not run")
        if status == "ok":
            mark = fingerprint(notebook, parameters[notebook.name], source, data, results)
            done = is_done(entry, mark, results / "notebooks" / profile, notebook.name)
            status = "up to date" if done else "out of date"
        lines += [f"{notebook.name}  [{profile}: {status}]", f"    {notebook.title}"]
        for name, (default, remark) in notebook.parameters.items():
            lines.append(
                f"    {name} = {json.dumps(default)}" + (f"  # {remark}" if remark else "")
            )
    return lines
