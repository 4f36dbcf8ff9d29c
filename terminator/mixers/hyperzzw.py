"""Terminator's operator as a global mixer: the global branch of an SFNE block, with linear maps for
its gated units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator import hyperzzw
from terminator.layers import Pointwise, widened
from terminator.mixers.base import check_length, check_sequence
from terminator.runtime.settings import require
from terminator.slow_net import SlowNet
from terminator.standardization import EPS, InstanceStandardization


class GlobalBranch(nn.Module):
    """y = W_o (S (*) IS(W_s S + W_f z)), S = W * z, for z (N, C, *positions).

    W (1, C, *size) is a slow net's hyper-kernel, IS instance standardisation, (*) one of
    hyperzzw.OPERATORS. Linear maps stand in for the block's gated units, whose bias maps would be
    parameters of their own over positions.

    Args:
        channels: C.
        dimensions, size: of the positions.
        operator: as its name says.
        hidden, omega_0: of the slow net.

    Source: arXiv 2401.17948; see terminator.sfne.
    """

    def __init__(
        self,
        channels: int,
        dimensions: int,
        size: int,
        operator: str,
        hidden: int = 32,
        omega_0: float = 2000.0,
    ):
        super().__init__()
        require(operator in hyperzzw.OPERATORS, "operator", operator, ", ".join(hyperzzw.OPERATORS))
        self.operator = operator
        self.slow_net = SlowNet(dimensions, size, channels, hidden, omega_0=omega_0)
        self.slow, self.fast, self.output = (Pointwise(channels, channels) for _ in range(3))
        self.standardize = InstanceStandardization()

    def mix(self, z: Tensor, real: Tensor | None = None) -> Tensor:
        """z to the same shape; where `real` (N, 1, P) is 0 stands padding, which is to change
        nothing.
        """
        z = z if real is None else z * real
        hyper_kernel = self.slow_net()  # W (1, C, *size)
        if z.ndim == 4 and z.shape[2:] != hyper_kernel.shape[2:]:
            raise ValueError(
                f"the map has {' x '.join(map(str, z.shape[2:]))} positions, the mixer is made for "
                f"{' x '.join(map(str, hyper_kernel.shape[2:]))}; allowed: the same (of a "
                "segmentation network: model.context_size)"
            )
        # of a sequence that is shorter than the longest
        missing = hyper_kernel.shape[-1] - z.shape[-1]
        score = hyperzzw.slow_score(z, hyper_kernel[..., : z.shape[-1]])  # S (N, C, *positions)
        value = self.slow(score) + self.fast(z)
        value = self.standardize(value) if real is None else _standardized(value, real)
        if missing:
            score, value = (F.pad(part, (0, missing)) for part in (score, value))
        return self.output(
            hyperzzw.global_operator(self.operator, score, value)[..., : z.shape[-1]]
        )


def _standardized(value: Tensor, real: Tensor) -> Tensor:
    """Instance standardisation over the positions that are real; 0 at the others."""
    count, wide = real.sum(-1, keepdim=True).clamp(min=1), widened(value)
    centred = (wide - (wide * real).sum(-1, keepdim=True) / count) * real
    variance = centred.square().sum(-1, keepdim=True) / count
    return (centred * torch.rsqrt(variance + EPS)).to(value.dtype)


class GlobalHyperZZW(GlobalBranch):
    """The global branch on sequences (B, T, E), see GlobalBranch.

    Args:
        width: E.
        length: the longest T, shorter inputs are padded with zeros.
        operator: "matrix" for square lengths only.
        hidden, omega_0: of the slow net.
    """

    uses_mask = True

    def __init__(
        self,
        width: int,
        length: int,
        operator: str = "convolution",
        hidden: int = 32,
        omega_0: float = 2000.0,
    ):
        super().__init__(width, 1, length, operator, hidden, omega_0)
        self.width, self.length = width, length

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = check_sequence(x, self.width, mask)
        check_length(x.shape[1], self.length)
        return self.mix(x.transpose(1, 2), None if mask is None else mask[:, None, :]).transpose(
            1, 2
        )
