"""A ham as a layer: modes and heads, where its bases come from, mixed precision."""

import pytest
import torch
import torch.multiprocessing
from hamburger_tools import HAMS, draw, each_kind
from torch import nn

from terminator.hamburger import (
    DualHam,
    Ham,
    Hamburger,
    cd,
    from_matrix,
    online_update,
    random_bases,
    reconstruct,
    seeded_bases,
    to_matrix,
)

# -- the layer: modes, heads, shapes ---------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("positions", [(7,), (3, 5)])
@pytest.mark.parametrize("mode", ["spatial", "channel"])
def test_matrices_keep_shape_order_and_type(kind, positions, mode):
    x = draw(2, 6, *positions, dtype=torch.float32)
    matrix = to_matrix(x, 2, mode)
    p = torch.Size(positions).numel()
    assert matrix.shape == ((4, 3, p) if mode == "spatial" else (4, p, 3))
    assert torch.equal(from_matrix(matrix, x.shape, mode), x)
    head = x[1, 3:].flatten(1)  # image 1, head 1
    assert torch.equal(matrix[3], head if mode == "spatial" else head.T)
    out = Ham(6, kind=kind, mode=mode, heads=2, rank=2)(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype


@each_kind
def test_channel_mode_is_spatial_mode_of_the_transposed(kind):
    x = draw(2, 6, 2, 4)
    bases = random_bases(kind, (2, 8, 3), torch.Generator().manual_seed(0), dtype=x.dtype)
    by_channel = Ham(6, kind=kind, mode="channel", rank=3)(x, bases)
    turned = x.flatten(2).mT[..., None]  # (B, P, C, 1): positions as channels
    by_position = Ham(8, kind=kind, rank=3)(turned, bases)
    torch.testing.assert_close(by_channel, by_position[..., 0].mT.reshape(x.shape))


@each_kind
@pytest.mark.parametrize("mode", ["spatial", "channel"])
def test_heads_are_separate_hams_on_slices_of_channels(kind, mode):
    x, d = draw(2, 12, 3, 5), 4 if mode == "spatial" else 15
    # (B*S, D, R)
    bases = random_bases(kind, (6, d, 2), torch.Generator().manual_seed(0), dtype=x.dtype)
    out = Ham(12, kind=kind, mode=mode, heads=3, rank=2)(x, bases)
    one = Ham(4, kind=kind, mode=mode, rank=2)
    for s in range(3):
        part = one(x[:, 4 * s : 4 * s + 4], bases[s::3])
        torch.testing.assert_close(out[:, 4 * s : 4 * s + 4], part)


def test_dual_is_a_spatial_and_a_channel_ham():
    x = draw(2, 8, 3, 4)
    generator = torch.Generator().manual_seed(0)
    bases = [
        random_bases("CD", shape, generator, dtype=x.dtype) for shape in ((4, 2, 2), (4, 12, 2))
    ]
    dual = DualHam(8, kind="CD", rank=2, heads=2, mode="dual")
    out = dual(x, bases)
    halves = [
        Ham(4, kind="CD", rank=2, heads=2, mode=mode)(part, given)
        for mode, part, given in zip(("spatial", "channel"), x.chunk(2, 1), bases)
    ]
    torch.testing.assert_close(out, torch.cat(halves, 1))
    again = [dual(x, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*again)


@each_kind
def test_steps_of_training_and_of_evaluation(kind):
    x, ham = draw(2, 6, 4, 4), Ham(6, kind=kind, rank=3, train_steps=1, eval_steps=4)
    bases = random_bases(kind, (2, 6, 3), dtype=x.dtype)
    for mode, steps in ((True, 1), (False, 4)):
        found = ham.train(mode).decompose(x, bases)
        assert torch.equal(found.bases, HAMS[kind](x.flatten(2), bases, steps).bases)
    ham.eval_steps = 9
    assert torch.equal(ham.decompose(x, bases).bases, HAMS[kind](x.flatten(2), bases, 9).bases)


# -- where bases come from -------------------------------------------------------------------------


def test_random_bases_and_their_distributions():
    uniform = random_bases("NMF", (50, 40, 5), normalized=False)
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    normal = random_bases("VQ", (50, 40, 5), normalized=False)
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    for kind in HAMS:
        torch.testing.assert_close(random_bases(kind, (2, 7, 3)).norm(dim=1), torch.ones(2, 3))
    raw = Ham(8, rank=2, normalized_init=False, train_steps=0).decompose(draw(1, 8, 5, 5)).bases
    assert (raw.norm(dim=1) - 1).abs().min() > 1e-3


@each_kind
def test_bases_are_new_each_time_unless_seeded(kind):
    x, ham = draw(2, 6, 4, 4), Ham(6, kind=kind, rank=3, inverse_temperature=10.0).eval()
    assert not torch.equal(ham(x), ham(x))
    first, same, other = (
        ham(x, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    model = nn.Sequential(ham, nn.ReLU(), Ham(6, kind=kind, rank=2).eval())
    with seeded_bases(model, 1) as generator:
        seeded = model(x)
        assert torch.equal(model[0](x, generator=torch.Generator().manual_seed(1)), first)
        assert generator.initial_seed() == 1
    with seeded_bases(model, 1):
        assert torch.equal(model(x), seeded)
    again = []
    for _ in range(2):  # torch's own generator is back
        torch.manual_seed(3)
        again.append(model(x))
    assert torch.equal(*again)
    assert not torch.equal(again[0], seeded)


def test_one_seed_gives_the_same_bases_in_every_precision():
    wide, narrow = (
        random_bases("CD", (2, 5, 3), torch.Generator().manual_seed(0), dtype=dtype)
        for dtype in (torch.float64, torch.float32)
    )
    assert wide.dtype == torch.float64
    torch.testing.assert_close(narrow, wide.float())


@each_kind
def test_online_update_after_training_passes_only(kind):
    x = draw(3, 8, 4, 4, dtype=torch.float32)
    ham = Ham(8, kind=kind, heads=2, rank=3, random_init=False, inverse_temperature=10.0, eta=0.7)
    start = ham.bases.clone()
    assert start.shape == (2, 4, 3)
    last = ham.decompose(x).bases  # (B*S, D, R)
    # heads innermost
    assert torch.equal(last, ham.decompose(x, torch.cat([start, start, start])).bases)
    assert torch.equal(ham.bases, start)
    ham.eval()(x)
    ham.train()(x, bases=last)  # explicit bases teach nothing
    assert torch.equal(ham.bases, start)
    ham(x)
    for s in range(2):
        moved = 0.3 * start[s] + 0.7 * sum(last[2 * b + s] for b in range(3)) / 3
        torch.testing.assert_close(ham.bases[s], moved / moved.norm(dim=0))
    assert torch.equal(ham.bases, online_update(start, last, 0.7))
    twin = Ham(8, ham.settings)
    twin.load_state_dict(ham.state_dict())  # strictly: the buffer is there from the start
    assert torch.equal(twin.eval()(x), ham.eval()(x))


@pytest.mark.parametrize(
    ("update", "in_training", "in_evaluation"),
    [("training", True, False), ("released", False, True), ("off", False, False)],
)
def test_when_shared_bases_are_updated(update, in_training, in_evaluation):
    for mode, expected in ((True, in_training), (False, in_evaluation)):
        ham = Ham(
            6,
            kind="CD",
            rank=2,
            random_init=False,
            online_update=update,
            positions=16,
            mode="channel",
        )
        start = ham.bases.clone()
        assert start.shape == (1, 16, 2)
        ham.train(mode)(draw(2, 6, 4, 4, dtype=torch.float32))
        assert (not torch.equal(ham.bases, start)) == expected


def test_update_through_full_backpropagation_leaves_gradients_alone():
    x = draw(1, 6, 4, 4).requires_grad_()
    ham = Ham(
        6, kind="CD", rank=2, random_init=False, one_step=False, inverse_temperature=10.0
    ).double()
    start = ham.bases.clone()
    (gradient,) = torch.autograd.grad(ham(x).square().sum(), x)
    assert not torch.equal(ham.bases, start)
    again = reconstruct(*cd(x.flatten(2), start, 6, 10.0, one_step=False))
    (expected,) = torch.autograd.grad(again.square().sum(), x)
    torch.testing.assert_close(gradient, expected)


def update_on_two(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    x = draw(4, 6, 3, 3)
    ham = Ham(6, kind="CD", rank=2, random_init=False, inverse_temperature=10.0).double()
    ham.load_state_dict(torch.load(f"{folder}/start.pt", weights_only=True))
    ham(x[2 * rank : 2 * rank + 2])
    torch.save(ham.bases, f"{folder}/bases{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_update_over_two_processes_equals_that_of_one(tmp_path):
    ham = Ham(6, kind="CD", rank=2, random_init=False, inverse_temperature=10.0).double()
    torch.save(ham.state_dict(), tmp_path / "start.pt")
    torch.multiprocessing.spawn(update_on_two, (str(tmp_path),), nprocs=2)
    ham(draw(4, 6, 3, 3))
    for rank in range(2):
        torch.testing.assert_close(
            torch.load(tmp_path / f"bases{rank}.pt", weights_only=True), ham.bases
        )


# -- mixed precision -------------------------------------------------------------------------------


@each_kind
def test_ham_runs_in_float32_under_autocast(kind):
    x = draw(2, 8, 4, 4, dtype=torch.float32)
    ham = Ham(8, kind=kind, rank=3, inverse_temperature=10.0)
    bases = random_bases(kind, (2, 8, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ham(x, bases), ham_outside(ham, x, bases))
        for part in HAMS[kind](x.bfloat16().flatten(2), bases.bfloat16()):
            assert part.dtype == torch.float32
        half = ham(x.bfloat16(), bases)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, ham(x.bfloat16().float(), bases).bfloat16())


def ham_outside(ham, x, bases):
    with torch.autocast("cpu", enabled=False):
        return ham(x, bases)


@pytest.mark.parametrize("version", ["V1", "V2", "V2+"])
def test_block_trains_under_autocast(version):
    block = Hamburger(6, version=version, width=8, rank=3, zero_ham=False)
    x = draw(2, 6, 4, 4, dtype=torch.float32)
    inside = []
    block.ham.register_forward_hook(lambda ham, given, out: inside.append((given[0], out)))
    with torch.autocast("cpu", torch.bfloat16), seeded_bases(block, 0):
        loss = block(x).square().mean()
    loss.backward()
    assert inside[0][0].dtype == torch.bfloat16
    with seeded_bases(block, 0):
        assert torch.equal(inside[0][1], block.ham(inside[0][0].float()).bfloat16())
    for name, parameter in block.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
