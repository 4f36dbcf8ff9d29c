"""The slow-fast link inside a Terminator: networks of the user's in the place of its blocks' own.

Source: arXiv 2401.17948; the names are those that the release's README announced, as in link.py.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from terminator.config import ModelConfig
from terminator.link import check_hyper_kernel, evaluating
from terminator.sfne import SFNEBlock
from terminator.slow_net import SlowNet, coordinates


class ConnectedSlowNet(SlowNet):
    """A slow network of the user's in the place of a block's own; losses, penalties and sizes treat
    it as one.
    """

    def __init__(self, network: nn.Module, dimensions: int, size: int):
        nn.Module.__init__(self)
        self.network = network
        self.register_buffer("coords", coordinates(dimensions, size), persistent=False)
        self.data: Tensor | None = None

    def forward(self) -> Tensor:
        return self.network(self.coords if self.data is None else self.data)

    def at_size(self, size: int) -> None:
        """Sample the coordinates anew, in place."""
        self.coords = coordinates(self.coords.shape[1], size).to(self.coords)


class Connectable(nn.Module):
    """What makes a network of SFNE blocks take slow and fast networks from outside; a base of
    `Terminator`.
    """

    config: ModelConfig
    blocks: Sequence[SFNEBlock]
    classifier: nn.Linear
    is_connected = False

    def connect(
        self,
        slow_network: Sequence[nn.Module | None] | None = None,
        fast_network: Sequence[nn.Module | None] | None = None,
    ) -> Self:
        """Put networks in the place of the blocks' own, in place; None leaves a block's own.

        Args:
            slow_network: per block, coordinates (1, d, *positions) to the hyper-kernel (1, C,
                *positions).
            fast_network: per block, (N, C, *positions) to the same, in the place of the gated unit
                of the activations (`rgu_fast`); C of block i is `config.channels[i]`.

        Raises:
            ValueError: if there are not as many as blocks, or a shape does not fit (see start).
        """
        for name, networks in (("slow_network", slow_network), ("fast_network", fast_network)):
            if networks is not None and len(networks) != len(self.blocks):
                raise ValueError(
                    f"{name} has {len(networks)} networks; allowed: {len(self.blocks)}, one per "
                    "block, None for a block that keeps its own"
                )
        config, own = self.config, [(block.slow_net, block.rgu_fast) for block in self.blocks]
        for block, network in zip(self.blocks, slow_network or (), strict=False):
            if network is not None:
                joined = ConnectedSlowNet(network, config.dimensions, config.sizes.size)
                block.slow_net = joined.to(self.classifier.weight)
        for block, network in zip(self.blocks, fast_network or (), strict=False):
            if network is not None:
                block.rgu_fast = network
        try:
            self.start()
        except BaseException:
            for block, (slow, fast) in zip(self.blocks, own, strict=True):
                block.slow_net, block.rgu_fast = slow, fast
            raise
        self.is_connected = True
        return self.train(self.training)

    def start(self) -> Self:
        """Check that every block's slow and fast network fit it.

        Raises:
            ValueError: that lists what does not.
        """
        config, problems = self.config, []
        for i, block in enumerate(self.blocks):
            shape = [config.sizes.size] * config.dimensions
            z = torch.zeros(2, config.channels[i], *shape).to(self.classifier.weight)
            try:
                with evaluating(block.slow_net, block.rgu_fast):
                    kernel, given = block.slow_net(), tuple(block.rgu_fast(z).shape)
                check_hyper_kernel(kernel, z.shape)
                if given != tuple(z.shape):
                    raise ValueError(
                        f"the fast network gives {given} for {tuple(z.shape)}; allowed: the same "
                        "shape"
                    )
            except (ValueError, RuntimeError, TypeError, LookupError, AttributeError) as error:
                problems.append(f"block {i + 1}: {error}")
        if problems:
            raise ValueError("the connected networks do not fit:\n  " + "\n  ".join(problems))
        return self

    def send_data(self, slow_network_data: Tensor | None = None) -> list[Tensor]:
        """Hand the connected slow networks other coordinates or a context (None: the grid again).

        Returns:
            the hyper-kernels of all blocks, with their gradients.
        """
        connected = [b.slow_net for b in self.blocks if isinstance(b.slow_net, ConnectedSlowNet)]
        before = [network.data for network in connected]
        for network in connected:
            network.data = slow_network_data
        try:
            kernels = [block.slow_net() for block in self.blocks]
            for kernel, channels in zip(kernels, self.config.channels, strict=False):
                positions = [self.config.sizes.size] * self.config.dimensions
                check_hyper_kernel(kernel, (len(kernel), channels, *positions))
        except BaseException:  # what does not fit is not kept
            for network, data in zip(connected, before, strict=True):
                network.data = data
            raise
        return kernels

    def receive_data(self, fast_network_data: Tensor) -> Tensor:
        """Logits of a batch; the slow networks are asked anew with what they were sent."""
        return self(fast_network_data)
