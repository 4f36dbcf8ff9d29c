"""The settings of a classification experiment: data, network, training, evaluation; the groups
beside the model's.
"""

import dataclasses
from dataclasses import dataclass, field

from terminator.config import (
    KNOWN_DATA,
    SHAPE,
    SLOW_NEURAL_LOSS_FORMS,
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    Training,
)
from terminator.mixers.registry import MAP_MIXERS
from terminator.runtime.settings import (
    Experiment,
    at_least,
    changed_settings,
    require,
    require_one_of,
)

# network.name: the settings of `model` that it takes besides the shape of the data; None: all
NETWORKS = {
    "terminator": None,
    "resnet18": (),
    "ccnn": ("omega_0", "gamma_alpha", "gamma_beta"),
    "host": (),
    "cnn": (),
}
OBSERVED = ("terminator", "resnet18")  # of networks, those that can be looked into while they train


@dataclass(frozen=True)
class NetworkConfig:
    """Which network: Terminator, whose shape and switches are the group `model`, or a baseline."""

    LARGEST, MOST = 2**20, {"blocks": 1_000}  # of integers, see settings

    name: str = "terminator"  # terminator; resnet18, ccnn, cnn (see baselines.py); host (host.py)
    hidden: int = 140  # channels of ccnn's blocks
    blocks: int = 4  # blocks of ccnn; 4 x 140 and 6 x 380 have been published
    dropout: float = 0.0  # in the blocks of ccnn
    form: str = "plain"  # of ccnn: plain (our first reading), released (the authors' code; images)
    # of ccnn's masks at first, half an image is 1; nothing: 0.25, in the released form 0.75
    mask_width: float | None = None
    mixer: str = "none"  # the global mixer of host

    def __post_init__(self) -> None:
        require_one_of("network.name", self.name, NETWORKS)
        require_one_of("network.mixer", self.mixer, MAP_MIXERS)
        at_least(self, "network", {"hidden": 1, "blocks": 1})
        require(0 <= self.dropout < 1, "network.dropout", self.dropout, "from 0 to below 1")
        require_one_of("network.form", self.form, ("plain", "released"))
        require(
            self.mask_width is None or self.mask_width > 0,
            "network.mask_width",
            self.mask_width,
            "a positive number, or nothing",
        )
        for f in dataclasses.fields(self)[1:]:
            owner = "host" if f.name == "mixer" else "ccnn"
            require(
                self.name == owner or getattr(self, f.name) == f.default,
                f"network.{f.name}",
                getattr(self, f.name),
                f"{f.default} for network.name={self.name}",
            )

    def check_model(self, model: ModelConfig) -> None:
        """Refuse settings of Terminator for a network that has no such parts.

        Raises:
            ConfigError: that names the first of them.
        """
        takes = NETWORKS[self.name]
        if takes is None:
            return
        for key, value in changed_settings(model, ModelConfig()).items():
            require(
                key in SHAPE + takes,
                f"model.{key}",
                value,
                f"the default, since network.name is {self.name}, which takes only "
                f"{', '.join(f'model.{name}' for name in SHAPE + takes)}",
            )
        require(
            model.dimensions == 2 or self.name == "ccnn",
            "model.dimensions",
            model.dimensions,
            f"2 for network.name={self.name}; ccnn and terminator take sequences",
        )
        require(
            model.dimensions == 2 or self.form == "plain",
            "model.dimensions",
            model.dimensions,
            "2 for network.form=released, which is of images",
        )


