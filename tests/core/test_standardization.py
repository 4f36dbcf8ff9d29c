"""Standardisation, and the two evaluations: as released, and calibrated."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from terminator import Terminator, calibrate, is_calibrated, set_evaluation
from terminator.classification.predict import predict_files
from terminator.data import normalize
from terminator.standardization import (
    BatchStandardization,
    GroupStandardization,
    InstanceStandardization,
    make_standardization,
)


def images(count, seed=0, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def standardized(x, axes):
    return (x - x.mean(axes, keepdim=True)) / (
        x.var(axes, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()


# -- the three kinds -------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [(6,), (3, 4)])
def test_batch_and_instance_against_the_formula(positions):
    x = 3 + 2 * torch.randn(5, 4, *positions)
    axes = list(range(2, x.ndim))
    for mode in (True, False):
        torch.testing.assert_close(
            BatchStandardization(4).train(mode)(x), standardized(x, [0, *axes])
        )
        torch.testing.assert_close(InstanceStandardization().train(mode)(x), standardized(x, axes))


@pytest.mark.parametrize("groups", [2, 4, 12])
def test_g_ibs_against_a_loop_over_groups(groups):
    x = 1 + torch.randn(3, 24, 5, 5)
    parts = [
        standardized(part, [2, 3] if i % 2 else [0, 2, 3])
        for i, part in enumerate(x.chunk(groups, 1))
    ]
    torch.testing.assert_close(GroupStandardization(24, groups)(x), torch.cat(parts, 1))


def test_affine_batch_standardisation_scales_and_shifts():
    layer, x = BatchStandardization(2, affine=True), torch.randn(4, 2, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, 3.0]))
        layer.bias.copy_(torch.tensor([-1.0, 1.0]))
    expected = (
        standardized(x, [0, 2]) * torch.tensor([2.0, 3.0])[:, None]
        + torch.tensor([-1.0, 1.0])[:, None]
    )
    torch.testing.assert_close(layer(x), expected)


def test_impossible_groups_and_kinds():
    with pytest.raises(ValueError, match="groups is 3; .*even"):
        GroupStandardization(24, 3)
    with pytest.raises(ValueError, match="channels is 20; .*multiple of its 12"):
        GroupStandardization(20, 12)
    with pytest.raises(ValueError, match="'layer'; allowed: g_ibs, batch, instance, batch_affine"):
        make_standardization("layer", 12, 12)


# -- calibration -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["g_ibs", "batch", "instance", "batch_affine"])
@torch.no_grad()
def test_calibrated_one_image_has_one_answer(tiny_model, kind):
    model, x = tiny_model(standardization=kind, dropout=(0.5,)).eval(), images(7)
    # as released it depends on its batch
    assert not torch.allclose(model(x[:1]), model(x)[:1], atol=1e-3)
    assert calibrate(model, [images(8, seed) for seed in (1, 2)]) == 16
    assert not model.training
    whole = model(x)
    for i in range(7):
        torch.testing.assert_close(model(x[i : i + 1]), whole[i : i + 1], rtol=1e-5, atol=1e-5)
    other = torch.cat([images(3, 9) * 5, x[:2]])
    torch.testing.assert_close(model(other)[3:], whole[:2], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_calibrated_on_one_batch_equals_that_batch_as_released(tiny_model):
    model, x = tiny_model().eval(), images(8)
    as_released = model(x)
    calibrate(model, [x])
    torch.testing.assert_close(model(x), as_released, rtol=1e-4, atol=1e-5)
    set_evaluation(model, "released")
    assert torch.equal(model(x), as_released)


@torch.no_grad()
def test_sequences_can_be_calibrated_too(tiny_model):
    model = tiny_model(dimensions=1, size=16)
    x = torch.randn(4, 3, 16)
    calibrate(model, [torch.randn(6, 3, 16)])
    torch.testing.assert_close(model(x[:1]), model(x)[:1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_training_never_uses_calibrated_statistics(tiny_model):
    model, x = tiny_model().train(), images(4)
    before = model(x)
    calibrate(model, [images(8, 1)])
    assert torch.equal(model.train()(x), before)


@torch.no_grad()
def test_calibrated_logits_survive_saving_exactly(tiny_model, tmp_path):
    model, x = tiny_model(), images(4)
    calibrate(model, [images(8, 1)])
    model.save(tmp_path / "model.safetensors")
    loaded = Terminator.load(tmp_path / "model.safetensors")
    assert is_calibrated(loaded)
    assert not loaded.training
    assert torch.equal(loaded(x), model(x))
    set_evaluation(loaded, "released")
    set_evaluation(model, "released")
    assert torch.equal(loaded(x), model(x))


def test_a_state_dict_brings_calibration_and_takes_it_away(tiny_model):
    model, other, x = tiny_model(), tiny_model(seed=1), torch.randn(6, 3, 8, 8)
    plain = {name: value.clone() for name, value in other.state_dict().items()}
    calibrate(model, [torch.randn(8, 3, 8, 8) for _ in range(2)])
    with torch.no_grad():
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.eval()(x), model(x))
        torch.testing.assert_close(other(x[:1]), other(x)[:1])
        other.load_state_dict(plain)
        assert not is_calibrated(other)
        assert other(x).isfinite().all()  # with the statistics of its batch


@torch.no_grad()
def test_calibrated_at_another_size(tiny_model):
    model = tiny_model()
    calibrate(model, [images(8, 1)])
    x, larger = images(3, size=16), model.at_size(16)
    torch.testing.assert_close(larger(x[:1]), larger(x)[:1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_calibrated_statistics_are_not_rounded_under_autocast():
    layer = BatchStandardization(2).eval()
    calibrate(layer, [100 + torch.randn(64, 2, 30)])
    x = (100 + torch.randn(8, 2, 30)).bfloat16()
    assert layer(x).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x).float(), layer(x.float()), rtol=0.01, atol=0.01)


def test_calibration_without_batches_or_cut_short(tiny_model):
    model, x = tiny_model().eval(), images(3)
    before = model(x)
    with pytest.raises(ValueError, match="calibration was given no batches"):
        calibrate(model, [])
    with pytest.raises(ValueError, match="the input has shape"):
        calibrate(model, [images(4), torch.zeros(1, 3, 5, 5)])
    with pytest.raises(ValueError, match="statistics that are not finite: is an image NaN"):
        calibrate(model, [images(4), images(4) * math.nan])
    assert torch.equal(model(x), before)
    assert not is_calibrated(model)
    calibrate(model, [images(4)])
    before = model(x)
    with pytest.raises(ValueError, match="not finite"):
        calibrate(model, [images(4) * math.nan])
    assert torch.equal(model(x), before)  # calibrated as before
    with pytest.raises(ValueError, match="no batches"):
        calibrate(model.train(), [])
    assert model.training


def test_evaluations_that_cannot_be(tiny_model):
    model = tiny_model()
    with pytest.raises(ValueError, match="'fixed'; allowed: released, calibrated"):
        set_evaluation(model, "fixed")
    with pytest.raises(ValueError, match="no calibrated statistics yet: call calibrate"):
        set_evaluation(model, "calibrated")


# -- single images ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tiny_model, tmp_path):
    """A calibrated model's file with the description of its data."""
    model = tiny_model()
    calibrate(model, [images(16, 1)])
    data = {
        "classes": ["ant", "bee", "cat", "dog"],
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
    }
    model.save(tmp_path / "model.safetensors", data=data)
    return tmp_path / "model.safetensors", model, data


