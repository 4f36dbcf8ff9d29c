"""The 2-D and the 1-D model: sizes, parts, switches, errors, other resolutions, operators."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from terminator import ConfigError, ModelConfig, Terminator, count_parameters, hyperzzw
from terminator.classification.config import Config
from terminator.losses import norm_penalty, slow_neural_loss
from terminator.model import skip_sources
from terminator.runtime.settings import identity


def images(count=3, channels=3, size=8, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def backward(model, x):
    """Gradients of the whole training loss."""
    logits, kernels = model.train()(x, return_kernels=True)
    labels = torch.arange(len(x)) % model.config.classes
    penalty = norm_penalty(*model.penalized_parameters(), l2_reg=5e-5)
    (F.cross_entropy(logits, labels) + slow_neural_loss(kernels) + penalty).backward()


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "expected"), [(10, 1_336_855), (100, 1_362_865)])
def test_released_parameter_count(classes, expected):
    assert count_parameters(Terminator(classes=classes)) == expected


def test_slow_share_and_cost_of_the_released_network():
    model = Terminator()
    assert sum(p.numel() for p in model.slow_parameters()) == 318_976
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model.eval()(images(16, size=32))
    assert logits.shape == (16, 10)
    # 2.21e9 as the equations are written; two linear maps in a row and tiled skips are computed as
    # one
    assert counter.get_total_flops() / 16 == pytest.approx(1.975e9, rel=0.01)


@pytest.mark.parametrize("size", [2, 5, 7, 13])
@pytest.mark.parametrize(("channels", "factors"), [(1, (12, 1)), (3, (4, 2)), (5, (12, 1))])
@pytest.mark.parametrize("count", [1, 3])
def test_any_square_size_channels_and_batch(tiny_model, size, channels, factors, count):
    model = tiny_model(size=size, in_channels=channels, factors=factors)
    x = images(count, channels, size)
    for mode in (model.train(), model.eval()):
        logits = mode(x)
        assert logits.shape == (count, 4)
        assert logits.isfinite().all()
    backward(model, x)
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("channels", "first"), [(1, 12), (2, 6), (3, 4), (4, 3), (5, 12), (12, 1)])
def test_default_factors_suit_any_number_of_channels(channels, first):
    assert ModelConfig(in_channels=channels).resolved().factors == (first, 3, 2, 2, 2)


def test_same_seed_same_weights_other_seed_others(tiny_model):
    one, same, other = tiny_model(0), tiny_model(0), tiny_model(1)
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


# -- switches --------------------------------------------------------------------------------------

H, P = 4, 64  # hidden channels of the tiny slow nets, positions of its images
# filters, linears, output; and C for the bias map
CHANNEL_NET = 3 * 2 * H + 2 * (H * H + H) + H + 1
SPATIAL_NET = 3 * 3 * H + 2 * (H * H + H) + P + H + 1


def local_net(c, k):
    context = (c * H + H) + (H * H + H) + 2 * (H * H + H)  # reduce, context, gates
    return 3 * 3 * H + 2 * (H * H + H) + k * k + (H * c + c) + context + (c * c + c) + 1


SWITCHES = {  # changes: parameters more or less per block, given channels in and out and the block's skips
    "rgu": ({"rgu": False}, lambda c, out, skips: -2 * (3 * (c * c + c) + P)),
    "hyper_channel_interaction": (
        {"hyper_channel_interaction": False},
        lambda c, out, skips: -(CHANNEL_NET + c),
    ),
    "hyper_interaction": (
        {"hyper_interaction": False},
        lambda c, out, skips: -(CHANNEL_NET + c + SPATIAL_NET + c * out),
    ),
    "si_glu": ({"si_glu": False}, lambda c, out, skips: -c * out),
    "skips": ({"skips": False}, lambda c, out, skips: -skips * c * out),
    "one local": ({"local_sizes": (3, 0, 5, 7)}, lambda c, out, skips: -local_net(c, 9) - c * out),
    "all locals": (
        {"local_sizes": (0, 0, 0, 0)},
        lambda c, out, skips: sum(-local_net(c, k) - c * out for k in (3, 9, 5, 7)),
    ),
    "local_context": (
        {"local_context": False},
        lambda c, out, skips: -4 * (c * H + H + 3 * (H * H + H)),
    ),
    "local_context_init": ({"local_context_init": "torch"}, lambda c, out, skips: 0),
    "renormalization": ({"renormalization": False}, lambda c, out, skips: 0),
    "trainable_renormalization": (
        {"trainable_renormalization": True},
        lambda c, out, skips: 4 * 2 * 2 * H,
    ),
    "trainable_fast_bias": ({"trainable_fast_bias": True}, lambda c, out, skips: 1),
    "batch": ({"standardization": "batch"}, lambda c, out, skips: 0),
    "instance": ({"standardization": "instance"}, lambda c, out, skips: 0),
    "batch_affine": ({"standardization": "batch_affine"}, lambda c, out, skips: 2 * out),
    "convolution": ({"operator": "convolution"}, lambda c, out, skips: 0),
    "dropout": ({"dropout": (0.3,)}, lambda c, out, skips: 0),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_alone(tiny_model, name):
    changes, change_per_block = SWITCHES[name]
    whole, model = tiny_model(), tiny_model(**changes)
    blocks = [(3, 12, 0), (12, 12, 0), (12, 12, 1)]  # channels in, channels out, skips
    assert count_parameters(model) - count_parameters(whole) == sum(
        change_per_block(*block) for block in blocks
    )
    x = images()
    backward(model, x)
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key


@pytest.mark.parametrize(
    "name", ["rgu", "local_context", "renormalization", "batch", "instance", "convolution"]
)
def test_switches_that_leave_the_widths_change_the_answer(tiny_model, name):
    whole, model, x = tiny_model().eval(), tiny_model(**SWITCHES[name][0]).eval(), images()
    whole.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(whole(x), model(x), atol=1e-4)


def test_the_released_local_context_starts_as_torchs_convolutions_do(tiny_model):
    torch.manual_seed(0)
    ours, released = (
        tiny_model(local_context_init=init).blocks[1].locals["l2"].slow_net
        for init in ("linear", "torch")
    )
    for name in ("reduce", "context"):
        old, new = getattr(ours, name), getattr(released, name)
        fan_in = new.weight.shape[1]
        start = torch.nn.Conv2d(fan_in, 4096, 1)
        for p, q in ((new.weight, start.weight), (new.bias, start.bias)):
            assert p.abs().max() <= fan_in**-0.5
            assert p.std().item() == pytest.approx(q.std().item(), rel=0.5)  # few numbers
        assert old.bias.abs().max() == 0
        assert old.weight.abs().max() > fan_in**-0.5
    for gate in released.gates:
        assert torch.equal(gate.bias, torch.ones_like(gate.bias))


@pytest.mark.parametrize("name", ["trainable_renormalization", "trainable_fast_bias"])
def test_what_the_release_did_not_train_starts_at_its_constants(tiny_model, name):
    whole, model, x = tiny_model().eval(), tiny_model(**SWITCHES[name][0]).eval(), images()
    whole.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(whole(x), model(x))


def test_hyper_channel_interaction_is_all_but_undone_by_the_standardisation_after_it(tiny_model):
    """IS(s * x) = IS(x) for a positive score s per channel, up to the standardisation's epsilon."""
    whole, model, x = (
        tiny_model().eval(),
        tiny_model(hyper_channel_interaction=False).eval(),
        images(),
    )
    part = whole(x, return_parts=True).blocks[0]
    scored = whole.blocks[0].hyper_channel_interaction(x)
    assert not torch.allclose(scored, x, atol=1e-2)
    torch.testing.assert_close(
        part.interacted, model(x, return_parts=True).blocks[0].interacted, rtol=0, atol=1e-3
    )


