"""Every global mixer by name: where it lives, and how its cost must grow. Here are names only,
loaded on use.

Token mixers take (B, T, E) and an optional mask (B, T), true for real tokens; those with
`uses_mask` give real tokens outputs that do not depend on what stands at the others
(HolographicAttention only with mask_superposition=True), and a row that is all padding gives finite
numbers. Map mixers take (N, C, H, W). Either gives the shape that it was given.

Each follows the paper named in its docstring; what is not needed to mix is left out.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from terminator.runtime.settings import ConfigError

if TYPE_CHECKING:
    from torch import nn


class Mixer(NamedTuple):
    """One mixer.

    Attributes:
        home: module and class below `terminator`
        time, memory: the powers of the number of positions that its cost must grow with at last,
            logarithms left out.
        fixed: arguments that its name stands for.
    """

    home: str
    time: float = 1
    memory: float = 1
    fixed: Mapping[str, Any] = {}

    def load(self) -> Callable[..., "nn.Module"]:
        """The class (or function) that makes it."""
        module, _, name = self.home.partition(":")
        return getattr(importlib.import_module(f"terminator.{module}"), name)

    def options(self) -> tuple[str, ...]:
        """Names of its own settings, beside sizes and what its name stands for."""
        taken = inspect.signature(self.load()).parameters
        return tuple(name for name in taken if name not in (*_SIZES, *self.fixed))

    def make(self, sizes: Mapping[str, int], options: Mapping[str, Any] = {}) -> "nn.Module":
        """A new one; it is given the sizes that it takes."""
        maker = self.load()
        taken = inspect.signature(maker).parameters
        return maker(
            **{name: value for name, value in sizes.items() if name in taken},
            **self.fixed,
            **options,
        )


_SIZES = ("width", "length", "heads", "channels", "size")
TOKEN_MIXERS = {
    "hrrformer": Mixer("hrrformer.attention:HolographicAttention"),
    "softmax_explicit": Mixer("mixers.base:SoftmaxAttention", 2, 2, {"fused": False}),
    "softmax_fused": Mixer("mixers.base:SoftmaxAttention", 2, 1, {"fused": True}),
    "local": Mixer("mixers.base:LocalAttention"),
    "linear": Mixer("mixers.kernels:LinearAttention"),
    "linformer": Mixer("mixers.low_rank:Linformer"),
    "performer": Mixer("mixers.kernels:Performer"),
    "fnet": Mixer("mixers.fixed:FNet"),
    "luna": Mixer("mixers.low_rank:Luna"),
    "synthesizer": Mixer("mixers.fixed:Synthesizer", 2, 2),
    "nystromformer": Mixer("mixers.low_rank:Nystromformer"),
    "hyperzzw": Mixer("mixers.hyperzzw:GlobalHyperZZW"),
    "hamburger": Mixer("hamburger.mixer:Hamburger"),
}


def _of_tokens(name: str, **options: Any) -> Mixer:
    mixer = TOKEN_MIXERS[name]
    return Mixer("mixers.maps:of_tokens", mixer.time, mixer.memory, {"name": name, **options})


MAP_MIXERS = {
    "none": Mixer("mixers.maps:linear"),
    "hyperzzw_matrix": Mixer("mixers.maps:HyperZZW", 1.5, 1, {"operator": "matrix"}),
    "hyperzzw_convolution": Mixer("mixers.maps:HyperZZW", fixed={"operator": "convolution"}),
    "attention_explicit": _of_tokens("softmax_explicit"),
    "attention_fused": _of_tokens("softmax_fused"),
    "attention_linear": _of_tokens("linear"),
    "hrrformer": _of_tokens("hrrformer"),
    "hamburger": Mixer("hamburger.mixer:Ham"),
    "fourier_convolution": Mixer("mixers.maps:FourierConvolution"),
    "large_kernel": Mixer("mixers.maps:LargeKernel"),
    "local": _of_tokens("local"),
    "linformer": _of_tokens("linformer"),
    "performer": _of_tokens("performer", features=64),
    "fnet": _of_tokens("fnet", normalization="ortho"),
    "luna": _of_tokens("luna", memory=64),
    "synthesizer": _of_tokens("synthesizer"),
    "nystromformer": _of_tokens("nystromformer"),
}


def options_of(name: str) -> tuple[str, ...]:
    """Names of the options that make_mixer takes for the token mixer of that name."""
    if name not in TOKEN_MIXERS:
        raise ValueError(f"mixer is {name!r}; allowed: {', '.join(TOKEN_MIXERS)}")
    return TOKEN_MIXERS[name].options()


def make_mixer(name: str, width: int, length: int, heads: int = 1, **options: Any) -> "nn.Module":
    """A token mixer by name: a module from x (B, T, E) and an optional mask (B, T) to (B, T, E).

    Args:
        name: one of TOKEN_MIXERS.
        width: E.
        length: the longest T.
        heads: where it has some.
        options: the mixer's own, e.g. landmarks=32, or bias=True for biases on its maps.

    Raises:
        ValueError: for an unknown name or option (listing what is allowed) or impossible sizes.
    """
    allowed = options_of(name)
    for size, value in (("width", width), ("length", length)):
        if value < 1:
            raise ValueError(f"{size} is {value!r}; allowed: an integer of at least 1")
    for option in options:
        if option not in allowed:
            raise ValueError(
                f"mixer {name} has no option {option!r}; allowed: {', '.join(allowed) or 'none'}"
            )
    return TOKEN_MIXERS[name].make({"width": width, "length": length, "heads": heads}, options)


def make_map_mixer(name: str, channels: int, size: int) -> "nn.Module":
    """A mixer of feature maps by name, (N, channels, size, size) to the same shape.

    Raises:
        ConfigError: for an unknown name.
    """
    if name not in MAP_MIXERS:
        raise ConfigError(f"the mixer is {name!r}; allowed: {', '.join(MAP_MIXERS)}")
    return MAP_MIXERS[name].make({"channels": channels, "size": size})
