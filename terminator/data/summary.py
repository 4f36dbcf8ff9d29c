"""What a terminal shows of data before a training starts: classes, counts and every note."""

from collections.abc import Iterable

from terminator.data.images import ImageData
from terminator.runtime.progress import in_notebook, say

MANY = 20  # classes that have a line each; of more, the first ones


def lines(data: ImageData) -> list[str]:
    """The data set, its classes with their counts, and its notes, a line each."""
    info = data.info
    shape = "x".join(map(str, info.shape))
    found = [
        f"{info.title}: {len(info.classes)} classes, {info.train_size} training and "
        f"{info.test_size} test images of {shape}"
    ]
    train, test = (
        labels.bincount(minlength=len(info.classes)).tolist()
        for labels in (data.train_labels, data.test_labels)
    )
    width = max(map(len, info.classes[:MANY]), default=0)
    found += [
        f"  {name:<{width}}  {count} to train, {held} to test"
        for name, count, held in zip(info.classes[:MANY], train, test)
    ]
    if len(info.classes) > MANY:
        sizes = f"of {min(train[MANY:])} to {max(train[MANY:])} images"
        rest = f"  and {len(info.classes) - MANY} more classes, {sizes}"
        found.append(f"{rest} to train, {min(test[MANY:])} to {max(test[MANY:])} to test")
    return found + [f"note: {note}" for note in info.notes]


def announce(data: ImageData) -> None:
    """Say the lines, except in a notebook, which shows its data in its own way."""
    if not in_notebook():
        say("\n".join(lines(data)))


def announce_notes(notes: Iterable[str]) -> None:
    """The same of data that are no images: their notes."""
    if not in_notebook():
        for note in notes:
            say(f"note: {note}")
