"""Hamburger's probes: known cases, the claims that hold for every input, their records, and the
verdicts.
"""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch

from terminator.hamburger import analysis, figures, probes, report, verdicts
from terminator.hamburger.analysis import CD10, CD100, HAMS, NMF, VQ10, VQ100, noisy_low_rank
from terminator.hamburger.gan.runs import GAN, GanRun
from terminator.hamburger.segmentation.presets import preset
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.runs import records
from terminator.runs.claims import verdict_rows
from terminator.runtime.settings import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(tmp_path))
    monkeypatch.setenv("TERMINATOR_HEADLESS", "1")


# -- decompositions --------------------------------------------------------------------------------


@pytest.mark.parametrize("ham", HAMS, ids=lambda ham: ham.title)
def test_parts_make_up_the_reconstruction(ham):
    features = noisy_low_rank(0, 12, 40).unflatten(1, (5, 8))
    found = analysis.parts(features, ham, 4)
    again = torch.einsum("cr,rhw->chw", found.bases, found.maps)
    assert torch.allclose(again, found.reconstruction, atol=1e-9)
    assert torch.allclose(found.bases.norm(dim=0), torch.ones(4, dtype=torch.float64))
    sizes = found.maps.abs().sum((1, 2))
    assert (sizes.diff() <= 1e-9).all()
    assert found.error == pytest.approx(
        ((features - again).square().sum() / features.square().sum()).item()
    )


def test_patches_are_the_neighbourhoods():
    image = torch.rand(2, 6, 7)
    found = analysis.patches(image, 3)
    assert found.shape == (18, 6, 7)
    assert torch.equal(found[:, 2, 3], image[:, 1:4, 2:5].flatten())
    assert torch.equal(found[4], image[0])  # the middle of the first channel's


@pytest.mark.parametrize("ham", HAMS, ids=lambda ham: ham.title)
def test_no_ham_is_below_the_svd_and_nmf_never_rises(ham):
    x = torch.stack([noisy_low_rank(seed) for seed in range(2)])
    table = analysis.error_table(x, 8, (0, 1, 2, 5, 20), [ham])
    assert list(table["steps"]) == [-1, 0, 1, 2, 5, 20]
    assert (table["error"] >= table["floor"]).all()
    if ham.kind == "NMF":
        assert (table["error"].diff().dropna() < 0).all()


def test_the_floor_is_that_of_the_truncated_svd():
    x = noisy_low_rank(1, 10, 30)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    best = u[:, :3] * s[:3] @ v[:3]
    assert analysis.svd_floor(x, 3).item() == pytest.approx(
        ((x - best).square().sum() / x.square().sum()).item()
    )
    assert analysis.svd_floor(x, 10).item() == pytest.approx(0)


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ham", [NMF, VQ10, CD100], ids=lambda ham: ham.title)
def test_full_back_propagation_is_the_gradient_and_one_step_is_not(ham):
    x = noisy_low_rank(3, 8, 24, rank=3)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    found = analysis.gradients(x, upstream, ham, 3, 4)
    assert found.full_off < 1e-4
    assert found.one_step_off > 1e-2


def test_the_one_step_gradient_of_cd_is_its_closed_form():
    x = noisy_low_rank(4, 8, 24, rank=3)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    found = analysis.gradients(x, upstream, CD10, 3, 4)
    u = CD10.decompose(x, CD10.first_bases(x, 3, 0), 4).bases
    expected = u @ torch.linalg.solve(u.mT @ u + 0.1 * torch.eye(3, dtype=u.dtype), u.mT @ upstream)
    assert torch.allclose(found.one_step, expected, atol=1e-9)


# -- spectra, spread, operations -------------------------------------------------------------------


def test_energy_of_a_matrix_of_known_rank():
    x = torch.zeros(2, 4, 3, 3)
    x[:, 0, 0, 0], x[:, 1, 1, 1] = 3.0, 4.0
    assert analysis.cumulative_energy(x).tolist() == pytest.approx([16 / 25, 1, 1, 1])


def test_spread_of_known_outputs():
    assert analysis.spread(torch.tensor([[1.0, 1.0], [3.0, 3.0]])) == pytest.approx(0.5)
    assert analysis.spread(torch.ones(3, 4)) == 0
    assert report.disagreement(
        torch.tensor([[1, 2, 3, 4], [1, 2, 0, 0], [1, 2, 3, 4]])
    ) == pytest.approx(1 / 3)
    table = analysis.spread_table(noisy_low_rank(0, 8, 20, 3), 3, (1, 30), 4, (NMF, CD10))
    assert (table["spread"] >= 0).all()
    # all bases coincide
    assert table.query("ham == 'CD, tau 10' and steps == 30")["spread"].item() < 1e-6


