"""Attention in frequencies is the attention in positions: outputs and gradients, with every option,
in pieces.
"""

import pytest
import torch

from terminator.bench.measure import peak_bytes
from terminator.hrrformer import spectral
from terminator.hrrformer.attention import HolographicAttention
from terminator.ops.products import RowsMap, rows_map


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def both(module, x, mask):
    """Outputs and gradients (of x and of every parameter) in frequencies, and in positions."""
    found = []
    for parts in (False, True):
        y = module(x, mask, return_parts=parts)
        y = y.output if parts else y
        wanted = [x, *module.parameters()]
        found.append([y, *torch.autograd.grad((y * normal(*y.shape, seed=9)).sum(), wanted)])
    return zip(*found, strict=True)


@pytest.mark.parametrize("width", [24, 21])  # heads of width 8, and of 7
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cached", [1, 2**20])  # a token at once, and all
@pytest.mark.parametrize(
    "options",
    [{}, {"mask_superposition": True, "bias": True}, {"temperature": "learned"}],
    ids=["released", "bias", "learned"],
)
def test_frequencies_and_positions_agree(monkeypatch, width, masked, cached, options):
    monkeypatch.setattr(spectral, "CACHED", cached)
    torch.manual_seed(0)
    module = HolographicAttention(width, 3, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = normal(2, 6, width).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 1, 1]]) if masked else None
    for here, there in both(module, x, mask):
        torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-11)


def test_spectra_from_maps_are_those_of_their_outputs():
    weight, x = normal(12, 5), normal(7, 5, seed=1)
    rows = torch.view_as_complex((x @ spectral.spectral_rows(weight, 2).T).view(7, 2, 4, 2))
    expected = torch.fft.rfft((x @ weight.T).view(7, 2, 6))
    torch.testing.assert_close(rows, expected)
    back = spectral.spectral_columns(normal(3, 12, seed=2), 2)
    given = torch.view_as_real(expected).flatten(1)
    torch.testing.assert_close(given @ back.T, x @ weight.T @ normal(3, 12, seed=2).T)


def test_gradients_numerically_in_pieces(monkeypatch):
    monkeypatch.setattr(spectral, "CACHED", 1)
    x = torch.randn(1, 3, 3, 2, 3, dtype=torch.complex128, requires_grad=True)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    for width in (4, 5):
        function = lambda x, scale: spectral.SpectralAttention.apply(x, width, scale, mask, mask)  # noqa: E731, B023
        assert torch.autograd.gradcheck(function, (x, scale))


def test_zeros_give_finite_gradients():
    module, x = HolographicAttention(8, 2).double(), torch.zeros(1, 3, 8).double().requires_grad_()
    module(x).sum().backward()
    assert x.grad.isfinite().all()


def test_less_is_kept_than_in_positions():
    module, x = HolographicAttention(64, 4), torch.randn(2, 2048, 64, requires_grad=True)

    def step(parts):
        y = module(x, return_parts=parts)
        (y.output if parts else y).sum().backward()

    here, there = (
        peak_bytes(lambda parts=parts: torch.enable_grad()(step)(parts)) for parts in (False, True)
    )
    assert here < 0.9 * there


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_bias", [False, True])
def test_maps_of_rows_are_linear_layers(dtype, with_bias):
    x, weight = (normal(*shape).to(dtype).requires_grad_() for shape in ((2, 5, 6), (4, 6)))
    bias = normal(4).to(dtype).requires_grad_() if with_bias else None
    wanted = [x, weight, bias][: 2 + with_bias]
    probe, results = normal(2, 5, 4, seed=2).to(dtype), []
    for found in (
        rows_map(x, weight, bias),
        RowsMap.apply(x.flatten(0, 1), weight, bias).view(2, 5, 4),
        torch.nn.functional.linear(x, weight, bias),
    ):
        results.append([found, *torch.autograd.grad((found * probe).sum(), wanted)])
    for result in results[:2]:
        torch.testing.assert_close(result, results[2])
