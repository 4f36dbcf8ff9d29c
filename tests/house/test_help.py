"""What the command line teaches: overview, help of every command, what was meant, files."""

import dataclasses
import json
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from places import PACKAGE, ROOT
from small_command import SMALL

import terminator
from terminator.__main__ import find_commands
from terminator.classification.config import Config
from terminator.classification.presets import preset
from terminator.config import Training, TrainingInSteps
from terminator.hamburger.gan.config import GanConfig
from terminator.runs import records
from terminator.runtime.settings import to_dict
from terminator.runtime.settings_help import allowed, keys_like, meanings, settings_of

COMMANDS = {command.name: command for commands in find_commands().values() for command in commands}
TRAINING = [name for name, command in COMMANDS.items() if command.config]


@pytest.fixture
def call(call, monkeypatch):
    """Lines are 100 characters wide."""
    monkeypatch.setenv("COLUMNS", "100")
    return call


def test_every_room_brings_its_commands():
    rooms = {path.parent.name for path in PACKAGE.glob("*/commands.py")}
    assert rooms == {
        "batch",
        "classification",
        "hamburger",
        "hypertransformer",
        "hrrformer",
        "bench",
        "report",
        "zoo",
    }
    assert set(COMMANDS) == {
        "train",
        "evaluate",
        "predict",
        "datasets",
        "models",
        "card",
        "ship",
        "segmentation",
        "segment",
        "gan",
        "fewshot-predict",
        "longrange",
        "longrange-data",
        "fewshot",
        "fewshot-evaluate",
        "benchmark",
        "tables",
        "notebooks",
        "presets",
        "plan",
        "work",
        "export-runs",
        "import-runs",
    }
    assert TRAINING == ["train", "segmentation", "gan", "longrange", "fewshot"]
    assert len((PACKAGE / "__main__.py").read_text(encoding="utf8").splitlines()) <= 150


def test_without_a_command_it_says_what_one_can_do(call):
    status, out, err = call()
    assert (status, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)
    examples = out.split("examples\n")[1].splitlines()
    assert sum(line.startswith("  python -m terminator ") for line in examples) == 3
    assert call("--help")[:2] == call("help")[:2] == (0, out)
    assert call("help", "models")[:2] == call("models", "--help")[:2]


def test_version_and_entry_point(call):
    assert call("--version")[:2] == (0, f"terminator-kit {terminator.__version__}\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    module, _, name = project["scripts"]["terminator-kit"].partition(":")
    assert (module, name) == ("terminator.__main__", "entry")
    assert project["dynamic"] == ["version"]  # which is terminator.__version__


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.settings])
def test_help_lists_every_setting_with_default_meaning_and_what_is_allowed(call, name):
    status, out, _ = call(name, "--help")
    assert status == 0
    said = " ".join(out.split())
    default, listed = (
        COMMANDS[name].settings.defaults(),
        settings_of(COMMANDS[name].settings.defaults()),
    )
    assert list(listed) == [field.name for field in dataclasses.fields(default)]
    for group in dataclasses.fields(default):
        fields = dataclasses.fields(getattr(default, group.name))
        about, settings = listed[group.name]
        assert f"{group.name}: {' '.join(about.split())}" in said
        assert [setting.key for setting in settings] == [
            f"{group.name}.{field.name}" for field in fields
        ]
        for setting in settings:
            assert len(setting.meaning) > 4, f"give {setting.key} a comment that says what it means"
            words = f"{setting.key}={setting.default} {setting.meaning} [{setting.allowed}]"
            assert " ".join(words.split()) in said
    assert all(f"  {known} " in out for known in COMMANDS[name].settings.presets().PRESETS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(call, name):
    status, out, err = call(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: python -m terminator {name} ")
    if COMMANDS[name].settings or name in ("predict", "segment"):
        assert "examples:" in out


def test_examples_are_command_lines(call):
    for name in TRAINING:
        for words, _ in COMMANDS[name].examples:
            status, out, err = call(name, *words.split(), "--print-config")
            assert (status, err) == (0, ""), words
            assert yaml.safe_load(out)


def test_meanings_are_the_comments_behind_the_fields():
    @dataclasses.dataclass(frozen=True)
    class Lengths(TrainingInSteps):
        train_steps: int = 7
        batch_size: int = 2  # pairs, "quoted # twice"
        extra: tuple[int, ...] = (1, 2)  # of two lines

    found = meanings(Lengths)
    assert found["batch_size"] == 'pairs, "quoted # twice"'
    assert found["extra"] == "of two lines"
    # of the class it comes from
    assert found["train_steps"] == meanings(TrainingInSteps)["train_steps"]
    assert found["seed"] == meanings(Training)["seed"]


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("train", "precision", "float32, bf16"),
        ("train", "do", "true, false"),
        ("optimizer", "lr", "a positive number"),
        ("dataset", "channels", "1, 3, or nothing"),
        ("train", "epochs", "an integer of at least 1"),
        ("model", "size", "an integer of at least 2, or nothing"),
        ("dataset", "name", "text"),
        ("optimizer", "betas", "2 numbers from 0 to below 1 for Kar3, or nothing"),
        ("train", "avail_gpus", "an integer"),
        ("model", "factors", "at least one positive integer, or nothing"),
    ],
)
def test_what_is_allowed_is_what_the_dataclass_says(group, name, expected):
    assert allowed(getattr(Config(), group), name) == expected


