"""The package installed from a wheel works without the repository, and without Jupyter."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from light import hide
from places import ROOT

import terminator

TINY = [
    "dataset.name=digits",
    "dataset.channels=3",
    "dataset.train_size=64",
    "dataset.test_size=40",
    "model.factors=[4]",
    "model.global_hidden=4",
    "model.local_hidden=4",
    "train.batch_size=16",
    "train.epochs=1",
    "train.device=cpu",
    "scheduler.warmup_epochs=0",
]


@pytest.mark.slow
def test_a_wheel_trains_and_predicts_from_an_empty_folder(tmp_path):
    pytest.importorskip(
        "setuptools", reason="building a wheel without a network needs setuptools here"
    )
    source, home = tmp_path / "source", tmp_path / "empty"
    home.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "terminator", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if files.returncode:
        pytest.skip("no checkout: nothing to build from")
    for name in files.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())

    def call(*words, cwd=home):
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TERMINATOR_", "PYTHON"))
        }
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=300,
            env=kept | {"OMP_NUM_THREADS": "1", "TERMINATOR_CACHE": str(tmp_path / "cache")},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    wheel = source / call(sys.executable, "-c", build, cwd=source).splitlines()[-1]
    assert wheel.stat().st_size < 10e6
    assert wheel.name.split("-")[1] == terminator.__version__
    names = zipfile.ZipFile(wheel).namelist()
    assert "terminator/hamburger/ham.py" in names
    assert "terminator/weights/weights.sha256" in names
    assert not [name for name in names if name.startswith(("tests", "notebooks", "results"))]

    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)  # what pip install --no-deps does with a pure wheel
    here = next(path for path in sys.path if path.endswith("site-packages"))
    # the dependencies, which are not downloaded again
    (site / "others.pth").write_text(here + "\n")
    hide(site)
    call(python, "-c", "import importlib.util as i; assert not i.find_spec('papermill')")
    where = call(python, "-c", "import terminator; print(terminator.__file__)").strip()
    assert Path(where).is_relative_to(site)
    out = call(python, "-m", "terminator", "train", *TINY)
    folder = Path(out.strip().splitlines()[-1].split("model: ", 1)[1]).parent
    assert folder.is_relative_to(home / "results")
    write = (
        "from terminator.data import load; from terminator.data.decoding import "
        "write_class_folders as w; from pathlib import Path; d = load('digits'); "
        "w(Path('pictures'), d.test_images[:3].numpy(), d.test_labels[:3].numpy(), d.info.classes)"
    )
    call(python, "-c", write)
    pictures = sorted((home / "pictures").rglob("*.png"))
    assert (
        call(python, "-m", "terminator", "predict", folder / "model.safetensors", *pictures).count(
            ".png"
        )
        == 3
    )
    shipped = call(python, "-m", "terminator", "models").split()
    assert "digits" in shipped
    answered = call(python, "-m", "terminator", "predict", "digits", *pictures, "--top", "2")
    assert answered.count(".png") == 3
    assert "digits" in call(python, "-m", "terminator", "datasets")
    assert (home / "results" / "REPRODUCIBILITY.md").as_posix() in call(
        python, "-m", "terminator", "tables"
    )