def test_operations_are_those_of_the_published_comparison():
    positions = 128 * 128
    assert analysis.attention_operations(positions, 512) / 1e9 == pytest.approx(292.06, abs=0.01)
    for kind, count in (("NMF", 17.54), ("CD", 16.71), ("VQ", 16.64)):
        assert analysis.ham_operations(kind, positions, 512, 64, 6, 512) / 1e9 == pytest.approx(
            count, abs=0.01
        )
    with pytest.raises(ValueError, match="kind is 'SVD'; allowed: NMF, VQ, CD"):
        analysis.ham_operations("SVD", 4, 4, 2)


@pytest.mark.parametrize("name", ["NMF", "CD", "VQ"])
def test_operations_agree_with_a_count_of_the_matrix_products(name):
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.rand(1, probes.WIDTH, 100)
    with FlopCounterMode(display=False) as counter:
        probes.mixing(name, x)
    counted = counter.get_total_flops() / 2
    whole = probes.operations(name, 100)
    start = probes.WIDTH * probes.RANK * 100  # V_0's, which only NMF has, and its first step uses
    assert counted == pytest.approx(whole - start, rel=0.02)


def test_both_attentions_are_one():
    x = torch.randn(2, probes.WIDTH, 30)
    first, second = (probes.mixing(name, x) for name in probes.OPERATORS[:2])
    assert torch.allclose(first, second, atol=1e-5)


# -- records ---------------------------------------------------------------------------------------


def test_probes_are_run_once(monkeypatch):
    monkeypatch.setitem(probes.SEEDS, "smoke", 2)
    monkeypatch.setitem(probes.DRAWS, "smoke", 3)
    first = probes.probes("smoke")
    (record,) = records.load_records("ham_probes")
    assert record["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]
    monkeypatch.setattr(probes, "_tables", None)
    again = probes.probes("smoke")
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name])
    beside = probes.beside_published(first)
    assert beside["ours"].notna().all()
    assert (
        beside.query("quantity == 'gradient ratio, one step'").eval("abs(ours - theirs)") < 0.2
    ).all()


def test_cost_is_measured_once_per_request_and_grows_as_it_must(monkeypatch):
    monkeypatch.setitem(probes.SIDES, "smoke", (8, 12, 16))
    costs, record = probes.cost("smoke", "cpu")
    assert probes.cost("smoke", "cpu")[1] == record
    slopes = probes.slopes(costs)
    assert set(costs["operator"]) == set(probes.OPERATORS)
    for name, power in (
        ("attention, written out", 2),
        ("attention, fused", 2),
        ("NMF", 1),
        ("CD", 1),
        ("VQ", 1),
    ):
        assert slopes.loc[(name, "training"), "operations"] == pytest.approx(power, abs=0.1)
    assert slopes.loc[("attention, written out", "forward"), "memory"] > 1.7
    assert slopes.loc[("NMF", "training"), "memory"] < 1.2


def test_a_size_beyond_the_memory_limit_is_left_out(monkeypatch):
    monkeypatch.setattr(probes, "MEMORY_LIMIT", 16 * 10**4)
    found = probes.cost_table((8, 12), repeats=1)
    assert list(found.query("operator == 'attention, written out'")["side"].unique()) == [8]
    assert list(found.query("operator == 'NMF'")["side"].unique()) == [8, 12]


@pytest.fixture
def trained(here):
    return SEGMENTATION.run(
        preset(
            "context",
            data={"train_size": 16, "test_size": 8},
            train={"train_steps": 2, "steps_between_saves": 2, "batch_size": 2, "device": "cpu"},
        ),
        "segmentation_context",
        "smoke",
    )


def test_a_trained_block_is_looked_into_once(trained, monkeypatch):
    monkeypatch.setitem(probes.DRAWS, "smoke", 2)
    found = report.trained_block(trained)
    assert found["run_id"] == trained.record["run_id"]
    energy = found["energy"]
    assert energy["reconstruction"][3] == pytest.approx(1, abs=1e-6)  # rank 4
    assert energy["before"][3] < 1
    assert all(0 <= row["differing"] <= 100 for row in found["spread"])
    assert report.found_blocks([trained]) == {trained.record["seed"]: found}
    with monkeypatch.context() as patch:
        patch.setattr(report, "_look_into", None)
        assert report.trained_block(trained) == found
    later = {**trained.record, "finished": "2999-01-01T00:00:00+00:00"}
    forced = dataclasses.replace(trained, record=later)  # other weights, under the same run id
    assert report.found_blocks([forced]) == {}
    report.trained_block(forced)
    assert report.found_blocks([forced]).keys() == {trained.record["seed"]}
    assert report.found_blocks([trained]) == {}


