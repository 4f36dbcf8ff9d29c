"""Every setting, once: frozen dataclasses set from Python, from notebook parameters and from the command line.

Dot-list keys are the dataclasses' paths, e.g. `optimizer.lr=0.001215 "optimizer.betas=[0.5,0.95]"`; where
the released code had a key, ours has the same name.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type or cannot be used; the message names it."""


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raise ConfigError naming the key, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} is {value!r}; allowed: {allowed}")


def require_one_of(key: str, value: Any, allowed: Iterable[str]) -> None:
    """Raise ConfigError unless the value is one of these."""
    require(value in allowed, key, value, ", ".join(allowed))


def at_least(settings: Any, group: str, minima: Mapping[str, int]) -> None:
    """Raise ConfigError for a setting of a group that is below its minimum; None is not."""
    for name, least in minima.items():
        value = getattr(settings, name)
        require(value is None or value >= least, f"{group}.{name}", value, f"an integer of at least {least}")


class Experiment:
    """Base of a whole experiment's settings, a frozen dataclass whose fields are groups of settings."""

    def updated(self, *dotlist: str, **values: Any) -> Self:
        """A copy with other values: `config.updated("train.epochs=6", optimizer={"lr": 0.01})`.

        Raises:  ConfigError that names the key, its value and what is allowed.
        """
        return _merge(_merge(self, parse_dotlist(dotlist), ""), values, "")


@dataclass(frozen=True)
class Training:
    """Batch, numbers and machines of a training, whatever is trained; a task adds its length and losses."""

    batch_size: int = 64  # examples per optimiser step, over all processes
    accumulate: int = 1  # split a batch into so many parts, one after another
    seed: int = 0
    precision: str = "float32"  # float32, or bf16 (autocast; what is delicate stays in float32)
    compile: str = "none"  # torch.compile of training's network: none, default, reduce-overhead (with CUDA graphs)
    device: str = "auto"  # auto, cpu, cuda
    deterministic: bool = False  # torch's deterministic algorithms: the same bits on a GPU, too
    distributed: bool = False  # under torchrun
    num_nodes: int = 1  # machines, with torchrun
    avail_gpus: int = -1  # processes per machine, with torchrun; -1: as many as torchrun started

    def __post_init__(self) -> None:
        at_least(self, "train", {"batch_size": 1, "accumulate": 1, "num_nodes": 1})
        require(0 <= self.seed < 2**32, "train.seed", self.seed, "an integer from 0 to below 2**32")
        require(self.batch_size % self.accumulate == 0, "train.accumulate", self.accumulate,
                f"a divisor of train.batch_size={self.batch_size}")
        require_one_of("train.precision", self.precision, ("float32", "bf16"))
        require_one_of("train.compile", self.compile, ("none", "default", "reduce-overhead"))
        require(self.compile != "reduce-overhead" or self.accumulate == 1, "train.compile", self.compile,
                f"none or default with train.accumulate={self.accumulate}: a CUDA graph's next run overwrites the "
                "gradients of the part before")
        require_one_of("train.device", self.device, ("auto", "cpu", "cuda"))


