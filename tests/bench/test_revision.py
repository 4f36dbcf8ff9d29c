"""Another revision is measured by its own modules, with what it has; anything else is an error."""

import pytest
from places import PACKAGE

from terminator.bench import case as benchmark
from terminator.bench import measure, network, revision
from terminator.runtime.settings import ConfigError

FIRST, WITH_MEMORY_AND_PREDICT = "336f704", "b6676e1"
EDITABLE = f"""
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

class Installed:
    def find_spec(name, path=None, target=None):
        place = Path({str(PACKAGE)!r}).joinpath(*name.split(".")[1:])
        if name.startswith("terminator."):
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            return spec_from_file_location(name, file) if file.is_file() else None

sys.meta_path.append(Installed)
"""  # as an editable installation of this kit finds what a checkout lacks
TINY = {"size": 4, "batch": 2, "threads": 1, "repeats": 1, "warm_up": 0}


@pytest.fixture
def kit(request):
    """A checkout of the revision that the test names."""
    try:
        checkout = revision.checkout(request.param)
        root = checkout.__enter__()
    except ConfigError as error:
        pytest.skip(f"revision {request.param} is not in the history that is here: {error}")
    yield root
    checkout.__exit__(None, None, None)


def below(root):
    """The names of all modules in a checkout."""
    paths = [path.relative_to(root).with_suffix("") for path in (root / "terminator").rglob("*.py")]
    return {path.as_posix().replace("/", ".").removesuffix(".__init__") for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("kit", [FIRST, WITH_MEMORY_AND_PREDICT], indirect=True)
@pytest.mark.parametrize("what", ["training", "inference"])
def test_every_module_of_a_step_is_the_revisions_own(kit, what):
    (kit / "sitecustomize.py").write_text(EDITABLE)
    used = measure.in_process(network, benchmark.Case(what, **TINY), kit).used
    assert all(path.is_relative_to(kit.resolve()) for path in used.values()), used
    assert used.keys() <= below(kit)
    asked = {f"terminator.{name}" for name in ("model", "losses", "optim", "memory", "predict")}
    assert used.keys() & asked == below(kit) & asked  # what it has is there, what it lacks is not
    assert "terminator.model" in used


@pytest.mark.slow
@pytest.mark.parametrize("kit", [WITH_MEMORY_AND_PREDICT], indirect=True)
@pytest.mark.parametrize(
    ("module", "name", "changes"),
    [
        ("memory", "keep_freed_memory", {}),
        ("predict", "compiled", {"what": "inference", "compiled": True}),
        ("model", "skip_sources", {}),
    ],
)
def test_what_the_revision_has_is_what_runs(kit, module, name, changes):
    with (kit / "terminator" / f"{module}.py").open("a") as file:
        file.write(f"\n\ndef {name}(*_, **__):\n    raise RuntimeError('{name} of the revision')\n")
    with pytest.raises(RuntimeError, match=f"{name} of the revision"):
        benchmark.measure(benchmark.Case(**TINY, **changes), kit)


@pytest.mark.slow
@pytest.mark.parametrize("kit", [FIRST], indirect=True)
def test_a_function_that_moved_is_not_left_out_in_silence(kit):
    (kit / "terminator" / "elsewhere.py").write_text("\n\ndef keep_freed_memory():\n    pass\n")
    with pytest.raises(
        RuntimeError,
        match=r"keep_freed_memory is defined in .*elsewhere\.py; "
        r"allowed: in terminator\.runtime\.memory",
    ):
        benchmark.measure(benchmark.Case(**TINY), kit)


@pytest.mark.slow
def test_another_kits_modules_are_refused(tmp_path):
    (tmp_path / "terminator").mkdir()
    (tmp_path / "terminator" / "__init__.py").write_text(f"__path__ = [{str(PACKAGE)!r}]\n")
    with pytest.raises(RuntimeError, match=r"used .*model\.py.*; allowed: what lies below"):
        benchmark.measure(benchmark.Case(**TINY), tmp_path)


@pytest.mark.slow
def test_this_kit_uses_its_own_memory_and_predict():
    used = measure.in_process(network, benchmark.Case(**TINY)).used
    assert used["terminator.runtime.memory"] == PACKAGE / "runtime" / "memory.py"
    assert used["terminator.classification.predict"] == PACKAGE / "classification" / "predict.py"


@pytest.mark.slow
@pytest.mark.parametrize("kit", [FIRST], indirect=True)
def test_a_package_that_a_revision_needs_and_nobody_has_is_named(kit):
    model = kit / "terminator" / "model.py"
    model.write_text("import a_package_of_old\n" + model.read_text())
    with pytest.raises(ConfigError, match="python -m pip install a_package_of_old"):
        measure.in_process(network, benchmark.Case("inference", **TINY), kit)
