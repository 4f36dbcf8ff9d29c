"""torch.compile: one graph, the same results."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from terminator import ConfigError
from terminator.classification.predict import compiled
from terminator.classification.trainer import Trainer
from terminator.standardization import calibrate

pytestmark = pytest.mark.skipif(
    not shutil.which("g++"), reason="torch.compile needs a C++ compiler for the CPU"
)


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


@pytest.mark.slow
def test_a_compiled_training_step_gives_the_same(tiny_model):
    model = tiny_model(factors=(4,))
    x = torch.randn(4, 3, 8, 8)
    eager, ours = (
        gradients(model, network, x) for network in (model, torch.compile(model, fullgraph=True))
    )
    torch.testing.assert_close(ours[0], eager[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours[1], eager[1], rtol=1e-3, atol=1e-5 * eager[1].abs().max().item()
    )


@pytest.mark.slow
def test_compiled_answers_are_the_same(tiny_model):
    model = tiny_model(factors=(4,))
    calibrate(model, [torch.randn(8, 3, 8, 8) for _ in range(2)])
    network = compiled(model)
    for x in (
        torch.ones(1, 3, 8, 8),
        torch.randn(1, 3, 8, 8),
        torch.randn(1, 3, 8, 8),
        torch.randn(2, 3, 8, 8),
    ):
        with torch.inference_mode():
            torch.testing.assert_close(network(x), model(x), rtol=1e-4, atol=1e-5)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(x).float(), model(x).float(), rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_a_compiled_training_is_the_eager_one(tiny_model, tiny_config, tiny_data):
    config, data = tiny_config(model={"factors": (4,)}), tiny_data()
    eager = Trainer(tiny_model(factors=(4,)), config, data).fit()
    counters.clear()
    trainer = Trainer(tiny_model(factors=(4,)), config.updated("train.compile=default"), data)
    rows = trainer.fit()
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    for ours, theirs in zip(rows, eager, strict=True):
        for name in ("loss", "cross_entropy", "slow_neural_loss", "test_cross_entropy"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-2), name
    assert not any("_orig_mod" in name for name in trainer.model.state_dict())


def test_graphs_and_parts_of_a_batch_do_not_go_together(tiny_config):
    with pytest.raises(
        ConfigError, match="train.compile is 'reduce-overhead'; allowed: none or default with"
    ):
        tiny_config("train.compile=reduce-overhead", "train.accumulate=2")
    with pytest.raises(
        ConfigError, match="train.compile is 'fast'; allowed: none, default, reduce-overhead"
    ):
        tiny_config("train.compile=fast")