@dataclass(frozen=True)
class TrainingInSteps(Training):
    """A training whose length is a number of steps; an epoch lies between two checkpoints."""

    train_steps: int = 1_000
    steps_between_saves: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "train", {"train_steps": 1, "steps_between_saves": 1})

    @property
    def epochs(self) -> int:
        """Checkpoints of a whole training; the last epoch may be shorter."""
        return -(-self.train_steps // self.steps_between_saves)


@dataclass(frozen=True)
class ModelConfig:
    """Terminator's shape and switches; the defaults are the released CIFAR-10 network.

    `size`, `in_channels`, `classes` and `factors` may stay None: the data set's, or the release's.
    """

    dimensions: int = 2  # 2: images, 1: sequences
    size: int | None = None  # pixels a side, or sequence length; None: 32
    in_channels: int | None = None  # None: 3
    classes: int | None = None  # None: 10
    factors: tuple[int, ...] | None = None  # growth of the channels per block; None: (4, 3, 2, 2, 2) or alike
    dropout: tuple[float, ...] = (0.0, 0.05, 0.05, 0.05, 0.05)  # per block; the last value repeats
    groups: int = 12  # channel groups of G-IBS
    operator: str = "matrix"  # global operator: matrix, convolution, causal_convolution (sequences)
    global_mixer: str = "hyperzzw"  # in the operator's place: hamburger, none (a linear map); ours, to compare
    omega_0: float = 2000.0  # base frequency of the slow nets
    gamma_alpha: float = 6.0  # shape of the Gamma distribution of their initial frequencies
    gamma_beta: float = 1.0  # its rate
    global_hidden: int = 64  # hidden channels of the global and spatial slow nets
    local_hidden: int = 32  # of the local slow nets
    channel_hidden: int = 32  # of the channel slow net in the hyper-channel interaction
    interaction_hidden: int = 16  # of the channel slow net in the hyper interaction
    local_sizes: tuple[int, ...] = (3, 9, 5, 7)  # kernel size per local branch l1..l4; 0 leaves one out
    standardization: str = "g_ibs"  # after the bottleneck: g_ibs, batch, instance, batch_affine
    rgu: bool = True  # False: a linear map in each RGU's place
    hyper_channel_interaction: bool = True  # False: interacted = IS(x)
    hyper_interaction: bool = True  # False: that branch is left out
    si_glu: bool = True  # False: that branch is left out
    skips: bool = True  # tiled earlier block outputs in blocks 3 to 5
    local_context: bool = True  # False: local kernels do not depend on the input
    renormalization: bool = True  # s-renormalisation in the local slow nets
    trainable_renormalization: bool = False  # learn its alpha, beta (the release did not)
    trainable_fast_bias: bool = False  # learn the scalars between blocks (the release did not)
    trained_size: int | None = None  # the size of training, where the model was asked for another one

    def __post_init__(self) -> None:
        require(self.dimensions in (1, 2), "model.dimensions", self.dimensions, "1 (sequences), 2 (images)")
        for name in ("size", "in_channels", "classes", "trained_size"):
            value = getattr(self, name)
            require(value is None or value >= 2 - (name == "in_channels"), f"model.{name}", value,
                    f"an integer of at least {2 - (name == 'in_channels')}, or nothing")
        for name in ("groups", "global_hidden", "local_hidden", "channel_hidden", "interaction_hidden"):
            require(getattr(self, name) >= 1, f"model.{name}", getattr(self, name), "an integer of at least 1")
        for name in ("omega_0", "gamma_alpha", "gamma_beta"):
            require(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "a positive number")
        require(bool(self.dropout) and all(0 <= p < 1 for p in self.dropout), "model.dropout", self.dropout,
                "numbers from 0 to below 1")
        require(len(self.local_sizes) == 4 and all(k == 0 or (k > 0 and k % 2) for k in self.local_sizes),
                "model.local_sizes", self.local_sizes, "four odd kernel sizes, 0 to leave a branch out")
        require_one_of("model.standardization", self.standardization, ("g_ibs", "batch", "instance", "batch_affine"))
        require_one_of("model.operator", self.operator, ("matrix", "convolution", "causal_convolution"))
        require_one_of("model.global_mixer", self.global_mixer, ("hyperzzw", "hamburger", "none"))
        require(self.global_mixer == "hyperzzw" or self.operator == "matrix", "model.operator", self.operator,
                f"the default, since model.global_mixer={self.global_mixer} takes its place")
        require(self.factors is None or (len(self.factors) > 0 and all(f >= 1 for f in self.factors)),
                "model.factors", self.factors, "at least one positive integer")

    def resolved(self) -> "ModelConfig":
        """The same with every None filled in, checked as a whole.

        Raises:  ConfigError for a length that does not fold, or channels that do not divide into the groups.
        """
        in_channels = self.in_channels or 3
        first = self.groups // math.gcd(in_channels, self.groups)  # in_channels * first divides into the groups
        size = self.size or 32
        full = dataclasses.replace(
            self, size=size, in_channels=in_channels, classes=self.classes or 10,
            factors=self.factors or (first, 3, 2, 2, 2), trained_size=self.trained_size or size)
        if full.dimensions == 2:
            require(full.operator != "causal_convolution", "model.operator", full.operator,
                    "matrix, convolution for images; causal only for sequences (dataset.view, model.dimensions=1)")
        elif full.operator == "matrix" and full.global_mixer == "hyperzzw":
            require(math.isqrt(size) ** 2 == size, "model.size", size,
                    'a square number for model.operator="matrix" on sequences; or use "convolution"')
        if full.standardization == "g_ibs":
            require(full.groups % 2 == 0, "model.groups", full.groups, "an even number")
            for i, channels in enumerate(full.channels[1:]):
                require(channels % full.groups == 0, "model.factors", full.factors,
                        f"factors whose products with {in_channels} input channels are multiples of model.groups="
                        f"{full.groups} (block {i + 1} would have {channels} channels), e.g. ({first}, 3, 2, 2, 2)")
        return full

    @property
    def channels(self) -> tuple[int, ...]:
        """Input channels of every block, and of the classifier."""
        widths = [self.in_channels]
        for factor in self.factors:
            widths.append(widths[-1] * factor)
        return tuple(widths)


NETWORKS = {  # network.name: the settings of `model` that it takes besides the shape of the data; None: all
    "terminator": None, "resnet18": (), "ccnn": ("omega_0", "gamma_alpha", "gamma_beta"), "host": (),
    "cnn": ()}
CONTEXTS = (  # network.mixer, see related/host.py
    "none", "hyperzzw_matrix", "hyperzzw_convolution", "attention_explicit", "attention_fused", "attention_linear",
    "hrrformer", "hamburger", "fourier_convolution", "large_kernel", "local", "linformer", "performer", "fnet", "luna",
    "synthesizer", "nystromformer")
SHAPE = ("dimensions", "size", "in_channels", "classes")  # of the model: what the data decide


@dataclass(frozen=True)
class NetworkConfig:
    """Which network: Terminator, whose shape and switches are the group `model`, or a baseline."""

    name: str = "terminator"  # terminator; resnet18, ccnn, cnn (see related/baselines.py); host (related/host.py)
    hidden: int = 140  # channels of ccnn
    blocks: int = 4  # of ccnn; 4 x 140 and 6 x 380 have been published
    dropout: float = 0.0  # in the blocks of ccnn
    mixer: str = "none"  # the global mixer of host

    def __post_init__(self) -> None:
        require_one_of("network.name", self.name, NETWORKS)
        require_one_of("network.mixer", self.mixer, CONTEXTS)
        for name in ("hidden", "blocks"):
            require(getattr(self, name) >= 1, f"network.{name}", getattr(self, name), "an integer of at least 1")
        require(0 <= self.dropout < 1, "network.dropout", self.dropout, "from 0 to below 1")
        for f in dataclasses.fields(self)[1:]:
            owner = "host" if f.name == "mixer" else "ccnn"
            require(self.name == owner or getattr(self, f.name) == f.default, f"network.{f.name}",
                    getattr(self, f.name), f"{f.default} for network.name={self.name}")

    def check_model(self, model: ModelConfig) -> None:
        """Refuse settings of Terminator for a network that has no such parts.

        Raises:  ConfigError that names the first of them.
        """
        takes = NETWORKS[self.name]
        if takes is None:
            return
        for key, value in changed_settings(model, ModelConfig()).items():
            require(key in SHAPE + takes, f"model.{key}", value,
                    f"the default, since network.name is {self.name}, which takes only "
                    f"{', '.join(f'model.{name}' for name in SHAPE + takes)}")
        require(model.dimensions == 2 or self.name == "ccnn", "model.dimensions", model.dimensions,
                f"2 for network.name={self.name}; ccnn and terminator take sequences")


@dataclass(frozen=True)
class DatasetConfig:
    """Which images, in what form."""

    name: str = "digits"  # digits, MNIST, FashionMNIST, CIFAR10, CIFAR100, STL10, or a class folder or archive
    image_size: int | None = None  # resize to this many pixels a side
    channels: int | None = None  # 1: grey, 3: colour (grey is repeated)
    train_size: int | None = None  # keep this many training images
    test_size: int | None = None  # keep this many test images
    held_out: int = 0  # test on so many training images, left out of training, instead of the test images
    view: str = "image"  # image, sequence (pixels in order), permuted (in one fixed random order)
    permutation_seed: int = 0
    crop_padding: int = 4  # random crop after mirroring so many pixels on each side; 0: none
    flip: bool = True  # random horizontal flip

    def __post_init__(self) -> None:
        require_one_of("dataset.view", self.view, ("image", "sequence", "permuted"))
        require(self.channels in (None, 1, 3), "dataset.channels", self.channels, "1, 3, or nothing")
        for name in ("image_size", "train_size", "test_size"):
            value = getattr(self, name)
            require(value is None or value >= 2, f"dataset.{name}", value, "an integer of at least 2, or nothing")
        require(self.held_out >= 0, "dataset.held_out", self.held_out, "0 or more images")
        require(self.crop_padding >= 0, "dataset.crop_padding", self.crop_padding, "0 or more pixels")


BETAS = {"Kar3": (0.5, 0.95), "Kar2": (0.95,), "AdamW": (0.9, 0.999), "SGD": (), "Lion": (0.9, 0.99)}


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser and penalty; the defaults are the release's for CIFAR-10."""

    name: str = "Kar3"  # Kar3, Kar2, AdamW, SGD, Lion
    lr: float = 0.001215  # peak learning rate
    betas: tuple[float, ...] | None = None  # None: the optimiser's own
    l2_reg: float = 5e-5  # weight of the norm penalty
    momentum: float = 0.9  # SGD
    weight_decay: float = 0.0  # AdamW, SGD, Lion

    def __post_init__(self) -> None:
        require_one_of("optimizer.name", self.name, BETAS)
        require(self.lr > 0, "optimizer.lr", self.lr, "a positive number")
        count, betas = len(BETAS[self.name]), self.betas
        require(betas is None or (len(betas) == count and all(0 <= b < 1 for b in betas)), "optimizer.betas", betas,
                f"{count} numbers from 0 to below 1 for {self.name}")
        for name in ("l2_reg", "momentum", "weight_decay"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")


@dataclass(frozen=True)
class SchedulerConfig:
    """Learning rate over the iterations."""

    name: str = "cosine"  # cosine (warm-up, then cosine to 0), released (see optim.released_factor), constant
    warmup_epochs: float | None = None  # None: 8 % of the epochs, as in the release (8 of 100)

    def __post_init__(self) -> None:
        require_one_of("scheduler.name", self.name, ("cosine", "released", "constant"))
        require(self.warmup_epochs is None or self.warmup_epochs >= 0, "scheduler.warmup_epochs",
                self.warmup_epochs, "0 or more, or nothing")


@dataclass(frozen=True)
class TrainConfig(Training):
    """A training of images or sequences."""

    do: bool = True  # False: load a model and test it
    epochs: int = 100
    label_smoothing: float = 0.1
    slow_neural_loss: float = 1.0  # its weight; 0: without
    slow_neural_loss_form: str = "kernel"  # kernel, or channel_sum
    observe: bool = False  # measure features, slow scores and hyper-kernels of test images after every epoch

    def __post_init__(self) -> None:
        require(self.batch_size >= 2, "train.batch_size", self.batch_size,
                "an integer of at least 2: one image has no batch statistics")
        super().__post_init__()
        at_least(self, "train", {"epochs": 1})
        require(0 <= self.label_smoothing < 1, "train.label_smoothing", self.label_smoothing, "from 0 to below 1")
        require(self.slow_neural_loss >= 0, "train.slow_neural_loss", self.slow_neural_loss, "0 or more")
        require_one_of("train.slow_neural_loss_form", self.slow_neural_loss_form, ("kernel", "channel_sum"))


@dataclass(frozen=True)
class TestConfig:
    """The two evaluations."""

    __test__ = False  # not a test case

    batch_size: int = 64  # images whose statistics are shared in the evaluation as released
    drop_last: bool = False  # leave out an incomplete last batch, as the release did; else it is filled up
    calibration_images: int = 2048  # training images for the calibrated statistics

    def __post_init__(self) -> None:
        require(self.batch_size >= 2, "test.batch_size", self.batch_size, "an integer of at least 2")
        require(self.calibration_images >= 2, "test.calibration_images", self.calibration_images, "at least 2")


@dataclass(frozen=True)
class PretrainedConfig:
    """A model to start from or to test."""

    load: bool = False
    filename: str = ""  # a model saved by this kit (.safetensors) or a released checkpoint (.ckpt, .pt, .pth)

    def __post_init__(self) -> None:
        require(not self.load or bool(self.filename), "pretrained.filename", self.filename,
                "a file, if pretrained.load is true")


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
        self.network.check_model(self.model)


def parse_dotlist(dotlist: Iterable[str]) -> dict[str, Any]:
    """["a.b=1", "c=[2,3]"] as nested dictionaries; values are read as YAML.

    Raises:  ConfigError for an entry without a key or "=", or whose value is no YAML.
    """
    entries = list(dotlist)
    for entry in entries:
        if "=" not in entry or not entry.split("=", 1)[0].strip():
            raise ConfigError(f"cannot read {entry!r}; settings are written KEY=VALUE, e.g. train.epochs=6")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist(entries))
    except (OmegaConfBaseException, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"cannot read {' '.join(entries)!r}: {' '.join(str(error).split())}") from error
    except Exception as error:  # PyYAML's errors share no base with the above
        raise ConfigError(f"cannot read the value in {' '.join(entries)!r}: {' '.join(str(error).split())}") from error


def from_dict(kind: type, values: Mapping[str, Any]) -> Any:
    """Build a configuration dataclass from nested dictionaries, strictly.

    Raises:  ConfigError for an unknown key, a wrong type or an impossible value.
    """
    return _merge(kind(), values, "")


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dictionaries of JSON values; the inverse of from_dict."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


WHERE_KEYS = ("do", "device", "distributed", "num_nodes", "avail_gpus")  # of train: where it runs, not what


def identity(config: Any) -> dict[str, Any]:
    """What makes an experiment this one: the settings that differ from the defaults, but not where it runs.

    A setting that a later version adds, at its default, leaves the identity as it was.
    """
    changes = changed_settings(config, type(config)())
    for key in WHERE_KEYS:
        changes.get("train", {}).pop(key, None)
    return {group: values for group, values in changes.items() if values}


def changed_settings(config: Any, default: Any) -> dict[str, Any]:
    """Nested dictionaries of the settings whose values differ from those of `default`."""
    found = {}
    for key, value in to_dict(config).items():
        standard = getattr(default, key)
        if dataclasses.is_dataclass(standard):
            if nested := changed_settings(getattr(config, key), standard):
                found[key] = nested
        elif value != _plain(standard):
            found[key] = value
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def _merge(config: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(type(config))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            raise ConfigError(f"unknown setting {prefix}{key}{f'; did you mean {prefix}{near[0]}?' if near else '.'} "
                              f"Allowed: {', '.join(prefix + name for name in hints)}")
        current = getattr(config, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                names = ", ".join(f"{prefix}{key}.{f.name}" for f in dataclasses.fields(current))
                raise ConfigError(f"{prefix}{key} is a group of settings, not {value!r}; allowed: {names}")
            changes[key] = _merge(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _coerce(prefix + key, value, hints[key])
    return dataclasses.replace(config, **changes)


def _coerce(key: str, value: Any, hint: Any) -> Any:
    """Turn a value into the hinted type, where nothing is lost by it."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        require(isinstance(value, (list, tuple)), key, value, f"a list of {kind.__name__}s, e.g. [1,2]")
        return tuple(_coerce(key, item, kind) for item in value)
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 5e-5 as a string
        try:
            value = float(value)
        except ValueError:
            pass
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number and math.isfinite(value):
        return float(value)
    if hint is str and isinstance(value, (int, float)):  # true and false, too: what is allowed is said later
        return str(value)
    require(type(value) is hint and hint is not float, key, value,
            {int: "an integer", float: "a finite number", bool: "true or false", str: "text"}[hint])
    return value
