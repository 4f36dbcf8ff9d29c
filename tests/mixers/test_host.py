"""One bench: mixers in one host network, from the configuration to the record, and what they
cost.
"""

from dataclasses import replace

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from terminator import ConfigError, ModelConfig
from terminator.bench import measure, mixer_tables
from terminator.bench import mixers as operators_bench
from terminator.bench.mixers import MapCase
from terminator.classification import host, networks, studies
from terminator.classification.config import NetworkConfig
from terminator.classification.host import Host
from terminator.classification.runs import CLASSIFICATION
from terminator.mixers.maps import FourierConvolution, LargeKernel
from terminator.mixers.registry import MAP_MIXERS, make_map_mixer


def test_every_name_has_a_maker_and_a_theory():
    with pytest.raises(ConfigError, match="the mixer is 'x'; allowed: none, hyperzzw_matrix"):
        make_map_mixer("x", 8, 4)


@pytest.mark.parametrize("name", MAP_MIXERS)
def test_mixers_keep_the_shape_and_see_everything(name):
    torch.manual_seed(0)
    mixer, x = (
        make_map_mixer(name, 8, 6).double().eval(),
        torch.rand(1, 8, 6, 6, dtype=torch.double),
    )
    with torch.no_grad():
        y = mixer(x)
        changed = [
            mixer(x + torch.rand_like(x) * (torch.arange(36) == pixel).view(6, 6))
            for pixel in range(36)
        ]
    assert y.shape == x.shape
    reach = [bool((other - y)[0, :, 2, 3].abs().max() > 1e-12) for other in changed]
    assert sum(reach) == (1 if name == "none" else 36)


def test_a_convolution_by_transforms_is_as_precise_as_its_input():
    fourier, x = FourierConvolution(3, 6).double(), torch.randn(1, 3, 6, 6, dtype=torch.double)
    shifted = fourier(x.roll((1, 2), (2, 3)))
    torch.testing.assert_close(shifted, fourier(x).roll((1, 2), (2, 3)), rtol=0, atol=1e-13)


def test_convolutions_are_what_they_say():
    x, fourier = torch.randn(2, 3, 5, 5), FourierConvolution(3, 5)
    direct = torch.stack(
        [
            torch.stack(
                [
                    sum(
                        fourier.kernel[:, a, b] * x[:, :, (i - a) % 5, (j - b) % 5]
                        for a in range(5)
                        for b in range(5)
                    )
                    for j in range(5)
                ],
                -1,
            )
            for i in range(5)
        ],
        -2,
    )
    assert torch.allclose(fourier(x), fourier.output(direct), atol=1e-5)
    large = LargeKernel(3, 5)
    assert large.kernel.shape == (3, 1, 9, 9)
    assert LargeKernel(3, 64).kernel.shape == (3, 1, 31, 31)
    # as a kernel of 31x31
    padded = F.conv2d(x, F.pad(large.kernel, (11, 11, 11, 11)), padding=15, groups=3)
    assert torch.allclose(large(x), large.output(padded), atol=1e-5)


@pytest.mark.parametrize("name", MAP_MIXERS)
def test_map_mixers_train_in_mixed_precision(name):
    torch.manual_seed(0)
    network = Host(
        ModelConfig(size=8, in_channels=3, classes=4), NetworkConfig(name="host", mixer=name)
    )
    x = torch.randn(4, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        network(x).float().square().sum().backward()
    own = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in own)
    assert {grad.dtype for grad in own} == {torch.float32}


def test_the_mixer_is_all_that_differs():
    sizes = {}
    for name in MAP_MIXERS:
        torch.manual_seed(0)
        network = Host(
            ModelConfig(size=8, in_channels=3, classes=4), NetworkConfig(name="host", mixer=name)
        )
        mixers = sum(p.numel() for block in network.blocks for p in block.mixer.parameters())
        sizes[name] = sum(p.numel() for p in network.parameters()) - mixers
    assert len(set(sizes.values())) == 1


