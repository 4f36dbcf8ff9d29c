"""An interactive panel: choose image, block and channel, and see what the block computes there.

Where nobody can choose (a headless run) or ipywidgets is missing, a grid of all blocks takes its
place.
"""

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from terminator.model import BlockParts
from terminator.plots import fields as plots_fields
from terminator.runtime.progress import HEADLESS_VARIABLE

# (block's parts, image, channel) to named (H, W)
Fields = Callable[[BlockParts, int, int], Mapping[str, Tensor]]


def score_fields(part: BlockParts, image: int, channel: int) -> dict[str, Tensor]:
    """Hyper-kernel, slow score, and (if the block has one) interaction score s - 1/2 of one
    channel.
    """
    fields = {
        "hyper-kernel W": part.hyper_kernel[0, channel],
        "slow score S = W * Z": part.slow_score[image, channel],
    }
    if part.interaction_score is not None:
        fields["interaction score - 1/2"] = part.interaction_score[image, channel] - 0.5
    return fields


def operator_fields(part: BlockParts, image: int, channel: int) -> dict[str, Tensor]:
    """The steps of the global operator in one channel: W, S = W * Z, T and O."""
    return {
        "W": part.hyper_kernel[0, channel],
        "S = W * Z": part.slow_score[image, channel],
        "T (fast)": part.branches["fast"][image, channel],
        "O": part.branches["o"][image, channel],
    }


class Panel:
    """Fields of any image, block and channel of one forward pass.

    Args:
        images: (N, C, H, W), as the network took them.
        blocks: its parts (return_parts=True).
        names: of the images.
        fields: what is shown, score_fields or operator_fields.

    `shown` holds the fields that were drawn last, by name.
    """

    def __init__(
        self,
        images: Tensor,
        blocks: Sequence[BlockParts],
        names: Sequence[str] = (),
        fields: Fields = score_fields,
    ):
        self.images, self.blocks, self.fields = images.detach(), blocks, fields
        self.names = list(names) or [str(i) for i in range(len(images))]
        self.shown: dict[str, Tensor] = {}
        if len(self.names) != len(images):
            raise ValueError(
                f"names has {len(self.names)} entries for {len(images)} images; allowed: one for "
                "each"
            )

    def figure(self, image: int = 0, block: int = 1, channel: int = 1):
        """The picture of one choice; blocks and channels count from 1."""
        self.shown = dict(self.fields(self.blocks[block - 1], image, channel - 1))
        return plots_fields.block_view(
            self.images[image],
            self.shown,
            f"image {self.names[image]}, block {block}, channel {channel}",
        )

    def grid(self, image: int = 0, channel: int = 1):
        """The picture without choice: every block, one channel."""
        columns = [self.fields(part, image, channel - 1) for part in self.blocks]
        rows = [plots_fields.Row(name, [column[name] for column in columns]) for name in columns[0]]
        picture = plots_fields.Row("image", [self.images[image]] * len(columns), "image")
        titles = [f"block {i}" for i in range(1, len(columns) + 1)]
        return plots_fields.field_grid(
            [picture, *rows], titles, f"image {self.names[image]}, channel {channel}"
        )

    def widget(self) -> Any:
        """Three controls above the picture (ipywidgets); a choice redraws it."""
        import ipywidgets

        image = ipywidgets.Dropdown(
            options=[(name, i) for i, name in enumerate(self.names)], description="image"
        )
        block = ipywidgets.IntSlider(1, 1, len(self.blocks), description="block")
        channel = ipywidgets.IntSlider(1, 1, self._channels(1), description="channel")
        picture = ipywidgets.Image(format="png")

        def draw(_: Any = None) -> None:
            # which moves a channel that the block does not have
            channel.max = self._channels(block.value)
            buffer = io.BytesIO()
            self.figure(image.value, block.value, channel.value).savefig(buffer, format="png")
            picture.value = buffer.getvalue()

        for control in (image, block, channel):
            control.observe(draw, names="value")
        draw()
        return ipywidgets.VBox([ipywidgets.HBox([image, block, channel]), picture])

    def _channels(self, block: int) -> int:
        return self.blocks[block - 1].hyper_kernel.shape[1]


def can_choose() -> bool:
    """Whether somebody sits at the notebook, and ipywidgets is there."""
    return (
        not os.environ.get(HEADLESS_VARIABLE)
        and "ipykernel" in sys.modules
        and importlib.util.find_spec("ipywidgets") is not None
    )


def explore(
    images: Tensor,
    blocks: Sequence[BlockParts],
    names: Sequence[str] = (),
    fields: Fields = score_fields,
) -> Any:
    """The panel, or a grid of all blocks where nobody can choose; arguments as for Panel."""
    panel = Panel(images, blocks, names, fields)
    return panel.widget() if can_choose() else panel.grid()
