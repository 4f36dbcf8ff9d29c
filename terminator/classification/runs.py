"""Terminator's own experiments: run one, or read what is there."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from terminator.classification import networks, studies
from terminator.classification.config import Config
from terminator.classification.fitting import (
    adopt_pretrained,
    check_use,
    fit_batch,
    fit_images,
    fit_warmup,
    named_by,
    warmup_line,
)
from terminator.classification.presets import IMAGES, SUBSTITUTES, TOUR, preset
from terminator.classification.trainer import Trainer
from terminator.config import SHAPE, ModelConfig
from terminator.data import catalogue
from terminator.data.errors import DatasetNotFound
from terminator.data.images import ImageData, load
from terminator.data.summary import announce
from terminator.model import Terminator
from terminator.runs import records
from terminator.runs.finished import FinishedRun
from terminator.runs.leavings import leave
from terminator.runs.study import Study, default_seeds, run_study, study_runs
from terminator.runs.system import System
from terminator.runs.wanted import Wanted
from terminator.runtime import shipped, weights
from terminator.runtime.distributed import rank
from terminator.runtime.progress import say, say_once
from terminator.runtime.settings import (
    ConfigError,
    changed_settings,
    from_dict,
    identity,
    require_one_of,
    without_places,
)
from terminator.runtime.torch_state import seed

# what a model file says of its data
OF_MODEL_FILES = ("name", "title", "shape", "classes", "mean", "std", "fingerprint")
COLUMNS = (  # of index.csv
    "run_id",
    "experiment",
    "profile",
    "dataset",
    "train_images",
    "test_images",
    "image_size",
    "model",
    "parameters",
    "optimizer",
    "setting",
    "epochs",
    "seed",
    "accuracy_released",
    "accuracy_calibrated",
    "wall_s",
    "images_per_s",
    "peak_memory_mb",
    "device",
    "commit",
    "dirty",
    "finished",
)


class ClassificationRun(FinishedRun):
    """A finished run, with the images it was tested on."""

    def test_images(self, count: int) -> Tensor | None:
        """The first test images (count, C, *positions), uint8; nothing where the data are not on
        this machine.
        """
        try:
            return self.system.load_data(self.config).test_images[:count]
        except DatasetNotFound:
            return None


class ClassificationSystem(System):
    """Terminator and its baselines, trained and tested on labelled images or sequences."""

    task, command = "classification", "train"
    config = Config
    index = "index.csv"
    data_groups = ("dataset",)
    started_by = ("pretrained.filename",)
    columns = COLUMNS
    run_type = ClassificationRun
    measures = {"accuracy_released": "accuracy (%)", "accuracy_calibrated": "calibrated (%)"}

    # -- data, settings, identity

    def read_data(self, config: Config, data_dir: str | None = None) -> ImageData:
        use = config.dataset
        return load(
            use.name,
            data_dir=data_dir,
            image_size=use.image_size,
            channels=use.channels,
            train_size=use.train_size,
            test_size=use.test_size,
            held_out=use.held_out,
            view=use.view,
            permutation_seed=use.permutation_seed,
            jpeg_quality=use.jpeg_quality,
            on_error=use.on_error,
        )

    def announce(self, data: ImageData) -> None:
        announce(data)

    def ready(
        self, config: Config, profile: str, recorded: Callable[[], bool] = lambda: False
    ) -> Config:
        """The configuration with a substitute of its data set, if only that one is on this machine.

        A substitute has a name and a title of its own, so no number can pass for the original's;
        and the paper profile takes none. Nor is one taken where all is recorded of the original.
        """
        name = config.dataset.name
        substitute = SUBSTITUTES.get(name)
        if substitute is None or profile == "paper":
            return config
        there = catalogue.ready()
        if name in there or substitute not in there or recorded():
            return config
        say_once(f"{name} is not on this machine; its substitute {substitute} is taken")
        return config.updated(dataset={"name": substitute})

    def has_record(self, config: Config, experiment: str, profile: str) -> bool:
        """As System.has_record; a substitute's is none."""
        name = Path(config.dataset.name).name
        found = self.records_like(config, experiment, profile)
        return any(record["data"]["name"] == name for record in found)

    def resolve(self, config: Config, data: ImageData) -> Config:
        """With the data's shape and classes in the model, or with the model that `pretrained`
        names; and with a warm-up that fits.

        Raises:
            ConfigError: if the model was set to another shape than the data have, the pretrained
                one does not fit data or settings, or a setting would be dropped.
        """
        check_use(config)
        config = named_by(data.info, config)
        shape = data.info.shape
        found: dict[str, Any] = {
            "dimensions": len(shape) - 1,
            "in_channels": shape[0],
            "size": shape[-1],
            "classes": len(data.info.classes),
        }
        for name, value in found.items():
            given = getattr(config.model, name)
            if given not in (None, value) and not (name == "dimensions" and given == 2):
                raise ConfigError(
                    f"model.{name} is {given}, but {data.info.title} has {value}; leave it out, or "
                    "change the data set's settings"
                )
        model = dataclasses.replace(config.model, **found)
        model = model if config.network.name in networks.BASELINES else model.resolved()
        fitted = fit_warmup(config, data.info.train_size)
        if rank() == 0 and (line := warmup_line(config, fitted)):
            say(line)
        return adopt_pretrained(dataclasses.replace(fitted, model=model), asked=config)

    def resolve_like(self, config: Config, record: dict[str, Any]) -> Config:
        """With the record's shape where none is asked for, and its data set if that is a
        substitute.
        """
        theirs = records.config_of(record, Config)
        shape = {
            name: getattr(theirs.model, name)
            for name in (*SHAPE, "factors", "trained_size")
            if name == "dimensions" or getattr(config.model, name) is None
        }
        substitute = None if record["profile"] == "paper" else SUBSTITUTES.get(config.dataset.name)
        if theirs.dataset.name == substitute:
            config = config.updated(dataset={"name": theirs.dataset.name})
        config = fit_warmup(config, record["data"]["train_size"])
        if config.pretrained.load:  # the rest is that of the model in the file
            asked = changed_settings(config.model, ModelConfig())
            model = dataclasses.replace(
                theirs.model, **{name: getattr(config.model, name) for name in asked}
            )
        else:
            model = dataclasses.replace(config.model, **shape)
        return dataclasses.replace(config, model=model)

    def start_file(self, config: Config, key: str) -> Path | None:
        """A model's file or, by its name, one that comes with the package."""
        given = config.pretrained
        return shipped.model_path(given.filename) if given.load else None

    def names(self, config: Config, data: ImageData) -> tuple[str, ...]:
        return (Path(data.info.name).name,)  # no method: the hash tells networks apart

    def method(self, config: Config) -> str:
        """The network's class, as in a record."""
        return networks.BASELINES.get(config.network.name, Terminator).__name__

    # -- network, training, results

    def build(self, config: Config) -> nn.Module:
        """The network of a resolved configuration, from its seed, or read from `pretrained`."""
        seed(config.train.seed)
        if config.pretrained.load:
            model: Any = networks.load_named(config.pretrained.filename)
            if model.config.classes != config.model.classes:
                model = networks.with_new_classifier(model, config.model.classes)
            return model
        return networks.build(config)

    def start(self, config: Config, data: ImageData) -> nn.Module:
        """The network as training starts: a pretrained one that knows other classes forgets
        them.
        """
        model: Any = self.build(config)
        if not config.pretrained.load or networks.knows(model, data.info.classes):
            return model
        seed(config.train.seed)
        return networks.with_new_classifier(model, len(data.info.classes))

    def sketch(self, config: Config) -> nn.Module:
        return weights.sketch(lambda: networks.build(config))

    def trainer(
        self, model: nn.Module, config: Config, data: ImageData, folder: Path | None = None
    ) -> Trainer:
        """The loop; of a pretrained network, on images that are normalised as it knows them."""
        if config.pretrained.load:
            data = data.normalised_as(getattr(model, "info", {}).get("data", {}))
        return Trainer(model, config, data, folder)

    def results(self, trainer: Trainer, calibrate: bool = True) -> dict[str, dict[str, Any]]:
        """Of both protocols, the second after calibration, or with the statistics that are
        there.
        """
        results: dict[str, dict[str, Any]] = {"released": trainer.evaluate("released")}
        count = trainer.calibrate() if calibrate else None
        results["calibrated"] = {**trainer.evaluate("calibrated"), "calibration_images": count}
        return results

    def variants(self, experiment: str, profile: str) -> Mapping[str, Any]:
        """As System.variants: of the studies."""
        return studies.named(experiment, profile)

    def judged_by(self, record: dict[str, Any]) -> str:
        return "released"

    def details(self, trainer: Trainer, rows: Sequence[dict[str, float]]) -> dict[str, Any]:
        count = len(rows) * trainer.steps_per_epoch * trainer.config.train.batch_size
        seconds = sum(row["seconds"] for row in rows)
        return {
            "flops_per_image": flops_per_image(trainer),
            "images_per_s": round(count / seconds, 2),
        }

    def about(self, record: dict[str, Any]) -> dict[str, Any]:
        """A model file describes its data, so that it can be given images."""
        data = {key: record["data"][key] for key in OF_MODEL_FILES}
        return {"data": data, **super().about(record)}

    def save(self, path: Path, model: Any, config: Config, **info: Any) -> None:
        """Write the model's own kind of file, which holds the changed settings in its `info`."""
        model.save(path, **info, config=identity(without_places(config)))

    def load(self, path: str | os.PathLike) -> tuple[Any, Config | None]:
        """The network in a file of this kit or a released checkpoint, and its configuration.

        Returns:
            the network in evaluation mode; no configuration where the file does not say what it was
            trained with.

        Raises:
            FileNotFoundError: as its message says.
            ValueError: if the file is corrupt, or no such model.
        """
        model = networks.load(Path(path))
        saved = getattr(model, "info", {}).get("config")
        with weights.understood(path):
            return model, None if saved is None else from_dict(Config, saved)

    # -- tables

    def summary(self, record: dict[str, Any]) -> str:
        found = record["results"]
        released, calibrated = (found[part]["accuracy"] for part in ("released", "calibrated"))
        return f"test accuracy {released:.2f} % as released, {calibrated:.2f} % calibrated"

    def row(self, record: dict[str, Any]) -> dict[str, Any]:
        """What it was, how well (%), how fast; setting: a hash of what is the same for all
        seeds.
        """
        data, config, results = record["data"], record["config"], record["results"]
        return {
            "dataset": data["title"],
            "train_images": data["train_size"],
            "test_images": data["test_size"],
            "image_size": data["shape"][-1],
            "model": record["model"],
            "optimizer": config["optimizer"]["name"],
            "setting": self.setting_name(record),
            "epochs": config["train"]["epochs"],
            "accuracy_released": results["released"]["accuracy"],
            "accuracy_calibrated": results.get("calibrated", {}).get("accuracy"),
            "images_per_s": record["images_per_s"],
            "peak_memory_mb": round(record["peak_memory_bytes"] / 1e6),
        }


