"""Checkpoints of the released code, made here from the list of its keys and shapes."""

import csv
import os
import re

import pytest
import torch
from places import GOLDEN

from terminator import ConfigError, Terminator
from terminator.__main__ import main
from terminator.classification import released

KEYS = GOLDEN / "terminator_released_state_dict.csv"


@pytest.fixture(scope="module")
def state():
    """A released CIFAR-10 state dict with small random weights."""
    generator = torch.Generator().manual_seed(0)
    with KEYS.open() as file:
        return {
            row["key"]: 0.1
            * torch.randn([int(n) for n in row["shape"].split("x")], generator=generator)
            for row in csv.DictReader(file)
        }


def same(model, state):
    """Whether every weight of the state dict is in the model, and nothing of the model is left
    out.
    """
    parameters = dict(model.named_parameters())
    keys = {released.released_key(name): name for name in parameters}
    weights = {key: value for key, value in state.items() if not key.endswith("train_length")}
    return keys.keys() == weights.keys() and all(
        torch.equal(parameters[keys[key]].flatten(), value.flatten())
        for key, value in weights.items()
    )


def test_every_released_key_has_its_place(state):
    model = released.load(state)
    assert same(model, state)
    assert model.config == Terminator().config
    assert not model.training
    with torch.no_grad():
        assert model(torch.randn(2, 3, 32, 32)).isfinite().all()


def test_names_that_a_reader_would_check_by_eye(state):
    model, block = released.load(state), "blocks.1.fast_multi_branch."
    ours = model.blocks[1]
    for key, value in {
        "out_layer.weight": model.classifier.weight,
        "blocks.1.bias": ours.bias,
        block + "bias3": ours.locals["l3"].bias,
        block + "slow_net_g.Kernel.bias_p": ours.slow_net.bias_map,
        block + "slow_net_l2.Kernel.fast_reduce.weight": ours.locals["l2"].slow_net.reduce.weight,
        block + "Fast_Kernel_rgu.fast_linear_q.weight": ours.rgu_fast.q.weight,
        block + "Fast_Kernel_rgu_2.fast_linear_q.weight": ours.rgu_slow.q.weight,
        block
        + "hyper_interact.slow_net_gs.Kernel.output_linear.weight": ours.hyper_interaction.spatial_slow_net.output.weight,
    }.items():
        assert torch.equal(state[key].flatten(), value.flatten()), key


def test_plain_and_lightning_files(state, tmp_path):
    torch.save(state, tmp_path / "plain.pth")
    lightning = {
        "epoch": 99,
        "global_step": 78100,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": {f"network.{key}": value for key, value in state.items()},
        "hyper_parameters": {"lr": 0.001},
    }
    torch.save(lightning, tmp_path / "last.ckpt")
    for name in ("plain.pth", "last.ckpt"):
        assert same(released.load(tmp_path / name), state)
    assert same(released.load(str(tmp_path / "last.ckpt")), state)
    assert same(released.load(lightning), state)


def test_other_classes_are_read_off_the_shapes(state):
    hundred = state | {
        "out_layer.weight": torch.zeros(100, 288),
        "out_layer.bias": torch.zeros(100),
    }
    assert released.load(hundred).config.classes == 100


def test_missing_unexpected_and_misshapen_keys_are_listed_by_name(state):
    missing = [
        "blocks.3.fast_multi_branch.bias2",
        "blocks.0.fast_multi_branch.channel_mixer_mlp.bias",
    ]
    broken = {key: value for key, value in state.items() if key not in missing}
    broken |= {"blocks.9x.extra": torch.zeros(1), "out_layer.weight": torch.zeros(10, 7)}
    with pytest.raises(ValueError, match="does not fit") as error:
        released.load(broken, Terminator().config)
    text = str(error.value)
    assert all(f"missing: {key}" in text for key in missing)
    assert "unexpected: blocks.9x.extra" in text
    assert "misshapen: out_layer.weight is (10, 7), expected (10, 288)" in text
    assert len(text.splitlines()) == 5


def test_another_configuration_is_refused(state):
    with pytest.raises(
        ValueError, match=r"misshapen: out_layer.weight is \(10, 288\), expected \(100, 288\)"
    ):
        released.load(state, Terminator(classes=100).config)
    with pytest.raises(ConfigError, match="model.factors"):
        released.load(state, Terminator().config.__class__(factors=(5,)))


