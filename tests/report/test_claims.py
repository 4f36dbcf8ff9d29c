"""Verdicts on the papers' claims are computed from records."""

import copy
import dataclasses
import re

import pandas as pd
import pytest
from places import ROOT

from terminator.classification import studies, verdicts, verdicts_inside
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION
from terminator.hypertransformer import claims as hypertransformer
from terminator.hypertransformer.fewshot.presets import preset, study
from terminator.report import claims
from terminator.runs import comparison, literature, records
from terminator.runs.claims import Verdict, judged, measured
from terminator.runs.outcomes import HOLDS, NOT, NOT_LEARNED, NOT_RUN, SAME, UNDECIDED
from terminator.runtime.settings import to_dict


@pytest.fixture
def record(tiny_config, tiny_data, trained_once):
    return trained_once(tiny_config("train.epochs=1"), tiny_data(), "images").record


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
    ("accuracies", "word"),
    [
        ((95.0, 95.1, 94.9), HOLDS),
        ((94.9, 95.0, 95.0), HOLDS),
        ((94.0, 95.0, 96.0), UNDECIDED),  # the interval says no more
        ((92.0, 92.1, 92.2), NOT),
    ],
)
def test_a_published_number(record, accuracies, word):
    verdict = verdicts.reaches(95.0, "stripes", 1)
    found = verdict(seeds(record, *accuracies))
    assert found.word == word
    assert "ours (3 seeds, smoke) 9" in found.evidence
    assert "against the published 95.00" in found.evidence
    few = verdict(seeds(record, *accuracies[:2]))
    assert few.word == UNDECIDED  # two seeds settle nothing
    assert f"{accuracies[0]:.2f} and {accuracies[1]:.2f} against" in few.evidence
    assert verdict([like(record, 95.0) for _ in range(3)]).word == UNDECIDED  # one seed thrice
    assert verdicts.reaches(95.0, "CIFAR10", 1)([record]).word == NOT_RUN
    assert verdicts.reaches(95.0, "stripes", 2)([record]).word == NOT_RUN
    assert verdicts.reaches(95.0, "stripes", 1, profile="paper")([record]).word == NOT_RUN
    assert verdicts.reaches(95.0, "stripes", 1, experiment="ablations")([record]).word == NOT_RUN


@pytest.mark.parametrize(
    "note",
    [
        "1000 of 60000 train images",
        "resized from 28 to 12 pixels",
        "lossy JPEG copy of CIFAR-10",
        "tested on 9 held-out training images, not on test images",
    ],
)
def test_other_data_are_not_the_published_setting(record, note):
    runs = seeds(record, 95.0, 95.1, 95.2)
    for run in runs:
        run["data"] = run["data"] | {"notes": [note]}
    found = verdicts.reaches(95.0, "stripes", 1)(runs)
    assert found.word == NOT_RUN
    assert f"not the published setting: {record['data']['title']}, {note}, 1 epochs" in (
        found.evidence
    )


def test_settings_are_not_pooled_for_a_published_number(record):
    verdict = verdicts.reaches(95.0, "stripes", 1)
    found = verdict(
        seeds(record, 95.0, 95.2, 95.1, 95.0) + seeds(record, 20.0, 21.0, 22.0, optimizer__lr=0.5)
    )
    assert found.word == HOLDS
    assert "4 seeds" in found.evidence


def test_only_the_published_settings_count_however_they_are_computed(record):
    asked = records.config_of(record, Config)
    verdict = verdicts.reaches(95.0, "stripes", 1, setting=asked)
    high = (95.0, 95.2, 95.1)
    assert verdict(seeds(record, *high)).word == HOLDS
    assert verdict(seeds(record, *high, train__precision="bf16")).word == HOLDS
    for other in ({"optimizer__lr": 0.5}, {"optimizer__name": "AdamW"}, {"model__rgu": False}):
        assert verdict(seeds(record, *high, **other)).word == NOT_RUN