def test_everything_off_still_trains(tiny_model):
    model = tiny_model(
        rgu=False,
        hyper_channel_interaction=False,
        hyper_interaction=False,
        si_glu=False,
        skips=False,
        local_sizes=(0, 0, 0, 0),
        standardization="instance",
    )
    backward(model, images())
    assert list(model(images(), return_parts=True).blocks[0].branches) == [
        "o",
        "fast",
        "o_mixed",
        "o_interacted",
    ]


def test_trainable_fast_bias_shifts_what_the_next_block_sees(tiny_model):
    model, x = tiny_model(trainable_fast_bias=True).eval(), images()
    before = model(x, return_parts=True).blocks[1].mixed
    with torch.no_grad():
        model.fast_bias[0] = 3.0
    parts = model(x, return_parts=True)
    # instance-standardised: a constant is lost
    assert torch.allclose(parts.blocks[1].mixed, before, atol=1e-3)
    shifted = parts.blocks[0].output + 3.0
    assert torch.allclose(
        parts.blocks[1].slow_score, shifted * parts.blocks[1].hyper_kernel, atol=1e-5
    )


# -- parts -----------------------------------------------------------------------------------------


def test_parts_shapes_order_and_wiring(tiny_model):
    model, x = tiny_model(factors=(4, 1, 2, 1, 1), local_sizes=(3, 9, 5, 7)), images(2)
    seen = []
    for block in model.blocks:
        block.bottleneck.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    logits, blocks = model(x, return_parts=True)
    torch.testing.assert_close(logits, model(x))  # whose skips are not tiled
    assert seen[9][10].shape == (2, 12, 8, 8)
    skips = [(), (), (0,), (1,), (2, 1)]
    for i, (part, channels) in enumerate(zip(blocks, (3, 12, 12, 24, 24), strict=True)):
        names = [
            "o",
            "l2",
            "skip1",
            "fast",
            "o_mixed",
            "l1",
            "glu",
            "l3",
            "o_interacted",
            "l4",
            "skip2",
            "hyper",
        ]
        left_out = {0: {"skip1", "skip2"}, 1: {"skip2"}, 2: set()}[len(skips[i])]
        assert list(part.branches) == [name for name in names if name not in left_out]
        assert all(map(torch.equal, seen[i], part.branches.values()))
        shape = (2, channels, 8, 8)
        assert all(branch.shape == shape for branch in part.branches.values())
        assert part.hyper_kernel.shape == (1, channels, 8, 8)
        assert part.slow_score.shape == part.mixed.shape == part.interacted.shape == shape
        assert part.interaction_score.shape == shape
        assert 0 < part.interaction_score.min() <= part.interaction_score.max() < 1
        assert [tuple(kernel.shape) for kernel in part.local_kernels.values()] == [
            (channels, 1, k, k) for k in (3, 9, 5, 7)
        ]
        x_in = x if i == 0 else blocks[i - 1].output
        score, branches, block = part.slow_score, part.branches, model.blocks[i]
        close = torch.testing.assert_close
        close(score, x_in * part.hyper_kernel)
        close(branches["fast"], F.instance_norm(block.rgu_slow(score) + block.rgu_fast(x_in)))
        close(branches["o"], score @ branches["fast"])
        close(branches["o_mixed"], score @ part.mixed)
        close(branches["o_interacted"], score @ part.interacted)
        close(branches["glu"], torch.sigmoid(branches["o"]) * branches["o"])
        close(branches["hyper"], x_in * part.interaction_score)
        for name, (source, value) in {
            "l1": (x_in, part.interacted),
            "l2": (part.interacted, x_in),
            "l3": (part.mixed, x_in),
            "l4": (x_in, part.mixed),
        }.items():
            close(branches[name], block.locals[name](source, value)[0])
        for name, j in zip(("skip1", "skip2"), skips[i], strict=False):
            close(
                branches[name],
                torch.cat([blocks[j].output] * (channels // blocks[j].output.shape[1]), 1),
            )
    assert logits.shape == (2, 4)
    assert blocks[-1].output.shape == (2, 24, 8, 8)


def test_skip_sources_as_in_the_paper():
    assert [skip_sources(i) for i in range(6)] == [(), (), (0,), (1,), (2, 1), (3, 2)]


def test_kernels_for_the_losses(tiny_model):
    model = tiny_model()
    logits, kernels = model(images(), return_kernels=True)
    assert logits.shape == (3, 4)
    assert [tuple(kernel.shape) for kernel in kernels] == [(1, c, 8, 8) for c in (3, 12, 12)]


# -- what is impossible ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 1}, ["model.size is 1", "at least 2"]),
        ({"size": "big"}, ["model.size is 'big'", "an integer"]),
        ({"size": 8.5}, ["model.size is 8.5", "an integer"]),
        ({"sise": 8}, ["unknown setting sise", "did you mean size?", "in_channels"]),
        ({"in_channels": 0}, ["model.in_channels is 0", "at least 1"]),
        ({"classes": 1}, ["model.classes is 1", "at least 2"]),
        (
            {"factors": (5, 1)},
            ["model.factors is (5, 1)", "model.groups=12", "15 channels", "(4, 3, 2, 2, 2)"],
        ),
        (
            {"in_channels": 1, "factors": (4, 3)},
            ["model.factors is (4, 3)", "4 channels", "(12, 3, 2, 2, 2)"],
        ),
        ({"factors": ()}, ["model.factors is ()", "at least one"]),
        ({"factors": 4}, ["factors is 4", "a list of ints"]),
        ({"groups": 7, "factors": (7,)}, ["model.groups is 7", "even"]),
        ({"groups": 0}, ["model.groups is 0", "at least 1"]),
        ({"dimensions": 3}, ["model.dimensions is 3", "1 (sequences), 2 (images)"]),
        ({"dropout": (1.0,)}, ["model.dropout is (1.0,)", "below 1"]),
        ({"dropout": 0.1}, ["dropout is 0.1", "a list of floats"]),
        ({"local_sizes": (3, 9, 5)}, ["model.local_sizes is (3, 9, 5)", "four odd"]),
        ({"local_sizes": (3, 8, 5, 7)}, ["model.local_sizes is (3, 8, 5, 7)", "four odd"]),
        (
            {"standardization": "layer"},
            ["model.standardization is 'layer'", "g_ibs, batch, instance, batch_affine"],
        ),
        ({"operator": "fourier"}, ["model.operator is 'fourier'", "matrix, convolution"]),
        (
            {"operator": "causal_convolution"},
            ["model.operator is 'causal_convolution'", "matrix, convolution"],
        ),
        ({"omega_0": 0}, ["model.omega_0 is 0", "positive"]),
        ({"global_hidden": 0}, ["model.global_hidden is 0", "at least 1"]),
        ({"rgu": "perhaps"}, ["rgu is 'perhaps'", "true or false"]),
        ({"dimensions": 1, "size": 10}, ["model.size is 10", "square number", "convolution"]),
    ],
)
def test_impossible_settings_name_argument_value_and_what_is_allowed(changes, words):
    with pytest.raises(ConfigError) as error:
        Terminator(**changes)
    for word in words:
        assert word.removeprefix("model.") in str(error.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 8, 6), ["(2, 3, 8, 6)", "(N, 3, 8, 8)", "square", "crop, pad or resize"]),
        ((2, 3, 16, 16), ["(2, 3, 16, 16)", "(N, 3, 8, 8)", "at_size(16)"]),
        ((2, 1, 8, 8), ["(2, 1, 8, 8)", "(N, 3, 8, 8)"]),
        ((3, 8, 8), ["(3, 8, 8)", "(N, 3, 8, 8)"]),
        ((2, 3, 64), ["(2, 3, 64)", "(N, 3, 8, 8)"]),
        ((0, 3, 8, 8), ["(0, 3, 8, 8)", "empty batch", "one image"]),
    ],
)
def test_inputs_that_do_not_fit(tiny_model, shape, words):
    with pytest.raises(ValueError, match="input") as error:
        tiny_model()(torch.zeros(shape))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ["the input is torch.uint8", "normalised"]),
        (torch.zeros(2, 3, 8, 8).double(), ["torch.float64, the weights are torch.float32"]),
        (torch.zeros(2, 3, 8, 8).half(), ["x.to(torch.float32)", "torch.autocast"]),
        (np.zeros((2, 3, 8, 8)), ["the input is ndarray; allowed: a tensor"]),
    ],
)
def test_inputs_of_another_type(tiny_model, x, words):
    with pytest.raises(ValueError, match="the input is") as error:
        tiny_model()(x)
    for word in words:
        assert word in str(error.value)


