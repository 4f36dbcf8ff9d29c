"""Pathfinder: the statistics of generated images against those of samples of the published
generator.
"""

import numpy as np
import pytest
import torch
from places import GOLDEN

from terminator.data import DatasetNotFound, available, load, pathfinder
from terminator.data import pathfinder_drawing as drawing
from terminator.data.pathfinder_settings import PathfinderSettings
from terminator.hrrformer.longrange.data import load_long_range
from terminator.hrrformer.longrange.presets import preset as longrange_preset
from terminator.runtime.settings import ConfigError


def statistics(images):
    x = np.asarray(images, dtype=float)
    return x.mean(), x.std(), (x > 0).mean(), (x >= 64).mean(), (x >= 128).mean()


@pytest.fixture(scope="module")
def samples():
    with np.load(GOLDEN / "hrrformer_pathfinder32_samples.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    ("level", "count", "rate"), [("easy", 250, (15, 35)), ("hard", 60, (180, 420))]
)
def test_statistics_are_those_of_the_published_generator(monkeypatch, samples, level, count, rate):
    monkeypatch.setattr(pathfinder, "PART", count)
    part = pathfinder.make_part(PathfinderSettings(level), 0)
    images, labels = part["images"], part["labels"]
    assert images.shape == (count, 32, 32)
    assert images.dtype == np.uint8
    np.testing.assert_allclose(statistics(images), statistics(samples[level]), rtol=0.1)
    assert 0.35 < labels.mean() < 0.65
    assert images.min() == 0
    assert (images.max((1, 2)) == 255).all()
    attempts, successes = part["attempts"]
    # 1 in 24 and 1 in 300 in the published procedure
    assert rate[0] < attempts / successes < rate[1]


def test_the_same_seed_gives_the_same_images_and_another_others(monkeypatch):
    monkeypatch.setattr(pathfinder, "PART", 8)
    easy = PathfinderSettings("easy")
    one = pathfinder.make_part(easy, 3)
    assert (pathfinder.make_part(easy, 3)["images"] == one["images"]).all()
    assert (pathfinder.make_part(easy, 4)["images"] != one["images"]).any()
    assert (
        pathfinder.make_part(PathfinderSettings("easy", generator_seed=1), 3)["images"]
        != one["images"]
    ).any()


def test_generated_images_and_more_of_them(monkeypatch):
    monkeypatch.setattr(pathfinder, "PART", 10)
    images, labels = pathfinder.generate(PathfinderSettings("easy"), 15)
    assert images.shape == (15, 32, 32)
    assert labels.dtype == torch.int64
    more, _ = pathfinder.generate(PathfinderSettings("easy"), 25)
    assert torch.equal(more[:15], images)


def test_markers_lie_on_one_contour_or_on_two(monkeypatch):
    """Label 1: the tip of the same contour. Checked on images without distractors, by the contours'
    own dashes.
    """
    random = np.random.RandomState(0)
    kind = drawing.dashes(32, 1)
    canvases, first, second = pathfinder.grow_contours(kind, 6, 3000, random)
    assert len(canvases) > 20
    for contour in (first, second):
        assert len(contour.places) == 6
        steps = np.diff(np.stack(contour.places, 1), axis=1)
        assert (
            np.abs(steps).max(-1) <= 8
        ).all()  # a dash begins where the one before ends, a gap away
    for i in range(len(canvases)):
        tails = first.places[0][i] - second.places[0][i]
        assert 5.5 <= np.hypot(*tails) <= 8.5  # the seed distance, rounded


def test_dashes_and_discs():
    kind = drawing.dashes(32, 1)
    assert kind.images.shape == kind.masks.shape == (len(kind.offsets), 9, 9)
    assert len(np.unique(kind.offsets, axis=0)) == len(kind.offsets)
    assert kind.masks.max() == 1
    assert (kind.masks.sum((1, 2)) > 2 * kind.images.sum((1, 2))).all()  # masks keep others away
    level = kind.seed_images[0]  # to the right: along the columns
    assert level[4, 4:7].min() > 0.3
    assert level[:3].max() < 0.05
    disc = drawing.disc(1.5)
    assert disc.max() == 1
    assert disc.sum() == pytest.approx(np.pi * 1.5**2, rel=0.1)


def test_path_x_geometry():
    assert PathfinderSettings("hard", 128).distractors == (8, 4)
    assert PathfinderSettings("hard").distractors == (5, 4)
    assert PathfinderSettings("easy").distractors == (10, 2)
    canvases, first, _ = pathfinder.grow_contours(
        drawing.dashes(128, 2), 3, 40, np.random.RandomState(0)
    )
    assert len(canvases) > 0
    assert (first.places[0] >= 40).all()  # a frame of twice the seed distance
    assert (first.places[0] < 88).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "medium"}, "pathfinder.level is 'medium'; allowed: easy, intermediate, hard"),
        ({"size": 64}, "pathfinder.size is 64; allowed: 32, 128"),
        ({"generator_seed": -1}, "pathfinder.generator_seed is -1"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        PathfinderSettings(**changes)


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_dots_are_found_where_they_were_put(monkeypatch, level):
    monkeypatch.setattr(pathfinder, "PART", 40)
    put, finish = [], pathfinder._finish

    def watched(image, tips, *more):
        put.append(tips)
        return finish(image, tips, *more)

    monkeypatch.setattr(pathfinder, "_finish", watched)
    images = torch.from_numpy(pathfinder.make_part(PathfinderSettings(level), 0)["images"])
    places, tips = pathfinder.dots(images), torch.tensor(np.array(put[:40]))
    either = [(places - order).abs().amax((1, 2)) for order in (tips, tips.flip(1))]
    assert (torch.minimum(*either) <= 1).double().mean() > 0.94


@pytest.mark.slow
def test_the_distance_of_the_dots_answers_more_than_half():
    images, labels = pathfinder.generate(PathfinderSettings("easy"), 900)
    accuracy = pathfinder.answer_by_distance(
        (images[:500], labels[:500]), (images[500:], labels[500:])
    )
    assert 54 < accuracy < 70


def test_as_pictures_they_are_the_sequences_of_the_long_range_task(monkeypatch):
    monkeypatch.setattr(pathfinder, "PART", 10)
    pictures = load("pathfinder-easy", train_size=12, test_size=6)
    assert pictures.info.shape == (1, 32, 32)
    assert pictures.info.classes == ("apart", "connected")
    assert pictures.info.title == "Pathfinder 32, easy (generated)"
    data = load_long_range(
        longrange_preset("pathfinder-easy", data={"train_size": 12, "test_size": 6})
    )
    for split, images, labels in (
        ("train", pictures.train_images, pictures.train_labels),
        ("test", pictures.test_images, pictures.test_labels),
    ):
        tokens = data.splits[split].texts[0].batch(torch.arange(len(labels)), 1024)
        assert torch.equal(tokens, images.flatten(1).long())
        assert torch.equal(data.splits[split].labels, labels)


def test_the_pictures_are_listed_and_suggested():
    assert {row.name: row.status for row in available()}["pathfinder-hard"].startswith(
        "ready: made"
    )
    with pytest.raises(DatasetNotFound, match="Did you mean pathfinder-easy"):
        load("pathfinder_easy")
