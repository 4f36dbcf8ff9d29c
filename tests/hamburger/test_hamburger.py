"""The three decompositions of Hamburger, and its golden cases."""

import numpy as np
import pytest
import torch
import torch.multiprocessing
from hamburger_tools import HAMS, draw, each_dtype, each_kind, golden, near

from terminator.hamburger import Ham, Hamburger, cd, nmf, random_bases, reconstruct, to_matrix, vq
from terminator.hamburger.decompositions import EPS, memberships, unit

# -- golden cases ----------------------------------------------------------------------------------


def settings_of_case(kind, case):
    changes = {
        "kind": kind,
        "heads": int(case["S"]),
        "rank": int(case["R"]),
        "train_steps": int(case["K"]),
        "inverse_temperature": float(case.get("inv_t", 1)),
    }
    if kind == "CD":
        changes |= {"ridge": float(case["beta"]), "eta": float(case["eta"]), "random_init": False}
    return changes


@each_kind
@each_dtype
@pytest.mark.parametrize("one_step", [True, False])
def test_golden_ham_and_its_gradient(kind, dtype, one_step):
    case = golden(kind.lower())
    ham = Ham(case["x"].shape[1], **settings_of_case(kind, case), one_step=one_step).to(dtype)
    bases = None if kind == "CD" else case["bases0"].to(dtype)
    if kind == "CD":
        ham.bases.copy_(case["bases_shared"])
    x = case["x"].to(dtype).requires_grad_()
    found = ham.decompose(x, bases)
    near(found.bases, case["bases_steps"][-1])
    near(found.coefficients, case["coef_final"])
    out = ham(x, bases)
    near(out, case["out"])
    (gradient,) = torch.autograd.grad((out * case["probe"].to(dtype)).sum(), x)
    near(gradient, case["grad_onestep" if one_step else "grad_bptt"])
    if kind == "CD":
        near(ham.bases, case["bases_after_update"])


@each_kind
@each_dtype
def test_golden_steps(kind, dtype):
    case = golden(kind.lower())
    x = to_matrix(case["x"].to(dtype), int(case["S"]))
    start = case["bases_shared"].repeat(len(x), 1, 1) if kind == "CD" else case["bases0"]
    tau = {} if kind == "NMF" else {"inverse_temperature": float(case["inv_t"])}
    for k, (bases, coefficients) in enumerate(zip(case["bases_steps"], case["coef_steps"])):
        before = HAMS[kind](x, start.to(dtype), steps=k, **tau)
        near(HAMS[kind](x, start.to(dtype), steps=k + 1, **tau).bases, bases)
        if kind == "NMF":  # the coefficients of step k + 1 are the last ones of k steps
            near(before.coefficients, coefficients)
        else:
            directions = unit(before.bases, EPS) if kind == "VQ" else before.bases
            sharpness = tau["inverse_temperature"] / x.norm(dim=1, keepdim=True)
            near(memberships(x, directions.mT, sharpness).mT, coefficients)


def test_golden_nmf_error_falls():
    case = golden("nmf")
    x, steps = to_matrix(case["x"]), int(case["K"])
    runs = [nmf(x, case["bases0"], steps=k) for k in range(steps + 1)]
    during = [(runs[k + 1].bases, runs[k].coefficients) for k in range(steps)]
    pairs = [(case["bases0"], case["coef0"]), *during, runs[-1]]
    errors = torch.stack([(x - reconstruct(*pair)).square().sum() for pair in pairs])
    near(errors, case["rec_err"])
    assert (errors.diff() < 0).all()


def golden_block(case, version, dtype):
    block = Hamburger(6, version=version, width=8, rank=3).double()
    block.lower.load_state_dict({"weight": case["lower_w"], "bias": case["lower_b"]})
    block.upper[0].load_state_dict({"weight": case["upper_w"]})
    norm, name = (block.upper[1], "upper") if version == "V1" else (block.cheese[1], "cheese")
    keys = zip(("weight", "bias", "running_mean", "running_var"), "gbmv")
    norm.load_state_dict(
        {key: case[f"{name}_bn_{letter}"] for key, letter in keys}
        | {"num_batches_tracked": torch.tensor(0)}
    )
    if version != "V1":
        block.cheese[0].load_state_dict({"weight": case["cheese_w"]})
    if version == "V2+":
        with torch.no_grad():
            block.ham_scale.copy_(case["coef_ham"])
            block.shortcut_scale.copy_(case["coef_shortcut"])
    return block.to(dtype), norm


