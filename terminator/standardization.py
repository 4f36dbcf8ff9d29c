"""Standardisation without affine parameters: batch, instance, and G-IBS; and its calibration.

In the release every standardisation over the batch uses the statistics of the batch at hand, in
training and at test time, so a prediction depends on the other images of its batch. *Calibration*
estimates these statistics once over training data and then keeps them: one image, one answer.

Source: arXiv 2401.17948 (G-IBS).  Golden: terminator_g_ibs.
"""

import warnings
import weakref
from collections.abc import Iterable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.config import STANDARDIZATIONS
from terminator.ops.layout import from_rows, rows
from terminator.runtime.distributed import MeanOverRanks, world_size

EPS = 1e-5
# protocol: source of the statistics
EVALUATIONS = {"released": "batch", "calibrated": "calibrated"}
OUTDATED = (
    "this network was trained after its calibration, and has the statistics of before; call "
    'calibrate(model, batches) again, or set_evaluation(model, "released") for those of the batch'
)


class Versions:
    """How often a network's parameters had been written to at some time. A copy of the network has
    None in its place: it is of other parameters.
    """

    def __init__(self, model: nn.Module):
        counted = (p for p in model.parameters() if not p.is_inference())
        self._found = [(weakref.ref(p), p._version) for p in counted]

    def changed(self) -> bool:
        """Whether one of them, where it is still there, has been written to since."""
        return any((p := of()) is not None and p._version != before for of, before in self._found)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


class BatchStatistic(nn.Module):
    """A statistic of the batch: taken from the batch at hand, or the constant that calibration
    found.

    Args:
        shape: the statistic's shape.

    State: `value` (float64 buffer, zeros until calibrated); `source`, one of "batch" (use the
        batch), "collect" (use the batch and remember it), "calibrated" (use `value`). A state dict
        has the value, and says by it whether it is calibrated.

    A module in training always uses the batch.
    """

    value: Tensor
    is_outdated = False  # trained on since `value` was found
    weights: Versions | None = None  # of the network when it was calibrated, in its first statistic

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("value", torch.zeros(shape, dtype=torch.float64))
        self.source = "batch"
        self.forget()

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        if not self.value.is_meta:
            self.source = "calibrated" if bool(self.value.any()) else "batch"
            self.is_outdated, self.weights = False, None

    def forget(self) -> None:
        """Start collecting anew."""
        self._total, self._count = torch.zeros_like(self.value), 0

    @property
    def is_fixed(self) -> bool:
        """Whether the calibrated value is to be used now."""
        return self.source == "calibrated" and not self.training

    def fixed(self) -> Tensor:
        """The calibrated value; with a warning, once, if the network was trained since."""
        if self.is_outdated and not torch.compiler.is_compiling():
            self.is_outdated = False
            warnings.warn(OUTDATED, RuntimeWarning, stacklevel=2)
        return self.value

    def train(self, mode: bool = True) -> Self:
        """As of every module; at the end of a training its calibration is known to be old."""
        if not mode and self.source == "calibrated" and self.weights is not None:
            self.is_outdated = self.weights.changed()
        return super().train(mode)

    @property
    def is_synchronized(self) -> bool:
        """Whether the batch is spread over several processes now."""
        return self.training and world_size() > 1

    def collect(self, value: Tensor) -> None:
        """Remember the statistic of one batch, if calibration is under way."""
        if self.source == "collect":
            self._total = self._total + value.detach().double().to(self._total.device)
            self._count += 1

    @property
    def is_finite(self) -> bool:
        """Whether what was collected is made of numbers."""
        return bool(self._total.isfinite().all())

    def finish(self) -> None:
        """Set `value` to the mean over the collected batches, and use it from now on."""
        self.value.copy_(self._total / self._count)
        self.forget()
        self.source, self.is_outdated = "calibrated", False

    def mean_over_batch(self, x: Tensor) -> Tensor:
        """Mean of x (N, ...) over its first axis, kept as 1, over all ranks; or the calibrated
        value.
        """
        if self.is_fixed:
            return self.fixed().to(x.dtype)
        mean = x.mean(0, keepdim=True)
        if self.is_synchronized:
            mean = MeanOverRanks.apply(mean)
        self.collect(mean)
        return mean