CLASSIFICATION = ClassificationSystem()


def flops_per_image(trainer: Trainer) -> int:
    """Floating point operations of one forward pass per image, in a batch of two.

    A multiplication and an addition count as two.
    """
    from terminator.classification.analysis import counted

    x = torch.zeros(2, *trainer.data.info.shape, device=trainer.device)
    return counted(trainer.model, x).get_total_flops() // 2


# -- runs that notebooks share --------------------------------------------------------------------


def tour_run(profile: str, seed: int = 0, device: str = "auto") -> Wanted:
    """What `tour` runs."""
    require_one_of("profile", profile, TOUR)
    config = preset(TOUR[profile], train={"seed": seed, "device": device})
    config = CLASSIFICATION.ready(config, profile)
    return Wanted(CLASSIFICATION, config, "images", profile, "tour", need_model=True)


def tour(profile: str, seed: int = 0, device: str = "auto") -> ClassificationRun:
    """The trained model that the first notebooks look at; trained here if its weights are not."""
    return tour_run(profile, seed, device).run()


def image_study(profile: str) -> Study:
    """Every data set of the 2-D table, {preset: ...}."""
    return Study("images", {name: preset(name) for name in IMAGES[profile]}, default_seeds(profile))


def image_runs(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> list[Wanted]:
    """What `images` runs."""
    return study_runs(CLASSIFICATION, image_study(profile), profile, seeds, device)


def images(
    profile: str, seeds: Sequence[int] = (), device: str = "auto"
) -> list[ClassificationRun]:
    """The runs of the 2-D table: every data set of the profile, every seed."""
    found = run_study(CLASSIFICATION, image_study(profile), profile, seeds, device)
    return [run for runs in found.values() for run in runs]


def own_images(
    folder: str | os.PathLike, profile: str = "smoke", **changes: Any
) -> ClassificationRun:
    """A calibrated model of a folder (or archive) of class folders, trained with the preset "own".

    Args:
        folder: {train,test}/<class>/* or <class>/*.
        changes: settings, as for presets.preset.

    A batch is at most a quarter of the training images, unless changes say how large it is, so that
    few images still give some steps. The record is nobody's evidence: it is kept where the command
    line keeps its own, and beside it lie the curves and a page of the run.
    """
    from terminator.plots.run_curves import run_curves

    config = preset("own", **changes).updated(dataset={"name": os.fspath(folder)})
    config, line = fit_images(config, changes.get("dataset", {}))
    if line:
        say(line)
    data = CLASSIFICATION.load_data(config)
    asked = "batch_size" in changes.get("train", {})
    config, line = fit_batch(config, data.info.train_size, asked)
    if line:
        say(line)
    run = CLASSIFICATION.run(config, records.OWN, profile, data=data, need_model=True)
    if not run.trained:
        say("finished before, nothing trained")
    leave(run, run_curves)
    return run
