"""From readout vectors to weights: which entry of which token becomes which weight.

v_b is the readout vector of placeholder b; k kernel size, I and O channels; W[o, i, a, c] with row
a, column c. The public port views the same entries in another order: a bijection too, but a token
is then no filter.

Source: arXiv 2201.04182 and its reference implementation.
Golden: hypertransformer_alloc_output, _alloc_spatial, _logits_alloc.
"""

from typing import NamedTuple

from torch import Tensor


class ConvWeights(NamedTuple):
    """What one conv layer is applied with; the leading axis is the episode (1 where all share
    them).
    """

    kernel: Tensor  # (E, O, I, k, k)
    bias: Tensor | None = None  # (E, O)
    gamma: Tensor | None = None  # (E, O), scale after batch norm; nothing: the layer's own
    beta: Tensor | None = None  # (E, O)


class HeadWeights(NamedTuple):
    """The classifier: logits = weight f + bias."""

    weight: Tensor  # (E, n, F)
    bias: Tensor  # (E, n)


def output_block_size(
    in_channels: int, kernel_size: int, bias: bool = False, bn: bool = False
) -> int:
    """S of the output allocation: a filter's k k I weights, then its bias, then its gamma and
    beta.
    """
    return kernel_size**2 * in_channels + bias + 2 * bn


def allocate_output(
    blocks: Tensor,
    in_channels: int,
    kernel_size: int,
    bias: bool = False,
    bn: bool = False,
    port: bool = False,
) -> ConvWeights:
    """One block per filter: W[o, i, a, c] = v_o[(a k + c) I + i], then bias, gamma, beta where
    generated.

    Args:
        blocks: (..., O, S), S as output_block_size says.
        port: the public port's order.

    Returns:
        ConvWeights with the same leading axes.

    Raises:
        ValueError: if S does not fit.
    """
    _check_size("allocate_output", blocks, output_block_size(in_channels, kernel_size, bias, bn))
    length = kernel_size**2 * in_channels
    if port:  # the (k k I, O) matrix of columns v_o, viewed as (O, I, k, k)
        shape = (blocks.shape[-2], in_channels, kernel_size, kernel_size)
        kernel = blocks[..., :length].mT.flatten(-2).unflatten(-1, shape)  # (..., O, I, k, k)
    else:
        # (..., O, k, k, I)
        kernel = blocks[..., :length].unflatten(-1, (kernel_size, kernel_size, in_channels))
        kernel = kernel.movedim(-1, -3)  # (..., O, I, k, k)
    rest = iter(blocks[..., length:].unbind(-1))
    return ConvWeights(
        kernel, next(rest) if bias else None, *((next(rest), next(rest)) if bn else ())
    )


def allocate_spatial(
    blocks: Tensor, in_channels: int, out_channels: int, kernel_size: int, port: bool = False
) -> ConvWeights:
    """One block per position: W[o, i, a, c] = v_(a k + c)[i O + o].

    Args:
        blocks: (..., k k, I O).
        port: the public port's order.

    Raises:
        ValueError: if the blocks do not fit.
    """
    _check_size("allocate_spatial", blocks, in_channels * out_channels)
    if port:
        kernel = blocks.flatten(-2).unflatten(
            -1, (out_channels, in_channels, kernel_size, kernel_size)
        )
    else:
        kernel = blocks.unflatten(-1, (in_channels, out_channels))  # (..., k k, I, O)
        # (..., O, I, k, k)
        kernel = kernel.transpose(-1, -3).unflatten(-1, (kernel_size, kernel_size))
    return ConvWeights(kernel)


def allocate_logits(blocks: Tensor) -> HeadWeights:
    """One block per label: v_y = [row y of the weight matrix; bias of y]: (..., n, F + 1)."""
    return HeadWeights(blocks[..., :-1], blocks[..., -1])


def _check_size(what: str, blocks: Tensor, expected: int) -> None:
    if blocks.shape[-1] != expected:
        raise ValueError(
            f"{what} needs blocks of {expected} entries, got shape {tuple(blocks.shape)}"
        )
