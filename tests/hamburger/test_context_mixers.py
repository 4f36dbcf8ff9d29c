"""Every mixer on the context task: the rates that were chosen, the best answers there can be, the
claims.
"""

import pytest
from places import ROOT

from terminator.hamburger.segmentation import mixers, report
from terminator.hamburger.segmentation.presets import (
    CONTEXT_SEEDS,
    LINEAR,
    MATRIX,
    MEAN,
    MIXER_RATES,
    mixer_arms,
)
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.runs.claims import finished
from terminator.runs.power import announced
from terminator.runs.records import evidence


def test_arms_differ_in_their_context_and_rate_alone():
    for profile in ("smoke", "laptop", "paper"):
        arms = mixer_arms(profile)
        assert {LINEAR, MATRIX, MEAN} <= set(arms) <= set(MIXER_RATES)
        one = next(iter(arms.values()))
        for label, config in arms.items():
            assert config.optimizer.lr == MIXER_RATES[label]
            same = config.updated(
                model={"context": "linear", "context_size": None, "pooling_width": None},
                optimizer={"lr": one.optimizer.lr},
            )
            assert same == one.updated(model={"context": "linear"})
    assert len(CONTEXT_SEEDS["laptop"]) >= 5


@pytest.fixture
def published(monkeypatch):
    """The records that are committed."""
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))


@pytest.mark.usefixtures("published")
def test_the_rate_of_every_mixer_is_the_one_that_was_best_on_validation_pictures():
    table = mixers.rate_table("laptop")
    assert list(table.index) == list(MIXER_RATES)
    for label, row in table.iterrows():
        assert row.idxmax() == MIXER_RATES[label], label


def test_arms_that_all_diverged_leave_no_rows():
    one = report.table({"a": []})
    assert list(one.index) == []
    assert all(table.empty for table in report.class_tables({"a": []}))
    assert report.learning({"a": []}) == {}
    assert mixers.announced("laptop", {}).startswith("0 seeds of both arms: no verdict")


@pytest.mark.usefixtures("published")
def test_the_best_answers_bracket_what_was_reached():
    single, knowing = mixers.bounds().values()
    assert 37 < single < 38
    assert 63 < knowing < 64
    found = finished(SEGMENTATION, mixer_arms("laptop"), evidence(SEGMENTATION.task), "laptop")
    assert len(found[LINEAR]) >= 5
    for label, runs in found.items():
        for run in runs:
            assert run.miou() < (single if label == LINEAR else knowing) + 0.3, label


def test_what_a_study_can_show_is_said_with_its_seeds():
    text = announced(5, 0.5, "of something", comparisons=10)
    assert text.startswith("5 pairs of seeds, with a standard deviation of 0.50 points")
    assert "10 comparisons" in text
    less = float(announced(5, 0.5, "").split("show ")[1].split()[0])
    assert less < float(text.split("show ")[1].split()[0])


def test_claims_are_judged_by_pairs_of_seeds(monkeypatch):
    def run(seed, miou):
        record = {
            "seed": seed,
            "device": "here, 1 threads",
            "wall_s": 1.0,
            "data": {"name": "context", "classes": list("abcdefgh")},
            "results": {"test": {"miou": miou}, "val": {"miou": miou}},
        }
        return type("Run", (), {"record": record})()

    sides = {LINEAR: 37.0, MATRIX: 45.0, MEAN: 60.0}
    found = {
        label: [run(seed, value + 0.1 * seed * (label != MEAN)) for seed in range(5)]
        for label, value in sides.items()
    }
    table = mixers.claims(found)
    assert list(table["verdict"]) == ["holds", "does not hold"]
    near = (37.2, 36.9, 37.4, 37.1, 37.5)
    found[MATRIX] = [run(seed, value) for seed, value in enumerate(near)]
    assert list(mixers.claims(found)["verdict"]) == ["not learned", "does not hold"]
