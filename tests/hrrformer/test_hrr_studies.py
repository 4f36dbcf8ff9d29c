"""What is measured inside networks of the Image task: recorded whole, read again, judged."""

import json
from functools import partial

import pandas as pd
import pytest
import torch

from terminator.bench.mixers import TokenCase
from terminator.bench.mixers import recorded as costs_recorded
from terminator.hrrformer import anatomy as inside
from terminator.hrrformer import report, verdicts
from terminator.hrrformer.longrange import presets
from terminator.hrrformer.longrange import report as studies
from terminator.hrrformer.report import PERMUTED, TRAINED, UNTRAINED
from terminator.runs import measurements
from terminator.runs.claims import verdict_rows
from terminator.runtime.settings import ConfigError


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(tmp_path_factory.mktemp("results")))
        settings = presets.PRESETS["digits-sequence"]
        patch.setitem(
            presets.PRESETS,
            "digits-sequence",
            settings | {"train": {"epochs": 1, "batch_size": 64}},
        )
        patch.setattr(report, "IMAGES", {"smoke": 40})
        tiny = presets.PRESETS["pathfinder-tiny"]
        patch.setitem(
            presets.PRESETS,
            "pathfinder-tiny",
            tiny | {"data": tiny["data"] | {"train_size": 20, "test_size": 10}},
        )
        first = report.recorded("smoke", device="cpu")
        assert report.recorded("smoke", device="cpu") == first  # read
        assert len(measurements.load("smoke", report.EXPERIMENT)) == 1
        run, data = studies.main_run("image", "smoke", device="cpu")
        yield first, run.model(), report.test_tokens(data, 40)


def test_a_look_at_other_seeds_is_one_of_its_own(record, monkeypatch):
    first, _, _ = record
    kept, asked = [first], []

    def measured(profile, seeds, device):
        asked.append(tuple(seeds))
        return {**first, "rows": [{**row, "seed": 7} for row in first["rows"]]}

    def add(experiment, profile, measure):
        kept.append(measure())
        return kept[-1]

    monkeypatch.setattr(report, "_measured", measured)
    monkeypatch.setattr(measurements, "load", lambda *of: kept)
    monkeypatch.setattr(measurements, "add", add)
    assert report.recorded("smoke", (0,), device="cpu") == first  # these are there
    other = report.recorded("smoke", (7,), device="cpu")
    assert asked == [(7,)]
    assert report.recorded("smoke", (7,), device="cpu") == other
    assert asked == [(7,)]
    assert report.found_record("smoke") == first  # evidence: all of the profile's seeds


def test_a_record_holds_what_the_network_computes(record):
    found, model, tokens = record
    assert tokens.shape == (40, 64)
    table = report.structure(found).set_index(["network", "head"])
    expected = inside.structure_table({TRAINED: model}, tokens).set_index(["network", "head"])
    for column in expected:
        assert table.loc[TRAINED][column].tolist() == pytest.approx(
            expected.loc[TRAINED][column].tolist(), abs=1e-6
        )
    assert list(table.index.get_level_values(0).unique()) == [TRAINED, UNTRAINED, PERMUTED]
    maps = report.mean_maps(found)
    assert torch.allclose(maps[TRAINED], inside.weights_over(model, tokens).mean(0), atol=1e-3)
    assert found["row"] == 8
    shown = found["shown"]
    anatomy = inside.anatomy(model, tokens[0])
    assert torch.allclose(report.kept(shown["own"]), anatomy.cosine, atol=1e-3)
    assert torch.allclose(report.kept(shown["superposition"]), anatomy.superposition, rtol=1e-3)
    assert torch.equal(report.kept(shown["tokens"]), tokens[:6].float())
    assert len(json.dumps(found)) < 60_000  # records are committed


def test_other_is_the_cosine_to_another_tokens_value(record):
    found, model, tokens = record
    anatomy = inside.anatomy(model, tokens[0])
    t = 5
    cosine = torch.cosine_similarity(anatomy.retrieved[1, t], anatomy.value[1, t - 1], dim=0).item()
    assert report.kept(found["shown"]["other"])[1, t].item() == pytest.approx(cosine, abs=1e-3)