def standardize_last(x: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + 1e-5) over the last axis, statistics in float32 or wider."""
    # else CUDA's autocast would widen the result as well
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x, x.shape[-1:], eps=EPS)


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """value (C,), to be broadcast over x (N, C, *positions)."""
    return value.view(1, -1, *[1] * (x.ndim - 2))


class BatchStandardization(nn.Module):
    """y = (x - mean) / sqrt(var + 1e-5) per channel, over batch and positions; no running
    statistics.

    Args:
        channels: C.
        affine: add the scale and shift of ordinary batch normalisation (for ablations).

    Shapes: (N, C, *positions) to the same.
    """

    def __init__(self, channels: int, affine: bool = False):
        super().__init__()
        self.moments = BatchStatistic(2, channels)  # mean, mean square
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        if self.moments.is_fixed:
            mean, square = self.moments.fixed().unbind()
            variance = (square - mean * mean).clamp_min(0.0)
            kind = torch.promote_types(x.dtype, torch.float32)
            return F.batch_norm(
                x, mean.to(kind), variance.to(kind), self.weight, self.bias, eps=EPS
            )
        axes = [0, *range(2, x.ndim)]
        if self.moments.source == "collect":
            wide = x.detach().double()
            self.moments.collect(torch.stack([wide.mean(axes), wide.square().mean(axes)]))  # (2, C)
        if self.moments.is_synchronized:
            return self._synchronized(x, axes)
        if self._is_plain(x):
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=EPS)
        return self._affine(from_rows(standardize_last(rows(x)), like=x))

    def _is_plain(self, x: Tensor) -> bool:
        """Whether torch's own is the same, to rounding, and faster: with scale and shift, images
        outermost in memory, no half precision.
        """
        is_wide = x.dtype in (torch.float32, torch.float64)
        several = x.numel() > x.shape[1]  # torch refuses a single value per channel
        return self.weight is not None and is_wide and several and x.is_contiguous()

    def _affine(self, y: Tensor) -> Tensor:
        if self.weight is None or self.bias is None:
            return y
        return y * _per_channel(self.weight, y) + _per_channel(self.bias, y)

    def _synchronized(self, x: Tensor, axes: list[int]) -> Tensor:
        # statistics in half precision would be too coarse
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = MeanOverRanks.apply(wide.mean(axes, keepdim=True))  # (1, C, 1, ...)
        centred = wide - mean
        variance = MeanOverRanks.apply(centred.square().mean(axes, keepdim=True))
        return self._affine(centred * torch.rsqrt(variance + EPS)).to(x.dtype)


class InstanceStandardization(nn.Module):
    """y = (x - mean) / sqrt(var + 1e-5) per image and channel, over positions: (N, C, *positions)
    to the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        by_channel = x.transpose(0, 1).flatten(2)  # (C, N, P)
        return standardize_last(by_channel).unflatten(2, x.shape[2:]).transpose(0, 1)