def test_answers_are_kept_with_the_run(trained, monkeypatch):
    first = report.answers(trained, 2)
    assert first.images.shape[0] == first.predicted.shape[0] == 2
    monkeypatch.setattr(report.segmentation, "model_of", None)
    again = report.answers(trained, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    whole, predicted = report.all_answers({"NMF": [trained]}, ["NMF"], 2)
    assert torch.equal(predicted["NMF"], whole.predicted)
    kept = trained.folder / "answers.npz"
    kept.write_bytes(kept.read_bytes()[:-30])
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match="which cannot be read"):
        torch.testing.assert_close(report.answers(trained, 2).predicted, first.predicted)
    trained_again = dataclasses.replace(
        trained, record={**trained.record, "finished": "2999-01-01T00:00:00+00:00"}
    )
    other = first._replace(predicted=first.predicted + 1)
    monkeypatch.setattr(report.segmentation, "model_of", lambda *given: ())
    monkeypatch.setattr(report.segmentation, "examples", lambda count: other)
    for _ in range(2):  # made anew, then kept
        found = report.answers(trained_again, 2)
        assert torch.equal(found.predicted, other.predicted)
        monkeypatch.setattr(report.segmentation, "examples", None)


def test_features_around_the_block_are_its_input_and_output(trained):
    from terminator.hamburger.segmentation.report import model_of

    model, config, _ = model_of(trained)
    x = torch.randn(2, 6, 24, 24)
    before, after, inside = report.features_around(model, config, x)
    with report.fixed_bases(model, 0), torch.no_grad():
        assert torch.allclose(model.context(before), after, atol=1e-6)
    assert torch.linalg.matrix_rank(inside.flatten(2), rtol=1e-4).max() <= 4


# -- verdicts --------------------------------------------------------------------------------------


def said(judges, measured, count=None):
    """The words of the first so many claims on what was measured."""
    chosen = dict(list(judges.items())[:count])
    return [row["verdict"].partition(" (")[0] for row in verdict_rows(chosen, measured)]


def errors(values):
    return pd.DataFrame({"ham": "NMF", "steps": [-1, 0, 1, 6], "error": values, "floor": 0.05})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.9, 0.3, 0.12, 0.10], ["holds", "holds"]),
        ([0.9, 0.3, 0.35, 0.10], ["does not hold", "does not hold"]),
        ([0.9, 0.8, 0.70, 0.10], ["holds", "does not hold"]),
    ],
)
def test_verdicts_on_convergence(values, words):
    assert said(verdicts.OF_PROBES, {"errors": errors(values)}, 2) == words


def test_verdicts_on_gradients():
    table = pd.DataFrame(
        [
            {
                "ham": ham,
                "steps": 6,
                "one_step_max": one_step,
                "full_max": full,
                "one_step_off": 0.5,
                "full_off": 1e-7,
            }
            for ham, one_step, full in (
                (NMF, 0.2, 0.5),
                (VQ10, 1e-8, 0.1),
                (VQ100, 0.5, 45),
                (CD10, 0.2, 1.0),
                (CD100, 0.2, 1.1),  # longer than what came in, and than five of the other
            )
        ]
    ).assign(ham=lambda t: t["ham"].map(lambda ham: ham.title))
    of_gradients = dict(list(verdicts.OF_PROBES.items())[2:])
    unstable = ["does not hold", "does not hold", "holds", "does not hold", "holds"]
    assert said(of_gradients, {"gradients": table}) == ["holds", *unstable]
    table.loc[0, "full_off"] = 0.1
    assert said(of_gradients, {"gradients": table}, 1) == ["does not hold"]


def gan(frechet, sigma=None, seed=0, right=80.0):
    return GanRun(
        {
            "results": {"test": {"frechet": frechet, "right_class": right}},
            "sigmas": sigma and {"generator": sigma, "discriminator": -sigma},
            "seed": seed,
        },
        Path(),
        GAN,
    )


