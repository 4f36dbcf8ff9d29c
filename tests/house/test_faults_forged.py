"""Forged files: descriptions of models of every kind, structures of checkpoints, settings beyond all
bounds; each is harmless or a clear error that names it.

Fixed seeds. A description is changed in three ways: its digest stays (it is noticed), is taken away
(a note says so), or is made anew (whatever can be checked is checked).
"""

import copy
import json
import os
import random
import re
import struct

import pytest
import torch
from data_files import class_files, write
from safetensors import safe_open
from safetensors.torch import save_file

from terminator import Config, Terminator
from terminator.__main__ import main
from terminator.classification import networks
from terminator.classification.runs import CLASSIFICATION
from terminator.hamburger.gan.config import GanConfig
from terminator.hamburger.gan.runs import GAN
from terminator.hamburger.segmentation import presets as segmentation_presets
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.hrrformer.longrange.config import LongRangeConfig
from terminator.hrrformer.longrange.runs import LONG_RANGE
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.runs import FEW_SHOT
from terminator.runtime import checkpoint, weights
from terminator.runtime.settings import from_dict
from terminator.trainer import Loop

ALL = bool(os.environ.get("TERMINATOR_ALL_FAULTS"))
DATA = {
    "name": "x",
    "title": "x",
    "shape": [3, 8, 8],
    "classes": ["ant", "bee", "cat"],
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
    "fingerprint": "f",
}
SMALL = {
    "size": 8,
    "in_channels": 3,
    "classes": 3,
    "factors": (4,),
    "global_hidden": 4,
    "local_hidden": 4,
    "channel_hidden": 4,
    "interaction_hidden": 4,
}


def _terminator(path):
    config = from_dict(Config, {"model": SMALL})
    config = config.updated(model={"trained_size": 8}, train={"epochs": 3})
    model = Terminator(config.model)
    CLASSIFICATION.save(path, model, config, data=DATA, run_id="x")
    return lambda: CLASSIFICATION.load(path)[0]


def _baseline(path):
    shape = {name: SMALL[name] for name in ("size", "in_channels", "classes")}
    config = from_dict(Config, {"model": shape, "network": {"name": "cnn"}})
    model = networks.build(config)
    CLASSIFICATION.save(path, model, config, data=DATA, run_id="x")
    return lambda: CLASSIFICATION.load(path)[0]


def _of_system(system, config):
    def make(path):
        system.save(path, system.build(config), config, run_id="x")
        return lambda: system.load(path)[0]

    return make


MODELS = {
    "terminator": _terminator,
    "baseline": _baseline,
    "segmentation": _of_system(SEGMENTATION, segmentation_presets.preset("shapes").resolved(3, 5)),
    "few-shot": _of_system(
        FEW_SHOT, FewShotConfig().updated("model.default_num_channels=4").resolved(1)
    ),
    "long-range": _of_system(
        LONG_RANGE,
        LongRangeConfig()
        .updated("network.layers=1", "network.width=8", "network.mlp_width=8", "network.heads=2")
        .resolved(10, 100),
    ),
    "gan": _of_system(
        GAN,
        GanConfig()
        .updated("data.image_size=16", "model.width=8", "model.context_size=8", "model.latent=4")
        .resolved(1, 10),
    ),
}


# -- descriptions of models ------------------------------------------------------------------------


def leaves(value, path=()):
    """Where every value of nested dictionaries and lists stands, groups included."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in inside if isinstance(value, dict | list) else ():
        if isinstance(item, dict | list):
            yield from leaves(item, (*path, key))
        else:
            yield (*path, key)


def forged(value, chance):
    """Another value in a value's place: of its kind or of another, sound or beyond all bounds."""
    others = [
        None,
        True,
        [],
        {},
        "x",
        "",
        -1,
        0,
        10**12,
        1e300,
        float("nan"),
        [[]],
        {"a": 1},
        "\ud800",
    ]
    if isinstance(value, bool):
        return chance.choice([not value, *others])
    if isinstance(value, int | float):
        return chance.choice([value + 1, value * 2 + 1, -value - 1, value * 10**6 + 1, *others])
    if isinstance(value, str):
        return chance.choice([value + "x", value[1:], "convolution", "shapes", *others])
    if isinstance(value, list):
        return chance.choice([value * 2, value[1:], value * 500, value[::-1], *others])
    return chance.choice(others)


