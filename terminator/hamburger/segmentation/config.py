"""Every setting of a segmentation experiment; the defaults are the release's for PASCAL VOC 2012,
first stage.

The groups: data, augmentation, model (the network), ham (the Hamburger in it), optimizer, train,
test.

Source: arXiv 2109.04553 and its released segmentation code.
"""

from dataclasses import dataclass, field, replace

from terminator.config import TrainingInSteps
from terminator.data.pictures.settings import TRAINED, ScaleCropFlip
from terminator.hamburger.settings import HamburgerSettings, HamNetSettings
from terminator.runtime.settings import Experiment, at_least, require

MSFLIP = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # the release's scales, each plain and mirrored


@dataclass(frozen=True)
class PictureConfig:
    """Which pictures, in what form."""

    MOST = {"size": 2**14, "train_size": 2**24, "test_size": 2**24}
    PLACES = {"name": TRAINED}

    name: str = "voc2012"  # context, shapes, camvid, voc2012, or a folder or archive like CamVid's
    # voc2012: train, trainaug, trainval; camvid: train, trainval; else train
    train: str = "trainaug"
    size: tuple[int, ...] | None = None  # height and width to resize to
    train_size: int | None = None  # a fixed random part of so many training pictures
    test_size: int | None = None  # a fixed random part of so many pictures of each other split

    def __post_init__(self) -> None:
        require(bool(self.name), "data.name", self.name, ", ".join(TRAINED))
        allowed = TRAINED.get(self.name, TRAINED["camvid"])
        require(
            self.train in allowed,
            "data.train",
            self.train,
            f"{', '.join(allowed)} for data.name={self.name}",
        )
        require(
            self.size is None or (len(self.size) == 2 and min(self.size) >= 2),
            "data.size",
            self.size,
            "[height,width] of at least 2, or nothing",
        )
        at_least(self, "data", {"train_size": 2, "test_size": 1})


@dataclass(frozen=True)
class PolyOptimizer:
    """SGD; rate(t) = lr (1 - t/T)^power, taken anew every `refresh` steps.

    Convolution weights decay; those of BN and the scales of a V2+ do not, nor do biases, whose rate
    is `bias_factor` times the others'.
    """

    lr: float = 9e-3  # learning rate of the first step
    momentum: float = 0.9  # of SGD
    weight_decay: float = 1e-4  # of convolution weights
    bias_factor: float = 2.0  # the rate of biases, in multiples of the others'
    power: float = 0.9  # how the rate falls: (1 - t/T) to this power
    refresh: int = 10  # take the rate anew every so many steps

    def __post_init__(self) -> None:
        for name in ("lr", "bias_factor"):
            require(
                getattr(self, name) > 0,
                f"optimizer.{name}",
                getattr(self, name),
                "a positive number",
            )
        for name in ("weight_decay", "power"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "from 0 to below 1")
        at_least(self, "optimizer", {"refresh": 1})

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step of so many."""
        return self.lr * (1 - (step - step % self.refresh) / steps) ** self.power


@dataclass(frozen=True)
class SegmentationTrain(TrainingInSteps):
    """A training of a segmentation network; the ham stays in float32."""

    PLACES = {"start_from": ()}

    train_steps: int = 60_000
    steps_between_saves: int = 1_000
    batch_size: int = 16  # pictures per step, over all processes
    seed: int = 66  # of all random numbers; 66 is the release's
    # over all pixels of the crop, ignored ones as zeros; labelled: over the others only
    loss_mean: str = "all"
    auxiliary_weight: float = 0.4  # of the second classifier's loss, with model.auxiliary
    start_from: str = ""  # a model's file: the second stage starts from the weights of the first

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "train", {"batch_size": 2})
        require(
            self.loss_mean in ("all", "labelled"),
            "train.loss_mean",
            self.loss_mean,
            "all, labelled",
        )
        require(
            self.auxiliary_weight >= 0, "train.auxiliary_weight", self.auxiliary_weight, "0 or more"
        )


@dataclass(frozen=True)
class SegmentationTest:
    """How the mean intersection over union is measured, on whole pictures."""

    MOST = {"repeats": 2**20, "divisor": 2**14}

    __test__ = False  # not a test case

    batch_size: int = 1  # pictures at once, where they have one size
    # pad below and at the right, with zeros, to the next size that is 1 modulo this
    divisor: int = 8
    # evaluations with other random bases; the first is the result, the others its spread
    repeats: int = 1
    bases_seed: int = 0  # of the random bases of the first evaluation
    multi_scale: bool = False  # in the end also with MSFlip
    scales: tuple[float, ...] = MSFLIP  # of MSFlip: factors of a picture's size
    flip: bool = True  # each scale also mirrored
    # so many validation pictures after every epoch; nothing: all
    pictures_per_epoch: int | None = None

    def __post_init__(self) -> None:
        at_least(
            self,
            "test",
            {"batch_size": 1, "divisor": 1, "repeats": 1, "bases_seed": 0, "pictures_per_epoch": 1},
        )
        require(
            bool(self.scales) and min(self.scales) > 0,
            "test.scales",
            self.scales,
            "positive factors",
        )


@dataclass(frozen=True)
class SegmentationConfig(Experiment):
    """One segmentation experiment, whole.

    Raises:
        ConfigError: from the constructor, for settings that do not go together.
    """

    data: PictureConfig = field(default_factory=PictureConfig)
    augmentation: ScaleCropFlip = field(default_factory=ScaleCropFlip)
    model: HamNetSettings = field(default_factory=HamNetSettings)
    ham: HamburgerSettings = field(default_factory=HamburgerSettings)
    optimizer: PolyOptimizer = field(default_factory=PolyOptimizer)
    train: SegmentationTrain = field(default_factory=SegmentationTrain)
    test: SegmentationTest = field(default_factory=SegmentationTest)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ham.dimensions == 2, "ham.dimensions", self.ham.dimensions, "2, for pictures")
        require(
            self.model.context != "bread" or self.ham.mode != "dual",
            "model.context",
            "bread",
            "another with ham.mode=dual",
        )

    def resolved(self, in_channels: int, classes: int) -> "SegmentationConfig":
        """The same with the data's channels and classes filled into the model."""
        standard = HamNetSettings()
        for name, value in (("in_channels", in_channels), ("classes", classes)):
            given = getattr(self.model, name)
            require(
                given in (getattr(standard, name), value),
                f"model.{name}",
                given,
                f"{value}, that of the data; leave it out",
            )
        return replace(self, model=replace(self.model, in_channels=in_channels, classes=classes))
