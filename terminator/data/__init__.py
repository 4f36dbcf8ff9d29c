"""Data sets as in-memory tensors, and augmentation of whole batches on the device."""

from terminator.data.augment import Augmentation, normalize
from terminator.data.images import (
    DatasetCorrupt,
    DatasetInfo,
    DatasetNotFound,
    DatasetRow,
    ImageData,
    available,
    load,
)

__all__ = [
    "Augmentation",
    "DatasetCorrupt",
    "DatasetInfo",
    "DatasetNotFound",
    "DatasetRow",
    "ImageData",
    "available",
    "load",
    "normalize",
]
