"""Every switch of a ham and of a Hamburger, with its released default.

Source: the released segmentation settings. Where a setting was missing, the release fell back to
other values (7 evaluation steps, inverse temperature 100, dual mode, cheese factor S); they are
none of the defaults here.
"""

from dataclasses import dataclass
from typing import Any

from terminator.runtime.settings import at_least, from_dict, one_of, require, to_dict

KINDS = ("NMF", "VQ", "CD")
MODES = ("spatial", "channel", "dual")
VERSIONS = ("V1", "V2", "V2+")
ONLINE_UPDATES = ("training", "released", "off")
MIXERS = ("linear", "hyperzzw_matrix", "hyperzzw_convolution", "hrrformer", "large_kernel")
CONTEXTS = ("hamburger", "bread", "pooling", "attention", "none", *MIXERS)

BACKBONES = {  # ResNets: torchvision's block, and how many of them each layer has
    "resnet18": ("BasicBlock", (2, 2, 2, 2)),
    "resnet34": ("BasicBlock", (3, 4, 6, 3)),
    "resnet50": ("Bottleneck", (3, 4, 6, 3)),
    "resnet101": ("Bottleneck", (3, 4, 23, 3)),
    "resnet152": ("Bottleneck", (3, 8, 36, 3)),
}
SMALL_BACKBONE = "mobilenet_v3_small"
STEMS = ("deep", "plain")  # three 3x3 convolutions, or torchvision's 7x7
STRIDES = (8, 16)


