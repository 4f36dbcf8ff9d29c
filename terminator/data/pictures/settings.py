"""Settings of labelled pictures: what is trained on, and how pictures are augmented. Nothing here
loads torch.
"""

from dataclasses import dataclass

from terminator.runtime.settings import ConfigError

TRAINED = {  # data.train by name
    "context": ("train",),
    "shapes": ("train",),
    "camvid": ("train", "trainval"),
    "voc2012": ("train", "trainaug", "trainval"),
}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True)
class ScaleCropFlip:
    """Scale by a random factor, pad below and at the right to the crop's size, crop at a random
    place, mirror.

    Source: the released segmentation code of arXiv 2109.04553.
    """

    # one of them, each as probable; images bilinear, labels nearest
    scales: tuple[float, ...] = SCALES
    # height and width; nothing: pictures as they are, of one size
    crop: tuple[int, ...] | None = (513, 513)
    flip: bool = True  # left to right, with probability 1/2

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(
                f"augmentation.scales is {self.scales}; allowed: positive factors, e.g. [1.0]"
            )
        if self.crop is not None and (len(self.crop) != 2 or min(self.crop) < 1):
            raise ConfigError(
                f"augmentation.crop is {self.crop}; allowed: [height,width] of at least 1, or "
                "nothing"
            )
        if self.crop is None and tuple(self.scales) != (1.0,):
            raise ConfigError(
                f"augmentation.scales is {self.scales}; allowed: [1.0] without augmentation.crop"
            )
