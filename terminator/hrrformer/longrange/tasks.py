"""What a batch of sequences means: the network, its loss, and what is counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from terminator.classification.tasks import summed_answers
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.network import Hrrformer
from terminator.runtime.torch_state import seed

Tokens = tuple[Tensor, ...]  # one text (B, T), or the two of a pair


def build_network(config: LongRangeConfig) -> Hrrformer:
    """The network of a configuration, initialised from its seed."""
    seed(config.train.seed)
    return Hrrformer(config.network_settings)


@dataclass
class SequenceClassification:
    """One label per sequence or pair: label-smoothed cross entropy, or EMBER's binary one.

    Args:
        model: the network itself (not a distributed wrapper).
    """

    model: Any  # to mypy, methods of an nn.Module are Tensors

    def loss_terms(
        self, network: Callable[..., Any], x: Tokens, labels: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The terms to add up, by name, and the logits (B, classes).

        Args:
            network: the model or its distributed wrapper.
            labels: (B,).
        """
        logits = network(*x).float()
        return {"cross_entropy": self.model.loss(logits, labels)}, logits

    @torch.no_grad()
    def evaluate(self, batches: Iterator[tuple[Tokens, Tensor]]) -> dict[str, float]:
        """Sums over a split: correct answers, cross entropy without smoothing, and examples
        counted.
        """
        return summed_answers(((self.model(*x), labels) for x, labels in batches), "examples")

    @torch.no_grad()
    def branch_ratios(self, x: Tokens) -> list[float]:
        """||mixer branch|| / ||residual|| of every layer: how much the mixer has to say."""
        return [layer.branch_ratio for layer in self.model(*x, return_parts=True).layers]


def flops_per_example(model: nn.Module, x: Tokens) -> int:
    """Floating point operations of one forward pass per example (multiply and add: two; transforms:
    5 N log2 N).

    Sums, products and norms of elements are not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False, custom_mapping=_transforms())
    with (
        counter,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model.eval()(*x)
    return counter.get_total_flops() // len(x[0])


def _transforms() -> dict[Any, Callable[..., int]]:
    """Costs of Fourier transforms, half for real ones, by torch's operators."""

    def cost(share: float, axes: Any, *shapes: Any) -> int:
        shape = max(shapes, key=lambda s: torch.Size(s).numel())
        points = torch.Size([shape[axis] for axis in axes]).numel()
        return int(
            share * 5 * torch.Size(shape).numel() * torch.tensor(float(points)).log2().item()
        )

    aten = torch.ops.aten
    return {
        aten._fft_r2c: lambda x, axes, *_, out_shape=None, **__: cost(0.5, axes, x),
        aten._fft_c2r: lambda x, axes, *_, out_shape=None, **__: cost(0.5, axes, out_shape),
        aten._fft_c2c: lambda x, axes, *_, out_shape=None, **__: cost(1.0, axes, x),
    }
