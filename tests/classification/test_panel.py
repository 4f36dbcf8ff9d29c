"""The panel draws what was chosen, and a grid where nobody can choose."""

import sys

import ipykernel
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from terminator.classification import panel
from terminator.classification.panel import Panel, explore, operator_fields


@pytest.fixture
def passed(tiny_model):
    torch.manual_seed(3)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        return x, tiny_model().eval()(x, return_parts=True).blocks


def drawn(figure):
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def test_the_figure_shows_the_fields_of_the_choice(passed):
    x, blocks = passed
    image, *fields = drawn(Panel(x, blocks).figure(image=2, block=3, channel=4))
    assert np.allclose(image, ((x[2] - x[2].min()) / (x[2].max() - x[2].min())).permute(1, 2, 0))
    expected = [
        blocks[2].hyper_kernel[0, 3],
        blocks[2].slow_score[2, 3],
        blocks[2].interaction_score[2, 3] - 0.5,
    ]
    assert all(np.allclose(a, b) for a, b in zip(fields, expected, strict=True))


def test_the_steps_of_the_operator(passed):
    x, blocks = passed
    shown = operator_fields(blocks[1], 1, 2)
    assert torch.allclose(shown["O"], shown["S = W * Z"] @ shown["T (fast)"], atol=1e-5)
    assert len(drawn(Panel(x, blocks, fields=operator_fields).figure(1, 2, 3))) == 5


def test_every_control_changes_the_picture(passed):
    x, blocks = passed
    chosen = Panel(x, blocks, names=["a", "b", "c"])
    box = chosen.widget()
    (image, block, channel), picture = box.children[0].children, box.children[1]
    assert [name for name, _ in image.options] == ["a", "b", "c"]
    seen = [(bytes(picture.value), chosen.shown["slow score S = W * Z"])]
    for control, value in ((image, 1), (block, 3), (channel, 5)):
        control.value = value
        seen.append((bytes(picture.value), chosen.shown["slow score S = W * Z"]))
    assert len({png for png, _ in seen}) == 4
    for (_, score), expected in zip(
        seen, ((1, 0, 0), (1, 1, 0), (3, 1, 0), (3, 1, 4)), strict=True
    ):
        which, index, depth = expected
        assert torch.equal(score, blocks[which - 1].slow_score[index, depth])
    assert bytes(picture.value).startswith(b"\x89PNG")


def test_a_channel_that_the_block_does_not_have_moves(passed):
    x, blocks = passed
    chosen = Panel(x, blocks)
    _, block, channel = chosen.widget().children[0].children
    block.value = 2
    channel.value = channel.max
    block.value = 1
    assert channel.max == channel.value == blocks[0].hyper_kernel.shape[1]
    assert torch.equal(chosen.shown["hyper-kernel W"], blocks[0].hyper_kernel[0, -1])


def test_without_anyone_to_choose_it_is_a_grid(passed, monkeypatch):
    x, blocks = passed
    found = explore(x, blocks)
    assert isinstance(found, Figure)
    assert len(drawn(found)) == 4 * len(blocks)
    monkeypatch.delenv("TERMINATOR_HEADLESS")
    monkeypatch.setitem(sys.modules, "ipykernel", ipykernel)
    assert not isinstance(explore(x, blocks), Figure)
    # ipywidgets is not installed
    monkeypatch.setattr(panel.importlib.util, "find_spec", lambda name: None)
    assert isinstance(explore(x, blocks), Figure)


def test_blocks_without_interaction_have_no_such_field(tiny_model):
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        blocks = tiny_model(hyper_interaction=False).eval()(x, return_parts=True).blocks
    assert list(Panel(x, blocks).fields(blocks[0], 0, 0)) == [
        "hyper-kernel W",
        "slow score S = W * Z",
    ]


def test_names_that_do_not_fit_are_refused(passed):
    with pytest.raises(ValueError, match="names has 1 entries for 3 images"):
        Panel(*passed, names=["a"])
