"""What the texts name is there: links, files, modules, commands, presets, settings; snippets run."""

import argparse
import importlib
import io
import re
import shlex
import tokenize

import pytest
import torch
from places import PACKAGE, ROOT
from test_layout import CORE, ROOMS

import terminator
from terminator.__main__ import find_commands, parse, parser
from terminator.runtime.settings_help import settings_of

PAGES = [
    *(path for name in ("README", "CONTRIBUTING", "SECURITY") for path in ROOT.glob(f"{name}.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "results" / "RESULTS.md",
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"(?<![\w/.-])((?:terminator|tests|docs|notebooks|\.ci|\.binder)/[\w./*-]*)")
MODULE = re.compile(r"(?<![\w./-])terminator((?:\.[A-Za-z_]\w*)+)")
COMMANDS = {command.name: command for commands in find_commands().values() for command in commands}
SETTINGS = {
    setting.key
    for command in COMMANDS.values()
    if command.settings
    for _, group in settings_of(command.settings.defaults()).values()
    for setting in group
}
FSTRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)  # since Python 3.12
GROUPS = {key.partition(".")[0] for key in SETTINGS}


def read(page):
    return page.read_text(encoding="utf8")


def anchors(text):
    """What GitHub lets one link to: headings in small letters, spaces as hyphens."""
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fenced(text, language):
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


def shell_lines(page):
    """The command lines of a page, without remarks, those that go on in the next line as one."""
    for code in fenced(read(page), "bash"):
        for line in code.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


def found(pages, pattern):
    """(page, what the pattern finds there), each once."""
    return sorted({(page, hit) for page in pages for hit in pattern.findall(read(page))})


def ids(value):
    return str(value.relative_to(ROOT)) if hasattr(value, "relative_to") else str(value)


def test_there_is_something_to_test():
    assert len(PAGES) >= 10
    assert len(found(PAGES, LINK)) > 60
    assert len(found(PAGES, FILE)) > 30
    assert len(found(PAGES, MODULE)) > 5
    assert len(SETTINGS) > 100


# -- links, files, modules -------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page):
    for link in LINK.findall(read(page)):
        if link.startswith(("http://", "https://")):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.is_relative_to(ROOT), link
        assert path.exists(), link
        assert not anchor or anchor in anchors(read(path)), link


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_exist(page):
    for name in FILE.findall(read(page)):
        if "NN_" not in name:  # a name for names
            name = name.rstrip(".")
            assert any(ROOT.glob(name)) if "*" in name else (ROOT / name).exists(), name


def resolve(parts):
    """What a dotted name stands for: a module, or something in one."""
    for length in range(len(parts), -1, -1):
        try:
            here = importlib.import_module(".".join(["terminator", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            here = getattr(here, part)
        return here


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_modules_exist(page):
    for name in MODULE.findall(read(page)):
        assert resolve(name.split(".")[1:]) is not None, name


def test_modules_that_the_package_speaks_of_exist():
    # where older revisions have what is compared with them
    past = {".memory", ".predict", ".related"}
    found = 0
    for path in PACKAGE.rglob("*.py"):
        for token in tokenize.generate_tokens(io.StringIO(read(path)).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING, FSTRING):
                for name in set(MODULE.findall(token.string)) - past:
                    assert resolve(name.split(".")[1:]) is not None, f"{path.name}: {name}"
                    found += 1
    assert found > 10


def test_what_moved_is_where_it_is_said_to_be():
    table = read(ROOT / "CONTRIBUTING.md").split("| old module | new |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    assert len(rows) > 10
    for old, new in rows:
        names = re.findall(r"`([a-z_.]+)", old)
        there = re.search(r"the same in `(\w+)`", new)
        moved = (
            [f"{there[1]}.{name}" for name in names]
            if there
            else re.findall(r"`([a-z][\w.]+)", new)
        )
        assert moved
        for name in moved:
            assert resolve(name.split(".")) is not None, name
        if there:  # elsewhere a room may have taken an old module's name
            assert not [name for name in names if (PACKAGE / f"{name}.py").exists()]


# -- the map ---------------------------------------------------------------------------------------


def test_the_map_has_the_rooms_as_they_are_drawn():
    text = read(ROOT / "CONTRIBUTING.md")
    table = text.split("| room | what it holds |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"(?m)^\| `(\w+)` \|", table)) == ROOMS
    (core,) = re.findall(r"(?m)^\| `core` \| (.*) \|$", table)
    assert set(core.split(", ")) == CORE


def test_the_readme_is_short_and_names_every_notebook():
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) <= 200
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert re.findall(r"(?m)^\| \[(\w+)\]\(notebooks/", text) == notebooks
    assert f"each of the {len(notebooks)} notebooks" in " ".join(text.split())
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(LINK.findall(text))


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_and_settings_exist(page):
    text = read(page)
    assert set(re.findall(r"-m terminator ([a-z][\w-]*)", text)) <= COMMANDS.keys()
    named = set(re.findall(r"(?<![\w.])([a-z_]+\.\w+)=", text))
    named |= {key for key in re.findall(r"`([a-z_]+\.\w+)`", text) if key.split(".")[0] in GROUPS}
    assert named - SETTINGS == set()


def terminator_lines():
    for page in PAGES:
        for words in shell_lines(page):
            if "-m" in words and words[words.index("-m") + 1] == "terminator":
                rest = words[words.index("-m") + 2 :]
                if not {"...", "COMMAND"} & set(rest):  # a part of a command line
                    yield pytest.param(rest, id=f"{ids(page)}: {' '.join(rest)}"[:90])


@pytest.mark.parametrize("words", list(terminator_lines()))
def test_command_lines_are_understood(words):
    args = parse(parser(find_commands()), list(COMMANDS), words)
    command = COMMANDS[args.name]
    if command.config:
        command.config(args)
    elif command.settings and hasattr(args, "words"):
        command.settings.config(argparse.Namespace(words=args.words))


# -- Python ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (page, number)
        for page in PAGES
        for number in range(len(fenced(read(page), "python")))
        if page.name in ("README.md", "python.md")
    ],
    ids=ids,
)
def test_snippets_run(page, number):
    code = fenced(read(page), "python")[number]
    code = code.replace("torch.randn(4, 64,", "torch.randn(2, 8,")  # the same calls, in less time
    names = {}
    before, trains, _ = code.partition("run = ")
    torch.manual_seed(0)
    exec(compile(before, ids(page), "exec"), names)
    if "logits" in names:
        assert names["logits"].shape[1] == 10
    if "model" in names:
        assert terminator.count_parameters(names["model"]) == 1336855
        assert terminator.is_calibrated(names["model"])
    if trains:  # tests/classification runs such a line
        assert names["config"].train.epochs == 3
        assert names["CLASSIFICATION"].run
