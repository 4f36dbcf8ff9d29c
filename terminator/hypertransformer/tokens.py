"""Tokens in, weights out: the stages before and after a Transformer, as pure functions.

A sample token is [label embedding; local features; shared features; zeros], a placeholder token
[its embedding; zeros]. No position is encoded: samples are a set, and placeholders differ by their
embeddings.

Source: arXiv 2201.04182 and its reference implementation.  Golden: hypertransformer_tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_tokens(
    label_embeddings: Tensor, labels: Tensor, *features: Tensor, width: int | None = None
) -> Tensor:
    """Tokens of labelled samples: (..., N, width).

    Args:
        label_embeddings: (n + 1, e), the last row for "no label".
        labels: (..., N) integers in 0..n.
        features: each (..., N, f), may have no entries.
        width: of a token, nothing for no zeros at its end.

    Raises:
        ValueError: if a token is longer than `width`.
    """
    # (..., N, e + f)
    tokens = torch.cat([F.embedding(labels, label_embeddings), *features], dim=-1)
    return tokens if width is None else _padded("sample", tokens, width)


def placeholder_tokens(
    weight_embeddings: Tensor, width: int, previous: Tensor | None = None
) -> Tensor:
    """Tokens that ask for weights: embeddings (B, e) and zeros, (B, width).

    With the `previous` blocks (E, B, S) of every episode: [embedding; block; zeros], (E, B, width).
    """
    if previous is not None:
        own = weight_embeddings.expand(len(previous), -1, -1)
        weight_embeddings = torch.cat([own, previous.to(own.dtype)], dim=-1)  # (E, B, e + S)
    return _padded("placeholder", weight_embeddings, width)


def joint_sequence(placeholders: Tensor, samples: Tensor) -> Tensor:
    """The B placeholders (B, D) first, then the samples (..., N, D): (..., B + N, D)."""
    placeholders = placeholders.expand(*samples.shape[:-2], -1, -1)
    return torch.cat([placeholders.to(samples.dtype), samples], dim=-2)


def joint_key_mask(sample_mask: Tensor, placeholders: int) -> Tensor:
    """Which tokens no one attends to, (..., B + N): no placeholder, and the samples of the mask
    (..., N).
    """
    return F.pad(sample_mask, (placeholders, 0))


def read_out(output: Tensor, blocks: int, embedding_dim: int, block_size: int) -> Tensor:
    """The weights in a Transformer's output (..., T, D): the first B tokens after their first e
    entries.

    Returns:
        (..., B, S); what lies beyond S is ignored.
    """
    return output[..., :blocks, embedding_dim : embedding_dim + block_size]


def _padded(what: str, tokens: Tensor, width: int) -> Tensor:
    if tokens.shape[-1] > width:
        raise ValueError(
            f"a {what} token has {tokens.shape[-1]} entries, more than its width {width}"
        )
    return F.pad(tokens, (0, width - tokens.shape[-1]))
