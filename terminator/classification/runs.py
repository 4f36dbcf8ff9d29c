"""Experiments: run it, or read what is there.

A run is identified by its resolved configuration, its data's fingerprint and its profile. `run` returns the
finished run's record, goes on with an unfinished one from its checkpoint, or trains.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from terminator.classification import networks, report
from terminator.classification.config import Config
from terminator.classification.presets import IMAGES, SUBSTITUTES, TOUR, preset
from terminator.classification.trainer import Trainer
from terminator.config import SHAPE, ModelConfig
from terminator.data import DatasetNotFound, ImageData, available, load
from terminator.data.summary import announce
from terminator.runs import observations, records
from terminator.runs.study import Contest, Study, default_seeds
from terminator.runs.system import FinishedRun, check_names, describe, file_record, once, run_name
from terminator.runtime import provenance
from terminator.runtime.deterministic import deterministic_algorithms
from terminator.runtime.distributed import barrier, choose_device, processes, rank
from terminator.runtime.paths import results_dir
from terminator.runtime.progress import say
from terminator.runtime.settings import ConfigError, changed_settings, from_dict, identity, to_dict
from terminator.slow_net import forget_kernels
from terminator.standardization import is_calibrated
from terminator.trainer import TrainingDiverged


def first_ready(names: Iterable[str], data_dir: str | None = None) -> str | None:
    """The first of these data sets that is on this machine, or None."""
    ready = {row.name for row in available(data_dir) if row.status.startswith("ready")}
    return next((name for name in names if name in ready), None)


def with_ready_data(config: Config, profile: str, data_dir: str | None = None) -> Config:
    """The configuration with a substitute of its data set, if only that one is on this machine.

    A substitute has a name and a title of its own, so no number can pass for the original's; and the paper
    profile takes none.
    """
    name = config.dataset.name
    chosen = first_ready([name, SUBSTITUTES.get(name, name)], data_dir) or name
    if chosen == name or profile == "paper":
        return config
    say(f"{name} is not on this machine; its substitute {chosen} is taken")
    return config.updated(dataset={"name": chosen})


def tour(profile: str, seed: int = 0, device: str = "auto") -> "Run":
    """The trained model that the first notebooks look at; trained on the spot where its weights are not here."""
    if profile not in TOUR:
        raise ConfigError(f"profile is {profile!r}; allowed: {', '.join(TOUR)}")
    config = with_ready_data(preset(TOUR[profile], train={"seed": seed, "device": device}), profile)
    return run(config, "tour" if profile == "smoke" else "images", profile, need_model=True)


def images(profile: str, seeds: Sequence[int] = (), device: str = "auto") -> list["Run"]:
    """The runs of the 2-D table: every data set of the profile, every seed."""
    runs = []
    for name in IMAGES[profile]:
        for seed in default_seeds(profile, seeds):
            config = with_ready_data(preset(name, train={"seed": seed, "device": device}), profile)
            runs.append(run(config, "images", profile))
    return runs


def runs(study: Study, profile: str, seeds: Sequence[int] = (), device: str = "auto") -> dict[Any, list["Run"]]:
    """The runs of a study, {label: one per seed}; all variants with the first seed come first.

    A training that diverges is said and left out: its label has fewer runs, or none.
    """
    found: dict[Any, list[Run]] = {label: [] for label in study.variants}
    ready = {config.dataset.name: config for config in study.variants.values()}
    ready = {name: with_ready_data(config, profile).dataset.name for name, config in ready.items()}
    for seed in tuple(seeds) or study.seeds:
        for label, config in study.variants.items():
            config = config.updated(dataset={"name": ready[config.dataset.name]},
                                    train={"seed": seed, "device": device})
            try:
                found[label].append(run(config, study.experiment, profile))
            except TrainingDiverged as error:
                say(f"{label}, seed {seed}: {error}")
    return found


def finals(contest: Contest, rates: Mapping[str, Sequence[float]], profile: str, seeds: Sequence[int] = (),
           device: str = "auto") -> dict[str, list["Run"]]:
    """The final runs of a contest, {candidate: one per seed}.

    Args:  rates: {candidate: learning rates, the best first} (comparison.ranked_rates).
    A rate at which a candidate diverges with any seed, now that it trains on all images, gives way to its next one.
    """
    left = {label: list(of) for label, of in rates.items()}
    while True:
        found = runs(contest.final({label: of[0] for label, of in left.items()}), profile, seeds, device)
        failed = [label for label, of in left.items()
                  if len(found[label]) < len(tuple(seeds) or contest.seeds) and len(of) > 1]
        if not failed:
            return found
        for label in failed:
            say(f"{label}: at {left[label].pop(0):g} not every seed trains to the end; next {left[label][0]:g}")


def records_of(study: Study, profile: str) -> dict[Any, list[dict[str, Any]]]:
    """The records of a study that are here, {label: records in order of their seeds}; trains nothing."""
    found = sorted(records.load_records(study.experiment, profile), key=lambda record: record["seed"])
    return {label: [record for record in found if is_of(record, config.updated(train={"seed": record["seed"]}))]
            for label, config in study.variants.items()}


def own_images(folder: str | os.PathLike, profile: str = "smoke", **changes: Any) -> "Run":
    """A calibrated model of a folder (or archive) of class folders, trained with the preset "own".

    Args:    folder: {train,test}/<class>/* or <class>/*;  changes: settings, as for presets.preset.
    A batch is at most a quarter of the training images, so that few images still give some steps. The record
    is nobody's evidence: it is kept where the command line keeps its own.
    """
    config = preset("own", **changes).updated(dataset={"name": os.fspath(folder)})
    data = load_data(config)
    batch = max(2, min(config.train.batch_size, data.info.train_size // 4))
    if batch < config.train.batch_size:
        say(f"{data.info.train_size} training images: train.batch_size={batch}")
    return run(config.updated(train={"batch_size": batch}), records.OWN, profile, data=data, need_model=True)


def load_data(config: Config, data_dir: str | None = None) -> ImageData:
    """The data set that the configuration names."""
    use = config.dataset
    if rank() > 0:
        barrier()  # the first process downloads and decodes, the others find its cache
    data = load(use.name, data_dir=data_dir, image_size=use.image_size, channels=use.channels,
                train_size=use.train_size, test_size=use.test_size, held_out=use.held_out, view=use.view,
                permutation_seed=use.permutation_seed)
    if rank() == 0:
        barrier()
    return data


def resolve(config: Config, data: ImageData) -> Config:
    """The configuration with the data's channels, size and classes filled into the model.

    Raises:  ConfigError if the model was set to another shape than the data have.
    """
    shape = data.info.shape
    found = {"dimensions": len(shape) - 1, "in_channels": shape[0], "size": shape[-1],
             "classes": len(data.info.classes)}
    for name, value in found.items():
        given = getattr(config.model, name)
        if given not in (None, value) and not (name == "dimensions" and given == 2):
            raise ConfigError(f"model.{name} is {given}, but {data.info.title} has {value}; leave it out, or change "
                              "the data set's settings")
    model = dataclasses.replace(config.model, **found)
    return dataclasses.replace(config, model=model if config.network.name in networks.BASELINES else model.resolved())


class Run(FinishedRun):
    """A finished run: its record, its folder, and on demand its epochs and its model."""

    @property
    def observed_fields(self) -> dict[int, dict[str, Any]]:
        """Fields of a few images per epoch (train.observe); see observations.read_fields."""
        return observations.read_fields(self.folder)

    def test_images(self, count: int) -> Tensor | None:
        """The first test images (count, C, *positions), uint8; nothing where the data are not on this machine."""
        try:
            return load_data(from_dict(Config, self.record["config"])).test_images[:count]
        except DatasetNotFound:
            return None

    def model(self) -> nn.Module:
        """The trained network, calibrated, in evaluation mode."""
        return networks.load(self.folder / "model.safetensors")

    def accuracy(self, protocol: str = "released") -> float:
        """Test accuracy (%) after the last epoch."""
        return self.record["results"][protocol]["accuracy"]


def run_id(config: Config, data: ImageData, profile: str) -> str:
    """`<data>-<profile>-s<seed>-<hash>`: the same for the same experiment, wherever it runs."""
    what = identity(config)
    if "name" in what.get("dataset", {}):  # wherever a folder of images lies: its fingerprint tells it apart
        what["dataset"]["name"] = Path(what["dataset"]["name"]).name
    if config.pretrained.load:
        what["pretrained"]["filename"] = hashlib.sha256(Path(config.pretrained.filename).read_bytes()).hexdigest()
    return run_name(what, data.info.fingerprint, profile, config.train.seed, Path(data.info.name).name)


def run(config: Config, experiment: str, profile: str = "smoke", *, data: ImageData | None = None,
        data_dir: str | None = None, need_model: bool = False, force: bool = False) -> Run:
    """Read the record of this experiment, go on with it, or train it.

    Args:
        config: the experiment; model sizes that are None are the data's.
        experiment: the folder below results/runs;  profile: smoke, laptop or paper, goes into the record.
        data: already loaded, else by the configuration (and data_dir).
        need_model: train again if only the record is here, not the weights; the record stays as it is.
        force: train again in any case, and replace the record at the end.
    A record of this configuration is enough even where its data are not.
    Raises: ConfigError, DatasetNotFound, CheckpointError, TrainingDiverged, PermissionError.
    """
    check_names(experiment, profile)
    with processes(config.train):
        try:
            data = load_data(config, data_dir) if data is None else data
        except DatasetNotFound:
            if force or need_model or (record := find_record(config, experiment, profile)) is None:
                raise
            return Run(record, results_dir() / "runs" / experiment / record["run_id"])
        config = adopt_pretrained(resolve(config, data), asked=config)
        folder = results_dir() / "runs" / experiment / run_id(config, data, profile)
        def train() -> dict[str, Any]:
            with deterministic_algorithms(config.train.deterministic):
                return _train(config, data, experiment, profile, folder, keep_record=not force)

        return Run(once(folder, train, need_model, force), folder)


def find_record(config: Config, experiment: str, profile: str) -> dict[str, Any] | None:
    """A finished record of this configuration, or of its data's substitute, whatever the data's fingerprint."""
    return next((record for record in records.load_records(experiment, profile) if is_of(record, config)), None)


def is_of(record: dict[str, Any], config: Config) -> bool:
    """Whether a record is of this configuration, or of its data's substitute."""
    theirs = from_dict(Config, record["config"])
    open_again = {name: getattr(config.model, name) for name in (*SHAPE, "factors", "trained_size")}  # from the data
    theirs = identity(dataclasses.replace(theirs, model=dataclasses.replace(theirs.model, **open_again)))
    names = (config.dataset.name, SUBSTITUTES.get(config.dataset.name, config.dataset.name))
    return any(theirs == identity(config.updated(dataset={"name": name})) for name in names)


def adopt_pretrained(config: Config, asked: Config) -> Config:
    """The resolved configuration with the model that `pretrained` names, so that records say what was trained.

    Raises:  ConfigError if that model does not fit the data, or settings of the model that were asked for.
    """
    if not config.pretrained.load:
        return config
    model = load_model(config.pretrained.filename)
    own, network = model.config, networks.network_of(model)
    if network != config.network:
        raise ConfigError(f"pretrained.filename is {config.pretrained.filename!r}, which holds {network}; allowed: "
                          f"{config.network}, that of the settings")
    needed = {name: getattr(config.model, name) for name in SHAPE}
    for name, value in {**needed, **changed_settings(asked.model, ModelConfig())}.items():
        has = to_dict(own)[name]
        if has != value:
            raise ConfigError(f"pretrained.filename is {config.pretrained.filename!r}, whose model.{name} is {has!r}; "
                              f"allowed: {value!r}, that of the data or of the settings")
    return dataclasses.replace(config, model=own)


def build_model(config: Config) -> nn.Module:
    """The network of a resolved configuration, initialised from its seed, or from `pretrained`."""
    torch.manual_seed(config.train.seed)
    return load_model(config.pretrained.filename) if config.pretrained.load else networks.build(config)


load_model = networks.load  # a model from a file of this kit or a released checkpoint


def _train(config: Config, data: ImageData, experiment: str, profile: str, folder: Path,
           keep_record: bool) -> dict[str, Any]:
    """Train, evaluate, write model and record; a record that is there already is kept, if so wished."""
    began = {"provenance": provenance.provenance(), "started": provenance.now()}
    if rank() == 0:
        announce(data)
    trainer = Trainer(build_model(config), config, data, folder)
    rows = trainer.fit()
    record = {"run_id": folder.name, "experiment": experiment, "status": "ok", "profile": profile,
              **_describe(trainer, rows), "results": evaluate_both(trainer), **began, "finished": provenance.now()}
    record = json.loads(json.dumps(record))  # as it will be read again
    if rank() > 0:
        return record
    info = {key: record["data"][key] for key in ("name", "title", "shape", "classes", "mean", "std", "fingerprint")}
    trainer.model.save(folder / "model.safetensors", data=info, run_id=folder.name, config=identity(config))
    record = file_record(folder, record, rows, keep_record, report.rebuild_index, trainer.observed)
    say(f"{folder.name}: test accuracy {record['results']['released']['accuracy']:.2f} % as released, "
        f"{record['results']['calibrated']['accuracy']:.2f} % calibrated, {record['wall_s']:.0f} s of training")
    return record


def _describe(trainer: Trainer, rows: list[dict[str, float]]) -> dict[str, Any]:
    """What a record says of the training, beside its results."""
    found, count = describe(trainer, rows), len(rows) * trainer.steps_per_epoch * trainer.config.train.batch_size
    return found | {"flops_per_image": flops_per_image(trainer), "images_per_s": round(count / found["wall_s"], 2)}


def evaluate_both(trainer: Trainer, calibrate: bool = True) -> dict[str, dict[str, float]]:
    """Results of both protocols, the second after calibration on training images, or with the statistics it has."""
    results = {"released": trainer.evaluate("released")}
    count = trainer.calibrate() if calibrate else None
    results["calibrated"] = {**trainer.evaluate("calibrated"), "calibration_images": count}
    return results


def trained_with(path: str | os.PathLike) -> Config | None:
    """The configuration that a model of this kit was trained with; None for other files."""
    if not str(path).endswith(".safetensors"):
        return None
    saved = getattr(load_model(path), "info", {}).get("config")
    return None if saved is None else from_dict(Config, saved)


def flops_per_image(trainer: Trainer) -> int:
    """Floating point operations of one forward pass per image, in a batch of two (multiply and add: two)."""
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.zeros(2, *trainer.data.info.shape, device=trainer.device)
    forget_kernels(trainer.model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trainer.model.eval()(x)
    return counter.get_total_flops() // 2


def evaluate_file(path: str | os.PathLike, config: Config, data_dir: str | None = None) -> dict[str, Any]:
    """Evaluate a model file on the configured data set, as released and calibrated.

    Raises:  ValueError if the model and the data do not fit each other.
    """
    model = load_model(path)
    with processes(config.train):
        data = load_data(config, data_dir)
        shape = (model.config.in_channels, *[model.config.size] * model.config.dimensions)
        if tuple(data.info.shape) != shape or len(data.info.classes) != model.config.classes:
            raise ValueError(f"{path} takes inputs {shape} of {model.config.classes} classes, {data.info.title} has "
                             f"{tuple(data.info.shape)} of {len(data.info.classes)}; set dataset.image_size, "
                             "dataset.channels or another dataset.name")
        config = dataclasses.replace(config, model=model.config, network=networks.network_of(model))
        trainer = Trainer(model, config, _as_trained(data, model, path))
        return {"model": str(path), "data": data.info.title, "device": str(choose_device(config.train.device)),
                **evaluate_both(trainer, calibrate=not is_calibrated(model))}


def _as_trained(data: ImageData, model: nn.Module, path: str | os.PathLike) -> ImageData:
    """The data with the normalisation that a model of this kit was trained with."""
    saved = getattr(model, "info", {}).get("data")
    if saved is None:
        return data
    if list(saved["classes"]) != list(data.info.classes):
        raise ValueError(f"{path} knows the classes {', '.join(saved['classes'])}; {data.info.title} has "
                         f"{', '.join(data.info.classes)}")
    info = dataclasses.replace(data.info, mean=tuple(saved["mean"]), std=tuple(saved["std"]))
    return dataclasses.replace(data, info=info)
