"""The slow neural loss and the norm penalty."""

import pytest
import torch

from terminator.losses import norm_penalty, slow_neural_loss
from terminator.sfne import RGU
from terminator.slow_net import LocalSlowNet, SlowNet


def kernels(channels, *positions):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, c, *positions, generator=generator, requires_grad=True) for c in channels
    ]


@pytest.mark.parametrize("positions", [(3, 3), (5,)])
def test_against_plain_loops(positions):
    given = kernels([2, 4, 4, 12], *positions)
    total, by_sums = 0.0, 0.0
    for i in range(4):
        for j in range(i):
            low, high = given[j][0], given[i][0]
            tiled = torch.stack([low[c % len(low)] for c in range(len(high))])
            total += (
                sum((tiled[c] - high[c]).square().sum() for c in range(len(high))) / high.numel()
            )
            by_sums += (tiled.sum(0) - high.sum(0)).square().mean()
    torch.testing.assert_close(slow_neural_loss(given), total)
    torch.testing.assert_close(slow_neural_loss(given, "channel_sum"), by_sums)


@pytest.mark.parametrize("form", ["kernel", "channel_sum"])
def test_gradients_reach_every_kernel_of_a_pair(form):
    given = kernels([3, 12, 12], 4, 4)
    slow_neural_loss(given, form).backward()
    assert all(kernel.grad.abs().sum() > 0 for kernel in given)
    same = kernels([3], 4, 4)[0]
    assert slow_neural_loss([same, same.repeat(1, 4, 1, 1)], form).item() == pytest.approx(
        0, abs=1e-9
    )


def test_one_block_has_no_pairs():
    assert slow_neural_loss(kernels([3], 4, 4)).item() == 0


def test_other_forms_and_channels_that_do_not_tile():
    with pytest.raises(ValueError, match="'norm'; allowed: kernel, channel_sum"):
        slow_neural_loss(kernels([2, 4], 3), "norm")
    with pytest.raises(ValueError, match="4 channels cannot be tiled to 6"):
        slow_neural_loss(kernels([4, 6], 3))


def test_norm_penalty_by_hand_and_at_zero():
    fast, slow = [torch.tensor([3.0, 4.0]), torch.zeros(2)], [torch.tensor([[6.0, 8.0]])]
    tensors = [t.requires_grad_() for t in (*fast, *slow)]
    penalty = norm_penalty(fast, slow, l2_reg=0.1)
    assert penalty.item() == pytest.approx(0.1 * (5 + 1e-6 * 10))
    penalty.backward()
    assert all(t.grad.isfinite().all() for t in tensors)  # zero biases too
    torch.testing.assert_close(fast[0].grad, torch.tensor([0.06, 0.08]))


def names(model, tensors):
    ids = {id(t) for t in tensors}
    return {name for name, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"standardization": "batch_affine"},
        {"trainable_renormalization": True},
        {"trainable_fast_bias": True},
        {"hyper_interaction": False},
        {"dimensions": 1, "size": 16},
    ],
)
def test_who_is_penalised(tiny_model, changes):
    model = tiny_model(**changes)
    fast, slow = model.penalized_parameters()
    fast_names, slow_names = names(model, fast), names(model, slow)
    assert (len(fast), len(slow)) == (len(fast_names), len(slow_names))  # nobody twice
    inside = {
        id(p): kind
        for kind in (SlowNet, RGU)
        for m in model.modules()
        if isinstance(m, kind)
        for p in m.parameters()
    }
    expected = {
        name
        for name, p in model.named_parameters()
        if name.startswith("blocks.")
        and id(p) not in inside
        and not name.split(".")[2:] == ["bias"]
        and "group_standardize" not in name
    }
    assert fast_names == expected
    assert not any(
        word in name
        for name in fast_names
        for word in ("classifier", "rgu", "slow_net", "fast_bias")
    )
    assert {
        "blocks.0.locals.l1.bias",
        "blocks.0.mixer.bias",
        "blocks.0.bottleneck.weight",
    } <= fast_names
    assert {
        "blocks.0.rgu_slow.k.weight",
        "blocks.0.locals.l2.slow_net.context.weight",
        "blocks.0.slow_net.filters.0.weight",
        "blocks.0.locals.l2.slow_net.gates.1.weight",
    } <= slow_names
    assert all(name.endswith("weight") for name in slow_names)
    assert not any("channel" in name for name in slow_names)


def test_counts_of_the_tiny_model(tiny_model):
    fast, slow = tiny_model().penalized_parameters()
    # per block: mixer, bottleneck, four local mixers (weight and bias each), four scalars
    assert len(fast) == 3 * (2 * (1 + 1 + 4) + 4)
    # linear maps: global 4 filters + 3 + output in block 1, 3 + 2 + 1 in the others; spatial 3 + 2
    # + 1;
    # local 3 + 2 + 1, reduce, context, 2 gates; RGUs 2 x 4
    assert len(slow) == (8 + 6 + 6) + 3 * (6 + 4 * 10 + 8)
    assert sum(p.numel() for p in fast) == sum(
        5 * (c * c + c) + (10 + skips) * c * 12 + 12 + 4 for c, skips in ((3, 0), (12, 0), (12, 1))
    )


def test_slow_parameters_are_those_of_all_slow_nets(tiny_model):
    model = tiny_model()
    slow = names(model, model.slow_parameters())
    assert slow == {name for name, _ in model.named_parameters() if "slow_net." in name}
    assert any(isinstance(m, LocalSlowNet) for m in model.modules())
