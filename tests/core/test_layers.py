"""Linear maps, their gradients and the memory layouts they accept."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from terminator import layers
from terminator.bench.measure import best_seconds
from terminator.ops import layout, products
from terminator.sfne import RGU, Bottleneck


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(x, weight, bias):
    return torch.einsum("oi,ni...->no...", weight, x) + bias.view(1, -1, *[1] * (x.ndim - 2))


LAYOUTS = {
    "images outermost": lambda x: x.contiguous(),
    "channels outermost": layout.channels_outermost,
    "channels innermost": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
}


@pytest.mark.parametrize("positions", [(7,), (3, 4)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_linear_map_and_gradients_in_every_layout(layout, positions):
    x = LAYOUTS[layout](numbers(2, 3, *positions)).requires_grad_()
    weight, bias = numbers(5, 3, seed=1).requires_grad_(), numbers(5, seed=2).requires_grad_()
    inputs, upstream = (x, weight, bias), numbers(2, 5, *positions, seed=3)
    ours, theirs = layers.linear_map(*inputs), plain(*inputs)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert torch.autograd.gradcheck(layers.linear_map, inputs)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(72, 70, 300), (3, 3, 5), (40, 33, 4096)])
def test_products_of_both_libraries_are_the_same(monkeypatch, threads, sizes):
    rows, inner, columns = sizes
    exact = numbers(rows, inner) @ numbers(inner, columns, seed=1)
    a, b = numbers(rows, inner).float(), numbers(inner, columns, seed=1).float()
    layouts = [
        (a, b),
        (a.t().contiguous().t(), b),
        (a, b.t().contiguous().t()),
        (a, torch.cat([b, b], 1)[:, :columns]),
        (a, torch.stack([b, b], 2)[..., 0]),
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for faster in (True, False):
            monkeypatch.setattr(products, "ONEDNN", faster)
            for left, right in layouts:
                ours = products.product(left, right)
                assert ours.is_contiguous()
                torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-4)
                assert torch.equal(ours, products.product(left, right))  # runs can be repeated
            for kind in (torch.float64, torch.bfloat16):
                assert products.product(a.to(kind), b.to(kind)).dtype is kind
    finally:
        torch.set_num_threads(before)


def test_every_product_is_counted():
    with FlopCounterMode(display=False) as counter:
        products.product(torch.ones(3, 4), torch.ones(5, 4).t())
    assert counter.get_total_flops() == 2 * 3 * 4 * 5


def test_rows_of_both_good_layouts_are_views():
    x = numbers(2, 3, 4, 4)
    for name in ("channels outermost", "channels innermost"):
        laid = LAYOUTS[name](x)
        assert layout.rows(laid).data_ptr() == laid.data_ptr()
        assert torch.equal(layout.from_rows(layout.rows(laid).contiguous(), like=x), x)


def test_a_bias_that_cancels_is_left_out_and_has_no_gradient():
    x, weight, bias = numbers(2, 3, 4), numbers(5, 3, seed=1), numbers(5, seed=2).requires_grad_()
    y = layers.linear_map(x, weight, bias, cancels=True)
    torch.testing.assert_close(y, plain(x, weight, torch.zeros_like(bias)))
    y.sum().backward()
    assert torch.equal(bias.grad, torch.zeros(5, dtype=torch.float64))


def test_gated_map_is_the_product_of_two():
    x = numbers(2, 3, 4).requires_grad_()
    weights = tuple(numbers(5, 3, seed=s).requires_grad_() for s in (1, 2))
    biases = tuple(numbers(5, seed=s).requires_grad_() for s in (3, 4))
    expected = plain(x, weights[0], biases[0]) * plain(x, weights[1], biases[1])
    torch.testing.assert_close(layers.gated_map(x, weights, biases), expected)
    assert torch.autograd.gradcheck(
        lambda x, *p: layers.gated_map(x, p[:2], p[2:]), (x, *weights, *biases)
    )


def test_concatenated_map_is_the_map_of_the_concatenation():
    parts = [numbers(2, c, 4, seed=c).requires_grad_() for c in (1, 3, 2)]
    weight, bias = numbers(5, 6, seed=7).requires_grad_(), numbers(5, seed=8).requires_grad_()
    ours = layers.concatenated_map(parts, weight, bias)
    torch.testing.assert_close(ours, plain(torch.cat(parts, 1), weight, bias))
    assert torch.autograd.gradcheck(
        lambda w, b, *p: layers.concatenated_map(list(p), w, b), (weight, bias, *parts)
    )


def test_a_narrow_branch_counts_as_tiled():
    torch.manual_seed(0)
    bottleneck = Bottleneck(6, 2, 5).double()
    wide, narrow = numbers(2, 6, 4), numbers(2, 3, 4, seed=1)
    torch.testing.assert_close(
        bottleneck([wide, narrow]), bottleneck([wide, narrow.repeat(1, 2, 1)])
    )


def test_rgu_is_its_equation():
    torch.manual_seed(0)
    rgu, x = RGU(3, 2, 4).double(), numbers(2, 3, 4, 4)
    with torch.no_grad():
        rgu.bias_map.add_(numbers(1, 1, 4, 4, seed=5))
    gated = torch.nn.functional.instance_norm(rgu.k(x) * rgu.q(rgu.v(x)))
    torch.testing.assert_close(rgu(x), rgu.y(torch.nn.functional.gelu(gated) + rgu.bias_map))


def test_mixed_precision_multiplies_in_bfloat16_and_learns_in_float32():
    x, weight, bias = (
        t.float() for t in (numbers(2, 3, 4), numbers(5, 3, seed=1), numbers(5, seed=2))
    )
    weight.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layers.linear_map(x, weight, bias)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), plain(x, weight, bias), rtol=0.05, atol=0.05)


def test_a_product_with_part_of_a_matrix_is_not_slower():
    a, wide = torch.ones(64, 128), torch.ones(128, 2048)
    part = wide[:, :1024]
    whole = best_seconds(lambda: products.product(a, part.contiguous()))
    # oneDNN's fallback takes 1,000 times
    assert best_seconds(lambda: products.product(a, part)) < 20 * whole
