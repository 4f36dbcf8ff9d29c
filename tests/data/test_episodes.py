"""Episodes: what is drawn, what is never drawn, and how it is augmented."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypertransformer_tools import golden

from terminator.data.episodes import augment
from terminator.data.episodes.classes import ClassImages
from terminator.data.episodes.sampling import Episodes, episode_generator, removal_mask
from terminator.data.episodes.settings import (
    SPLITS,
    EpisodeAugmentation,
    EpisodeSettings,
    parse_specification,
)
from terminator.data.episodes.sources import load_classes
from terminator.runtime.settings import ConfigError


def numbered(classes=12, drawings=10, size=4, name="numbered"):
    """Images whose first pixel is their class and whose second is their drawing; counts may be a
    list.
    """
    counts = [drawings] * classes if isinstance(drawings, int) else list(drawings)
    stacks = []
    for index, count in enumerate(counts):
        stack = torch.zeros(count, 1, size, size, dtype=torch.uint8)
        stack[:, 0, 0, 0], stack[:, 0, 0, 1] = index, torch.arange(count)
        stacks.append(stack)
    starts = torch.tensor([0, *np.cumsum(counts)])
    return ClassImages(name, torch.cat(stacks), starts, tuple(f"c{i}" for i in range(len(counts))))


def settings(ways=3, support=6, query=9, **changes):
    return EpisodeSettings(
        **{
            "num_labels": ways,
            "samples_transformer": support,
            "samples_cnn": query,
            "image_size": 4,
            **changes,
        }
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(images):
    return ((images + 1) * 128).round().long()


def test_balanced_disjoint_episodes_hold_what_they_say():
    source = numbered()
    batch = Episodes(source, range(2, 9), settings(support=7, query=8)).batch(50, generator())
    assert batch.support_images.shape == (50, 7, 1, 4, 4)
    assert batch.query_images.shape == (50, 8, 1, 4, 4)
    assert batch.class_range == (2, 8)
    for episode in range(50):
        support, query = batch.support_labels[episode], batch.query_labels[episode]
        assert support.bincount(minlength=3).tolist() == [3, 2, 2]
        assert query.bincount(minlength=3).tolist() == [3, 3, 2]
        index = torch.cat([batch.draw.support.index[episode], batch.draw.query.index[episode]])
        assert len(index.unique()) == 15  # no image twice, in neither set
        classes = batch.draw.classes[episode]
        assert len(classes.unique()) == 3
        assert torch.equal(classes[support], batch.support_classes[episode])
        assert torch.equal(classes[query], batch.query_classes[episode])
    for part in ("support", "query"):  # the images are those of the real classes
        images, real = getattr(batch, f"{part}_images"), getattr(batch, f"{part}_classes")
        assert torch.equal(pixels(images)[..., 0, 0, 0], real)
        rows = getattr(batch.draw, part).index
        assert torch.equal(source.images[rows, 0, 0, 1].long(), pixels(images)[..., 0, 0, 1])
    # all of the split, none besides
    assert set(batch.support_classes.unique().tolist()) == set(range(2, 9))


def test_samples_are_shuffled_and_all_drawings_occur():
    batch = Episodes(numbered(), range(12), settings()).batch(200, generator())
    first = batch.support_labels[:, 0].bincount(minlength=3) / 200
    assert ((first > 0.2) & (first < 0.47)).all()
    assert set(pixels(batch.query_images)[..., 0, 0, 1].unique().tolist()) == set(range(10))


def overlap_share(overlap, shots=5):
    source = numbered(30, 20)
    episodes = Episodes(source, range(30), settings(5, 5 * shots, 15, overlap=overlap))
    draw = episodes.draw(400, generator())
    return (
        (draw.query.index[..., None] == draw.support.index[:, None]).any(-1).double().mean().item()
    )


def test_the_overlapping_draw_overlaps_as_often_as_expected():
    assert overlap_share("disjoint") == 0
    assert overlap_share("parity") == pytest.approx(0.25, abs=0.03)
    assert overlap_share("parity", shots=1) == pytest.approx(0.05, abs=0.02)


def test_disjoint_episodes_may_use_every_drawing():
    draw = Episodes(numbered(3, 5), range(3), settings(3, 6, 9)).draw(20, generator())
    used = torch.cat([draw.support.index, draw.query.index], dim=1).sort(1).values
    assert torch.equal(used, torch.arange(15).expand(20, -1))


def test_unbalanced_episodes_vary_their_shots_and_stay_disjoint():
    source = numbered(8, [3, 9, 5, 4, 7, 6, 8, 3])
    episodes = Episodes(source, range(8), settings(3, 5, 5, balanced_batches=False))
    batch = episodes.batch(200, generator())
    index = torch.cat([batch.draw.support.index, batch.draw.query.index], dim=1)
    assert all(len(row.unique()) == 10 for row in index)
    assert torch.equal(pixels(batch.support_images)[..., 0, 0, 0], batch.support_classes)
    assert torch.equal(pixels(batch.query_images)[..., 0, 0, 0], batch.query_classes)
    shots = torch.stack([row.bincount(minlength=3) for row in batch.support_labels])
    assert len(shots.unique(dim=0)) > 5


def test_unlabelled_samples_are_of_the_support_set_only():
    episodes = Episodes(
        numbered(), range(12), settings(3, 3 * (1 + 2), 9, unlabeled_samples_per_class=2)
    )
    batch = episodes.batch(30, generator())
    for labels, classes in zip(batch.support_labels, batch.support_classes):
        assert labels.bincount(minlength=4).tolist() == [1, 1, 1, 6]
        # kept for bookkeeping
        assert classes[labels == 3].unique(return_counts=True)[1].tolist() == [2, 2, 2]
    assert batch.query_labels.max() == 2
    assert batch.support_mask is None


def test_random_removal():
    labels = torch.tensor([0, 1, 2, 2, 2]).repeat(4000, 1)
    mask = removal_mask(labels, 2, 1.0, 0.0, generator())
    assert not mask[:, :2].any()
    assert mask[:, 2:].double().mean().item() == pytest.approx(0.5, abs=0.02)
    # one rate per episode: E r^2 = 1/3, not 1/4
    together = (mask[:, 2] & mask[:, 3]).double().mean().item()
    assert together == pytest.approx(1 / 3, abs=0.02)
    s = settings(max_prob_remove_labeled=0.5)
    batch = Episodes(numbered(), range(12), s).batch(500, generator())
    assert batch.support_mask.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert Episodes(numbered(), range(12), s.for_test()).batch(5, generator()).support_mask is None


def test_seeds():
    episodes = Episodes(
        numbered(), range(12), settings(), EpisodeAugmentation(rotation_probability=0.5)
    )
    state = torch.get_rng_state()
    first, again = (episodes.batch(4, episode_generator(1, 0, 7)) for _ in range(2))
    assert torch.equal(first.support_images, again.support_images)
    assert torch.equal(first.query_labels, again.query_labels)
    for other in (
        episode_generator(2, 0, 7),
        episode_generator(1, 1, 7),
        episode_generator(1, 0, 8),
    ):
        assert not torch.equal(first.draw.support.index, episodes.draw(4, other).support.index)
    assert torch.equal(state, torch.get_rng_state())


def test_more_queries_of_the_same_episodes():
    episodes = Episodes(numbered(30, 20), range(30), settings(), EpisodeAugmentation())
    draw = episodes.draw(6, generator())
    more = episodes.redraw_queries(draw, generator(5))
    assert not torch.equal(draw.query.index, more.query.index)
    assert not (more.query.index[..., None] == draw.support.index[:, None]).any()
    first, second = (episodes.images_of(d, generator()) for d in (draw, more))
    assert torch.equal(first.support_images, second.support_images)


def test_a_label_is_turned_alike_in_support_and_query():
    source = numbered()
    source.images.zero_()
    source.images[:, 0, 0, 0] = 255  # where this corner comes to lie tells the quarter turns
    batch = Episodes(source, range(12), settings(), EpisodeAugmentation()).batch(40, generator())
    support, query = (
        images.flatten(2).argmax(-1) for images in (batch.support_images, batch.query_images)
    )
    assert set(support.flatten().tolist()) == {0, 3, 12, 15}
    turned = 0
    for episode in range(40):
        corner = {
            int(label): int(c) for label, c in zip(batch.support_labels[episode], support[episode])
        }
        assert all(
            corner[int(label)] == c for label, c in zip(batch.query_labels[episode], query[episode])
        )
        turned += len(set(corner.values())) > 1
    assert turned > 20  # labels of one episode differ
    whole = dataclasses.replace(EpisodeAugmentation(), per_label_augmentation=False)
    batch = Episodes(source, range(12), settings(), whole).batch(40, generator())
    corners = torch.cat([batch.support_images, batch.query_images], dim=1).flatten(2).argmax(-1)
    assert (corners == corners[:, :1]).all()
    assert len(corners.unique()) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labels": 1}, "num_labels is 1; allowed: an integer of at least 2"),
        ({"samples_transformer": 2}, "samples_transformer is 2; allowed: at least 3"),
        ({"samples_transformer": 7, "unlabeled_samples_per_class": 1}, r"3 \* \(shots \+ 1\)"),
        ({"samples_transformer": 6, "unlabeled_samples_per_class": 2}, r"3 \* \(shots \+ 2\)"),
        (
            {"balanced_batches": False, "unlabeled_samples_per_class": 1},
            "0 without balanced_batches",
        ),
        ({"balanced_batches": False, "overlap": "parity"}, "disjoint without balanced_batches"),
        ({"overlap": "some"}, "overlap is 'some'; allowed: disjoint, parity"),
        ({"max_prob_remove_labeled": 1.5}, "max_prob_remove_labeled is 1.5"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("classes", "changes", "message"),
    [
        (range(2), {}, "num_labels is 3; allowed: at most 2"),
        (range(12), {"support": 24}, r"needs 11 images of a class .* has 10 of its smallest"),
        (range(12), {"support": 33, "overlap": "parity"}, r"needs 11 images of a class"),
        (range(12), {"support": 25, "balanced_batches": False}, "is 34; allowed: at most 30"),
        ([0, 1, 12], {}, "allowed: one or more of 0 to 11"),
        ([0, 1, 1, 2], {}, "one of them twice"),
    ],
)
def test_impossible_episodes(classes, changes, message):
    with pytest.raises(ValueError, match=message):
        Episodes(numbered(), classes, settings(**changes))


# -- augmentation ----------------------------------------------------------------------------------


def test_augmentation_golden():
    case = golden("augment")
    images, off = case["images"], torch.zeros(2)

    def configuration(turns=0, **on):
        is_on = {step: torch.full((2,), step in on) for step in augment.STEPS}
        alpha = torch.full((2,), on.get("contrast", 0.0), dtype=torch.float64)
        x, y = (
            torch.full((2,), value, dtype=torch.float64) for value in on.get("roll", (0.0, 0.0))
        )
        return augment.Configuration(torch.full((2,), turns), is_on, off, alpha, off, x, y)

    def check(name, **changes):
        ours = augment.apply_configuration(images, configuration(**changes))
        torch.testing.assert_close(ours, case[name], rtol=0, atol=1e-3)

    for turns in (1, 2, 3):
        check(f"rot90_k{turns}", turns=turns)
    check("contrast", contrast=float(case["contrast_u"]))
    check("smooth", smooth=1)
    check("negate", negate=1)
    check("roll", roll=(float(case["roll_u"]), float(case["roll_v"])))
    torch.testing.assert_close(
        augment.network_input(images, 12), case["network_input"], rtol=0, atol=1e-3 / 128
    )


def test_each_image_follows_its_own_configuration_in_the_canonical_order():
    all_on = EpisodeAugmentation(**{f"{step}_probability": 0.6 for step in augment.STEPS})
    drawn = augment.draw_configuration(all_on, 5, 4, generator(3))
    flat = drawn.at((torch.arange(5).repeat_interleave(4), torch.arange(4).repeat(5)))
    images = torch.rand(20, 3, 14, 14, generator=generator()) * 255
    whole = augment.apply_configuration(images, flat)
    steps = {
        "rotation": lambda x, c: augment.rotate(x, c.angle),
        "roll": lambda x, c: augment.roll(x, c.roll_x, c.roll_y),
        "resize": lambda x, c: augment.shrink(x, c.size),
        "contrast": lambda x, c: augment.contrast(x, c.alpha),
        "smooth": lambda x, c: augment.smooth(x),
        "negate": lambda x, c: 255 - x,
    }
    for i in range(20):
        own = flat.at((torch.tensor([i]),))
        x = torch.rot90(images[i : i + 1], int(own.quarter_turns), (-2, -1))
        for step, call in steps.items():
            x = call(x, own) if own.is_on[step] else x
        torch.testing.assert_close(whole[i : i + 1], x, rtol=1e-5, atol=1e-3)


def test_rotation_and_shrinking():
    image = torch.rand(1, 1, 9, 9, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(
        augment.rotate(image, torch.tensor([90.0])), torch.rot90(image, 1, (-2, -1))
    )
    torch.testing.assert_close(augment.rotate(image, torch.zeros(1)), image)
    small = augment.shrink(torch.ones(2, 1, 10, 10), torch.tensor([-1.0, 1.0]))
    assert small.flatten(1).sum(1).tolist() == [49, 100]  # 70 % and 100 %
    assert small[0, 0, 1:8, 1:8].all()


def test_draws_follow_their_probabilities():
    drawn = augment.draw_configuration(
        EpisodeAugmentation(smooth_probability=0.25, negate_probability=1, angle_range=30),
        3000,
        2,
        generator(),
    )
    assert drawn.is_on["smooth"].double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert drawn.is_on["negate"].all()
    assert not drawn.is_on["roll"].any()
    assert 29 < drawn.angle.abs().max() <= 30
    assert 0.29 < drawn.roll_x.abs().max() <= 0.3
    assert (drawn.quarter_turns.flatten().bincount() / 6000 - 0.25).abs().max() < 0.03


def test_test_flags_inherit_or_replace():
    train = EpisodeAugmentation(
        smooth_probability=0.5,
        roll_probability=0.3,
        test_roll_probability=0.0,
        angle_range=20,
        test_angle_range=10,
        apply_image_augmentations=True,
    )
    test = train.for_test()
    assert (test.smooth_probability, test.roll_probability, test.angle_range) == (0.5, 0.0, 10)
    assert not test.random_rotate_by_90
    assert not test.per_label_augmentation
    assert not test.apply_image_augmentations
    with pytest.raises(ConfigError, match="test_roll_probability is 2; allowed: 0 to 1, or -1"):
        EpisodeAugmentation(test_roll_probability=2)
    with pytest.raises(ConfigError, match="roll_probability is -1; allowed: 0 to 1$"):
        EpisodeAugmentation(roll_probability=-1)


def test_image_augmentations():
    images = torch.rand(4, 6, 3, 16, 16, generator=generator()) * 1.9 - 0.95
    individually = augment.augment_images(images, True, generator())
    assert individually.shape == images.shape
    assert torch.equal(individually, augment.augment_images(images, True, generator()))
    flat = torch.full((2, 40, 1, 8, 8), 0.0)  # grey: only brightness is left of it all
    of_batch, of_images = (
        augment.augment_images(flat, each, generator()) for each in (False, True)
    )
    assert all(len(levels.mean((1, 2, 3)).mul(1e4).round().unique()) == 1 for levels in of_batch)
    assert all(len(levels.mean((1, 2, 3)).mul(1e4).round().unique()) > 30 for levels in of_images)
    assert of_images.abs().max() <= 0.3 * 255 / 128 + 1e-5


def test_hue():
    import colorsys

    images = torch.rand(5, 3, 2, 2, generator=generator(), dtype=torch.float64) * 255
    shift = torch.tensor([0.0, 0.1, -0.2, 1.0, 0.5], dtype=torch.float64)
    ours = augment.shift_hue(images, shift[:, None, None, None])
    for i in range(5):
        for pixel, found in zip(
            (images[i] / 255).flatten(1).T.tolist(), (ours[i] / 255).flatten(1).T.tolist()
        ):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            assert found == pytest.approx(
                colorsys.hsv_to_rgb((hue + shift[i].item()) % 1, saturation, value)
            )


# -- the real characters ---------------------------------------------------------------------------


def test_real_characters():
    places = [
        Path(place) for place in os.environ.get("TERMINATOR_DATA", "").split(os.pathsep) if place
    ]
    if not any((place / "omniglot28.npz").is_file() for place in places):
        pytest.skip("TERMINATOR_DATA has no omniglot28.npz")
    source = load_classes("omniglot28").shuffled(2022)
    assert (len(source.classes), tuple(source.images.shape)) == (242, (4840, 1, 28, 28))
    assert len(set(source.groups)) == 8
    splits = {
        name: parse_specification(f"omniglot28:{text}")[1]
        for name, text in SPLITS["omniglot28"].items()
    }
    assert {name: len(classes) for name, classes in splits.items()} == {
        "train": 182,
        "val": 10,
        "test": 50,
    }
    batch = Episodes(source, splits["test"], EpisodeSettings()).batch(4, generator())
    assert batch.query_images.shape == (4, 60, 1, 28, 28)
    assert set(batch.query_classes.unique().tolist()) <= set(splits["test"])
    ink = (batch.query_images > 0).double().mean().item()
    assert 0.02 < ink < 0.3  # bright ink on a dark ground
    # drawings of one character are more alike than those of two, so the labels belong to the images
    batch = Episodes(source, splits["test"], EpisodeSettings(samples_transformer=200)).batch(
        10, generator()
    )
    means = torch.stack(
        [
            images[labels.argsort()].unflatten(0, (20, 10)).mean(1)
            for images, labels in zip(batch.support_images, batch.support_labels)
        ]
    )
    nearest = torch.cdist(batch.query_images.flatten(2), means.flatten(2)).argmin(-1)
    assert (nearest == batch.query_labels).double().mean() > 0.35  # chance is 0.05
