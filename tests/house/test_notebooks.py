"""The form of the committed notebooks and of their outputs; nbval runs them and compares."""

import re

import nbformat
import notebook_sources
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_outputs import MACHINE_PATH, output_texts
from places import PACKAGE, ROOT

from terminator.report.claims import CLAIMS
from terminator.runner.notebooks import COMMON, Refusal, read_notebook

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COPIES = sorted((ROOT / "results" / "notebooks" / "laptop").glob("*.ipynb"))
IGNORED = {"nbval-ignore-output", "nbval-skip"}
IGNORING = re.compile(r"^\s*#+\s*(?:NBVAL_IGNORE_OUTPUT|NBVAL_SKIP)\s*$", re.MULTILINE)
INSTALL = re.compile(
    r"\b(?:pip3?|conda|mamba)\s+install\b|^\s*%(?:pip|conda|mamba)\b", re.MULTILINE
)
PARAMETER_LINE = re.compile(r"^\w+(?:: [\w\[\], |]+)? = .*\S\s+# \S.*$")


def form_problems(path):
    """What is wrong with the cells of a notebook, whatever their outputs."""
    notebook = nbformat.read(path, 4)
    cells = notebook.cells
    problems = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        problems.append(f"not valid nbformat: {error.message}")
    if not re.match(r"\d\d_[a-z0-9_]+\.ipynb$", path.name):
        problems.append("its name is not NN_name.ipynb")
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        problems.append("the first cell is no title")
    row = 0
    for number, cell in enumerate(cells):
        row = row + 1 if cell.cell_type == "code" else 0
        if row > 2:
            problems.append(f"cell {number}: more than 2 code cells in a row")
        if cell.cell_type == "code" and len(cell.source.splitlines()) > 25:
            problems.append(f"cell {number}: more than 25 lines")
        if cell.cell_type == "code" and INSTALL.search(cell.source):
            problems.append(f"cell {number}: installs packages")
    return problems + parameter_problems(path, cells)


def parameter_problems(path, cells):
    """What is wrong with the parameters cell."""
    try:
        parameters = read_notebook(path).parameters
    except Refusal as refusal:
        return [str(refusal)]
    problems = [f"no parameter {name}" for name in COMMON if name not in parameters]
    defaults = {name: default for name, (default, _) in parameters.items()}
    for name, wanted in (("profile", "smoke"), ("device", "auto")):
        if defaults.get(name, wanted) != wanted:
            problems.append(f"parameter {name} = {defaults[name]!r}, not {wanted!r}")
    (source,) = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    lines = [line for line in source.splitlines() if not PARAMETER_LINE.match(line)]
    return problems + [f"parameters line without a remark: {line!r}" for line in lines]


def output_problems(path):
    """What is wrong with the outputs: they must be those of a whole smoke run, and compared by
    nbval.
    """
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    problems = []
    if path.stat().st_size >= 1_000_000:
        problems.append(f"{path.stat().st_size} bytes, 1 MB or more")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        problems.append(
            "not run from top to bottom in a fresh kernel: nbval would skip cells without a count"
        )
    if any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells):
        problems.append("outputs of a run with injected parameters, not of the smoke defaults")
    compared = [cell for cell in code if cell.outputs and not is_ignored(cell)]
    if not compared:
        problems.append("nbval would compare no output at all")
    for number, cell in enumerate(notebook.cells):
        outputs = cell.get("outputs", [])
        if any(output.output_type == "error" for output in outputs):
            problems.append(f"cell {number}: an error as output")
        texts = [cell.source, *(text for output in outputs for text in output_texts(output))]
        for text in texts:
            if (found := MACHINE_PATH.search(text)) or str(ROOT) in text:
                problems.append(
                    f"cell {number}: a path of some machine: {found[0] if found else ROOT}"
                )
    return problems


