"""The networks that Terminator is compared with on the same data: ResNet-18, and CCNN (ccnn.py);
and a small CNN to measure with.

Their batch norms are the kit's own (standardization.BatchStandardization with affine parameters),
so they are evaluated by the same two protocols as Terminator: "released" with the statistics of the
test batch, "calibrated" with fixed statistics, estimated over training images. The usual running
averages would lag behind the weights in the first epochs, which is no property of these networks.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from terminator import network_file
from terminator.classification.config import NetworkConfig
from terminator.config import ModelConfig
from terminator.runtime.settings import to_dict
from terminator.standardization import BatchStandardization


class Baseline(nn.Module):
    """A network that knows its shape and saves itself.

    Args:
        config: dimensions, size, in_channels and classes, none of them None.
        network: its own settings.

    Shapes: (N, in_channels, *positions) to logits (N, classes).

    Raises:
        ConfigError: for settings that the network does not take.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__()
        network.check_model(config)
        self.config, self.network_config = config, network

    def save(self, path: str | Path, **info: Any) -> None:
        """Write one self-describing safetensors file; `networks.load` reads it.

        Raises:
            ValueError: as Terminator.save.
        """
        network = self.network_config
        network_file.write(
            path,
            self,
            lambda: type(self)(self.config, network),
            info,
            format="terminator baseline",
            network=json.dumps(to_dict(network)),
        )

    def _check_input(self, x: Tensor) -> None:
        expected = (self.config.in_channels, *[self.config.size] * self.config.dimensions)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"the input has shape {tuple(x.shape)}, this {type(self).__name__} takes (N, "
                f"{', '.join(map(str, expected))})"
            )


def batch_norm(channels: int) -> BatchStandardization:
    return BatchStandardization(channels, affine=True)


class ResNet18(Baseline):
    """torchvision's ResNet-18 (images only) with the stem for small images: 3x3, stride 1, no
    max-pooling.

    Source: He et al. 2016 (arXiv 1512.03385); the stem is the one in general use for 32x32 images.

    11,173,962 parameters for three channels and ten classes.
    """

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        from torchvision.models import resnet18  # a second to import

        super().__init__(config, network)
        self.layers = resnet18(num_classes=config.classes, norm_layer=batch_norm)
        self.layers.conv1 = nn.Conv2d(config.in_channels, 64, 3, padding=1, bias=False)
        # as torchvision's
        nn.init.kaiming_normal_(self.layers.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.layers.maxpool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        return self.layers(x)


class SmallCNN(Baseline):
    """Four 3x3 convolutions of 32, 64, 64, 64 channels (BN, ReLU), three of stride 2; mean over
    positions; linear.

    A plain classifier of images for measuring with: `features` are what generated images are
    compared in.
    """

    FEATURES = 64

    def __init__(self, config: ModelConfig, network: NetworkConfig):
        super().__init__(config, network)
        widths, layers = (config.in_channels, 32, 64, 64, self.FEATURES), []
        for i in range(4):
            layers += [
                nn.Conv2d(widths[i], widths[i + 1], 3, stride=2 if i else 1, padding=1, bias=False),
                batch_norm(widths[i + 1]),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(self.FEATURES, config.classes)

    def features(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to (N, 64)."""
        self._check_input(x)
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))
