"""Many tensors as parts of one vector, so that a CPU passes over them in one operation."""

import operator
from collections.abc import Sequence

from torch import Tensor
from torch._utils import _unflatten_dense_tensors

Parts = tuple[Tensor, ...]


def same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether two rows hold the very same tensors."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


class Vectors:
    """Named vectors, each as long as some tensors together, with its parts in their shapes.

    They are kept from call to call for as long as the tensors are the same ones.

    Args:
        names: of the vectors.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self._kept: dict[int, tuple[list[Tensor], dict[str, tuple[Tensor, Parts]]]] = {}

    def of(self, tensors: list[Tensor]) -> dict[str, tuple[Tensor, Parts]]:
        """{name: (vector, its parts in the shapes of `tensors`)}; new ones are not filled."""
        owners, vectors = self._kept.get(id(tensors[0]), ([], {}))
        if not same(owners, tensors):
            length = sum(tensor.numel() for tensor in tensors)
            made = {name: tensors[0].new_empty(length) for name in self.names}
            vectors = {
                name: (vector, _unflatten_dense_tensors(vector, tensors))
                for name, vector in made.items()
            }
            self._kept[id(tensors[0])] = tensors, vectors
        return vectors
