"""ResNet-18, CCNN, the small CNN: sizes and parts, and their way through configuration, training,
files and records.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from terminator import Config, ConfigError, ModelConfig, Terminator, calibrate, count_parameters
from terminator.classification import networks, runs
from terminator.classification.baselines import ResNet18
from terminator.classification.ccnn import CCNN, CroppedConvolution, GlobalConvolution
from terminator.classification.config import NetworkConfig
from terminator.classification.evaluation import evaluate_file
from terminator.classification.predict import predict_files
from terminator.classification.runs import CLASSIFICATION
from terminator.classification.trainer import Trainer
from terminator.runtime.settings import identity

SMALL = {
    "ccnn": {"name": "ccnn", "hidden": 12, "blocks": 2},
    "resnet18": {"name": "resnet18"},
    "cnn": {"name": "cnn"},
    "ccnn released": {
        "name": "ccnn",
        "hidden": 12,
        "blocks": 2,
        "form": "released",
        "dropout": 0.1,
    },
}
BOTH = pytest.mark.parametrize("name", SMALL)
LIGHT = pytest.mark.parametrize(  # what is the same code for all is tried with the heavy one, too
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "resnet18" else ()) for name in SMALL],
)


def shape(size=8, in_channels=3, classes=4, dimensions=2, **more):
    return ModelConfig(
        dimensions=dimensions, size=size, in_channels=in_channels, classes=classes, **more
    )


def make(name, seed=0, **changes):
    torch.manual_seed(seed)
    return networks.BASELINES[name.split()[0]](shape(**changes), NetworkConfig(**SMALL[name]))


@pytest.fixture
def config(tiny_config):
    """Make the configuration of a tiny training of a baseline."""

    def make_config(name, **changes):
        plain = Config().updated(
            model={},
            train=vars(tiny_config().train),
            test={"batch_size": 8},
            dataset={"crop_padding": 0, "flip": False},
            network=SMALL[name],
            optimizer={"name": "AdamW", "lr": 0.003},
        )
        return plain.updated(**changes)

    return make_config


# -- sizes and parts -------------------------------------------------------------------------------


def test_published_sizes():
    resnet = ResNet18(shape(32, classes=10), NetworkConfig("resnet18"))
    assert count_parameters(resnet) == 11_173_962
    assert tuple(resnet.layers.conv1(torch.zeros(1, 3, 32, 32)).shape) == (1, 64, 32, 32)
    small, large = (
        CCNN(shape(32, classes=10), NetworkConfig("ccnn", *size)) for size in ((140, 4), (380, 6))
    )
    assert count_parameters(small) == pytest.approx(200_000, rel=0.05)
    assert count_parameters(large) == pytest.approx(2_000_000, rel=0.1)


@BOTH
@pytest.mark.parametrize(("size", "channels", "classes"), [(8, 1, 2), (15, 3, 7)])
def test_logits_for_any_size_channels_and_classes(name, size, channels, classes):
    model = make(name, size=size, in_channels=channels, classes=classes)
    assert model(torch.randn(5, channels, size, size)).shape == (5, classes)
    with pytest.raises(ValueError, match=rf"takes \(N, {channels}, {size}, {size}\)"):
        model(torch.randn(5, channels, size + 1, size + 1))


def test_ccnn_takes_sequences_of_any_length():
    assert make("ccnn", size=50, in_channels=1, dimensions=1)(torch.randn(3, 1, 50)).shape == (3, 4)


@pytest.mark.parametrize(("dimensions", "size"), [(1, 2), (1, 9), (1, 10), (2, 6), (2, 7)])
def test_global_convolution_is_a_convolution_with_the_masked_kernel(dimensions, size):
    torch.manual_seed(0)
    layer = GlobalConvolution(4, shape(size, dimensions=dimensions))
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, *[size] * dimensions)
    kernel = layer.kernel()
    assert kernel.shape == (1, 4, *[size | 1] * dimensions)
    direct = F.conv1d if dimensions == 1 else F.conv2d
    # torch's convolutions correlate
    weight = kernel.flip(list(range(2, kernel.ndim))).transpose(0, 1)
    expected = direct(x, weight, layer.bias, padding=size // 2, groups=4)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_mask_is_a_gaussian_whose_width_is_learned():
    layer = GlobalConvolution(2, shape(8))
    with torch.no_grad():
        layer.width.copy_(torch.tensor([0.5, 0.25]))
    rows, columns = layer.slow_net.coords[0]
    mask = torch.exp(-((rows / 0.5) ** 2) / 2 - (columns / 0.25) ** 2 / 2)
    torch.testing.assert_close(layer.kernel()[0], layer.slow_net()[0] * mask)
    layer(torch.randn(1, 2, 8, 8)).square().sum().backward()
    assert (layer.width.grad != 0).all()
    assert layer.slow_net.bias_map.grad is None  # MAGNets have none
    assert all(p.grad is not None for p in layer.parameters() if p.requires_grad)


def test_the_centre_of_a_kernel_is_not_dead():
    torch.manual_seed(0)
    kernel = GlobalConvolution(50, shape(8)).kernel()[0]
    # sines without phases are 0 there
    assert kernel[:, 4, 4].std() > 0.5 * kernel[:, 3:6, 3:6].std()


def test_the_released_form_has_the_published_parameters():
    released = NetworkConfig("ccnn", form="released")
    assert count_parameters(CCNN(shape(32, classes=10), released)) == 201_042


@pytest.mark.parametrize(("width", "taps"), [(0.1, 7), (0.3, 21), (0.45, 31), (0.75, 33)])
def test_a_kernel_is_made_where_its_mask_is_at_least_a_tenth(width, taps):
    torch.manual_seed(0)
    layer = CroppedConvolution(4, shape(32), width, 8)
    kernel = layer.kernel()
    assert kernel.shape == (1, 4, taps, taps)
    edge = (taps // 2) / 16
    assert math.exp(-0.5 * (edge / width) ** 2) >= 0.1
    assert taps == 33 or math.exp(-0.5 * ((edge + 1 / 16) / width) ** 2) < 0.1
    x = torch.randn(2, 4, 32, 32)
    weight = kernel.flip(2, 3).transpose(0, 1)
    expected = F.conv2d(x, weight, layer.bias, padding=taps // 2, groups=4)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        layer.width.copy_(torch.tensor([0.1, 0.3]))
    assert layer.kernel().shape == (1, 4, 7, 21)
    layer(x).square().sum().backward()
    assert not [name for name, p in layer.named_parameters() if p.grad is None]


def test_the_released_forms_kernels_are_magnets_with_windows():
    torch.manual_seed(0)
    layer = CroppedConvolution(3, shape(8, omega_0=2.0), 0.75, 5)
    x = layer.coords.flatten(2)[0]

    def gabor(part):
        apart = part.gamma[:, :, None] * (x[None] - part.mu[:, :, None])
        wave = torch.sin(part.weight @ x + part.bias[:, None])
        return torch.exp(-(apart**2).sum(1) / 2) * wave

    h = gabor(layer.filters[0])
    for part, linear in zip(list(layer.filters)[1:], layer.linears, strict=True):
        h = gabor(part) * (linear.weight @ h + linear.bias[:, None])
    assert len(layer.linears) == 3
    mask = torch.exp(-((x[0] / 0.75) ** 2 + (x[1] / 0.75) ** 2) / 2)
    expected = (layer.output.weight @ h + layer.output.bias[:, None]) * mask
    torch.testing.assert_close(layer.kernel().flatten(2)[0], expected)


def test_the_released_form_drops_whole_channels():
    block = make("ccnn released").blocks[0]
    block.dropout.p = 0.5
    dropped = block.train().dropout(torch.ones(4, 12, 6, 6))
    assert set(dropped.flatten(2).std(2).flatten().tolist()) == {0.0}
    assert (dropped == 0).any()


@BOTH
def test_calibrated_one_image_has_one_answer_also_from_a_file(name, tmp_path):
    model, x = make(name).eval(), torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        # as released: statistics of the batch
        assert not torch.allclose(model(x[:2]), model(x)[:2], atol=1e-3)
        calibrate(model, [x])
        torch.testing.assert_close(model(x[:1]), model(x)[:1], rtol=1e-4, atol=1e-5)
        model.save(tmp_path / "model.safetensors")
        torch.testing.assert_close(
            networks.load(tmp_path / "model.safetensors")(x), model(x), rtol=0, atol=0
        )


# -- configuration ---------------------------------------------------------------------------------


def test_the_default_is_terminator_and_leaves_old_identities_as_they_were(tiny_config, tiny_data):
    assert "network" not in identity(Config())
    data = tiny_data()
    plain = CLASSIFICATION.resolve(tiny_config(), data)
    assert isinstance(networks.build(plain), Terminator)
    other = CLASSIFICATION.resolve(Config().updated(network={"name": "resnet18"}), data)
    assert CLASSIFICATION.run_id(plain, data, "smoke") != CLASSIFICATION.run_id(
        other, data, "smoke"
    )
    assert identity(other)["network"] == {"name": "resnet18"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("network.name=vgg",), "network.name is 'vgg'; allowed: terminator, resnet18, ccnn"),
        (("network.hidden=64",), "network.hidden is 64; allowed: 140 for network.name=terminator"),
        (
            ("network.name=resnet18", "network.dropout=0.1"),
            "network.dropout is 0.1; allowed: 0.0 for network.name=resnet1",
        ),
        (
            ("network.name=ccnn", "network.form=released", "model.dimensions=1"),
            "model.dimensions is 1; allowed: 2 for network.form=released",
        ),
        (
            ("network.name=cnn", "network.mask_width=0.1"),
            "network.mask_width is 0.1; allowed: None",
        ),
        (("network.name=ccnn", "network.mask_width=0"), "network.mask_width is 0"),
        (
            ("network.name=ccnn", "network.blocks=0"),
            "network.blocks is 0; allowed: an integer of at least 1",
        ),
        (
            ("network.name=ccnn", "model.rgu=false"),
            "model.rgu is False; allowed: the default, since network.name is ccnn",
        ),
        (
            ("network.name=resnet18", "model.omega_0=10"),
            "model.omega_0 is 10.0; allowed: the default, since network.name",
        ),
        (
            ("network.name=resnet18", "model.dimensions=1"),
            "model.dimensions is 1; allowed: 2 for network.name=resnet18",
        ),
    ],
)
def test_settings_that_a_network_does_not_take(words, message):
    with pytest.raises(ConfigError) as error:
        Config().updated(*words)
    assert message in str(error.value)
    Config().updated("network.name=ccnn", "model.omega_0=10", "network.hidden=64")


# -- training, records, files ----------------------------------------------------------------------


@BOTH
def test_a_run_is_trained_recorded_and_read_again(name, config, tiny_data):
    done = CLASSIFICATION.run(config(name, train={"epochs": 2}), "networks", data=tiny_data())
    record = done.record
    kind = name.split()[0]
    assert record["model"] == {"ccnn": "CCNN", "resnet18": "ResNet18", "cnn": "SmallCNN"}[kind]
    assert record["parameters"] == count_parameters(done.model())
    assert record["flops_per_image"] > 0
    assert [
        set(row) & {"cross_entropy", "slow_neural_loss", "norm_penalty"} for row in record["epochs"]
    ] == [{"cross_entropy"}] * 2
    assert record["results"]["calibrated"]["calibration_images"] == 32
    assert record["epochs"][-1]["test_accuracy"] == done.accuracy()
    assert (
        CLASSIFICATION.run(config(name, train={"epochs": 2}), "networks", data=tiny_data()).record
        == record
    )
    assert done.model().info["config"]["network"]["name"] == kind


@pytest.mark.parametrize("name", ["ccnn", "cnn", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_both_learn(name, config, tiny_data):
    done = CLASSIFICATION.run(
        config(name, train={"epochs": 6}), "networks", data=tiny_data(train=128)
    )
    assert done.accuracy() > 60  # chance: 25


@LIGHT
def test_an_interrupted_training_goes_on_to_the_same_end(name, config, tiny_data, monkeypatch):
    original = Trainer._save

    def stop(self, rows):
        original(self, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            CLASSIFICATION.run(config(name), "networks", data=tiny_data())
    resumed = CLASSIFICATION.run(config(name), "networks", data=tiny_data()).model().state_dict()
    whole = CLASSIFICATION.run(config(name), "elsewhere", data=tiny_data()).model().state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@LIGHT
def test_files_are_evaluated_and_predict_single_images(
    name, config, tiny_data, tmp_path, monkeypatch
):
    data = tiny_data()
    done = CLASSIFICATION.run(config(name), "networks", data=data)
    file = done.folder / "model.safetensors"
    monkeypatch.setattr(runs, "load", lambda *arguments, **options: data)
    result = evaluate_file(file, CLASSIFICATION.load(file)[1])
    assert result["released"] == done.record["results"]["released"]
    pixels = data.test_images[0].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "one.png")
    model = done.model()
    trainer = Trainer(model, CLASSIFICATION.resolve(config(name), data), data)
    with torch.no_grad():
        expected = model(trainer._inputs(data.test_images[:1])).softmax(1).max(1)
    table = predict_files(file, [tmp_path / "one.png"])
    assert table["class"][0] == data.info.classes[expected.indices.item()]
    assert table["probability"][0] == pytest.approx(expected.values.item(), abs=1e-5)
    again = CLASSIFICATION.results(trainer, calibrate=False)
    assert again["calibrated"]["accuracy"] == result["calibrated"]["accuracy"]


def test_files_of_the_wrong_kind_are_named(tiny_model, config, tiny_config, tiny_data, tmp_path):
    file = tmp_path / "ccnn.safetensors"
    make("ccnn").save(file, note="kept")
    assert networks.load(file).info == {"note": "kept"}
    with pytest.raises(
        ValueError, match="ccnn.safetensors is no Terminator: .*terminator baseline"
    ):
        Terminator.load(file)
    with pytest.raises(
        ConfigError,
        match="which holds NetworkConfig.name='ccnn'.*; allowed: NetworkConfig.name='term",
    ):
        CLASSIFICATION.run(
            tiny_config(pretrained={"load": True, "filename": str(file)}),
            "networks",
            data=tiny_data(),
        )
    start = CLASSIFICATION.run(
        config(
            "ccnn",
            pretrained={"load": True, "filename": str(file)},
            optimizer={"lr": 1e-12},
            train={"epochs": 1},
        ),
        "networks",
        data=tiny_data(),
    ).model()
    torch.testing.assert_close(start.classifier.weight, make("ccnn").classifier.weight)
    content = file.read_bytes()
    broken = content.replace(b'\\"hidden\\": 12', b'\\"hidden\\": 13')
    assert broken != content
    file.write_bytes(broken)
    with pytest.raises(
        ValueError,
        match="ccnn.safetensors is corrupt: its description is not the one that was saved",
    ):
        networks.load(file)