@each_dtype
@pytest.mark.parametrize("version", ["V1", "V2", "V2+"])
def test_golden_block(version, dtype):
    case, prefix = golden("block"), version.lower().replace("+", "plus")
    block, norm = golden_block(case, version, dtype)
    bases = case["bases0"].to(dtype)
    near(block.eval()(case["x"].to(dtype), bases), case[f"{prefix}_eval"])
    before = norm.running_mean.clone()
    x = case["x"].to(dtype).requires_grad_()
    out = block.train()(x, bases)
    near(out, case[f"{prefix}_train"])
    near(
        torch.autograd.grad((out * case["probe"].to(dtype)).sum(), x)[0],
        case[f"{prefix}_train_gradx"],
    )
    seen = []
    norm.register_forward_hook(lambda _, given, __: seen.append(given[0].mean((0, 2, 3))))
    block(x, bases)
    after_one = before + 3e-4 * (seen[0] - before)
    torch.testing.assert_close(norm.running_mean, after_one + 3e-4 * (seen[0] - after_one))


# -- the decompositions against second ways to compute them ----------------------------------------


@pytest.mark.parametrize(("d", "n", "r"), [(12, 40, 5), (7, 5, 5), (1, 9, 1), (6, 6, 6)])
def test_nmf_never_gets_worse_and_stays_non_negative(d, n, r):
    x = draw(4, d, n, seed=d)
    x[:, :, 1] = 0  # a dead position
    bases = random_bases("NMF", (4, d, r), torch.Generator().manual_seed(1), dtype=x.dtype)
    errors = []
    for steps in range(12):
        found = nmf(x, bases, steps)
        assert found.bases.min() >= 0
        assert found.coefficients.min() >= 0
        approximation = reconstruct(*found)
        errors.append((x - approximation).square().sum((1, 2)))
        assert (approximation[:, :, 1] == 0).all()
    errors = torch.stack(errors)
    assert (errors.diff(dim=0) <= 1e-9).all()  # the 1e-6 in the denominators can cost a little
    assert d == 1 or (errors[-1] < errors[0]).all()
    # the least error of any rank-R approximation
    singular = torch.linalg.svdvals(x)[:, r:].square().sum(1)
    assert (errors[-1] >= singular - 1e-9).all()


def test_vq_against_a_loop_over_positions_and_bases():
    x, u, tau = draw(5, 9, seed=3).numpy(), draw(5, 3, seed=4).numpy() + 0.1, 10.0

    def cosines(a, b):
        return np.array(
            [
                [
                    a[:, n] @ b[:, r] / np.linalg.norm(a[:, n]) / np.linalg.norm(b[:, r])
                    for r in range(b.shape[1])
                ]
                for n in range(a.shape[1])
            ]
        )

    found = vq(torch.tensor(x)[None], torch.tensor(u)[None], steps=4, inverse_temperature=tau)
    for _ in range(4):
        weights = np.exp(tau * cosines(x, u))
        weights /= weights.sum(1, keepdims=True)
        sums = [sum(weights[n, r] * x[:, n] for n in range(9)) for r in range(3)]
        u = np.stack([sums[r] / weights[:, r].sum() for r in range(3)], 1)
    weights = np.exp(tau * cosines(x, u))
    weights /= weights.sum(1, keepdims=True)
    np.testing.assert_allclose(found.bases[0], u, rtol=1e-5)
    np.testing.assert_allclose(found.coefficients[0], weights, rtol=1e-4)
    torch.testing.assert_close(found.coefficients.sum(-1), torch.ones(1, 9, dtype=torch.float64))


