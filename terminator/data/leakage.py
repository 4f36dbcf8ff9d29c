"""No example is both trained on and tested on: what the parts of a data set share leaves the
training part, or is said.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Sequence

from terminator.data.files import few


def digest(content: bytes) -> bytes:
    """What tells contents apart, in 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def apart(
    names: Sequence[str],
    keys: Sequence[Hashable],
    labels: Sequence[int],
    held: Collection[Hashable],
    what: str,
    of: str = "test",
    part: str = "training",
    published: bool = False,
) -> tuple[list[int], list[str]]:
    """Which training examples may stay beside a part that is held out.

    Args:
        names, keys, labels: of the training examples; keys are equal where examples are.
        held: the other part's keys.
        what: of what the examples are, e.g. "images".
        of, part: the names of the other part and of this.
        published: the split is everybody's, and stays comparable only as it is.

    Returns:
        positions that stay, and notes. All stay if else a class had no example left.
    """
    shared = [i for i, key in enumerate(keys) if key in held]
    if not shared:
        return list(range(len(keys))), []
    first = few(names[i] for i in shared)
    same = f"{len(shared)} {part} {what} are in the {of} part as well ({first})"
    if published:
        return list(range(len(keys))), [f"{same}: kept, as the published split has them"]
    counts = Counter(labels)
    counts.subtract(labels[i] for i in shared)
    if min(counts.values()) < 1:
        return list(range(len(keys))), [
            f"{same}: kept, as a class would have no others to be trained on"
        ]
    leaving = set(shared)
    return [i for i in range(len(keys)) if i not in leaving], [
        f"{same}: left out of the {part} part"
    ]