def test_another_head_takes_the_same_inputs(tiny_model):
    model, x = tiny_model(), torch.zeros(2, 3, 8, 8)
    features = model.classifier.in_features
    model.classifier = torch.nn.Identity()
    assert model(x).shape == (2, features)
    assert model.double()(x.double()).dtype is torch.float64


def test_weights_of_16_bits_are_refused(tiny_model):
    model, x = tiny_model(), torch.zeros(2, 3, 8, 8)
    for kind in (torch.bfloat16, torch.float16):
        with pytest.raises(ValueError, match=f"weights are {kind}.*allowed: weights of float32"):
            tiny_model().to(kind)(x.to(kind))
    with torch.autocast("cpu", torch.float16), pytest.raises(ValueError, match="to float16"):
        model(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).isfinite().all()


def test_what_is_remembered_is_of_the_weights_that_are_there(tiny_model):
    """However they came: in place, exchanged, by `data`, made where torch counts nothing."""
    model, other, x = tiny_model().eval(), tiny_model(omega_0=30.0).eval(), images()

    def answers(weights):
        fresh = tiny_model().eval()
        fresh.load_state_dict(weights.state_dict())
        with torch.no_grad():
            return fresh(x)

    with torch.no_grad():
        assert torch.equal(model(x), answers(model))
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            ours.data.copy_(theirs)  # as averages of weights are put in place
        model.eval()
        assert torch.equal(model(x), answers(other))
        for ours, theirs in zip(model.parameters(), tiny_model().parameters(), strict=True):
            ours.copy_(theirs)
        assert torch.equal(model(x), answers(model))
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            ours.data = theirs.clone()
        assert torch.equal(model(x), answers(other))
        flat = torch.nn.utils.parameters_to_vector(tiny_model().parameters())
        torch.nn.utils.vector_to_parameters(flat, model.parameters())
        assert torch.equal(model(x), answers(tiny_model()))
        exchanged = {name: 1.5 * p for name, p in model.named_parameters()}
        given = torch.func.functional_call(model, exchanged, (x,))
        assert not torch.allclose(given, model(x))
        model.load_state_dict({**model.state_dict(), **exchanged})
        assert torch.equal(model(x), given)
    with torch.inference_mode():
        inside = tiny_model().eval()
        assert torch.equal(inside(x), answers(inside))