def change(content, chance):
    """Nested content with one thing changed, removed or added, in place."""
    places = list(leaves(content))
    if not places:
        content["more"] = forged({}, chance)
        return
    *above, last = chance.choice(places)
    inside = content
    for key in above:
        inside = inside[key]
    kind = chance.randrange(6)
    if kind == 0:
        del inside[last]
    elif kind == 1 and isinstance(inside, dict):
        inside[f"{last}2"] = inside[last]
    else:
        inside[last] = forged(inside[last], chance)


def forge_description(metadata, chance):
    """Metadata with one field changed: its JSON, or, now and then, its text."""
    found = dict(metadata)
    key = chance.choice([k for k in found if not k.endswith("digest")])
    try:
        content = json.loads(found[key])
    except ValueError:
        content = None
    if not isinstance(content, dict) or chance.random() < 0.15:
        texts = ["", "{", "[]", "null", "true", "1e999", "[" * 3000, f"{found[key]}x"]
        found[key] = chance.choice([text for text in texts if text != found[key]])
    else:
        before = copy.deepcopy(content)
        while repr(content) == repr(before):
            change(content, chance)
        found[key] = json.dumps(content)
    if chance.random() < 0.05:
        del found[key]
    return found


def contents(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def read_or_refusal(read, path):
    """What is read, or nothing where the file is refused by name in one line."""
    try:
        return read()
    except ValueError as error:
        said = str(error)
    assert path.name in said, said
    assert len(said.splitlines()) == 1
    return None


@pytest.mark.parametrize("kind", MODELS)
def test_forged_descriptions(kind, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    read = MODELS[kind](path)
    tensors, metadata = contents(path)
    chance, refused, noted, sound = random.Random(f"forged {kind}"), 0, 0, 0
    for number in range(50 if ALL else 10):
        found = forge_description(metadata, chance)
        way = number % 3
        if way == 1:
            found.pop("metadata_digest", None)
        if way == 2:
            found.pop("metadata_digest", None)
            found["metadata_digest"] = weights._metadata_digest(found)
        save_file(tensors, path, found)
        capsys.readouterr()
        model = read_or_refusal(read, path)
        refused += model is None
        if model is None:
            continue
        assert way != 0, f"a changed description was believed: {found}"
        said = "has no digest of its description" in capsys.readouterr().out
        assert said == (way == 1)
        noted, sound = noted + said, sound + (not said)
        assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    assert refused >= (25 if ALL else 4)
    MODELS[kind](path)
    read()


@pytest.mark.parametrize("kind", MODELS)
def test_forged_weights(kind, tmp_path):
    path = tmp_path / "model.safetensors"
    read = MODELS[kind](path)
    tensors, metadata = contents(path)
    said = {k: v for k, v in metadata.items() if not k.endswith("digest")}
    name = next(n for n, v in tensors.items() if v.is_floating_point() and v.numel() > 1)
    value = tensors[name]
    worse = value.clone()
    worse.view(-1)[0] = float("nan")
    endless = value.clone()
    endless.view(-1)[-1] = float("-inf")
    for other in (
        {**tensors, name: worse},
        {**tensors, name: endless},
        {**tensors, name: value.to(torch.int32)},
        {**tensors, name: value.double() if value.dtype != torch.float64 else value.float()},
        {**tensors, name: value.flatten()[1:].clone()},
        {**tensors, name: torch.cat([value, value])},
        {k: v for k, v in tensors.items() if k != name},
        {**tensors, "more": value.clone()},
        {},
    ):
        weights.write(path, other, said)
        with pytest.raises(ValueError, match="model.safetensors"):
            read()
    weights.write(path, tensors, said)
    read()


@pytest.mark.parametrize(
    ("group", "key", "value", "message"),
    [
        ("model", "operator", "convolution", "describes itself twice, with model.operator"),
        ("model", "trained_size", 16, "describes itself twice, with model.trained_size"),
        ("model", "size", 6000, "do not fit the network it describes"),
        ("model", "factors", [4, 12], "do not fit the network it describes"),
        ("model", "factors", [1000000], "do not fit the network it describes"),
        ("model", "global_hidden", 10**9, "model.global_hidden is|global_hidden is 1000000000"),
        ("calibrated", None, True, "says calibrated=True"),
        ("calibrated", None, "yes", "says calibrated='yes'"),
        ("data", "classes", ["ant", "bee"], "allowed: 3 names"),
        ("data", "classes", ["ant", "bee", "bee"], "allowed: 3 names"),
        ("data", "classes", ["ant", "bee", 3], "allowed: 3 names"),
        ("data", "mean", [0.5, 0.5], "its mean is .* 3 numbers"),
        ("data", "mean", [0.5, 0.5, float("nan")], "its mean is"),
        ("data", "std", [0.2, 0.2, 0.0], "its std is"),
        ("data", "std", [0.2, 0.2, 128.0], "its std is"),
        ("data", "shape", [1, 8, 8], "the network takes"),
    ],
)
def test_what_a_description_says_is_checked(group, key, value, message, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    _terminator(path)
    tensors, metadata = contents(path)
    said = {k: v for k, v in metadata.items() if not k.endswith("digest")}
    place = "info" if group == "data" else group
    content = json.loads(said[place])
    if group == "data":
        content["data"][key] = value
    elif key is None:
        content = value
    else:
        content[key] = value
    weights.write(path, tensors, {**said, place: json.dumps(content)})
    assert main(["predict", str(path), "a.png"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "model.safetensors" in error
    assert re.search(message, error), error


def test_equal_models_are_equal_files(tmp_path):
    files = [tmp_path / f"{i}.safetensors" for i in range(6)]
    for file in files:
        torch.manual_seed(0)
        _terminator(file)
    assert len({file.read_bytes() for file in files}) == 1
    head = files[0].read_bytes()
    (length,) = struct.unpack("<Q", head[:8])
    names = list(json.loads(head[8 : 8 + length])["__metadata__"])
    assert names == sorted(names)


# -- structures of checkpoints ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint in the middle of a small training's third epoch, and how it is gone on with."""
    root = tmp_path_factory.mktemp("trained")
    os.environ["TERMINATOR_CACHE"], before = str(root / "cache"), os.environ.get("TERMINATOR_CACHE")
    folder = write(root / "pets", class_files(("",), (20,), ("ant", "bee")))
    config = Config().updated(
        f"dataset.name={folder}",
        "model.factors=[4]",
        "model.global_hidden=4",
        "model.local_hidden=4",
        "train.epochs=3",
        "train.batch_size=4",
        "test.batch_size=4",
        "scheduler.name=constant",
        "scheduler.warmup_epochs=0",
        "optimizer.name=AdamW",
        "train.device=cpu",
    )
    data = CLASSIFICATION.load_data(config)
    config = CLASSIFICATION.resolve(config, data)

    def make(where):
        return CLASSIFICATION.trainer(CLASSIFICATION.build(config), config, data, where)

    trainer, due, count = make(root / "run"), checkpoint.Checkpoints.is_due, []
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, step):
            count.append(step)
            if len(count) > 2 * trainer.steps_per_epoch and step == 2:
                return True
            if len(count) > 2 * trainer.steps_per_epoch and step == 3:
                raise KeyboardInterrupt
            return due(self, step)

        patch.setattr(checkpoint.Checkpoints, "is_due", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
    if before is None:
        del os.environ["TERMINATOR_CACHE"]
    else:
        os.environ["TERMINATOR_CACHE"] = before
    return make, checkpoint.read(root / "run" / "checkpoint.pt")


def forge_structure(content, chance):
    """A checkpoint with one thing changed, removed or added in its structure."""
    found = copy.deepcopy(content)
    part = chance.choice(
        ["rows", "within", "stretches", "optimizer", "random", "model", "observed", "identity"]
    )
    if chance.random() < 0.15:
        del found[part]
    elif chance.random() < 0.3:
        found[part] = forged(found[part] if isinstance(found[part], list) else {}, chance)
    else:
        holder = {part: found[part]}
        change(holder, chance)
        found = {key: value for key, value in found.items() if key != part} | holder
    return found


@pytest.mark.slow
def test_forged_structures_of_checkpoints(trained, tmp_path):
    make, content = trained
    chance, refused = random.Random("checkpoints"), 0
    path = tmp_path / "checkpoint.pt"
    for number in range(60 if ALL else 20):
        found = forge_structure(content, chance)
        if number % 3 == 0:  # as somebody without this kit would write it
            torch.save({"format": checkpoint.FORMAT, **found, "digest": "0" * 64}, path)
        else:
            checkpoint.write(path, found)
        trainer = make(tmp_path)
        trainer.optimizer = trainer._make_optimizer()
        said = ""
        try:
            trainer._resume()
        except checkpoint.CheckpointError as error:
            said = str(error)
        if said:
            assert "checkpoint.pt" in said
            assert len(said.splitlines()) == 1
            refused += 1
        else:
            assert number % 3, "a changed checkpoint was believed"
    assert refused >= (40 if ALL else 12)


def cut(content, *path):
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    del inside[path[-1]]


def put(content, value, *path):
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value


STRUCTURES = {
    "fewer rows": (
        lambda c: cut(c, "rows", -1),
        "its optimiser.s step of parameter 0 is|its stretches end",
    ),
    "a row in the middle is gone": (lambda c: cut(c, "rows", 0), "epochs are numbered"),
    "more rows": (
        lambda c: c["rows"].extend({**c["rows"][-1], "epoch": n} for n in (3, 4)),
        "it has 4 epochs of 3",
    ),
    "no rows": (lambda c: cut(c, "rows"), "its rows are no list"),
    "a row of text": (lambda c: put(c, "x", "rows", 0, "loss"), "are no numbers"),
    "no state": (lambda c: put(c, {}, "optimizer", "state"), "no state, after"),
    "no optimiser": (lambda c: cut(c, "optimizer"), "lacks the optimiser's state"),
    "a foreign optimiser": (
        lambda c: put(c, [{"lr": 1.0, "params": [0]}], "optimizer", "param_groups"),
        "groups of other parameters",
    ),
    "another optimiser's state": (
        lambda c: put(c, {"momentum_buffer": torch.zeros(3)}, "optimizer", "state", 0),
        "optimiser's",
    ),
    "counts of another training": (
        lambda c: [put(s, torch.tensor(2.0), "step") for s in c["optimizer"]["state"].values()],
        "has taken 2 steps",
    ),
    "no random states": (lambda c: put(c, [], "random"), "random states"),
    "half a random state": (
        lambda c: put(c, torch.zeros(3, dtype=torch.uint8), "random", 0, "torch"),
        "its random states are none",
    ),
    "numpy's of text": (lambda c: put(c, "x", "random", 0, "numpy"), "its random states are none"),
    "a step beyond the epoch": (lambda c: put(c, 10**6, "within", "step"), "written after step"),
    "a step of text": (lambda c: put(c, "3", "within", "step"), "written after step '3'"),
    "within of another form": (lambda c: put(c, [1], "within"), "where in its epoch"),
    "no generator": (
        lambda c: cut(c, "within", "processes", 0, "generator"),
        "state of its epoch's generator",
    ),
    "sums of text": (
        lambda c: put(c, "x", "within", "processes", 0, "totals", "loss"),
        "its sums are no numbers",
    ),
    "no sum": (lambda c: cut(c, "within", "processes", 0, "totals", "correct"), "have no sums"),
    "stretches of text": (lambda c: put(c, ["x"], "stretches"), "its stretches are no list"),
    "stretches without epochs": (lambda c: cut(c, "stretches", 0, "epochs"), "does not say"),
    "stretches of other epochs": (
        lambda c: put(c, [1, 9], "stretches", 0, "epochs"),
        "stretches end with epoch 9",
    ),
    "weights of another shape": (
        lambda c: put(c, torch.zeros(7), "model", "classifier.bias"),
        "its weight classifier.bias is",
    ),
    "a weight of NaN": (
        lambda c: c["model"]["classifier.bias"].fill_(float("nan")),
        "classifier.bias holds NaN",
    ),
    "identity of text": (lambda c: put(c, "x", "identity"), "lacks its identity"),
    "observed of text": (lambda c: put(c, "x", "observed"), "what it observed"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_refused_by_name(name, trained, tmp_path):
    make, content = trained
    forge, message = STRUCTURES[name]
    found = copy.deepcopy(content)
    forge(found)
    checkpoint.write(tmp_path / "checkpoint.pt", found)
    with pytest.raises(checkpoint.CheckpointError, match=f"checkpoint.pt is no .*{message}"):
        make(tmp_path).fit()
    torch.save({"format": checkpoint.FORMAT, **found, "digest": "x"}, tmp_path / "checkpoint.pt")
    with pytest.raises(checkpoint.CheckpointError, match="its content is not what was written"):
        make(tmp_path).fit()


def test_a_whole_one_and_one_without_digest_are_gone_on_with(trained, tmp_path):
    make, content = trained
    for number, extra in enumerate(({}, {"digest": checkpoint.digest(content)})):
        folder = tmp_path / str(number)
        folder.mkdir()
        torch.save({"format": checkpoint.FORMAT, **content, **extra}, folder / "checkpoint.pt")
        assert len(make(folder).fit()) == 3


# -- settings beyond all bounds --------------------------------------------------------------------

EXTREMES = {
    "train": [
        *(
            f"{key}={value}"
            for key in (
                "model.global_hidden",
                "model.local_hidden",
                "model.factors",
                "model.local_sizes",
                "model.groups",
                "dataset.image_size",
                "dataset.train_size",
                "dataset.crop_padding",
                "train.batch_size",
                "train.seed",
                "test.calibration_images",
            )
            for value in ("1000000000", "1048575", "-1000000000", "1e300", "9" * 30)
        ),
        "model.factors=[1000000000]",
        "model.factors=[1000000,1000000]",
        f"model.factors=[{','.join(['2'] * 64)}]",
        f"model.factors=[{','.join(['1'] * 900)}]",
        "model.local_sizes=[1000001,3,3,3]",
        "model.omega_0=1e300",
        "model.gamma_alpha=1e300",
        "model.gamma_beta=1e-300",
        "optimizer.lr=1e300",
        "train.label_smoothing=0.9999999999999999",
        "train.checkpoint_minutes=1e300",
        f"dataset.name={'x' * 5000}",
        f"optimizer.betas=[{','.join(['0.5'] * 5000)}]",
    ],
    "gan": ["model.width=1000000000", "model.width=1048576", "data.image_size=1073741824"],
    "longrange": [
        "network.layers=1000000000",
        "network.width=1048576",
        "network.mlp_width=1048576",
        "data.length=1000000000",
    ],
    "segmentation": ["model.squeeze=1000000000", "model.align=1048576", "ham.width=1000000"],
    "fewshot": [
        "model.num_layers=1000000000",
        "model.default_num_channels=1048576",
        "episodes.image_size=1000000000",
    ],
}
START = {
    "train": [
        "preset=digits",
        "dataset.train_size=40",
        "dataset.test_size=20",
        "train.epochs=1",
        "model.factors=[12]",
        "model.global_hidden=4",
        "model.local_hidden=4",
    ],
    "gan": ["preset=digits"],
    "longrange": ["preset=digits-sequence"],
    "segmentation": ["preset=shapes"],
    "fewshot": ["preset=strokes"],
}


def extremes():
    found = [(name, word) for name, words in EXTREMES.items() for word in words]
    return found if ALL else random.Random(0).sample(found, 30)


class Enough(BaseException):
    """Raised after the first epoch: what came so far was harmless."""


@pytest.mark.parametrize(("command", "word"), extremes())
def test_settings_beyond_all_bounds(command, word, monkeypatch, capsys):
    whole = Loop._step

    def once(self, *args):
        whole(self, *args)
        raise Enough

    monkeypatch.setattr(Loop, "_step", once)
    try:
        status = main([command, *START[command], word, "--profile", "smoke"])
    except Enough:
        return
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "preset" not in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.global_hidden=1000000000", "integers up to 1,048,576"),
        ("model.factors=[1000000,1000000]", "too large|GiB to train; this machine has"),
        ("model.global_hidden=1000000", "GiB to train; this machine has"),
        ("dataset.train_size=1000000000", "integers up to 16,777,216"),
        ("train.batch_size=1000000000", "."),
    ],
)
def test_the_bound_is_said(word, message, capsys):
    assert main(["train", *START["train"], word]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error), error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 8.00 EiB for an array"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 4000000000 bytes.\nmore"
        ),
    ],
)
@pytest.mark.parametrize("words", [["train"], ["predict", "m", "a.png"], ["datasets"], ["tables"]])
def test_out_of_memory_is_one_line(words, error, monkeypatch, capsys):
    from terminator import __main__

    def fail(*args):
        raise error

    monkeypatch.setattr(__main__, "_run", fail)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith("error: there is not enough memory")


def test_other_errors_of_torch_are_no_lack_of_memory(monkeypatch):
    from terminator import __main__

    def fail(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(__main__, "_run", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        main(["datasets"])