def test_what_a_class_allows_is_not_what_its_base_allowed():
    assert allowed(GanConfig().train, "batch_size") == "an integer of at least 2"
    assert allowed(GanConfig().train, "train_steps") == "an integer of at least 1"


def test_keys_that_somebody_may_have_meant():
    assert keys_like(Config(), "epochs") == keys_like(Config(), "epoch") == ["train.epochs"]
    assert keys_like(Config(), "batch_size") == ["train.batch_size", "test.batch_size"]
    assert (
        keys_like(Config(), "train.epoch")
        == keys_like(Config(), "train.epochs")
        == ["train.epochs"]
    )
    assert keys_like(Config(), "wings") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean train? allowed: train, evaluate"),
        (["longrang", "preset=text"], "did you mean longrange?"),
        (
            ["train", "preset=mnist-laptopp"],
            "preset 'mnist-laptopp': did you mean mnist-laptop? (train)",
        ),
        (["train", "preset=omniglot28-5wya"], "did you mean omniglot28-5way? (fewshot)"),
        (
            ["train", "preset=strokes"],
            "preset 'strokes' is none of train, but of fewshot: say fewshot preset=strokes",
        ),
        (
            ["fewshot", "preset=camvid"],
            "is none of fewshot, but of segmentation: say segmentation preset=camvid",
        ),
        (
            ["evaluate", "model.safetensors", "preset=voc"],
            "is none of evaluate, but of segmentation",
        ),
        (
            ["train", "digits"],
            "cannot read 'digits'; settings are written KEY=VALUE: say preset=digits",
        ),
        (
            ["train", "--epochs", "2"],
            "--epochs is no option; settings are written KEY=VALUE: say train.epochs=2 ",
        ),
        (["train", "--epochs=2", "preset=digits"], "say train.epochs=2 "),
        (["train", "preset=digits", "--train.epochs", "2"], "say train.epochs=2 "),
        (["train", "--batch-size", "8"], "say train.batch_size=8 or test.batch_size=8 "),
        (["train", "--seed"], "say train.seed=VALUE "),
        (["longrange", "--learning-rate", "0.01"], "say optimizer.learning_rate=0.01 "),
        (["train", "--profle", "smoke"], "unrecognized argument --profle; did you mean --profile?"),
        (["predict", "m", "a.png", "--epochs", "2"], "unrecognized arguments: --epochs"),
        (
            ["fewshot", "--batch_size", "8"],
            "Settings of this kit are written KEY=VALUE, e.g. train.batch_size=8",
        ),
        (["fewshot", "--seed=3"], "e.g. train.seed=3"),
        (["train", "epochs=2"], "unknown setting epochs; did you mean train.epochs?"),
        (["train", "--config", "gone.yaml"], "gone.yaml"),
        (["--versoin"], "unrecognized arguments: --versoin; did you mean --version?"),
        (["help", "trian"], "unknown command 'trian'; did you mean train?"),
    ],
)
def test_did_you_mean(call, words, message):
    status, _, err = call(*words)
    assert status == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert message in err


