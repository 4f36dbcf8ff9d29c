"""The slow-fast link: any slow network and any fast network, joined by the HyperZ.Z.W operator.

    link = terminator.connect(slow_network, fast_network, at="features", input_shape=(3, 32, 32))
    link.start()                         # do the shapes fit? if not, what does not
    link.send_data(coordinates)          # the hyper-kernels W (without data: of the grid of the
        activations)
    logits = link.receive_data(images)   # the fast network, Z replaced by (W * Z) T with T = Z
    logits = link(images)                # both at once, for training

`Terminator` has the same four methods for parts of its own blocks.

Source: arXiv 2401.17948 (the operator); the names are those that the release's README announced.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from terminator import hyperzzw
from terminator.layers import listed
from terminator.slow_net import grid


def connect(
    slow_network: nn.Module | Sequence[nn.Module],
    fast_network: nn.Module,
    *,
    at: str | Sequence[str] = "",
    operator: str = "matrix",
    input_shape: Sequence[int] | None = None,
) -> "Link":
    """Join a slow and a fast network.

    Args:
        slow_network: coordinates (1, d, *positions), or another tensor that `send_data` hands over,
            to a hyper-kernel (1, C, *positions), or (N, C, *positions) if it depends on the input;
            one per name in `at`.
        fast_network: any module; its submodules named in `at` give the activations Z (N, C,
            *positions).
        at: names as in `fast_network.named_modules()`; "" is the network's own output.
        operator: matrix, convolution or causal_convolution.
        input_shape: (C, *positions) of the fast network's input; without it the first batch tells.

    Raises:
        ValueError: for names or an operator that do not exist, or as many slow networks as there
            are not names.
    """
    return Link(slow_network, fast_network, at, operator, input_shape)


class Link(nn.Module):
    """A slow and a fast network in one module, trained together; see `connect`."""

    _was_sent = False  # whether `send_data` was the last that made hyper-kernels, and not `forward`

    def __init__(
        self,
        slow_network: nn.Module | Sequence[nn.Module],
        fast_network: nn.Module,
        at: str | Sequence[str],
        operator: str,
        input_shape: Sequence[int] | None,
    ):
        super().__init__()
        if isinstance(slow_network, nn.Module) and not isinstance(slow_network, nn.ModuleList):
            slow_network = [slow_network]
        self.slow_networks = listed(cast(Sequence[nn.Module], slow_network))
        self.fast_network = fast_network
        self.at = (at,) if isinstance(at, str) else tuple(at)
        self.operator = operator
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.hyper_kernels: list[Tensor] = []  # of the last send_data
        self._data: Any = None  # what send_data was given
        self._started_for: tuple[int, ...] | None = None
        known = dict(fast_network.named_modules())
        if missing := [name for name in self.at if name not in known]:
            raise ValueError(
                f"at is {', '.join(map(repr, missing))}; allowed: {', '.join(map(repr, known))}"
            )
        if len(self.slow_networks) != len(self.at):
            raise ValueError(
                f"{len(self.slow_networks)} slow networks for {len(self.at)} places in `at`; "
                "allowed: one each"
            )
        if operator not in hyperzzw.OPERATORS:
            raise ValueError(f"operator is {operator!r}; allowed: {', '.join(hyperzzw.OPERATORS)}")

    def start(self) -> Self:
        """Run both networks once, on zeros and on the grid of the activations, and compare the
        shapes.

        Raises:
            ValueError: that lists everything that does not fit, or if the input's shape is not
                known yet.
        """
        if self.input_shape is None:
            raise ValueError(
                "input_shape is None, so no shape can be checked; pass input_shape=(C, *positions) "
                "to connect, or call receive_data with a batch first"
            )
        problems = []
        with evaluating(self):
            for i, (name, z) in enumerate(zip(self.at, self._probe(), strict=True)):
                try:
                    self.register_buffer(f"grid{i}", grid(z.shape[2:]).to(z), persistent=False)
                    self._operate(z, self.slow_networks[i](getattr(self, f"grid{i}")))
                except (ValueError, RuntimeError, TypeError) as error:
                    problems.append(
                        f"at {name!r}, where the activations are {tuple(z.shape)}: {error}"
                    )
        if problems:
            raise ValueError(
                "the slow and the fast network do not fit:\n  " + "\n  ".join(problems)
            )
        self._started_for = self.input_shape
        return self

    def send_data(self, slow_network_data: Tensor | Sequence[Tensor] | None = None) -> list[Tensor]:
        """Hand the slow networks their coordinates or context, one tensor for all or one each.

        Returns:
            the hyper-kernels, one per place, with their gradients; `receive_data` uses them until
            the next call.
        """
        if slow_network_data is None and self._started_for is None:
            self.start()
        self.hyper_kernels = self._made_of(slow_network_data)
        self._data, self._was_sent = slow_network_data, True
        return self.hyper_kernels

    def receive_data(self, fast_network_data: Tensor) -> Any:
        """The fast network's answer to a batch, its activations Z replaced by S T, S = W * Z, T =
        Z.

        The hyper-kernels are those of the last `send_data`; after weights of the slow networks
        have changed, and for a second backward pass, send the data again, as `link(x)` does.
        """
        if self._starts_for(fast_network_data) or not (self._was_sent and self.hyper_kernels):
            self.send_data(self._data)
        return self._answer(fast_network_data, self.hyper_kernels)

    def forward(self, x: Tensor) -> Any:
        """send_data with what it was given last (at first the grid), then receive_data(x); the
        hyper-kernels are of this answer alone.
        """
        self._starts_for(x)
        kernels = self._made_of(self._data)
        if not torch.compiler.is_compiling():  # from a graph that is exported, none can be taken
            self.hyper_kernels = kernels
        self._was_sent = False
        return self._answer(x, kernels)

    def _made_of(self, data: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
        """A hyper-kernel for every place, of one tensor for all, or one each; None is the grid."""
        one = data is None or isinstance(data, Tensor)
        each = [data] * len(self.at) if one else list(cast(Sequence[Tensor], data))
        if len(each) != len(self.at):
            raise ValueError(
                f"{len(each)} tensors for {len(self.at)} slow networks; allowed: one for all, or "
                "one each"
            )
        return [
            network(getattr(self, f"grid{i}") if own is None else own)
            for i, (network, own) in enumerate(zip(self.slow_networks, each, strict=True))
        ]

    def _answer(self, x: Tensor, kernels: Sequence[Tensor]) -> Any:
        hooks = [
            self.fast_network.get_submodule(name).register_forward_hook(self._replace(kernel))
            for name, kernel in zip(self.at, kernels, strict=True)
        ]
        try:
            return self.fast_network(x)
        finally:
            for hook in hooks:
                hook.remove()

    def _starts_for(self, x: Tensor) -> bool:
        """Start anew where the slow networks get the grid, and x has another size than it."""
        shape = tuple(x.shape[1:])
        if self._data is not None or self._started_for == shape:
            return False
        self.input_shape = shape
        self.start()
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy: hyper-kernels are of a step of this one, and made again when needed."""
        return {**self.__dict__, "hyper_kernels": []}

    def _replace(self, kernel: Tensor):
        return lambda module, inputs, z: self._operate(z, kernel)

    def _operate(self, z: Tensor, kernel: Tensor) -> Tensor:
        check_hyper_kernel(kernel, z.shape)
        return hyperzzw.global_operator(self.operator, hyperzzw.slow_score(z, kernel), z)

    def _probe(self) -> list[Tensor]:
        """The activations at every place for two inputs of zeros."""
        found: dict[str, Tensor] = {}
        parameter = next(self.parameters(), torch.zeros(()))
        assert self.input_shape is not None  # `start` has looked
        x = torch.zeros(2, *self.input_shape, device=parameter.device, dtype=parameter.dtype)

        def remember(name: str):
            def hook(module: nn.Module, inputs: Any, z: Any) -> Tensor:
                if not isinstance(z, Tensor) or z.ndim < 3:
                    shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
                    raise ValueError(
                        f"at {name!r} the fast network gives {shape}; allowed: activations (N, C, "
                        "*positions); name another place with at="
                    )
                found[name] = z
                return z

            return hook

        hooks = [
            self.fast_network.get_submodule(name).register_forward_hook(remember(name))
            for name in self.at
        ]
        try:
            self.fast_network(x)
        except RuntimeError as error:
            raise ValueError(
                f"the fast network does not take inputs {tuple(x.shape)}: {error}"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if missing := [name for name in self.at if name not in found]:
            raise ValueError(
                f"the fast network never calls {', '.join(map(repr, missing))}; name another place"
            )
        return [found[name] for name in self.at]


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients for a while, so that a trial run leaves no trace in
    the networks.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        for network in networks:
            network.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def check_hyper_kernel(kernel: Any, shape: Sequence[int]) -> None:
    """Raise ValueError if a hyper-kernel does not fit activations of this shape (N, C,
    *positions).
    """
    given = tuple(kernel.shape) if isinstance(kernel, Tensor) else type(kernel).__name__
    if (
        not isinstance(kernel, Tensor)
        or given[1:] != tuple(shape[1:])
        or given[0] not in (1, shape[0])
    ):
        wanted = ", ".join(map(str, shape[1:]))
        raise ValueError(
            f"the slow network gives {given}; allowed: (1, {wanted}) or ({shape[0]}, {wanted})"
        )
