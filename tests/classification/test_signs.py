"""Signs of gradients in bf16 and in float32."""

from types import SimpleNamespace

import pytest
import torch

from terminator.classification import signs
from terminator.classification.config import Config
from terminator.model import Terminator


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Terminator(size=8, factors=[4, 3, 2])


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(16, 3, 8, 8, generator=generator),
            torch.randint(10, (16,), generator=generator),
        )
        for _ in range(2)
    ]


def test_every_parameter_is_of_a_part(model):
    parts = {signs.part_of(name) for name, _ in model.named_parameters()}
    assert parts == {*signs.PARTS.values(), "classifier"}


def test_a_gradient_is_that_of_the_whole_loss_and_leaves_nothing_behind(model, batches):
    state = torch.random.get_rng_state()
    found = signs.gradients(model, Config(), *batches[0], "float32")
    again = signs.gradients(model, Config(), *batches[0], "float32")
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    without = Config().updated(train={"slow_neural_loss": 0.0})
    other = signs.gradients(model, without, *batches[0], "float32")
    assert not torch.equal(
        found["blocks.0.slow_net.output.weight"], other["blocks.0.slow_net.output.weight"]
    )


def test_rounding_changes_few_signs_and_another_batch_many(model, batches):
    rows = {row["part"]: row for row in signs.compared(model, Config(), batches)}
    assert not model.training
    whole = rows.pop(signs.ALL)
    assert sum(row["numbers"] for row in rows.values()) == whole["numbers"] > 10_000
    assert whole["in the next batch"] < 80 < 95 < whole["in bf16"] < 100
    cancelled = rows.pop("hyper-channel interaction")  # by the standardisation behind it
    assert cancelled["in bf16"] < min(row["in bf16"] for row in rows.values())


def test_signs_are_counted_where_the_first_is_not_zero():
    def one(*values):
        return {"a": torch.tensor(values)}

    assert signs._same(
        [one(1.0, -1.0, 0.0, 2.0)], [one(3.0, 1.0, 5.0, 0.0)], ["a"]
    ) == pytest.approx(100 / 3)


def test_a_record_is_made_once_for_the_same_weights(monkeypatch):
    made = []
    monkeypatch.setattr(
        signs,
        "compared",
        lambda *_: made.append(1) or [_row("a", 99.0), _row("b", 50.0), _row("all", 90.0)],
    )
    record = signs.recorded("smoke")
    assert signs.recorded("smoke") == record
    assert len(made) == 1
    assert record["run_id"].startswith("digits-smoke-")
    assert "The least by parts: b (50.0 %), 25.0% of all; of every other part at least 99.0 %." in (
        signs.sentence(record)
    )
    monkeypatch.setattr(signs, "digests", SimpleNamespace(of_file=lambda path: "other weights"))
    signs.recorded("smoke")
    assert len(made) == 2


def _row(part, same):
    numbers = {"a": 30, "b": 10, "all": 40}[part]
    return {"part": part, "numbers": numbers, "in bf16": same, "in the next batch": 50.0}