@dataclass(frozen=True)
class HamSettings:
    """One decomposition as a layer; D features and N columns per head, S heads."""

    LARGEST = 2**20  # of all integers here, see settings

    kind: str = "NMF"  # the decomposition: NMF, VQ, CD
    # a column is a position (spatial) or a channel (channel); dual: a ham of each
    mode: str = "spatial"
    heads: int = 1  # S: each decomposes its own consecutive channels
    rank: int = 64  # R, the number of bases, at most min(D, N)
    train_steps: int = 6  # K, the updates of the factors, in training
    eval_steps: int = 6  # K in evaluation
    inverse_temperature: float = 1.0  # tau of VQ and CD, 10 or 100 recommended; NMF always has 1
    ridge: float = 0.1  # beta of CD; 0.01 in the released GAN
    one_step: bool = True  # gradient of the last coefficients only; False: through all K steps
    # new bases per image, head and forward pass; False: shared ones, updated online
    random_init: bool = True
    normalized_init: bool = True  # first bases of length 1; False as in the released GAN
    eta: float = 0.9  # weight of the new value in the online update
    online_update: str = "training"  # after each training pass; released: in evaluation only; off
    # H*W, fixed; needed for shared bases over positions (channel or dual mode)
    positions: int | None = None

    def __post_init__(self) -> None:
        one_of(self, "", {"kind": KINDS, "mode": MODES, "online_update": ONLINE_UPDATES})
        minima = {"heads": 1, "rank": 1, "train_steps": 0, "eval_steps": 0, "positions": 1}
        at_least(self, "", minima)
        for name in ("inverse_temperature", "ridge"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        require(0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")
        if self.mode != "spatial" and not self.random_init:
            require(
                self.positions is not None,
                "positions",
                None,
                f"the fixed number of positions H*W, with random_init=False and mode={self.mode!r}",
            )


@dataclass(frozen=True)
class HamburgerSettings(HamSettings):
    """A whole block; a ham's settings, and those of the bread and the cheese."""

    version: str = "V2"  # V1 (paper), V2 (default of the release), V2+ (its experimental one)
    width: int = 512  # channels between the breads: in all (V1, V2), per head and ham (V2+)
    # V2+: cheese divides channels by this, twice this if dual; nothing: S
    cheese_factor: int | None = 1
    zero_ham: bool = True  # V2+: the ham's scale starts at 0, the block as ReLU(x); False: at 1
    dimensions: int = 2  # axes of positions: 2 (images), 1 (sequences)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.version in VERSIONS, "version", self.version, ", ".join(VERSIONS))
        require(
            self.dimensions in (1, 2), "dimensions", self.dimensions, "1 (sequences), 2 (images)"
        )
        require(
            self.mode != "dual" or self.version == "V2+",
            "mode",
            self.mode,
            f"spatial, channel with version {self.version!r}; dual needs 'V2+'",
        )
        at_least(self, "", {"width": 1, "cheese_factor": 1})
        require(
            self.version != "V2+" or self.ham_channels % self.cheese_divisor == 0,
            "cheese_factor",
            self.cheese_factor,
            f"with {self.ham_channels} channels after the ham, a factor f such that "
            f"{'2 f' if self.mode == 'dual' else 'f'} divides them",
        )

    @property
    def ham_channels(self) -> int:
        """Channels that enter the ham."""
        if self.version != "V2+":
            return self.width
        return self.width * self.heads * (2 if self.mode == "dual" else 1)

    @property
    def cheese_divisor(self) -> int:
        """What the cheese divides the channels by."""
        if self.version != "V2+":
            return 1
        factor = self.heads if self.cheese_factor is None else self.cheese_factor
        return factor * (2 if self.mode == "dual" else 1)


@dataclass(frozen=True)
class HamNetSettings:
    """The network around the context; the defaults are the release's for PASCAL VOC."""

    LARGEST = 2**20  # of all integers here, see settings
    PLACES = {"weights": ()}

    # resnet18, resnet34, resnet50, resnet101, resnet152, mobilenet_v3_small; none: the pixels
    backbone: str = "resnet101"
    stem: str = "deep"  # deep (three 3x3 convolutions), plain (torchvision's 7x7)
    output_stride: int = 8  # pixels of a picture per position of the backbone's last map
    # a file with the backbone's ImageNet weights to start from; nothing: from scratch
    weights: str = ""
    squeeze: int = 512  # channels that the context has
    # hamburger, bread (the block without its ham), pooling, attention, none; linear (a map at every
    # position), hyperzzw_matrix, hyperzzw_convolution, hrrformer, large_kernel (31x31, depth-wise)
    context: str = "hamburger"
    # side of the square maps that hyperzzw_*, hrrformer and large_kernel are made for
    context_size: int | None = None
    # channels between the two maps of pooling; nothing: as many as squeeze
    pooling_width: int | None = None
    align: int = 256  # channels that the classifier has
    dropout: float = 0.1  # of whole channels, before the classifier
    # a second classifier, on the third layer of the backbone, for the loss only
    auxiliary: bool = False
    # weight of the batch in running statistics; torch's 0.1 suits short trainings
    bn_momentum: float = 3e-4
    in_channels: int = 3  # of the data; leave it out
    classes: int = 21  # of the data; leave it out

    def __post_init__(self) -> None:
        backbones = (*BACKBONES, SMALL_BACKBONE, "none")
        one_of(self, "model", {"backbone": backbones, "stem": STEMS})
        one_of(self, "model", {"output_stride": STRIDES, "context": CONTEXTS})
        for name, only in (("stem", "plain"), ("output_stride", 16)):
            require(
                self.backbone != SMALL_BACKBONE or getattr(self, name) == only,
                f"model.{name}",
                getattr(self, name),
                f"{only} with model.backbone={SMALL_BACKBONE}",
            )
        at_least(self, "model", {"squeeze": 1, "align": 1, "in_channels": 1, "classes": 2})
        self._check_context()
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "from 0 to below 1")
        require(
            0 < self.bn_momentum <= 1, "model.bn_momentum", self.bn_momentum, "above 0, up to 1"
        )
        for name in ("auxiliary", "weights"):
            value = getattr(self, name)
            require(
                not value or self.backbone != "none",
                f"model.{name}",
                value,
                "nothing without a backbone",
            )

    def _check_context(self) -> None:
        sized = self.context in MIXERS and self.context != "linear"
        for name, used in (("context_size", sized), ("pooling_width", self.context == "pooling")):
            value = getattr(self, name)
            require(
                value is None or (used and value >= 1),
                f"model.{name}",
                value,
                f"an integer of at least 1, or nothing{'' if used else f' with {self.context}'}",
            )
        require(
            not sized or self.context_size is not None,
            "model.context_size",
            None,
            f"the side of the maps, with model.context={self.context}",
        )


def settings_of(kind: type, settings: Any, changes: dict[str, Any]) -> Any:
    """Settings of that kind with single ones replaced; the defaults where there are none.

    Raises:
        ConfigError: for no settings, an unknown name, a wrong type or an impossible value.
    """
    if settings is None:
        return from_dict(kind, changes)
    require(isinstance(settings, kind), "settings", settings, f"a {kind.__name__}, or nothing")
    return from_dict(type(settings), {**to_dict(settings), **changes}) if changes else settings
