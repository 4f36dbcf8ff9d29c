"""What the Transformers see of the support images: shared features of the images, local ones of
activations.

Activations of E episodes of N images lie folded as (N, E C, H, W): generated convolutions are then
one grouped convolution, and batch statistics per episode are one ordinary batch norm.

Source: arXiv 2201.04182 and its reference implementation.
Golden: hypertransformer_shared_features, hypertransformer_local_features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold(images: Tensor) -> Tensor:
    """Episodes (E, N, C, H, W) as (N, E C, H, W)."""
    return images.transpose(0, 1).flatten(1, 2)


def unfold(folded: Tensor, episodes: int) -> Tensor:
    """The inverse of fold: (N, E C, H, W) as (E, N, C, H, W)."""
    return folded.unflatten(1, (episodes, -1)).transpose(0, 1)


def each_image(folded: Tensor, episodes: int) -> Tensor:
    """Folded (N, E C, H, W) as one batch (N E, C, H, W), episodes innermost; no copy."""
    return folded.unflatten(1, (episodes, -1)).flatten(0, 1)


def per_episode(vectors: Tensor, episodes: int) -> Tensor:
    """Vectors of each_image's batch (N E, f) as (E, N, f)."""
    return vectors.unflatten(0, (-1, episodes)).transpose(0, 1)


def same_padding(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Pad (..., H, W) by TensorFlow's rule "same": the smaller half in front; output ceil(H /
    stride).
    """
    pads = []
    for size in reversed(x.shape[-2:]):
        total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


def batch_norm(folded: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Normalise (N, E C, H, W) by the statistics of this very batch, per episode and channel,
    always.

    Args:
        gamma, beta: (C), the same for all episodes, or (E, C).

    Raises:
        ValueError: for a single value per channel, whose variance says nothing.
    """
    if folded[:, 0].numel() < 2:
        raise ValueError(
            f"batch norm of activations {tuple(folded.shape)}: one value per episode and channel "
            "has no statistics; give at least two images per episode (predictions depend on the "
            "whole batch)"
        )
    wide = torch.promote_types(folded.dtype, torch.float32)
    gamma, beta = (
        part.flatten().repeat(folded.shape[1] // part.numel()).to(wide) for part in (gamma, beta)
    )
    return F.batch_norm(folded, None, None, gamma, beta, training=True, eps=eps)


def glorot_conv(inputs: int, outputs: int, kernel_size: int, stride: int) -> nn.Conv2d:
    """A convolution without padding; Glorot-uniform weights, zero bias."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class SharedFeatures(nn.Module):
    """One vector per support image for all generators: 3x3 convs of stride 2 (the last: 1), mean
    over space.

    Args:
        in_channels: as its name says.
        dim: channels of every conv.
        layers: their number.
        bn: batch norm after each ReLU.
        padding: same or valid.
        image_size: for the check that something is left.
        relu: false in the port.

    Shapes: folded (N, E C, H, W) to (E, N, dim).

    Raises:
        ValueError: if the images are too small.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        layers: int,
        bn: bool,
        padding: str,
        image_size: int,
        eps: float = 1e-3,
        relu: bool = True,
    ):
        super().__init__()
        self.padding, self.eps, self.relu = padding, eps, relu
        strides = [2] * (layers - 1) + [1]
        size = image_size
        for stride in strides:
            size = -(-size // stride) if padding == "same" else (size - 3) // stride + 1
            if size < 1:
                raise ValueError(
                    f"image_size is {image_size}; too small for {layers} shared conv layers with "
                    f"padding {padding!r}"
                )
        self.convs = nn.ModuleList(
            glorot_conv(dim if i else in_channels, dim, 3, stride)
            for i, stride in enumerate(strides)
        )
        self.gamma = nn.Parameter(torch.ones(layers, dim)) if bn else None
        self.beta = nn.Parameter(torch.zeros(layers, dim)) if bn else None

    def forward(self, folded: Tensor, episodes: int) -> Tensor:
        x = each_image(folded, episodes)  # (N E, C, H, W)
        for i, conv in enumerate(self.convs):
            # (N E, dim, h, w)
            x = conv(same_padding(x, 3, conv.stride[0]) if self.padding == "same" else x)
            x = x.relu() if self.relu else x
            if self.gamma is not None:
                refolded = x.unflatten(0, (-1, episodes)).flatten(1, 2)  # (N, E dim, h, w)
                x = each_image(
                    batch_norm(refolded, self.gamma[i], self.beta[i], self.eps), episodes
                )
        return per_episode(x.mean((-1, -2)), episodes)  # (E, N, dim)


class LocalFeatures(nn.Module):
    """Features of what enters one generated layer: the spatial means of every conv's output, before
    ReLU.

    Convs are k x k, without padding, of stride 2 (the last: 1). On maps smaller than the kernel,
    the kernel is as large as the map and the stride 1; convs whose input is smaller than their
    kernel are left out.

    Args:
        in_channels: as its name says.
        features: f, channels of every conv; size: pixels a side; kernel_size; convs: at most.
        nonlinear: means after ReLU.
        port: the last conv is 1x1, none is left out.

    Shapes: x (M, C, H, W) to (M, dim); `dim` is f times the number of convs.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        size: int,
        kernel_size: int = 3,
        convs: int = 2,
        nonlinear: bool = False,
        port: bool = False,
    ):
        super().__init__()
        self.nonlinear, self.convs = nonlinear, nn.ModuleList()
        is_small = size < kernel_size
        kernel_size = min(kernel_size, size)
        for i in range(convs if features else 0):
            is_last = i == convs - 1
            kernel = 1 if port and is_last else kernel_size
            if size < kernel:
                break
            stride = 1 if is_last or is_small else 2
            self.convs.append(glorot_conv(features if i else in_channels, features, kernel, stride))
            size = (size - kernel) // stride + 1
        self.dim = features * len(self.convs)

    def forward(self, x: Tensor) -> Tensor:
        found = [x.new_zeros(len(x), 0)]
        for conv in self.convs:
            y = conv(x)  # (M, f, h, w)
            x = y.relu()
            found.append((x if self.nonlinear else y).mean((-1, -2)))
        return torch.cat(found, dim=-1)  # (M, dim)
