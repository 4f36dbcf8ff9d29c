"""Verdicts on the papers' claims are computed from records."""

import copy
import re
from pathlib import Path

import pytest

from terminator import claims, experiments, records
from terminator.claims import HOLDS, NOT, NOT_RUN, PARTLY

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def record(tiny_config, tiny_data):
    return experiments.run(tiny_config("train.epochs=1"), "faults", data=tiny_data()).record


def like(record, accuracy, calibrated=None, **settings):
    """A record with another accuracy and other settings ("optimizer.name": value)."""
    made = copy.deepcopy(record)
    made["results"] = {"released": {"accuracy": accuracy}, "calibrated": {"accuracy": calibrated or accuracy}}
    for key, value in settings.items():
        group, name = key.split("__")
        made["config"][group][name] = value
    return made


@pytest.mark.parametrize(("accuracy", "word"), [(95.0, HOLDS), (94.6, HOLDS), (94.4, PARTLY), (93.1, PARTLY),
                                                (92.0, NOT)])
def test_a_published_number(record, accuracy, word):
    verdict = claims.reaches(95.0, "stripes", 1)
    found = verdict([like(record, accuracy), like(record, accuracy)])
    assert found.word == word
    assert f"{accuracy:.2f} ± 0.00 % against 95.0 %, 2 runs, smoke" in found.evidence
    assert claims.reaches(95.0, "CIFAR10", 1)([record]).word == NOT_RUN
    assert claims.reaches(95.0, "stripes", 2)([record]).word == NOT_RUN
    assert claims.reaches(95.0, "stripes", 1, profile="paper")([record]).word == NOT_RUN


def test_a_comparison_needs_pairs_that_differ_in_nothing_else(record):
    verdict = claims.better_with("optimizer.name", "Kar3", "AdamW")

    def runs(name, *values, **settings):
        return [like(record, value, optimizer__name=name, train__seed=seed, **settings)
                for seed, value in enumerate(values)]

    assert verdict(runs("Kar3", 90, 91)).word == NOT_RUN
    assert verdict(runs("Kar3", 90, 91) + runs("AdamW", 80, 81)).word == HOLDS
    assert "1 epochs, smoke)" in verdict(runs("Kar3", 90, 91) + runs("AdamW", 80, 81)).evidence
    assert verdict(runs("Kar3", 90) + runs("AdamW", 80)).word == NOT_RUN  # one seed is no evidence
    assert verdict(runs("Kar3", 90, 91) + runs("AdamW", 90, 91)).word == NOT
    assert verdict(runs("Kar3", 90, 91) + runs("AdamW", 80, 81, optimizer__lr=0.5)).word == NOT_RUN
    other = {"train__epochs": 7}
    mixed = runs("Kar3", 90, 91) + runs("AdamW", 80, 81)
    mixed += runs("Kar3", 70, 71, **other) + runs("AdamW", 80, 81, **other)
    assert verdict(mixed).word == PARTLY
    tuned = claims.better_with("optimizer.name", "Kar3", "AdamW", free="optimizer")  # each with its best setting
    sweep = runs("AdamW", 80, 81) + runs("AdamW", 95, 96, optimizer__lr=0.5)
    assert tuned(runs("Kar3", 90, 91, optimizer__l2_reg=0.0) + sweep).word == NOT


def test_calibration(record):
    verdict = claims.keeps_accuracy_when_calibrated
    assert verdict([like(record, 90, 90.2)]).word == HOLDS
    assert verdict([like(record, 90, 80)]).word == NOT
    assert verdict([]).word == NOT_RUN


def test_every_claim_is_complete_and_names_a_notebook():
    assert len({claim.text for claim in claims.CLAIMS}) == len(claims.CLAIMS)
    for claim in claims.CLAIMS:
        assert claim.system
        assert claim.source
        assert claim.settles
        assert claim.notebook[:2].isdigit()
        assert claim.verdict([]).word == NOT_RUN  # without records nothing is claimed


def test_published_numbers_are_those_of_the_literature_file(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    known = set(records.literature()["value"])
    numbers = [float(n) for claim in claims.CLAIMS for n in re.findall(r"(\d+\.\d+) %", claim.text)]
    assert numbers
    assert set(numbers) <= known


def test_the_committed_page_is_made_from_the_records(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    assert (ROOT / "results" / "REPRODUCIBILITY.md").read_text(encoding="utf8") == claims.page()
    rows = claims.claims_table(records.evidence())
    assert {row["verdict"] for row in rows} <= {HOLDS, PARTLY, NOT, NOT_RUN}


def test_an_empty_folder_gives_a_page_of_nothing_run():
    text = claims.page()
    assert f"not run: {len(claims.CLAIMS)}" in text
    assert "0 runs of 0 settings" in text
