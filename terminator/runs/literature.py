"""Published numbers, each with its source: results/literature.csv and the released logs.

Both are listed with their digests in results/evidence.sha256 (see digests), against which they are
read.
"""

import io

import pandas as pd

from terminator.runtime import digests
from terminator.runtime.paths import project_root, results_dir

LITERATURE = [
    "table",
    "dataset",
    "model",
    "parameters",
    "epoch",
    "metric",
    "value",
    "unit",
    "kind",
    "source",
]


def literature(table: str | None = None) -> pd.DataFrame:
    """Published numbers with their sources (results/literature.csv); of one table, if named."""
    try:
        frame = _published("literature.csv")
    except FileNotFoundError:
        if project_root() is not None:
            raise
        # the package alone: published numbers stand in the repository
        frame = pd.DataFrame(columns=LITERATURE)
    return frame if table is None else frame[frame["table"] == table].reset_index(drop=True)


def released_logs() -> pd.DataFrame:
    """Test accuracy (%) per epoch in the logs of the released code: columns dataset, epoch,
    test_accuracy.
    """
    wide = _published("literature/terminator_released_accuracy_logs.csv")
    titles = {"cifar10_test_accuracy": "CIFAR-10", "cifar100_test_accuracy": "CIFAR-100"}
    long = wide.rename(columns=titles).melt(
        "epoch", list(titles.values()), "dataset", "test_accuracy"
    )
    long["test_accuracy"] *= 100
    return long[["dataset", "epoch", "test_accuracy"]]


def _published(name: str) -> pd.DataFrame:
    """A table of published numbers: in the results folder in use, else in the project's own.

    Raises:
        FileNotFoundError: as its message says.
        EvidenceError: if it is not as listed, or not listed.
    """
    root = project_root()
    for folder in (results_dir(), *([root / "results"] if root else [])):
        if (folder / name).is_file():
            digest = digests.listed(folder).get(name)
            if digest is None:
                raise digests.EvidenceError(
                    f"{folder / name} is not listed in {folder / digests.LIST}, so nothing says "
                    f"that it is whole; to list it: cd {folder} && sha256sum {name} >> "
                    f"{digests.LIST}"
                )
            return pd.read_csv(io.BytesIO(digests.read(folder / name, digest)))
    raise FileNotFoundError(f"no {name} in {results_dir()}")
