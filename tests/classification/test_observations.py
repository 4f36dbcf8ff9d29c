"""A training seen from inside: what is measured, that measuring changes nothing, and that nothing
of it is lost.
"""

import math

import numpy as np
import pytest
import torch

from terminator.classification import observations
from terminator.classification.baselines import ResNet18
from terminator.classification.config import NetworkConfig
from terminator.classification.observations import auroc, concentration, observe
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.trainer import Trainer
from terminator.config import ModelConfig
from terminator.standardization import set_evaluation


def values(found, quantity, part=None):
    return {
        (row["block"], row["part"]): row["value"]
        for row in found.numbers
        if row["quantity"] == quantity and part in (None, row["part"])
    }


@pytest.fixture
def x():
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_features_are_those_of_the_forward_pass(tiny_model, x):
    model = tiny_model().eval()
    set_evaluation(model, "released")
    found = observe(model, x)
    with torch.no_grad():
        blocks = model(x, return_parts=True).blocks
    for i, part in enumerate(blocks, start=1):
        for name, branch in {**part.branches, "output": part.output}.items():
            assert values(found, "mean", name)[i, name] == pytest.approx(
                branch.mean().item(), abs=1e-6
            )
            assert values(found, "sd", name)[i, name] == pytest.approx(
                branch.std(unbiased=False).item(), rel=1e-4
            )
            offset = branch.mean((0, 2, 3)).square().mean().sqrt().item()
            assert values(found, "channel_offset", name)[i, name] == pytest.approx(offset, abs=1e-5)
        assert values(found, "kernel_rms")[i, "hyper-kernel"] == pytest.approx(
            part.hyper_kernel.square().mean().sqrt().item(), rel=1e-5
        )
        assert abs(values(found, "mean", "standardised")[i, "standardised"]) < 1e-5  # G-IBS
        assert np.allclose(
            found.fields["slow_score"][i - 1], part.slow_score[:4].mean(1), atol=2e-3
        )


def test_kernels_are_compared_as_the_slow_neural_loss_does(tiny_model, x):
    model = tiny_model()
    found = observe(model, x)
    kernels = [block.slow_net().detach().double() for block in model.blocks]
    low, high = kernels[0], kernels[2]
    tiled = low.repeat(1, high.shape[1] // low.shape[1], 1, 1)
    gap = (tiled - high).square().mean() / (tiled.square().mean() + high.square().mean())
    assert values(found, "kernel_distance")[3, "block 1"] == pytest.approx(gap.item(), rel=1e-6)
    cosine = (tiled * high).sum() / (tiled.norm() * high.norm())
    assert values(found, "kernel_cosine")[3, "block 1"] == pytest.approx(cosine.item(), rel=1e-6)
    assert len(values(found, "kernel_cosine")) == math.comb(len(kernels), 2)


def test_observing_changes_nothing(tiny_model, x):
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    observe(model, x)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_resnet_is_watched_at_its_residual_blocks(x):
    model = ResNet18(ModelConfig(in_channels=3, size=8, classes=4), NetworkConfig(name="resnet18"))
    found = observe(model, x)
    standardised, output = values(found, "mean", "standardised"), values(found, "mean", "output")
    assert [block for block, _ in standardised] == list(range(1, 9))
    assert max(map(abs, standardised.values())) < 1e-5  # of the batch itself
    assert min(output.values()) > 0.1  # after ReLU
    assert {row["quantity"] for row in found.numbers} == {"mean", "sd", "channel_offset"}
    assert found.fields["histogram output"].shape[0] == 8


def test_histograms_are_densities(tiny_model, x):
    fields = observe(tiny_model(), x).fields
    width = observations.EDGES[1] - observations.EDGES[0]
    for name in ("histogram standardised", "histogram output"):
        assert fields[name].shape == (3, len(observations.EDGES) - 1)
        assert (0.9 < fields[name].float().sum(1) * width).all()
        assert (fields[name].float().sum(1) * width < 1.01).all()


def test_auroc_and_concentration_by_hand():
    inked = torch.tensor([[True, True, False, False]])
    assert auroc(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), inked) == 1.0
    assert auroc(torch.tensor([[1.0, 3.0, 2.0, 4.0]]), inked) == 0.25
    assert auroc(torch.ones(1, 4), inked) == 0.5
    assert concentration(torch.tensor([[3.0, 3.0, 1.0, 1.0]]), inked) == pytest.approx(1.5)
    assert concentration(torch.ones(1, 4), inked) == 1.0
    both = torch.stack([torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.zeros(4)])
    # an image without ink is left out
    empty = torch.stack([inked[0], torch.zeros(4, dtype=torch.bool)])
    assert auroc(both, empty) == 1.0
    assert math.isnan(auroc(torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.bool)))


def test_scores_on_the_ink(tiny_model):
    inked = torch.zeros(4, 8, 8, dtype=torch.bool)
    inked[:, 2:5, 3:6] = True
    found = observe(tiny_model(), 2.0 * inked[:, None].float().expand(-1, 3, -1, -1), inked)
    assert values(found, "auroc", "input")[1, "input"] == 1.0
    # 0 beside the ink
    assert values(found, "concentration", "slow score")[1, "slow score"] == pytest.approx(64 / 9)
    assert values(found, "auroc", "hyper-kernel").keys() == {(i, "hyper-kernel") for i in (1, 2, 3)}
    assert not values(observe(tiny_model(), torch.randn(4, 3, 8, 8)), "auroc")


def test_ink_is_what_is_bright():
    images = torch.tensor([0, 127, 128, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    assert observations.ink(images, "MNIST").flatten().tolist() == [False, False, True, True]
    assert observations.ink(images, "CIFAR10") is None


def test_a_run_keeps_what_was_observed(tiny_config, tiny_data):
    done = CLASSIFICATION.run(
        tiny_config("train.observe=true", "train.epochs=5"), "inside", data=tiny_data()
    )
    table = done.observations
    assert set(table["epoch"]) == {0, 1, 2, 3, 4, 5}
    assert list(done.observed_fields) == [0, 1, 2, 5]
    assert done.observed_fields[0]["slow_score"].shape == (3, 4, 8, 8)
    last = observe(done.model(), torch.zeros(2, 3, 8, 8))  # hyper-kernels do not see the input
    kept = table[(table["epoch"] == 5) & (table["quantity"] == "kernel_rms")].set_index("block")[
        "value"
    ]
    for (block, _), value in values(last, "kernel_rms").items():
        assert kept[block] == pytest.approx(value, rel=1e-4)


def test_observing_does_not_change_the_training(tiny_config, tiny_data):
    plain = CLASSIFICATION.run(tiny_config(), "inside", data=tiny_data())
    watched = CLASSIFICATION.run(tiny_config("train.observe=true"), "inside", data=tiny_data())
    assert plain.folder != watched.folder
    assert plain.record["results"] == watched.record["results"]
    with pytest.raises(FileNotFoundError, match="train.observe"):
        _ = plain.observations
    with pytest.raises(FileNotFoundError, match="train.observe"):
        _ = plain.observed_fields


@pytest.mark.slow
def test_an_interrupted_run_loses_no_observation(tiny_config, tiny_data, monkeypatch):
    config = tiny_config("train.observe=true", "train.epochs=3")
    whole = CLASSIFICATION.run(config, "whole", data=tiny_data())
    original = Trainer._save

    def stop(self, rows):
        original(self, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            CLASSIFICATION.run(config, "resumed", data=tiny_data())
    resumed = CLASSIFICATION.run(config, "resumed", data=tiny_data())
    for name in ("observations.csv", "observations.npz"):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