def test_a_network_made_from_anothers_settings_knows_no_other_size(tiny_model):
    made = Terminator(tiny_model().config, size=16)
    assert made.config.sizes.trained_size == 16
    assert made.blocks[0].product_scale == 1.0
    assert tiny_model().at_size(16).blocks[0].product_scale == 0.5


def test_another_size_keeps_what_is_frozen(tiny_model):
    model = tiny_model().requires_grad_(False)
    assert not any(p.requires_grad for p in model.at_size(16).parameters())


def test_what_is_no_configuration_and_no_size(tiny_model):
    for wrong in ({}, 3, "cifar10"):
        with pytest.raises(ConfigError, match="config is .*; allowed: a ModelConfig, or single"):
            Terminator(wrong)
    for wrong in (None, 1, 8.5):
        with pytest.raises(ConfigError, match="size is .*; allowed: an integer of at least 2"):
            tiny_model().at_size(wrong)
    for wrong in (None, "", 5):
        with pytest.raises(ValueError, match="model is .*; allowed: a model of the package"):
            Terminator.from_pretrained(wrong)


def test_operators_refuse_what_they_cannot_do():
    square, oblong = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 6)
    with pytest.raises(ValueError, match=r"square maps, got \(4, 6\): crop, pad or resize"):
        hyperzzw.matrix_operator(oblong, oblong)
    with pytest.raises(ValueError, match="two equal shapes"):
        hyperzzw.matrix_operator(square, oblong)
    with pytest.raises(ValueError, match="square number, got 10"):
        hyperzzw.matrix_operator(torch.zeros(1, 2, 10), torch.zeros(1, 2, 10))
    with pytest.raises(ValueError, match="two equal shapes"):
        hyperzzw.convolution_operator(square, oblong)
    with pytest.raises(ValueError, match="causal convolution needs sequences"):
        hyperzzw.convolution_operator(square, square, causal=True)
    with pytest.raises(ValueError, match="'dot'; allowed: matrix, convolution, causal_convolution"):
        hyperzzw.global_operator("dot", square, square)


