"""Verdicts on the papers' claims are computed from records."""

import copy
import dataclasses
import re

import pytest
from places import ROOT

from terminator.classification import verdicts
from terminator.classification.runs import CLASSIFICATION
from terminator.hypertransformer import claims as hypertransformer
from terminator.hypertransformer.fewshot.presets import preset, study
from terminator.report import claims
from terminator.runs import literature
from terminator.runs.comparison import HOLDS, NOT, NOT_RUN, PARTLY, UNSETTLED, WORDS
from terminator.runtime.settings import to_dict


@pytest.fixture
def record(tiny_config, tiny_data):
    return CLASSIFICATION.run(tiny_config("train.epochs=1"), "images", data=tiny_data()).record


def like(record, accuracy, calibrated=None, seed=0, **settings):
    """A record with another accuracy, another seed and other settings ("optimizer.name": value)."""
    made = copy.deepcopy(record)
    made["seed"] = made["config"]["train"]["seed"] = seed
    made["results"] = {
        "released": {"accuracy": accuracy},
        "calibrated": {"accuracy": calibrated or accuracy},
    }
    for key, value in settings.items():
        group, name = key.split("__")
        made["config"][group][name] = value
    return made


def seeds(record, *accuracies, **settings):
    return [like(record, value, seed=seed, **settings) for seed, value in enumerate(accuracies)]


@pytest.mark.parametrize(
    ("accuracy", "word"),
    [(95.0, HOLDS), (94.6, HOLDS), (94.4, PARTLY), (93.1, PARTLY), (92.0, NOT)],
)
def test_a_published_number(record, accuracy, word):
    verdict = verdicts.reaches(95.0, "stripes", 1)
    found = verdict(seeds(record, accuracy, accuracy))
    assert found.word == word
    assert f"{accuracy:.2f} ± 0.00 % against 95 %, 2 seeds, smoke" in found.evidence
    assert verdict(seeds(record, accuracy)).word == UNSETTLED  # one seed settles nothing
    assert (
        verdict([like(record, accuracy), like(record, accuracy)]).word == UNSETTLED
    )  # nor does one seed twice
    assert verdicts.reaches(95.0, "CIFAR10", 1)([record]).word == NOT_RUN
    assert verdicts.reaches(95.0, "stripes", 2)([record]).word == NOT_RUN
    assert verdicts.reaches(95.0, "stripes", 1, profile="paper")([record]).word == NOT_RUN
    assert verdicts.reaches(95.0, "stripes", 1, experiment="ablations")([record]).word == NOT_RUN


def test_settings_are_not_pooled_for_a_published_number(record):
    verdict = verdicts.reaches(95.0, "stripes", 1)
    found = verdict(seeds(record, 95.0, 95.2, 95.1) + seeds(record, 20.0, 21.0, optimizer__lr=0.5))
    assert found.word == HOLDS
    assert "3 seeds" in found.evidence


def test_an_epoch_on_the_way(record):
    runs = seeds(record, 99.0, 99.0)
    for run in runs:
        run["epochs"] = [{"epoch": 1, "test_accuracy": 50.0}, {"epoch": 2, "test_accuracy": 99.0}]
    assert verdicts.reaches(95.0, "stripes", 1, at=1)(runs).word == NOT
    assert verdicts.reaches(95.0, "stripes", 1, at=2)(runs).word == HOLDS


def test_a_comparison_needs_pairs_that_differ_in_nothing_else(record):
    verdict = verdicts.better_with("optimizer.name", "Kar3", "AdamW")

    def runs(name, *values, **settings):
        return seeds(record, *values, optimizer__name=name, **settings)

    assert verdict(runs("Kar3", 90, 91)).word == NOT_RUN
    assert verdict(runs("Kar3", 90, 91) + runs("AdamW", 80, 81)).word == HOLDS
    assert "1 epochs, smoke)" in verdict(runs("Kar3", 90, 91) + runs("AdamW", 80, 81)).evidence
    assert verdict(runs("Kar3", 90) + runs("AdamW", 80)).word == NOT_RUN  # one seed is no evidence
    assert (
        verdict(runs("Kar3", 90) * 2 + runs("AdamW", 80) * 2).word == NOT_RUN
    )  # nor is one seed twice
    assert verdict(runs("Kar3", 90, 91) + runs("AdamW", 90, 91)).word == UNSETTLED
    assert verdict(runs("Kar3", 80, 81) + runs("AdamW", 90, 91)).word == NOT
    assert verdict(runs("Kar3", 90, 91) + runs("AdamW", 80, 81, optimizer__lr=0.5)).word == NOT_RUN
    other = {"train__epochs": 7}
    mixed = runs("Kar3", 90, 91) + runs("AdamW", 80, 81)
    mixed += runs("Kar3", 70, 71, **other) + runs("AdamW", 80, 81, **other)
    assert verdict(mixed).word == PARTLY
    tuned = verdicts.better_with(
        "optimizer.name", "Kar3", "AdamW", free="optimizer"
    )  # each with its best setting
    sweep = runs("AdamW", 80, 81) + runs("AdamW", 95, 96, optimizer__lr=0.5)
    assert tuned(runs("Kar3", 90, 91, optimizer__l2_reg=0.0) + sweep).word == NOT


