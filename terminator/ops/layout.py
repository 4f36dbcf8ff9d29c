"""How activations lie in memory: (N, C, *positions) with the channels outermost, as the CPU's
products like it.
"""

from torch import Tensor


def rows(x: Tensor) -> Tensor:
    """x (N, C, *positions) as a matrix (C, N * P); no copy if its channels are outermost, or
    innermost, in memory.
    """
    return x.transpose(0, 1).flatten(1)


def from_rows(matrix: Tensor, like: Tensor) -> Tensor:
    """A matrix (C', N * P) as (N, C', *positions), with the N and positions of `like`; the inverse
    of `rows`.
    """
    return matrix.view(matrix.shape[0], like.shape[0], *like.shape[2:]).transpose(0, 1)


def channels_outermost(x: Tensor) -> Tensor:
    """x (N, C, *positions) itself, with its channels outermost in memory; a copy where they are
    not.
    """
    return x.transpose(0, 1).contiguous().transpose(0, 1)
