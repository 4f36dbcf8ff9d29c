"""The slow-fast link: any slow network and any fast network, and the parts of a Terminator."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import terminator
from terminator import Terminator, hyperzzw
from terminator.classification.trainer import Trainer
from terminator.connectable import ConnectedSlowNet
from terminator.losses import norm_penalty, slow_neural_loss
from terminator.slow_net import FourierSlowNet, SlowNet, coordinates, grid


def fast_network(channels=6, classes=4):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.GELU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )


def linked(**changes):
    torch.manual_seed(0)
    settings = {"at": "2", "input_shape": (3, 8, 8)} | changes
    return terminator.connect(FourierSlowNet(2, 6), fast_network(), **settings)


@pytest.mark.parametrize("operator", ["matrix", "convolution"])
def test_the_four_calls_give_the_operator_by_hand(operator):
    link = linked(operator=operator).eval()
    assert link.start() is link
    images = torch.randn(5, 3, 8, 8)
    (kernel,) = link.send_data(coordinates(2, 8))
    assert torch.equal(kernel, link.send_data()[0])  # the grid is what it takes without data
    z = link.fast_network[:3](images)
    by_hand = link.fast_network[3:](hyperzzw.global_operator(operator, kernel * z, z))
    assert torch.allclose(link.receive_data(images), by_hand, atol=1e-6)
    assert torch.allclose(link(images), by_hand, atol=1e-6)
    # no hook is left behind
    assert not torch.allclose(link.fast_network(images), by_hand, atol=1e-3)


def test_other_coordinates_give_other_hyper_kernels_until_the_next_call():
    link = linked().eval()
    images = torch.randn(2, 3, 8, 8)
    first = link(images)
    link.send_data(coordinates(2, 8) / 2)
    assert not torch.allclose(link.receive_data(images), first, atol=1e-4)
    assert not torch.allclose(link(images), first, atol=1e-4)  # a forward pass sends the same again
    link.send_data()
    assert torch.allclose(link.receive_data(images), first)


def test_gradients_reach_both_networks_and_a_training_step_lowers_the_loss():
    link = linked()
    images, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 4
    optimizer = torch.optim.Adam(link.parameters(), 0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.cross_entropy(link(images), labels)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in link.slow_networks.parameters()
    )
    assert sum(p.grad.abs().sum() > 0 for p in link.fast_network.parameters()) > 4
    assert losses[-1] < 0.7 * losses[0]


class ContextSlowNet(nn.Module):
    """A hyper-kernel per image, from the image itself."""

    def __init__(self):
        super().__init__()
        self.map = nn.Conv2d(3, 6, 1)

    def forward(self, context):
        return self.map(context)


def test_a_slow_network_may_depend_on_a_context():
    link = terminator.connect(ContextSlowNet(), fast_network(), at="2").eval()
    images = torch.randn(4, 3, 8, 8)
    (kernel,) = link.send_data(images)
    assert kernel.shape == (4, 6, 8, 8)
    out = link.receive_data(images)
    link.send_data(images.flip(0))
    assert not torch.allclose(link.receive_data(images), out, atol=1e-4)


def test_batches_of_other_sizes_get_a_grid_of_theirs():
    link = terminator.connect(FourierSlowNet(2, 6), fast_network(), at="0").eval()
    small, large = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 12, 12)
    out = link(small)
    copied = copy.deepcopy(link)
    torch.testing.assert_close(copied.receive_data(large), link.receive_data(large))
    torch.testing.assert_close(link.receive_data(large), link(large))
    torch.testing.assert_close(link.receive_data(small), out)


def test_a_link_is_copied_in_the_midst_of_a_training():
    link = terminator.connect(FourierSlowNet(2, 6), fast_network(), at="0")
    x = torch.randn(2, 3, 8, 8)
    out = link(x)
    out.sum().backward()
    copied = copy.deepcopy(link)
    torch.testing.assert_close(copied(x), out)
    assert torch.optim.swa_utils.AveragedModel(link)(x).shape == out.shape
    link.send_data(-coordinates(2, 8))
    torch.testing.assert_close(copy.deepcopy(link).receive_data(x), link.receive_data(x))


def test_data_that_do_not_fit_are_not_kept(tiny_model):
    model = tiny_model()
    slow = [FourierSlowNet(2, c) for c in model.config.channels[:-1]]
    model.connect(slow_network=slow).eval()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    with pytest.raises(ValueError, match="allowed"):
        model.send_data(torch.zeros(1, 2, 4, 4))
    torch.testing.assert_close(model(x), before)
    link = terminator.connect(FourierSlowNet(2, 6), fast_network(), at="0").eval()
    before = link(x)
    with pytest.raises(ValueError, match="allowed"):
        link.send_data(torch.zeros(1, 3, 8, 8))
    torch.testing.assert_close(link(x), before)


def test_several_places_and_a_fast_network_without_an_input_shape():
    torch.manual_seed(0)
    link = terminator.connect(
        [FourierSlowNet(2, 6), FourierSlowNet(2, 6)], fast_network(), at=("0", "3")
    )
    assert link(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    assert [tuple(kernel.shape) for kernel in link.hyper_kernels] == [(1, 6, 8, 8)] * 2
    assert link(torch.randn(2, 3, 12, 12)).shape == (2, 4)  # the grid follows the images
    assert link.hyper_kernels[0].shape == (1, 6, 12, 12)
    assert len(link.send_data([coordinates(2, 12)] * 2)) == 2


def test_sequences_and_maps_that_are_not_square():
    assert torch.equal(grid((8, 8)), coordinates(2, 8))
    assert grid((3, 5)).shape == (1, 2, 3, 5)
    line = terminator.connect(
        FourierSlowNet(1, 4),
        nn.Conv1d(1, 4, 3, padding=1),
        operator="causal_convolution",
        input_shape=(1, 10),
    ).start()
    assert line(torch.randn(2, 1, 10)).shape == (2, 4, 10)
    flat = terminator.connect(FourierSlowNet(2, 4), nn.Conv2d(1, 4, 1), operator="convolution")
    assert flat(torch.randn(2, 1, 3, 5)).shape == (2, 4, 3, 5)
    with pytest.raises(ValueError, match="needs square maps"):
        terminator.connect(FourierSlowNet(2, 4), nn.Conv2d(1, 4, 1), input_shape=(1, 3, 5)).start()


def test_start_leaves_no_trace_in_the_networks():
    link = linked().train()
    before = {name: value.clone() for name, value in link.fast_network.state_dict().items()}
    link.start()
    assert link.training
    assert link.fast_network[1].training
    assert all(
        torch.equal(value, before[name]) for name, value in link.fast_network.state_dict().items()
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"at": "features"}, "at is 'features'; allowed: '', '0', '1'"),
        ({"at": ("0", "2")}, "1 slow networks for 2 places"),
        (
            {"operator": "attention"},
            "operator is 'attention'; allowed: matrix, convolution, causal_convolution",
        ),
        ({"at": "5"}, r"at '5' the fast network gives \(2, 6\); allowed: activations"),
        ({"at": ""}, r"at '' the fast network gives \(2, 4\)"),
        ({"at": "0", "input_shape": (1, 8, 8)}, r"does not take inputs \(2, 1, 8, 8\)"),
        ({"input_shape": None}, "input_shape is None"),
        (
            {"slow_network": FourierSlowNet(2, 5)},
            r"gives \(1, 5, 8, 8\); allowed: \(1, 6, 8, 8\) or \(2, 6, 8, 8\)",
        ),
        ({"slow_network": FourierSlowNet(1, 6)}, "at '2', where the activations are"),
        ({"slow_network": SlowNet(2, 8, 6, 16)}, r"at '2', .*takes 1 positional argument"),
    ],
)
def test_start_says_what_does_not_fit(changes, words):
    settings = {"slow_network": FourierSlowNet(2, 6), "at": "2", "input_shape": (3, 8, 8)} | changes
    with pytest.raises(ValueError, match=words):
        terminator.connect(fast_network=fast_network(), **settings).start()


def test_data_of_another_shape_is_refused_later_too():
    link = linked()
    link.send_data(coordinates(2, 9))
    with pytest.raises(ValueError, match=r"gives \(1, 6, 9, 9\); allowed"):
        link.receive_data(torch.randn(2, 3, 8, 8))
    with pytest.raises(ValueError, match="2 tensors for 1 slow networks"):
        link.send_data([coordinates(2, 8)] * 2)


def test_the_trainer_takes_a_link(tiny_config, tiny_data):
    link = linked()
    rows = Trainer(link, tiny_config(optimizer={"name": "AdamW", "lr": 0.01}), tiny_data()).fit()
    assert rows[-1]["cross_entropy"] < rows[0]["cross_entropy"]


# -- Terminator ------------------------------------------------------------------------------------


def parts(model):
    return (
        [FourierSlowNet(2, c) for c in model.config.channels[:-1]],
        [nn.Conv2d(c, c, 3, padding=1) for c in model.config.channels[:-1]],
    )


class Broken(nn.Module):
    def forward(self, coords):
        return coords.mean(7)


def test_connected_networks_are_in_the_models_mode(tiny_model):
    model = tiny_model().eval()
    count = len(model.blocks)
    noisy = [nn.Dropout(0.5) for _ in range(count)]
    slow = [FourierSlowNet(2, channels) for channels in model.config.channels[:-1]]
    assert not any(m.training for m in model.connect(slow, noisy).modules())
    model.train().connect(fast_network=[nn.Dropout(0.5).eval(), *[None] * (count - 1)])
    assert all(m.training for m in model.modules())


def test_networks_that_cannot_be_connected_are_not(tiny_model):
    model = tiny_model()
    own = model.blocks[0].slow_net
    with pytest.raises(ValueError, match="do not fit:\n  block 1: Dimension out of range"):
        model.connect([Broken(), *[None] * (len(model.blocks) - 1)])
    assert model.blocks[0].slow_net is own
    assert not model.is_connected


def test_terminator_takes_slow_and_fast_networks_and_trains_them(tiny_model):
    model = tiny_model()
    images, before = torch.randn(6, 3, 8, 8), tiny_model()(torch.zeros(6, 3, 8, 8)).shape
    slow, fast = parts(model)
    assert model.connect(slow, fast) is model
    kernels = model.start().send_data()
    assert [kernel.shape[1] for kernel in kernels] == list(model.config.channels[:-1])
    assert torch.equal(kernels[0], slow[0](coordinates(2, 8)))
    logits, kernels = model(images, return_kernels=True)
    assert logits.shape == before
    loss = (
        logits.square().sum()
        + slow_neural_loss(kernels)
        + norm_penalty(*model.penalized_parameters(), 1e-3)
    )
    loss.backward()
    for network in (*slow, *fast):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    _, penalized = model.penalized_parameters()
    assert any(p is slow[0].output.weight for p in penalized)  # they count as slow
    assert any(p is slow[0].output.weight for p in model.slow_parameters())


def test_send_data_reaches_the_connected_slow_networks_only(tiny_model):
    model = tiny_model().eval()
    images = torch.randn(2, 3, 8, 8)
    model.connect([FourierSlowNet(2, 3), None, None])
    first = model.receive_data(images)
    own = model.blocks[1].slow_net()
    kernels = model.send_data(coordinates(2, 8) * 0.5)
    assert torch.equal(kernels[1], own)
    assert not torch.allclose(model.receive_data(images), first, atol=1e-5)
    model.send_data()
    assert torch.allclose(model.receive_data(images), first)
    with pytest.raises(ValueError, match=r"gives \(1, 3, 5, 5\)"):
        model.send_data(coordinates(2, 5))


def test_a_connected_model_changes_its_size_but_cannot_be_saved_in_a_file_that_does_not_know_its_parts(
    tiny_model, tmp_path
):
    model = tiny_model().connect([FourierSlowNet(2, 3), None, None])
    assert isinstance(model.blocks[0].slow_net, ConnectedSlowNet)
    assert model.at_size(12)(torch.randn(2, 3, 12, 12)).shape == (2, 4)
    with pytest.raises(ValueError, match="connected networks cannot be saved"):
        model.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


def test_what_does_not_fit_is_named_and_the_model_is_as_before(tiny_model):
    model, images = tiny_model().eval(), torch.randn(2, 3, 8, 8)
    before = model(images)
    with pytest.raises(ValueError, match="slow_network has 1 networks; allowed: 3"):
        model.connect([FourierSlowNet(2, 3)])
    with pytest.raises(ValueError, match=r"block 2: the slow network gives \(1, 3, 8, 8\)"):
        model.connect([FourierSlowNet(2, 3)] * 3)
    with pytest.raises(ValueError, match=r"block 1: the fast network gives \(2, 5, 8, 8\)"):
        model.connect(None, [nn.Conv2d(3, 5, 1), None, None])
    assert torch.equal(model(images), before)
    assert not model.is_connected


def test_terminator_without_arguments_is_connected_as_announced():
    model = Terminator()
    assert model.start().send_data()[0].shape == (1, 3, 32, 32)
