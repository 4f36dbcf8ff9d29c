"""What is said of data that are not there, damaged, or laid out in no known way."""

from terminator.runtime.errors import OneLine


class DatasetNotFound(OneLine, FileNotFoundError):
    """A data set is neither on this machine nor could it be downloaded; the message says what to
    do.
    """


class DatasetCorrupt(OneLine, ValueError):
    """A data set was found but a file of it cannot be read; the message names the file."""


class LayoutError(OneLine, ValueError):
    """A folder or archive was found, but is laid out in no way that is known; the message names
    what is expected.
    """
