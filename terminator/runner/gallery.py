"""The figures of the results page: thumbnails with title, profile and seeds, in the groups of the
notebooks that drew them. Standard library only.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from terminator.runner.html_page import address, link
from terminator.runtime.text import html

SUFFIXES = (".svg", ".png", ".pdf")
SAID = 4  # characters of a name that a notebook says itself, beside what is filled in


@dataclass(frozen=True)
class Source:
    """A notebook as far as its figures' captions need it: name, title, seeds, and the texts in its
    code, among which are the names of its figures.
    """

    name: str
    title: str
    seeds: str
    names: re.Pattern[str]


def read_sources(folder: Path) -> list[Source]:
    """The executed notebooks of a profile that can be read."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        try:
            cells = json.loads(path.read_bytes())["cells"]
            texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        code = "\n".join(text for kind, text in texts if kind == "code")
        headings = (re.match(r"#\s+(.+)", text) for kind, text in texts if kind == "markdown")
        title = next((heading[1].strip() for heading in headings if heading), path.stem)
        seeds = re.findall(r"^seeds = \[([\d, ]*)\]", code, re.MULTILINE)  # injected ones come last
        found.append(Source(path.stem, title, seeds[-1] if seeds else "", _names(code)))
    return found


def _names(code: str) -> re.Pattern[str]:
    """Matches what may be a figure's name: any plain text in the code, what is filled in left
    open.
    """
    texts = set(re.findall(r"[\"']([\w{}.-]{3,80})[\"']", code))
    said = [text for text in sorted(texts) if len(re.sub(r"{.*?}", "", text)) >= SAID]
    filled = [re.sub(r"\\{.*?\\}", ".+", re.escape(text)) for text in said]
    return re.compile("|".join(filled) or r"(?!)")


def gallery(results: Path) -> str:
    """All figures below results/figures as HTML, a part per profile and notebook; "" for none.

    Each is there once: one that lies there as SVG and PNG is shown as SVG, with links to both.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    figures: dict[Path, dict[str, Path]] = {}
    for path in sorted((results / "figures").rglob("*")):
        if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file():
            figures.setdefault(path.with_suffix(""), {})[path.suffix] = path
    sources: dict[str, list[Source]] = {}
    for stem, files in figures.items():
        parts = stem.relative_to(results / "figures").parts
        profile = parts[0] if len(parts) > 1 else ""
        if profile not in sources:
            sources[profile] = read_sources(results / "notebooks" / profile)
        source = next((s for s in sources[profile] if s.names.fullmatch(stem.name)), None)
        key = (profile, source.title if source else "other figures")
        groups.setdefault(key, []).append(_figure(results, stem.name, files, profile, source))
    blocks = []
    for (profile, title), items in sorted(groups.items(), key=lambda group: _order(group[0])):
        head = html(f"{title}, {profile} profile" if profile else title)
        blocks.append(f'<h3>{head}</h3>\n<div class="figures">\n' + "\n".join(items) + "\n</div>")
    return "\n".join(blocks)


def _order(key: tuple[str, str]) -> tuple[int, str, str]:
    """Profiles with real results first, notebooks in their order, others last."""
    profile, title = key
    rank = {"paper": 0, "laptop": 1, "smoke": 2}.get(profile, 3)
    return rank, profile, "~" if title == "other figures" else title


def _figure(
    results: Path, name: str, files: dict[str, Path], profile: str, source: Source | None
) -> str:
    shown = files.get(".svg") or files.get(".png")
    title = (png_title(files[".png"]) if ".png" in files else "") or name.replace("_", " ")
    image = ""
    if shown:
        where = address(shown, results)
        image = f'<img loading="lazy" src="{where}" alt="{html(title)}">'
        image = f'<a href="{where}">{image}</a>'
    seeds = source.seeds if source else ""
    said = [f"{profile} profile" if profile else "", f"seeds {seeds}" if seeds else ""]
    links = " ".join(link(path, suffix[1:], results) for suffix, path in files.items())
    note = ", ".join(filter(None, said))
    return (
        f"<figure>{image}<figcaption>{html(title)}<br>"
        f'<span class="note">{html(note)}</span> {links}</figcaption></figure>'
    )


def png_title(path: Path) -> str:
    """The title that a PNG file has in its metadata, "" for none."""
    try:
        with open(path, "rb") as file:
            if file.read(8) != b"\x89PNG\r\n\x1a\n":
                return ""
            while head := file.read(8):
                length, kind = struct.unpack(">I4s", head)
                if kind == b"IDAT" or length > 2**20:
                    return ""
                content = file.read(length + 4)[:length]
                if kind in (b"tEXt", b"iTXt") and content.startswith(b"Title\0"):
                    return _text(kind, content[6:])
    except (OSError, ValueError, IndexError, struct.error, zlib.error):
        return ""  # a damaged figure has no title
    return ""


def _text(kind: bytes, content: bytes) -> str:
    if kind == b"tEXt":
        return content.decode("latin-1")
    packed, rest = content[0], content[2:].split(b"\0", 2)[2]
    return (zlib.decompress(rest, bufsize=2**16) if packed else rest).decode("utf-8")
