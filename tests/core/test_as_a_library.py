"""Networks in other people's code: derivatives of derivatives, exchanged and hooked layers, export,
pictures of what is kept.
"""

import copy
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune, spectral_norm

import terminator
from terminator import Kar3, calibrate, plain_operations, set_evaluation
from terminator.hrrformer.attention import HolographicAttention
from terminator.hrrformer.network import build
from terminator.hyperzzw import local_operator
from terminator.layers import concatenated_map, gated_map, linear_map


def images(count=5, channels=3, size=8):
    return torch.randn(
        count, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.double
    )


@pytest.fixture
def model(tiny_model):
    return tiny_model().double().train()


def gradients(function, tensors):
    return torch.autograd.grad(function(), tensors, allow_unused=True)


def test_plain_operations_have_the_same_gradients(model):
    x, parameters = images(), list(model.parameters())
    fast = gradients(lambda: model(x).square().sum(), parameters)
    with plain_operations():
        plain = gradients(lambda: model(x).square().sum(), parameters)
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient_penalty(model, x)


def gradient_penalty(function, x):
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    found.square().sum().backward()
    return x.grad


def test_plain_operations_have_second_derivatives():
    x, weight = images(2, 3, 3), images(4, 3, 1).flatten(1)
    kernel, bias = images(3, 1, 3), torch.ones(4, dtype=torch.double)
    for function, inputs in (
        (linear_map, (x, weight, bias)),
        (lambda x, w, b: concatenated_map([x, x], torch.cat([w, w], 1), b), (x, weight, bias)),
        (lambda x, w, b: gated_map(x, (w, -w), (b, b)), (x, weight, bias)),
        (local_operator, (x, kernel)),
    ):
        with plain_operations():
            inputs = [tensor.clone().requires_grad_() for tensor in inputs]
            assert torch.autograd.gradgradcheck(function, inputs)


def test_gradients_of_single_images_and_other_transforms_of_functions(model):
    x, parameters = images(), {name: p.detach() for name, p in model.named_parameters()}

    def loss(values, image):
        pair = torch.stack([image, image.flip(1)])
        return torch.func.functional_call(model, values, (pair,)).square().sum()

    with plain_operations():
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
        name = "classifier.weight"
        for image, found in zip(x, each[name], strict=True):
            torch.testing.assert_close(found, torch.func.grad(loss)(parameters, image)[name])
        attention = HolographicAttention(8, 2)
        assert gradient_penalty(attention, torch.randn(2, 5, 8)).abs().sum() > 0


