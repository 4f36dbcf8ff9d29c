"""Kar2, Kar3, Lion and the schedules."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from places import GOLDEN

from terminator import Kar2, Kar3
from terminator.classification.optimizers import Lion
from terminator.optim import learning_rate_factor

KINDS = pytest.mark.parametrize("kind", [Kar2, Kar3])


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator))
        for shape in ((3, 4), (5,), (), (2, 3, 2))
    ]


def set_gradients(params, step, without=()):
    generator = torch.Generator().manual_seed(100 + step)
    for i, p in enumerate(params):
        p.grad = (
            torch.randn(p.shape, generator=generator, dtype=p.dtype) if i not in without else None
        )
        if p.grad is not None and p.grad.ndim:
            p.grad[0] = 0.0  # sign(0) = 0


def groups(params):
    return [{"params": params[:2], "lr": 0.1}, {"params": params[2:]}]


@KINDS
def test_foreach_and_plain_are_equal_to_the_bit(kind):
    runs = []
    for foreach in (True, False):
        params = parameters()
        optimizer = kind(groups(params), lr=0.01, foreach=foreach)
        for step in range(12):
            set_gradients(params, step, without={step % 4})
            optimizer.step()
        runs.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(runs[0], parameters(), strict=True))


@KINDS
@pytest.mark.parametrize("foreach", [True, False])
def test_step_against_the_equations(kind, foreach):
    betas = (0.5, 0.95)[: kind.averages]
    p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    value, averages = p.detach().clone(), [torch.zeros(3, dtype=torch.float64) for _ in betas]
    optimizer = kind([p], lr=0.1, betas=betas, foreach=foreach)
    for step in range(6):
        set_gradients([p], step)
        g = p.grad
        optimizer.step()
        value -= 0.1 * (g.sign() + sum(m.sign() for m in averages))
        averages = [b * m + (1 - b) * g for b, m in zip(betas, averages, strict=True)]
        torch.testing.assert_close(p.detach(), value, rtol=0, atol=1e-12)


@KINDS
def test_parameters_without_gradient_stay_as_they_are(kind):
    params = parameters()
    optimizer = kind(params, lr=0.1)
    set_gradients(params, 0, without={1, 2})
    optimizer.step()
    for i, (p, start) in enumerate(zip(params, parameters(), strict=True)):
        assert torch.equal(p, start) == (i in (1, 2))
    optimizer.zero_grad()
    optimizer.step()  # nothing to do at all
    assert params[1] not in optimizer.state


@KINDS
def test_closure_is_called_with_gradients_and_its_loss_returned(kind):
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = kind([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == pytest.approx(5.0)
    torch.testing.assert_close(p.detach(), torch.tensor([0.9, -1.9]))
    assert optimizer.step() is None


@KINDS
@pytest.mark.parametrize("foreach", [True, False])
def test_state_dict_goes_on_where_it_stopped(kind, foreach, tmp_path):
    params = parameters()
    optimizer = kind(groups(params), lr=0.01, foreach=foreach)
    for step in range(4):
        set_gradients(params, step)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
    resumed = kind(groups(copies), lr=0.5)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [group["lr"] for group in resumed.param_groups] == [0.1, 0.01]
    for step in range(4, 8):
        for ours, one in ((params, optimizer), (copies, resumed)):
            set_gradients(ours, step)
            one.step()
    assert all(torch.equal(a, b) for a, b in zip(params, copies, strict=True))


@KINDS
def test_learning_rate_schedulers_and_copies_of_torch_work(kind):
    params = parameters()
    optimizer = kind(params, lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
    set_gradients(params, 0)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert copy.deepcopy(optimizer).param_groups[0]["betas"] == optimizer.param_groups[0]["betas"]


@KINDS
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_goes_on_like_its_original(kind, copied):
    params = parameters()
    optimizer = kind(params, lr=0.1)
    set_gradients(params, 0)
    optimizer.step()
    other = copied(optimizer)
    copies = other.param_groups[0]["params"]
    for step in (1, 2):
        for ours, one in ((params, optimizer), (copies, other)):
            set_gradients(ours, step)
            one.step()
    assert all(torch.equal(a, b) and a is not b for a, b in zip(params, copies, strict=True))


@KINDS
@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan])
def test_bad_learning_rates(kind, lr):
    with pytest.raises(ValueError, match="lr is .*above 0"):
        kind(parameters(), lr=lr)
    with pytest.raises(ValueError, match="lr is .*above 0"):
        kind([{"params": parameters(), "lr": lr}])


@pytest.mark.parametrize(
    ("kind", "betas", "count"),
    [
        (Kar3, (0.5,), 2),
        (Kar3, (0.5, 1.0), 2),
        (Kar3, (-0.1, 0.5), 2),
        (Kar3, (0.5, math.nan), 2),
        (Kar3, 0.5, 2),
        (Kar2, (0.5, 0.9), 1),
        (Kar2, (1.0,), 1),
        (Kar2, 0.95, 1),
    ],
)
def test_bad_betas(kind, betas, count):
    with pytest.raises(ValueError, match=f"betas is .*{kind.__name__} takes {count} in"):
        kind(parameters(), betas=betas)
    with pytest.raises(ValueError, match="betas is"):
        kind([{"params": parameters(), "betas": betas}])


@KINDS
def test_sparse_gradients_are_refused_before_anything_moves(kind):
    table = torch.nn.Embedding(4, 2, sparse=True)
    start = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{kind.__name__} does not take sparse gradients"):
        kind(table.parameters()).step()
    assert torch.equal(table.weight, start)


# -- Lion ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lion_against_algorithm_2(weight_decay):
    p = torch.nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64))
    theta, m = p.detach().clone(), torch.zeros(3, dtype=torch.float64)
    optimizer = Lion([p], lr=0.1, betas=(0.8, 0.95), weight_decay=weight_decay)
    for step in range(8):
        set_gradients([p], step)
        g = p.grad
        optimizer.step()
        c = 0.8 * m + (1 - 0.8) * g  # interpolated for the update only
        theta = theta - 0.1 * (torch.sign(c) + weight_decay * theta)
        m = 0.95 * m + (1 - 0.95) * g
        torch.testing.assert_close(p.detach(), theta, rtol=0, atol=1e-12)


def test_lion_leaves_what_has_no_gradient_and_goes_on_from_its_state(tmp_path):
    params = parameters()
    optimizer = Lion(groups(params), lr=0.01, weight_decay=0.1)
    for step in range(4):
        set_gradients(params, step, without={1})
        optimizer.step()
    assert torch.equal(params[1], parameters()[1])
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
    resumed = Lion(groups(copies), lr=0.5)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(4, 8):
        for ours, one in ((params, optimizer), (copies, resumed)):
            set_gradients(ours, step)
            one.step()
    assert all(torch.equal(a, b) for a, b in zip(params, copies, strict=True))


def test_lion_calls_its_closure_with_gradients():
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = Lion([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(5.0)
    torch.testing.assert_close(p.detach(), torch.tensor([0.9, -1.9]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"betas": (0.9,)}, "Lion takes 2 in"),
        ({"betas": (0.9, 1.0)}, "Lion takes 2 in"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be 0 or more"),
    ],
)
def test_lion_refuses_bad_settings_and_sparse_gradients(options, words):
    with pytest.raises(ValueError, match=words):
        Lion(parameters(), **options)
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="Lion does not take sparse gradients"):
        Lion(table.parameters()).step()


# -- schedules -------------------------------------------------------------------------------------


def factors(name, total, warmup):
    return [learning_rate_factor(name, step, total, warmup) for step in range(total)]


def test_cosine_warms_up_to_the_peak_and_falls_to_nothing():
    values = factors("cosine", 100, 8)
    assert values[:8] == pytest.approx([(i + 1) / 8 for i in range(8)])
    assert values[8] == max(values) == 1.0
    assert values[54] == pytest.approx(0.5)
    assert 0 < values[-1] < 0.001
    assert all(a >= b for a, b in zip(values[8:], values[9:], strict=False))
    assert factors("cosine", 10, 0)[0] == 1.0


def test_constant_warms_up_and_stays():
    assert factors("constant", 6, 2) == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert factors("constant", 3, 0) == [1.0] * 3
    assert max(factors("constant", 4, 100)) <= 0.04


@pytest.mark.parametrize(
    ("epochs", "warmup", "per_epoch", "percent"),
    [(100, 8, 781, 1.9), (6, 2, 10, 85.0), (6, 2, 1000, 100.0)],
)
def test_the_released_schedule_exceeds_its_nominal_peak(epochs, warmup, per_epoch, percent):
    peak = max(factors("released", epochs * per_epoch, warmup * per_epoch))
    assert 100 * (peak - 1) == pytest.approx(percent, abs=0.5)


def test_the_85_percent_are_those_of_the_golden_schedule():
    with np.load(GOLDEN / "terminator_lr_schedule.npz") as case:
        assert (case["epochs"], case["warmup_epochs"], case["iters_per_epoch"]) == (6, 2, 10)
        assert case["lr"].max() / case["peak_lr"] == pytest.approx(1.85, abs=0.005)


def test_released_schedule_without_warm_up_starts_at_one():
    assert factors("released", 20, 0)[0] == 1.0


@pytest.mark.parametrize(
    ("name", "total", "warmup", "words"),
    [
        ("cosine", 10, 10, "10 of 10 iterations; the cosine schedule allows fewer than 10"),
        ("released", 10, 6, "6 of 10 iterations; the released schedule allows fewer than 5.5"),
        ("cosine", 10, -1, "-1 of 10"),
        ("linear", 10, 2, "'linear'; allowed: cosine, released, constant"),
    ],
)
def test_schedules_that_cannot_be(name, total, warmup, words):
    with pytest.raises(ValueError, match=words):
        learning_rate_factor(name, 0, total, warmup)