def test_branch_before_and_after(record):
    found, model, tokens = record
    table = report.branch_table(found)
    after = {row["quantity"]: row["value"] for row in inside.branch_numbers(model, tokens[:64])}
    assert table.loc["branch_ratio", "after training"].tolist() == pytest.approx(
        [after["branch_ratio"]]
    )
    assert 0 < table.loc["branch_ratio", "before training"].iloc[0] < 0.1
    summary = report.structure_summary(report.structure(found))
    assert summary.loc[TRAINED, "heads"] == 2
    assert summary.loc[TRAINED, "row contrast, max"] >= summary.loc[TRAINED, "row contrast, mean"]


def test_learned_positions_stand_beside_their_controls(record):
    found = record[0]["positions"]
    assert list(found) == [TRAINED, UNTRAINED, report.SHUFFLED_POSITIONS]
    for part in found.values():
        assert abs(part["contrast"]) < 0.2
        assert report.kept(part["map"])[16 * 33] == 0
    assert report.kept(found[TRAINED]["map"]).max() < 1
    (title, field), *_ = report.position_maps(record[0])
    assert title.startswith("trained\n(row contrast ")
    assert field.shape == (32, 32)


def costs(**found):
    rows = [
        {"operator": name, "positions": n, "seconds": s, "low": s, "units": s, "bytes": b}
        for name, lengths in found.items()
        for n, (s, b) in lengths.items()
    ]
    return pd.DataFrame(rows)


def structure(trained, control, trained_shuffled, control_shuffled, seeds=3):
    """Rows of networks whose seeds differ a little; the untrained ones at -1."""
    rows = [
        {
            "network": network,
            "seed": seed,
            "row_contrast": contrast + 0.001 * seed,
            "row_contrast_shuffled": shuffled + 0.001 * seed,
        }
        for network, contrast, shuffled in (
            (TRAINED, trained, trained_shuffled),
            (UNTRAINED, -1.0, -1.0),
        )
        for seed in range(seeds)
    ]
    permuted = {"row_contrast": control, "row_contrast_shuffled": control_shuffled}
    return pd.DataFrame([*rows, {"network": PERMUTED, "seed": 0, **permuted}])


def test_verdicts_follow_the_numbers():
    lengths = (4096, 16_384, 65_536)
    table = costs(
        hrrformer={n: (n, n) for n in lengths},
        softmax_explicit={4096: (5000, 2e4)},
        softmax_fused={4096: (5000, 2e3), 16_384: (8e4, 8e3)},
    )
    layers = pd.DataFrame(
        [
            {"network": TRAINED, "seed": seed, "quantity": "branch_ratio", "block": 1, "value": v}
            for seed, v in enumerate((0.2, 0.21, 0.19))
        ]
    )
    curve = pd.DataFrame(
        [
            {"arm": "projected", "width": 64, "pairs": n, "accuracy": 100.0 if n < 4 else 10.0}
            for n in (1, 2, 4)
        ]
    )
    found = verdicts.claims(table, inside_of(structure(0.4, 0.1, 0.1, 0.2), layers), curve)
    assert found["verdict"].tolist() == [
        "holds",
        "holds",
        "holds",
        "holds",
        "holds",
        "does not hold",
        "holds",
        "not learned",
        "holds",
        "does not hold",
    ]
    evidence = found["evidence"].tolist()
    assert evidence[0] == "power 1.00 from T = 4096 to 65536"
    assert evidence[3] == "4.9 times as fast at T = 16384"
    assert evidence[5] == "2 times more at T = 16384"
    assert "row contrast of the best head 0.40 ± 0.00 against untrained -1.00" in evidence[6]
    assert "the better side is not surely above trained, pixels permuted (0.20)" in evidence[7]
    assert "branch over residual (%) 20.0 ± 1.0 against a tenth, 10.0" in evidence[8]
    assert evidence[9] == "90 % retrieved up to 2 pairs, of up to 4"
    short = costs(
        **{
            name: {n: (n, n) for n in (64, 256)}
            for name in ("hrrformer", "softmax_explicit", "softmax_fused")
        }
    )
    assert verdict_rows(verdicts.OF_COST, short)[0]["verdict"] == "undecided"


def inside_of(rows, layers):
    """As report.recorded gives them."""
    rows = rows.assign(mean_map="", device="cpu").to_dict("records")
    return {"rows": rows, "layers": layers.to_dict("records")}


def test_unknown_profiles():
    for call in (report.recorded, report.capacity_curve, partial(costs_recorded, TokenCase)):
        with pytest.raises(ConfigError, match="profile is 'huge'; allowed: smoke"):
            call("huge")
