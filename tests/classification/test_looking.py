"""Slow scores of photographs beside their controls."""

import pytest
import torch

from terminator import calibrate
from terminator.classification import looking
from terminator.plots import fields


@pytest.fixture
def seen(tiny_model):
    model = tiny_model()
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    calibrate(model, [x])
    return model, x


def test_photographs_are_parts_of_two_pictures():
    found = looking.photographs("smoke", 16)
    assert found.pixels.dtype == torch.uint8
    assert found.pixels.shape == (len(found.names), 3, 16, 16)
    assert set(found.names) == {"flower", "china"}
    assert found.pixels.float().flatten(1).std(1).min() > 10


def test_the_views_of_a_block_are_what_they_are_called(seen):
    model, x = seen
    with torch.no_grad():
        parts = model(x, return_parts=True)
    for block in (0, 1, -1):
        found = looking.views(model, x, block)
        part = parts.blocks[block]
        torch.testing.assert_close(found.score, part.slow_score.mean(1))
        z = (part.slow_score / part.hyper_kernel).abs().mean(1)
        torch.testing.assert_close(found.sizes["|Z|"], z, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(found.sizes["|S|"], found.sizes["|S|, W shuffled"])
    assert found.answers.tolist() == parts.logits.argmax(1).tolist()


def test_grad_cam_is_what_gradients_give(seen):
    model, x = seen
    kept = {}
    hook = model.blocks[-1].register_forward_hook(lambda m, i, out: kept.update(out=out.output))
    logits = model(x)
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), kept["out"])
    weights = gradient.sum((2, 3), keepdim=True)  # the mean's 1/P undone
    expected = (weights * kept["out"]).sum(1).relu()
    torch.testing.assert_close(looking.views(model, x).sizes["Grad-CAM"], expected.detach())


def test_what_is_said_follows_the_numbers(seen):
    model, x = seen
    found = looking.views(model, x)
    table = looking.likeness(found)
    assert table.abs().max().max() <= 1 + 1e-6
    assert table.loc["|Z|", "with |Z|"] == pytest.approx(1, abs=1e-5)
    assert f"{table.loc['|Z|', 'with |S|']:+.2f}" in looking.sentence(found)
    same = found._replace(sizes=found.sizes | {"|S|, W shuffled": found.sizes["|S|"]})
    assert "as much as with the positions of W shuffled" in looking.sentence(same)
    figure = fields.beside_controls(x, found.score, found.sizes, ["a"] * 5, "title")
    assert len(figure.axes) >= 6 * 5
