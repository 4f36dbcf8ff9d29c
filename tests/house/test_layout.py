"""Imports go one way: every module imports from floors below its own, also inside functions."""

import ast
from pathlib import Path

import pytest

import terminator

PACKAGE = Path(terminator.__file__).parent
FLOORS = (  # from the ground up; a module may import from lower floors, and on one floor as long as no circle comes
    {"config", "paths", "layers", "machine", "memory", "progress", "deterministic"},
    {"hyperzzw", "standardization", "checkpoint", "weights", "losses", "optim", "data"},
    {"slow_net", "notebooks", "results_page", "headless"},
    {"related", "ham_analysis"},
    {"sfne", "link"},
    {"model"},
    {"released", "analysis", "distributed", "tasks", "observations", "hrr_analysis"},
    {"networks"},
    {"trainer", "records", "plots", "presets", "studies", "comparison", "inside", "predict", "benchmark_step"},
    {"runs"},
    {"experiments", "benchmark", "fewshot", "segmentation", "longrange", "panel"},
    {"operators_bench", "costs", "gan", "ham_probes", "sequence_bench", "sequence_step", "hrr_studies"},
    {"ham_studies", "tables", "claims"},
    {"__main__"},
)
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names}


def modules():
    return {path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"): path
            for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}


def imported(path):
    """Full names of everything a file imports, wherever the statement stands: {"torch.nn", "terminator.paths"}."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def own(names):
    """Top-level parts of this package among full names: {"config", "data"}."""
    parts = {name.split(".")[1] for name in names if name.startswith("terminator.")}
    return {part for part in parts if (PACKAGE / f"{part}.py").is_file() or (PACKAGE / part / "__init__.py").is_file()}


def test_the_walk_finds_something():
    assert "terminator.config" in imported(PACKAGE / "trainer.py")
    assert "released" in own(imported(PACKAGE / "networks.py"))  # inside a function
    assert len(modules()) > 20


@pytest.mark.parametrize("name", modules())
def test_imports_go_down(name):
    part = name.split("/")[0]
    assert part in FLOOR, f"give {part} a floor in tests/test_layout.py"
    for other in own(imported(modules()[name])) - {part}:
        assert FLOOR[other] <= FLOOR[part], f"{name} imports {other} from a floor above"


@pytest.mark.parametrize("part_of", ["top", "data", "plots", "fewshot", "segmentation", "longrange", "gan", "claims"])
def test_no_circles(part_of):
    everything = modules()
    if part_of == "top":
        graph = {}
        for name, path in everything.items():
            part = name.split("/")[0]
            graph.setdefault(part, set()).update(own(imported(path)) - {part})
    else:
        prefix = f"terminator.{part_of}."
        graph = {name.split("/")[1]: {n.removeprefix(prefix).split(".")[0] for n in imported(path)
                                      if n.startswith(prefix)}
                 for name, path in everything.items() if name.startswith(f"{part_of}/")}
    done = set()
    while ready := {name for name, others in graph.items() if name not in done and others & graph.keys() <= done}:
        done |= ready
    assert done == graph.keys(), f"a circle among {sorted(graph.keys() - done)}"


def test_matplotlib_only_in_plots_and_no_runner_or_notebook_tools_in_what_trains():
    for name, path in modules().items():
        tops = {other.split(".")[0] for other in imported(path)}
        assert "papermill" not in tops, name
        if not name.startswith("plots"):
            assert not tops & {"matplotlib", "seaborn"}, name
        assert "notebooks" not in tops, name
        assert "run_all" not in tops, name


def test_plots_know_no_trainer_and_read_no_records():
    for name, path in modules().items():
        if name.startswith("plots"):
            assert not own(imported(path)) & {"trainer", "experiments", "records", "tasks", "data"}, name


def test_the_ground_floor_needs_no_torch():
    for name in ("config", "paths", "records", "progress"):
        statements = ast.parse(modules()[name].read_text(encoding="utf8")).body
        top = {alias.name.split(".")[0] for node in statements if isinstance(node, ast.Import) for alias in node.names}
        top |= {node.module.split(".")[0] for node in statements if isinstance(node, ast.ImportFrom)}
        assert "torch" not in top, name


def test_no_device_is_hard_wired():
    for name, path in modules().items():
        assert ".cuda()" not in path.read_text(encoding="utf8"), name


def test_public_names_exist():
    for name in terminator.__all__:
        assert getattr(terminator, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Terminater'"):
        _ = terminator.Terminater
