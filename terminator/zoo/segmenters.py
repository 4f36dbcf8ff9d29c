"""Networks that label every pixel of a photograph, given away."""

from pathlib import Path
from typing import Any

from torch import nn

from terminator.data.pictures.segmentation import SegmentationData
from terminator.hamburger.commands import SEGMENTATION_SETTINGS
from terminator.hamburger.segmentation.config import SegmentationConfig
from terminator.hamburger.segmentation.predict import class_names, load_segmenter
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.runtime import text, weights
from terminator.zoo.kinds import Facts, Kind


class Segmenters(Kind):
    """See the top of this file."""

    system = SEGMENTATION
    settings = SEGMENTATION_SETTINGS
    examples = "pictures"
    use = "segment {name} PICTURE... --show FOLDER"
    of_data = frozenset({("model", "in_channels"), ("model", "classes")})

    def load(self, path: Path) -> Facts:
        model, config, _ = load_segmenter(path)
        return Facts(path, model, config, weights.info_of(path))

    def measure(
        self, model: nn.Module, config: SegmentationConfig, data: SegmentationData
    ) -> dict[str, dict[str, Any]]:
        return self.system.results(self.system.trainer(model, config, data))

    def sizes(self, data: SegmentationData) -> dict[str, int]:
        found = data.info.sizes
        return {"train": found["train"], "test": found.get("test", found.get("val", 0))}

    def short(self, found: Facts) -> tuple[str, str]:
        name = self.system.judged_by({"results": found.card["accuracy"]})
        answer = found.card["accuracy"][name]
        size = "x".join(map(str, found.config.data.size or ()))
        return (
            f"{found.config.model.classes} classes of pixels" + (f", {size}" if size else ""),
            f"mIoU {answer['miou']:.2f} % of {answer['pictures']} {name} pictures",
        )

    def table(self, found: Facts) -> list[tuple[str, ...]]:
        return [
            ("mIoU of exactly this file", "pixels right", "pictures"),
            *(
                (
                    f"{answer['miou']:.2f} %",
                    f"{answer['accuracy']:.2f} %",
                    f"{answer['pictures']:,}, {split}",
                )
                for split, answer in found.card["accuracy"].items()
            ),
        ]

    def rows(self, found: Facts) -> dict[str, str]:
        size = found.config.data.size
        seen = f"seen at {size[0]} x {size[1]} pixels" if size else "seen at their own size"
        return {
            "takes": f"photographs, {seen}; labels come in the photograph's size",
            "classes": ", ".join(map(text.markdown, class_names(found.config, found.info))),
        }
