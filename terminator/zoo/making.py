"""A trained model made ready to be given away: 16-bit weights, fixed statistics, and in the file
itself what it is and how good exactly this file is.
"""

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import terminator
from terminator.classification import networks
from terminator.classification.config import Config
from terminator.classification.runs import CLASSIFICATION, OF_MODEL_FILES
from terminator.data.images import ImageData
from terminator.model import count_parameters
from terminator.runs import records
from terminator.runs.model_files import MODEL
from terminator.runtime import checkpoint, provenance, weights
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError, from_dict, require

LICENCE = "MIT"  # the weights', as the kit's
CHECKPOINT, RECORD = "checkpoint.pt", "record.json"
OF_STRETCHES = ("commit", "dirty", "device", "seconds", "epochs")


@dataclass
class Source:
    """A training that is finished, or under way, as far as it has come.

    Attributes:
        config: its resolved settings.
        model: its network with the weights of now.
        rows: of the epochs that are finished.
        within: steps of the next epoch that the weights have seen as well.
        fingerprint: of its data.
        stretches: what trained it, from start to start.
        record: its record, where there is one.
    """

    config: Config
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
    if given.suffix == ".safetensors":
        return _finished(given, record)
    return _under_way(checkpoint.read(given), record)


def _finished(path: Path, record: Mapping[str, Any] | None) -> Source:
    if record is None or record["status"] != records.FINISHED:
        raise FileNotFoundError(
            f"no {RECORD} of a finished run beside {path}, so nothing says what it was trained on"
        )
    config = records.config_of(record, Config)
    fingerprint, history = record["data"]["fingerprint"], record.get("stretches", [])
    model = networks.load(path)
    return Source(config, model, record["epochs"], 0, fingerprint, history, record)


def _under_way(saved: dict[str, Any], record: Mapping[str, Any] | None) -> Source:
    what = dict(saved["identity"])
    fingerprint = what.pop("data")
    config = from_dict(Config, what)
    model = networks.build(config)
    model.load_state_dict(saved["model"])
    steps = saved["within"]["step"] if saved.get("within") else 0
    history = saved.get("stretches") or [provenance.Stretch.unknown(saved["rows"])]
    return Source(config, model, saved["rows"], steps, fingerprint, history, record)


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

    The weights are rounded first; then statistics are fixed over training images, and the accuracy
    of what the file gives back is measured on the test images, as released and calibrated.

    Args:
        given: see read_source.
        name: what it will be called.
        profile: of a run that has no record yet.
        precision: of calibration and measurement; "": that of the training.
        test_images: measure on so many of them, drawn at random; without it on all.

    Raises:
        ConfigError: if the data are not those of the training.
    """
    source = read_source(given)
    config = source.config
    config = config.updated(train={"precision": precision}) if precision else config
    data = CLASSIFICATION.load_data(config, data_dir)
    if data.info.fingerprint != source.fingerprint:
        raise ConfigError(
            f"dataset.name is {config.dataset.name!r}, and its images here are not those that "
            f"{given} was trained on (their fingerprint begins with {data.info.fingerprint[:12]}, "
            f"not {source.fingerprint[:12]}); allowed: the same data, see --data-dir"
        )
    with tempfile.TemporaryDirectory() as folder:
        draft, file = Path(folder) / "draft.safetensors", Path(folder) / f"{name}.safetensors"
        _rounded(source.model, draft, file)
        trainer = CLASSIFICATION.trainer(networks.load(file), config, data)
        say(f"{name}: fixing statistics over {config.test.calibration_images} training images")
        seen = trainer.calibrate()
        info = {"data": {key: getattr(data.info, key) for key in OF_MODEL_FILES}}
        _write(trainer.model, source.config, info, draft, file)
        model = networks.load(file)
        accuracy = _measured(model, config, _some(data, test_images))
        accuracy["calibrated"]["calibration_images"] = seen
        info["run_id"] = _run_id(source, given, data, profile)
        info["card"] = _card(name, source, profile, model, accuracy, config, data)
        _write(model, source.config, info, draft, file)
        _check_same(model, networks.load(file))
        return file.read_bytes()


def _write(model: Any, config: Config, info: dict[str, Any], draft: Path, file: Path) -> None:
    CLASSIFICATION.save(draft, model, config, **info)
    weights.narrow(draft, file, weights.wide_weights(model))


def _rounded(model: Any, draft: Path, file: Path) -> None:
    """Write the network's weights as 16 bits have them."""
    model.save(draft)
    weights.narrow(draft, file, weights.wide_weights(model))


def _some(data: ImageData, count: int | None) -> ImageData:
    """The data with so many of its test images, drawn from seed 0; None: with all."""
    if count is None:
        return data
    most = len(data.test_labels)
    require(
        2 <= count <= most, "test-images", count, f"2 to {most}, the test images that there are"
    )
    index = torch.randperm(most, generator=torch.Generator().manual_seed(0))[:count]
    chosen = {"test_images": data.test_images[index], "test_labels": data.test_labels[index]}
    return dataclasses.replace(data, **chosen)


def _measured(model: Any, config: Config, data: ImageData) -> dict[str, dict[str, Any]]:
    trainer = CLASSIFICATION.trainer(model, config, data)
    found = {}
    for protocol in ("calibrated", "released"):
        found[protocol] = trainer.evaluate(protocol)
        line = f"{found[protocol]['accuracy']:.2f} % of {found[protocol]['images']} test images"
        say(f"{protocol}: {line}")
    return found


def _check_same(measured: nn.Module, written: nn.Module) -> None:
    """Check that the file holds what was measured."""
    ours, theirs = measured.state_dict(), written.state_dict()
    if not all(torch.equal(value.cpu(), theirs[key]) for key, value in ours.items()):
        raise ValueError("the file does not hold the weights that were measured")


def _run_id(source: Source, given: Path, data: ImageData, profile: str) -> str:
    if source.record is not None:
        return source.record["run_id"]
    return CLASSIFICATION.run_id(source.config, data, profile)


def _card(
    name: str,
    source: Source,
    profile: str,
    model: nn.Module,
    accuracy: dict[str, dict[str, Any]],
    config: Config,
    data: ImageData,
) -> dict[str, Any]:
    """What the file says of itself, beside settings, classes and normalisation."""
    made = provenance.provenance()
    record = source.record or {}
    return {
        "name": name,
        "accuracy": accuracy,
        "measured": {
            "precision": config.train.precision,
            "test_images": data.info.test_size,
            "batch_size": config.test.batch_size,
            "device": provenance.device_name("cpu"),
        },
        "epochs": len(source.rows),
        "of": source.config.train.epochs,
        "steps_of_next": source.within,
        "train_images": data.info.train_size,
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