def test_a_state_dict_of_something_else(state):
    with pytest.raises(ValueError, match="not one of the released 2-D model"):
        released.load({"conv1.weight": torch.zeros(3, 3)})
    without = {key: value for key, value in state.items() if key != "out_layer.bias"}
    with pytest.raises(ValueError, match="missing or misshapen: 'out_layer.bias'"):
        released.load(without)
    for other in ({}, {"a": 1}, {"state_dict": {"a": "b"}}):
        with pytest.raises(ValueError, match="holds no state dict"):
            released.load(other)


class Trap:
    """Unpickled without care, this makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_with_code_in_it_is_refused_unread(state, tmp_path):
    torch.save(
        {"state_dict": state, "callbacks": Trap(tmp_path / "sprung")}, tmp_path / "trap.ckpt"
    )
    with pytest.raises(ValueError, match="trap.ckpt is no checkpoint that can be read safely"):
        released.load(tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_checkpoints(state, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint file at .*gone.ckpt"):
        released.load(tmp_path / "gone.ckpt")
    torch.save(state, tmp_path / "whole.ckpt")
    whole = (tmp_path / "whole.ckpt").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for name, content in {
        "empty": b"",
        "text": b"accuracy 95 %",
        "truncated": whole[: len(whole) // 2],
        "flipped": bytes(flipped),
    }.items():
        (tmp_path / f"{name}.ckpt").write_bytes(content)
        with pytest.raises(
            ValueError, match=f"{name}.ckpt is no checkpoint that can be read safely"
        ):
            released.load(tmp_path / f"{name}.ckpt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt holds no state dict"):
        released.load(tmp_path / "list.pt")


# -- what wrappers leave behind --------------------------------------------------------------------

PREFIXES = [
    "module.",
    "_orig_mod.",
    "model.",
    "network.",
    "module._orig_mod.",
    "_orig_mod.module.network.",
    "model.model.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_wrappers_put_before_keys_is_left_out_and_said(prefix, state, tmp_path, capsys):
    path = tmp_path / "wrapped.ckpt"
    torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path)
    assert same(released.load(path), state)
    said = capsys.readouterr().out
    assert said == (
        f"note: {path}: {prefix!r} before {len(state)} of {len(state)} keys is left out\n"
    )
    released.load(state)
    assert capsys.readouterr().out == ""


def test_a_compiled_part_inside_is_read_too(state):
    inside = {key.replace("blocks.1.", "blocks.1._orig_mod."): v for key, v in state.items()}
    assert same(released.load(inside), state)


def test_two_keys_that_become_one_are_refused(state):
    twice = state | {"module.out_layer.bias": state["out_layer.bias"]}
    with pytest.raises(ValueError, match="has out_layer.bias twice, as .* and as module.out_layer"):
        released.load(twice)


def test_other_keys_are_shown(state):
    other = {f"backbone.{key}": value for key, value in state.items()}
    with pytest.raises(
        ValueError, match=r"It has \d+ keys: backbone.blocks.0.bias, backbone.*\.\.\."
    ):
        released.load(other)


def test_more_than_tensors_is_refused_with_the_lines_that_convert_it(
    state, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "callbacks": Trap(tmp_path / "sprung")}, path)
    assert main(["evaluate", str(path), "dataset.name=digits"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "sprung").exists()
    lines = re.search(
        r"two lines: (state = .*) and (torch.save\(.*\)); last-weights.pt can be", said
    )
    monkeypatch.chdir(tmp_path)  # a file's owner runs them beside it
    exec(f"import torch\n{lines[1]}\n{lines[2]}", {})
    assert same(released.load(tmp_path / "last-weights.pt"), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.to(torch.int64), "of no use: out_layer.bias is of type int64"),
        (lambda v: torch.full_like(v, float("nan")), "out_layer.bias holds NaN"),
        (lambda v: torch.zeros(1).expand(10), "out_layer.bias is not stored whole"),
        (lambda v: v.to_sparse(), "out_layer.bias is torch.sparse_coo"),
    ],
)
def test_weights_of_no_use_are_refused(state, change, message):
    with pytest.raises(ValueError, match=message):
        released.load(state | {"out_layer.bias": change(state["out_layer.bias"])})


def test_a_size_that_no_memory_holds_is_refused_before_any_is_taken(state):
    name = "blocks.0.fast_multi_branch.slow_net_g.Kernel.bias_p"
    huge = state | {name: torch.zeros(1).expand(1, 1, 200_000, 200_000)}
    with pytest.raises(ValueError, match="misshapen"):
        released.load(huge)