def test_hooks_and_exchanged_layers_are_called(model, tiny_model):
    x, labels, other = images(), torch.arange(5) % 4, tiny_model().double()
    block = model.blocks[0]
    hooked = [block.rgu_fast.k, block.slow_net.linears[0], block.slow_net.output]
    called = []
    for register in ("register_forward_hook", "register_full_backward_pre_hook"):
        called.clear()
        handles = [getattr(m, register)(lambda m, *_: called.append(m)) for m in hooked]
        torch.testing.assert_close(model(x), other(x))  # the same, by calling them
        model(x).sum().backward()
        assert set(called) == set(hooked)
        for handle in handles:
            handle.remove()
    spectral_norm(block.rgu_fast.k)
    for layer in (model.blocks[1].rgu_slow.q, block.slow_net.linears[1]):
        prune.l1_unstructured(layer, "weight", 0.5)
    optimizer = Kar3(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    for layer in (block.rgu_fast.k, model.blocks[1].rgu_slow.q, block.slow_net.linears[1]):
        assert layer.weight_orig.grad.abs().sum() > 0


class Adapted(nn.Module):
    """A layer with an addition of low rank, as adapters of large networks have it."""

    def __init__(self, layer, out):
        super().__init__()
        self.layer, self.weight, self.bias = layer, layer.weight, layer.bias
        self.change = nn.Parameter(torch.ones(out, dtype=layer.weight.dtype))

    def forward(self, x):
        shape = (1, -1, *[1] * (x.ndim - 2)) if x.ndim > 3 else (-1,)
        return self.layer(x) * self.change.view(shape)


def test_adapters_in_the_place_of_layers_learn(model):
    rgu = model.blocks[0].rgu_fast
    rgu.v = Adapted(rgu.v, rgu.v.weight.shape[0])
    model(images()).sum().backward()
    assert rgu.v.change.grad.abs().sum() > 0
    layer = build("text", layers=1, length=8).blocks[0]
    for name in ("mlp_in", "mlp_out"):
        prune.l1_unstructured(getattr(layer, name), "weight", 0.5)
    for _ in range(2):
        layer(torch.randn(2, 8, layer.mlp_in.in_features))[0].square().sum().backward()
    attention = HolographicAttention(8, 2)
    attention.query = Adapted(attention.query, 8)
    attention(torch.randn(2, 5, 8)).square().sum().backward()
    assert attention.query.change.grad.abs().sum() > 0


def test_whoever_scales_a_kernel_for_a_picture_changes_no_answer(model):
    x = images()
    calibrate(model, [x])
    with torch.no_grad():
        before = model(x)
        for block in model(x, return_parts=True).blocks:
            block.hyper_kernel.numpy()[:] = 0
            for kernel in block.local_kernels.values():
                kernel.zero_()
        torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def test_an_exported_network_takes_any_number_of_images(model):
    x = images()
    calibrate(model, [x])
    sizes = ({0: torch.export.Dim("images", max=1024)},)
    exported = torch.export.export(model, (x,), dynamic_shapes=sizes, strict=False).module()
    many = torch.cat([x, x])
    torch.testing.assert_close(exported(many), model(many))
    with pytest.raises(ValueError, match="an empty batch; allowed: one image"):
        model(x[:0])


def test_a_network_that_was_trained_on_says_that_its_statistics_are_old(model, tmp_path):
    x = images()

    def train():
        model.train()
        model(x).sum().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(1e-3 * parameter.grad)
        model.eval()

    calibrate(model, [x])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x)
        model.train()(x)
        copy.deepcopy(model.eval())(x)  # nothing was trained
        train()
        with pytest.raises(RuntimeWarning, match="trained after its calibration.*calibrate"):
            model(x)
        copied = pickle.loads(pickle.dumps(model))
        with pytest.raises(RuntimeWarning, match="trained after its calibration"):
            model.float().save(tmp_path / "model.safetensors")
        copied.train()
        copied.eval()(x)  # of which nothing is known
        model.double()
        calibrate(model, [x])
        model(x)
        train()
        set_evaluation(model, "released")
        model(x)
        set_evaluation(model, "calibrated")
        model.load_state_dict(model.state_dict())  # somebody's choice
        model(x)
        assert warned(lambda: train() or model(x)) == 0


def warned(call):
    """How many warnings a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return len(caught)


def test_the_warning_of_old_statistics_comes_once(tmp_path, tiny_model):
    tiny = tiny_model()
    calibrate(tiny, [images().float()])
    tiny.save(tmp_path / "model.safetensors")
    loaded = terminator.pretrained(tmp_path / "model.safetensors")
    with torch.no_grad():
        loaded.train().classifier.weight.add_(1)
    assert warned(lambda: loaded.eval()(images().float())) == 1
    assert warned(lambda: loaded(images().float())) == 0


def test_batches_with_labels_are_no_batches_for_a_calibration(model):
    with pytest.raises(ValueError, match=r"a batch is a list; .*for images, labels in loader"):
        calibrate(model, [[images(), torch.arange(5)]])


def test_a_link_that_answered_by_itself_makes_its_kernels_anew():
    slow = nn.Sequential(nn.Conv2d(2, 4, 1), nn.GELU(), nn.Conv2d(4, 8, 1))
    fast = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 64, 10))
    link, x = terminator.connect(slow, fast, at="0", input_shape=(3, 8, 8)), images().float()
    (kernel,) = link.send_data()
    link.receive_data(x)
    assert link.hyper_kernels[0] is kernel
    link(x).sum().backward()
    with torch.no_grad():
        for parameter in link.parameters():
            parameter.add_(0.1)
        torch.testing.assert_close(link.receive_data(x), link(x))


def test_a_link_can_be_transformed_and_exported():
    slow = nn.Sequential(nn.Conv2d(2, 4, 1), nn.GELU(), nn.Conv2d(4, 8, 1))
    fast = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 64, 10))
    link, x = terminator.connect(slow, fast, at="0", input_shape=(3, 8, 8)), images().float()
    expected = link.start()(x)
    parameters = {name: p.detach() for name, p in link.named_parameters()}
    found = torch.func.grad(lambda p: torch.func.functional_call(link, p, (x,)).sum())(parameters)
    expected.sum().backward()
    for name, parameter in link.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)
    exported = torch.export.export(link.eval(), (x,), strict=False).module()
    torch.testing.assert_close(exported(x), expected)
