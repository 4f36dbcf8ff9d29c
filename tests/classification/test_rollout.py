"""Attention roll-out of a small Transformer."""

import pytest
import torch

from terminator.classification import control_study, controls, networks, rollout, studies
from terminator.mixers.base import SoftmaxAttention

X = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def host():
    config = studies.transformers("smoke").variants[studies.ATTENTION]
    sized = config.updated(model={"size": 8, "in_channels": 3, "classes": 10})
    torch.manual_seed(0)
    return networks.build(sized)


def test_weights_are_those_that_the_attention_uses():
    torch.manual_seed(0)
    attention = SoftmaxAttention(16, 4, fused=False)
    x = torch.randn(3, 9, 16)
    weights = attention.weights(x)
    assert weights.shape == (3, 4, 9, 9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 9))
    values = attention.value(x).view(3, 9, 4, 4).transpose(1, 2)
    mixed = attention.output((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, attention(x))


@torch.no_grad()
def test_a_roll_out_is_a_distribution_over_positions(host):
    found = rollout.rollout(host, X)
    assert found.shape == (5, 8, 8)
    assert (found > 0).all()
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(5))
    assert found.flatten(1).std(1).min() > 1e-6  # not the same everywhere
    assert all(not module._forward_pre_hooks for module in host.modules())


@torch.no_grad()
def test_it_is_the_product_of_half_attention_half_identity(host):
    seen = []
    attentions = [m for m in host.modules() if isinstance(m, SoftmaxAttention)]
    hooks = [
        m.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for m in attentions
    ]
    found = rollout.rollout(host, X)
    for hook in hooks:
        hook.remove()
    assert len(attentions) == 2
    first, second = (
        0.5 * attention.weights(tokens)[0].mean(0) + 0.5 * torch.eye(64)
        for attention, tokens in zip(attentions, seen, strict=True)
    )
    torch.testing.assert_close(found[0].flatten(), (second @ first).mean(0))


@torch.no_grad()
def test_attention_to_all_alike_sees_nothing(host):
    for module in host.modules():
        if isinstance(module, SoftmaxAttention):
            module.query.weight.zero_()
    torch.testing.assert_close(rollout.rollout(host, X), torch.full((5, 8, 8), 1 / 64))


def test_the_same_data_and_seeds_as_the_networks_that_it_is_compared_with():
    for profile in ("smoke", "laptop", "paper"):
        full, own = studies.full_networks(profile), studies.transformers(profile)
        assert own.seeds == full.seeds
        ours = own.variants[studies.ATTENTION]
        assert ours.dataset == full.variants[studies.FULL].dataset
        assert ours.test == full.variants[studies.FULL].test


def test_networks_are_joined_by_seed():
    def of(seeds, **ways):
        rows = [
            {
                "seed": s,
                "object": {
                    way: {"auroc": [v + s, v + s + 2], "concentration": 1.0}
                    for way, v in ways.items()
                },
            }
            for s in seeds
        ]
        return {"device": "here", "results": {"networks": rows}}

    control = of(range(5), **{controls.SCORE: 80.0, controls.GRAD_CAM: 60.0})
    rolled = of(range(1, 6), rolled=70.0)
    for row in rolled["results"]["networks"]:
        row["object"] = row["object"]["rolled"]
    found = rollout.joined(control, rolled)
    assert [row["seed"] for row in found["results"]["networks"]] == [1, 2, 3, 4]
    assert control_study.score_beyond(found, rollout.ROLLOUT).word == "holds"
    table = control_study.object_table(found)
    assert list(table.index) == [controls.SCORE, controls.GRAD_CAM, rollout.ROLLOUT]
    assert table.loc[rollout.ROLLOUT, "|S| exceeds it by"] == pytest.approx(10.0)
    assert rollout.ROLLOUT not in control["results"]["networks"][1]["object"]


def test_a_network_that_no_pixel_says_the_object_of_has_no_roll_out():
    nothing = {"results": {"networks": [{"seed": 0, "object": {}}]}}
    assert rollout.joined(nothing, nothing)["results"]["networks"] == [{"seed": 0, "object": {}}]
