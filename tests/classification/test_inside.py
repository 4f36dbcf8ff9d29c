"""What observations say: tables and verdicts follow the numbers, whatever these are."""

from types import SimpleNamespace

import pandas as pd
import pytest

from terminator.classification import figures, report, studies
from terminator.classification.observations import EDGES
from terminator.classification.runs import CLASSIFICATION
from terminator.runs import study as runs_study


def made(label, seed, rows, device="cpu, 1 threads"):
    """A run with invented observations: rows of epoch, quantity, block, part, value."""
    table = pd.DataFrame(rows, columns=["epoch", "quantity", "block", "part", "value"])
    record = {"seed": seed, "run_id": f"{label}-s{seed}", "device": device}
    return {label: [SimpleNamespace(observations=table, record=record)]}


def grouped(*runs):
    found = {}
    for run in runs:
        for label, group in run.items():
            found.setdefault(label, []).extend(group)
    return found


def joined(*runs):
    return report.gathered(grouped(*runs))


def scores(label, seed, score, control, kernel=0.5, device="cpu, 1 threads"):
    return made(
        label,
        seed,
        [
            (epoch, quantity, block, part, value)
            for epoch in (0, 1)
            for block in (1, 2)
            for quantity in ("auroc", "concentration")
            for part, value in (
                ("slow score", score if epoch else 0.5),
                ("input", control),
                ("hyper-kernel", kernel),
            )
        ],
        device,
    )


def test_gain_is_what_the_hyper_kernel_adds_after_training():
    table = report.score_table(joined(scores("with", 0, 0.8, 0.7), scores("with", 1, 0.9, 0.7)))
    assert table.loc[("with", 2), ("auroc", "slow score")] == pytest.approx(0.85)
    assert table.loc[("with", 2), ("auroc", "gain")] == pytest.approx(0.15)


@pytest.mark.parametrize(("spread", "word"), [(0.001, "holds"), (0.05, "undecided (this study")])
def test_an_effect_is_told_from_chance_seed_by_seed(spread, word):
    runs = [scores("with", seed, 0.8 + spread * (seed - 1), 0.7) for seed in range(3)]
    runs += [scores("without", seed, 0.7, 0.7) for seed in range(3)]
    text = report.score_verdict(grouped(*runs), "with", "without")
    assert "+10.0 points" in text.splitlines()[-1]
    assert f"The loss raises the AUROC of |S|: {word}" in text.splitlines()[-1]
    assert "AUROC of |S| 80.0 ± " in text


def test_one_seed_says_nothing_of_chance():
    text = report.score_verdict(
        grouped(scores("a", 0, 0.8, 0.7), scores("b", 0, 0.6, 0.7)), "a", "b"
    )
    assert "undecided; with the loss 80.0 against without 60.0; one seed, no verdict" in text


def test_scores_of_different_machines_are_not_paired():
    runs = [scores("a", seed, 0.8, 0.7, device=f"machine {seed == 2}") for seed in range(3)]
    runs += [scores("b", seed, 0.7, 0.7, device="machine False") for seed in range(3)]
    of_a, _, of_both = report.score_verdict(grouped(*runs), "a", "b").splitlines()
    assert "AUROC of |S| 80.0 ± 0.0 against of |Z| alone 70.0 ± 0.0" in of_a  # of the same runs
    assert "left out" not in of_a
    assert "; 1 run on other machines left out; 2 seeds, no verdict" in of_both
    assert "with the loss 80.0 and 80.0 against without 70.0" in of_both


def kernels(cosine, rms):
    return made(
        "net",
        0,
        [
            (epoch, quantity, 2, "block 1", value)
            for epoch, values in enumerate(((0.0, 1.0, 0.1), (cosine, 1 - cosine, rms)))
            for quantity, value in zip(
                ("kernel_cosine", "kernel_distance", "kernel_rms"), values, strict=True
            )
        ],
    )


