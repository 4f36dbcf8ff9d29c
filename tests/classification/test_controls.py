"""Controls of a trained network: branches set to zero, shares of power, what singles out the
object.
"""

import pytest
import torch

from terminator.classification import control_study, controls
from terminator.model import Terminator
from terminator.standardization import set_evaluation

X = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = Terminator(size=8, in_channels=1, factors=[12, 2, 2]).eval()
    set_evaluation(net, "released")
    return net


def test_shares_of_all_branches_are_the_whole(model):
    shares = controls.branch_shares(model, X)
    assert len(shares) == 3
    for block in shares:
        assert sum(block.values()) == pytest.approx(1.0)
        assert {*controls.GLOBAL, *controls.LOCAL, *controls.FAST} < set(block)
    groups = [controls.share_of(shares, of) for of in control_study.GROUPS.values()]
    assert all(0 < sum(parts) < 1 for parts in zip(*groups, strict=True))  # skips, hyper are left


@torch.no_grad()
def test_branches_are_zero_at_the_bottleneck_and_come_back(model):
    before = model(X)
    seen = []
    with controls.without_branches(model, controls.GLOBAL, X[:2]):
        hook = model.blocks[0].bottleneck.register_forward_pre_hook(
            lambda _, given: seen.append(given[0])
        )
        without = model(X)
        hook.remove()
    assert not torch.allclose(before, without)
    assert torch.equal(before, model(X))
    names = list(model(X, return_parts=True).blocks[0].branches)
    zero = {name for name, branch in zip(names, seen[0], strict=True) if not branch.any()}
    assert zero == set(controls.GLOBAL)
    with controls.without_branches(model, (), X[:2]):
        assert torch.equal(before, model(X))


def test_grad_cam_of_the_last_block_is_the_classifiers_weighting(model):
    maps = controls.grad_cam(model, X)
    assert [m.shape for m in maps] == [(6, 8, 8)] * 3
    parts = model(X, return_parts=True)
    chosen = model.classifier.weight[parts.logits.argmax(1)]  # (N, C): d logit / d mean of A_c
    expected = torch.einsum("nc,nchw->nhw", chosen / 64, parts.blocks[-1].output).clamp(min=0)
    torch.testing.assert_close(maps[-1], expected.detach(), rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_shuffled_scores_are_of_the_same_hyper_kernel_at_other_places(model):
    maps = controls.object_maps(model, X)
    assert len(maps[controls.SHUFFLED]) == 3 * controls.SHUFFLES
    with torch.no_grad():
        part = model(X, return_parts=True).blocks[0]
    for kernel in controls.shuffles(part, 0):
        assert not torch.equal(kernel, part.hyper_kernel)
        own, other = (w.flatten(2).sort(2).values for w in (part.hyper_kernel, kernel))
        assert torch.equal(own, other)
    torch.testing.assert_close(maps[controls.INPUT][0], X.abs().mean(1))


def test_images_are_scored_one_by_one():
    inked = torch.zeros(2, 4, 4, dtype=torch.bool)
    inked[:, 1:3, 1:3] = True
    right = inked.float()
    wrong = torch.stack([right[0], 1 - right[1]])
    assert controls.per_image([right], inked)[0] == [100.0, 100.0]
    assert controls.per_image([wrong], inked)[0] == [100.0, 0.0]
    assert controls.per_image([right, wrong], inked)[0] == [100.0, 50.0]


def test_images_without_an_object_count_nowhere():
    """Nor does a batch of such; a batch counts as many times as it has images with one."""
    inked = torch.zeros(5, 4, 4, dtype=torch.bool)
    inked[:3, 1:3, 1:3] = True  # batches of two: 2, 1 and none
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    def maps_of(batch, start):
        return {"way": [batch[:, 0]]}

    (found,) = controls.object_scores(maps_of, x, inked, 2).values()
    (whole,) = controls.object_scores(maps_of, x[:3], inked[:3], 3).values()
    assert found["auroc"] == whole["auroc"]
    assert found["concentration"] == pytest.approx(whole["concentration"], rel=1e-5)
    assert controls.object_scores(maps_of, x[3:], inked[3:], 2) == {}


def test_the_bootstrap_draws_images_and_seeds():
    noise = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
    low, high = controls.bootstrap_interval((noise + 1).tolist())
    assert low < 1 < high < low + 0.5
    apart = noise + 10 * torch.arange(5.0)[:, None]  # seeds differ: few of them, a wide interval
    low, high = controls.bootstrap_interval(apart.tolist())
    assert high - low > 10


def test_what_the_record_says_is_told_by_the_rule_of_proof():
    def network(seed, zeroed, score, shuffled):
        ways = {way: [80.0, 82.0] for way in control_study.WAYS}
        ways |= {controls.SCORE: [score, score + 2], controls.SHUFFLED: [shuffled, shuffled + 2]}
        return {
            "seed": seed,
            "accuracy_without": {"nothing": 90.0 + seed, **dict.fromkeys(("local", "fast"), 20.0)}
            | {"global": zeroed},
            "share": {"global": [0.1, 0.2], "local": [0.5, 0.4], "fast": [0.3, 0.3]},
            "object": {way: {"auroc": of, "concentration": 1.5} for way, of in ways.items()},
        }

    networks = [network(s, 85.0 + 0.9 * s, 80.0 + s, 70.0 + 1.1 * s) for s in range(4)]
    record = {"device": "here", "results": {"networks": networks}}
    assert control_study.operator_used(record).word == "holds"
    assert control_study.score_beyond(record, controls.SHUFFLED).word == "holds"
    bare = [{**network, "object": {}} for network in networks]  # photographs without a mask
    without = {"device": "here", "results": {"networks": bare}}
    assert control_study.score_beyond(without, controls.SHUFFLED).word == "not run"
    table = control_study.branch_table(record)
    assert table.loc["global", "share of power (%)"] == pytest.approx(15.0)
    objects = control_study.object_table(record)
    assert objects.loc[controls.SHUFFLED, "from"] > 0
    record["results"]["networks"] = networks[:2]
    assert control_study.operator_used(record).word == "undecided"
