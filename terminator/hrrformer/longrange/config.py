"""Every setting of a long range experiment; the defaults are the released Image task's,
multi-layer.

The groups: data (which sequences), listops, pathfinder (how these are generated), network,
optimizer, train, test.

Source: arXiv 2305.19534 and its released code.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from terminator.config import KNOWN_DATA, Training
from terminator.data.pathfinder_settings import PathfinderSettings
from terminator.data.sequences.settings import ListOpsSettings
from terminator.hrrformer.settings import (
    MASKINGS,
    TASKS,
    TEMPERATURES,
    UNBINDINGS,
    WEIGHTS,
    NetworkSettings,
    task_settings,
)
from terminator.mixers.registry import TOKEN_MIXERS
from terminator.runtime.settings import ConfigError, Experiment, at_least, require

KINDS = (
    "pixels",
    "listops",
    "listops_files",
    "imdb",
    "imdb_halves",
    "aan",
    "pathfinder",
    "byte_files",
)
GENERATED = ("listops", "pathfinder")
SIZES = ("layers", "width", "mlp_width", "heads")
# what network.mixer_size is to each
MIXER_SIZES = {
    "local": "block",
    "linformer": "rank",
    "performer": "features",
    "luna": "memory",
    "synthesizer": "rank",
    "nystromformer": "landmarks",
}


@dataclass(frozen=True)
class LongRangeData:
    """Which sequences, how many, how long."""

    MOST = {
        "length": 2**20,
        "image_size": 2**14,
        "train_size": 2**24,
        "test_size": 2**24,
        "val_size": 2**24,
    }
    PLACES = {"name": KNOWN_DATA}

    # listops, pathfinder: generated; imdb, imdb_halves (pairs); or the user's files
    kind: str = "pixels"
    name: str = "CIFAR10"  # pixels: the image data set, see terminator.data; files: their folder
    length: int = 1024  # tokens of a sequence: longer ones are cut, shorter ones padded
    padding: str = "full"  # full: to `length`, as released; batch: to the batch's longest (EMBER)
    # keep so many examples, every class with its share; generated data need a number
    train_size: int | None = None
    val_size: int | None = None  # the same of validation examples
    test_size: int | None = None  # the same of test examples
    image_size: int | None = None  # pixels: resize to this many a side
    leave_out_last_tenth: bool = False  # pixels: of the training images, as released
    # pixels: all in one fixed random order, drawn with this seed
    permutation_seed: int | None = None

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "data.kind", self.kind, ", ".join(KINDS))
        require(self.padding in ("full", "batch"), "data.padding", self.padding, "full, batch")
        at_least(
            self,
            "data",
            {
                "length": 1,
                "train_size": 2,
                "val_size": 0,
                "test_size": 2,
                "image_size": 2,
                "permutation_seed": 0,
            },
        )
        if self.kind in GENERATED:
            for name in ("train_size", "test_size"):
                require(
                    getattr(self, name) is not None,
                    f"data.{name}",
                    None,
                    f"a number, for data.kind={self.kind}",
                )
        if self.kind != "pixels":
            for name in ("image_size", "leave_out_last_tenth", "permutation_seed"):
                value = getattr(self, name)
                require(
                    value in (None, False),
                    f"data.{name}",
                    value,
                    f"nothing for data.kind={self.kind}",
                )


@dataclass(frozen=True)
class LongRangeNetwork:
    """One of the paper's networks, and what is changed in it; nothing: as the task has it."""

    LARGEST, MOST = 2**16, {"layers": 1_000}  # of integers, see settings

    task: str = "image"  # whose network: listops, text, retrieval, image, pathfinder, pathx, ember
    mixer: str = "hrrformer"  # one of mixers.registry.TOKEN_MIXERS, or none (branch removed)
    layers: int | None = None  # number of layers; nothing: the task's, as for the next four
    width: int | None = None  # E, channels of a token
    mlp_width: int | None = None  # channels within the MLPs
    heads: int | None = None  # of the mixer; they divide the width
    dropout: float | None = None  # of embeddings, mixer outputs and MLP outputs
    masking: str = ""  # none, released, full; nothing: the task's
    weights: str = "softmax"  # hrrformer: softmax, or the controls uniform (1/T) and off
    unbinding: str = "approximate"  # hrrformer: approximate, exact
    projection: bool = False  # hrrformer: queries, keys and values of unit magnitude
    temperature: str = "one"  # hrrformer: one, learned
    # block, rank, features, memory, landmarks of the mixers that have one
    mixer_size: int | None = None
    classes: int | None = None  # of the data; leave it out

    def __post_init__(self) -> None:
        require(self.task in TASKS, "network.task", self.task, ", ".join(TASKS))
        require(
            self.mixer in ("none", *TOKEN_MIXERS),
            "network.mixer",
            self.mixer,
            ", ".join(("none", *TOKEN_MIXERS)),
        )
        require(
            self.masking in ("", *MASKINGS), "network.masking", self.masking, ", ".join(MASKINGS)
        )
        at_least(self, "network", {**dict.fromkeys(SIZES, 1), "mixer_size": 1, "classes": 2})
        require(
            self.dropout is None or 0 <= self.dropout < 1,
            "network.dropout",
            self.dropout,
            "from 0 to below 1",
        )
        require(
            self.mixer_size is None or self.mixer in MIXER_SIZES,
            "network.mixer_size",
            self.mixer_size,
            f"nothing for network.mixer={self.mixer}",
        )
        for name, allowed in (
            ("weights", WEIGHTS),
            ("unbinding", UNBINDINGS),
            ("temperature", TEMPERATURES),
        ):
            require(
                getattr(self, name) in allowed,
                f"network.{name}",
                getattr(self, name),
                ", ".join(allowed),
            )
        useless, why = self.hrrformer_options(), f"network.mixer={self.mixer}"
        if self.mixer == "hrrformer":  # whose other options are of similarities, which only
            fixed = useless.pop("weights", "")  # a softmax reads
            useless, why = useless if fixed else {}, f"network.weights={fixed}"
        for name, value in useless.items():
            raise ConfigError(f"network.{name} is {value!r}; allowed: the default, for {why}")

    def hrrformer_options(self) -> dict[str, Any]:
        """What differs from the released attention."""
        released = {
            "weights": "softmax",
            "unbinding": "approximate",
            "projection": False,
            "temperature": "one",
        }
        return {
            name: getattr(self, name)
            for name, value in released.items()
            if getattr(self, name) != value
        }

    def settings(self, length: int) -> NetworkSettings:
        """The network's settings, for sequences of so many tokens.

        Raises:
            ConfigError: for sizes that do not go together.
        """
        options = self.hrrformer_options()
        if self.mixer_size is not None:
            options[MIXER_SIZES[self.mixer]] = self.mixer_size
        changes = {name: getattr(self, name) for name in (*SIZES, "dropout", "classes")}
        changes = {name: value for name, value in changes.items() if value is not None}
        if self.masking:
            changes["masking"] = self.masking
        return task_settings(
            self.task, length=length, mixer=self.mixer, mixer_options=options, **changes
        )


