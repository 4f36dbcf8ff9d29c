"""HamNet: the published sizes, dilations, initial values, every context, and weights of a
backbone.
"""

import math

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_small, resnet

from terminator.hamburger import Hamburger, HamburgerSettings
from terminator.hamburger.backbone import MobileNet, ResNet
from terminator.hamburger.hamnet import HamNet
from terminator.hamburger.segmentation.presets import CONVOLUTION, MATRIX, MEAN, mixer_arms
from terminator.hamburger.settings import CONTEXTS, MIXERS, HamNetSettings
from terminator.model import count_parameters
from terminator.runtime.settings import ConfigError

SMALL = {"backbone": "resnet18", "stem": "plain", "squeeze": 16, "align": 8, "classes": 5}
HAM = HamburgerSettings(width=16, rank=4)


def small(**changes):
    torch.manual_seed(0)
    return HamNet(HamNetSettings(**SMALL | changes), HAM)


def test_parameters_of_the_release():
    with torch.device("meta"):
        nets = {
            version: HamNet(HamNetSettings(), HamburgerSettings(version=version))
            for version in ("V1", "V2")
        }
    parts = [
        count_parameters(part)
        for part in (
            nets["V2"].backbone,
            nets["V2"].squeeze,
            nets["V2"].align,
            nets["V2"].classifier,
        )
    ]
    assert parts == [42_623_936, 9_438_208, 1_180_160, 5_397]
    assert {version: count_parameters(net) for version, net in nets.items()} == {
        "V1": 53_773_525,
        "V2": 54_035_669,
    }


@pytest.mark.parametrize(
    ("name", "stride", "third", "fourth"),
    [
        ("resnet101", 8, [1] + 22 * [2], [2, 8, 16]),
        ("resnet50", 16, 6 * [1], [1, 4, 8]),
        ("resnet18", 8, [1, 2], [2, 8]),
        ("resnet18", 16, [1, 1], [1, 4]),
    ],
)
def test_dilations_make_up_for_the_strides_left_out(name, stride, third, fourth):
    with torch.device("meta"):
        net = ResNet(name, output_stride=stride)
    for layer, expected in ((net.layer3, third), (net.layer4, fourth)):
        found = [
            {
                part.dilation
                for part in block.modules()
                if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)
            }
            for block in layer
        ]
        assert found == [{(dilation, dilation)} for dilation in expected]
    strides = [
        max(part.stride[0] for part in layer.modules() if isinstance(part, nn.Conv2d))
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4)
    ]
    assert strides == [1, 2, stride // 8, 1]
    bottleneck = name in ("resnet50", "resnet101")
    if bottleneck:  # the stride sits on the 3x3 convolution
        assert net.layer2[0].conv1.stride == (1, 1)
        assert net.layer2[0].conv2.stride == (2, 2)


@pytest.mark.parametrize("stem", ["deep", "plain"])
@pytest.mark.parametrize("stride", [8, 16])
def test_maps_are_as_large_as_the_output_stride_says(stem, stride):
    third, fourth = ResNet("resnet18", stem, stride)(torch.randn(1, 3, 65, 97))
    assert third.shape[1:] == (256, 64 // stride + 1, 96 // stride + 1)
    assert fourth.shape[1:] == (512, 64 // stride + 1, 96 // stride + 1)


def test_a_plain_backbone_with_stride_left_in_is_torchvisions():
    """What is changed is dilation alone: with it undone, the maps are those of torchvision's own
    network.
    """
    theirs = resnet.resnet18()
    ours = ResNet("resnet18", "plain", 16).eval()
    ours.load_state_dict(
        {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    )
    theirs.eval()
    x = torch.randn(1, 3, 65, 65)
    expected = theirs.layer3(
        theirs.layer2(theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))))
    )
    torch.testing.assert_close(ours(x)[0], expected)


def test_initial_values_are_the_releases():
    net = small(squeeze=64, align=64)
    for conv in (net.squeeze[0], net.align[0], net.backbone.layer3[0].conv2):
        expected = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert abs(conv.weight.mean().item()) < 0.1 * expected
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == 3e-4
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    assert all(
        module.momentum == 0.1
        for module in small(bn_momentum=0.1).modules()
        if isinstance(module, nn.BatchNorm2d)
    )


ANY_SIZE = [context for context in CONTEXTS if context not in MIXERS or context == "linear"]
SIZED = [context for context in CONTEXTS if context not in ANY_SIZE]


@pytest.mark.parametrize("context", SIZED)
def test_a_mixer_made_for_a_size_gives_logits_and_gradients_everywhere(context):
    net = small(context=context, backbone="none", context_size=12)
    logits = net(torch.randn(2, 3, 12, 12))
    assert logits.shape == (2, 5, 12, 12)
    logits.square().mean().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("context", ["hyperzzw_matrix", "hyperzzw_convolution"])
def test_maps_of_another_size_than_a_mixers_are_refused_by_name(context):
    net = small(context=context, backbone="none", context_size=12)
    with pytest.raises(ValueError, match=r"16 x 16 positions.* 12 x 12; .*model.context_size"):
        net(torch.randn(2, 3, 16, 16))


def test_what_belongs_to_another_context_is_refused_by_name():
    for settings in (
        {"context": "hyperzzw_matrix"},
        {"context": "pooling", "context_size": 12},
        {"context": "attention", "pooling_width": 8},
        {"context": "pooling", "pooling_width": 0},
    ):
        with pytest.raises(ConfigError, match=r"model\.(context_size|pooling_width)"):
            HamNetSettings(**settings)


def test_pooling_of_many_channels_has_the_parameters_of_terminators_operator():
    arms = mixer_arms("laptop")
    counts = [
        sum(p.numel() for p in HamNet(arms[name].model, arms[name].ham).parameters())
        for name in (MEAN, MATRIX, CONVOLUTION)
    ]
    assert counts[1] == counts[2]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)


