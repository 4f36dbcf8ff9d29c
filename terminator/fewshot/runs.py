"""Few-shot experiments: run one, or read what is there; its record, its model, and tables of many.

A run is identified by its resolved configuration, its data's fingerprint and its profile, as experiments.run has it.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from terminator import records, weights
from terminator.config import ConfigError, from_dict, identity, to_dict
from terminator.data import DatasetNotFound
from terminator.distributed import processes, rank
from terminator.experiments import Run, file_record, once
from terminator.fewshot.config import FewShotConfig
from terminator.fewshot.data import EpisodeData, load_episode_data
from terminator.fewshot.tasks import build_network
from terminator.fewshot.trainer import EpisodeTrainer
from terminator.model import count_parameters
from terminator.paths import results_dir
from terminator.presets import PROFILES
from terminator.progress import say

TASK = "few-shot"
FORMAT = "terminator few-shot"


class FewShotRun(Run):
    """A finished run: its record, its folder, and on demand its epochs and its model."""

    def model(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        return load(self.folder / "model.safetensors")[0]

    @property
    def config(self) -> FewShotConfig:
        """The resolved configuration."""
        return from_dict(FewShotConfig, self.record["config"])

    def accuracy(self, split: str = "test") -> float:
        """Accuracy (%) over the split's tasks, after the last step."""
        return self.record["results"][split]["accuracy"]


def run(config: FewShotConfig, experiment: str, profile: str = "smoke", *, data: EpisodeData | None = None,
        data_dir: str | None = None, folder: Path | None = None, need_model: bool = False,
        force: bool = False) -> FewShotRun:
    """Read the record of this experiment, go on with it, or train it.

    Args:
        config: the experiment;  experiment: the folder below results/runs;  profile: goes into the record.
        data: already loaded, else by the configuration (and data_dir);  folder: instead of the run's own.
        need_model: train again if only the record is here, not the weights;  force: train again in any case.
    A record of this configuration is enough even where its data are not.
    Raises: ConfigError, DatasetNotFound, CheckpointError, TrainingDiverged, PermissionError.
    """
    if not re.fullmatch(r"[\w-]+", experiment):
        raise ConfigError(f"experiment is {experiment!r}; allowed: letters, digits, - and _")
    if profile not in PROFILES:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(PROFILES)}")
    with processes(config.train):
        try:
            data = load_episode_data(config.data, data_dir) if data is None else data
        except DatasetNotFound:
            if force or need_model or folder or (record := find_record(config, experiment, profile)) is None:
                raise
            return FewShotRun(record, results_dir() / "runs" / experiment / record["run_id"])
        config = config.resolved(data.info.shape[0], data.real_classes)
        name = run_id(config, data, profile)
        folder = folder or run_folder(config, data, experiment, profile)
        record = once(folder, lambda: _train(config, data, experiment, profile, folder, name, not force), need_model,
                      force)
        if record["run_id"] != name:
            raise ConfigError(f"{folder} holds the finished run {record['run_id']} of other settings or data than "
                              f"{name}; allowed: another folder, or --force to replace it")
        return FewShotRun(record, folder)


def run_id(config: FewShotConfig, data: EpisodeData, profile: str) -> str:
    """`<data>-<method>-<profile>-s<seed>-<hash>`: the same for the same experiment, wherever it runs."""
    what = identity(config)
    if start := config.train.restore_shared_features_from:
        what["train"]["restore_shared_features_from"] = hashlib.sha256(Path(start).read_bytes()).hexdigest()
    text = json.dumps([what, data.info.fingerprint, profile], sort_keys=True)
    name = "".join(c if c.isalnum() else "-" for c in data.info.name.lower())
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{name}-{config.method.name}-{profile}-s{config.train.seed}-{digest}"


def run_folder(config: FewShotConfig, data: EpisodeData, experiment: str, profile: str) -> Path:
    """Where the run of a resolved configuration lies."""
    return results_dir() / "runs" / experiment / run_id(config, data, profile)