# -- another resolution ----------------------------------------------------------------------------


def test_at_the_same_size_nothing_changes(tiny_model):
    model, x = tiny_model().eval(), images()
    assert torch.allclose(model.at_size(8)(x), model(x), atol=1e-6)


def test_at_another_size_works_and_leaves_the_model_alone(tiny_model):
    model, x = tiny_model().eval(), images()
    before = model(x)
    larger = model.at_size(16)
    assert larger(images(size=16)).shape == (3, 4)
    assert count_parameters(larger) > count_parameters(model)
    assert torch.equal(model(x), before)
    backward(larger, images(size=16))
    assert all(p.grad is None for p in model.parameters())
    assert larger.at_size(8).config == model.config
    with pytest.raises(ValueError, match=r"at_size\(8\)"):
        larger(x)
    for size in (1, "16", 16.5):
        with pytest.raises(ConfigError, match="size is"):
            model.at_size(size)


def test_hyper_kernels_are_sampled_anew_and_bias_maps_interpolated(tiny_model):
    model = tiny_model(omega_0=0.5)
    ramp = torch.linspace(0, 1, 8)
    maps = [module for module in model.modules() if getattr(module, "bias_map", None) is not None]
    with torch.no_grad():
        for module in maps:
            if module.bias_map.shape[2:] == (8, 8):
                module.bias_map.copy_(ramp[:, None] + 2 * ramp)
    finer = model.at_size(15)  # every second of its coordinates is one of the eight
    fine_ramp = torch.linspace(0, 1, 15)
    for block, fine in zip(model.blocks, finer.blocks, strict=True):
        for old, new in (
            (block.slow_net, fine.slow_net),
            (block.hyper_interaction.spatial_slow_net, fine.hyper_interaction.spatial_slow_net),
        ):
            assert new().shape[2:] == (15, 15)
            torch.testing.assert_close(new()[..., ::2, ::2], old(), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(fine.rgu_fast.bias_map[0, 0], fine_ramp[:, None] + 2 * fine_ramp)
        assert fine.locals["l2"].slow_net.bias_map.shape == (1, 1, 9, 9)


@pytest.mark.parametrize(
    ("dimensions", "operator", "old", "new"),
    [
        (2, "matrix", 8, 16),
        (2, "convolution", 8, 16),
        (1, "matrix", 16, 64),
        (1, "convolution", 16, 40),
    ],
)
def test_sums_over_more_positions_keep_their_scale(tiny_model, dimensions, operator, old, new):
    model = tiny_model(dimensions=dimensions, operator=operator, size=old)
    values = []
    for m, size in ((model, old), (model.at_size(new), new)):
        constant = torch.ones(1, 2, *[size] * dimensions)
        values.append(m.blocks[0]._global(constant, constant))
    torch.testing.assert_close(values[1], values[0].flatten()[0].expand_as(values[1]))


def test_a_copy_at_another_size_can_be_saved_and_loaded(tiny_model, tmp_path):
    larger, x = tiny_model().eval().at_size(12), images(size=12)
    larger.save(tmp_path / "larger.safetensors", note="from 8")
    loaded = Terminator.load(tmp_path / "larger.safetensors")
    assert torch.equal(loaded(x), larger(x))
    assert (loaded.config, loaded.info) == (larger.config, {"note": "from 8"})
    assert loaded.config.trained_size == 8


# -- model files -----------------------------------------------------------------------------------


def test_model_files_that_are_none(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="no model file at"):
        Terminator.load(path)
    tiny_model().save(path)
    whole = path.read_bytes()
    for content in (b"", b"text, not tensors", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="model.safetensors is no readable safetensors file"):
            Terminator.load(path)
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match="model.safetensors is corrupt"):
        Terminator.load(path)