def test_an_epoch_on_the_way(record):
    runs = seeds(record, 99.0, 99.0, 99.0)
    for run in runs:
        run["epochs"] = [{"epoch": 1, "test_accuracy": 50.0}, {"epoch": 2, "test_accuracy": 99.0}]
    assert verdicts.reaches(95.0, "stripes", 1, at=1)(runs).word == NOT
    assert verdicts.reaches(95.0, "stripes", 1, at=2)(runs).word == HOLDS


def test_a_comparison_needs_runs_that_differ_in_nothing_else(record):
    verdict = verdicts.better_with("optimizer.name", "Kar3", "AdamW")

    def runs(name, *values, **settings):
        return seeds(record, *values, optimizer__name=name, **settings)

    high, low = (70.0, 71.0, 72.0), (60.0, 61.0, 62.4)
    assert verdict(runs("Kar3", *high)).word == NOT_RUN
    found = verdict(runs("Kar3", *high) + runs("AdamW", *low))
    assert found.word == HOLDS
    assert "1 epochs, smoke, 3 blocks, 12,717 parameters)" in found.evidence
    assert "Kar3 71.0 ± 1.0 against AdamW 61.1 ± 1.2" in found.evidence
    assert verdict(runs("Kar3", *high[:2]) + runs("AdamW", *low[:2])).word == UNDECIDED
    assert verdict(runs("Kar3", 70) * 3 + runs("AdamW", 60) * 3).word == UNDECIDED  # one seed
    assert verdict(runs("Kar3", 60, 71, 80) + runs("AdamW", 65, 79, 61)).word == UNDECIDED
    assert verdict(runs("Kar3", *low) + runs("AdamW", *high)).word == NOT
    poor = runs("Kar3", 25.0, 25.1, 24.9) + runs("AdamW", 20.0, 20.1, 20.0)
    assert verdict(poor).word == NOT_LEARNED  # of four classes
    assert verdict(runs("Kar3", *high) + runs("AdamW", *low, optimizer__lr=0.5)).word == NOT_RUN
    other = {"train__epochs": 7}
    mixed = runs("Kar3", *high) + runs("AdamW", *low)
    against = runs("Kar3", *low, **other) + runs("AdamW", *high, **other)
    assert verdict(mixed + against).word == NOT  # it is claimed of every place
    few = runs("Kar3", 60, **other) + runs("AdamW", 70, **other)
    assert verdict(mixed + few).word == HOLDS  # told, without a say
    assert "no verdict with fewer than 3" in verdict(mixed + few).evidence


def test_each_candidate_has_a_rate_of_its_own_that_test_images_do_not_choose(record):
    contest = studies.optimizers("laptop")
    first = {name: rates[0] for name, rates in contest.rates.items()}

    def of(name, rate, *values, loss=1.0):
        made = []
        for seed, value in enumerate(values):
            run = like(record, value, seed=seed) | {"experiment": "optimizers", "profile": "laptop"}
            config = contest.final({**first, name: rate}).variants[name]
            run["config"] = to_dict(config.updated(train={"seed": seed}))
            run["epochs"] = [run["epochs"][-1] | {"loss": loss}]
            made.append(run)
        return made

    wins = verdicts.wins(studies.optimizers, "Kar3", "AdamW")
    ours = of("Kar3", 0.0012, 70.0, 71.0, 72.0)
    poor = of("AdamW", 0.003, 60.0, 61.0, 62.4)
    lucky = of("AdamW", 0.01, 90.0, 91.0, 92.4, loss=99.0)
    found = wins(ours + poor + lucky)
    assert (found.word, "1 epochs, laptop)" in found.evidence) == (HOLDS, False)
    assert "3 epochs, laptop)" in found.evidence
    assert "Kar3 at rate 0.0012; AdamW at rate 0.003" in found.evidence
    assert "AdamW at rate 0.01, the highest tried" in wins(ours + lucky).evidence
    assert wins(ours + of("AdamW", 0.003, 60.0, 61.0, 62.4, loss=999.0) + lucky).word == NOT
    longer = of("AdamW", 0.003, 60.0, 61.0, 62.4, 61.5, loss=999.0)
    assert wins(ours + longer + lucky).word == HOLDS  # most seeds first
    sweep = [run | {"experiment": "optimizers-rates"} for run in ours + lucky]
    assert wins(sweep).word == NOT_RUN  # they chose a rate
    assert wins(ours).word == NOT_RUN


