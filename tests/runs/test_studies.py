"""Studies: what they train can be built and is what its label says; their runs, records, tables and
verdicts.
"""

import math
from dataclasses import replace
from statistics import mean

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from terminator import ConfigError
from terminator.classification import networks, runs, studies
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.studies import FULL
from terminator.data import DatasetNotFound
from terminator.runs import comparison, literature, records
from terminator.runs.study import Contest, Study, run_study, study_records, study_runs, with_further
from terminator.runtime.settings import changed_settings, to_dict

PROFILES = ("smoke", "laptop", "paper")
ANY_PROFILE = pytest.mark.parametrize("profile", PROFILES)


def record(accuracy, seed=0, entropy=1.0):
    results = {
        name: {"accuracy": accuracy, "cross_entropy": entropy}
        for name in ("released", "calibrated")
    }
    return {"results": results, "parameters": 7, "wall_s": 2.0, "images_per_s": 5.0, "seed": seed}


# -- the studies themselves ------------------------------------------------------------------------


def all_studies(profile):
    yield studies.ablations(profile)
    yield studies.parts(profile)
    yield studies.global_mixers(profile)
    for contest in (studies.networks(profile), studies.optimizers(profile)):
        yield contest.sweep()
        yield contest.final({name: rates[0] for name, rates in contest.rates.items()})


@ANY_PROFILE
def test_every_variant_is_possible_and_differs_from_every_other(profile, tiny_data):
    for study in all_studies(profile):
        assert study.seeds
        resolved = [
            CLASSIFICATION.resolve(config, tiny_data()) for config in study.variants.values()
        ]
        assert len({str(config) for config in resolved}) == len(resolved)


def test_every_ablation_is_a_network_that_classifies(tiny_data):
    x = torch.randn(2, 3, 8, 8)
    found = studies.ablations("laptop").variants | studies.parts("laptop").variants
    for label, config in found.items():
        with torch.no_grad():
            logits = networks.build(CLASSIFICATION.resolve(config, tiny_data()))(x)
        assert logits.isfinite().all(), label
        assert logits.shape == (2, 4)


def test_a_variant_changes_what_its_name_says_and_nothing_else():
    study = studies.ablations("laptop")
    base = study.variants[FULL]
    assert len(study.variants) == 1 + len(studies.ablation_kinds()) >= 20
    for label, change in (
        ("without RGUs", {"model": {"rgu": False}}),
        ("without slow neural loss", {"train": {"slow_neural_loss": 0.0}}),
        ("without local 9x9", {"model": {"local_sizes": [3, 0, 5, 7]}}),
        ("affine batch for G-IBS", {"model": {"standardization": "batch_affine"}}),
    ):
        assert changed_settings(study.variants[label], base) == change
    switches = {
        key
        for config in study.variants.values()
        for key in changed_settings(config, base).get("model", {})
    }
    assert switches >= {
        "rgu",
        "hyper_channel_interaction",
        "hyper_interaction",
        "si_glu",
        "skips",
        "local_context",
        "renormalization",
        "trainable_renormalization",
        "standardization",
        "local_sizes",
        "omega_0",
    }
    assert set(studies.ablations("smoke").variants) < set(study.variants)


def test_the_parts_that_seeds_are_to_decide_on_differ_from_the_full_network_in_one_thing():
    study = studies.parts("laptop")
    base = study.variants[FULL].updated(train={"observe": False})
    assert len(study.seeds) >= 3
    assert len(study.variants) == 1 + len(studies.part_kinds()) == 11
    for label, config in study.variants.items():
        changes = changed_settings(config, base)
        found = [key for group in changes.values() for key in group]
        assert len(found) == 1, label


@ANY_PROFILE
def test_a_sweep_never_sees_the_test_images_and_the_final_training_holds_nothing_out(profile):
    for contest in (studies.networks(profile), studies.optimizers(profile)):
        assert contest.candidates.keys() == contest.rates.keys()
        sweep = contest.sweep()
        assert all(config.dataset.held_out > 0 for config in sweep.variants.values())
        assert {len(rates) for rates in contest.rates.values()} == {2 if profile == "smoke" else 3}
        assert all(config.optimizer.lr == rate for (_, rate), config in sweep.variants.items())
        final = contest.final({name: 0.5 for name in contest.candidates})
        assert all(
            (c.dataset.held_out, c.optimizer.lr) == (0, 0.5) for c in final.variants.values()
        )
        assert sweep.experiment != final.experiment


@ANY_PROFILE
def test_precisions_differ_in_nothing_else(profile):
    for (data, kind), config in studies.precision(profile).variants.items():
        assert config.train.precision == kind
        assert (
            config.updated(train={"precision": "bf16"})
            == studies.precision(profile).variants[data, "bf16"]
        )