def test_cd_against_one_closed_form_step_and_ridge_regression():
    x, u, tau, beta = draw(6, 10, seed=5), draw(6, 3, seed=6), 30.0, 0.3  # u of any length
    weights = torch.exp(tau * (x / x.norm(dim=0)).T @ u)
    weights = weights / weights.sum(1, keepdim=True)
    means = x @ (weights / weights.sum(0))
    u_1 = means / means.norm(dim=0)
    found = cd(x, u, steps=1, inverse_temperature=tau, ridge=beta)
    torch.testing.assert_close(found.bases, u_1, rtol=1e-5, atol=1e-5)
    # minimises ||X - U V^T||^2 + beta ||V||^2: ordinary least squares of X and zeros below it
    tall = torch.cat([found.bases, beta**0.5 * torch.eye(3, dtype=x.dtype)])
    below = torch.cat([x, x.new_zeros(3, 10)])
    torch.testing.assert_close(found.coefficients.T, torch.linalg.lstsq(tall, below).solution)


@each_kind
def test_bases_are_used_as_given_with_no_steps(kind):
    x = draw(2, 6, 8)
    bases = random_bases(kind, (2, 6, 3), dtype=x.dtype).requires_grad_()
    found = HAMS[kind](x.requires_grad_(), bases, steps=0)
    assert torch.equal(found.bases, bases)
    assert not found.bases.requires_grad  # nothing reaches the bases
    assert found.coefficients.requires_grad


# -- gradients -------------------------------------------------------------------------------------


def probe_of(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype)


@each_kind
def test_one_step_gradient_is_autograd_of_the_last_step_and_its_closed_form(kind):
    tau, beta, steps = 10.0, 0.1, 5
    x = (draw(2, 6, 8, seed=1) + 0.1).requires_grad_()
    start = random_bases(kind, (2, 6, 3), torch.Generator().manual_seed(2), dtype=x.dtype)
    options = {} if kind == "NMF" else {"inverse_temperature": tau}
    found, g = HAMS[kind](x, start, steps, **options), probe_of(x)  # CD: its ridge is 0.1
    (gradient,) = torch.autograd.grad((reconstruct(*found) * g).sum(), x)

    u, gram = found.bases, found.bases.mT @ found.bases
    if kind == "NMF":
        v_k = nmf(x, start, steps - 1).coefficients.detach()
        last = v_k * (x.mT @ u) / (v_k @ gram + EPS)
        closed = u @ ((g.mT @ u) * v_k / (v_k @ gram + EPS)).mT
    elif kind == "VQ":
        norm = x.detach().norm(dim=1, keepdim=True)
        last = (tau * (x / (EPS + norm)).mT @ unit(u, EPS)).softmax(-1)
        a, p = g.mT @ u, last.detach()
        q = p * (a - (a * p).sum(-1, keepdim=True))
        closed = tau * unit(u, EPS) @ q.mT / (EPS + norm)
    else:
        inverse = torch.linalg.inv(gram + beta * torch.eye(3, dtype=x.dtype))
        last, closed = x.mT @ u @ inverse, u @ inverse @ u.mT @ g
    torch.testing.assert_close(torch.autograd.grad((u @ last.mT * g).sum(), x)[0], gradient)
    torch.testing.assert_close(closed, gradient)


@each_kind
def test_gradient_through_all_steps_is_that_of_the_whole_map(kind):
    x = (draw(1, 4, 6, seed=7) + 0.2).requires_grad_()
    bases = random_bases(kind, (1, 4, 2), torch.Generator().manual_seed(3), dtype=x.dtype)
    options = {} if kind == "NMF" else {"inverse_temperature": 10.0}
    whole = options | ({"detach_norm": False} if kind == "VQ" else {})

    def ham(x, **options):
        return reconstruct(*HAMS[kind](x, bases, 3, **options))

    assert torch.autograd.gradcheck(lambda x: ham(x, one_step=False, **whole), x)
    assert not torch.autograd.gradcheck(lambda x: ham(x, **options), x, raise_exception=False)
    if kind == "VQ":
        released = options | {"one_step": False}  # its norm in the last coefficients is detached
        assert not torch.autograd.gradcheck(lambda x: ham(x, **released), x, raise_exception=False)


@each_kind
def test_no_graph_where_no_gradient_is_asked_for(kind):
    ham = Ham(6, kind=kind, rank=2, one_step=False)
    with torch.no_grad():
        found = ham.decompose(draw(1, 6, 3, 3).requires_grad_())
    assert not found.bases.requires_grad
    assert not found.coefficients.requires_grad
