"""Hamburger: global context as a matrix decomposition (the ham) between linear maps (the bread).

    from terminator.hamburger import Hamburger
    block = Hamburger(512)  # the released default: V2, NMF, rank 64, 6 steps
    block = Hamburger(64, version="V1", kind="CD", width=64, rank=8, inverse_temperature=10.0)

decompositions  nmf, vq, cd as functions of (x, bases), and where bases come from; read these first
settings        HamSettings, HamburgerSettings: every switch with its released default
ham             Ham: one decomposition as a layer of a network; DualHam: two of them; seeded_bases
block           Hamburger: the blocks V1, V2 and V2+

Source: arXiv 2109.04553 (ICLR 2021) and its released code.
"""

from typing import Any

from terminator.runtime.lazy import lent

_HOMES = {
    "Hamburger": "block",
    "HamburgerSettings": "settings",
    "HamSettings": "settings",
    "Ham": "ham",
    "DualHam": "ham",
    "from_matrix": "ham",
    "make_ham": "ham",
    "seeded_bases": "ham",
    "to_matrix": "ham",
    **dict.fromkeys(
        ("Decomposition", "cd", "nmf", "online_update", "random_bases", "reconstruct", "vq"),
        "decompositions",
    ),
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    return lent(__name__, _HOMES, name)
