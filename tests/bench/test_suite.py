"""Every row of the suite runs, in tiny sizes; it is measured, compared and refused; none has become
slow.
"""

import time

import pytest
import torch
from places import PACKAGE, ROOT

from terminator.bench import measure, revision, suite
from terminator.bench import rows as of_suite
from terminator.bench.floors import Rates, floors_of, machine_rates
from terminator.report.speed import suite_table
from terminator.runs import measurements
from terminator.runtime.provenance import device_name
from terminator.runtime.settings import ConfigError

TINY = {"tiny": True, "threads": 1, "repeats": 1, "warm_up": 0}
LONG = ("terminator-", "resnet18-training", "start-")  # a second and more each
APART = ("terminator-epoch", "start-")  # a training's folder, or another process's time
TOO_LONG = ("terminator-training", "terminator-training-bf16", "terminator-training-14x14")
GUARDED = [n for n in of_suite.ROWS if n not in TOO_LONG and not n.startswith(APART)]
USUAL = {  # of calls in the sizes below, in the units of measure.unit_seconds
    "ham-nmf": 1.2,
    "ham-cd": 1.6,
    "ham-vq": 1.7,
    "hrr-attention-1024": 1.5,
    "hypertransformer-1": 13.0,
}
SMALL = {
    "ham": {"channels": 128, "side": 16, "rank": 32},
    "hrr": {"batch": 1, "length": 256, "width": 128},
    "hypertransformer": {"ways": 2, "size": 16},
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name.startswith(LONG) else [])
        for name in of_suite.ROWS
    ],
)
def test_every_row_does_its_work_in_a_tiny_size(name):
    work = of_suite.make(name, tiny=True)
    work.step()
    assert work.amount > 0
    assert work.unit in ("images", "episodes", "tokens", "starts")


@pytest.mark.slow
def test_rows_are_recorded_with_floors(results, monkeypatch):
    monkeypatch.setattr(suite, "machine_rates", lambda *_: Rates(1e11, 1e11, 1e10))
    table = suite.run(suite.cases(["ham-nmf", "start-import"], **TINY), "smoke")
    assert list(table["row"]) == ["ham-nmf", "start-import"]
    assert (table["ms_low"] <= table["ms"]).all()
    assert table["over_serial_floor"][0] > 1
    assert table["over_serial_floor"].isna()[1]
    assert table["clock"].tolist() == ["process", "wall"]  # another process's time is not its own
    assert table["tensors_mib"][0] < table["peak_mib"][0]
    (record,) = measurements.load("smoke", suite.EXPERIMENT)
    assert record["rows"][0]["ms"] == table["ms"][0]
    text = suite_table("smoke")
    assert text.count("\n") == 3
    assert f"| {of_suite.ROWS['ham-nmf'].what} | " in text