@pytest.mark.parametrize("context", ANY_SIZE)
@pytest.mark.parametrize("backbone", ["resnet18", "none"])
def test_every_context_gives_logits_of_the_inputs_size_and_gradients_everywhere(context, backbone):
    net = small(context=context, backbone=backbone)
    logits = net(torch.randn(2, 3, 33, 49))
    assert logits.shape == (2, 5, 33, 49)
    logits.square().mean().backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not without


def test_without_a_backbone_a_pixel_sees_others_through_the_context_alone():
    x = torch.randn(1, 3, 6, 6)
    moved = x.clone()
    moved[..., 5, 5] += 3
    for context in CONTEXTS:
        size = {"context_size": 6} if context in SIZED else {}
        net = small(context=context, backbone="none", **size).eval()
        bases = torch.Generator().manual_seed(0)
        outputs = []
        for part in (x, moved):
            bases.manual_seed(0)
            if isinstance(net.context, Hamburger) and context == "hamburger":
                net.context.ham._generator = bases
            outputs.append(net(part)[..., :5, :5])  # without the pixel that was moved
        assert torch.equal(*outputs) == (context in ("bread", "none", "linear")), context


def test_the_bread_is_the_block_without_its_ham_and_with_its_parameters():
    with_ham, bread = small(), small(context="bread")
    assert count_parameters(with_ham) == count_parameters(bread)
    x = torch.randn(1, 16, 3, 3)
    block = bread.context.eval()
    torch.testing.assert_close(
        block(x), torch.relu(x + block.upper(block.cheese(torch.relu(block.lower(x)))))
    )


def test_the_auxiliary_head_sits_on_the_third_layer():
    net = small(auxiliary=True)
    logits, second = net(torch.randn(2, 3, 33, 33), auxiliary=True)
    assert logits.shape == second.shape == (2, 5, 33, 33)
    assert net.auxiliary[0][0].in_channels == 256
    second.sum().backward()
    assert net.backbone.layer4[0].conv1.weight.grad is None


def test_weights_of_a_backbone(tmp_path):
    theirs, path = resnet.resnet18(), tmp_path / "resnet18.pth"
    torch.save(theirs.state_dict(), path)
    net = small()
    net.backbone.load(path)
    assert torch.equal(net.backbone.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)
    with pytest.raises(
        ConfigError, match="differs from this backbone in .* entries .*same depth and stem"
    ):
        small(stem="deep").backbone.load(path)
    with pytest.raises(ConfigError, match="there is no file"):
        net.backbone.load(tmp_path / "none.pth")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        net.backbone.load(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "vgg16"}, "model.backbone is 'vgg16'; allowed: resnet18, "),
        ({"output_stride": 4}, "8, 16"),
        ({"stem": "wide"}, "deep, plain"),
        ({"context": "swin"}, "hamburger, bread"),
        ({"squeeze": 0}, "model.squeeze"),
        ({"classes": 1}, "model.classes"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"bn_momentum": 0.0}, "model.bn_momentum"),
        ({"backbone": "none", "auxiliary": True}, "model.auxiliary"),
        ({"backbone": "none", "weights": "x"}, "model.weights"),
    ],
)
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HamNetSettings(**settings)


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"x has shape \(1, 4, 8, 8\); allowed: \(N, 3, H, W\)"):
        small()(torch.randn(1, 4, 8, 8))


def test_the_small_backbone_is_torchvisions_and_nothing_else_goes_with_it():
    theirs = mobilenet_v3_small(dilated=True).eval()
    ours = MobileNet().eval()
    state = theirs.state_dict()
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    assert {key.split(".")[0] for key in state.keys() - ours.state_dict().keys()} == {"classifier"}
    x = torch.randn(1, 3, 65, 97)
    third, fourth = ours(x)
    torch.testing.assert_close(fourth, theirs.features(x))
    assert third.shape == (1, ours.widths[0], 5, 7)
    assert fourth.shape == (1, ours.widths[1], 5, 7)
    assert MobileNet(6)(torch.randn(2, 6, 33, 33))[1].shape == (2, ours.widths[1], 3, 3)
    small_one = {"backbone": "mobilenet_v3_small", "stem": "plain", "output_stride": 16}
    net = HamNet(
        HamNetSettings(**small_one, squeeze=8, align=8, auxiliary=True),
        HamburgerSettings(width=8, rank=2),
    )
    assert [logits.shape for logits in net(torch.randn(2, 3, 33, 33), auxiliary=True)] == 2 * [
        (2, 21, 33, 33)
    ]
    for name, value in (("stem", "deep"), ("output_stride", 8)):
        with pytest.raises(ConfigError, match=f"model.{name} is .* with model.backbone"):
            HamNetSettings(**{**small_one, name: value})
