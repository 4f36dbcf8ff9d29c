"""Hrrformer: algebra, attention and whole networks against numbers computed beforehand, and their
properties.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import GOLDEN

from terminator.hrrformer import algebra
from terminator.hrrformer.attention import HolographicAttention
from terminator.hrrformer.network import Hrrformer, build, fixed_positions
from terminator.hrrformer.settings import TASKS, task_settings
from terminator.mixers.base import lecun_linear
from terminator.model import count_parameters
from terminator.runtime.settings import ConfigError


def golden(name):
    with np.load(GOLDEN / f"hrrformer_{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(ours, expected, rtol=1e-4, atol=1e-5):
    torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=rtol, atol=atol)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- algebra ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hrr_ops_even", "hrr_ops_odd"])
def test_algebra(name):
    case = golden(name)
    x, y = case["x"], case["y"]
    bound = algebra.bind(x, y)
    close(bound, case["bound"])
    close(algebra.approximate_inverse(y), case["approx_inverse_y"])
    close(algebra.unbind(bound, y), case["unbound_approx"])
    close(algebra.exact_inverse(y), case["exact_inverse_y"])
    close(algebra.unbind(bound, y, exact=True), case["unbound_exact"], atol=1e-4)
    close(algebra.unbind(bound, y, exact=True), x, atol=1e-4)
    for prefix, left, right in (("", x, y), ("projected_", algebra.project(x), algebra.project(y))):
        memory = algebra.superpose(left, right)
        close(memory, case[f"{prefix}superposition"])
        retrieved = algebra.unbind(memory, right)
        close(retrieved, case[f"{prefix}unbound_from_superposition"])
        close(algebra.cosine(left, retrieved), case[f"{prefix}cosine"])
    close(algebra.project(x), case["projected_x"])
    close(algebra.project(y), case["projected_y"])
    close(algebra.bind(algebra.project(x), algebra.project(y)), case["projected_bound"])
    close(algebra.unbind(case["projected_bound"], algebra.project(y)), case["projected_unbound"])


@pytest.mark.parametrize("width", [1, 2, 7, 16])
def test_binding_is_circular_convolution(width):
    x, y, z = normal(3, 5, width)
    by_sums = torch.stack(
        [sum(x[:, j] * y[:, (i - j) % width] for j in range(width)) for i in range(width)], dim=1
    )
    close(algebra.bind(x, y), by_sums, 1e-10, 1e-12)
    close(algebra.bind(y, x), by_sums, 1e-10, 1e-12)
    close(algebra.bind(algebra.bind(x, y), z), algebra.bind(x, algebra.bind(y, z)), 1e-10, 1e-12)
    close(algebra.bind(x, y + z), algebra.bind(x, y) + algebra.bind(x, z), 1e-10, 1e-12)
    identity = F.one_hot(torch.tensor(0), width).double()
    close(algebra.bind(x, identity), x, 1e-10, 1e-12)
    close(algebra.unbind(x, y), algebra.bind(x, algebra.approximate_inverse(y)), 1e-10, 1e-12)


def test_adjoint_identity():
    v, b, q = normal(3, 4, 15)
    close((v * algebra.unbind(b, q)).sum(-1), (algebra.bind(q, v) * b).sum(-1), 1e-10, 1e-12)


@pytest.mark.parametrize("width", [8, 9])
def test_projected_vectors_have_one_inverse(width):
    y = algebra.project(normal(6, width))
    close(torch.fft.fft(y).abs(), torch.ones(6, width), 1e-10, 1e-12)
    close(algebra.exact_inverse(y), algebra.approximate_inverse(y), 1e-10, 1e-12)


def test_degenerate_vectors_give_numbers_and_finite_gradients():
    for operation in (
        algebra.project,
        algebra.exact_inverse,
        lambda x: algebra.cosine(x, torch.ones(6)),
    ):
        x = torch.stack(
            [torch.zeros(6), torch.ones(6)]
        ).requires_grad_()  # all, and all but one, frequencies are 0
        y = operation(x)
        y.backward(torch.ones_like(y))  # torch 2.6 transforms no gradient that is expanded
        assert y.isfinite().all()
        assert x.grad.isfinite().all()
    assert algebra.cosine(torch.zeros(6), torch.ones(6)) == 0


@pytest.mark.parametrize("pairs", [1, 4, 25, 100])
def test_capacity(pairs):
    generator = torch.Generator().manual_seed(pairs)
    width, trials = 256, 4000 // pairs
    raw, projected = [], []
    for _ in range(trials):
        x, y = (algebra.random_vectors(pairs, width, generator) for _ in range(2))
        raw.append(algebra.cosine(x, algebra.unbind(algebra.superpose(x, y), y)))
        x, y = algebra.project(x), algebra.project(y)
        projected.append(algebra.cosine(x, algebra.unbind(algebra.superpose(x, y), y)))
    assert torch.cat(projected).mean().item() == pytest.approx(1 / math.sqrt(pairs), abs=0.01)
    assert torch.cat(raw).mean().item() == pytest.approx(1 / math.sqrt(pairs + 1), abs=0.01)


def test_random_vectors_and_reproducibility():
    x, again = (algebra.random_vectors(500, 64, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(x, again)
    assert x.std().item() == pytest.approx(1 / 8, rel=0.02)


def test_half_precision_is_transformed_in_float32():
    x, y = normal(2, 3, 15, dtype=torch.float32).bfloat16()
    bound = algebra.bind(x, y)
    assert bound.dtype == torch.bfloat16
    assert torch.equal(bound, algebra.bind(x.float(), y.float()).bfloat16())


def test_widths_must_agree():
    for operation in (algebra.bind, algebra.unbind, algebra.superpose):
        with pytest.raises(ValueError, match=r"one width, got shapes \(2, 4\) and \(2, 5\)"):
            operation(torch.zeros(2, 4), torch.zeros(2, 5))


# -- the attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["attention_masked", "attention_unmasked"])
def test_attention(name):
    case = golden(name)
    x = case["x"].requires_grad_()
    module = HolographicAttention(x.shape[-1], int(case["heads"]))
    maps = ("query", "key", "value", "output")
    with torch.no_grad():
        for part in maps:
            getattr(module, part).weight.copy_(case[f"{part}_weight"].T)
    parts = module(x, case.get("mask"), return_parts=True)
    for part in ("query", "key", "value", "superposition", "cosine", "weight", "output"):
        close(getattr(parts, part), case[part])
    # sums of hundreds, in float32: the case itself is up to 9e-5 away from what float64 gives
    close(parts.retrieved, case["retrieved"], atol=1e-6 * case["retrieved"].abs().max().item())
    (parts.output * case["cotangent"]).sum().backward()
    close(x.grad, case["grad_x"])
    for part in maps:
        close(getattr(module, part).weight.grad.T, case[f"grad_{part}_weight"])
    close(module(x, case.get("mask")), case["output"])  # the same without asking for the parts


def attention(seed=0, width=12, heads=3, **options):
    torch.manual_seed(seed)
    return HolographicAttention(width, heads, **options).double()


def scale(module, name, factor):
    with torch.no_grad():
        getattr(module, name).weight.mul_(factor)


def test_attention_follows_permutations_and_scales():
    module, x = attention(), normal(2, 9, 12)
    y = module(x)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    close(module(x[:, order]), y[:, order], 1e-9, 1e-12)
    scale(module, "query", 3.0)
    scale(module, "key", 0.2)
    close(module(x), y, 1e-6, 1e-12)
    scale(module, "value", 5.0)
    close(module(x), 5 * y, 1e-6, 1e-12)


def test_weights_sum_to_one_within_their_bounds():
    length = 50
    weight = attention()(10 * normal(2, length, 12), return_parts=True).weight
    assert weight.shape == (2, 3, length, 1)
    close(weight.sum(2), torch.ones(2, 3, 1), 1e-10, 1e-12)
    assert weight.min() >= math.exp(-2) / (math.exp(-2) + length - 1)
    assert weight.max() <= math.exp(2) / (math.exp(2) + length - 1)


def test_a_row_does_not_depend_on_its_batch():
    module, x = attention(), normal(4, 9, 12)
    close(module(x)[2:3], module(x[2:3]), 1e-10, 1e-12)


def test_padding_is_in_the_superposition_as_released_unless_masked():
    x, other = normal(2, 9, 12), normal(2, 9, 12, seed=1)
    mask = torch.arange(9) < 6
    changed = torch.where(mask[:, None], x, other)
    mask = mask.expand(2, -1)
    released, masked = attention(), attention(mask_superposition=True)
    assert (released(x, mask) - released(changed, mask))[:, :6].abs().max() > 1e-4
    close(masked(x, mask)[:, :6], masked(changed, mask)[:, :6], 1e-10, 1e-12)
    close(masked(x, mask)[:, :6], masked(x[:, :6]), 1e-9, 1e-12)  # as if the padding were not there
    assert released(x, mask)[:, 6:].abs().max() == 0


@pytest.mark.parametrize("options", [{}, {"mask_superposition": True}, {"weights": "uniform"}])
def test_nothing_but_padding_gives_uniform_weights(options):
    x = normal(2, 5, 12).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    parts = attention(**options)(x, mask, return_parts=True)
    close(parts.weight[1], torch.full((3, 5, 1), 0.2))
    parts.output.sum().backward()
    assert x.grad.isfinite().all()


def test_controls():
    x, mask = normal(2, 8, 12), (torch.arange(8) < 5).expand(2, -1)
    uniform = attention(weights="uniform")
    close(uniform(x), uniform.output(uniform.value(x) / 8), 1e-10, 1e-12)
    close(uniform(x, mask), uniform.output(uniform.value(x) / 5 * mask[..., None]), 1e-6, 1e-8)
    off = attention(weights="off")
    assert torch.equal(off(x), torch.zeros_like(x))
    assert [count_parameters(m) for m in (attention(), uniform, off)] == [4 * 144, 2 * 144, 0]
    with pytest.raises(ValueError, match="no parts"):
        off(x, return_parts=True)


def test_options_do_what_they_say():
    x = normal(2, 7, 12)
    exact = attention(unbinding="exact")(x, return_parts=True)
    close(
        exact.retrieved, algebra.unbind(exact.superposition, exact.query, exact=True), 1e-8, 1e-10
    )
    projected = attention(projection=True)(x, return_parts=True)
    plain = attention()(x, return_parts=True)
    for part in ("query", "key", "value"):
        close(getattr(projected, part), algebra.project(getattr(plain, part)), 1e-9, 1e-12)
    close(projected.superposition, algebra.superpose(projected.key, projected.value), 1e-9, 1e-12)
    learned = attention(temperature="learned")
    close(learned(x), plain.output, 1e-10, 1e-12)
    with torch.no_grad():
        learned.log_temperature.fill_(math.log(0.05))
    sharp = learned(x, return_parts=True)
    close(sharp.weight, (plain.cosine / 0.05).softmax(2), 1e-9, 1e-12)
    sharp.output.square().sum().backward()
    assert (learned.log_temperature.grad != 0).all()
    biased = attention(bias=True)
    assert count_parameters(biased) == 4 * (144 + 12)


@pytest.mark.parametrize(
    "options", [{}, {"unbinding": "exact"}, {"projection": True}, {"temperature": "learned"}]
)
def test_attention_gradients_numerically(options):
    x = normal(1, 4, 6).requires_grad_()
    module = attention(width=6, heads=2, **options)
    assert torch.autograd.gradcheck(module, (x, torch.tensor([[1, 1, 1, 0]])))


def test_mixed_precision_keeps_the_memory_in_float32():
    # D = 12: no power of two
    module, x = (attention(width=24, heads=2).float(), normal(2, 40, 24).float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = module(x, return_parts=True)
    assert parts.weight.dtype == parts.retrieved.dtype == parts.superposition.dtype == torch.float32
    full = module(x, return_parts=True)
    close(parts.output.float(), full.output, rtol=0, atol=0.02 * full.output.abs().max().item())
    low = module.bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    close(low.float(), full.output, rtol=0, atol=0.05 * full.output.abs().max().item())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HolographicAttention(30, 4), "heads is 4, width is 30"),
        (lambda: HolographicAttention(30, 0), "heads is 0"),
        (
            lambda: HolographicAttention(30, 2, unbinding="inverse"),
            "unbinding is 'inverse'; allowed: approximate, exact",
        ),
        (lambda: HolographicAttention(30, 2, weights="flat"), "allowed: softmax, uniform, off"),
        (lambda: HolographicAttention(30, 2, temperature="warm"), "temperature is 'warm'"),
        (
            lambda: attention()(torch.zeros(2, 5, 11)),
            r"shape \(2, 5, 11\), this mixer takes \(B, T, 12\)",
        ),
        (lambda: attention()(normal(2, 5, 12), torch.ones(2, 4)), r"mask has shape \(2, 4\)"),
    ],
)
def test_attention_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_initialisation_is_flaxs():
    torch.manual_seed(0)
    linear = lecun_linear(100, 2000)
    assert linear.weight.std().item() == pytest.approx(0.1, rel=0.01)
    # cut at two of the uncut deviations
    assert linear.weight.abs().max().item() <= 0.2 / 0.8796 + 1e-6
    assert not linear.bias.any()


# -- networks --------------------------------------------------------------------------------------

NETWORKS = {
    "listops": "listops",
    "text": "text",
    "retrieval": "retrieval",
    "image": "image",
    "path": "pathfinder",
    "malware": "ember",
}


def network_of(case, task):
    s = TASKS[task]
    width, length = case["param.token_embedding"].shape[1], case["tokens"].shape[1]
    settings = dataclasses.replace(
        s,
        length=length,
        width=width,
        mlp_width=s.mlp_width * width // s.width,
        heads=int(case["heads"]),
        layers=int(case["layers"]),
        dropout=0.0,
    )
    network = Hrrformer(settings)
    ours = {}  # golden name: our parameter
    for name, parameter in network.named_parameters():
        name = (
            name.replace("blocks.", "layer")
            .replace("mixer.", "")
            .replace("class_token", "cls_token")
        )
        name = name.replace("norm.weight", "norm.scale").replace(
            "token_embedding.weight", "token_embedding"
        )
        ours[name] = parameter
    assert {f"param.{name}" for name in ours} == {key for key in case if key.startswith("param.")}
    with torch.no_grad():
        for name, parameter in ours.items():
            value = case[f"param.{name}"]
            is_map = name.endswith(".weight")
            parameter.copy_(value.T if is_map else value)
    return network, ours


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_network(name):
    case = golden(f"network_{name}")
    network, ours = network_of(case, NETWORKS[name])
    texts = [case[key] for key in ("tokens", "tokens2") if key in case]
    logits = network(*texts)
    close(logits.softmax(-1) if name == "malware" else logits.log_softmax(-1), case["output"])
    loss = network.loss(logits, case["labels"])
    close(loss, case["loss"])
    loss.backward()
    for key, parameter in ours.items():
        close(parameter.grad.norm(), case[f"gradnorm.{key}"])


def test_fixed_positions():
    close(fixed_positions(12, 10), golden("fixed_positions")["positions"])
    with pytest.raises(ValueError, match="width is 15"):
        fixed_positions(12, 15)


@pytest.mark.parametrize(
    ("task", "multi", "single"),
    [
        ("listops", 9_173_514, 2_613_514),
        ("text", 12_996_610, 2_495_490),
        ("retrieval", 428_034, 181_314),
        ("image", 1_120_394, 462_730),
        ("pathfinder", 11_804_162, 7_083_266),
        ("pathx", 22_811_906, 22_811_906),
    ],
)
def test_published_networks_have_their_parameter_counts(task, multi, single):
    with torch.device("meta"):
        assert count_parameters(build(task)) == multi
        assert count_parameters(build(task, layers=1)) == single


@pytest.mark.parametrize(("length", "count"), [(256, 724_994), (16_384, 4_853_762)])
def test_ember_parameter_counts(length, count):
    with torch.device("meta"):
        assert count_parameters(build("ember", length=length)) == count


SMALL = {"length": 16, "width": 16, "mlp_width": 8, "heads": 2, "layers": 2, "dropout": 0.0}


def small(task, seed=0, **changes):
    torch.manual_seed(seed)
    return build(task, **SMALL | changes)


def tokens_of(network, count=3, length=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, network.settings.vocabulary, (count, length), generator=generator)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("mixer", "options"),
    [
        ("hrrformer", {}),
        ("hrrformer", {"weights": "uniform"}),
        ("hrrformer", {"weights": "off"}),
        ("none", {}),
        ("hrrformer", {"temperature": "learned", "projection": True}),
        ("softmax_fused", {}),
        ("fnet", {}),
        ("luna", {"memory": 5}),
        ("hyperzzw", {}),
        ("hamburger", {"rank": 4}),
    ],
)
def test_every_task_with_every_kind_of_branch_trains_all_its_parameters(task, mixer, options):
    network = small(task, mixer=mixer, mixer_options=options)
    texts = [tokens_of(network), tokens_of(network, seed=1)][: 1 + network.settings.pair]
    logits = network(*texts)
    assert logits.shape == (3, network.settings.classes)
    network.loss(logits, torch.tensor([0, 1, 1])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_luna_passes_its_memory_on():
    network = small("image", mixer="luna", mixer_options={"memory": 5})
    assert [name for name, _ in network.named_parameters() if name.endswith("mixer.memory")] == [
        "blocks.0.mixer.memory"
    ]


def test_parts_say_what_every_layer_did():
    network = small("text")
    tokens = tokens_of(network)
    parts = network(tokens, return_parts=True)
    close(parts.logits, network(tokens))
    assert len(parts.layers) == 2
    first = parts.layers[0]
    assert first.attention.weight.shape == (3, 2, 16, 1)
    assert first.branch_ratio == pytest.approx((first.branch.norm() / first.residual.norm()).item())
    assert 0 < first.branch_ratio < 0.5  # about 1/T at first
    off = small("text", mixer="none")(tokens, return_parts=True)
    assert off.layers[0].branch_ratio == 0
    assert small("retrieval")(tokens, tokens, return_parts=True).layers[0].residual.shape == (
        6,
        16,
        16,
    )


def test_padding_matters_as_released_and_not_at_all_when_masked_fully():
    tokens = tokens_of(small("text"), length=10)
    padded = F.pad(tokens, (0, 6))
    released = small("text")
    assert (released(tokens) - released(padded)).abs().max() > 1e-4
    full = small("text", masking="full")
    close(full(tokens), full(padded))
    assert full(torch.zeros(2, 16, dtype=torch.long)).isfinite().all()
    assert released(torch.zeros(2, 16, dtype=torch.long)).isfinite().all()


def test_class_token_is_never_masked_and_short_batches_work():
    network = small("ember", masking="full")
    empty = torch.zeros(1, 3, dtype=torch.int32)
    parts = network(empty, return_parts=True)
    close(parts.layers[0].attention.weight[0, :, 0], torch.ones(2, 1))
    tokens = tokens_of(network, length=5)
    close(network(tokens), network(F.pad(tokens, (0, 4))))


def test_dropout_acts_in_training_only():
    network = small("image", dropout=0.5)
    tokens = tokens_of(network)
    assert not torch.equal(network(tokens), network(tokens))
    network.eval()
    assert torch.equal(network(tokens), network(tokens))


def test_binary_loss_is_twice_the_cross_entropy():
    logits, labels = normal(5, 2), torch.tensor([0, 1, 1, 0, 1])
    close(small("ember").loss(logits, labels), 2 * F.cross_entropy(logits, labels), 1e-9, 1e-12)
    assert small("ember").loss(
        torch.tensor([[99.0, -99.0]]), torch.tensor([1])
    ).item() == pytest.approx(46.05, 1e-3)


def test_it_learns():
    network = small("image", classes=2, length=8)  # which half of the row is bright
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        labels = torch.randint(0, 2, (32,), generator=generator)
        tokens = torch.randint(0, 64, (32, 8), generator=generator)
        tokens += 128 * ((torch.arange(8) // 4) == labels[:, None])
        logits = network(tokens)
        optimizer.zero_grad()
        network.loss(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(-1) == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small("image", heads=3), "heads is 3; allowed: divisors of the width, 16"),
        (lambda: small("image", width=15, heads=3), "width is 15; allowed: even numbers"),
        (lambda: small("image", layers=0), "layers is 0"),
        (
            lambda: small("image", order="sandwich"),
            "order is 'sandwich'; allowed: pre_norm, mlp_pre_norm, post_norm",
        ),
        (lambda: small("image", dropout=1.0), "dropout is 1.0"),
        (lambda: small("image", depth=3), "'depth' does not exist; allowed: length, vocabulary"),
        (
            lambda: small("image", mixer="softmax"),
            "mixer is 'softmax'; allowed: none, hrrformer, softmax_explicit",
        ),
        (lambda: small("images"), "task is 'images'; allowed: listops, text"),
    ],
)
def test_settings_refuse(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    ("task", "texts", "message"),
    [
        ("image", [torch.full((2, 16), 256)], r"token 256 is outside the vocabulary 0..255"),
        ("image", [torch.full((2, 16), -1)], r"token -1 is outside"),
        (
            "listops",
            [torch.ones(2, 17, dtype=torch.long)],
            "17 tokens; this network has positions for 16",
        ),
        (
            "image",
            [torch.zeros(2, 0, dtype=torch.long)],
            r"shape \(2, 0\); needed: integers \(B, T\)",
        ),
        ("image", [torch.zeros(2, 16)], "float32 of shape"),
        ("image", [torch.zeros(16, dtype=torch.long)], r"shape \(16,\)"),
        (
            "retrieval",
            [torch.ones(2, 16, dtype=torch.long)],
            r"two texts of one shape, got \(2, 16\) and nothing",
        ),
        ("text", [torch.ones(2, 16, dtype=torch.long)] * 2, "one text, not a pair"),
    ],
)
def test_networks_refuse(task, texts, message):
    network = small(task)
    with pytest.raises(ValueError, match=message):
        network(*texts)


def test_changed_settings_leave_the_named_ones_alone():
    changed = task_settings("image", layers=1, mixer="softmax_fused")
    assert (changed.layers, changed.mixer, TASKS["image"].layers, TASKS["image"].mixer) == (
        1,
        "softmax_fused",
        3,
        "hrrformer",
    )


def test_norms_divide_as_the_release_does_where_there_is_hardly_any_variance():
    network = small("image")
    x = torch.tensor([1.0, -1.0]).repeat(8) * 1e-3  # variance 1e-6, as much as is added to it
    close(network.blocks[0].mlp_norm(x), torch.tensor([1.0, -1.0]).repeat(8) / math.sqrt(2))
