"""Token mixers behind one interface, (B, T, E) to (B, T, E), to compare under the same network and recipe.

`make_mixer(name, width, length, heads, ...)` makes one of MIXERS. Every mixer takes an optional mask
(B, T), true for real tokens; those with `uses_mask` give real tokens outputs that do not depend on what
stands at the others (HolographicAttention only with mask_superposition=True). A row that is all padding
gives finite numbers.

Each follows the paper named in its docstring; what is not needed to mix tokens is left out.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from terminator.related.attention.base import HeadsMixer, LocalAttention, SoftmaxAttention, require
from terminator.related.attention.fixed import FNet, GlobalHyperZZW, Synthesizer
from terminator.related.attention.kernels import LinearAttention, Performer
from terminator.related.attention.low_rank import Hamburger, Linformer, Luna, Nystromformer
from terminator.related.hrrformer.attention import HolographicAttention

MIXERS: dict[str, Callable[..., nn.Module]] = {
    "hrrformer": HolographicAttention,
    "softmax_explicit": functools.partial(SoftmaxAttention, fused=False),
    "softmax_fused": functools.partial(SoftmaxAttention, fused=True),
    "local": LocalAttention, "linear": LinearAttention, "linformer": Linformer, "performer": Performer,
    "fnet": FNet, "luna": Luna, "synthesizer": Synthesizer, "nystromformer": Nystromformer,
    "hyperzzw": GlobalHyperZZW, "hamburger": Hamburger,
}


def options_of(name: str) -> tuple[str, ...]:
    """Names of the options that make_mixer takes for the mixer of that name."""
    if name not in MIXERS:
        raise ValueError(f"mixer is {name!r}; allowed: {', '.join(MIXERS)}")
    return tuple(option for option in inspect.signature(MIXERS[name]).parameters
                 if option not in ("width", "length", "heads", "fused"))


def make_mixer(name: str, width: int, length: int, heads: int = 1, **options: Any) -> nn.Module:
    """A token mixer by name: a module from x (B, T, E) and an optional mask (B, T) to (B, T, E).

    Args:    name: one of MIXERS;  width: E;  length: the longest T;  heads: where it has some;
             options: the mixer's own, e.g. landmarks=32, or bias=True for biases on its maps.
    Raises:  ValueError for an unknown name or option (listing what is allowed) or impossible sizes.
    """
    allowed = options_of(name)
    require(width >= 1, "width", width, "an integer of at least 1")
    require(length >= 1, "length", length, "an integer of at least 1")
    for option in options:
        if option not in allowed:
            raise ValueError(f"mixer {name} has no option {option!r}; allowed: {', '.join(allowed) or 'none'}")
    taken = inspect.signature(MIXERS[name]).parameters
    sizes = {"width": width, "length": length, "heads": heads}
    return MIXERS[name](**{size: value for size, value in sizes.items() if size in taken}, **options)


__all__ = ["MIXERS", "FNet", "GlobalHyperZZW", "Hamburger", "HeadsMixer", "HolographicAttention", "LinearAttention",
           "Linformer", "LocalAttention", "Luna", "Nystromformer", "Performer", "SoftmaxAttention", "Synthesizer",
           "make_mixer", "options_of"]
