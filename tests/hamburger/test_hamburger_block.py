"""The Hamburger blocks V1, V2 and V2+, and bad input."""

import pytest
import torch
import torch.multiprocessing
import torch.nn.functional as F
from hamburger_tools import HAMS, draw, each_kind
from torch import nn

from terminator import ConfigError
from terminator.hamburger import (
    DualHam,
    Ham,
    Hamburger,
    HamburgerSettings,
    HamSettings,
    random_bases,
)

# -- the blocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"version": "V1"}, 525_824),
        ({}, 787_968),
        ({"version": "V2+"}, 787_970),
        ({"version": "V2+", "mode": "dual"}, 1_312_770),
    ],
)
def test_parameters_of_the_released_sizes(changes, parameters):
    assert sum(p.numel() for p in Hamburger(512, **changes).parameters()) == parameters


@each_kind
@pytest.mark.parametrize("version", ["V1", "V2", "V2+"])
@pytest.mark.parametrize("positions", [(11,), (3, 5), (1, 6)])
def test_block_shapes(kind, version, positions):
    for heads, mode in (
        (1, "spatial"),
        (2, "channel"),
        *([(2, "dual")] if version == "V2+" else []),
    ):
        block = Hamburger(
            5,
            kind=kind,
            version=version,
            width=8,
            rank=2,
            heads=heads,
            mode=mode,
            dimensions=len(positions),
        )
        for batch in (1, 3):
            x = torch.randn(batch, 5, *positions)
            assert block(x).shape == x.shape
            assert block(x).min() >= 0


def test_v2_plus_starts_as_the_shortcut_and_counts_width_per_head():
    x = torch.randn(2, 5, 4, 4)
    block = Hamburger(5, version="V2+", width=6, heads=2, rank=3, mode="dual", cheese_factor=None)
    assert torch.equal(block(x), x.relu())
    assert not torch.equal(
        Hamburger(5, version="V2+", width=6, rank=3, zero_ham=False)(x), x.relu()
    )
    assert block.lower.out_channels == 24  # 2 heads of 6, twice
    assert block.ham.spatial.channels == block.ham.channel.channels == 12
    assert block.cheese[0].out_channels == block.upper[0].in_channels == 6  # by 2 heads, twice
    assert Hamburger(5, width=6, heads=2, rank=3).lower.out_channels == 6  # V2: in all


def test_relu_before_the_ham_only_for_nmf():
    x = torch.randn(2, 5, 4, 4)
    for kind in HAMS:
        block = Hamburger(5, kind=kind, width=8, rank=2)
        raw = block.lower(x)
        assert torch.equal(block.into_ham(x), raw.relu() if kind == "NMF" else raw)


def test_initial_weights():
    block = Hamburger(300, width=200, rank=4)
    for conv in (block.lower, block.cheese[0], block.upper[0]):
        assert abs(conv.weight.std() / (2 / conv.out_channels) ** 0.5 - 1) < 0.02
        assert (conv.bias is None) == (conv is not block.lower)
    assert 0.9 / 300**0.5 < block.lower.bias.abs().max() <= 1 / 300**0.5
    assert block.cheese[1].eps == 1e-5


def test_released_defaults_and_settings_by_either_way():
    released = dict(
        version="V2",
        kind="NMF",
        heads=1,
        width=512,
        rank=64,
        train_steps=6,
        eval_steps=6,
        eta=0.9,
        inverse_temperature=1.0,
        ridge=0.1,
        random_init=True,
        cheese_factor=1,
        mode="spatial",
        zero_ham=True,
    )
    settings = Hamburger(4).settings
    assert {name: getattr(settings, name) for name in released} == released
    given = HamburgerSettings(width=16, rank=4)
    assert Hamburger(4, given).settings is given
    assert Hamburger(4, given, rank=2).settings == HamburgerSettings(width=16, rank=2)


@pytest.mark.parametrize("with_ham", [True, False])
def test_a_block_learns_what_only_context_tells(with_ham):
    """Half of the images have a pattern in their upper half; which, is asked in their lower half,
    noise.
    """
    torch.manual_seed(0)
    block = Hamburger(4, version="V1", width=8, rank=1, train_steps=3)
    if not with_ham:
        block.ham = PassOn()
    head, losses = nn.Conv2d(4, 1, 1), []
    optimizer = torch.optim.Adam([*block.parameters(), *head.parameters()], 0.02)
    for _ in range(60):
        labels = torch.randint(2, (16, 1, 1, 1)).float()
        x = torch.randn(16, 4, 6, 6)
        x[:, :, :3] += 2 * labels * torch.tensor([1.0, -1, 1, -1])[:, None, None]
        logits = head(block(x))[:, :, 3:]
        loss = F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = sum(losses[-10:]) / 10
    assert last < 0.5 if with_ham else last > 0.65  # log 2 = 0.693 is chance