def is_ignored(cell):
    return bool(IGNORED & set(cell.metadata.get("tags", []))) or bool(IGNORING.search(cell.source))


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebooks found in notebooks/"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path):
    assert not form_problems(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs(path):
    assert not output_problems(path)


# ---- what a reader is led to
# -----------------------------------

LINK = re.compile(r"\]\(([^)\s#]+)[^)\s]*\)")


def texts_of(path):
    return [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"]


def test_executed_copies_are_of_the_notebooks_as_they_are_and_of_one_package():
    ran = {path.name: nbformat.read(path, 4).metadata["run_all"] for path in COPIES}
    sources = {path.name: read_notebook(path).source_hash for path in NOTEBOOKS}
    older = [name for name, by in ran.items() if by.get("notebook") != sources[name]]
    assert ran.keys() == sources.keys()
    assert not older, f"python run_all.py --profile laptop --only {' '.join(older)}"
    assert len({by["package"] for by in ran.values()}) == 1
    assert {by["status"] for by in ran.values()} == {"ok"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_notebooks_lead_somewhere(path):
    for link in LINK.findall("\n".join(texts_of(path))):
        if not link.startswith(("http://", "https://")):
            target = (path.parent / link).resolve()
            assert target.is_relative_to(ROOT), link
            assert target.exists(), link


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_files_that_notebooks_name_are_there(path):
    for name in re.findall(r"`([\w./]+\.py)`", "\n".join(texts_of(path))):
        assert (ROOT / name).is_file() or (PACKAGE / name).is_file(), name


TEACHING = [
    path
    for path in NOTEBOOKS
    if any(text.startswith(notebook_sources.HEADING) for text in texts_of(path))
]


def test_claims_stand_on_top_of_the_notebooks_that_test_them():
    tested = {claim.notebook for claim in CLAIMS}
    boxes = {
        path.stem: re.findall(r'verdict_box\(\\?"(\w+)', path.read_text(encoding="utf8"))
        for path in NOTEBOOKS
    }
    assert {name: of for name, of in boxes.items() if of} == {name: [name] for name in tested}


def test_all_notebooks_lead_to_their_code():
    assert TEACHING == NOTEBOOKS


@pytest.mark.parametrize("path", TEACHING, ids=lambda path: path.stem)
def test_every_function_is_linked(path):
    """`python tests/notebook_sources.py NOTEBOOK` writes the section anew."""
    notebook = nbformat.read(path, 4)
    assert notebook_sources.section(notebook) in texts_of(path)


@pytest.mark.parametrize("path", TEACHING, ids=lambda path: path.stem)
def test_exercises_have_folded_answers(path):
    (text,) = [text for text in texts_of(path) if text.startswith("## Exercises")]
    questions = re.findall(r"(?m)^\*\*\d\.\*\* (.*)$", text)
    answers = re.findall(
        r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", text, re.DOTALL
    )
    assert 2 <= len(questions) == len(answers) <= 3
    for answer in answers:
        for code in re.findall(r"(?ms)^```python\n(.*?)^```", answer):
            compile(code, path.name, "exec")


# ---- the checks themselves: a sound notebook passes, each fault is found
# -----------------------------------


PARAMETERS = """profile = "smoke"  # smoke | laptop | paper
seeds = [0]        # integers, none below 0
device = "auto"    # auto | cpu | cuda"""


def sound():
    cells = [
        new_markdown_cell("# A title\nIts question."),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}, execution_count=1),
        new_markdown_cell("A claim."),
        new_code_cell(
            "print(6 * 7)", execution_count=2, outputs=[new_output("stream", text="42\n")]
        ),
    ]
    return new_notebook(cells=cells)


def write(notebook, folder, name="00_sound.ipynb"):
    nbformat.write(notebook, folder / name)
    return folder / name


def test_sound_notebook_passes(tmp_path):
    path = write(sound(), tmp_path)
    assert form_problems(path) + output_problems(path) == []


def no_title(cells):
    cells[0].source = "Its question."


def two_parameter_cells(cells):
    cells[3].metadata["tags"] = ["parameters"]


def computed_parameter(cells):
    cells[1].source += "\nepochs = 2 * 3  # computed"


def tuple_parameter(cells):
    cells[1].source += "\nbetas = (0.5, 0.9)  # not JSON"


def parameter_without_remark(cells):
    cells[1].source += "\nepochs = 6"


def parameter_missing(cells):
    cells[1].source = 'profile = "smoke"  # smoke'


def other_profile(cells):
    cells[1].source = cells[1].source.replace('"smoke"', '"paper"', 1)


def three_in_a_row(cells):
    cells[2:2] = [
        new_code_cell("a = 1", execution_count=2),
        new_code_cell("b = 1", execution_count=3),
    ]


def long_cell(cells):
    cells[3].source = "\n".join(["print(1)"] * 26)


def installs(cells):
    cells[3].source = "!pip install something"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (no_title, "no title"),
        (two_parameter_cells, "exactly one code cell"),
        (computed_parameter, "JSON literal"),
        (tuple_parameter, "JSON literal"),
        (parameter_without_remark, "without a remark"),
        (parameter_missing, "no parameter seeds"),
        (other_profile, "not 'smoke'"),
        (three_in_a_row, "more than 2 code cells"),
        (long_cell, "more than 25 lines"),
        (installs, "installs packages"),
    ],
)
def test_fault_of_form_is_found(tmp_path, fault, message):
    notebook = sound()
    fault(notebook.cells)
    assert message in "\n".join(form_problems(write(notebook, tmp_path)))


def no_count(cells):
    cells[3].execution_count = None


def out_of_order(cells):
    cells[1].execution_count = 7


def injected(cells):
    cells[3].metadata["tags"] = ["injected-parameters"]


def all_ignored(cells):
    cells[3].metadata["tags"] = ["nbval-ignore-output"]


def all_ignored_by_comment(cells):
    cells[3].source = "# NBVAL_IGNORE_OUTPUT\nprint(6 * 7)"


def error_output(cells):
    cells[3].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=["no"]))


def machine_path(cells):
    cells[3].outputs[0].text = "saved to /home/someone/results\n"


def large(cells):
    cells[3].outputs[0].text = "x" * 1_000_000


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (no_count, "nbval would skip"),
        (out_of_order, "nbval would skip"),
        (injected, "injected parameters"),
        (all_ignored, "compare no output"),
        (all_ignored_by_comment, "compare no output"),
        (error_output, "an error as output"),
        (machine_path, "a path of some machine"),
        (large, "1 MB or more"),
    ],
)
def test_fault_of_outputs_is_found(tmp_path, fault, message):
    notebook = sound()
    fault(notebook.cells)
    assert message in "\n".join(output_problems(write(notebook, tmp_path)))
