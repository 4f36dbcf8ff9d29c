"""Damaged files: every mutation is harmless or a clear error, never a wrong result, never a foreign
traceback.

Fixed seeds; a mutation flips one bit, overwrites a stretch with noise, cuts the end off, or empties
the file.
"""

import json
import os
import random
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from data_files import class_files, make_mnist, pack, write
from places import ROOT
from saved import same

from terminator import Terminator, calibrate
from terminator.classification.runs import CLASSIFICATION
from terminator.data import load
from terminator.data.decoding import load_class_folders
from terminator.runner import notebooks
from terminator.runner.results_page import index_page, load_state
from terminator.runs import records
from terminator.runtime import checkpoint

MANY = 5 if os.environ.get("TERMINATOR_ALL_FAULTS") else 1  # times as many mutations


def mutations(content, count, seed):
    """`count` damaged copies of some bytes: two in three are flipped bits, the others cut short or
    overwritten.
    """
    chance = random.Random(seed)
    for number in range(count * MANY):
        damaged = bytearray(content)
        kind = number % 6
        position = chance.randrange(len(content))
        if kind < 4:
            damaged[position] ^= 1 << chance.randrange(8)
        elif kind == 4:
            del damaged[position if number % 12 == 4 else 0 :]
        else:
            damaged[position : position + 16] = chance.randbytes(
                len(damaged[position : position + 16])
            )
        if bytes(damaged) != content:
            yield bytes(damaged)


def survey(path, count, seed, read, errors, is_right):
    """Damage `path` again and again and read it: how many were refused, how many did no harm.

    read: gives the content, or raises one of `errors` with a message that names the file;
        is_right: of a content.
    """
    content, refused, harmless = path.read_bytes(), 0, 0
    for damaged in mutations(content, count, seed):
        path.write_bytes(damaged)
        try:
            found = read()
        except errors as error:
            named = any(
                part in str(error) for part in (path.name, path.parent.name, path.parts[-3])
            )
            refused += 1
        else:
            named = True
            assert is_right(found), f"a wrong result was read from a damaged {path.name}"
            harmless += 1
        assert named, f"the error names neither {path.name} nor its folders"
    path.write_bytes(content)
    assert is_right(read())
    return refused, harmless


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    model = Terminator(
        size=8,
        factors=(4,),
        classes=3,
        global_hidden=4,
        local_hidden=4,
        channel_hidden=4,
        interaction_hidden=4,
    )
    calibrate(model, [torch.randn(8, 3, 8, 8)])
    model.save(
        tmp_path / "model.safetensors", data={"classes": ["ant", "bee", "cat"], "mean": [0.5] * 3}
    )
    return model


def test_models(model, tmp_path):
    path = tmp_path / "model.safetensors"
    saved = model.state_dict()

    def is_right(found):
        return (
            all(torch.equal(value, saved[name]) for name, value in found.state_dict().items())
            and found.config == model.config
            and found.info["data"]["classes"] == ["ant", "bee", "cat"]
            and found.blocks[0].group_standardize.batch.moments.source == "calibrated"
        )

    refused, harmless = survey(path, 100, 1, lambda: Terminator.load(path), ValueError, is_right)
    assert refused > 50 * MANY
    assert harmless < 20 * MANY