def test_no_file_is_written_that_could_not_be_read(tiny_model, tmp_path):
    path = tmp_path / "m.safetensors"
    exchanged = tiny_model()
    exchanged.classifier = torch.nn.Linear(exchanged.classifier.in_features, 7)
    broken = tiny_model()
    broken.classifier.bias.data[0] = float("nan")
    for model, words in (
        (broken, "classifier.bias holds NaN"),
        (tiny_model().double(), "float64"),
        (exchanged, r"classifier.weight is .*\(7, "),
    ):
        with pytest.raises(ValueError, match=f"could not be read again: .*{words}"):
            model.save(path)
    for data in ({"mean": [127.5] * 3}, {"classes": ["one"]}, {"shape": [3, 5, 5]}):
        with pytest.raises(ValueError, match="could not be read again: its"):
            tiny_model().save(path, data=data)
    assert not path.exists()


def test_a_foreign_safetensors_file_is_no_model(tmp_path):
    import safetensors.torch

    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="no model of this kit"):
        Terminator.load(tmp_path / "a.safetensors")


# -- sequences and operators -----------------------------------------------------------------------


def pair(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 6, 9])
def test_convolution_by_fft_against_a_loop(causal, length):
    score, value = pair(2, 3, length)
    expected = torch.zeros(2, 3, length)
    for t in range(length):
        for s in range(t + 1 if causal else length):
            expected[..., t] += score[..., s] * value[..., (t - s) % length]
    torch.testing.assert_close(
        hyperzzw.convolution_operator(score, value, causal), expected, rtol=1e-4, atol=1e-5
    )


