"""torch.compile: one graph, the same results."""

import shutil

import pytest
import torch

from terminator.predict import compiled
from terminator.standardization import calibrate

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler for the CPU")


@pytest.fixture(autouse=True)
def afresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def gradients(model, network, x):
    model.zero_grad()
    out = network(x)
    out.square().sum().backward()
    return out, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_compiled_training_step_gives_the_same(tiny_model):
    model = tiny_model(factors=(4,))
    x = torch.randn(4, 3, 8, 8)
    eager, ours = (gradients(model, network, x) for network in (model, torch.compile(model, fullgraph=True)))
    torch.testing.assert_close(ours[0], eager[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], eager[1], rtol=1e-3, atol=1e-5 * eager[1].abs().max().item())


def test_compiled_answers_are_the_same(tiny_model):
    model = tiny_model(factors=(4,))
    calibrate(model, [torch.randn(8, 3, 8, 8) for _ in range(2)])
    network = compiled(model)
    for x in (torch.ones(1, 3, 8, 8), torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8), torch.randn(2, 3, 8, 8)):
        with torch.inference_mode():
            torch.testing.assert_close(network(x), model(x), rtol=1e-4, atol=1e-5)