def test_unknown_profiles():
    for make in (studies.precision, studies.ablations, studies.networks, studies.optimizers):
        with pytest.raises(ConfigError, match="profile is 'huge'; allowed: smoke, laptop, paper"):
            make("huge")


# -- training them ---------------------------------------------------------------------------------


@pytest.fixture
def stripes(tiny_data, monkeypatch):
    """Every data set is the stripes."""
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: tiny_data())


@pytest.mark.slow
def test_runs_and_records_of_a_study(tiny_config, stripes, monkeypatch):
    config = tiny_config(train={"epochs": 1})
    study = Study(
        "study", {"full": config, "no skips": config.updated("model.skips=False")}, (3, 4)
    )
    order, original = [], CLASSIFICATION.run
    monkeypatch.setattr(
        CLASSIFICATION,
        "run",
        lambda config, *rest: (
            order.append((config.model.skips, config.train.seed)),
            original(config, *rest),
        )[1],
    )
    found = run_study(CLASSIFICATION, study, "smoke")
    assert order == [(True, 3), (False, 3), (True, 4), (False, 4)]
    assert {label: [run.record["seed"] for run in runs] for label, runs in found.items()} == {
        "full": [3, 4],
        "no skips": [3, 4],
    }
    assert study_records(CLASSIFICATION, study, "smoke") == {
        label: [run.record for run in runs] for label, runs in found.items()
    }
    assert study_records(CLASSIFICATION, study, "laptop") == {"full": [], "no skips": []}
    assert len(run_study(CLASSIFICATION, study, "smoke", seeds=[5])["full"]) == 1
    order.clear()
    again = run_study(CLASSIFICATION, study, "smoke")  # the fifth counts, and nothing is trained
    assert [run.record["seed"] for run in again["full"]] == [3, 4, 5]
    assert [run.record["seed"] for run in again["no skips"]] == [3, 4, 5]
    assert order == [(True, 3), (False, 3), (True, 4), (False, 4)]
    other = Study("study", {"no RGUs": config.updated("model.rgu=False")}, (3,))
    assert study_records(CLASSIFICATION, other, "smoke") == {"no RGUs": []}


def test_seeds_of_another_machine_or_other_data_do_not_join(tiny_config, stripes, tmp_path):
    config = tiny_config(train={"epochs": 1})
    study = Study("study", {"full": config}, (0,))
    own = CLASSIFICATION.run(config, "study", "smoke")
    here, data = own.record["device"], own.record["data"]
    decoded = {**data, "fingerprint": "0" * 64}  # in other last bits
    other = {**decoded, "mean": [value + 0.1 for value in data["mean"]]}
    for seed, device, of in (
        (1, here, data),
        (2, "another machine", data),
        (3, here, decoded),
        (4, here, other),
    ):
        further = {
            **own.record,
            "seed": seed,
            "device": device,
            "data": of,
            "run_id": f"run-s{seed}",
        }
        further["config"] = config.updated(train={"seed": seed})
        folder = own.folder.with_name(f"run-s{seed}")
        further["config"] = to_dict(further["config"])
        records.write_record(folder / "record.json", further)
    found = with_further(CLASSIFICATION, study, "smoke", {"full": [own]})
    assert [run.record["seed"] for run in found["full"]] == [0, 1, 3]


def test_records_of_a_substitute_count(tiny_config, stripes):
    asked = tiny_config(dataset={"name": "CIFAR10"}, train={"epochs": 1})
    CLASSIFICATION.run(asked.updated(dataset={"name": "cifar10-jpeg"}), "study", "laptop")
    assert (
        len(study_records(CLASSIFICATION, Study("study", {"a": asked}, (0,)), "laptop")["a"]) == 1
    )


def test_a_recorded_original_is_read_where_only_its_substitute_is(
    tiny_config, tiny_data, monkeypatch
):
    def named(name, **_):
        data = tiny_data()
        return replace(data, info=replace(data.info, name=name))

    def asked():
        return [run.config.dataset.name for run in study_runs(CLASSIFICATION, study, "laptop")]

    monkeypatch.setattr(runs, "load", named)
    monkeypatch.setattr(runs.catalogue, "ready", lambda: {"cifar10-jpeg"})
    config = tiny_config(dataset={"name": "CIFAR10"}, train={"epochs": 1})
    study = Study("study", {"a": config}, (0,))
    CLASSIFICATION.run(config.updated(dataset={"name": "cifar10-jpeg"}), "study", "laptop")
    assert asked() == ["cifar10-jpeg"]
    CLASSIFICATION.run(config, "study", "laptop")
    assert asked() == ["CIFAR10"]
    other = config.updated(train={"epochs": 2})  # not recorded: no study of two kinds of data
    study = Study("study", {"a": config, "b": other}, (0,))
    assert asked() == ["cifar10-jpeg"] * 2
    study = Study("study", {"a": config}, (0, 1))
    assert asked() == ["cifar10-jpeg"] * 2