def test_circular_convolution_of_images_against_a_loop():
    score, value = pair(1, 2, 3, 4)
    expected = torch.zeros(1, 2, 3, 4)
    for i in range(3):
        for j in range(4):
            expected += score[..., i : i + 1, j : j + 1] * value.roll((i, j), (2, 3))
    torch.testing.assert_close(
        hyperzzw.convolution_operator(score, value), expected, rtol=1e-4, atol=1e-5
    )


def test_the_causal_operator_sees_no_future():
    score, value = pair(1, 2, 12)
    before = hyperzzw.global_operator("causal_convolution", score, value)
    score[..., 7:], value[..., 7:] = 9.0, -9.0
    after = hyperzzw.global_operator("causal_convolution", score, value)
    torch.testing.assert_close(after[..., :7], before[..., :7], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after[..., 7:], before[..., 7:])
    circular = [
        hyperzzw.global_operator("convolution", *pair(1, 2, 12)),
        hyperzzw.global_operator("convolution", score, value),
    ]
    assert not torch.allclose(circular[0][..., :7], circular[1][..., :7])


def test_matrix_reading_of_a_sequence_is_that_of_the_folded_image():
    score, value = pair(2, 3, 16)
    folded = hyperzzw.matrix_operator(score.view(2, 3, 4, 4), value.view(2, 3, 4, 4))
    assert torch.equal(hyperzzw.matrix_operator(score, value), folded.view(2, 3, 16))
    loop = torch.einsum("ncij,ncjk->ncik", score.view(2, 3, 4, 4), value.view(2, 3, 4, 4))
    torch.testing.assert_close(folded, loop)


