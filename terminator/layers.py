"""The linear map at every position, the one building block that slow and fast networks share.

Source: arXiv 2401.17948, where every linear map is a 1x1 convolution.
"""

import torch
from torch import Tensor, nn


class Pointwise(nn.Module):
    """y[n, :, p] = W x[n, :, p] + b at every position p: a 1x1 convolution, as a matrix product.

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
        weight = self.weight.expand(len(x), -1, -1)  # (N, out_channels, in_channels), no copy
        y = torch.baddbmm(self.bias[:, None], weight, x.flatten(2))  # (N, out_channels, P)
        return y.view(len(x), -1, *x.shape[2:])
