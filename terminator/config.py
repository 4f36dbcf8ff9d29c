"""Every setting, once: frozen dataclasses set from Python, from notebook parameters and from the
command line.

Dot-list keys are the dataclasses' paths, e.g. `optimizer.lr=0.001215 "optimizer.betas=[0.5,0.95]"`;
where the released code had a key, ours has the same name.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from terminator.runtime.settings import at_least, require, require_one_of

MAX_BLOCKS = 64
OPERATORS = ("matrix", "convolution", "causal_convolution")  # readings of the global operator
STANDARDIZATIONS = ("g_ibs", "batch", "instance", "batch_affine")
SLOW_NEURAL_LOSS_FORMS = ("kernel", "channel_sum")


@dataclass(frozen=True)
class Training:
    """Batch, numbers and machines of a training, whatever is trained; a task adds its length and
    losses.
    """

    batch_size: int = 64  # examples per optimiser step, over all processes
    accumulate: int = 1  # split a batch into so many parts, one after another
    seed: int = 0  # of all random numbers: weights, order, augmentation
    precision: str = "float32"  # float32, or bf16 (autocast; what is delicate stays in float32)
    compile: str = "none"  # torch.compile: none, default, reduce-overhead (with CUDA graphs)
    device: str = "auto"  # auto: CUDA where there is one, else the CPU
    deterministic: bool = False  # torch's deterministic algorithms: the same bits on a GPU, too
    distributed: bool = False  # several processes, started by torchrun
    num_nodes: int = 1  # machines, with torchrun
    avail_gpus: int = -1  # processes per machine, with torchrun; -1: as many as torchrun started
    # a checkpoint at least so often, within an epoch too; 0: after epochs only
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        at_least(self, "train", {"batch_size": 1, "accumulate": 1, "num_nodes": 1})
        require(0 <= self.seed < 2**32, "train.seed", self.seed, "an integer from 0 to below 2**32")
        require(
            self.batch_size % self.accumulate == 0,
            "train.accumulate",
            self.accumulate,
            f"a divisor of train.batch_size={self.batch_size}",
        )
        require_one_of("train.precision", self.precision, ("float32", "bf16"))
        require_one_of("train.compile", self.compile, ("none", "default", "reduce-overhead"))
        require(
            self.compile != "reduce-overhead" or self.accumulate == 1,
            "train.compile",
            self.compile,
            f"none or default with train.accumulate={self.accumulate}: a CUDA graph's next run "
            "overwrites the gradients of the part before",
        )
        require_one_of("train.device", self.device, ("auto", "cpu", "cuda"))
        require(
            self.checkpoint_minutes >= 0,
            "train.checkpoint_minutes",
            self.checkpoint_minutes,
            "0 or more minutes",
        )

    @property
    def epochs(self) -> int:
        """How many epochs there are; what lies between two checkpoints, at the end of which is
        tested.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TrainingInSteps(Training):
    """A training whose length is a number of steps; an epoch lies between two checkpoints."""

    train_steps: int = 1_000  # optimiser steps in all
    steps_between_saves: int = 100  # an epoch: evaluation and checkpoint after so many steps

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "train", {"train_steps": 1, "steps_between_saves": 1})

    @property
    def epochs(self) -> int:
        """Checkpoints of a whole training; the last epoch may be shorter."""
        return -(-self.train_steps // self.steps_between_saves)


class Sizes(NamedTuple):
    """What a resolved ModelConfig knows for certain."""

    size: int
    in_channels: int
    classes: int
    factors: tuple[int, ...]
    trained_size: int


class Trainable(Protocol):
    """Settings of an experiment that is trained: a group `train`, among others."""

    @property
    def train(self) -> Training: ...


@dataclass(frozen=True)
class ModelConfig:
    """Terminator's shape and switches; the defaults are the released CIFAR-10 network, but for how
    the local context starts.

    `size`, `in_channels`, `classes` and `factors` may stay None: the data set's, or the release's.
    """

    LARGEST = 2**20  # of all integers here, see settings

    dimensions: int = 2  # 2: images, 1: sequences
    size: int | None = None  # pixels a side, or sequence length; None: 32
    in_channels: int | None = None  # channels of the images; None: the data's, or 3
    classes: int | None = None  # None: the data's, or 10
    # growth of the channels per block; None: (4, 3, 2, 2, 2) or alike
    factors: tuple[int, ...] | None = None
    dropout: tuple[float, ...] = (0.0, 0.05, 0.05, 0.05, 0.05)  # per block; the last value repeats
    groups: int = 12  # channel groups of G-IBS
    operator: str = "matrix"  # global operator: matrix, convolution, causal_convolution (sequences)
    # in the operator's place: hamburger, none (a linear map); ours, to compare
    global_mixer: str = "hyperzzw"
    omega_0: float = 2000.0  # base frequency of the slow nets
    gamma_alpha: float = 6.0  # shape of the Gamma distribution of their initial frequencies
    gamma_beta: float = 1.0  # rate of that Gamma distribution
    global_hidden: int = 64  # hidden channels of the global and spatial slow nets
    local_hidden: int = 32  # hidden channels of the local slow nets
    channel_hidden: int = 32  # the channel slow net's, in the hyper-channel interaction
    interaction_hidden: int = 16  # the channel slow net's, in the hyper interaction
    # kernel size per local branch l1..l4; 0 leaves one out
    local_sizes: tuple[int, ...] = (3, 9, 5, 7)
    standardization: str = "g_ibs"  # after the bottleneck: g_ibs, batch, instance, batch_affine
    rgu: bool = True  # False: a linear map in each RGU's place
    hyper_channel_interaction: bool = True  # False: interacted = IS(x)
    hyper_interaction: bool = True  # False: that branch is left out
    si_glu: bool = True  # False: that branch is left out
    skips: bool = True  # tiled earlier block outputs in blocks 3 to 5
    local_context: bool = True  # False: local kernels do not depend on the input
    # how the maps before that context start: linear (our first reading), torch (as released)
    local_context_init: str = "linear"
    renormalization: bool = True  # s-renormalisation in the local slow nets
    trainable_renormalization: bool = False  # learn its alpha, beta (the release did not)
    trainable_fast_bias: bool = False  # learn the scalars between blocks (the release did not)
    # the size of training, where the model was asked for another one
    trained_size: int | None = None

    def __post_init__(self) -> None:
        require(
            self.dimensions in (1, 2),
            "model.dimensions",
            self.dimensions,
            "1 (sequences), 2 (images)",
        )
        least_two = dict.fromkeys(("size", "classes", "trained_size"), 2)
        hidden = (f"{name}_hidden" for name in ("global", "local", "channel", "interaction"))
        at_least(self, "model", least_two | dict.fromkeys(("in_channels", "groups", *hidden), 1))
        for name in ("omega_0", "gamma_alpha", "gamma_beta"):
            require(
                getattr(self, name) > 0, f"model.{name}", getattr(self, name), "a positive number"
            )
        require(
            bool(self.dropout) and all(0 <= p < 1 for p in self.dropout),
            "model.dropout",
            self.dropout,
            "numbers from 0 to below 1",
        )
        require(
            len(self.local_sizes) == 4
            and all(k == 0 or (k > 0 and k % 2) for k in self.local_sizes),
            "model.local_sizes",
            self.local_sizes,
            "four odd kernel sizes, 0 to leave a branch out",
        )
        require_one_of("model.standardization", self.standardization, STANDARDIZATIONS)
        require_one_of("model.operator", self.operator, OPERATORS)
        require_one_of("model.local_context_init", self.local_context_init, ("linear", "torch"))
        require_one_of("model.global_mixer", self.global_mixer, ("hyperzzw", "hamburger", "none"))
        require(
            self.global_mixer == "hyperzzw" or self.operator == "matrix",
            "model.operator",
            self.operator,
            f"the default, since model.global_mixer={self.global_mixer} takes its place",
        )
        require(
            self.factors is None or (len(self.factors) > 0 and all(f >= 1 for f in self.factors)),
            "model.factors",
            self.factors,
            "at least one positive integer",
        )
        require(
            len(self.factors or ()) <= MAX_BLOCKS,
            "model.factors",
            self.factors,
            f"a list of at most {MAX_BLOCKS}",
        )

    def resolved(self) -> "ModelConfig":
        """The same with every None filled in, checked as a whole.

        Raises:
            ConfigError: for a length that does not fold, or channels that do not divide into the
                groups.
        """
        in_channels = self.in_channels or 3
        # in_channels * first divides into the groups
        first = self.groups // math.gcd(in_channels, self.groups)
        size = self.size or 32
        full = dataclasses.replace(
            self,
            size=size,
            in_channels=in_channels,
            classes=self.classes or 10,
            factors=self.factors or (first, 3, 2, 2, 2),
            trained_size=self.trained_size or size,
        )
        if full.dimensions == 2:
            require(
                full.operator != "causal_convolution",
                "model.operator",
                full.operator,
                "matrix, convolution for images; causal only for sequences (dataset.view, "
                "model.dimensions=1)",
            )
        elif full.operator == "matrix" and full.global_mixer == "hyperzzw":
            require(
                math.isqrt(size) ** 2 == size,
                "model.size",
                size,
                'a square number for model.operator="matrix" on sequences; or use "convolution"',
            )
        if full.standardization == "g_ibs":
            require(full.groups % 2 == 0, "model.groups", full.groups, "an even number")
            for i, channels in enumerate(full.channels[1:]):
                require(
                    channels % full.groups == 0,
                    "model.factors",
                    full.factors,
                    f"factors whose products with {in_channels} input channels are multiples of "
                    f"model.groups={full.groups} (block {i + 1} would have {channels} channels), "
                    f"e.g. ({first}, 3, 2, 2, 2)",
                )
        return full

    @property
    def sizes(self) -> Sizes:
        """The sizes of a resolved configuration.

        Raises:
            ConfigError: if one of them is still open.
        """
        found = [getattr(self, name) for name in Sizes._fields]
        for name, value in zip(Sizes._fields, found, strict=True):
            require(
                value is not None,
                f"model.{name}",
                value,
                "a number here: take the resolved() configuration",
            )
        return Sizes(*found)

    @property
    def channels(self) -> tuple[int, ...]:
        """Input channels of every block, and of the classifier, of a resolved configuration."""
        widths = [self.sizes.in_channels]
        for factor in self.sizes.factors:
            widths.append(widths[-1] * factor)
        return tuple(widths)


KNOWN_DATA = (  # names of data sets that need no place
    "digits",
    "MNIST",
    "FashionMNIST",
    "CIFAR10",
    "CIFAR100",
    "STL10",
    "pathfinder-easy",
    "pathfinder-intermediate",
    "pathfinder-hard",
)
SHAPE = ("dimensions", "size", "in_channels", "classes")  # of the model: what the data decide
BETAS = {
    "Kar3": (0.5, 0.95),
    "Kar2": (0.95,),
    "AdamW": (0.9, 0.999),
    "SGD": (),
    "Lion": (0.9, 0.99),
}


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser and penalty; the defaults are the release's for CIFAR-10."""

    name: str = "Kar3"  # Kar3, Kar2, AdamW, SGD, Lion
    lr: float = 0.001215  # peak learning rate
    betas: tuple[float, ...] | None = None  # None: the optimiser's own
    l2_reg: float = 5e-5  # weight of the norm penalty
    momentum: float = 0.9  # of SGD
    weight_decay: float = 0.0  # of AdamW, SGD and Lion

    def __post_init__(self) -> None:
        require_one_of("optimizer.name", self.name, BETAS)
        require(self.lr > 0, "optimizer.lr", self.lr, "a positive number")
        count, betas = len(BETAS[self.name]), self.betas
        require(
            betas is None or (len(betas) == count and all(0 <= b < 1 for b in betas)),
            "optimizer.betas",
            betas,
            f"{count} numbers from 0 to below 1 for {self.name}",
        )
        for name in ("l2_reg", "momentum", "weight_decay"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", getattr(self, name), "0 or more")
        for name, takers in (("momentum", ("SGD",)), ("weight_decay", ("AdamW", "SGD", "Lion"))):
            value, standard = getattr(self, name), getattr(OptimizerConfig, name)
            require(
                value == standard or self.name in takers,
                f"optimizer.{name}",
                value,
                f"{standard:g}, for optimizer.name={self.name}",
            )


@dataclass(frozen=True)
class SchedulerConfig:
    """Learning rate over the iterations."""

    name: str = "cosine"  # cosine (warm-up, then cosine to 0), released, constant
    warmup_epochs: float | None = None  # None: 8 % of the epochs, as in the release (8 of 100)

    def __post_init__(self) -> None:
        require_one_of("scheduler.name", self.name, ("cosine", "released", "constant"))
        require(
            self.warmup_epochs is None or self.warmup_epochs >= 0,
            "scheduler.warmup_epochs",
            self.warmup_epochs,
            "0 or more, or nothing",
        )
