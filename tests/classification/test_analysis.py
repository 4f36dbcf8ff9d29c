"""What the notebooks measure: spectra, dependence, contributions, parameters, work and cost."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from terminator import Terminator, count_parameters, hyperzzw
from terminator.bench import measure, operators
from terminator.classification import analysis
from terminator.slow_net import SlowNet


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    model = Terminator(size=8, factors=(4, 1, 1), dropout=(0.0,)).eval()
    with torch.no_grad():
        return model, model(torch.randn(6, 3, 8, 8), return_parts=True).blocks


def wave(size, rows, columns):
    """A cosine of so many cycles along the rows and columns of a grid."""
    axis = 2 * math.pi * torch.arange(size) / size
    return torch.cos(rows * axis[:, None] + columns * axis[None, :])


# -- frequencies


def test_spectrum_of_a_wave_is_at_its_frequency():
    power = analysis.power_spectrum(5 + wave(16, 3, -2))
    assert power.sum() == pytest.approx(1)
    assert power[8 + 3, 8 - 2] == pytest.approx(0.5)
    assert power[8 - 3, 8 + 2] == pytest.approx(0.5)


def test_radial_spectrum_finds_the_ring_and_is_flat_for_noise():
    frequencies, power = analysis.radial_spectrum(wave(16, 3, 0))
    assert frequencies.tolist() == list(range(1, 9))
    assert power.argmax() == 2
    torch.manual_seed(0)
    noise = analysis.radial_spectrum(torch.randn(400, 16, 16))[1]
    assert (noise - 1).abs().max() < 0.1


def test_spectrum_refuses_other_shapes_and_takes_constants():
    with pytest.raises(ValueError, match=r"square.*\(3, 4\)"):
        analysis.power_spectrum(torch.zeros(3, 4))
    assert analysis.power_spectrum(torch.ones(4, 4)).sum() == 0


def test_folded_frequency_is_what_the_samples_show():
    size, frequency = 9, torch.tensor([1.0, 3.9, 4.5, 7.0, 8.0, 8003.0])
    expected = torch.tensor([1.0, 3.9, 3.5, 1.0, 0.0, 3.0])
    assert torch.allclose(analysis.folded(frequency, size), expected)
    points = torch.linspace(0, 1, size, dtype=torch.double)  # one image
    for f, g in zip(frequency.double(), expected.double(), strict=True):
        assert torch.allclose(
            torch.cos(2 * math.pi * f * points), torch.cos(2 * math.pi * g * points), atol=1e-5
        )


def test_initial_frequencies_follow_omega_0():
    def median(omega_0):
        torch.manual_seed(0)
        return (
            analysis.initial_frequencies(SlowNet(2, 8, 3, 64, omega_0=omega_0))[0].median().item()
        )

    assert median(2000.0) == pytest.approx(1000 * median(2.0), rel=1e-4)
    # |A| / 2 pi = omega_0 * gamma * u, u uniform below 1 / sqrt(2); times 2 units of coordinate per
    # image
    assert 2 < median(1.0) < 8


def test_between_pixels_tells_smooth_from_unpredictable():
    torch.manual_seed(0)
    skill, shared = analysis.between_pixels(SlowNet(2, 16, 8, 32, omega_0=0.05), 16)
    assert skill > 0.99
    assert shared < 1e-2
    assert analysis.between_pixels(SlowNet(2, 16, 8, 32, omega_0=2000.0), 16)[0] < 0.2


def test_sampling_leaves_the_slow_net_alone():
    net = SlowNet(2, 8, 3, 16)
    before = net().clone()
    assert analysis.sampled(net, 12).shape == (1, 3, 12, 12)
    assert torch.equal(net(), before)


def test_correlation():
    a = torch.randn(50)
    assert analysis.correlation(a, 3 * a + 1) == pytest.approx(1)
    assert analysis.correlation(a, -a) == pytest.approx(-1)


# -- dependence


def test_bare_operator_depends_on_a_cross():
    torch.manual_seed(0)
    w = torch.randn(1, 2, 6, 6)
    field = analysis.dependence(
        lambda x: hyperzzw.matrix_operator(w * x, x), torch.randn(1, 2, 6, 6), 2, 4
    )
    cross = torch.zeros(6, 6, dtype=torch.bool)
    cross[2, :] = cross[:, 4] = True
    assert bool((field[cross] > 0).all())
    assert bool((field[~cross] == 0).all())


def test_dependence_is_the_norm_of_the_jacobian():
    x = torch.randn(1, 2, 3, 3)
    field = analysis.dependence(lambda x: torch.stack([3 * x[:, 0], 4 * x[:, 0]], 1), x, 1, 1)
    expected = torch.zeros(3, 3)
    expected[1, 1] = 5
    assert torch.allclose(field, expected)


def test_one_block_sees_the_whole_image(small):
    model, _ = small
    analysis_input = torch.randn(1, 3, 8, 8)
    assert bool(
        (analysis.dependence(analysis.forward_from(model, 0), analysis_input, 3, 5) > 0).all()
    )


@pytest.mark.parametrize("changes", [{}, {"trainable_fast_bias": True}, {"skips": False}])
def test_forward_from_is_the_models_own_forward(changes):
    model = Terminator(size=8, factors=(4, 1, 1), **changes).eval()
    if model.fast_bias is not None:
        torch.nn.init.normal_(model.fast_bias)
    x = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        blocks = model(x, return_parts=True).blocks
        for i, part in enumerate(blocks):
            assert torch.equal(analysis.forward_from(model, i)(x), part.output)


def test_jacobian_of_a_causal_product_is_triangular():
    z, w = torch.randn(9, dtype=torch.double), torch.randn(1, 1, 9, dtype=torch.double)
    found = analysis.jacobian_1d(lambda v: hyperzzw.convolution_operator(v * w, v, causal=True), z)
    assert found.triu(1).max() < 1e-12
    assert found.diagonal().min() > 0


# -- branches


def test_contributions_add_up_to_the_bottleneck(small):
    model, blocks = small
    table = analysis.branch_table(model, blocks)
    assert set(table["block"]) == {1, 2, 3}
    assert list(table[table["block"] == 1]["branch"]) == list(blocks[0].branches)
    layer, part = model.blocks[0], blocks[0]
    only_fast = [
        value if name == "fast" else torch.zeros_like(value)
        for name, value in part.branches.items()
    ]
    with torch.no_grad():
        added = layer.bottleneck(only_fast) - layer.bottleneck.bias[:, None, None]
    row = table[(table["block"] == 1) & (table["branch"] == "fast")].iloc[0]
    assert row["contribution"] == pytest.approx(added.square().mean().sqrt().item(), rel=1e-4)
    assert row["rms"] == pytest.approx(
        part.branches["fast"].square().mean().sqrt().item(), rel=1e-4
    )


def test_group_means_know_the_two_kinds(small):
    model, blocks = small
    means = analysis.group_means(model, blocks, 1)
    assert means.shape == (6, 12)
    assert means[:, 1::2].abs().max() < 1e-5
    assert means[:, ::2].mean(0).abs().max() < 1e-5
    assert means[:, ::2].abs().max() > 1e-3


def test_interaction_logits_are_those_of_the_scores(small):
    model, blocks = small
    for block, part in zip(model.blocks, blocks, strict=True):
        logits = analysis.interaction_logits(block, part)
        assert torch.allclose(torch.sigmoid(logits), part.interaction_score, atol=1e-6)


# -- parameters and work


def test_parameters_of_the_released_network():
    table = analysis.parameter_table(Terminator())
    assert table["parameters"].sum() == 1_336_855
    assert table.loc[table["kind"] == "slow", "parameters"].sum() == 318_976
    assert set(table["part"]) <= {*analysis.SLOW_PARTS, *analysis.FAST_PARTS}


@pytest.mark.parametrize(
    "changes",
    [
        {"rgu": False, "hyper_interaction": False},
        {"hyper_channel_interaction": False, "trainable_fast_bias": True},
        {"local_sizes": (0, 0, 3, 0), "standardization": "batch_affine"},
        {"local_context": False, "skips": False},
    ],
)
def test_parameter_table_is_whole_and_agrees_on_what_is_slow(changes):
    model = Terminator(size=8, **changes)
    table = analysis.parameter_table(model)
    assert table["parameters"].sum() == count_parameters(model)
    slow = sum(p.numel() for p in model.slow_parameters())
    assert table.loc[table["kind"] == "slow", "parameters"].sum() == slow


@pytest.mark.parametrize("batch_size", [1, 4])
def test_work_adds_up_to_all_that_torch_counted(batch_size):
    model = Terminator(size=8).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(batch_size, 3, 8, 8))
    table = analysis.flop_table(model, batch_size)
    assert table["flops"].sum() == counter.get_total_flops()


def test_work_of_the_global_operator_is_three_products_per_block():
    model = Terminator(size=8)
    table = analysis.flop_table(model, 2).set_index(["block", "part"])["flops"]
    for block, channels in enumerate(model.config.channels[:-1], start=1):
        assert table[block, "global operator"] == 2 * 3 * channels * 2 * 8**3
    assert model.training  # as it was


def test_global_slow_nets_do_not_work_harder_for_larger_batches():
    model = Terminator(size=8)
    one, eight = (analysis.flop_table(model, n).groupby("part")["flops"].sum() for n in (1, 8))
    assert one["global slow net"] == eight["global slow net"]
    assert eight["bottleneck"] == 8 * one["bottleneck"]


# -- cost


def test_exponent_of_a_power_law():
    sizes = [1, 2, 4, 8]
    assert measure.exponent(sizes, [100] + [s**1.5 for s in sizes[1:]]) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="at least two positive"):
        measure.exponent([4], [1.0])
    with pytest.raises(ValueError, match="positive"):
        measure.exponent([2, 4], [0.0, 1.0])


def test_peak_bytes_counts_what_lives_at_one_time():
    x = torch.zeros(1000)  # 4,000 bytes

    def frees():
        y = x + 1
        del y
        return x + 2

    def keeps():
        y = x + 1
        return y, x + 2, y.view(10, 100)

    assert measure.peak_bytes(frees) == 4000
    assert measure.peak_bytes(keeps) == 8000
    assert measure.peak_bytes(lambda: x.view(10, 100)) == 0


def test_context_operators_are_what_they_say():
    torch.manual_seed(0)
    z = torch.randn(2, 3, 4, 4)
    results = {name: function() for name, function in operators.context_operators(z).items()}
    fused = results["softmax attention, fused"][:, 0]
    assert torch.allclose(fused, results["softmax attention, written out"], atol=1e-5)
    assert (
        results["HyperZ.Z.W, matrix"].shape == results["HyperZ.Z.W, convolution"].shape == z.shape
    )


def test_cost_table_measures_every_operator_at_every_size():
    table = operators.cost_table((4, 8), channels=2, repeats=1)
    assert len(table) == 8
    assert (table["seconds"] > 0).all()
    written_out = table[table["operator"] == "softmax attention, written out"]
    assert list(written_out["bytes"] >= 4 * written_out["positions"] ** 2) == [True, True]
