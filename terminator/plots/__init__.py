"""Figures that several systems share, one function each: tensors and tables in, a Figure out; no
file is read.

Call `style.style()` once per notebook; a Figure that ends a cell shows itself; `style.save` writes
it for the results, and returns it. matplotlib is imported here and in the systems' `figures` only.
Figures are not pyplot's, so none is shown twice or leaks.
"""