class PassOn(nn.Module):
    """In a ham's place: nothing."""

    def forward(self, x, bases, generator):
        return x


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "SVD"}, "kind is 'SVD'; allowed: NMF, VQ, CD"),
        ({"mode": "time"}, "mode is 'time'; allowed: spatial, channel, dual"),
        (
            {"mode": "dual"},
            "mode is 'dual'; allowed: spatial, channel with version 'V2'; dual needs 'V2\\+'",
        ),
        ({"version": "V3"}, "version is 'V3'; allowed: V1, V2, V2\\+"),
        ({"heads": 3}, "heads is 3; allowed: a divisor of the 16 channels"),
        ({"heads": 0}, "heads is 0; allowed: an integer of at least 1"),
        ({"heads": 4, "rank": 5}, "rank is 5; allowed: 1 to 4, the channels per head"),
        ({"rank": "many"}, "rank is 'many'; allowed: an integer"),
        ({"train_steps": -1}, "train_steps is -1; allowed: an integer of at least 0"),
        ({"eval_steps": 1.5}, "eval_steps is 1.5; allowed: an integer"),
        ({"inverse_temperature": 0.0}, "inverse_temperature is 0.0; allowed: a positive number"),
        ({"ridge": -0.1}, "ridge is -0.1; allowed: a positive number"),
        ({"eta": 1.1}, "eta is 1.1; allowed: a number from 0 to 1"),
        ({"online_update": "never"}, "online_update is 'never'; allowed: training, released, off"),
        (
            {"mode": "channel", "random_init": False},
            "positions is None; allowed: the fixed number of positions",
        ),
        (
            {"mode": "channel", "random_init": False, "positions": 3},
            "rank is 4; allowed: 1 to 3, the positions",
        ),
        (
            {"version": "V2+", "cheese_factor": 3},
            "cheese_factor is 3; allowed: with 16 channels .* f divides",
        ),
        (
            {"version": "V2+", "mode": "dual", "cheese_factor": 32},
            "cheese_factor is 32; .* 32 channels .* 2 f ",
        ),
        ({"width": 0}, "width is 0; allowed: an integer of at least 1"),
        ({"dimensions": 3}, "dimensions is 3; allowed: 1 .*, 2"),
        ({"headz": 2}, "unknown setting headz; did you mean heads"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        Hamburger(6, **({"width": 16, "rank": 4} | changes))


def test_other_impossible_parts():
    with pytest.raises(ConfigError, match="settings is .*; allowed: a HamburgerSettings"):
        Hamburger(6, HamSettings())
    with pytest.raises(ConfigError, match="channels is 0; allowed"):
        Hamburger(0)
    with pytest.raises(ConfigError, match="mode is 'dual'; allowed: spatial, channel for a Ham"):
        Ham(8, mode="dual", rank=2)
    with pytest.raises(ConfigError, match="channels is 7; allowed: an even number"):
        DualHam(7, rank=2)
    with pytest.raises(ValueError, match="kind is 'nmf'; allowed: NMF, VQ, CD"):
        random_bases("nmf", (1, 4, 2))


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 6, 4), (6, 4, 4)])
def test_inputs_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"x has shape .*; allowed: \(B, 6, H, W\)"):
        Hamburger(6, width=8, rank=2)(torch.rand(shape))


def test_inputs_that_do_not_fit_the_ham():
    ham = Ham(6, rank=4)
    with pytest.raises(ValueError, match="x has an entry of -0.5; allowed: nothing below 0"):
        ham(torch.full((1, 6, 2, 2), -0.5))
    with pytest.raises(ValueError, match="bases has an entry of -1; allowed: nothing below 0"):
        ham(torch.ones(1, 6, 2, 2), -torch.ones(1, 6, 4))
    with pytest.raises(ValueError, match="rank R of bases is 4; allowed: 1 to 3, the smaller side"):
        ham(torch.ones(1, 6, 1, 3))
    with pytest.raises(
        ValueError, match=r"x has shape \(1, 5, 3\); allowed: \(B, 6, \*positions\)"
    ):
        ham(torch.ones(1, 5, 3))
    with pytest.raises(ValueError, match=r"bases has shape \(1, 6, 3\); allowed: .*\(1, 6, 4\)"):
        ham(torch.ones(1, 6, 2, 2), torch.ones(1, 6, 3))
    fixed = Ham(6, kind="CD", mode="channel", rank=4, random_init=False, positions=9)
    with pytest.raises(
        ValueError, match="x has 16 positions; allowed: 9, the positions of the shared bases"
    ):
        fixed(torch.ones(1, 6, 4, 4))
    with pytest.raises(ValueError, match="bases is a Tensor; allowed: a pair"):
        DualHam(8, rank=2)(torch.ones(1, 8, 2, 2), torch.ones(1, 4, 2))


@each_kind
def test_functions_name_what_is_wrong(kind):
    x = draw(2, 6, 8)
    with pytest.raises(ValueError, match=r"bases has shape \(2, 5, 3\), x \(2, 6, 8\); allowed"):
        HAMS[kind](x, torch.ones(2, 5, 3))
    with pytest.raises(ValueError, match="rank R of bases is 7; allowed: 1 to 6"):
        HAMS[kind](x, torch.ones(2, 6, 7))
    for steps in (-1, 2.0, True):
        with pytest.raises(
            ValueError, match=f"steps is {steps}; allowed: an integer of at least 0"
        ):
            HAMS[kind](x, torch.ones(2, 6, 3), steps)
    if kind != "NMF":
        with pytest.raises(
            ValueError, match="inverse_temperature is -1; allowed: a positive number"
        ):
            HAMS[kind](x, torch.ones(2, 6, 3), inverse_temperature=-1)
    if kind == "CD":
        with pytest.raises(ValueError, match="ridge is 0; allowed: a positive number"):
            HAMS[kind](x, torch.ones(2, 6, 3), ridge=0)