@dataclass(frozen=True)
class LongRangeOptimizer:
    """Adam; rate(n) = max(floor, learning_rate * decay_rate^(max(n - 1, 0) / S)) after n updates.

    S = decay_examples / batch, rounded down. The released code counts training and held-out
    examples.
    """

    name: str = "Adam"  # or AdamW, with decoupled weight decay (Path-X)
    learning_rate: float = 1e-3  # before it decays
    decay_rate: float = 0.95  # factor of the rate per pass over decay_examples
    decay_examples: int | None = None  # examples of a pass; nothing: those of all splits
    floor: float = 1e-5  # the rate falls no lower
    weight_decay: float = 0.0  # decoupled with AdamW

    def __post_init__(self) -> None:
        require(self.name in ("Adam", "AdamW"), "optimizer.name", self.name, "Adam, AdamW")
        require(
            self.learning_rate > 0,
            "optimizer.learning_rate",
            self.learning_rate,
            "a positive number",
        )
        require(
            0 < self.decay_rate <= 1, "optimizer.decay_rate", self.decay_rate, "above 0, up to 1"
        )
        require(
            0 <= self.floor <= self.learning_rate,
            "optimizer.floor",
            self.floor,
            f"0 to optimizer.learning_rate={self.learning_rate}",
        )
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        at_least(self, "optimizer", {"decay_examples": 1})