def test_how_threads_wait_is_recorded_and_a_row_of_its_own(results, monkeypatch):
    row = {"ms": 1.0, "seconds": [0.001], "unit": 1.0, "amount": 1, "unit_of_amount": "images"}
    row |= {"first_s": 0.1, "clock": "wall", "bytes": 0, "process_bytes": 1}
    monkeypatch.setattr(suite, "measure", lambda case: row)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    suite.run(suite.cases(["ham-nmf"], **TINY), "smoke", floors=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    suite.run(suite.cases(["ham-nmf"], **TINY), "smoke", floors=False)
    found = [record["wait_policy"] for record in measurements.load("smoke", suite.EXPERIMENT)]
    assert sorted(found, key=str) == [None, "PASSIVE"]
    _, _, *lines = suite_table("smoke").splitlines()
    assert [line.endswith(", OMP_WAIT_POLICY=PASSIVE |") for line in lines] == [False, True]


@pytest.mark.slow
def test_a_revision_is_compared_with_itself_and_rows_that_it_lacks_are_left_out(
    results, monkeypatch, capsys
):
    class Here:
        def __enter__(self):
            return PACKAGE.parent

        def __exit__(self, *_):
            pass

    row = of_suite.ROWS["ham-cd"]._replace(make=lambda **_: of_suite.part("hamburger.ham:Nothing"))
    real = suite.measure

    def measure_(case, root=None):
        if case.row == "ham-cd" and root is not None:
            monkeypatch.setitem(of_suite.ROWS, "ham-cd", row)
            return of_suite.main(**vars(case))
        return real(case, root)

    monkeypatch.setattr(suite, "checkout", lambda _: Here())
    monkeypatch.setattr(suite, "measure", measure_)
    table = suite.compare(suite.cases(["ham-nmf", "ham-cd"], **TINY), "HEAD", 1, "smoke")
    assert list(table["row"]) == ["ham-nmf"]
    assert table["memory_ratio"][0] == 1
    assert 0.01 < table["ratio"][0] < 100
    said = capsys.readouterr()
    assert "ham-cd: left out, HEAD lacks it (AttributeError" in said.out + said.err


@pytest.fixture
def older(request):
    try:
        checkout = revision.checkout(request.param)
        root = checkout.__enter__()
    except ConfigError as error:
        pytest.skip(f"that revision is not in the history that is here: {error}")
    yield root
    checkout.__exit__(None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("older", ["336f704"], indirect=True)
def test_the_first_revision_lacks_hams(results, older):
    assert "hamburger" in suite.measure(suite.Case("ham-nmf", **TINY), older)["lacking"]


@pytest.mark.slow
@pytest.mark.parametrize("older", ["881458c"], indirect=True)  # the last one before the rooms
@pytest.mark.parametrize(
    "row", ["terminator-answer", "ham-cd", "hamburger-nmf", "hrr-attention-1024", "hrr-layer-1024"]
)
def test_a_revision_that_keeps_its_modules_elsewhere_is_measured(results, older, row):
    assert suite.measure(suite.Case(row, **TINY), older)["seconds"][0] > 0


@pytest.mark.parametrize("name", USUAL)
def test_no_row_has_become_slow(name):
    """Twice the usual figure in every round is a failure; rounds lie apart, since a neighbour that
    fills the memory's bandwidth for a moment slows a product less than other work.
    """
    row = of_suite.ROWS[name]
    work = row.make(**{**row.full, **SMALL[name.split("-")[0]]})
    work.step()
    rounds = []
    for pause in (0.0, 0.5, 1.0, 2.0, 4.0):
        time.sleep(pause)
        unit = measure.unit_seconds(clock=measure.clock_of("cpu", 1))
        took = measure.best_seconds(work.step, repeats=3, clock=measure.clock_of("cpu", 1))
        rounds.append(took / unit)
        if rounds[-1] < 2 * USUAL[name]:
            break
    assert torch.get_num_threads() == 1
    assert min(rounds) < 2 * USUAL[name], rounds


def recorded(name):
    """What records say of a row: times its serial floor, or units where it has none; of this
    processor if it was measured, else the most of any.
    """
    key = "over_serial_floor" if of_suite.ROWS[name].has_floor else "units"
    here, found = device_name("cpu").rpartition(", ")[0], {}
    for record in measurements.load("laptop", suite.EXPERIMENT):
        for row in record["rows"]:
            if row["row"] == name and row.get(key) and not record.get("wait_policy"):
                found[record["machine"].rpartition(", ")[0]] = row[key]
    return found.get(here, max(found.values()))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "hrr-layer-1024" else [pytest.mark.slow]) for n in GUARDED],
)
def test_no_row_needs_twice_what_its_record_says(name, monkeypatch):
    """In every round, that is: beside floors or units measured in the same moment, on one
    thread.
    """
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    row, most, clock = of_suite.ROWS[name], 2 * recorded(name), measure.clock_of("cpu", 1)
    work, rounds = of_suite.make(name), []
    work.step()  # makes what later steps keep
    for _ in range(5):
        if row.has_floor:
            precision = "bf16" if name.endswith("bf16") else "float32"
            rates = machine_rates(precision, threads=1, side=512, megabytes=32)
            least = floors_of(work.step, rates)["serial_floor_ms"] / 1e3
        else:
            least = measure.unit_seconds(clock=clock)
        rounds.append(measure.best_seconds(work.step, repeats=3, clock=clock) / least)
        if rounds[-1] < most:
            break
    assert min(rounds) < most, (most, rounds)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"row": "ham"}, "row is 'ham'; allowed: terminator-training, "),
        ({"device": "cuda"}, "device is 'cuda'; allowed: cpu"),
        ({"threads": 0}, "threads is 0; allowed: an integer of at least 1"),
        ({"repeats": 0}, "repeats is 0"),
    ],
)
def test_rows_that_cannot_be(changes, named):
    with pytest.raises(ConfigError, match=named):
        suite.Case(**{"row": "ham-nmf"} | changes)


def test_only_needs_the_suite(call):
    status, _, errors = call("benchmark", "--only", "ham-nmf")
    assert status
    assert "only is 'ham-nmf'; allowed: rows of --suite" in errors
