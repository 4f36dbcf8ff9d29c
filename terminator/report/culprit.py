"""Which record a table fails on, so that an error names a file that somebody can look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from terminator.report import claims, tables
from terminator.runs import records
from terminator.runtime.digests import EvidenceError

# what a wrong field can raise
FOREIGN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


@contextmanager
def named() -> Iterator[None]:
    """Have an error that comes from one record name its file.

    Raises:
        ValueError: naming the record, in place of what it raised; other errors as they came.
    """
    try:
        yield
    except EvidenceError:  # of no record, and it names its file
        raise
    except FOREIGN as error:
        for record in records.load_records():
            if (reason := _reason(record)) is not None:
                raise ValueError(
                    f"{records.path_of(record)} is no record of a run of this kit: {reason}. "
                    "Remove its folder to make that run again."
                ) from error
        raise


def _reason(record: dict[str, Any]) -> str | None:
    """Why nothing can be said of a record by itself; None if everything can."""
    task = records.task_of(record)
    try:
        claims.claims_table({task: [record]})
        if task in tables.SYSTEM_OF:  # else a measurement's, which no index and no list counts
            tables.SYSTEM_OF[task].runs_table([record])
            claims.checklist([record])
        tables.document(tables.study_tables([record]))
    except FOREIGN as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return kind + " ".join(str(error).split())
    return None
