"""The house as it is drawn in CONTRIBUTING.md: imports go down, without a circle, and the core
stands alone.
"""

import ast
import re
import subprocess
import sys

import pytest
from places import PACKAGE, TESTS

import terminator

# From the ground up: who may be imported by whoever stands after it. Core: the modules beside the
# packages.
ROOMS = (
    "runtime",
    "runner",
    "ops",
    "data",
    "registry",
    "core",
    "mixers",
    "runs",
    "plots",
    "classification",
    "bench",
    "hamburger",
    "hypertransformer",
    "hrrformer",
    "zoo",
    "report",
    "batch",
    "__main__",
)
LEVEL = {name: level for level, name in enumerate(ROOMS)}
CORE = {
    "model",
    "sfne",
    "slow_net",
    "hyperzzw",
    "standardization",
    "layers",
    "link",
    "connectable",
    "network_file",
    "losses",
    "optim",
    "trainer",
    "config",
}
MODULES = {
    path.relative_to(PACKAGE)
    .with_suffix("")
    .as_posix()
    .replace("/", ".")
    .removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}


def room(module):
    """The room of a module: its package, the core for what stands beside the packages."""
    if module == "mixers.registry":
        return "registry"  # names only, loaded on use; that it imports nothing above is tested like all else
    top = module.split(".")[0]
    return "core" if top in CORE else top


def imported(path):
    """Full names of everything a file imports, wherever the statement stands: {"torch.nn",
    "terminator.config"}.
    """
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(path):
    """The package's modules that a file imports: {"config", "data.images"}."""
    found = set()
    for name in imported(path):
        parts = name.split(".")[1:] if name.split(".")[0] == "terminator" else []
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        found |= {".".join(parts)} if parts else set()
    return found


ARROWS = {name: own(path) - {name} for name, path in MODULES.items()}


def ordered(graph):
    """The names of a graph from which no circle is reached."""
    done = set()
    while ready := {
        name for name, others in graph.items() if name not in done and others & graph.keys() <= done
    }:
        done |= ready
    return done


def test_the_walk_finds_something():
    assert "config" in ARROWS["trainer"]
    assert "classification.released" in ARROWS["classification.networks"]  # inside a function
    assert len(MODULES) > 100


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down(name):
    assert room(name) in LEVEL, f"give {name} a room in tests/house/test_layout.py"
    for other in ARROWS[name]:
        assert LEVEL[room(other)] <= LEVEL[room(name)], f"{name} imports {other} from a floor above"


def test_no_circles_of_modules():
    assert ordered(ARROWS) == ARROWS.keys(), (
        f"a circle among {sorted(ARROWS.keys() - ordered(ARROWS))}"
    )


def packages(parent):
    """{child of a package: the children that it imports}, `parent` being "" for the rooms
    themselves.
    """
    prefix = f"{parent}." if parent else ""

    def child(module):
        if not parent:
            return room(module)
        return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else None

    graph = {}
    for name, others in ARROWS.items():
        if child(name):
            graph.setdefault(child(name), set()).update(
                {child(other) for other in others} - {child(name), None}
            )
    return graph


@pytest.mark.parametrize(
    "parent", ["", *sorted({name.rpartition(".")[0] for name in MODULES if "." in name})]
)
def test_no_circles_of_packages(parent):
    graph = packages(parent)
    assert ordered(graph) == graph.keys(), f"a circle among {sorted(graph.keys() - ordered(graph))}"


def test_the_core_is_its_files():
    assert {path.stem for path in PACKAGE.glob("*.py")} == CORE | {"__init__", "__main__"}


def test_the_model_loads_core_ops_and_runtime_only():
    code = "import sys, terminator.model; print(*(name for name in sys.modules if name.startswith('terminator.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("terminator.") for name in done.stdout.split()}
    assert {room(name) for name in loaded} <= {"core", "ops", "runtime", "registry", "mixers"}
    # the registry's package, a docstring
    assert {name for name in loaded if room(name) == "mixers"} == {"mixers"}
    assert "model" in loaded
    assert loaded == CORE - {"trainer", "optim", "losses"} | {
        *("mixers", "mixers.registry", "ops", "ops.depthwise", "ops.layout", "ops.plain"),
        *("ops.pooling", "ops.products", "runtime", "runtime.distributed", "runtime.errors"),
        *("runtime.machine", "runtime.memory", "runtime.paths", "runtime.settings"),
        *("runtime.text", "runtime.torch_state", "runtime.weights", "runtime.words"),
    }


def test_matplotlib_stands_where_figures_are_made_and_no_notebook_tool_in_what_trains():
    for name, path in MODULES.items():
        tops = {other.split(".")[0] for other in imported(path)}
        tools = {"notebooks", "run_all"} | (set() if room(name) == "runner" else {"papermill"})
        assert not tops & tools, name
        if room(name) != "plots" and not name.endswith(".figures"):
            assert not tops & {"matplotlib", "seaborn"}, name


def test_figures_know_no_trainer_and_read_no_records():
    for name in MODULES:
        if room(name) == "plots" or name.endswith(".figures"):
            assert {room(other) for other in ARROWS[name]} <= {"plots", "runtime"}, name


def test_the_runner_loads_no_torch():
    names = ", ".join(name.split(".")[1] for name in MODULES if name.startswith("runner."))
    code = f"import sys; from terminator.runner import {names}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_settings_records_and_paths_need_no_torch():
    for name in (
        "config",
        "runtime.settings",
        "runtime.paths",
        "runtime.progress",
        "runtime.provenance",
        "runs.records",
    ):
        statements = ast.parse(MODULES[name].read_text(encoding="utf8")).body
        top = {
            alias.name.split(".")[0]
            for node in statements
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        top |= {
            node.module.split(".")[0] for node in statements if isinstance(node, ast.ImportFrom)
        }
        assert "torch" not in top, name


def test_no_device_is_hard_wired():
    for name, path in MODULES.items():
        assert ".cuda()" not in path.read_text(encoding="utf8"), name


def test_public_names_exist():
    for name in terminator.__all__:
        assert getattr(terminator, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Terminater'"):
        _ = terminator.Terminater


def test_modules_that_a_package_lists_exist():
    listed = [
        (path.parent, name)
        for path in PACKAGE.rglob("__init__.py")
        for name in re.findall(
            r"^(\w+) {2,}\S", ast.get_docstring(ast.parse(path.read_text())) or "", re.M
        )
    ]
    assert len(listed) > 50
    assert [
        f"{folder.name}: {name}"
        for folder, name in listed
        if not (folder / f"{name}.py").is_file() and not (folder / name).is_dir()
    ] == []


def test_no_two_files_of_tests_have_one_name():
    names = [path.name for path in TESTS.rglob("test_*.py")]  # pytest imports them by their names
    assert sorted(names) == sorted(set(names))