@dataclass(frozen=True)
class LongRangeTrain(Training):
    """A training on sequences; Fourier transforms stay in float32."""

    epochs: int = 20  # passes over the training examples
    batch_size: int = 32  # sequences (or pairs) per step, over all processes

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "train", {"epochs": 1})


@dataclass(frozen=True)
class LongRangeTest:
    """How accuracies are measured; every example counts."""

    __test__ = False  # not a test case

    batch_size: int = 64  # sequences at once
    # measure the loss and accuracy of so many training examples as well, without dropout
    train_examples: int = 0

    def __post_init__(self) -> None:
        at_least(self, "test", {"batch_size": 1, "train_examples": 0})


@dataclass(frozen=True)
class LongRangeConfig(Experiment):
    """One long range experiment, whole.

    Raises:
        ConfigError: from the constructor, for settings that do not go together.
    """

    data: LongRangeData = field(default_factory=LongRangeData)
    listops: ListOpsSettings = field(default_factory=ListOpsSettings)
    pathfinder: PathfinderSettings = field(default_factory=PathfinderSettings)
    network: LongRangeNetwork = field(default_factory=LongRangeNetwork)
    optimizer: LongRangeOptimizer = field(default_factory=LongRangeOptimizer)
    train: LongRangeTrain = field(default_factory=LongRangeTrain)
    test: LongRangeTest = field(default_factory=LongRangeTest)

    def __post_init__(self) -> None:
        super().__post_init__()
        settings = self.network_settings
        pairs = self.data.kind in ("aan", "imdb_halves")
        require(
            settings.pair == pairs,
            "network.task",
            self.network.task,
            f"{'retrieval' if pairs else 'any but retrieval'} for data.kind={self.data.kind}",
        )
        require(
            self.data.padding == "full" or settings.masking != "none",
            "data.padding",
            self.data.padding,
            "full, for a network without a mask",
        )
        if self.data.kind == "pathfinder":
            side = self.pathfinder.size
            require(
                self.data.length == side**2,
                "data.length",
                self.data.length,
                f"{side**2}, for pathfinder.size={side}",
            )
        if self.data.kind == "listops":
            least = self.listops.max_length - 1
            require(
                self.data.length >= least,
                "data.length",
                self.data.length,
                f"at least {least}, for listops.max_length={self.listops.max_length}",
            )

    def updated(self, *dotlist: str, **values: Any) -> "LongRangeConfig":
        """As of every experiment; but the name of an image data set (a preset's, say) is left
        behind where the data become another kind's.
        """
        changed = super().updated(*dotlist, **values)
        standard = self.data.name == LongRangeData.name or self.data.name not in KNOWN_DATA
        if changed.data.kind == self.data.kind or standard:
            return changed
        unnamed = replace(self, data=replace(self.data, name=LongRangeData.name))
        return unnamed.updated(*dotlist, **values)

    @property
    def network_settings(self) -> NetworkSettings:
        """The network's settings, whole; the classes are the task's until the data are known."""
        return self.network.settings(self.data.length)

    def resolved(self, classes: int, examples: int) -> "LongRangeConfig":
        """The same with the data's classes, and the number of examples in all splits.

        Raises:
            ConfigError: if other numbers of classes were asked for.
        """
        given = self.network.classes
        require(
            given in (None, classes),
            "network.classes",
            given,
            f"{classes}, that of the data; leave it out",
        )
        decay = self.optimizer.decay_examples or examples
        return replace(
            self,
            network=replace(self.network, classes=classes),
            optimizer=replace(self.optimizer, decay_examples=decay),
        )
