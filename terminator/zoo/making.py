"""A trained model made ready to be given away: 16-bit weights, fixed statistics, and in the file
itself what it is and how good exactly this file is.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import terminator
from terminator.config import TrainingInSteps
from terminator.model import count_parameters
from terminator.runs import records
from terminator.runs.model_files import MODEL
from terminator.runtime import checkpoint, provenance, weights
from terminator.runtime import checkpoint_forms as forms
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError, from_dict
from terminator.zoo.kinds import Kind, kind_for

LICENCE = "MIT"  # the weights', as the kit's
CHECKPOINT, RECORD = "checkpoint.pt", "record.json"
OF_STRETCHES = ("commit", "dirty", "device", "seconds", "epochs")


@dataclass
class Source:
    """A training that is finished, or under way, as far as it has come.

    Attributes:
        kind: of its system.
        config: its resolved settings.
        model: its network with the weights of now.
        rows: of the epochs that are finished.
        within: steps of the next epoch that the weights have seen as well.
        fingerprint: of its data.
        stretches: what trained it, from start to start.
        record: its record, where there is one.
    """

    kind: Kind
    config: Any
    model: nn.Module
    rows: list[dict[str, Any]]
    within: int
    fingerprint: str
    stretches: list[dict[str, Any]]
    record: Mapping[str, Any] | None


def read_source(given: Path) -> Source:
    """The training in a run's folder, or of a checkpoint or model file in one.

    Raises:
        FileNotFoundError: if there are no weights.
        ValueError: if they cannot be read, or their record.
    """
    folder = given if given.is_dir() else given.parent
    path = folder / RECORD
    record = records.read_record(path) if path.is_file() else None
    if given.is_dir():
        is_finished = record is not None and record["status"] == records.FINISHED
        given = folder / (MODEL if is_finished else CHECKPOINT)
    if not given.is_file():
        raise FileNotFoundError(
            f"no {given.name} in {folder}; allowed: a run's folder, finished (with {MODEL} and "
            f"{RECORD}) or under way (with {CHECKPOINT}), or one of these files"
        )
    # a checkpoint does not say what it is of; without a record it is taken for a classifier's
    kind = kind_for("classification" if record is None else records.task_of(record))
    if given.suffix == ".safetensors":
        return _finished(kind, given, record)
    saved = checkpoint.read(given)
    if problem := forms.of_head(saved):
        raise checkpoint.unusable(given, problem)
    return _under_way(kind, given, saved, record)


def _finished(kind: Kind, path: Path, record: Mapping[str, Any] | None) -> Source:
    if record is None or record["status"] != records.FINISHED:
        raise FileNotFoundError(
            f"no {RECORD} of a finished run beside {path}, so nothing says what it was trained on"
        )
    config = records.config_of(record, kind.system.config)
    fingerprint, history = record["data"]["fingerprint"], record.get("stretches", [])
    model = kind.system.load(path)[0]
    return Source(kind, config, model, record["epochs"], 0, fingerprint, history, record)


def _under_way(
    kind: Kind, path: Path, saved: dict[str, Any], record: Mapping[str, Any] | None
) -> Source:
    what = dict(saved["identity"])
    fingerprint = what.pop("fingerprint") if "fingerprint" in what else what.pop("data")
    config = from_dict(kind.system.config, what)
    model = weights.fitted(path, lambda: kind.system.build(config), saved["model"])
    steps = checkpoint.steps_within(saved)
    history = saved.get("stretches") or [provenance.Stretch.unknown(saved["rows"])]
    return Source(kind, config, model, saved["rows"], steps, fingerprint, history, record)


# -- rounding, measuring, writing ------------------------------------------------------------------


def make(
    given: Path,
    name: str,
    *,
    data_dir: str | None = None,
    profile: str = "laptop",
    precision: str = "",
    test_images: int | None = None,
) -> bytes:
    """The content of a model file that describes itself, from a training and its data.

    The weights are rounded first, and what the file then gives back is what is measured; of a
    classifier statistics are fixed before, over training images.

    Args:
        given: see read_source.
        name: what it will be called.
        profile: of a run that has no record yet.
        precision: of calibration and measurement; "": that of the training.
        test_images: measure a classifier on so many of them, drawn at random; without it on all.

    Raises:
        ConfigError: if the data are not those of the training, or its system gives none away.
    """
    source = read_source(given)
    kind, config = source.kind, source.config
    config = config.updated(train={"precision": precision}) if precision else config
    data = kind.system.load_data(config, data_dir)
    if data.info.fingerprint != source.fingerprint:
        raise ConfigError(
            f"the data that the settings of {given} name here are not those that it was trained on "
            f"(their fingerprint begins with {data.info.fingerprint[:12]}, not with "
            f"{source.fingerprint[:12]}); allowed: the same data, see --data-dir"
        )
    data = kind.as_known(source.model, data)
    measured = data if test_images is None else kind.some(data, test_images)
    with tempfile.TemporaryDirectory() as folder:
        draft, file = Path(folder) / "draft.safetensors", Path(folder) / f"{name}.safetensors"
        kind.system.save(draft, source.model, source.config)
        weights.narrow(draft, file, weights.wide_weights(source.model))
        # which refuses what nobody could use, before the work of measuring
        model, settled = kind.settle(kind.load(file).model, config, data)
        info = kind.about(data) | {"run_id": _run_id(source, data, profile)}
        _write(kind, model, source.config, info, draft, file)
        model = kind.system.load(file)[0]
        say(f"{name}: measuring it")
        accuracy = kind.measure(model, config, measured)
        for way, more in settled.items():
            accuracy[way] |= more
        info["card"] = {**_card(name, source, profile, model, config, data), "accuracy": accuracy}
        _write(kind, model, source.config, info, draft, file)
        _check_same(model, kind.system.load(file)[0])
        return file.read_bytes()


def _write(
    kind: Kind, model: Any, config: Any, info: dict[str, Any], draft: Path, file: Path
) -> None:
    kind.system.save(draft, model, config, **info)
    weights.narrow(draft, file, weights.wide_weights(model))


def _check_same(measured: nn.Module, written: nn.Module) -> None:
    """Check that the file holds what was measured."""
    ours, theirs = measured.state_dict(), written.state_dict()
    if not all(torch.equal(value.cpu(), theirs[key]) for key, value in ours.items()):
        raise ValueError("the file does not hold the weights that were measured")


def _run_id(source: Source, data: Any, profile: str) -> str:
    if source.record is not None:
        return source.record["run_id"]
    return source.kind.system.run_id(source.config, data, profile)


def _length(source: Source) -> dict[str, int]:
    """How long it was trained, of how long it should be."""
    rows, train = len(source.rows), source.config.train
    found = {"epochs": rows, "of": train.epochs, "steps_of_next": source.within}
    if isinstance(train, TrainingInSteps):
        done = min(rows * train.steps_between_saves, train.train_steps) + source.within
        found |= {"steps": done, "of_steps": train.train_steps}
    return found


def _card(
    name: str, source: Source, profile: str, model: nn.Module, config: Any, data: Any
) -> dict[str, Any]:
    """What the file says of itself, beside settings and what it reaches."""
    made, sizes = provenance.provenance(), source.kind.sizes(data)
    record = source.record or {}
    return {
        "name": name,
        "measured": {
            "precision": config.train.precision,
            "test_images": sizes["test"],
            "batch_size": source.kind.batch(config),
            "device": provenance.device_name(next(model.parameters()).device.type),
        },
        **_length(source),
        "train_images": sizes["train"],
        "notes": list(data.info.notes),
        "parameters": count_parameters(model),
        "experiment": record.get("experiment", ""),
        "profile": record.get("profile", profile),
        "seed": source.config.train.seed,
        "stretches": [
            {key: stretch.get(key) for key in OF_STRETCHES} for stretch in source.stretches
        ],
        "made": {
            "version": terminator.__version__,
            "commit": made["commit"],
            "dirty": made["dirty"],
            "date": provenance.now(),
        },
        "licence": LICENCE,
    }
