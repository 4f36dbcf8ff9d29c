"""Numbers and fields measured inside a network while it trained, kept beside its record, which
covers them.
"""

import io
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from terminator.runs import records
from terminator.runtime import digests
from terminator.runtime.paths import atomic_write

NUMBERS, FIELDS = "observations.csv", "observations.npz"
COLUMNS = ("epoch", "quantity", "block", "part", "value")

# -- files -----------------------------------------------------------------------------------------


def write(folder: Path, observed: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Write observations.csv and observations.npz into a run's folder.

    Args:
        observed: per moment {"epoch": int, "numbers": [...], "fields": {name: Tensor}}, as the
            trainer keeps it.

    Returns:
        {file: SHA-256}, which the run's record is to hold as `files`.
    """
    observed = list(observed)
    table = pd.DataFrame(
        [{"epoch": one["epoch"], **row} for one in observed for row in one["numbers"]]
    )
    arrays = {
        f"{one['epoch']} {name}": field.numpy()
        for one in observed
        for name, field in one["fields"].items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files = {
        NUMBERS: table.to_csv(index=False, float_format="%.6g").encode(),
        FIELDS: buffer.getvalue(),
    }
    for name, content in files.items():
        atomic_write(folder / name, content)
    return {name: digests.of(content) for name, content in files.items()}


def read_numbers(folder: Path) -> pd.DataFrame:
    """observations.csv of a run: epoch (0: before training), quantity, block, part, value.

    Raises:
        FileNotFoundError: that says how to get it.
        ValueError: naming the file, if it is damaged.
    """
    content = _content(folder, NUMBERS)
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError as error:  # of pandas: no columns, broken text
        raise ValueError(f"{folder / NUMBERS} is no readable table: {error}") from error
    if missing := [name for name in COLUMNS if name not in table]:
        raise ValueError(f"{folder / NUMBERS} lacks the columns {', '.join(missing)}")
    return table


def read_fields(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """observations.npz of a run: per epoch the arrays that were kept, float32.

    slow_score (blocks, images, *positions): means over channels;  histogram standardised,
        histogram output
    (blocks, bins): densities in the bins of EDGES.

    Raises:
        as read_numbers.
    """
    content = _content(folder, FIELDS)
    fields: dict[int, dict[str, np.ndarray]] = {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            for key in file.files:
                epoch, name = key.split(" ", 1)
                fields.setdefault(int(epoch), {})[name] = file[key].astype(np.float32)
    except (
        ValueError,
        OSError,
        EOFError,
        KeyError,
        RuntimeError,
        AttributeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:  # whatever NumPy and zipfile make of damaged bytes
        raise ValueError(f"{folder / FIELDS} is no readable file of arrays: {error}") from error
    return dict(sorted(fields.items()))


def _content(folder: Path, name: str) -> bytes:
    """The bytes of a file beside a record, as the record says they are, or the list of what
    older runs left.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the run was made without train.observe=true")
    record = (
        records.read_record(folder / "record.json") if (folder / "record.json").exists() else {}
    )
    digest = record.get("files", {}).get(name)
    if digest is None and len(folder.parts) > 3:  # <results>/runs/<experiment>/<run id>
        digest = digests.listed(folder.parents[2]).get("/".join((*folder.parts[-3:], name)))
    return digests.read(path, digest)
