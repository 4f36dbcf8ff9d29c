"""Numbers and fields measured inside a network while it trained, kept beside its record."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from terminator.runtime.paths import atomic_write

# -- files -----------------------------------------------------------------------------------------


def write(folder: Path, observed: Iterable[dict[str, Any]]) -> None:
    """Write observations.csv and observations.npz into a run's folder.

    Args:
        observed: per moment {"epoch": int, "numbers": [...], "fields": {name: Tensor}}, as the
            trainer keeps it.
    """
    observed = list(observed)
    table = pd.DataFrame(
        [{"epoch": one["epoch"], **row} for one in observed for row in one["numbers"]]
    )
    atomic_write(folder / "observations.csv", table.to_csv(index=False, float_format="%.6g"))
    arrays = {
        f"{one['epoch']} {name}": field.numpy()
        for one in observed
        for name, field in one["fields"].items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write(folder / "observations.npz", buffer.getvalue())


def read_numbers(folder: Path) -> pd.DataFrame:
    """observations.csv of a run: epoch (0: before training), quantity, block, part, value.

    Raises:
        FileNotFoundError: that says how to get it.
    """
    return pd.read_csv(_there(folder / "observations.csv"))


def read_fields(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """observations.npz of a run: per epoch the arrays that were kept, float32.

    slow_score (blocks, images, *positions): means over channels;  histogram standardised,
        histogram output
    (blocks, bins): densities in the bins of EDGES.
    """
    fields: dict[int, dict[str, np.ndarray]] = {}
    with np.load(_there(folder / "observations.npz"), allow_pickle=False) as file:
        for key in file.files:
            epoch, name = key.split(" ", 1)
            fields.setdefault(int(epoch), {})[name] = file[key].astype(np.float32)
    return dict(sorted(fields.items()))


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the run was made without train.observe=true")
    return path
