"""Data sets as in-memory tensors, and augmentation of whole batches on the device."""

from typing import Any

from terminator.runtime.lazy import lent

_HOMES = {
    "Augmentation": "augment",
    "normalize": "augment",
    "DatasetCorrupt": "errors",
    "DatasetNotFound": "errors",
    "DatasetInfo": "images",
    "DatasetRow": "catalogue",
    "ImageData": "images",
    "available": "catalogue",
    "from_arrays": "images",
    "load": "images",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    return lent(__name__, _HOMES, name)
