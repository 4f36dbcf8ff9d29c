"""nbval runs the notebooks against a results folder of its own: no older result may stand in; and
with this worker's share of the cores, as run_all.py does.

What a notebook has trained in the end is what the plan (terminator.batch) says that it needs.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from terminator.runtime.machine import thread_variables

_results = tempfile.TemporaryDirectory(prefix="terminator-results-", ignore_cleanup_errors=True)
os.environ["TERMINATOR_RESULTS"] = _results.name
os.environ["TERMINATOR_HEADLESS"] = "1"
os.environ.update(thread_variables(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))

# Finished runs that the workers of a session hand each other; made by what starts the workers.
_SHARED = "TERMINATOR_NBVAL_SHARED"
if "PYTEST_XDIST_WORKER" not in os.environ:
    _shared = tempfile.TemporaryDirectory(prefix="terminator-shared-", ignore_cleanup_errors=True)
    os.environ[_SHARED] = _shared.name

_before: dict[Path, set[str]] = {}  # by notebook: runs that were there when it began
_failed: set[Path] = set()


def _there():
    """Finished runs, as a plan calls them; not those of the command line and of notebook 05."""
    found = Path(_results.name).glob("runs/*/*/record.json")
    return {"/".join(path.parts[-3:-1]) for path in found if path.parts[-3] != "cli"}


def _hand_over(source, target):
    """Copy finished runs, whole or not at all, that `target` does not have."""
    for record in Path(source).glob("runs/*/*/record.json"):
        folder = Path(target, "runs", *record.parts[-3:-1])
        if record.parts[-3] == "cli" or folder.exists():
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.mkdtemp(prefix=".handed-over-", dir=target)
        shutil.copytree(record.parent, beside, dirs_exist_ok=True)
        try:
            os.rename(beside, folder)
        except OSError:  # another worker's is there by now
            shutil.rmtree(beside)


def pytest_runtest_setup(item):
    if item.path not in _before:
        if "PYTEST_XDIST_WORKER" in os.environ and _SHARED in os.environ:
            _hand_over(os.environ[_SHARED], _results.name)
        _before[item.path] = _there()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    if (yield).get_result().failed:
        _failed.add(item.path)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """After a notebook's last cell: what it has trained is what was planned."""
    path = item.path
    if (nextitem is not None and nextitem.path == path) or path in _failed:
        return
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    count = sum(cell["cell_type"] == "code" for cell in cells)
    if sum(other.path == path for other in item.session.items) != count:
        return  # only some of its cells were chosen
    from terminator.batch.plan import NEEDS, Planner
    from terminator.report.tables import SYSTEM_OF
    from terminator.runs import records

    tasks = {f"{r['experiment']}/{r['run_id']}": records.task_of(r) for r in records.load_records()}
    made = {key for key in _there() - _before[path] if tasks.get(key) in SYSTEM_OF}
    if "PYTEST_XDIST_WORKER" in os.environ and _SHARED in os.environ:
        _hand_over(_results.name, os.environ[_SHARED])
    is_planned = any(path.stem in room.needs("smoke") for room in NEEDS)
    plan = Planner("smoke", [path.stem]).plan() if is_planned else None
    runs = plan.runs if plan else {}
    assert made <= runs.keys(), f"{path.stem} trains what is not in the plan"
    unmade = [key for key, run in runs.items() if not run.is_settled]
    assert not unmade, f"the plan has runs that {path.stem} does not make"
    assert not (plan and plan.undecided)
