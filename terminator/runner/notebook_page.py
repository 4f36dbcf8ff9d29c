"""The HTML copy of an executed notebook: read without a network, with a way back and ways on.

Formulas are MathML, made by latex2mathml, so that no script has to be loaded; links to other
notebooks lead to their HTML copies. nbconvert is imported on use: whoever lists notebooks needs
none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from terminator.runtime.paths import results_dir
from terminator.runtime.text import html

_LINK = re.compile(r'(<a\b[^>]*\bhref=")(?:\./)?(?:notebooks/)?(\d\d_\w+)\.ipynb(["#])')
# of the project's files
_SOURCE = re.compile(r'(<a\b[^>]*\bhref=")\.\./(?=terminator/|results/|docs/)')
_FOLDED = re.compile(r"\s*(?:</?details>|<summary>[^<]*</summary>|\s)+")
# of what nbconvert puts in: scripts from elsewhere, and what would start them
_SCRIPTS = re.compile(
    r"<script\b[^>]*\bsrc=[^>]*>\s*</script>"
    r"|<script\b[^>]*text/x-mathjax-config[^>]*>.*?</script>"
    r"|<script\b[^>]*type=\"module\"[^>]*>.*?</script>",
    re.IGNORECASE | re.DOTALL,
)
# printed lines break between words; nbconvert's style would break them anywhere
STYLE = """<style>.jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere }
@media (max-width: 36rem) { .jp-RenderedMarkdown p:has(math) { overflow-x: auto } }</style>
"""
BAR = """<nav class="way" style="font: 15px/1.6 system-ui, sans-serif; padding: .5rem 1rem;
 display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; border-bottom: 1px solid #ccc">{links}</nav>
"""


def notebook_page(notebook: Any, name: str, folder: str, names: Sequence[str]) -> str:
    """An executed notebook as one HTML file that loads nothing from elsewhere.

    Args:
        notebook: of nbformat.
        name: without suffix.
        folder: that relative paths in it are seen from.
        names: of all notebooks in order, this one among them.
    """
    exporter = _exporter()
    resources = {"metadata": {"name": name, "path": folder}}
    text, _ = exporter.from_notebook_node(notebook, resources=resources)
    text = _SCRIPTS.sub("", text)
    text = _LINK.sub(lambda m: f"{m[1]}{m[2]}.html{m[3]}" if m[2] in names else m[0], text)
    project = os.path.relpath(Path(folder).parent, results_dir() / "notebooks" / "profile")
    text = _SOURCE.sub(lambda m: f"{m[1]}{Path(project).as_posix()}/", text)
    bar = _bar(name, names)
    head, body, rest = re.split(r"(<body\b[^>]*>)", text, maxsplit=1)
    end = rest.rindex("</body>")
    return f"{head}{body}\n{STYLE}{bar}{rest[:end]}{bar}{rest[end:]}"


def _bar(name: str, names: Sequence[str]) -> str:
    """Links to all results, and to the notebooks before and after this one."""
    links = [_to("../../index.html", "\u2190 all results")]
    at = list(names).index(name) if name in names else None
    for step, words in ((-1, "before: {}"), (1, "next: {}")):
        if at is not None and 0 <= at + step < len(names):
            other = names[at + step]
            links.append(_to(f"{other}.html", words.format(other)))
    return BAR.format(links="".join(links))


def _to(address: str, words: str) -> str:
    return f'<a style="color: #0b5394" href="{address}">{html(words)}</a>'


def _exporter() -> Any:
    """nbconvert's exporter with formulas as MathML, and without addresses of scripts."""
    from jinja2 import pass_context
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return mathml(body, "block")

        def inline_math(self, body: str) -> str:
            return mathml(body, "inline")

        def block_html(self, html: str) -> str:
            """What opens or closes something folded stays open: nbconvert would close each piece
            of HTML by itself, before what belongs into it.
            """
            return f"{html}\n" if _FOLDED.fullmatch(html) else super().block_html(html)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    class Exporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context: Any, source: str) -> str:
            renderer = Renderer(
                escape=False,
                attachments=context.get("cell", {}).get("attachments", {}),
                embed_images=self.embed_images,
                path=context.get("resources", {}).get("metadata", {}).get("path", ""),
                anchor_link_text=self.anchor_link_text,
                exclude_anchor_links=self.exclude_anchor_links,
                **self.lexer_options,
            )
            return str(MarkdownWithMath(renderer=renderer).render(source))

    return Exporter(embed_images=True)


def mathml(tex: str, display: str) -> str:
    """A formula as MathML, without a namespace; as its TeX in code where it cannot be read.

    Args:
        tex: without dollars.
        display: inline or block.
    """
    try:
        from latex2mathml.converter import convert

        found = convert(tex.strip(), display=display)
    except Exception:  # not installed; or it is no TeX that the converter knows
        return f"<code>{html(tex)}</code>"
    return found.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
