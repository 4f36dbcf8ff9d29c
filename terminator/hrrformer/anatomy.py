"""Hrrformer seen from inside: one attention taken apart, branch against residual, 2-D structure in
its weights.

Weights are given as T w_t, so that 1 is what every token has when all are alike. The picture of
weights over an image proves little by itself: w_t depends on the value and the position of pixel t,
so an untrained network's map shows the object too. `structure_table` therefore holds what training
has to change, for a trained network and its controls.

Source: arXiv 2305.19534.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from terminator.classification.analysis import correlation
from terminator.hrrformer import algebra
from terminator.hrrformer.attention import AttentionParts
from terminator.hrrformer.network import Hrrformer, NetworkParts
from terminator.link import evaluating

CHUNK = 64  # sequences that go through a network at once


class Anatomy(NamedTuple):
    """One layer's attention over one sequence of T tokens; h heads of width D."""

    superposition: Tensor  # beta (h, D)
    value: Tensor  # (h, T, D)
    retrieved: Tensor  # (h, T, D)
    cosine: Tensor  # (h, T), of each token's value and what its query gets back
    weight: Tensor  # T w (h, T), mean 1


def parts_of(network: Hrrformer, tokens: Tensor) -> NetworkParts:
    """What the network computes for tokens (B, T), without dropout and gradients; it is left as it
    was.
    """
    with evaluating(network):
        return network(tokens, return_parts=True)


def _attention_of(parts: NetworkParts, layer: int) -> AttentionParts:
    if not 0 <= layer < len(parts.layers):
        raise ValueError(f"layer is {layer}; allowed: 0 to {len(parts.layers) - 1}")
    found = parts.layers[layer].attention
    if found is None:
        raise ValueError(
            f"layer {layer} has no holographic attention to look at; its mixer must be hrrformer"
        )
    return found


def anatomy(network: Hrrformer, tokens: Tensor, layer: int = 0) -> Anatomy:
    """Take the attention of one layer apart for one sequence of tokens (T,).

    Raises:
        ValueError: for a layer that is not there, or has no holographic attention.
    """
    found = _attention_of(parts_of(network, tokens[None]), layer)
    beta, retrieved, cosine = found.superposition, found.retrieved, found.cosine
    if beta is None or retrieved is None or cosine is None:
        raise ValueError(
            f"layer {layer} asks no superposition; its mixer must be hrrformer with weights=softmax"
        )
    return Anatomy(
        beta[0, :, 0],
        found.value[0],
        retrieved[0],
        cosine[0, ..., 0],
        found.weight[0, ..., 0] * found.weight.shape[2],
    )


def retrieval_table(found: Anatomy) -> pd.DataFrame:
    """The attention read as a memory, a row per head: does a query get its own token's value back?

    Returns:
        columns head, own (mean cosine to the token's own value), other (to another token's), noise
        (deviation of the latter), first (share of tokens whose own value comes closest, %), chance
        (of that, %), and `expected`: the cosine that as many random pairs would give.
    """
    rows = []
    length = found.cosine.shape[1]
    for head, (value, retrieved) in enumerate(
        zip(found.value, found.retrieved, strict=True), start=1
    ):
        cosine = (
            F.normalize(retrieved, dim=-1, eps=algebra.EPS)
            @ F.normalize(value, dim=-1, eps=algebra.EPS).T
        )
        others = cosine[~torch.eye(length, dtype=torch.bool)]
        first = (cosine.argmax(1) == torch.arange(length)).double().mean().item()
        rows.append(
            {
                "head": head,
                "own": cosine.diagonal().mean().item(),
                "other": others.mean().item(),
                "noise": others.std().item(),
                "first": 100 * first,
                "chance": 100 / length,
                "expected": 1 / math.sqrt(length + 1),
            }
        )
    return pd.DataFrame(rows).set_index("head")


# -- branch against residual -----------------------------------------------------------------------


def branch_numbers(network: Hrrformer, tokens: Tensor) -> list[dict[str, Any]]:
    """Rows of observations (quantity, block, part, value) for tokens (B, T): one or two per layer.

    Args:
        branch_ratio: ||branch|| / ||residual||.
        weight_spread: largest weight over smallest, mean over rows and heads, of layers with
            holographic attention. At temperature one it cannot exceed e^2.
    """
    rows = []
    for number, layer in enumerate(parts_of(network, tokens).layers, start=1):
        rows.append(
            {
                "quantity": "branch_ratio",
                "block": number,
                "part": "attention",
                "value": layer.branch_ratio,
            }
        )
        if layer.attention is not None:
            weight = layer.attention.weight.double()  # (B, h, T, 1)
            real = weight > 0  # a masked token has none
            least = weight.where(real, torch.inf).amin(2)
            spread = (weight.amax(2) / least).mean().item()
            rows.append(
                {"quantity": "weight_spread", "block": number, "part": "attention", "value": spread}
            )
    return rows


# -- 2-D structure from 1-D ------------------------------------------------------------------------


def weights_over(network: Hrrformer, tokens: Tensor, layer: int = 0) -> Tensor:
    """T w of many sequences of tokens (N, T): (N, h, T); rows are computed a few at a time."""
    return (
        torch.cat(
            [
                _attention_of(parts_of(network, part), layer).weight[..., 0]
                for part in _chunks(tokens)
            ]
        )
        * tokens.shape[1]
    )


