"""Settings of generated sequences. Nothing here loads torch."""

from dataclasses import dataclass

from terminator.runtime.settings import ConfigError, at_least


@dataclass(frozen=True)
class ListOpsSettings:
    """Which trees; the defaults are the long range arena's."""

    MOST = {"min_length": 2**20, "max_length": 2**20, "max_depth": 1_000, "max_arguments": 2**20}

    min_length: int = 500  # a tree has more tokens than this
    max_length: int = 2000  # and fewer than this
    max_depth: int = 10  # levels of nested lists
    max_arguments: int = 10  # arguments of one list
    generator_seed: int = 0  # of the trees, whatever train.seed is

    def __post_init__(self) -> None:
        minima = {"min_length": 0, "max_length": 2, "max_depth": 2, "max_arguments": 2}
        at_least(self, "listops", {**minima, "generator_seed": 0})
        if self.max_length <= self.min_length + 1:
            raise ConfigError(
                f"listops.max_length is {self.max_length}; allowed: more than listops.min_length + "
                f"1 = {self.min_length + 1}"
            )
        if self.longest < self.min_length + 1:
            raise ConfigError(
                f"listops.min_length is {self.min_length}, but the longest tree of depth "
                f"{self.max_depth} with {self.max_arguments} arguments has {self.longest} tokens; "
                "allowed: less"
            )

    @property
    def longest(self) -> int:
        """Tokens of the largest tree that depth and arguments allow."""
        length = 1
        for _ in range(self.max_depth - 1):
            length = 2 + self.max_arguments * length
        return length
