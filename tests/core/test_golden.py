"""Every part of Terminator against numbers computed beforehand (tests/golden/)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import GOLDEN

from terminator import hyperzzw, losses, optim, sfne
from terminator.classification import released
from terminator.config import ModelConfig
from terminator.ops import products
from terminator.slow_net import LocalSlowNet, SlowNet, coordinates
from terminator.standardization import GroupStandardization


def golden(name):
    with np.load(GOLDEN / f"terminator_{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(ours, expected, rtol=1e-4, atol=1e-5):
    torch.testing.assert_close(ours, expected.to(ours), rtol=rtol, atol=atol)


def fill(module, case, prefix):
    """Copy `prefix`_weight and `prefix`_bias of the case into a pointwise map."""
    with torch.no_grad():
        module.weight.copy_(case[f"{prefix}_weight"])
        module.bias.copy_(case[f"{prefix}_bias"])


def fill_slow_net(net, case):
    for i, sinusoid in enumerate(net.filters):
        fill(sinusoid, case, f"filter{i}")
    for i, linear in enumerate(net.linears):
        fill(linear, case, f"linear{i}")
    fill(net.output, case, "output")
    with torch.no_grad():
        net.bias_map.copy_(case["bias_map"].expand_as(net.bias_map))
    return net


@pytest.mark.parametrize(
    ("name", "dimensions", "size", "out"), [("global", 2, 5, 6), ("channel", 1, 7, 1)]
)
def test_slow_net(name, dimensions, size, out):
    case = golden(f"slow_net_{name}")
    close(coordinates(dimensions, size)[0], case["coords"])
    close(fill_slow_net(SlowNet(dimensions, size, out, hidden=8), case)(), case["kernel"])


def test_local_slow_net_and_its_stopped_gradients():
    case = golden("slow_net_local")
    net = fill_slow_net(LocalSlowNet(2, 3, 6, hidden=8), case)
    fill(net.reduce, case, "reduce")
    fill(net.context, case, "context")
    for i, gate in enumerate(net.gates):
        fill(gate, case, f"gate{i}")
    kernel = net(case["x"])
    close(kernel, case["kernel"])
    (kernel * case["grad_seed"]).sum().backward()
    close(net.linears[0].weight.grad, case["grad_linear0_weight"])
    close(net.filters[0].weight.grad, case["grad_filter0_weight"])
    close(net.reduce.weight.grad, case["grad_reduce_weight"])


def test_hyperzzw_global():
    case = golden("hyperzzw_global")
    score = hyperzzw.slow_score(case["x"], case["hyper_kernel"])
    close(score, case["slow_score"])
    for name in ("fast", "mixed", "interacted"):
        close(hyperzzw.global_operator("matrix", score, case[name]), case[f"out_{name}"])
    close(F.silu(case["out_fast"]), case["si_glu"])


def test_rgu():
    case = golden("rgu")
    rgu = sfne.RGU(4, 2, 5)
    for name in "kvqy":
        fill(getattr(rgu, name), case, name)
    with torch.no_grad():
        rgu.bias_map.copy_(case["bias_map"].expand_as(rgu.bias_map))
    close(rgu(case["x"]), case["y"])


def test_g_ibs():
    case = golden("g_ibs")
    close(GroupStandardization(24, int(case["groups"]))(case["x"]), case["y"])


def test_hyper_channel_and_hyper_interaction():
    case = golden("hyper_channel")
    close(sfne.hyper_channel_interaction(case["x"], case["channel_kernel"]), case["y"])
    case = golden("hyper_interaction")
    score = sfne.interaction_score(case["y"], case["channel_kernel"], case["spatial_kernel"])
    close(case["x"] * score, case["out"])


def test_local_branch():
    case = golden("local_branch")
    branch = sfne.LocalBranch(LocalSlowNet(2, 5, 6, hidden=4), 6)
    fill(branch.mixer, case, "mixer")
    close(branch.features(case["x"], case["local_kernel"]), case["y"])


def test_slow_neural_loss():
    case = golden("slow_neural_loss")
    kernels = [case[f"kernel{i}"].requires_grad_() for i in range(5)]
    loss = losses.slow_neural_loss(kernels)
    close(loss, case["loss"])
    loss.backward()
    close(kernels[1].grad, case["grad_kernel1"])


@pytest.mark.parametrize(("name", "kind"), [("kar3", optim.Kar3), ("kar2", optim.Kar2)])
@pytest.mark.parametrize("foreach", [True, False])
def test_kar(name, kind, foreach):
    case = golden(name)
    p = torch.nn.Parameter(case["start"].clone())
    optimizer = kind(
        [p], lr=float(case["lr"]), betas=tuple(case["betas"].tolist()), foreach=foreach
    )
    for gradient, expected in zip(case["grads"], case["trajectory"], strict=True):
        p.grad = gradient.clone()
        optimizer.step()
        close(p.detach(), expected, atol=1e-6)


def test_released_schedule():
    case = golden("lr_schedule")
    per_epoch = int(case["iters_per_epoch"])
    total, warmup = per_epoch * int(case["epochs"]), per_epoch * int(case["warmup_epochs"])
    ours = [
        float(case["peak_lr"]) * optim.learning_rate_factor("released", i, total, warmup)
        for i in range(total)
    ]
    close(torch.tensor(ours, dtype=torch.float64), case["lr"], atol=1e-9)


def small_model():
    case = golden("model_small")
    state = {
        key.removeprefix("state."): value for key, value in case.items() if key.startswith("state.")
    }
    config = ModelConfig(**{**released.infer_config(state).__dict__, "dropout": (0.0,)})
    return case, released.load(state, config)


@pytest.mark.parametrize(
    ("device", "traced", "onednn"),
    [
        ("cpu", False, False),
        ("cpu", False, True),
        pytest.param("cpu", True, products.ONEDNN, marks=pytest.mark.slow),
        ("cuda", False, False),
    ],
)
def test_whole_small_model_with_gradients(monkeypatch, device, traced, onednn):
    """With either library for products, as torch.compile traces it, in one graph, and on a GPU."""
    if device == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(products, "ONEDNN", onednn and torch.backends.mkldnn.is_available())
    case, model = small_model()
    case, model = {key: value.to(device) for key, value in case.items()}, model.to(device)
    x = case["x"].requires_grad_()
    network = (
        torch.compile(model.train(), fullgraph=True, backend="aot_eager")
        if traced
        else model.train()
    )
    logits, kernels = network(x, return_kernels=True)
    close(logits, case["logits"])
    slow = losses.slow_neural_loss(kernels)
    close(slow, case["slow_neural_loss"])
    entropy = F.cross_entropy(logits, case["labels"], label_smoothing=0.1)
    close(entropy, case["cross_entropy"])
    penalty = losses.norm_penalty(*model.penalized_parameters(), l2_reg=5e-5)
    close(penalty, case["norm_penalty"], atol=1e-8)
    (slow + entropy + penalty).backward()
    close(x.grad, case["grad_x"])
    for name, parameter in model.named_parameters():
        expected = case[f"gradnorm.{released.released_key(name)}"]
        close(parameter.grad.norm(), expected.reshape(()))
