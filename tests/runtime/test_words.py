"""A setting's declared type decides how its word is read, from the command line and from files."""

import pytest
import yaml

from terminator import Config, ConfigError
from terminator.__main__ import main
from terminator.classification.presets import preset
from terminator.runner.notebooks import read_value
from terminator.runs.command_line import read_config
from terminator.runtime import words
from terminator.runtime.settings import from_dict, to_dict

TEXTS = [
    "007",
    "1e3",
    "0x10",
    "true",
    "off",
    "null",
    "~",
    "/d/set #2",
    "a: b",
    "[1,2]",
    "{a: 1}",
    "${HOME}",
    "1:30",
    "2024-01-01",
    " spaced ",
    "it's",
    "&x",
    "*x",
    "!tag",
    "=",
    "%",
    "été",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_text(text, tmp_path):
    assert Config().updated(f"dataset.name={text}").dataset.name == text
    file = tmp_path / "settings.yaml"
    config = Config().updated(dataset={"name": text})
    file.write_text(words.to_yaml(to_dict(config)), encoding="utf8")
    assert from_dict(Config, read_config(file)) == config


def test_an_empty_text_is_no_text():
    assert Config().updated("pretrained.filename=").pretrained.filename == ""
    assert read_value("007", "text") == "007"
    assert read_value("true", "text") == "true"
    assert read_value('"true"', "text") == "true"
    assert read_value("7", 1) == 7


@pytest.mark.parametrize(
    ("word", "value"),
    [("6", 6), ("+6", 6), (" 6 ", 6), ("0", 0), ("4294967295", 2**32 - 1), ("-0", 0)],
)
def test_integers(word, value):
    assert Config().updated(f"train.seed={word}").train.seed == value


@pytest.mark.parametrize(
    "word",
    [
        "010",
        "0x10",
        "0o17",
        "0b11",
        "1_000",
        "1:30",
        "1e3",
        "6.0",
        "٣",
        "",
        "null",
        "'6'",
        "9" * 5000,
    ],
)
def test_what_is_no_plain_integer_is_refused_by_name(word, tmp_path):
    with pytest.raises(ConfigError, match="^train.seed is .*; allowed: an integer"):
        Config().updated(f"train.seed={word}")
    (tmp_path / "a.yaml").write_text(f"train:\n  seed: {word}\n", encoding="utf8")
    with pytest.raises(ConfigError, match="^train.seed is .*; allowed: an integer"):
        from_dict(Config, read_config(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    "word", ["010", "1_0.5", "1:30.5", "0x1p3", "1,5", "", ".", "1e", "infinity", "nan", "--1"]
)
def test_what_is_no_plain_number_is_refused_by_name(word):
    with pytest.raises(ConfigError, match="^optimizer.lr is .*; allowed: a finite number"):
        Config().updated(f"optimizer.lr={word}")
    with pytest.raises(ConfigError, match=r"^optimizer.lr is .*; allowed: (a finite|a pos)"):
        Config().updated(optimizer={"lr": word})


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "1", "0", "t", "", "null", "truee"])
def test_truth_is_true_or_false(word):
    with pytest.raises(ConfigError, match="^train.do is .*; allowed: true or false"):
        Config().updated(f"train.do={word}")


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_true(word):
    assert Config().updated("train.do=false", f"train.do={word}").train.do is True


def test_lists_stand_in_brackets():
    def factors(word):
        return Config().updated(f"model.factors={word}").model.factors

    assert factors("[4,1]") == factors(" [ 4 , 1 ] ") == (4, 1)
    assert factors("null") is None
    for word in ("4,1", "[4,1", "[4,,1]", "[4,1,]", "[[4],1]", "(4,1)", "[04]", ""):
        with pytest.raises(ConfigError, match="^model.factors is .*; allowed: a(n integer| list)"):
            factors(word)


def test_nothing_is_null_and_an_empty_word_is_not():
    for word in ("null", "None", "~"):
        assert Config().updated(f"dataset.image_size={word}").dataset.image_size is None
    with pytest.raises(ConfigError, match="dataset.image_size is ''; allowed: an integer, or null"):
        Config().updated("dataset.image_size=")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dataset.name='digits'", "allowed: text without quotes around it"),
        ("dataset.name=caf\udce9", "is not UTF-8"),
        ("dataset.name=a\0b", "without a zero byte"),
        ("train.epochs=4294967296", "an integer below 2\\*\\*32"),
        ("train.epochs=" + "9" * 19, "an integer below 2\\*\\*32"),
        (f"model.dropout=[{','.join(['0'] * 2000)}]", "at most 1000 items"),
    ],
)
def test_what_no_record_could_hold_is_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        Config().updated(word)


def test_one_key_cannot_be_value_and_group():
    for pair in (["train=3", "train.epochs=4"], ["train.epochs=4", "train=3"]):
        with pytest.raises(ConfigError, match="cannot both be set"):
            Config().updated(*pair)


# -- files -----------------------------------------------------------------------------------------


def test_what_stands_in_quotes_in_a_file_is_text(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text('dataset:\n  name: "007"\n')
    assert from_dict(Config, read_config(file)).dataset.name == "007"
    file.write_text('train:\n  epochs: "6"\n')
    with pytest.raises(ConfigError, match="train.epochs is '6'; allowed: an integer"):
        from_dict(Config, read_config(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {seed: 1, seed: 2}", "seed is set twice"),
        ("train: &t {seed: 1}\ntest: *t", "has an alias"),
        ("train: {seed: !!python/object/apply:os.system [echo]}", "holds no settings|seed is"),
        ("train: {seed: !secret 1}", "is a tag"),
        ("a: " + "[" * 1000 + "]" * 1000, "cannot be read"),
        ("train: {seed: 1}\n---\ntrain: {seed: 2}", "cannot be read"),
        ("", "holds no settings"),
        ("? [1]\n: 2", "holds no settings"),
    ],
)
def test_files_that_say_several_things(text, message, tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(text)
    assert main(["train", "--config", str(tmp_path / "a.yaml"), "--print-config"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    with pytest.raises(ConfigError, match=message):
        from_dict(Config, read_config(tmp_path / "a.yaml"))


def test_the_terminal_says_what_is_wrong(capsys):
    assert main(["train", "train.seed=010"]) == 2
    assert capsys.readouterr().err == (
        "error: train.seed is '010'; allowed: an integer in decimal digits: no leading zero, "
        "underscore, prefix or colon\n"
    )


def test_what_is_printed_is_yaml_of_the_same_values():
    config = preset("cifar100")
    assert yaml.safe_load(words.to_yaml(to_dict(config))) == {
        group: {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        for group, values in to_dict(config).items()
    }
