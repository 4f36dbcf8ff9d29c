"""What a user's own run leaves beside record and model: its curves, a page, a row of the results
page; and, if asked for, what TensorBoard shows.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from terminator.runner import results_page, run_page
from terminator.runs.model_files import MODEL, USES
from terminator.runtime.paths import ForeignFile, atomic_path, atomic_write, results_dir
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError

Draw = Callable[[pd.DataFrame, str], Any]  # rows and a title, to a matplotlib Figure


def leave(run: Any, draw: Draw) -> Path:
    """Write curves.png and index.html into a run's folder and the results page anew.

    Args:
        run: a FinishedRun.
        draw: plots.run_curves.run_curves, which stands above this.

    Returns:
        the run's page, as it is where nothing was trained and it is there already, or where nothing
        can be written.
    """
    path = run.folder / run_page.PAGE
    if not run.trained and (path.is_file() or not os.access(run.folder, os.W_OK)):
        return path
    record, results = run.record, results_dir()
    if record.get("epochs"):
        figure = draw(run.metrics, f"{record['data'].get('title', '')}, seed {record['seed']}")
        with atomic_path(run.folder / run_page.CURVES) as temporary:
            figure.savefig(temporary, dpi=110, metadata={"Software": None})
    use = USES[run.system.task].replace("FILE", str(run.folder / MODEL))
    atomic_write(path, run_page.run_page(record, run.folder, results, use))
    try:
        results_page.write(results)
    except ForeignFile as error:
        say(f"note: {error}")
    return path


class TensorBoard:
    """A callback of the loop: every number of every epoch, for `tensorboard --logdir FOLDER`.

    Raises:
        ConfigError: if torch's part of it cannot be imported.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"--tensorboard needs the package tensorboard ({error}): pip install tensorboard"
            ) from error
        self._writer_of: Any = SummaryWriter
        self._writer: Any = None
        self.folder = Path("tensorboard")

    def start(self, run_id: str, folder: Path) -> None:
        """Before training: where the run lies."""
        if self._writer is not None:  # of a run before
            self._writer.close()
        self._writer, self.folder = None, folder / "tensorboard"

    def __call__(self, rows: Sequence[dict[str, float]]) -> None:
        """After an epoch; the first time, with all epochs that a checkpoint brought."""
        new = rows[-1:]
        if self._writer is None:
            new = rows
            self._writer = self._writer_of(str(self.folder), purge_step=int(rows[0]["epoch"]))
        for row in new:
            for name, value in row.items():
                if name != "epoch" and isinstance(value, int | float):
                    self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()
