"""Names that a package lends from its modules, loaded on first use."""

import importlib
from collections.abc import Mapping
from typing import Any


def lent(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What a package's `__getattr__` gives for a name.

    Args:
        package: the package's `__name__`.
        homes: {public name: module of the package}.
        name: the name that is asked for.

    Raises:
        AttributeError: for a name that has no home here.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
