"""Hamburger as a global mixer: of tokens (B, T, E), and of feature maps (N, C, *positions)."""

import torch.nn.functional as F
from torch import Tensor, nn

from terminator.hamburger.ham import make_ham
from terminator.hamburger.settings import HamSettings
from terminator.layers import Pointwise
from terminator.mixers.base import check_sequence


class Hamburger(nn.Module):
    """Hamburger's decomposition (NMF) between two linear maps, without its shortcut: Wu ham(relu(Wl
    x)).

    The first bases are shared by all inputs, so that an evaluation draws no random numbers.

    Args:
        rank: R, at most the width; nothing: half of it.
        steps: K of the decomposition.
        online_update: of the shared bases, "off", or "training" (as meant; the
            release updates in evaluation only), see HamSettings.

    Source: arXiv 2109.04553; see terminator.hamburger.
    """

    uses_mask = True

    def __init__(
        self, width: int, rank: int | None = None, steps: int = 6, online_update: str = "off"
    ):
        super().__init__()
        self.width = width
        rank = max(1, width // 2) if rank is None else rank
        self.lower, self.upper = Pointwise(width, width), Pointwise(width, width)
        self.ham = make_ham(
            width,
            HamSettings(
                kind="NMF",
                rank=rank,
                train_steps=steps,
                eval_steps=steps,
                random_init=False,
                online_update=online_update,
            ),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = check_sequence(x, self.width, mask)
        return self.mix(x.transpose(1, 2), mask).transpose(1, 2)

    def mix(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix x (B, E, *positions); a mask (B, P) for one axis of positions only."""
        lowered = F.relu(self.lower(x)).flatten(2)  # (B, E, P)
        if mask is not None:
            # a column of zeros gets no coefficients, and so moves no basis
            lowered = lowered * mask[:, None, :]
        positions = lowered.shape[2]
        # a ham takes no fewer columns than bases
        missing = max(0, self.ham.settings.rank - positions)
        mixed = self.ham(F.pad(lowered, (0, missing)))[..., :positions]
        return self.upper(mixed.reshape(x.shape))


class Ham(Hamburger):
    """The mixer Hamburger on feature maps (N, C, *positions), its shared bases updated online in
    training.
    """

    def __init__(self, channels: int, rank: int | None = None):
        super().__init__(channels, rank, online_update="training")

    def forward(self, x: Tensor) -> Tensor:  # of maps, where the mixer takes tokens
        return self.mix(x)