def test_a_variant_that_diverges_is_said_and_left_out(tiny_config, stripes, capsys):
    config = tiny_config(train={"epochs": 1})
    bad = config.updated(optimizer={"name": "SGD", "lr": 1e30})
    found = run_study(CLASSIFICATION, Study("study", {"bad": bad, "good": config}, (0,)), "smoke")
    assert (len(found["bad"]), len(found["good"])) == (0, 1)
    assert "bad, seed 0: the loss is" in capsys.readouterr().out
    table = comparison.difference_table(
        {label: [r.record for r in runs] for label, runs in found.items()}, "good"
    )
    assert math.isnan(table["accuracy"][0])
    assert "bad: every training diverged" in comparison.verdict(table, "good")


def test_other_errors_are_not_swallowed(tiny_config, monkeypatch):
    def gone(*arguments, **options):
        raise DatasetNotFound("nowhere")

    monkeypatch.setattr(runs, "load", gone)
    with pytest.raises(DatasetNotFound):
        run_study(CLASSIFICATION, Study("study", {"a": tiny_config()}, (0,)), "smoke")


# -- tables and verdicts ---------------------------------------------------------------------------


def records_of(*values):
    return [record(value, seed) for seed, value in enumerate(values)]


GROUPS = {
    "full": records_of(90.0, 91.0, 92.0),
    "worse": records_of(70.0, 71.5, 72.0),
    "same": records_of(91.0, 92.0, 91.5),
    "better": records_of(99.0, 98.0, 97.6),
}


def test_difference_table_by_hand():
    table = comparison.difference_table(GROUPS, "full").set_index("variant")
    assert list(table["accuracy"]) == pytest.approx([91.0, 71.1666667, 91.5, 98.2])
    assert list(table["difference"]) == pytest.approx([0.0, -19.8333333, 0.5, 7.2])
    expected = stats.dunnett(
        *(
            [comparison.accuracy_of(r) for r in GROUPS[name]]
            for name in ("worse", "same", "better")
        ),
        control=[90.0, 91.0, 92.0],
        rng=np.random.default_rng(0),
    ).confidence_interval()
    assert list(table["low"][1:]) == pytest.approx(list(expected.low), abs=0.02)
    assert list(table["high"][1:]) == pytest.approx(list(expected.high), abs=0.02)
    assert math.isnan(table["low"]["full"])
    assert list(table["word"]) == ["", "does not hold", "undecided", "holds"]
    assert set(table["test"][1:]) == {"Dunnett over 3 comparisons, 3 against 3 seeds"}
    assert table["verdict"]["same"].startswith("undecided (this study would have seen ")
    assert list(table["compared"][1:]) == [3, 3, 3]
    assert table["compared"].isna()["full"]
    assert comparison.seeds_compared(table) == "n = 3 on one machine"


def test_runs_of_the_reference_on_other_machines_are_left_out_and_said():
    groups = {name: [dict(run, device="here") for run in group] for name, group in GROUPS.items()}
    groups["full"][2]["device"] = groups["same"][1]["device"] = "elsewhere"
    table = comparison.difference_table(groups, "full").set_index("variant")
    assert table["difference"]["better"] == pytest.approx(mean([99.0, 98.0, 97.6]) - 90.5)
    assert "; 1 run on other machines left out" in table["test"]["better"]
    assert "; 2 runs on other machines left out" in table["test"]["same"]
    assert dict(table["compared"].dropna()) == {"worse": 2, "same": 2, "better": 2}
    assert comparison.seeds_compared(table) == "n = 2 on one machine"
    assert comparison.seeds_compared(table.iloc[:0]) == "n = 0 on one machine"


def test_the_verdict_follows_the_table():
    text = comparison.verdict(comparison.difference_table(GROUPS, "full"), "full")
    assert "3 variants against the full (seeds: 3), tests: Dunnett over 3" in text
    assert "  worse: worse (-19.83 points, " in text
    assert "  better: better (+7.20 points, " in text
    assert "  undecided: same (+0.50 points, " in text
    few = comparison.difference_table({name: group[:2] for name, group in GROUPS.items()}, "full")
    said = comparison.verdict(few, "full")
    assert "none with 3 seeds of one machine on both sides: no verdict." in said
    assert "undecided: worse (70.00 and 71.50; 2 seeds, no verdict with fewer than 3)" in said
    assert few["sd"].isna().all()
    assert list(few["values"])[0] == "90.00 and 91.00"
    with pytest.raises(
        ValueError, match="reference is 'whole', which has no runs; allowed: full, worse"
    ):
        comparison.difference_table(GROUPS, "whole")


