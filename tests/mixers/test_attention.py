"""The token mixers: against their formulas and each other, under permutations, masks and bad
input.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from terminator import hyperzzw
from terminator.hamburger import nmf
from terminator.mixers.kernels import _orthogonal_features
from terminator.mixers.low_rank import Luna, pseudo_inverse
from terminator.mixers.registry import TOKEN_MIXERS, make_mixer, options_of

WIDTH, LENGTH, HEADS = 12, 20, 3
SMALL = {
    "local": {"block": 6},
    "linformer": {"rank": 4},
    "performer": {"features": 16},
    "luna": {"memory": 5},
    "nystromformer": {"landmarks": 6},
    "synthesizer": {"rank": 4},
    "hyperzzw": {"hidden": 8},
    "hamburger": {"rank": 4},
    "hrrformer": {"mask_superposition": True},
}
# where a token stands matters
FIXED = {"local", "linformer", "fnet", "synthesizer", "nystromformer", "hyperzzw"}


def close(ours, expected, rtol=1e-9, atol=1e-11):
    torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=rtol, atol=atol)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixer(name, seed=0, length=LENGTH, **options):
    torch.manual_seed(seed)
    return make_mixer(name, WIDTH, length, HEADS, **SMALL.get(name, {}) | options).double()


def same_maps(*mixers):
    """Give all of them the maps of the first."""
    for other in mixers[1:]:
        state = {
            key: value for key, value in mixers[0].state_dict().items() if key in other.state_dict()
        }
        assert state
        other.load_state_dict(state, strict=False)
    return mixers


def heads_of(module, x):
    """Queries, keys and values (B, h, T, D) of a mixer with these maps."""
    return [
        getattr(module, name)(x).reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)
        for name in ("query", "key", "value")
    ]


def merged(module, mixed):
    return module.output(mixed.transpose(1, 2).reshape(mixed.shape[0], mixed.shape[2], -1))


# -- every mixer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOKEN_MIXERS)
@pytest.mark.parametrize("length", [2, 7, LENGTH])
def test_shapes_and_gradients(name, length):
    module, x = mixer(name), normal(2, length, WIDTH).requires_grad_()
    y = module(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    y.square().sum().backward()
    assert x.grad.isfinite().all()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_a_row_does_not_depend_on_its_batch(name):
    module, x = mixer(name), normal(4, LENGTH, WIDTH)
    close(module(x)[1:2], module(x[1:2]))


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_permutations_where_nothing_depends_on_the_place(name):
    module, x = mixer(name), normal(2, LENGTH, WIDTH)
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0))
    difference = (module(x[:, order]) - module(x)[:, order]).abs().max().item()
    if name in FIXED:
        assert difference > 1e-3
    else:
        assert difference < 1e-10


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_every_token_reaches_the_others(name):
    module, x = mixer(name), normal(1, LENGTH, WIDTH)
    changed = x.clone()
    changed[:, 0] = normal(WIDTH, seed=1)
    difference = (module(x) - module(changed)).abs().amax(-1)[0]  # (T,)
    reached = slice(1, 6) if name == "local" else slice(1, None)
    if name == "synthesizer" or name == "hrrformer":  # faint there, by a weight or a scalar alone
        assert difference[reached].min() > 1e-8
    else:
        assert difference[reached].min() > 1e-5
    if name == "local":
        assert difference[6:].max() == 0


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_masks(name):
    module, x = mixer(name), normal(2, LENGTH, WIDTH)
    real = torch.arange(LENGTH) < 13
    changed = torch.where(real[:, None], x, 9 * normal(2, LENGTH, WIDTH, seed=1))
    mask = real.expand(2, -1)
    ours, others = module(x, mask)[:, :13], module(changed, mask)[:, :13]
    if module.uses_mask:
        close(ours, others)
        assert (
            module(x)[:, :13] - module(changed)[:, :13]
        ).abs().max() > 1e-6  # without it they do matter
    else:
        assert name == "fnet"
        close(module(x, mask), module(x))
    close(module(x, torch.ones(2, LENGTH)), module(x))  # a mask of ones is none


@pytest.mark.parametrize("scale", [1, 6])
@pytest.mark.parametrize(
    "name", [n for n in TOKEN_MIXERS if n not in ("fnet", "linformer", "nystromformer")]
)
def test_how_much_padding_there_is_changes_nothing(name, scale):
    """(Two others project or average over stretches of positions: how many there are is a part of
    them.)
    """
    module, x = mixer(name), scale * normal(2, LENGTH, WIDTH)
    count = LENGTH // 2
    real = (torch.arange(LENGTH) < count).expand(2, -1)
    alone = module(x[:, :count], torch.ones(2, count))
    for length in (count + 2, LENGTH):
        given = module(x[:, :length], real[:, :length])[:, :count]
        close(given, alone)


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_rows_of_nothing_but_padding_stay_finite_and_alone(name):
    module, x = mixer(name), normal(2, LENGTH, WIDTH).requires_grad_()
    mask = torch.stack([torch.ones(LENGTH), torch.zeros(LENGTH)])
    y = module(x, mask)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    close(y[0], module(x[:1])[0])


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_mixed_precision(name):
    module, x = mixer(name).float(), normal(2, LENGTH, WIDTH).float()
    mask = (torch.arange(LENGTH) < 13).expand(2, -1)
    for given in (None, mask):
        full = module(x, given)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = module(x, given)
        torch.testing.assert_close(low.float(), full, rtol=0, atol=0.05 * full.abs().max().item())


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_operations_can_be_counted(name):
    """As records do: the counter's hooks fail on views of parameters that are made without
    gradients.
    """
    module = mixer(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(normal(2, LENGTH, WIDTH))
    assert (counter.get_total_flops() > 0) == (name != "fnet")  # transforms are not counted by it


# -- one by one ------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_softmax_explicit_is_fused_and_torchs_own(masked):
    explicit, fused = same_maps(mixer("softmax_explicit"), mixer("softmax_fused", seed=1))
    x, mask = (
        normal(2, LENGTH, WIDTH),
        (torch.arange(LENGTH) < 13).expand(2, -1) if masked else None,
    )
    close(explicit(x, mask), fused(x, mask))
    reference = torch.nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True).double()
    with torch.no_grad():
        reference.in_proj_weight.copy_(
            torch.cat([part.weight for part in (fused.query, fused.key, fused.value)])
        )
        reference.out_proj.weight.copy_(fused.output.weight)
    expected, _ = reference(x, x, x, key_padding_mask=None if mask is None else ~mask)
    close(fused(x, mask), expected)


@pytest.mark.parametrize("block", [1, 4, 6, LENGTH, 64])  # 6 does not divide the length
def test_local_is_softmax_under_a_block_mask(block):
    local, full = same_maps(mixer("local", block=block), mixer("softmax_explicit"))
    x = normal(2, LENGTH, WIDTH)
    q, k, v = heads_of(full, x)
    number = torch.arange(LENGTH) // block
    expected = F.scaled_dot_product_attention(q, k, v, number[:, None] == number)
    close(local(x), merged(full, expected))
    if block >= LENGTH:
        close(local(x), full(x))


def test_linear_attention_is_its_quadratic_form():
    module, x = mixer("linear"), normal(2, LENGTH, WIDTH)
    q, k, v = heads_of(module, x)
    weights = (F.elu(q) + 1) @ (F.elu(k) + 1).transpose(-2, -1)  # (B, h, T, T)
    close(module(x), merged(module, weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)))


def test_performer_is_its_quadratic_form_and_comes_near_the_softmax():
    x, full = normal(2, LENGTH, WIDTH) / 2, mixer("softmax_explicit")
    errors = []
    for features in (16, 8192):
        module = same_maps(full, mixer("performer", features=features))[1]
        errors.append((module(x) - full(x)).abs().mean().item() / full(x).abs().mean().item())
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 4
    q, k, v = heads_of(module, x)
    w, d = module.projection, WIDTH // HEADS
    phi = [
        torch.exp(s @ w.T - s.square().sum(-1, keepdim=True) / 2)
        for s in (q * d**-0.25, k * d**-0.25)
    ]
    weights = phi[0] @ phi[1].transpose(-2, -1)
    expected = merged(module, weights / weights.sum(-1, keepdim=True) @ v)
    # the 1e-6 that stabilises each feature is not in there
    close(module(x), expected, rtol=0, atol=1e-3)


def test_performer_features_are_orthogonal_in_sets():
    torch.manual_seed(0)
    assert _orthogonal_features(40_000, 4).mean(0).abs().max() < 0.02  # no preferred direction
    w = _orthogonal_features(10, 4)
    assert w.shape == (10, 4)
    for start in (0, 4, 8):
        gram = w[start : start + 4] @ w[start : start + 4].T
        torch.testing.assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-5)


def test_performer_bears_large_inputs():
    assert mixer("performer")(100 * normal(2, LENGTH, WIDTH)).isfinite().all()


def test_linformer_is_softmax_over_projected_keys_and_values():
    module, x = mixer("linformer"), normal(2, 15, WIDTH)
    q, k, v = heads_of(module, x)
    p = module.projection[:15].T
    weights = (q @ (p @ k).transpose(-2, -1) / math.sqrt(WIDTH // HEADS)).softmax(-1)
    assert weights.shape[-1] == 4
    close(module(x), merged(module, weights @ (p @ v)))


def test_linformer_with_an_identity_map_is_softmax_attention():
    full, module = mixer("softmax_fused"), mixer("linformer", rank=LENGTH)
    same_maps(full, module)
    with torch.no_grad():
        module.projection.copy_(torch.eye(LENGTH))
    close(module(normal(2, LENGTH, WIDTH)), full(normal(2, LENGTH, WIDTH)))


def test_nystromformer_with_a_landmark_per_token_is_softmax_attention():
    full, module = same_maps(
        mixer("softmax_fused"), mixer("nystromformer", landmarks=LENGTH, iterations=40)
    )
    x = normal(2, LENGTH, WIDTH)
    close(module(x), full(x), rtol=1e-5, atol=1e-7)
    more = same_maps(full, mixer("nystromformer", landmarks=999, iterations=40))[1]
    close(more(x), module(x))
    few = same_maps(full, mixer("nystromformer", landmarks=5))[1]
    assert 1e-4 < (few(x) - full(x)).abs().max() < full(x).abs().max()


def test_nystromformer_landmarks_are_segment_means():
    x = normal(2, HEADS, LENGTH, 4)
    means = mixer("nystromformer", landmarks=5)._means(x)
    close(means, x.unflatten(2, (5, 4)).mean(3))


def test_pseudo_inverse():
    matrix = (2 * normal(3, 6, 6)).softmax(-1)
    close(pseudo_inverse(matrix, 40), torch.linalg.pinv(matrix), rtol=1e-6, atol=1e-8)
    with_few = (pseudo_inverse(matrix, 6) @ matrix - torch.eye(6)).norm()
    assert with_few < (pseudo_inverse(matrix, 1) @ matrix - torch.eye(6)).norm()


def test_fnet_is_the_real_part_of_the_transform():
    x = normal(2, LENGTH, WIDTH)
    expected = torch.fft.fft(torch.fft.fft(x, dim=-1), dim=1).real
    close(mixer("fnet")(x), expected)
    close(mixer("fnet", normalization="ortho")(x), expected / math.sqrt(LENGTH * WIDTH))
    assert not list(mixer("fnet").parameters())


def test_luna_packs_and_unpacks():
    module, x = mixer("luna"), normal(2, LENGTH, WIDTH)
    memory = module.memory.expand(2, -1, -1)
    packed = module.pack(memory, source=x)
    assert packed.shape == (2, 5, WIDTH)
    y, passed_on = module(x, return_memory=True)
    close(y, module.unpack(x, source=packed))
    close(passed_on.mean(-1), torch.zeros(2, 5))
    close(passed_on, F.layer_norm(memory + packed, (WIDTH,), eps=1e-6))
    later = mixer("luna", seed=1, own_memory=False)
    assert isinstance(later, Luna)
    assert later(x, memory=passed_on).shape == x.shape
    with pytest.raises(ValueError, match="was given no memory"):
        later(x)


@pytest.mark.parametrize("rank", [0, 4])
def test_synthesizer_mixes_by_its_parameters_alone(rank):
    module, x = mixer("synthesizer", rank=rank), normal(2, 15, WIDTH)
    factors = list(module.factors)
    logits = factors[0] if rank == 0 else factors[0] @ factors[1].transpose(1, 2)
    weights = logits[:, :15, :15].softmax(-1)
    value = module.value(x).reshape(2, 15, HEADS, -1).transpose(1, 2)
    close(module(x), merged(module, weights @ value))


@pytest.mark.parametrize("operator", ["convolution", "causal_convolution", "matrix"])
def test_hyperzzw_is_the_global_branch(operator):
    module, x = mixer("hyperzzw", length=16, operator=operator), normal(2, 16, WIDTH)
    z = x.transpose(1, 2)
    score = z * module.slow_net()
    value = F.instance_norm(module.slow(score) + module.fast(z), eps=1e-5)
    mixed = hyperzzw.global_operator(operator, score, value)
    close(module(x), module.output(mixed).transpose(1, 2))


def test_hyperzzw_convolves_circularly():
    module, x = mixer("hyperzzw", length=6), normal(1, 6, WIDTH)
    z = x.transpose(1, 2)
    score = z * module.slow_net()
    value = F.instance_norm(module.slow(score) + module.fast(z), eps=1e-5)
    sums = torch.stack(
        [sum(score[..., j] * value[..., (i - j) % 6] for j in range(6)) for i in range(6)], dim=-1
    )
    close(module(x), module.output(sums).transpose(1, 2))


def test_hamburger_is_the_ham_between_two_maps():
    module, x = mixer("hamburger"), normal(2, LENGTH, WIDTH)
    lowered = F.relu(x @ module.lower.weight.T + module.lower.bias).transpose(1, 2)  # (B, E, T)
    bases = module.ham.bases.expand(2, -1, -1)
    found = nmf(lowered, bases.clone(), 6)
    expected = (found.bases @ found.coefficients.mT).transpose(
        1, 2
    ) @ module.upper.weight.T + module.upper.bias
    close(module(x), expected)


def test_hamburger_updates_its_bases_only_when_told_to():
    fixed, updated = mixer("hamburger"), mixer("hamburger", online_update="training")
    before = fixed.ham.bases.clone()
    for module in (fixed, updated):
        module(normal(2, LENGTH, WIDTH))
    assert torch.equal(fixed.ham.bases, before)
    assert (updated.ham.bases - before).abs().max() > 1e-3
    updated.eval()
    learnt = updated.ham.bases.clone()
    updated(normal(2, LENGTH, WIDTH))
    assert torch.equal(updated.ham.bases, learnt)


# -- the factory -----------------------------------------------------------------------------------


def test_options_and_biases():
    assert options_of("local") == ("block", "bias")
    for name in TOKEN_MIXERS:
        if "bias" in options_of(name):
            with_bias, without = mixer(name, bias=True), mixer(name)
            extra = sum(p.numel() for p in with_bias.parameters()) - sum(
                p.numel() for p in without.parameters()
            )
            assert extra == sum(
                p.numel() for key, p in with_bias.named_parameters() if key.endswith("bias")
            )
            assert extra >= 2 * WIDTH


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_mixer("sofmax", 12, 20, 3),
            "mixer is 'sofmax'; allowed: hrrformer, softmax_explicit, softmax_fused",
        ),
        (
            lambda: make_mixer("local", 12, 20, 3, rank=2),
            "mixer local has no option 'rank'; allowed: block, bias",
        ),
        (
            lambda: make_mixer("softmax_fused", 12, 20, 3, fused=False),
            "no option 'fused'; allowed: bias",
        ),
        (lambda: make_mixer("linear", 12, 20, 5), "heads is 5, width is 12"),
        (lambda: make_mixer("synthesizer", 12, 20, 5), "heads is 5, width is 12"),
        (lambda: make_mixer("luna", 12, 0, 3), "length is 0"),
        (lambda: make_mixer("fnet", 0, 20, 3), "width is 0"),
        (
            lambda: make_mixer("fnet", 12, 20, normalization="forward"),
            "is 'forward'; allowed: backward, ortho",
        ),
        (
            lambda: make_mixer("hyperzzw", 12, 20, operator="product"),
            "operator is 'product'; allowed: matrix, convolution",
        ),
        (lambda: mixer("local", block=0), "block is 0"),
        (lambda: mixer("performer", features=0), "features is 0"),
        (lambda: mixer("linformer", rank=0), "rank is 0"),
        (lambda: mixer("nystromformer", landmarks=0), "landmarks is 0"),
        (lambda: mixer("luna", memory=0), "memory is 0"),
        (lambda: mixer("synthesizer", rank=-1), "rank is -1"),
        (lambda: mixer("hamburger", rank=13), "rank is 13; allowed: 1 to 12"),
        (lambda: mixer("hamburger", steps=-1), "train_steps is -1"),
        (
            lambda: mixer("hamburger", online_update="on"),
            "online_update is 'on'; allowed: training, released, off",
        ),
        (
            lambda: mixer("hyperzzw", operator="matrix")(normal(1, 20, 12)),
            "a length that is a square number, got 20",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["linformer", "synthesizer", "hyperzzw"])
def test_longer_sequences_than_made_for_are_refused(name):
    with pytest.raises(ValueError, match="21 tokens; this mixer was made for at most 20"):
        mixer(name)(normal(1, 21, WIDTH))


@pytest.mark.parametrize("name", TOKEN_MIXERS)
def test_misshapen_inputs_are_refused(name):
    with pytest.raises(ValueError, match=r"shape \(2, 5, 11\), this mixer takes \(B, T, 12\)"):
        mixer(name)(normal(2, 5, 11))
    with pytest.raises(
        ValueError, match=r"mask has shape \(2, 4\); it must be \(B, T\) = \(2, 5\)"
    ):
        mixer(name)(normal(2, 5, 12), torch.ones(2, 4))