@dataclass(frozen=True)
class DatasetConfig:
    """Which images, in what form."""

    MOST = {
        "image_size": 2**14,
        "crop_padding": 2**14,
        "train_size": 2**24,
        "test_size": 2**24,
        "held_out": 2**24,
    }
    PLACES = {"name": KNOWN_DATA}

    # digits, MNIST, CIFAR10, CIFAR100, STL10, ... (datasets), or a folder, an archive
    name: str = "digits"
    image_size: int | None = None  # resize to this many pixels a side
    channels: int | None = None  # 1: grey, 3: colour (grey is repeated)
    train_size: int | None = None  # keep this many training images
    test_size: int | None = None  # keep this many test images
    # test on so many training images, left out of training, instead of the test images
    held_out: int = 0
    view: str = "image"  # image, sequence (pixels in order), permuted (in one fixed random order)
    permutation_seed: int = 0  # of the random order of view=permuted
    crop_padding: int = 4  # random crop after mirroring so many pixels on each side; 0: none
    flip: bool = True  # random horizontal flip
    # encode images again, as JPEG of this quality, once they are resized; nothing: as they are
    jpeg_quality: int | None = None
    # pictures that cannot be read: refuse (they are listed), skip (left out, and noted)
    on_error: str = "refuse"

    def __post_init__(self) -> None:
        require_one_of("dataset.view", self.view, ("image", "sequence", "permuted"))
        require_one_of("dataset.on_error", self.on_error, ("refuse", "skip"))
        require(
            self.channels in (None, 1, 3), "dataset.channels", self.channels, "1, 3, or nothing"
        )
        at_least(self, "dataset", {"image_size": 2, "train_size": 2, "test_size": 2})
        quality = self.jpeg_quality
        require(
            quality is None or (1 <= quality <= 95 and self.view == "image"),
            "dataset.jpeg_quality",
            quality,
            "1 to 95 for images, or nothing",
        )
        at_least(self, "dataset", {"held_out": 0, "crop_padding": 0})


@dataclass(frozen=True)
class TrainConfig(Training):
    """A training of images or sequences."""

    do: bool = True  # False: load a model and test it
    epochs: int = 100  # passes over the training images
    label_smoothing: float = 0.1  # share of a label that is spread over all classes
    slow_neural_loss: float = 1.0  # weight of the slow neural loss; 0: without
    slow_neural_loss_form: str = "kernel"  # of the slow neural loss: kernel, or channel_sum
    # measure features, slow scores and hyper-kernels of test images after every epoch, of networks
    # that can be looked into (OBSERVED)
    observe: bool = False

    def __post_init__(self) -> None:
        require(
            self.batch_size >= 2,
            "train.batch_size",
            self.batch_size,
            "an integer of at least 2: one image has no batch statistics",
        )
        super().__post_init__()
        at_least(self, "train", {"epochs": 1})
        require(
            0 <= self.label_smoothing < 1,
            "train.label_smoothing",
            self.label_smoothing,
            "from 0 to below 1",
        )
        require(
            self.slow_neural_loss >= 0, "train.slow_neural_loss", self.slow_neural_loss, "0 or more"
        )
        require_one_of(
            "train.slow_neural_loss_form", self.slow_neural_loss_form, SLOW_NEURAL_LOSS_FORMS
        )


@dataclass(frozen=True)
class TestConfig:
    """The two evaluations."""

    __test__ = False  # not a test case

    batch_size: int = 64  # images whose statistics are shared in the evaluation as released
    # leave out an incomplete last batch, as the release did; else it is filled up
    drop_last: bool = False
    calibration_images: int = 2048  # training images for the calibrated statistics

    def __post_init__(self) -> None:
        at_least(self, "test", {"batch_size": 2, "calibration_images": 2})


@dataclass(frozen=True)
class PretrainedConfig:
    """A model to start from or to test."""

    PLACES = {"filename": ()}

    load: bool = False  # start from the model in pretrained.filename, or test it (train.do=False)
    # a model of the kit by its name, a file of this kit (.safetensors) or a released checkpoint
    # (.ckpt, .pt, .pth)
    filename: str = ""

    def __post_init__(self) -> None:
        require(
            not self.load or bool(self.filename),
            "pretrained.filename",
            self.filename,
            "a file, if pretrained.load is true",
        )


@dataclass(frozen=True)
class Config(Experiment):
    """One experiment, whole."""

    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    test: TestConfig = field(default_factory=TestConfig)
    pretrained: PretrainedConfig = field(default_factory=PretrainedConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network.name != "terminator":
            # of presets that are released runs: another network may be asked for in their place
            start = ModelConfig.local_context_init
            model = dataclasses.replace(self.model, local_context_init=start)
            object.__setattr__(self, "model", model)
        if self.network.name not in OBSERVED:  # presets watch, but these have nothing to be seen
            object.__setattr__(self, "train", dataclasses.replace(self.train, observe=False))
        self.network.check_model(self.model)
