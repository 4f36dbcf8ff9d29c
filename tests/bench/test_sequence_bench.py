"""What token mixers cost against length: measured, recorded, read again; slopes and verdicts from
given numbers.
"""

import pandas as pd
import pytest
import torch

from terminator.bench import measure, mixer_tables, mixers
from terminator.bench.mixers import TokenCase as Case
from terminator.mixers.registry import TOKEN_MIXERS
from terminator.runtime.settings import ConfigError


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    return tmp_path


def table(**costs):
    """{name: {length: (seconds, bytes)}} as cost_table has it; None is a length that was left
    out.
    """
    rows = []
    for name, found in costs.items():
        for length, pair in found.items():
            row = {
                "operator": name,
                "positions": length,
                "note": "" if pair else "predicted 9 s a pass, limit 6 s",
            }
            if pair:
                row |= {
                    "seconds": pair[0],
                    "low": pair[0],
                    "units": pair[0] / 0.01,
                    "bytes": pair[1],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def test_every_mixer_has_a_theory():
    fused = TOKEN_MIXERS["softmax_fused"]
    assert (fused.time, fused.memory) == (2, 1)


@pytest.mark.slow
def test_a_measurement_here_and_in_its_own_process_agree_on_memory():
    threads = torch.get_num_threads()
    case = Case("hrrformer", 32, width=8, heads=2, repeats=2)
    here, apart = mixers.measured(case, apart=False), mixers.measured(case)
    assert torch.get_num_threads() == threads
    assert here["bytes"] == apart["bytes"] > 32 * 8 * 4
    assert here["parameters"] == 4 * 64
    assert here["process_bytes"] is None
    assert apart["process_bytes"] >= 0
    for row in (here, apart):
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        assert row["units"] == row["low"] / row["unit"]
        assert row["clock"] == "process"


def test_several_threads_are_timed_by_the_wall():
    clock = measure.clock_of
    assert clock("cpu", 2) is clock("cuda", 1) is not clock("cpu", 1)


def test_a_step_goes_back_to_tokens_and_weights():
    run, _ = mixers.step(Case("linear", 16, 8, 2))
    with torch.no_grad():
        run()  # needs its own gradients


def test_a_record_is_written_once_and_read_again(results, monkeypatch):
    monkeypatch.setattr(Case, "sizes", {"smoke": (8, 16)})
    first = mixers.recorded(Case, "smoke", "cpu")
    assert mixers.recorded(Case, "smoke", "cpu") == first
    rows = pd.DataFrame(first["rows"])
    assert set(rows["operator"]) == set(TOKEN_MIXERS)
    assert rows["seconds"].notna().all()
    assert mixers.recorded(Case, "smoke", "cpu", again=True)["rows"] != first["rows"]
    assert len(list(results.glob("runs/sequence_mixers/*/benchmark.json"))) == 2
    with pytest.raises(ConfigError, match="profile is 'huge'; allowed: smoke"):
        mixers.recorded(Case, "huge")


def test_what_would_take_too_long_is_left_out():
    costs = mixers.cost_table(
        Case, (16, 2**22), 0.5, ["softmax_explicit", "fnet"], apart=False, repeats=1
    )
    explicit = costs[costs["operator"] == "softmax_explicit"]
    assert explicit["seconds"].isna().tolist() == [False, True]
    assert "predicted" in explicit["note"].iloc[1]
    assert "softmax_explicit: left out from T = 4194304" in mixer_tables.token_verdict(
        pd.concat([costs, table(hrrformer={16: (1.0, 1.0)}, softmax_fused={16: (1.0, 1.0)})])
    )


def test_slopes_are_fitted_from_afar():
    costs = table(
        hrrformer={n: (1e-3 + 1e-6 * n, 10.0 * n) for n in (256, 1024, 4096, 16_384, 65_536)},
        softmax_fused={n: (1e-9 * n**2, 10.0 * n) for n in (256, 1024, 4096)},
        linear={4096: (1.0, 1.0)},
    )
    found = mixer_tables.token_growth(costs)
    assert list(found.index) == ["hrrformer", "softmax_fused"]  # one length has no slope
    assert found.loc["hrrformer", ["from", "to"]].tolist() == [4096, 65_536]
    assert found.loc["hrrformer", "time"] == pytest.approx(0.93, abs=0.02)
    assert found.loc["softmax_fused", "time"] == pytest.approx(2)
    assert found.loc["softmax_fused", "from"] == 256
    assert found.loc["hrrformer", "memory"] == pytest.approx(1)


def test_beside_the_independent_implementation():
    found = mixer_tables.beside_literature(table(hrrformer={4096: (0.034, 2e7), 8: (1.0, 1.0)}))
    assert found["what"].tolist() == ["time (ms)", "memory (MB)"]
    assert found["ours"].tolist() == pytest.approx([34.0, 20.0])
    assert found["theirs"].tolist() == [17.0, 40.0]
    assert found["ours / theirs"].tolist() == pytest.approx([2.0, 0.5])
    assert found["matrix products"].tolist() == pytest.approx([3.4, float("nan")], nan_ok=True)
    assert mixer_tables.beside_literature(table(fnet={4096: (1.0, 1.0)})).empty


def test_the_verdict_says_from_where_on():
    text = mixer_tables.token_verdict(
        table(
            hrrformer={256 * n: (n, n) for n in (1, 2, 4, 8)},
            softmax_explicit={256 * n: (n * n / 3, 2 * n) for n in (1, 2, 4)},
            softmax_fused={256: (2, 0.5), 512: (1, 1), 1024: (5, 2), 2048: None},
        )
    )
    assert "faster than softmax_explicit from T = 1024 on (1.3 times at T = 1024" in text
    assert "smaller in memory than softmax_explicit from T = 256 on (2 times" in text
    assert "faster than softmax_fused at some lengths only" in text
    assert "smaller in memory than softmax_fused at no measured length (0.5 times" in text
    assert "softmax_fused: left out from T = 2048 on" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sofmax"}, "name is 'sofmax'; allowed: hrrformer, softmax_explicit"),
        ({"length": 0}, "length is 0; allowed: an integer of at least 1"),
        ({"threads": 0}, "threads is 0"),
        ({"device": "tpu"}, "device is 'tpu'; allowed: cpu, cuda"),
    ],
)
def test_cases_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        Case(**{"name": "linear", "length": 8} | changes)


def test_heads_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="heads is 3, width is 64"):
        Case("linear", 8, heads=3)


def test_the_holographic_layer_grows_in_proportion():
    """Four times the tokens take less than eight times as long in one of a few rounds."""
    clock = measure.clock_of("cpu", 1)
    steps = {length: mixers.step(Case("hrrformer", length))[0] for length in (1024, 4096)}
    growth = []
    while len(growth) < 5 and min(growth, default=9) >= 2 * 4:
        short, long = (measure.best_seconds(s, repeats=3, clock=clock) for s in steps.values())
        growth.append(long / short)
    assert min(growth) < 2 * 4, growth
    small, large = (measure.peak_bytes(step) for step in steps.values())
    assert large / small < 4.2
