"""Hamburger: global context as a matrix decomposition (the ham) between two linear maps (the bread).

    from terminator.related.hamburger import Hamburger
    block = Hamburger(512)                          # the released default: V2, NMF, rank 64, 6 steps
    block = Hamburger(64, version="V1", kind="CD", width=64, rank=8, inverse_temperature=10.0)

decompositions  nmf, vq, cd as functions of (x, bases), and where bases come from; read these first
settings        HamSettings, HamburgerSettings: every switch with its released default
ham             Ham: one decomposition as a layer of a network; DualHam: two of them; seeded_bases
block           Hamburger: the blocks V1, V2 and V2+

Source: arXiv 2109.04553 (ICLR 2021) and its released code.
"""

from terminator.hamburger.block import Hamburger
from terminator.hamburger.decompositions import Decomposition, cd, nmf, online_update, random_bases, reconstruct, vq
from terminator.hamburger.ham import DualHam, Ham, from_matrix, make_ham, seeded_bases, to_matrix
from terminator.hamburger.settings import HamburgerSettings, HamSettings

__all__ = ["Decomposition", "DualHam", "Ham", "HamSettings", "Hamburger", "HamburgerSettings", "cd",
           "from_matrix", "make_ham", "nmf", "online_update", "random_bases", "reconstruct", "seeded_bases",
           "to_matrix", "vq"]
