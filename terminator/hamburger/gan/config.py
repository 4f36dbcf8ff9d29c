"""Every setting of a GAN experiment; the defaults are the released HamGAN-baby's, for images of
128x128 pixels.

Source: arXiv 2109.04553 and its released code.
"""

from dataclasses import dataclass, field, replace

from terminator.config import KNOWN_DATA, TrainingInSteps
from terminator.runtime.settings import ConfigError, Experiment, at_least, require

CONTEXTS = ("none", "attention", "NMF", "VQ", "CD")  # NMF, VQ, CD: a Hamburger with that ham
SMALLEST = 4  # pixels a side where the generator starts and the discriminator ends


@dataclass(frozen=True)
class GanData:
    """Which images."""

    MOST = {"image_size": 2**14, "train_size": 2**24, "test_size": 2**24}
    PLACES = {"name": KNOWN_DATA}

    name: str = "digits"  # digits, MNIST, CIFAR10, ..., or a class folder or archive
    image_size: int = 128  # pixels a side: 4 times a power of 2
    channels: int | None = None  # 1: grey, 3: colour; None: as they are
    train_size: int | None = None  # keep this many training images
    # keep this many test images, the reference of the Frechet distance
    test_size: int | None = None

    def __post_init__(self) -> None:
        steps = self.image_size // SMALLEST
        require(
            self.image_size >= 2 * SMALLEST
            and self.image_size % SMALLEST == 0
            and steps & (steps - 1) == 0,
            "data.image_size",
            self.image_size,
            "8, 16, 32, 64, 128 and so on",
        )
        require(self.channels in (None, 1, 3), "data.channels", self.channels, "1, 3, or nothing")
        at_least(self, "data", {"train_size": 2, "test_size": 2})


@dataclass(frozen=True)
class GanModel:
    """Both networks; channels are multiples of the width."""

    LARGEST = 2**20  # of all integers here, see settings

    width: int = 64  # channels at full resolution, doubled with every halving
    latent: int = 128  # random numbers that an image is made from (z)
    classes: int | None = None  # None: the data's
    context: str = "NMF"  # none, attention (SAGAN's), or a Hamburger with NMF, VQ, CD
    context_size: int = 32  # pixels a side where it stands, in both networks
    rank_divisor: int = 8  # R = channels / this
    steps: int = 6  # K: updates of the Hamburger's factors
    one_step: bool = True  # gradient of the last coefficients only; False: through all steps

    def __post_init__(self) -> None:
        require(self.context in CONTEXTS, "model.context", self.context, ", ".join(CONTEXTS))
        at_least(
            self,
            "model",
            {"width": 8, "latent": 1, "context_size": 4, "rank_divisor": 1, "steps": 0},
        )
        require(self.width % 8 == 0, "model.width", self.width, "a multiple of 8")
        require(
            self.width % self.rank_divisor == 0,
            "model.rank_divisor",
            self.rank_divisor,
            f"a divisor of model.width={self.width}",
        )


@dataclass(frozen=True)
class GanOptimizer:
    """Adam for both networks, one step of each per iteration, at constant rates."""

    generator_rate: float = 1e-4  # learning rate of the generator
    discriminator_rate: float = 4e-4  # learning rate of the discriminator
    beta1: float = 0.0  # of Adam: memory of the gradients' mean
    beta2: float = 0.999  # of Adam: memory of their squares' mean

    def __post_init__(self) -> None:
        for name in ("generator_rate", "discriminator_rate"):
            require(
                getattr(self, name) > 0,
                f"optimizer.{name}",
                getattr(self, name),
                "a positive number",
            )
        for name in ("beta1", "beta2"):
            require(
                0 <= getattr(self, name) < 1,
                f"optimizer.{name}",
                getattr(self, name),
                "from 0 to below 1",
            )


@dataclass(frozen=True)
class GanTrain(TrainingInSteps):
    """A training of a generator and a discriminator, which take turns in one process."""

    train_steps: int = 2_000_000
    steps_between_saves: int = 10_000
    batch_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "train", {"batch_size": 2})
        require(
            self.accumulate == 1,
            "train.accumulate",
            self.accumulate,
            "1: a GAN takes its batches whole",
        )
        require(
            self.compile == "none",
            "train.compile",
            self.compile,
            "none: a GAN's two networks train as they are",
        )
        require(
            not self.distributed,
            "train.distributed",
            self.distributed,
            "false: a GAN trains in one process",
        )


@dataclass(frozen=True)
class GanTest:
    """The Frechet distance, in the features of a small classifier that is trained on the same
    data.
    """

    LARGEST = 2**20  # of all integers here, see settings

    __test__ = False  # not a test case

    samples: int = 50_176  # generated images, in the end
    samples_per_epoch: int = 2048  # generated images, after every epoch
    repeats: int = 5  # draws of samples, in the end
    classifier_epochs: int = 10  # of the classifier's training
    grid_classes: int = 8  # columns of the grids that are kept
    grid_rows: int = 4  # rows of the grids that are kept: samples of each class

    def __post_init__(self) -> None:
        at_least(
            self,
            "test",
            {
                "samples": 2,
                "samples_per_epoch": 2,
                "repeats": 1,
                "classifier_epochs": 1,
                "grid_classes": 1,
                "grid_rows": 1,
            },
        )


@dataclass(frozen=True)
class GanConfig(Experiment):
    """One GAN experiment, whole.

    Raises:
        ConfigError: from the constructor, for settings that do not go together.
    """

    data: GanData = field(default_factory=GanData)
    model: GanModel = field(default_factory=GanModel)
    optimizer: GanOptimizer = field(default_factory=GanOptimizer)
    train: GanTrain = field(default_factory=GanTrain)
    test: GanTest = field(default_factory=GanTest)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.context != "none":
            sizes = [size for size in self.sizes if size < self.data.image_size]
            require(
                self.model.context_size in sizes,
                "model.context_size",
                self.model.context_size,
                f"{', '.join(map(str, sizes))} for data.image_size={self.data.image_size}",
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels a side after each up-block of the generator."""
        sizes, size = [], SMALLEST
        while size < self.data.image_size:
            size *= 2
            sizes.append(size)
        return tuple(sizes)

    def shape(self) -> tuple[int, int]:
        """Channels of the images, and classes.  Raises: ConfigError before they are known
        (`resolved`).
        """
        channels, classes = self.data.channels, self.model.classes
        if channels is None or classes is None:
            raise ConfigError(
                f"data.channels is {channels!r}, model.classes {classes!r}; allowed: integers; "
                "GanConfig.resolved fills in the data's"
            )
        return channels, classes

    def resolved(self, channels: int, classes: int) -> "GanConfig":
        """The same with the images' channels and classes filled in."""
        for key, given, value in (
            ("data.channels", self.data.channels, channels),
            ("model.classes", self.model.classes, classes),
        ):
            require(given in (None, value), key, given, f"{value}, that of the data; leave it out")
        return replace(
            self,
            data=replace(self.data, channels=channels),
            model=replace(self.model, classes=classes),
        )