class GroupStandardization(nn.Module):
    """G-IBS: even groups of channels are batch-standardised, odd groups instance-standardised.

    Args:
        channels: C, a multiple of `groups` groups: an even number of consecutive channel groups.

    Shapes: (N, C, *positions) to the same.

    Raises:
        ValueError: if `channels` does not divide into the groups or `groups` is odd.

    Source: arXiv 2401.17948, G-IBS; the release has 12 groups.
    Golden: terminator_g_ibs.
    """

    def __init__(self, channels: int, groups: int = 12):
        super().__init__()
        if groups < 2 or groups % 2:
            raise ValueError(
                f"groups is {groups}; G-IBS needs an even number of groups, at least 2"
            )
        if channels % groups:
            raise ValueError(
                f"channels is {channels}; G-IBS needs a multiple of its {groups} groups"
            )
        self.groups = groups
        self.batch = BatchStandardization(channels // 2)
        self.instance = InstanceStandardization()

    def forward(self, x: Tensor) -> Tensor:
        # (G/2, 2, C/G, N, *positions)
        pairs = x.transpose(0, 1).unflatten(0, (self.groups // 2, 2, -1))
        halves = []
        for part, standardize in zip(pairs.unbind(1), (self.batch, self.instance), strict=True):
            y = standardize(part.flatten(0, 1).transpose(0, 1))  # (N, C/2, *positions)
            halves.append(y.transpose(0, 1).unflatten(0, (self.groups // 2, -1)))
        return torch.stack(halves, dim=1).flatten(0, 2).transpose(0, 1)  # (N, C, *positions)


def make_standardization(kind: str, channels: int, groups: int) -> nn.Module:
    """The standardisation after a bottleneck: "g_ibs", or an ablation: "batch", "instance",
    "batch_affine".
    """
    if kind == "g_ibs":
        return GroupStandardization(channels, groups)
    if kind in ("batch", "batch_affine"):
        return BatchStandardization(channels, affine=kind == "batch_affine")
    if kind == "instance":
        return InstanceStandardization()
    raise ValueError(f"standardization is {kind!r}; allowed: {', '.join(STANDARDIZATIONS)}")


def _statistics(model: nn.Module) -> list[BatchStatistic]:
    return [module for module in model.modules() if isinstance(module, BatchStatistic)]


def set_evaluation(model: nn.Module, protocol: str) -> None:
    """Choose what `model.eval()` means: "released" (statistics of the test batch) or "calibrated".

    Raises:
        ValueError: for another name, or for "calibrated" before `calibrate` was called.
    """
    if protocol not in EVALUATIONS:
        raise ValueError(f"evaluation is {protocol!r}; allowed: {', '.join(EVALUATIONS)}")
    if protocol == "calibrated" and not is_calibrated(model):
        raise ValueError(
            "the model has no calibrated statistics yet: call calibrate(model, batches) first"
        )
    for statistic in _statistics(model):
        statistic.source = EVALUATIONS[protocol]
    if protocol == "calibrated" and not any(one.weights for one in _statistics(model)):
        _remember_weights(model)


def _remember_weights(model: nn.Module) -> None:
    for statistic in _statistics(model)[:1]:  # one is enough to warn of a network
        statistic.weights = Versions(model)


def warn_of_old_calibration(model: nn.Module) -> None:
    """Warn if a model that is about to be kept was trained since its calibration."""
    if any(one.weights is not None and one.weights.changed() for one in _statistics(model)):
        warnings.warn(OUTDATED, RuntimeWarning, stacklevel=3)


def is_calibrated(model: nn.Module) -> bool:
    """Whether fixed statistics have been estimated (or loaded) for every batch statistic of the
    model.
    """
    return all(bool(statistic.value.any()) for statistic in _statistics(model))


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Estimate every batch statistic of the model over training data, and use it from now on.

    Each batch goes through the model with its own statistics, as in training but without dropout; a
    statistic's fixed value is its mean over the batches (means and mean squares for
    standardisation, context maps for local slow nets).

    Args:
        batches: training inputs (N, C, *positions), normalised, not augmented; N as in training.

    Returns:
        the number of images seen. Afterwards `model` is in evaluation mode, "calibrated".

    Raises:
        ValueError: if there are no batches, one is no tensor, or one gives statistics that are no
            numbers.
    """
    training = model.training
    model.eval()
    sources = [statistic.source for statistic in _statistics(model)]
    for statistic in _statistics(model):
        statistic.forget()
        statistic.source = "collect"
    seen = 0
    try:
        for batch in batches:
            if not isinstance(batch, Tensor):
                raise ValueError(
                    f"a batch is a {type(batch).__name__}; allowed: tensors of inputs alone, as in "
                    "calibrate(model, (images for images, labels in loader))"
                )
            model(batch)
            seen += len(batch)
        if not seen:
            raise ValueError("calibration was given no batches; it needs at least one")
        if not all(statistic.is_finite for statistic in _statistics(model)):
            raise ValueError("calibration found statistics that are not finite: is an image NaN?")
    except BaseException:  # half a calibration is none: what was there before stays
        for statistic, source in zip(_statistics(model), sources, strict=True):
            statistic.forget()
            statistic.source = source
        model.train(training)
        raise
    for statistic in _statistics(model):
        statistic.finish()
    _remember_weights(model)
    return seen