def test_parts_are_judged_as_the_table_of_ablations_is(record):
    study = studies.ablations("laptop")

    def of(label, *values):
        made = []
        for seed, value in enumerate(values):
            run = like(record, value, seed=seed) | {"experiment": "ablations", "profile": "laptop"}
            run["config"] = to_dict(study.variants[label].updated(train={"seed": seed}))
            made.append(run)
        return made

    groups = {
        studies.FULL: of(studies.FULL, 70.0, 71.0, 72.0),
        "without RGUs": of("without RGUs", 60.0, 61.5, 62.0),
        "batch for G-IBS": of("batch for G-IBS", 70.5, 71.5, 71.0),
    }
    found = sum(groups.values(), [])
    helps = verdicts.better_with("model.rgu", True, False)(found)
    assert helps.word == HOLDS
    assert "full network 71.0 ± 1.0 against without RGUs 61.2 ± 1.0" in helps.evidence
    assert "Dunnett over 2 comparisons, 3 against 3 seeds" in helps.evidence
    table = comparison.difference_table(groups, studies.FULL).set_index("variant")
    assert table["word"]["without RGUs"] == NOT  # of being better than the full network
    assert (
        verdicts.better_with("model.standardization", "g_ibs", "batch")(found).word
        == (table["word"]["batch for G-IBS"])
    )


def test_calibration(record):
    verdict = verdicts.keeps_accuracy_when_calibrated

    def runs(calibrated):
        return [like(record, 90 + seed, calibrated + seed, seed=seed) for seed in (0, 1, 2)]

    assert verdict(runs(90.2)).word == HOLDS
    assert verdict(runs(80)).word == NOT
    assert verdict(runs(90.2)[:2]).word == UNDECIDED
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

    good, bad = (99.6, 99.7, 99.6), (60.0, 60.1, 60.2)
    laptop = verdict(runs(*good, profile="laptop"))
    assert laptop.word == NOT_RUN  # reduced size is another experiment
    assert verdict(runs(*good)).word == UNDECIDED  # nothing on pMNIST
    both = runs(*good) + runs(*bad, operator="convolution")
    permuted = runs(98.7, 98.6, 98.8, view="permuted")
    assert verdict(both + permuted).word == HOLDS  # the better reading counts
    assert verdict(both + runs(*bad, view="permuted")).word == NOT  # and the worst task
    assert verdict(runs(*bad) + runs(*bad, view="permuted")).word == NOT


@pytest.fixture
def watched(tiny_config, tiny_data):
    return [
        CLASSIFICATION.run(
            tiny_config("train.epochs=1", f"train.seed={seed}", "train.observe=True"),
            "inside",
            data=tiny_data(),
        ).record
        for seed in (0, 1, 2)
    ]


def test_features_of_watched_trainings(watched):
    verdict = verdicts_inside.features_keep_mean_zero
    found = verdict(watched)
    assert found.word in (HOLDS, UNDECIDED, NOT)
    assert "largest |mean| of an output " in found.evidence
    assert verdict(watched[:2]).word == UNDECIDED
    assert verdict([]).word == NOT_RUN