def test_calibration(record):
    verdict = verdicts.keeps_accuracy_when_calibrated

    def runs(calibrated):
        return [like(record, 90, calibrated, seed=seed) for seed in (0, 1)]

    assert verdict(runs(90.2)).word == HOLDS
    assert verdict(runs(80)).word == NOT
    assert verdict(runs(90.2)[:1]).word == NOT_RUN
    assert verdict([]).word == NOT_RUN


def test_sequences_beside_a_published_model(record):
    verdict = verdicts.sequences_reach(
        {"sMNIST": ("MNIST", "sequence"), "pMNIST": ("MNIST", "permuted")}, "S4"
    )

    def runs(*values, view="sequence", operator="matrix", profile="paper"):
        made = seeds(
            record, *values, dataset__name="MNIST", dataset__view=view, model__operator=operator
        )
        return [run | {"experiment": "sequences", "profile": profile} for run in made]

    assert (
        verdict(runs(99.6, 99.6, profile="laptop")).word == NOT_RUN
    )  # reduced size is another experiment
    assert verdict(runs(99.6, 99.6)).word == UNSETTLED  # nothing on pMNIST
    both = runs(99.6, 99.6) + runs(60.0, 60.0, operator="convolution")
    assert (
        verdict(both + runs(98.7, 98.6, view="permuted")).word == HOLDS
    )  # the better reading counts
    assert verdict(both + runs(80.0, 80.0, view="permuted")).word == PARTLY
    assert verdict(runs(60.0, 60.0) + runs(80.0, 80.0, view="permuted")).word == NOT


def test_features_of_watched_trainings(tiny_config, tiny_data):
    verdict = verdicts.features_keep_mean_zero
    runs = [
        CLASSIFICATION.run(
            tiny_config("train.epochs=1", f"train.seed={seed}", "train.observe=True"),
            "inside",
            data=tiny_data(),
        ).record
        for seed in (0, 1)
    ]
    found = verdict(runs)
    assert found.word in (HOLDS, PARTLY, NOT)
    assert "largest |mean| in deviations: " in found.evidence
    assert verdict(runs[:1]).word == NOT_RUN


def few_shot(config, profile="laptop", seed=0, **test):
    """A few-shot record of these settings with an invented result."""
    config = dataclasses.replace(
        config.resolved(1, 242), train=dataclasses.replace(config.train, seed=seed)
    )
    return {
        "run_id": f"{id(config)}-{seed}",
        "experiment": "fewshot",
        "task": "few-shot",
        "profile": profile,
        "seed": seed,
        "config": to_dict(config),
        "finished": str(seed),
        "results": {"test": test},
    }


def test_contrasts_of_few_shot_records():
    text = "generating all layers beats generating the logits layer alone"
    verdict = hypertransformer.contrast(text)
    labels = study("methods", "laptop")
    runs = [
        few_shot(labels[f"5-way, {kind}"], seed=seed, accuracy=base + seed, interval=1.0)
        for kind, base in (("all layers", 60.0), ("logits only", 50.0))
        for seed in (0, 1)
    ]
    assert verdict([]).word == NOT_RUN
    assert verdict(runs).word == HOLDS
    assert "2 seeds, laptop" in verdict(runs).evidence
    assert verdict(runs[::2]).word == UNSETTLED
    assert verdict(runs[:2]).word == NOT_RUN
    number = hypertransformer.reaches(87.2, "omniglot-20way-1shot")
    paper = [
        few_shot(preset("omniglot-20way-1shot"), "paper", seed, accuracy=87.0, interval=1.0)
        for seed in (0, 1)
    ]
    assert number(runs).word == NOT_RUN
    assert number(paper).word == HOLDS
    assert number(paper[:1]).word == UNSETTLED


def test_every_claim_is_complete_and_names_a_notebook():
    assert len({(claim.system, claim.text) for claim in claims.CLAIMS}) == len(claims.CLAIMS)
    for claim in claims.CLAIMS:
        assert claim.system
        assert claim.source
        assert claim.settles
        assert (ROOT / "notebooks" / f"{claim.notebook}.ipynb").is_file()
        assert claim.verdict([]).word == NOT_RUN  # without records nothing is claimed


def test_published_numbers_are_those_of_the_literature_file(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    known = set(literature.literature()["value"])
    numbers = [float(n) for claim in claims.CLAIMS for n in re.findall(r"(\d+\.\d+) %", claim.text)]
    assert numbers
    assert set(numbers) <= known


def test_the_committed_page_is_made_from_the_records(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    assert (ROOT / "results" / "REPRODUCIBILITY.md").read_text(encoding="utf8") == claims.page()
    rows = claims.claims_table(claims.evidence())
    assert {row["verdict"] for row in rows} <= set(WORDS)


def test_an_empty_folder_gives_a_page_of_nothing_run():
    text = claims.page()
    assert f"not run: {len(claims.CLAIMS)}" in text
    assert "0 runs of 0 settings" in text