@pytest.mark.parametrize(
    ("dimensions", "k"), [(2, 1), (2, 3), (2, 5), (2, 7), (2, 9), (1, 3), (1, 7)]
)
def test_local_operator_against_the_plain_convolution(dimensions, k):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, *[8] * dimensions, generator=generator, requires_grad=True)
    kernel = torch.randn(6, 1, *[k] * dimensions, generator=generator, requires_grad=True)
    plain = (F.conv2d if dimensions == 2 else F.conv1d)(x, kernel, padding=k // 2, groups=6)
    ours = hyperzzw.local_operator(x, kernel)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    weights = torch.randn(plain.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), (x, kernel)),
        torch.autograd.grad((plain * weights).sum(), (x, kernel)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operator", ["matrix", "convolution", "causal_convolution"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sequence_models_train(tiny_model, operator, channels):
    model = tiny_model(
        dimensions=1, size=25, in_channels=channels, factors=(12, 1, 1), operator=operator
    )
    x = torch.randn(2, channels, 25)
    backward(model, x)
    assert all(p.grad.isfinite().all() for p in model.parameters())
    part = model.eval()(x, return_parts=True).blocks[1]
    assert part.hyper_kernel.shape == (1, 12 * channels, 25)
    assert [tuple(kernel.shape[1:]) for kernel in part.local_kernels.values()] == [
        (1, k) for k in (3, 9, 5, 7)
    ]
    assert model(x[:1]).shape == (1, 4)
    assert model.at_size(36)(torch.randn(2, channels, 36)).shape == (2, 4)


def test_any_length_by_convolution_only_square_ones_by_matrix(tiny_model):
    model = tiny_model(dimensions=1, size=25, operator="convolution")
    assert model.at_size(31)(torch.randn(2, 3, 31)).shape == (2, 4)
    with pytest.raises(ConfigError, match="model.size is 31.*square number"):
        tiny_model(dimensions=1, size=25).at_size(31)


def test_slow_nets_keep_their_precision_under_autocast(tiny_model):
    """Their phases reach 10^5 radians: in bfloat16 another hyper-kernel would come out."""
    model = tiny_model()
    with torch.no_grad():
        plain = model.blocks[1].slow_net()
        with torch.autocast("cpu", torch.bfloat16):
            half = model.blocks[1].slow_net().float()
    assert (half - plain).norm() < 0.02 * plain.norm()


# -- another global mixer in the operator's place --------------------------------------------------


@pytest.mark.parametrize("name", ["hamburger", "none"])
@pytest.mark.parametrize(
    "shape", [{"size": 8}, {"size": 20, "dimensions": 1}], ids=["images", "sequences"]
)
def test_another_global_mixer_trains_saves_and_answers_alike(name, shape, tmp_path):
    torch.manual_seed(0)
    model = Terminator(in_channels=3, classes=4, factors=[4, 3], global_mixer=name, **shape)
    x = torch.randn(4, 3, *[shape["size"]] * shape.get("dimensions", 2))
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    model.save(tmp_path / "model.safetensors")
    again = Terminator.load(tmp_path / "model.safetensors").eval()
    assert torch.equal(again(x), model(x))
    assert again.config.global_mixer == name


def test_a_hamburger_in_the_operator_s_place_is_what_the_value_is_mixed_with():
    torch.manual_seed(0)
    model = Terminator(
        size=8, in_channels=3, classes=4, factors=[4, 3], global_mixer="hamburger"
    ).eval()
    parts = model(torch.randn(2, 3, 8, 8), return_parts=True).blocks[1]
    mixer = model.blocks[1].global_mixer
    assert mixer.ham.settings.rank == 6  # half of 12 channels
    assert torch.allclose(parts.branches["o_mixed"], mixer(parts.mixed), atol=1e-6)
    matrix = mixer.ham(torch.relu(mixer.lower(parts.mixed))).flatten(2)
    assert (torch.linalg.matrix_rank(matrix, rtol=1e-4) <= 6).all()


def test_settings_of_the_global_mixer():
    assert "global_mixer" not in identity(Config()).get("model", {})
    with pytest.raises(
        ConfigError, match="model.global_mixer is 'ham'; allowed: hyperzzw, hamburger, none"
    ):
        Terminator(global_mixer="ham")
    with pytest.raises(
        ConfigError, match="model.operator is 'convolution'; allowed: the default, since"
    ):
        Terminator(global_mixer="hamburger", operator="convolution")
    # no square number
    assert Terminator(size=20, dimensions=1, global_mixer="hamburger").config.size == 20


def test_a_sketch_has_the_form_of_the_network_and_is_made_in_no_time():
    """torch would import its compiler, seconds in every process, to fill a sketch with no values."""
    code = """
import sys
import torch
from terminator import ModelConfig, Terminator
from terminator.runtime.weights import sketch

torch.zeros(1, device="meta")
first = {"torch._dynamo", "sympy"} & set(sys.modules)  # of torch's own accord, as torch 2.6 does

def form(model):
    return {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}

drawn = sketch(lambda: Terminator(ModelConfig()))
assert all(value.is_meta for value in drawn.state_dict().values())
assert form(drawn) == form(Terminator(ModelConfig()))
assert {"torch._dynamo", "sympy"} & set(sys.modules) == first
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
