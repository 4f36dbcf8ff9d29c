"""The linear map at every position, the one building block that slow and fast networks share.

Source: arXiv 2401.17948, where every linear map is a 1x1 convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Pointwise(nn.Module):
    """y[n, :, p] = W x[n, :, p] + b at every position p: a 1x1 convolution for any number of dimensions.

    Args:
        in_channels, out_channels: sizes of W, which is stored as (out_channels, in_channels).
        init: "linear" (Kaiming uniform with the gain of a linear unit) or "normal" (Kaiming normal).
        bias: the constant that every bias starts at.
    """

    def __init__(self, in_channels: int, out_channels: int, init: str = "linear", bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.full((out_channels,), float(bias)))
        if init == "linear":
            nn.init.kaiming_uniform_(self.weight, nonlinearity="linear")
        else:
            nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, in_channels, *positions) to (N, out_channels, *positions)."""
        dimensions = x.ndim - 2
        convolution = F.conv1d if dimensions == 1 else F.conv2d
        return convolution(x, self.weight.reshape(*self.weight.shape, *[1] * dimensions), self.bias)