@pytest.mark.parametrize("name", TRAINING)
def test_what_print_config_writes_goes_back_in(call, tmp_path, name):
    start = COMMANDS[name].settings.standard or next(
        iter(COMMANDS[name].settings.presets().PRESETS)
    )
    status, out, err = call(name, f"preset={start}", "train.seed=5", "--print-config")
    assert (status, err) == (0, "")
    expected = COMMANDS[name].settings.presets().preset(start, train={"seed": 5})
    assert json.loads(json.dumps(yaml.safe_load(out))) == json.loads(json.dumps(to_dict(expected)))
    (tmp_path / "settings.yaml").write_text(out, encoding="utf8")
    assert call(name, "--config", tmp_path / "settings.yaml", "--print-config")[1] == out
    changed = call(name, "--config", tmp_path / "settings.yaml", "train.seed=6", "--print-config")[
        1
    ]
    assert changed == out.replace("seed: 5", "seed: 6")
    assert records.load_records() == []


def test_a_file_with_some_settings_changes_a_preset_or_the_defaults(call, tmp_path):
    file = tmp_path / "some.yaml"
    file.write_text("optimizer:\n  lr: 5e-4\n  betas: [0.5, 0.9]\n")
    changes = {"lr": 5e-4, "betas": [0.5, 0.9]}
    out = call("train", "--config", file, "preset=cifar100", "--print-config")[1]
    assert yaml.safe_load(out) == to_dict(preset("cifar100", optimizer=changes))
    assert yaml.safe_load(call("train", "--config", file, "--print-config")[1]) == to_dict(
        Config().updated(optimizer=changes)
    )


def test_a_record_is_a_file_of_settings_and_its_run_is_found_again(call):
    status, out, _ = call("train", *SMALL, "train.seed=4", "--profile", "smoke")
    assert status == 0
    folder = Path(out.strip().splitlines()[-1].split("model: ", 1)[1]).parent
    status, again, err = call("train", "--config", f"{folder}/record.json", "--profile", "smoke")
    assert (status, err) == (0, "")
    assert again.splitlines()[-3:] == out.splitlines()[-3:]
    assert "epoch   1/1" in out
    assert "epoch   1/1" not in again  # nothing was trained
    assert call("train", "--config", folder, "--profile", "smoke")[1] == again
    status, _, err = call("train", "--config", folder.parent)
    assert status == 2
    assert err.startswith(f"error: {folder.parent} is a folder without a record.json; allowed: ")
    status, _, err = call("gan", "--config", f"{folder}/record.json")
    assert status == 2
    assert f"{folder}/record.json: unknown setting " in err


def test_presets_are_told_as_they_are_typed(call):
    told = call("train", "--help")[1]
    assert re.search(r"^  \w+ .* model\.factors=\[\d", told, re.M)
    assert not re.search(r"\w=\[[^]\n]* ", told)  # a shell would make two words of it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "holds no settings"),
        ("train: 3\n", "holds no settings"),
        ("train: [\n", "cannot be read"),
        (
            "train:\n  epohcs: 3\n",
            "settings.yaml: unknown setting train.epohcs; did you mean train.epochs?",
        ),
        ("train:\n  epochs: six\n", "settings.yaml: train.epochs is 'six'; allowed: an integer"),
    ],
)
def test_files_that_hold_no_settings(call, tmp_path, text, message):
    (tmp_path / "settings.yaml").write_text(text)
    status, _, err = call("train", "--config", tmp_path / "settings.yaml")
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        [],
        ["--version"],
        ["presets"],
        ["predict", "--help"],
        ["train", "preset=mnst"],
        ["train", "--print-config"],
        *([name, "--help"] for name in TRAINING),
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_loads_none(words):
    code = (
        "import sys; from terminator.__main__ import main\ntry: main(sys.argv[1:])\nexcept "
        "SystemExit: pass\nassert not {'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_is_there_at_once():
    def seconds():  # of work: a busy machine does not count
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "terminator", "train", "--help"], capture_output=True, check=True
        )
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime - began.ru_utime + ended.ru_stime - began.ru_stime

    assert min(seconds() for _ in range(4)) < 0.5