def _chunks(tokens: Tensor) -> Iterator[Tensor]:
    yield from tokens.split(CHUNK)


def autocorrelation(sequence: Tensor) -> Tensor:
    """Of sequences (..., T), their means taken off, at lags 0 .. T - 1; divided by that at lag 0:
    (..., T).

    A constant sequence has none: zeros.
    """
    values = sequence.double() - sequence.double().mean(-1, keepdim=True)
    length = values.shape[-1]
    power = torch.fft.rfft(values, n=2 * length).abs().square()
    found = torch.fft.irfft(power, n=2 * length)[..., :length]
    return found / found[..., :1].clamp_min(torch.finfo(torch.float64).tiny)


def row_contrast(sequence: Tensor, row: int) -> Tensor:
    """How far (..., T) repeats from one image row to the next: autocorrelation at lag `row` minus
    that in between.

    In between: the mean of the lags at half a row and at one and a half. Smooth sequences without
    rows have less than 0, those that depend on the column alone up to 2. Returns (...).

    Raises:
        ValueError: for rows that are shorter than two or do not fit twice into the sequence.
    """
    if row < 2 or 2 * row > sequence.shape[-1]:
        raise ValueError(
            f"row is {row}; allowed: 2 to {sequence.shape[-1] // 2}, half the sequence"
        )
    found = autocorrelation(sequence)
    return found[..., row] - (found[..., row // 2] + found[..., row + row // 2]) / 2


def position_share(weights: Tensor) -> Tensor:
    """Share of the variance of (N, h, T) that the mean over N, a map of positions, explains:
    (h,).
    """
    wide = weights.double()
    mean = wide.mean(0)  # (h, T)
    total = (wide - wide.mean((0, 2), keepdim=True)).square().mean((0, 2))
    return mean.var(-1, unbiased=False) / total.clamp_min(torch.finfo(torch.float64).tiny)


def structure_table(
    networks: Mapping[str, Hrrformer],
    tokens: Tensor,
    orders: Mapping[str, Tensor] | None = None,
    layer: int = 0,
) -> pd.DataFrame:
    """What the weights of one layer say about rows and columns, a row per network and head.

    Args:
        networks: {label: network}.
        tokens: (N, T) of square images in reading order.
        orders: {label: (T,)} of networks that were trained on permuted pixels: element i is the
            pixel that stands at place i. They are given their tokens in that order, and their maps
            are put back in order.

    Returns:
        columns network, head, row_contrast (of the map averaged over the images),
        row_contrast_shuffled (the same where every image's pixels were shuffled: only positions can
        make rows then), position_share, grey_correlation (of weight and pixel value, over all
        images).
    """
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise ValueError(
            f"tokens have length {tokens.shape[1]}; allowed: square numbers, images in reading "
            "order"
        )
    rows, mixed = [], shuffled(tokens)
    for label, network in networks.items():
        order = (orders or {}).get(label)
        weights = image_weights(network, tokens, order, layer)
        contrast, share = row_contrast(weights.mean(0), side), position_share(weights)
        by_position = row_contrast(image_weights(network, mixed, order, layer).mean(0), side)
        for head in range(weights.shape[1]):
            rows.append(
                {
                    "network": label,
                    "head": head + 1,
                    "row_contrast": contrast[head].item(),
                    "row_contrast_shuffled": by_position[head].item(),
                    "position_share": share[head].item(),
                    "grey_correlation": correlation(weights[:, head], tokens),
                }
            )
    return pd.DataFrame(rows)


def shuffled(tokens: Tensor, seed: int = 0) -> Tensor:
    """Every sequence of (N, T) in a random order of its own: the same values, at places that say
    nothing.
    """
    draw = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
    return tokens.gather(1, draw.argsort(1))


def image_weights(
    network: Hrrformer, tokens: Tensor, order: Tensor | None = None, layer: int = 0
) -> Tensor:
    """weights_over of a network that may know the pixels in another order, (N, h, T) in reading
    order.
    """
    if order is None:
        return weights_over(network, tokens, layer)
    return weights_over(network, tokens[:, order], layer)[..., torch.argsort(order)]


def position_similarity(network: Hrrformer) -> Tensor:
    """Cosine of every pair of positions' embeddings (T, T); those of fixed sinusoids are what they
    are made to be.
    """
    embedding = F.normalize(network.position_embedding.detach().double(), dim=-1)
    return embedding @ embedding.T


def similarity_at_lags(similarity: Tensor) -> Tensor:
    """Mean similarity (T, T) of positions that are 0 .. T - 1 apart: (T,)."""
    return torch.stack([similarity.diagonal(lag).mean() for lag in range(len(similarity))])


def similarity_contrast(similarity: Tensor, row: int) -> float:
    """Positions one row apart against those half a row and one and a half rows apart: mean
    similarity, difference.

    About 0 for random embeddings; above 0 where training has made a column's positions alike.
    """
    found = similarity_at_lags(similarity)
    return (found[row] - (found[row // 2] + found[row + row // 2]) / 2).item()