@pytest.mark.parametrize(
    ("without", "nmf", "sigma", "expected"),
    [
        ([20.0, 21.0, 20.5], [10.0, 11.0, 12.0], 0.3, ["holds", "holds"]),
        ([10.0, 11.0, 12.0], [20.0, 21.0, 20.5], 0.3, ["does not hold", "holds"]),
        ([10.0, 11.0, 10.1], [10.2, 11.4, 9.9], 0.01, ["undecided", "does not hold"]),
        ([20.0, 21.0], [10.0, 11.0], 0.3, ["undecided", "undecided"]),
    ],
)
def test_verdicts_on_gans(without, nmf, sigma, expected):
    gans = {
        "none": [gan(value, seed=seed) for seed, value in enumerate(without)],
        "NMF": [gan(value, sigma, seed) for seed, value in enumerate(nmf)],
    }
    nearer = verdicts._nearer("none", gans)
    assert [nearer.word, *said(verdicts.OF_GANS, gans["NMF"])] == expected


def test_gans_that_draw_other_digits_have_not_learned():
    gans = {"none": [gan(20.0, right=40.0)], "NMF": [gan(10.0, 0.3, right=30.0)]}
    assert verdicts._nearer("none", gans).word == "not learned"


@pytest.mark.parametrize(
    ("after", "word"),
    [
        ([0.7, 0.8, 0.75], "holds"),
        ([0.3, 0.31, 0.29], "does not hold"),
        ([0.7, 0.8], "undecided"),
        ([], "not run"),
    ],
)
def test_spectra_are_compared_seed_by_seed(after, word):
    before = [0.5, 0.51, 0.49][: len(after)]
    blocks = {
        seed: {"energy": {"before": [a, 1.0], "after": [b, 1.0]}}
        for seed, (a, b) in enumerate(zip(before, after, strict=True))
    }
    assert said(verdicts.OF_BLOCKS, blocks) == [word]


# -- figures and bad input -------------------------------------------------------------------------


def test_figures_have_what_they_are_of(monkeypatch):
    monkeypatch.setitem(probes.SIDES, "smoke", (8, 12))
    picture = report.picture("smoke", rank=3)
    assert all(part.shape == (3, 5, 5) for part in picture.base_pictures().values())
    drawn = figures.ham_parts(
        picture.image, {name: part.maps for name, part in picture.parts.items()}
    )
    assert len(drawn.axes) == 4 * 3 + 3  # and the colour bars
    assert len(figures.bases(picture.base_pictures()).axes) == 3 * 3 + 3
    x = noisy_low_rank(0, 8, 20, 3)
    (axis,) = figures.ham_errors(analysis.error_table(x[None], 3, (0, 1))).axes
    assert [line.get_label() for line in axis.lines] == [ham.title for ham in HAMS] + [
        "truncated SVD"
    ]
    assert len(figures.ham_cost(probes.cost("smoke", "cpu")[0]).axes) == 3
    (axis,) = figures.energy_curves({"a": [0.5, 1.0], "b": [0.7, 1.0]}).axes
    assert [line.get_ydata()[0] for line in axis.lines] == [0.5, 0.7]
    (axis,) = figures.spread_lines(analysis.spread_table(x, 3, (1, 2), 2, (NMF, VQ100))).axes
    assert len(axis.lines) == 2
    grids = {
        "a": torch.zeros(6, 1, 4, 4, dtype=torch.uint8),
        "b": torch.zeros(6, 3, 4, 4, dtype=torch.uint8),
    }
    assert [axis.images[0].get_array().shape[:2] for axis in figures.gan_grids(grids, 3).axes] == [
        (8, 12)
    ] * 2
    (axis,) = figures.sigma_curves(
        {"a": [pd.DataFrame({"step": [0, 1], "value": [0.0, 0.1]})]}
    ).axes
    assert list(axis.lines[0].get_ydata()) == [0.0, 0.1]


def test_bad_input_is_named():
    with pytest.raises(ConfigError, match="profile is 'phone'; allowed: smoke, laptop, paper"):
        probes.probes("phone")
    with pytest.raises(ConfigError, match="profile is 'phone'; allowed"):
        probes.cost("phone")
    with pytest.raises(
        ConfigError,
        match="operator is 'SVD'; allowed: attention, written out; attention, fused; NMF",
    ):
        probes.mixing("SVD", torch.ones(1, 8, 8))
    with pytest.raises(ValueError, match=r"the features have shape \(4, 4\); allowed: \(C, H, W\)"):
        analysis.parts(torch.ones(4, 4), NMF, 2)
    with pytest.raises(ValueError, match="rank R of bases is 9; allowed: 1 to 4"):
        analysis.parts(torch.ones(4, 4, 4), NMF, 9)
    with pytest.raises(ValueError, match="x has an entry of -1; allowed: nothing below 0"):
        analysis.parts(-torch.ones(4, 4, 4), NMF, 2)
