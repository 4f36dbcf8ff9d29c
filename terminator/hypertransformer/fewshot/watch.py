"""Evaluation beside a training: every new checkpoint that is found is evaluated on all splits,
until it has ended.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.data import EpisodeData
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.hypertransformer.fewshot.tasks import build_network
from terminator.hypertransformer.fewshot.trainer import EpisodeTrainer
from terminator.runs import records
from terminator.runs.folders import finished_record, trained_again
from terminator.runtime import checkpoint
from terminator.runtime import checkpoint_forms as forms
from terminator.runtime.checkpoint import CheckpointError
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError
from terminator.trainer import what_is_trained


def watch(
    config: FewShotConfig,
    data: EpisodeData,
    folder: Path,
    *,
    poll_s: float = 10.0,
    timeout_s: float = 3600.0,
) -> pd.DataFrame:
    """Evaluate the newest checkpoint of a training again and again; intermediate ones may be
    missed.

    Args:
        config: resolved, as the training has it.
        folder: of the run, where its checkpoint appears.
        poll_s: seconds between looks.
        timeout_s: seconds without anything new after which to give up.

    Returns:
        one row per checkpoint and split: step, split, accuracy (%), interval, tasks, queries, and
        when the training started. It is written to evaluation.csv in the folder after every
        checkpoint; rows of an earlier call are kept, if they are of the same training.

    Raises:
        TimeoutError: if nothing new came in time.
        CheckpointError: for a checkpoint of another configuration.
        ConfigError: for a finished run of one, and for times that are not above 0.
    """
    for name, value in (("poll", poll_s), ("timeout", timeout_s)):
        if not value > 0:
            raise ConfigError(f"{name} is {value:g}; allowed: a number of seconds above 0")
    trainer = EpisodeTrainer(build_network(config), config, data)
    path = folder / "evaluation.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    rows = [row for row in rows if isinstance(row.get("started"), str)]
    seen = -1
    last_news = time.monotonic()
    while True:
        # asked first: what was trained meanwhile is then found below
        record = None if trained_again(folder) else finished_record(folder)
        ended = record is not None
        if record is not None and not FEW_SHOT.is_of(record, config):
            raise ConfigError(
                f"{folder} holds the finished run {record['run_id']} of other settings; allowed: "
                "the same flags as the training's"
            )
        step, started = (
            (config.train.train_steps, _started(record))
            if record is not None
            else _newest(trainer, folder)
        )
        if step is not None:  # rows of a training that was begun anew are none of this one's
            rows = [row for row in rows if row.get("started") == started and row["step"] <= step]
            seen = max((row["step"] for row in rows), default=-1)
        if step is not None and step > seen:
            if ended:
                trainer.model.load_state_dict(
                    FEW_SHOT.load(folder / "model.safetensors")[0].state_dict()
                )
            for split in data.splits:
                found = trainer.evaluate(split)
                rows.append(
                    {"step": step, "split": split}
                    | {key: found[key] for key in ("accuracy", "interval", "tasks", "queries")}
                    | {"started": started}
                )
                say(
                    f"step {step:8d}  {split:5} {found['accuracy']:6.2f} ± {found['interval']:.2f} "
                    f"%  ({found['tasks']} tasks)"
                )
            records.write_csv(path, pd.DataFrame(rows))
            seen, last_news = step, time.monotonic()
        if ended:
            return pd.DataFrame(rows)
        if time.monotonic() - last_news > timeout_s:
            raise TimeoutError(
                f"no new checkpoint in {folder} for {timeout_s:.0f} s (last step seen: "
                f"{seen if seen >= 0 else 'none'}), and no record says that the training has "
                "ended. Is it running, with the same settings?"
            )
        time.sleep(poll_s)


def _started(said: Mapping[str, Any]) -> str:
    """When a training's first stretch started, by its record or checkpoint, which tells it from a
    later one of the same settings; "unknown" where neither kept that.
    """
    stretches = said.get("stretches") or [{}]
    return stretches[0].get("started", "unknown")


def _newest(trainer: EpisodeTrainer, folder: Path) -> tuple[int | None, str]:
    """Load the checkpoint in the folder into the trainer's model; its step, None where there is
    none yet, and when its training started.
    """
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None, ""
    try:
        saved: dict[str, Any] = checkpoint.read(path)
    except CheckpointError:
        if path.is_file():
            raise
        return None, ""  # the training ended, and removed it, just now
    head = forms.of_head(saved) or forms.of_rows(saved.get("rows"), trainer.config.train.epochs)
    head = head or forms.of_moment(saved.get("within"), trainer.steps_per_epoch)
    head = head or forms.of_history(saved.get("stretches") or [], len(saved["rows"]))
    if problem := head or forms.of_weights(saved.get("model"), trainer.model.state_dict()):
        raise checkpoint.unusable(path, problem)
    ours = what_is_trained(trainer.config, trainer.data.info.fingerprint)
    if changed := checkpoint.differences(ours, saved["identity"]):
        raise CheckpointError(
            f"{path} belongs to another configuration: {'; '.join(changed)}. Give the same flags "
            "as the training's."
        )
    trainer.model.load_state_dict(saved["model"])
    done = len(saved["rows"]) * trainer.steps_per_epoch + checkpoint.steps_within(saved)
    return min(done, trainer.config.train.train_steps), _started(saved)