@torch.no_grad()
def test_predict_single_image_files(saved, tmp_path):
    path, model, data = saved
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    files = []
    for i, image in enumerate(pixels):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    table = predict_files(path, files)
    batch = normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2), data["mean"], data["std"])
    probability, index = F.softmax(model(batch), 1).max(1)
    assert list(table["class"]) == [data["classes"][i] for i in index]
    assert list(table["probability"]) == pytest.approx(probability.tolist(), abs=1e-5)
    assert list(table["image"]) == [str(file) for file in files]


def test_predict_resizes_and_converts(saved, tmp_path):
    path, _, data = saved
    Image.fromarray(np.full((20, 31), 200, dtype=np.uint8)).save(tmp_path / "grey.jpg")
    assert predict_files(path, [tmp_path / "grey.jpg"])["class"][0] in data["classes"]


def test_predict_refuses_what_it_cannot_answer(saved, tiny_model, tmp_path):
    path, _, data = saved
    with pytest.raises(FileNotFoundError, match="no image file at .*gone.png"):
        predict_files(path, [tmp_path / "gone.png"])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="text.png is corrupt"):
        predict_files(path, [tmp_path / "text.png"])
    tiny_model().save(tmp_path / "raw.safetensors", data=data)
    with pytest.raises(ValueError, match="not calibrated"):
        predict_files(tmp_path / "raw.safetensors", [])
    tiny_model().save(tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="without the description of its data"):
        predict_files(tmp_path / "bare.safetensors", [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (5, 4, 7), (6, 4, 1)])
def test_scale_and_shift_in_any_memory_layout(dtype, shape):
    generator = torch.Generator().manual_seed(0)
    standardize = BatchStandardization(4, affine=True).to(dtype)
    with torch.no_grad():
        for parameter in standardize.parameters():
            parameter.copy_(torch.randn(4, generator=generator))
    x = torch.randn(shape, generator=generator, dtype=dtype)
    outermost = x.transpose(0, 1).contiguous().transpose(0, 1)
    found = []
    for given in (x, outermost):
        given = given.detach().requires_grad_()
        y = standardize(given)
        wanted = [given, *standardize.parameters()]
        found.append([y, *torch.autograd.grad((y * x.cos()).sum(), wanted)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


def test_one_value_per_channel_gives_the_shift():
    standardize = BatchStandardization(4, affine=True)
    assert torch.equal(standardize(torch.randn(1, 4, 1, 1)), torch.zeros(1, 4, 1, 1))