@pytest.mark.parametrize(
    ("cosine", "rms", "said"),
    [
        (0.5, 0.1, ["grow more alike", "factor of 1.00"]),
        (0.01, 0.02, ["no more alike", "factor of 0.20"]),
    ],
)
def test_kernels_grow_alike_or_small(cosine, rms, said):
    text = report.kernel_verdict(joined(kernels(cosine, rms)))
    assert all(part in text for part in said)


def features(mean, offset, sds):
    return made(
        "net",
        0,
        [
            (epoch, quantity, 1, "output", value)
            for epoch, sd in enumerate(sds)
            for quantity, value in (
                ("mean", mean * sd),
                ("channel_offset", offset * sd),
                ("sd", sd),
            )
        ],
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        # epoch 0: no drift
        ((0.01, 0.02, (5.0, 1.0, 1.1)), ["mean is zero", "channel by channel zero", "is stable"]),
        (
            (-0.3, 0.5, (1.0, 1.0, 1.1)),
            ["not zero (at most 0.30 sd)", "channel by channel not zero", "is stable"],
        ),
        (
            (0.05, 0.5, (1.0, 1.0, 2.0)),
            ["mean is zero", "channel not zero", "not stable (it changes up to 2.00-fold)"],
        ),
    ],
)
def test_features_are_judged_by_the_numbers(given, said):
    text = report.feature_verdict(joined(features(*given)))
    assert all(part in text for part in said), text


@pytest.mark.slow
def test_a_real_study_goes_all_the_way(tiny_config):
    config = tiny_config(
        "train.observe=true",
        "dataset.train_size=40",
        "dataset.test_size=20",
        "model.factors=[12,1,1]",
    )
    study = runs_study.Study(
        "inside",
        {studies.WITH: config, studies.WITHOUT: config.updated(train={"slow_neural_loss": 0.0})},
        (0, 1),
    )
    runs = runs_study.run_study(CLASSIFICATION, study, "smoke")
    seen = report.gathered(runs)
    assert set(seen["seed"]) == {0, 1}
    assert report.score_table(seen).shape == (6, 8)
    assert len(report.kernel_table(seen)) == 2
    assert set(report.feature_table(seen)["features"]) == {"standardised", "output"}
    assert runs[studies.WITH][0].test_images(3).shape == (3, 1, 8, 8)
    before = report.kernel_table(seen)["kernel_rms", "before"]
    assert before.iloc[0] == before.iloc[1]  # one initialisation


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_studies_of_this_kind_observe(profile):
    for study in (studies.sequences, studies.slow_neural_loss, studies.feature_statistics):
        assert all(config.train.observe for config in study(profile).variants.values())
    assert studies.slow_neural_loss(profile).variants[studies.WITH].dataset.name in (
        "digits",
        "MNIST",
    )


# -- figures ---------------------------------------------------------------------------------------


def test_lines_over_epochs_show_mean_and_range_per_panel():
    table = pd.DataFrame(
        [
            (epoch, value, line, panel)
            for panel, base in (("p", 0), ("q", 10))
            for line in ("a", "b")
            for epoch, values in ((0, (1.0, 3.0)), (1, (2.0, 6.0)))
            for value in values
        ],
        columns=["epoch", "value", "line", "panel"],
    )
    table.loc[table["panel"] == "q", "value"] += 10
    figure = figures.over_epochs(table, "a value", reference=0.5)
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("p", "q")
    assert list(second.lines[0].get_ydata()) == [12.0, 14.0]
    band = first.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (1.0, 6.0)
    with pytest.raises(ValueError, match="lacks panel"):
        figures.over_epochs(table.drop(columns="panel"), "x")
    with pytest.raises(ValueError, match="no rows"):
        figures.over_epochs(table.iloc[:0], "x")


def test_ridges_lie_one_below_the_other():
    density = [[0.1] * (len(EDGES) - 1)] * 3
    figure = figures.ridgelines(
        {"a": {0: density, 5: density}, "b": {0: density[:2]}}, EDGES, "value"
    )
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == [
        "block 1",
        "block 2",
        "block 3",
    ]
    heights = [line.get_ydata()[0] for line in first.lines[:3]]
    assert heights[0] - heights[1] == pytest.approx(1.0)
    assert len(second.lines) == 3  # two ridges and the zero line
