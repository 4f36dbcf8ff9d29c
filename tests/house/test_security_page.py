"""SECURITY.md: every claim names a test that exists, and readers find the page."""

import ast
import re

import pytest
from places import PACKAGE, ROOT

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
NETWORK = {"socket", "urllib", "http", "requests", "ftplib", "smtplib", "ssl", "aiohttp", "httpx"}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_named_test_exists(file, name):
    body = ast.parse((ROOT / file).read_text(encoding="utf8")).body
    assert name in {part.name for part in body if isinstance(part, ast.FunctionDef)}


def test_every_row_of_the_table_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    for row in rows:
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", row.rsplit("|", 2)[1]), row


def test_the_page_is_linked():
    for name in ("README.md", "CONTRIBUTING.md"):
        assert "(SECURITY.md)" in (ROOT / name).read_text(encoding="utf8"), name


def test_one_module_alone_knows_the_network():
    found = set()
    for path in [*PACKAGE.rglob("*.py"), ROOT / "run_all.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            if {name.split(".")[0] for name in names if name != "urllib.parse"} & NETWORK:
                found.add(path.relative_to(ROOT).as_posix())
    # a time-out, and errors, of torchvision's download
    assert found == {"terminator/data/downloads.py"}