def test_models_without_a_digest_of_their_description_are_still_read(model, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del metadata["metadata_digest"]
    save_file(tensors, path, metadata)
    assert Terminator.load(path).info["data"]["mean"] == [0.5] * 3


def test_checkpoints(tmp_path):
    content = {
        "rows": [{"epoch": 1, "loss": 0.5}],
        "identity": {"train": {"seed": 1}},
        "model": {"w": torch.arange(500.0)},
        "random": [checkpoint.random_states()],
    }
    path = tmp_path / "checkpoint.pt"
    checkpoint.write(path, content)
    refused, _ = survey(
        path,
        100,
        2,
        lambda: checkpoint.read(path),
        checkpoint.CheckpointError,
        lambda found: all(same(found[key], value) for key, value in content.items()),
    )
    assert refused > 50 * MANY


@pytest.fixture
def record(tiny_config, tiny_data):
    run = CLASSIFICATION.run(tiny_config("train.epochs=1"), "faults", data=tiny_data())
    return run.folder / "record.json"


def test_records(record):
    whole = records.read_record(record)
    refused, _ = survey(
        record,
        150,
        3,
        lambda: records.read_record(record),
        ValueError,
        lambda found: all(found[key] == value for key, value in whole.items()),
    )
    assert refused > 100 * MANY


def test_a_record_that_was_edited_by_hand_is_refused_and_one_without_digest_is_read(record):
    whole = json.loads(record.read_text())
    edited = json.loads(record.read_text())
    edited["results"]["released"]["accuracy"] = 99.9
    record.write_text(json.dumps(edited))
    with pytest.raises(
        ValueError,
        match="record.json is no readable run record: its content is not what was written",
    ):
        records.load_records("faults")
    del whole["digest"]
    record.write_text(json.dumps(whole))
    assert records.load_records("faults") == [whole]


@pytest.mark.parametrize("name", ["pictures.zip", "pictures.tar", "pictures.tar.xz"])
def test_archives_of_images(tmp_path, name):
    files = class_files(("",), (10,), ("ant", "bee"))
    path = tmp_path / name
    pack(path if name.count(".") == 1 else tmp_path / "pictures.xz", files)
    if name.count(".") == 2:
        (tmp_path / "pictures.xz").rename(path)
    whole = load(str(path)).info

    def read():
        shutil.rmtree(os.environ["TERMINATOR_CACHE"], ignore_errors=True)
        return load(str(path)).info

    refused, _ = survey(
        path, 30, 4, read, ValueError, lambda found: found.fingerprint == whole.fingerprint
    )
    assert refused > 10


def test_files_in_a_folder_of_images(tmp_path):
    folder = write(tmp_path / "pictures", class_files(("",), (10,), ("ant", "bee")))
    whole = load(str(folder)).info
    survey(
        folder / "ant" / "3.png",
        40,
        5,
        lambda: load(str(folder)).info,
        ValueError,
        lambda found: found.fingerprint == whole.fingerprint,
    )


def test_mnist_files_that_torchvision_does_not_check(tmp_path):
    make_mnist(tmp_path)
    whole = load("MNIST", data_dir=tmp_path, download=False)

    # other pixels are other data: no record of the whole data is taken for theirs
    def is_right(found):
        same_data = all(
            torch.equal(getattr(found, part), getattr(whole, part))
            for part in ("train_images", "train_labels", "test_images", "test_labels")
        )
        return same_data == (found.info.fingerprint == whole.info.fingerprint)

    for name in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        survey(
            tmp_path / "MNIST" / "raw" / name,
            30,
            6,
            lambda: load("MNIST", data_dir=tmp_path, download=False),
            ValueError,
            is_right,
        )


def test_the_cache_of_decoded_images_is_made_anew(tmp_path):
    folder = write(tmp_path / "pictures", class_files(("",), (10,), ("ant", "bee")))
    whole = load(str(folder)).info
    (cache,) = Path(os.environ["TERMINATOR_CACHE"]).rglob("*.npz")
    content, rebuilt = cache.read_bytes(), 0
    for damaged in mutations(content, 60, 7):
        cache.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert load(str(folder)).info == whole
        rebuilt += any("again, which cannot be read" in str(w.message) for w in caught)
    assert rebuilt > 30
    assert load_class_folders(folder).classes == ("ant", "bee")


def test_notebooks(tmp_path):
    path = tmp_path / "00_tour.ipynb"
    shutil.copy(ROOT / "notebooks" / "00_tour.ipynb", path)
    whole = notebooks.read_notebook(path)

    # a changed cell is another notebook: what was run before does not count for it
    def is_right(found):
        return found.source_hash != whole.source_hash or (
            found.parameters == whole.parameters and found.title == whole.title
        )

    survey(path, 60, 8, lambda: notebooks.read_notebook(path), notebooks.Refusal, is_right)


def test_the_state_of_run_all(tmp_path):
    folder = tmp_path / "results" / "notebooks" / "smoke"
    folder.mkdir(parents=True)
    entry = {
        "status": "failed",
        "fingerprint": "f" * 64,
        "title": "A title",
        "seconds": 1.5,
        "error": "it broke",
        "finished": "2026-01-01T00:00:00+00:00",
        "parameters": {"profile": "smoke"},
        "output": "00_tour.ipynb",
    }
    path = folder / "state.json"
    path.write_text(json.dumps({"00_tour": entry}))
    for suffix in (".ipynb", ".html"):
        (folder / f"00_tour{suffix}").touch()

    def read():
        index_page(tmp_path / "results")
        return load_state(folder)

    survey(
        path,
        60,
        9,
        read,
        (),
        lambda found: (
            not any(
                notebooks.is_done(each, entry["fingerprint"], folder, "00_tour")
                for each in found.values()
            )
        ),
    )
