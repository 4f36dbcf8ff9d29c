"""Slow networks: coordinates in [-1, 1]^d become hyper-kernels W (multiplicative MAGNet filters).

h_0 = g_0(c);  h_i = g_i(c) * (U_i h_{i-1} + u_i) + P,  i = 1..L;  W = V h_L + v,
with sinusoidal filters g_i(c) = sin(A_i c + a_i) and a bias map P over positions.

Source: arXiv 2401.17948 (slow network), after MAGNets of FlexConv / CCNN.
Golden: terminator_slow_net_global, _channel, _local.
"""

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from terminator.layers import Pointwise, listed, mean_over, on_rows
from terminator.ops.pooling import adaptive_mean
from terminator.standardization import BatchStatistic


def coordinates(dimensions: int, size: int) -> Tensor:
    """Grid of `size` coordinates per axis in [-1, 1], "ij" order: (1, dimensions, size[, size])."""
    return grid([size] * dimensions)


def grid(sizes: Sequence[int]) -> Tensor:
    """The same with a size of its own for every axis: (1, d, *sizes)."""
    sketch = torch.empty(1, len(sizes), *sizes)
    if sketch.is_meta:  # which has no values
        return sketch
    axes = [torch.linspace(-1.0, 1.0, size) for size in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


class SinusoidalFilter(Pointwise):
    """g_i(c) = sin(A_i c + a_i), A_i scaled by 2 pi omega_0 gamma_i, gamma_i ~ Gamma(alpha / (i +
    1), beta).

    Args:
        index: the layer i, from 0.
        omega_0: base frequency, in periods per unit of coordinate.
        alpha, beta: shape and rate of the Gamma distribution.
    """

    needs_float32 = True  # phases of 10^5 radians: in 16 bits they would be other functions

    def __init__(
        self, dimensions: int, hidden: int, index: int, omega_0: float, alpha: float, beta: float
    ):
        super().__init__(dimensions, hidden)
        if self.weight.is_meta:  # a sketch, which has no values
            return
        with torch.no_grad():
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            # unchecked: a refusal would name a tensor, where ModelConfig's names a setting
            drawn = torch.distributions.Gamma(alpha / (index + 1), beta, validate_args=False)
            gamma = drawn.sample(self.weight.shape)
            self.weight.mul_(2 * math.pi * omega_0 * gamma)

    def forward(self, coords: Tensor) -> Tensor:
        """Coordinates (1, d, *positions) to (1, hidden, *positions)."""
        return torch.sin(super().forward(coords))

    def of_rows(self, x: Tensor) -> Tensor:
        """Coordinates (d, P) to (hidden, P)."""
        return torch.sin(super().of_rows(x))


class KeepsKernel(nn.Module):
    """A maker of kernels that remembers the last one, where nothing can have changed."""

    coords: Tensor  # which all are made of

    def __init__(self) -> None:
        super().__init__()
        # what it was made of, and it itself: tensors, and the state of each
        self._kept: tuple[list[Tensor], list[tuple[int, int]]] | None = None

    def kept(self, make: Callable[[], Tensor]) -> Tensor:
        """What `make` computes; without gradients, in evaluation, only once for the same
        parameters.

        It runs in the network's own type: phases of 10^5 radians need all of float32. Who writes
        into a parameter's `data`, which torch does not count, is noticed at the next `train()` or
        `eval()`, or says so (forget_kernels).
        """
        with torch.autocast(self.coords.device.type, enabled=False):
            if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
                self._kept = None
                return make()
            of = [*self.parameters(), *self.buffers()]
            if any(t.is_inference() for t in of):  # of which torch counts nothing
                return make()
            if self._kept is None or not self._is_of(of):
                # whose tensors would not notice a change in place
                with torch.inference_mode(False):
                    of.append(make().detach())
                self._kept = of, [state_of(t) for t in of]
            return self._kept[0][-1].clone()  # whoever scales it for a picture changes his own

    def _is_of(self, of: list[Tensor]) -> bool:
        """Whether what is kept was made of these tensors, and none has been written to since."""
        assert self._kept is not None
        tensors, states = self._kept
        return (
            len(tensors) == len(of) + 1
            and all(a is b for a, b in zip(tensors, of, strict=False))
            and states == [state_of(t) for t in tensors]
        )

    def train(self, mode: bool = True) -> Self:
        """As of every module; what was kept is forgotten."""
        self._kept = None
        return super().train(mode)


def state_of(tensor: Tensor) -> tuple[int, int]:
    """Where its values lie, and how often they were written to, as far as torch counts that."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class SlowNet(KeepsKernel):
    """MAGNet from coordinates to a hyper-kernel; it does not see the input.

    Args:
        dimensions: d of the coordinates, 1 or 2.
        size: coordinates per axis.
        out_channels: C of the hyper-kernel.
        hidden: channels of every layer.
        depth: L, linear layers.
        omega_0, alpha, beta: initial frequencies, see SinusoidalFilter.

    Returns:
        forward(): hyper-kernel (1, C, size[, size]), real, unbounded.
    """

    def __init__(
        self,
        dimensions: int,
        size: int,
        out_channels: int,
        hidden: int,
        depth: int = 2,
        omega_0: float = 2000.0,
        alpha: float = 6.0,
        beta: float = 1.0,
    ):
        super().__init__()
        self.register_buffer("coords", coordinates(dimensions, size), persistent=False)
        self.filters = listed(
            SinusoidalFilter(dimensions, hidden, i, omega_0, alpha, beta) for i in range(depth + 1)
        )
        self.linears = listed(Pointwise(hidden, hidden, bias=1.0) for _ in range(depth))
        self.bias_map = nn.Parameter(torch.zeros(1, 1, *[size] * dimensions))
        self.output = Pointwise(hidden, out_channels)
        with torch.no_grad():  # variance correction of Chang et al. 2020
            self.output.weight.div_(math.sqrt(size**dimensions))

    def forward(self) -> Tensor:
        # (1, C, *size)
        return self.kept(lambda: self.hyper_kernel(on_rows(self.output, self.hidden())))

    def hidden(self, after: Callable[[int, Tensor], Tensor] | None = None) -> Tensor:
        """h_L (hidden, P), P positions; `after`, if given, makes of layer i's h what follows it."""
        coords, bias_map = self.coords.flatten(2)[0], self.bias_map.flatten(1)  # (d, P), (1, P)
        h = on_rows(self.filters[0], coords)  # h_0 = g_0(c)
        for i, linear in enumerate(self.linears):
            # g_i(c) (U_i h + u_i) + P
            h = torch.addcmul(bias_map, on_rows(self.filters[i + 1], coords), on_rows(linear, h))
            h = h if after is None else after(i, h)
        return h

    def hyper_kernel(self, rows: Tensor) -> Tensor:
        """A matrix (C, P) as (1, C, *size)."""
        return rows.view(1, -1, *self.coords.shape[2:])

    def at_size(self, size: int) -> None:
        """Sample the coordinates anew, `size` per axis, and interpolate the bias map, in place."""
        dimensions = self.coords.shape[1]
        self.coords = coordinates(dimensions, size).to(self.coords)
        resize(self, size)


def forget_kernels(model: nn.Module) -> None:
    """Let every slow network in the model compute anew what it kept, as when its work is to be
    counted.
    """
    for module in model.modules():
        if isinstance(module, KeepsKernel):
            module._kept = None


def resample(bias_map: Tensor, size: int) -> Tensor:
    """Interpolate a map (1, 1, n[, n]) linearly to `size` per axis; the end points stay
    (coordinates -1, 1).
    """
    dimensions = bias_map.ndim - 2
    mode = "linear" if dimensions == 1 else "bilinear"
    return F.interpolate(bias_map, size=[size] * dimensions, mode=mode, align_corners=True)


def resize(module: nn.Module, size: int) -> None:
    """Interpolate a module's bias map to `size` positions per axis, in place."""
    own: Tensor = module.bias_map  # type: ignore[assignment]
    module.bias_map = nn.Parameter(resample(own.detach(), size), own.requires_grad)


class SRenormalization(nn.Module):
    """h <- alpha * stopgrad(h) + beta * h / ||h|| for h (channels, P), the norm per channel over
    all positions.

    Args:
        channels: as its name says.
        trainable: learn alpha and beta (the release never trained nor saved them).
    """

    alpha: Tensor
    beta: Tensor

    def __init__(self, channels: int, dimensions: int, trainable: bool = False):
        super().__init__()
        shape = (1, channels, *[1] * dimensions)
        for name, start in (("alpha", 1.0), ("beta", 0.1)):
            value = torch.full(shape, start)
            if trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        alpha, beta = self.alpha.view(-1, 1), self.beta.view(-1, 1)
        return torch.addcmul(alpha * h.detach(), beta, F.normalize(h, dim=-1))


class LocalSlowNet(SlowNet):
    """Context-dependent slow net of a local branch: its depth-wise kernels depend on the (batch's)
    input.

    Context: x pooled to k x k, reduced to the hidden channels, averaged over the batch, mapped,
    GELU: q.
    Layer:   h = g_i(c) * (U_i h + u_i) + P;  h = s-renormalisation(h);  h = h * (T_i q + t_i).

    Args:
        channels: C of the input and of the kernels.
        size: k, odd.
        hidden, depth, omega_0, alpha, beta: as for SlowNet.
        context: False drops q and its gates.
        context_init: how the two maps before q start, "linear" or "torch", see Pointwise.
        renormalization: False drops that step.
        trainable_renormalization: see SRenormalization.

    Returns:
        forward(x): depth-wise kernels (C, 1, k[, k]).

    Source: arXiv 2401.17948.
    Golden: terminator_slow_net_local (gradients check the stop-gradient).
    """

    def __init__(
        self,
        dimensions: int,
        size: int,
        channels: int,
        hidden: int,
        depth: int = 2,
        omega_0: float = 2000.0,
        alpha: float = 6.0,
        beta: float = 1.0,
        context: bool = True,
        renormalization: bool = True,
        trainable_renormalization: bool = False,
        context_init: str = "linear",
    ):
        super().__init__(dimensions, size, channels, hidden, depth, omega_0, alpha, beta)
        self.size = size
        self.renormalizations = listed(
            SRenormalization(hidden, dimensions, trainable_renormalization)
            if renormalization
            else nn.Identity()
            for _ in range(depth)
        )
        self.context_mean: BatchStatistic | None = None
        if context:
            self.reduce = Pointwise(channels, hidden, init=context_init)
            self.context_mean = BatchStatistic(1, hidden, *[size] * dimensions)
            self.context = Pointwise(hidden, hidden, init=context_init)
            self.gates = listed(Pointwise(hidden, hidden, bias=1.0) for _ in range(depth))

    def context_vector(self, x: Tensor, over_batch: BatchStatistic) -> Tensor:
        """q (hidden, P) of the batch x (N, C, *positions), or the calibrated one.

        Pooling and reduction are linear, so the mean over the batch may come first, where it costs
        least.
        """
        if over_batch.is_fixed:
            mean = over_batch.fixed().to(self.bias_map.dtype)
        else:
            image = mean_over(x, 0, keepdim=True, dtype=self.bias_map.dtype)  # (1, C, *positions)
            mean = over_batch.mean_over_batch(self.reduce(adaptive_mean(image, self.size)))
        return F.gelu(on_rows(self.context, mean.flatten(2)[0]))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # it sees the input, which a SlowNet does not
        if self.context_mean is None or self.context_mean.is_fixed:
            return self.kept(lambda: self.kernel(x))
        with torch.autocast(x.device.type, enabled=False):
            return self.kernel(x)

    def kernel(self, x: Tensor) -> Tensor:
        """The kernels, computed now."""
        q = None if self.context_mean is None else self.context_vector(x, self.context_mean)

        def gated(i: int, h: Tensor) -> Tensor:
            h = self.renormalizations[i](h)
            return h if q is None else h * on_rows(self.gates[i], q)  # T q + t

        rows = on_rows(self.output, self.hidden(gated))
        return self.hyper_kernel(rows).transpose(0, 1)  # (C, 1, k[, k])


class FourierSlowNet(nn.Module):
    """W = V [sin(2 pi B c), cos(2 pi B c)] + v, with B fixed and drawn from a normal distribution.

    Args:
        dimensions: d of the coordinates.
        out_channels: C.
        features: rows of B.
        sigma: their deviation, in periods per unit of coordinate.

    Shapes: coordinates (1, d, *positions) to (1, C, *positions).
    """

    frequencies: Tensor

    def __init__(self, dimensions: int, out_channels: int, features: int = 32, sigma: float = 1.0):
        super().__init__()
        self.register_buffer("frequencies", sigma * torch.randn(features, dimensions))
        self.output = nn.Linear(2 * features, out_channels)

    def forward(self, coords: Tensor) -> Tensor:
        if coords.shape[1] != self.frequencies.shape[1]:
            raise ValueError(
                f"the coordinates are {tuple(coords.shape)}; allowed: {self.frequencies.shape[1]} "
                "dimensions, (1, d, *positions)"
            )
        phase = 2 * torch.pi * torch.einsum("fd,nd...->n...f", self.frequencies, coords)
        # (1, C, *positions)
        return self.output(torch.cat([phase.sin(), phase.cos()], dim=-1)).movedim(-1, 1)