def find_record(config: FewShotConfig, experiment: str, profile: str) -> dict[str, Any] | None:
    """A finished record of this configuration, whatever the data's fingerprint; for machines without the data."""
    for record in records.load_records(experiment, profile):
        if record.get("task") == TASK:
            theirs = from_dict(FewShotConfig, record["config"])
            with contextlib.suppress(ConfigError):  # other channels than these settings allow
                if identity(theirs) == identity(config.resolved(theirs.model.in_channels,
                                                                theirs.model.shared_head_classes)):
                    return record
    return None


def _train(config: FewShotConfig, data: EpisodeData, experiment: str, profile: str, folder: Path, name: str,
           keep_record: bool) -> dict[str, Any]:
    """Train, evaluate, write model and record; a record that is there already is kept, if so wished."""
    began = {"provenance": records.provenance(), "started": records.now()}
    trainer = EpisodeTrainer(_start(config, data), config, data, folder)
    rows = trainer.fit() if count_parameters(trainer.model) else []
    record: dict[str, Any] = {
        "run_id": name, "experiment": experiment, "task": TASK, "status": "ok", "profile": profile,
        **_describe(trainer, rows), "results": evaluate_all(trainer), **began, "finished": records.now()}
    record = json.loads(json.dumps(record))  # as it will be read again
    if rank() > 0:
        return record
    save(folder / "model.safetensors", trainer.model, config, run_id=name)
    record = file_record(folder, record, rows, keep_record)
    rebuild_index()
    found = record["results"]["test"]
    say(f"{name}: {found['accuracy']:.2f} ± {found['interval']:.2f} % on {found['tasks']} tasks of unseen classes, "
        f"{record['wall_s']:.0f} s of training")
    return record


def _start(config: FewShotConfig, data: EpisodeData) -> nn.Module:
    """The network as training starts: from its seed, or with another model's shared features."""
    model = build_network(config)
    if path := config.train.restore_shared_features_from:
        tensors, _ = weights.read(path)
        found = {key: value for key, value in tensors.items() if key.startswith(("shared.", "shared_head."))}
        own = model.state_dict()
        if not found or any(key not in own or own[key].shape != value.shape for key, value in found.items()):
            raise ConfigError(f"train.restore_shared_features_from is {path!r}, whose shared features are "
                              f"{ {key: tuple(value.shape) for key, value in found.items()} or 'none'}; allowed: a "
                              "model with the same extractor and head")
        model.load_state_dict(own | found)
    return model


def evaluate_all(trainer: EpisodeTrainer) -> dict[str, dict[str, Any]]:
    """Results of every split, and of test tasks whose queries may be support images, as the reference draws them."""
    results = {split: trainer.evaluate(split) for split in trainer.data.splits}
    episodes = trainer.config.episodes
    if episodes.balanced_batches and episodes.overlap == "disjoint" and trainer.config.method.name != "continual":
        results["test_overlapping"] = trainer.evaluate("test", overlap="parity")
    return results


