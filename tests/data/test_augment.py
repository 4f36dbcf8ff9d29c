"""Normalisation and augmentation of batches against slow per-image references."""

import pytest
import torch
from torchvision.transforms import functional as tvf

from terminator.data import Augmentation, normalize


def _images(count=6, channels=3, height=9, width=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8
    )


def _generator(seed=7):
    return torch.Generator().manual_seed(seed)


def _slow(images, draws, padding, mode):
    """Pad with torchvision, cut and flip image by image."""
    height, width = images.shape[-2:]
    out = []
    for index, image in enumerate(images):
        if draws.offsets is not None:
            down, right = (draws.offsets[index] + padding).tolist()
            padded = tvf.pad(image, [padding] * 4, padding_mode=mode)
            image = padded[:, down : down + height, right : right + width]
        if draws.flips is not None and draws.flips[index]:
            image = tvf.hflip(image)
        out.append(image)
    return torch.stack(out)


def test_normalize_is_the_formula_per_channel():
    images = _images()
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.25, 0.4)
    expected = torch.stack(
        [(images[:, c].double() / 255 - mean[c]) / std[c] for c in range(3)], dim=1
    )
    out = normalize(images, mean, std)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected.float())
    # a sequence view
    torch.testing.assert_close(normalize(images.flatten(2), mean, std), out.flatten(2))


def test_normalized_training_images_have_mean_0_and_std_1():
    from terminator.data import load

    data = load("digits")
    out = normalize(data.train_images, data.info.mean, data.info.std)
    assert out.mean().item() == pytest.approx(0, abs=1e-5)
    assert out.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("images", "mean", "std", "error", "match"),
    [
        (_images().float(), (0.5,) * 3, (0.5,) * 3, TypeError, "uint8"),
        (_images(), (0.5,), (0.5,), ValueError, "one mean and one std per channel"),
        (_images(), (0.5,) * 3, (0.5, 0.0, 0.5), ValueError, "above 0"),
    ],
)
def test_normalize_refuses(images, mean, std, error, match):
    with pytest.raises(error, match=match):
        normalize(images, mean, std)


@pytest.mark.parametrize("mode", ["symmetric", "reflect", "constant"])
@pytest.mark.parametrize(
    ("height", "width", "padding"), [(9, 9, 4), (5, 8, 2), (5, 5, 4), (8, 8, 1)]
)
@pytest.mark.parametrize("flip", [True, False])
def test_augmentation_equals_the_slow_reference(mode, height, width, padding, flip):
    images = _images(40, 3, height, width)
    augmentation = Augmentation(crop_padding=padding, flip=flip, mode=mode)
    draws = augmentation.draw(len(images), _generator())
    expected = _slow(images, draws, padding, mode)
    assert torch.equal(augmentation.apply(images, draws), expected)
    assert torch.equal(augmentation(images, _generator()), expected)
    assert not torch.equal(expected, images)


def test_symmetric_padding_may_be_as_large_as_the_image():
    images = _images(50, 1, 4, 4)
    augmentation = Augmentation(crop_padding=4, flip=False)
    draws = augmentation.draw(50, _generator())
    assert draws.offsets.min() == -4
    assert draws.offsets.max() == 4
    assert torch.equal(augmentation.apply(images, draws), _slow(images, draws, 4, "symmetric"))


@pytest.mark.parametrize(("mode", "limit"), [("symmetric", 4), ("reflect", 3)])
def test_padding_larger_than_the_image_is_an_error(mode, limit):
    with pytest.raises(
        ValueError, match=f"crop_padding {limit + 1} is too large for 4x6 .* at most {limit}"
    ):
        Augmentation(crop_padding=limit + 1, mode=mode)(_images(2, 3, 4, 6), _generator())


def test_draws_cover_all_shifts_and_half_the_flips():
    draws = Augmentation(crop_padding=2).draw(5000, _generator())
    _, counts = torch.unique(draws.offsets, dim=0, return_counts=True)
    assert len(counts) == 25
    assert counts.min() > 140  # 200 expected, deviation 14
    assert 0.46 < draws.flips.float().mean() < 0.54


def test_ranks_that_slice_the_draws_see_the_same_images_as_one_process():
    images, augmentation = _images(12), Augmentation()
    whole = augmentation(images, _generator())
    draws = augmentation.draw(12, _generator())
    halves = [augmentation.apply(images[part], draws[part]) for part in (slice(0, 6), slice(6, 12))]
    assert torch.equal(torch.cat(halves), whole)
    order = torch.tensor([5, 1, 7])
    assert torch.equal(augmentation.apply(images[order], draws[order]), whole[order])


def test_same_seed_same_images_other_seed_other_images_and_torch_seed_untouched():
    images, augmentation = _images(), Augmentation()
    state = torch.get_rng_state()
    first = augmentation(images, _generator(1))
    assert torch.equal(first, augmentation(images, _generator(1)))
    assert not torch.equal(first, augmentation(images, _generator(2)))
    assert torch.equal(state, torch.get_rng_state())


def test_flips_alone_only_flip():
    images = _images(30)
    out = Augmentation(crop_padding=0, flip=True)(images, _generator())
    flipped = (out == images.flip(3)).flatten(1).all(1)
    same = (out == images).flatten(1).all(1)
    assert (flipped | same).all()
    assert flipped.any()
    assert same.any()


def test_nothing_to_do_returns_the_batch_and_a_batch_of_one_or_none_works():
    images = _images()
    assert Augmentation(crop_padding=0, flip=False)(images, _generator()) is images
    assert Augmentation()(images[:1], _generator()).shape == (1, 3, 9, 9)
    assert Augmentation()(images[:0], _generator()).shape == (0, 3, 9, 9)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"crop_padding": -1}, "crop_padding .* -1"),
        ({"crop_padding": 1.5}, "crop_padding .* 1.5"),
        ({"crop_padding": True}, "crop_padding .* True"),
        ({"flip": 1}, "flip .* 1"),
        ({"mode": "wrap"}, "'wrap'; allowed: symmetric, reflect, constant"),
    ],
)
def test_augmentation_refuses(settings, match):
    with pytest.raises(ValueError, match=match):
        Augmentation(**settings)


def test_wrong_shapes_and_counts_are_errors():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(6, 3, 81\)"):
        Augmentation()(_images().flatten(2), _generator())
    augmentation = Augmentation()
    with pytest.raises(ValueError, match="draws are for 5 images, the batch has 6"):
        augmentation.apply(_images(6), augmentation.draw(5, _generator()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_gpu_sees_the_same_augmentation():
    images, augmentation = _images(16), Augmentation()
    on_gpu = augmentation(images.cuda(), _generator())
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), augmentation(images, _generator()))
    with pytest.raises(ValueError, match="CPU"):
        augmentation(images.cuda(), torch.Generator("cuda"))