def test_sameness_is_shown_within_a_margin():
    close = {"float32": records_of(90.0, 91.0, 92.0), "bf16": records_of(90.1, 90.9, 92.1)}
    for run in close["bf16"]:
        run["precision"] = "bf16"
    assert "as accurate within 1 point: holds; bf16 91.0 ± 1.0 against" in comparison.sameness(
        close, "float32"
    )
    assert "undecided" in comparison.sameness(close, "float32", 0.05)
    for gone in (close | {"float32": []}, {}):
        with pytest.raises(ValueError, match="reference is 'float32', of which there is no run"):
            comparison.sameness(gone, "float32")


def test_rates_are_chosen_by_held_out_accuracy_then_cross_entropy():
    sweep = {
        ("a", 0.1): [record(50.0)],
        ("a", 0.2): [record(60.0)],
        ("a", 0.3): [record(55.0)],
        ("b", 0.1): [record(70.0, entropy=0.9)],
        ("b", 0.2): [record(70.0, entropy=0.5)],
        ("b", 0.3): [],
        ("c", 0.1): [record(10.0)],
    }
    table = comparison.rate_table(sweep)
    assert comparison.ranked_rates(table) == {"a": [0.2, 0.3, 0.1], "b": [0.2, 0.1], "c": [0.1]}
    assert not table["at_edge"].any()
    edge = comparison.rate_table({("a", 0.1): [record(80.0)], ("a", 0.2): [record(60.0)]})
    assert list(edge["at_edge"]) == [True, False]
    with pytest.raises(ValueError, match="every rate diverged for a"):
        comparison.rate_table({("a", 0.1): [], ("b", 0.1): [record(1.0)]})


def test_the_ranking_says_when_it_may_be_chance():
    text = comparison.ranking(GROUPS)
    assert text.splitlines()[0] == "better: 98.20 ± 0.72 %"
    assert "better ahead of same: undecided (Bonferroni over 6 pairs); " in text
    two = {name: GROUPS[name] for name in ("better", "same")}
    assert "better ahead of same: holds (Bonferroni over 1 pairs)" in comparison.ranking(two)
    close = {"x": records_of(90.0, 94.0, 92.0), "y": records_of(91.0, 94.0, 92.5)}
    assert "y ahead of x: undecided (this study would have" in comparison.ranking(close)
    ahead = {"a": records_of(90.0, 90.1, 90.2), "b": records_of(85.0, 85.1, 85.3)}
    ahead["b"] += [dict(run, device="elsewhere") for run in records_of(99.0, 99.0, 99.0, 99.0)]
    said = comparison.ranking(ahead)  # the order is of all runs, the test of one machine
    assert "b ahead of a: does not hold (Bonferroni over 1 pairs); b 85.1 ± 0.2 against" in said
    one = comparison.ranking({"x": [record(1.0)], "y": [record(2.0)]})
    assert one.endswith("one seed, no verdict with fewer than 3")


def test_epochs_to_nothing():
    assert comparison.epochs_to({"diverged": []}).empty


def test_epochs_to_a_share_of_the_best():
    def curve(*values):
        return pd.DataFrame({"epoch": range(1, len(values) + 1), "test_accuracy": values})

    table = comparison.epochs_to(
        {
            "fast": [curve(80.0, 95.0, 100.0), curve(84.0, 99.0, 100.0)],
            "slow": [curve(10.0, 20.0, 95.0)],
            "never": [curve(1.0, 2.0, 3.0)],
        }
    )
    assert list(table["target"]) == [90.0] * 3
    assert list(table["epoch"].astype(object).where(table["epoch"].notna(), None)) == [2, 3, None]


def test_released_logs_are_per_epoch_and_agree_with_the_literature():
    logs = literature.released_logs()
    assert list(logs.groupby("dataset").size()) == [100, 100]
    assert logs["test_accuracy"].between(15, 96).all()
    for row in literature.literature("images").query("kind == 'released log'").itertuples():
        at = logs[(logs["dataset"] == row.dataset) & (logs["epoch"] == row.epoch)]
        assert at["test_accuracy"].item() == pytest.approx(row.value, abs=0.006)


def test_contests_put_the_rate_last():
    contest = Contest(
        "c", Config(), {"a": {"optimizer": {"name": "SGD", "lr": 7.0}}}, {"a": (0.1,)}, {}, (0,)
    )
    assert contest.final({"a": 0.2}).variants["a"].optimizer.lr == 0.2