def test_slow_scores_of_watched_trainings(watched, monkeypatch):
    verdict = verdicts_inside.scores_single_out_the_object

    def rows(shift):
        def seen(record):
            at = {"quantity": "auroc", "epoch": 1, "block": 2, "network": "Terminator"}
            dense, noise = {**at, "quantity": "concentration"}, 0.01 * record["seed"]
            return pd.DataFrame(
                [
                    at | {"part": "slow score", "value": 0.7 + shift + noise},
                    at | {"part": "input", "value": 0.7 + 1.1 * noise},
                    # block 1 sees the picture that tells where the object is
                    at | {"part": "input", "value": 1.0, "block": 1},
                    dense | {"part": "slow score", "value": 1.5},
                    dense | {"part": "input", "value": 1.25},
                ]
            ).assign(seed=record["seed"])

        return seen

    for shift, word in ((0.1, HOLDS), (-0.1, NOT), (0.0, SAME)):
        monkeypatch.setattr(verdicts_inside, "_seen", rows(shift))
        assert verdict(watched).word == word
        assert "concentration 1.50 against 1.25" in verdict(watched).evidence
        assert verdict(watched[:2]).word == UNDECIDED
    monkeypatch.setattr(verdicts_inside, "_seen", lambda record: pd.DataFrame({"quantity": ["sd"]}))
    assert verdict(watched).word == NOT_RUN  # nothing says what the object is


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
        few_shot(labels[f"5-way, {kind}"], seed=seed, accuracy=base + 1.1 * seed)
        for kind, base in (("all layers", 60.0), ("logits only", 50.0))
        for seed in (0, 1, 2)
    ]
    assert verdict([]).word == NOT_RUN
    assert verdict(runs).word == HOLDS
    assert "3 seeds) (5-way), laptop" in verdict(runs).evidence
    assert verdict(runs[:2] + runs[3:5]).word == UNDECIDED
    assert verdict(runs[:3]).word == NOT_RUN
    number = hypertransformer.reaches(87.2, "omniglot-20way-1shot")
    paper = [
        few_shot(preset("omniglot-20way-1shot"), "paper", seed, accuracy=87.0 + seed / 10)
        for seed in (0, 1, 2)
    ]
    assert number(runs).word == NOT_RUN
    assert number(paper).word == HOLDS
    assert number(paper[:2]).word == UNDECIDED


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


def test_the_page_opens_with_ten_lines(monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(ROOT / "results"))
    texts = [claim.text for claim in claims.CLAIMS]
    for question, beginnings in claims.QUESTIONS:
        for beginning in beginnings:
            assert any(text.startswith(beginning) for text in texts), (question, beginning)
    rows = [{"claim": text, "verdict": NOT_RUN, "evidence": "none"} for text in texts]
    lines = claims.answers(rows)
    assert len(lines) == 10
    assert lines[2] == "3. **Does the slow neural loss help?** not run. none"
    assert lines[0].startswith(
        "1. **Does the global operator help?** not run: “the global operator"
    )
    assert lines[4].count("not run") == 1  # several claims with one verdict


def test_repeated_data_are_told_once():
    sizes = [("MNIST", "10 to train"), ("MNIST", "20 to train"), ("MNIST", "10 to train")]
    assert claims._collapsed(sizes) == "MNIST: 10 to train or 20 to train"
    notes = {"1000 of 60000 train images", "200 of 60000 train images", "cut to 64 tokens"}
    assert claims._notes(notes | {"cut to 128 tokens", "generated"}) == (
        "200, 1000 of 60000 train images; cut to 64, 128 tokens; generated"
    )


def test_an_empty_folder_gives_a_page_of_nothing_run():
    text = claims.page(claims.judged())
    counts = re.findall(r"\((\d+)\): holds 0, .* not run (\d+)\.", text)
    assert all(of == count for of, count in counts)
    assert sum(int(count) for count, _ in counts) == len(claims.CLAIMS)
    assert "0 runs of 0 settings" in text


def test_a_measurement_speaks_in_the_first_profile_that_has_one():
    there = {"laptop": 3.0}
    verdict = measured(there.get, lambda value: judged(value > 2, f"{value:.1f}"))
    assert verdict([]) == Verdict("holds", "3.0, laptop")
    there["paper"] = 1.0
    assert verdict([]).word == "does not hold"
    assert measured({}.get, lambda value: judged(True, ""))([]).word == NOT_RUN
    assert judged(None, "0.0", "a longer one") == Verdict(
        "undecided", "0.0", settles="a longer one"
    )


@pytest.mark.parametrize("table", ["hamburger_claims", "hrrformer_claims"])
def test_notebooks_judge_as_the_page_does(table):
    """Both are made from the same records, the notebook's by the runs that it shows."""
    lines = (ROOT / "results/REPRODUCIBILITY.md").read_text(encoding="utf8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    page = {row[1]: row[4] for row in cells if len(row) == 7}
    notebook = pd.read_csv(ROOT / f"results/tables/laptop/{table}.csv").set_index("claim")
    assert len(notebook) > 20
    assert {claim: page.get(claim) for claim in notebook.index} == dict(notebook["verdict"])