def _describe(trainer: EpisodeTrainer, rows: list[dict[str, float]]) -> dict[str, Any]:
    """The part of a record that says what was trained, on what, for how long, and every epoch of it."""
    config, kind = trainer.config, trainer.device.type
    seconds, episodes = sum(row["seconds"] for row in rows), config.train.train_steps * config.train.batch_size
    return {
        "seed": config.train.seed, "model": type(trainer.model).__name__, "parameters": count_parameters(trainer.model),
        "config": to_dict(config), "data": dataclasses.asdict(trainer.data.info), "epochs": rows,
        "wall_s": round(seconds, 2), "episodes_per_s": round(episodes / seconds, 2) if rows else None,
        "peak_memory_bytes": records.peak_memory_bytes(kind), "device": records.device_name(kind),
        "precision": config.train.precision,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def save(path: Path, model: nn.Module, config: FewShotConfig, **info: Any) -> None:
    """Write one self-describing safetensors file: weights and the resolved configuration."""
    weights.write(path, model.state_dict(), {"format": FORMAT, "config": json.dumps(to_dict(config)),
                                             "info": json.dumps(info)})


def load(path: Path) -> tuple[nn.Module, FewShotConfig]:
    """The network in a file that `save` wrote, in evaluation mode, and its configuration.

    Raises:  FileNotFoundError; ValueError if the file is corrupt, or no few-shot model.
    """
    tensors, metadata = weights.read(path)
    if metadata["format"] != FORMAT:
        raise ValueError(f"{path} is no few-shot model: its metadata says format={metadata['format']}")
    try:
        config = from_dict(FewShotConfig, json.loads(metadata["config"]))
        model = build_network(config)
        model.load_state_dict(tensors)
    except (ConfigError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} does not hold a whole model: {error}") from error
    return model.eval(), config


# -- tables ----------------------------------------------------------------------------------------------------


def method_name(config: FewShotConfig) -> str:
    """What a reader calls the method: all layers or logits only, for the HyperTransformer."""
    names = {"prototypical": "prototypical network", "pixels": "nearest mean of pixels",
             "continual": "continual HyperTransformer"}
    if config.method.name in names:
        return names[config.method.name]
    m = config.model
    trained = m.number_of_trained_cnn_layers
    if trained == m.conv_layers:
        return "HyperTransformer, logits only"
    return "HyperTransformer, all layers" if not trained else f"HyperTransformer, {trained} conv layers trained"


def runs_table(found: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per record: what it was, how well (%, with 95 % interval over tasks), how long, on what."""
    rows = []
    for r in found:
        config = from_dict(FewShotConfig, r["config"])
        e, results, m = config.episodes, r["results"], config.model
        unlabeled = e.unlabeled_samples_per_class
        rows.append({
            "run_id": r["run_id"], "experiment": r["experiment"], "profile": r["profile"], "data": r["data"]["title"],
            "method": method_name(config), "ways": e.num_labels,
            "shots": e.samples_transformer / e.num_labels - unlabeled, "unlabeled": unlabeled,
            "channels": m.default_num_channels, "transformer_layers": m.num_layers, "parameters": r["parameters"],
            "steps": config.train.train_steps if r["epochs"] else 0, "batch": config.train.batch_size,
            "seed": r["seed"], "test": results["test"]["accuracy"], "interval": results["test"]["interval"],
            "tasks": results["test"]["tasks"], "train_classes": results["train"]["accuracy"],
            "overlapping": results.get("test_overlapping", {}).get("accuracy"), "queries": e.overlap,
            "wall_s": r["wall_s"], "episodes_per_s": r["episodes_per_s"], "device": r["device"],
            "commit": (r["provenance"]["commit"] or "")[:10], "dirty": r["provenance"]["dirty"],
            "finished": r["finished"]})
    return pd.DataFrame(rows)


SETTING = ["data", "method", "ways", "shots", "unlabeled", "transformer_layers", "channels", "parameters", "steps"]


def summary_table(found: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per setting: mean over seeds, its standard deviation, and the interval of one seed over tasks."""
    runs, rows = runs_table(found), []
    if runs.empty:
        return runs
    for key, group in runs.groupby(SETTING, sort=False):
        sd = group["test"].std(ddof=1) if len(group) > 1 else None
        rows.append(dict(zip(SETTING, key, strict=True)) | {
            "seeds": len(group), "test": group["test"].mean(), "sd": sd, "interval": group["interval"].mean(),
            "tasks": group["tasks"].iloc[0], "train_classes": group["train_classes"].mean(),
            "overlapping": group["overlapping"].mean(), "minutes": group["wall_s"].mean() / 60})
    return pd.DataFrame(rows).round(2)


def rebuild_index() -> Path | None:
    """Write results/index_fewshot.csv, one row per few-shot run that is evidence; nothing where there is none."""
    found = records.evidence(TASK)
    return records.write_csv(results_dir() / "index_fewshot.csv", runs_table(found)) if found else None