@pytest.mark.parametrize("name", ["hyperzzw_matrix", "hamburger", "hrrformer"])
def test_a_host_trains_saves_and_gives_one_image_one_answer(tiny_config, tiny_data, name):
    config = replace(tiny_config(), model=ModelConfig())
    config = config.updated(
        network={"name": "host", "mixer": name}, optimizer={"name": "AdamW", "lr": 0.01}
    )
    done = CLASSIFICATION.run(config, "mixers", data=tiny_data())
    assert done.record["model"] == "Host"
    assert done.record["config"]["network"]["mixer"] == name
    again = networks.load(done.folder / "model.safetensors")
    x = torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(again(x)[:1], again(x[:1]), atol=1e-5)
        assert torch.equal(again(x), again(x))  # no random numbers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "host", "mixer": "softmax"},
            "network.mixer is 'softmax'; allowed: none, hyperzzw_matrix",
        ),
        (
            {"name": "resnet18", "mixer": "hrrformer"},
            "network.mixer is 'hrrformer'; allowed: none for network.name=res",
        ),
        ({"name": "host", "hidden": 8}, "network.hidden is 8; allowed: 140 for network.name=host"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        NetworkConfig(**settings)


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_the_study_changes_the_mixer_alone(profile):
    study = studies.mixers(profile)
    assert set(MAP_MIXERS) - set(study.variants) == (
        set(studies.choices.LONG_WAYS) if profile == "smoke" else set()
    )
    assert (
        len({config.updated(network={"mixer": "none"}) for config in study.variants.values()}) == 1
    )


# -- cost ------------------------------------------------------------------------------------------


def test_measuring_counts_time_and_tensors():
    found = measure.measure(lambda: torch.ones(1000, 1000) + 1, repeats=3)
    assert found.low <= found.seconds <= found.high
    assert found.peak_bytes == 8_000_000


def test_a_step_has_a_backward_pass():
    forward_only = measure.peak_bytes(
        lambda: make_map_mixer("none", host.CHANNELS, 8)(torch.zeros(2, host.CHANNELS, 8, 8))
    )
    step, parameters = operators_bench.step(MapCase("none", 8))
    assert parameters == host.CHANNELS * (host.CHANNELS + 1)
    assert measure.measure(step, 1).peak_bytes > forward_only / 2  # gradients of weights and inputs


def test_what_would_take_too_long_is_left_out(monkeypatch):
    table = operators_bench.cost_table(
        MapCase, (4, 8, 4096), limit=5.0, names=["none", "attention_explicit"], repeats=1
    )
    last = table[table["side"] == 4096].set_index("operator")
    assert last["seconds"].isna().all()
    assert "predicted" in last.loc["attention_explicit", "note"]
    measured = table[table["side"] < 4096]
    assert (measured["note"] == "").all()
    assert (measured["seconds"] > 0).all()
    assert "attention_explicit: left out from 4096x4096" in mixer_tables.map_verdict(table)


def test_written_out_attention_needs_the_square_in_memory():
    table = operators_bench.cost_table(
        MapCase, (8, 16, 24), 60.0, ["attention_explicit", "attention_fused"], repeats=1
    )
    growth = mixer_tables.map_growth(table)
    assert growth.loc["attention_explicit", "memory, fitted"] > 1.6
    assert growth.loc["attention_fused", "memory, fitted"] < 1.3


@pytest.mark.slow
def test_a_measurement_is_a_record_and_read_again(monkeypatch):
    monkeypatch.setattr(MapCase, "sizes", {"smoke": (4, 5)})
    monkeypatch.setattr(
        operators_bench, "cost_table", counted := Counted(operators_bench.cost_table)
    )
    first = operators_bench.recorded(MapCase, "smoke", "cpu")
    assert operators_bench.recorded(MapCase, "smoke", "cpu") == first
    assert counted.calls == 1
    table = pd.DataFrame(first["rows"])
    assert set(table["operator"]) == set(MAP_MIXERS)
    assert torch.__version__.startswith(first["provenance"]["versions"]["torch"])
    assert first["machine"]
    operators_bench.recorded(MapCase, "smoke", "cpu", again=True)
    assert counted.calls == 2


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        return self.function(*arguments, **options)


def test_growth_is_fitted_to_the_shortest_times():
    sides = [8, 16, 32]
    costs = pd.DataFrame(
        [
            {
                "operator": "none",
                "side": s,
                "positions": s * s,
                "seconds": 1.0,
                "low": 1e-6 * s**4,
                "bytes": 10.0 * s * s,
                "note": "",
            }
            for s in sides
        ]
    )
    row = mixer_tables.map_growth(costs).loc["none"]
    assert row["time, fitted"] == pytest.approx(2.0)
    assert row["memory, fitted"] == pytest.approx(1.0)
