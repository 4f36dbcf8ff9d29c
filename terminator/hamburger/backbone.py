"""Backbones whose last maps stay large: torchvision's networks with dilation instead of stride.

Source: the released segmentation code of arXiv 2109.04553 (ResNets, the deep stem); MobileNetV3-
Small, arXiv 1905.02244, is ours, for models small enough to be given away.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from terminator.hamburger.settings import BACKBONES, SMALL_BACKBONE
from terminator.runtime.checkpoint import load_checked
from terminator.runtime.settings import ConfigError
from terminator.runtime.weights import fits

MULTI_GRID = (1, 2, 4)  # of the last layer's blocks; the first of them keeps half its dilation


class Backbone(nn.Module):
    """A network without its classifier: x (N, C, H, W) to the maps of its third and fourth layers.

    head: what the keys of the classifier in a file of weights begin with.
    widths: channels of the two maps.
    """

    head: ClassVar[str]
    widths: tuple[int, int]

    def load(self, path: str | Path) -> None:
        """Take ImageNet weights from a file of torch.save; those of a classifier in it are left
        out.

        Raises:
            ConfigError: if the file is missing, damaged, or of another network.
        """
        if not Path(path).is_file():
            raise ConfigError(
                f"model.weights is {str(path)!r}, where there is no file; allowed: ImageNet "
                "weights of the backbone, or nothing"
            )
        try:
            found = load_checked(path)
        except ValueError as error:
            raise ConfigError(
                f"model.weights is {str(path)!r}, which cannot be read: {error}"
            ) from error
        if not isinstance(found, dict) or not all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
        ):
            raise ConfigError(
                f"model.weights is {str(path)!r}, which holds no state dict; allowed: ImageNet "
                "weights of the backbone, tensors by name"
            )
        found = {key: value for key, value in found.items() if not key.startswith(self.head)}
        own = self.state_dict()
        wrong = sorted(
            key
            for key in own.keys() | found.keys()
            if not key.endswith("num_batches_tracked")
            and (key not in own or key not in found or not fits(found[key], own[key]))
        )
        if wrong:
            raise ConfigError(
                f"model.weights is {str(path)!r}, which differs from this backbone in {len(wrong)} "
                f"entries ({wrong[0]} is the first); allowed: weights of the same depth and stem"
            )
        self.load_state_dict(own | found)


def make_backbone(name: str, stem: str, output_stride: int, in_channels: int) -> Backbone:
    """The backbone that the settings name, from random weights."""
    if name == SMALL_BACKBONE:
        return MobileNet(in_channels)
    return ResNet(name, stem, output_stride, in_channels)


class ResNet(Backbone):
    """A ResNet, its last layers dilated.

    Args:
        name: of BACKBONES.
        stem: of STEMS.
        output_stride: of STRIDES, all in settings.
        in_channels: of x.

    Keys of the state are torchvision's (plain stem); with the deep stem those of the ImageNet
    weights that the release starts from: conv1.0, .1, .3, .4, .6, bn1, layer1, ...
    """

    head = "fc."

    def __init__(self, name: str, stem: str = "deep", output_stride: int = 8, in_channels: int = 3):
        super().__init__()
        from torchvision.models import resnet  # seconds to import, which only networks need

        block, layers = getattr(resnet, BACKBONES[name][0]), list(BACKBONES[name][1])
        net = resnet.ResNet(block, layers)  # He initialisation, fan-out; BN 1 and 0
        self.conv1, self.bn1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False), net.bn1
        if stem == "deep":
            self.conv1, self.bn1 = _deep_stem(in_channels), nn.BatchNorm2d(128)
            net.inplanes = 128
            net.layer1 = net._make_layer(block, 64, layers[0])
        for module in (self.conv1, net.layer1):
            initialise(module)
        self.relu, self.maxpool = nn.ReLU(inplace=True), net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            net.layer1,
            net.layer2,
            net.layer3,
            net.layer4,
        )
        wide = 32 // output_stride  # what the dilation of the last layer makes up for: 4, 2
        if output_stride == 8:
            _dilate(self.layer3, [1, *(len(self.layer3) - 1) * [2]])
        _dilate(self.layer4, [wide // 2, *(wide * grid for grid in MULTI_GRID[1:])])
        self.widths = (256 * block.expansion, 512 * block.expansion)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)


class MobileNet(Backbone):
    """MobileNetV3-Small, dilated to an output stride of 16: 48 and 576 channels.

    Args:
        in_channels: of x.

    Keys of the state are torchvision's.
    """

    head = "classifier."
    THIRD = 9  # layers of torchvision's features up to the last one that it does not dilate

    def __init__(self, in_channels: int = 3):
        super().__init__()
        from torchvision.models import mobilenet_v3_small  # as in ResNet

        self.features = mobilenet_v3_small(dilated=True).features
        if in_channels != 3:
            first = self.features[0][0]
            self.features[0][0] = nn.Conv2d(in_channels, first.out_channels, 3, 2, 1, bias=False)
            initialise(self.features[0][0])
        self.widths = (self.features[self.THIRD - 1].out_channels, self.features[-1].out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        third = self.features[: self.THIRD](x)
        return third, self.features[self.THIRD :](third)


def _deep_stem(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, 64, 3, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, 1, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 128, 3, 1, 1, bias=False),
    )


def initialise(module: nn.Module) -> None:
    """He's initialisation, fan-out, of every convolution's weights; biases keep torch's."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):  # deviation sqrt(2 / (k k C_out))
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def _dilate(layer: nn.Sequential, dilations: Sequence[int]) -> None:
    """Stride 1 for all of a layer, and a dilation for the 3x3 convolutions of each block."""
    for block, dilation in zip(layer, dilations):  # two blocks take the first two dilations
        for part in block.modules():
            if isinstance(part, nn.Conv2d):
                part.stride = (1, 1)
                if part.kernel_size == (3, 3):
                    part.dilation = part.padding = (dilation, dilation)
