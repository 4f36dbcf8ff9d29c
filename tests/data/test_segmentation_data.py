"""Pictures with labels: every layout, what is counted, every refusal; scale, crop and flip."""

import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from data_files import encode, own_places, pack, pixels_of, write
from PIL import Image
from segmentation_files import camvid_files, make_voc, street, voc_labels

from terminator.data import DatasetCorrupt, DatasetNotFound, normalize
from terminator.data.pictures.augment import apply_crops, draw_crops
from terminator.data.pictures.batches import IGNORE, PictureBatch, StackedPictures
from terminator.data.pictures.context import LENGTH, NOISE, RANGE, draw_context, prototypes
from terminator.data.pictures.segmentation import IMAGENET, load_segmentation
from terminator.data.pictures.settings import ScaleCropFlip
from terminator.data.pictures.shapes import draw_shapes
from terminator.runtime.settings import ConfigError

__all__ = ["own_places"]  # a fixture that every test here uses
REAL_DATA = os.environ.get("TERMINATOR_DATA")  # read before the fixture hides it


# -- the context task ------------------------------------------------------------------------------


def test_the_context_task_is_what_it_says():
    images, labels = draw_context(50, 1)
    assert images.shape == (50, 6, 24, 24)
    assert images.dtype == labels.dtype == np.uint8
    assert all(len(np.unique(part)) == 3 for part in labels)
    assert set(np.unique(labels)) == set(range(8))
    points = images / (255 / (2 * RANGE)) - RANGE
    for i, prototype in enumerate(prototypes()):
        mine = points.transpose(0, 2, 3, 1)[labels == i]
        np.testing.assert_allclose(mine.mean(0), prototype, atol=0.1)
        np.testing.assert_allclose(mine.std(0), NOISE, atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(prototypes(), axis=1), LENGTH)
    again = draw_context(50, 1)
    assert np.array_equal(images, again[0])
    assert np.array_equal(labels, again[1])
    assert not np.array_equal(labels, draw_context(50, 2)[1])


def test_the_context_data_have_three_splits_and_a_fingerprint():
    data = load_segmentation("context", train_size=20, test_size=10)
    assert data.info.sizes == {"train": 20, "val": 10, "test": 10}
    assert data.info.shape == (6, 24, 24)
    assert len(data.info.classes) == 8
    assert data.info.notes == (
        "20 of 3200 train pictures",
        "10 of 100 val pictures",
        "10 of 200 test pictures",
    )
    batch = data.splits["train"].batch([3, 0])
    assert (batch.images.dtype, batch.labels.dtype) == (torch.uint8, torch.int64)
    assert batch.sizes.tolist() == [[24, 24]] * 2
    assert (
        data.info.fingerprint
        == load_segmentation("context", train_size=20, test_size=10).info.fingerprint
    )
    assert (
        data.info.fingerprint
        != load_segmentation("context", train_size=21, test_size=10).info.fingerprint
    )
    x = normalize(data.splits["train"].batch(range(20)).images, data.info.mean, data.info.std)
    assert x.mean().abs() < 0.2
    assert x.std() == pytest.approx(1, abs=0.1)


def test_shapes_are_drawn_where_their_labels_say():
    images, labels = draw_shapes(30, 1)
    assert images.shape == (30, 3, 33, 33)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4, 5, IGNORE}
    assert 0.3 < (labels == 0).mean() < 0.9
    assert 0.02 < (labels == IGNORE).mean() < 0.2
    sides = (
        (labels[:, :, 1:] != labels[:, :, :-1])
        & (labels[:, :, 1:] != IGNORE)
        & (labels[:, :, :-1] != IGNORE)
    )
    assert sides.mean() < 0.001  # between two classes lie pixels that do not count
    data = load_segmentation("shapes", train_size=8, test_size=4)
    assert data.info.classes[1] == "disc"
    assert data.info.mean == IMAGENET[0]
    assert np.array_equal(images, draw_shapes(30, 1)[0])


# -- CamVid ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "CamVid.zip", "camvid-small.tar.gz"])
@pytest.mark.parametrize("top", ["", "CamVid/"])
def test_camvid_from_folder_and_archive(tmp_path, kind, top):
    files = camvid_files()
    if kind == "folder":
        write(tmp_path / "camvid" / top, files)
    else:
        pack(tmp_path / kind, files, top)
    data = load_segmentation("camvid", data_dir=tmp_path)
    assert data.info.sizes == {"train": 6, "val": 3, "test": 4}
    assert (data.info.name, data.info.title, data.info.shape) == (
        "camvid",
        "CamVid (16x12)",
        (3, 12, 16),
    )
    assert len(data.info.classes) == 11
    assert (data.info.mean, data.info.std) == IMAGENET
    batch = data.splits["val"].batch([1])
    assert np.array_equal(batch.images[0].permute(1, 2, 0), _pixels(files["val/007.png"]))
    expected = street(7)
    assert np.array_equal(batch.labels[0], np.where(expected == 11, IGNORE, expected))


def test_camvid_is_found_beside_a_folder_that_only_begins_so(tmp_path):
    write(tmp_path / "camvid-results", {"notes/a.txt": b"mine"})
    pack(tmp_path / "camvid.zip", camvid_files(), "")
    assert load_segmentation("camvid", data_dir=tmp_path).info.sizes["train"] == 6


def test_pictures_of_ones_own_are_not_called_camvid(tmp_path):
    write(tmp_path / "alleys", camvid_files())
    info = load_segmentation(str(tmp_path / "alleys")).info
    assert (info.name, info.title) == ("alleys", "alleys (16x12), labelled like CamVid")


def test_classes_of_ones_own_are_named_and_11_is_one_of_them(tmp_path):
    files = camvid_files()
    mine = [f"kind {i}" for i in range(12)]
    write(tmp_path / "alleys", files | {"classes.txt": "\n".join(mine).encode()})
    data = load_segmentation(str(tmp_path / "alleys"))
    assert data.info.title == "alleys (16x12)"
    assert data.info.classes == tuple(mine)
    labels = torch.cat([data.splits["train"].batch([i]).labels for i in range(6)])
    taken = load_segmentation(str(write(tmp_path / "plain", files)))
    as_camvid = torch.cat([taken.splits["train"].batch([i]).labels for i in range(6)])
    assert (labels == 11).any()
    assert torch.equal(labels == 11, as_camvid == 255)  # there no class
    assert any("taken for CamVid's: sky, building" in note for note in taken.info.notes)
    (tmp_path / "alleys" / "classes.txt").write_text("one\none\n")
    with pytest.raises(
        ValueError, match="classes.txt in .* has 2 names, 1 different ones; allowed"
    ):
        load_segmentation(str(tmp_path / "alleys"))


def _pixels(content):
    import io

    return np.asarray(Image.open(io.BytesIO(content)))


def test_camvid_resized_and_trained_on_val_too(tmp_path):
    write(tmp_path / "camvid", camvid_files())
    data = load_segmentation("camvid", data_dir=tmp_path, size=(6, 8), train="trainval")
    assert data.info.sizes == {"train": 9, "val": 3, "test": 4}
    assert data.info.notes == ("trained on the validation pictures as well",)
    assert data.info.shape == (3, 6, 8)
    # nearest makes no new label
    assert set(data.splits["train"].labels.unique().tolist()) <= {0, 3, IGNORE}
    other = load_segmentation("camvid", data_dir=tmp_path)
    assert other.info.fingerprint != data.info.fingerprint


def test_camvid_without_a_test_split_and_by_path(tmp_path):
    files = {
        name: content for name, content in camvid_files().items() if not name.startswith("test")
    }
    write(tmp_path / "street", files)
    assert list(load_segmentation(str(tmp_path / "street")).splits) == ["train", "val"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train/000.png": None}, "000 .* has no partner in train/"),
        ({"valannot/006.png": None}, "006 .* has no partner in valannot/"),
        (
            {"trainannot/001.png": encode(np.full((12, 16), 12, np.uint8))},
            "001.png .* has the label 12; allowed: 0 to 10",
        ),
        (
            {"trainannot/001.png": encode(pixels_of(12, 16, 3))},
            "pixel mode RGB; allowed: one class index per pixel",
        ),
        (
            {"trainannot/001.png": encode(np.zeros((12, 15), np.uint8))},
            "16x12 pixels large, its labels are 15x12",
        ),
        ({"trainannot/001.png": b"no picture"}, "001.png .* is corrupt or truncated"),
        (
            {
                "train/001.png": encode(pixels_of(10, 16, 3)),
                "trainannot/001.png": encode(np.zeros((10, 16), np.uint8)),
            },
            "several sizes.*data.size=",
        ),
        (
            {name: None for name in camvid_files() if not name.startswith("train")},
            "6 train, 0 val, 0 test pictures",
        ),
    ],
)
def test_camvid_that_cannot_be_used_is_refused_by_name(tmp_path, change, message):
    files = {
        name: content for name, content in (camvid_files() | change).items() if content is not None
    }
    write(tmp_path / "camvid", files)
    with pytest.raises(ValueError, match=message):
        load_segmentation("camvid", data_dir=tmp_path)


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path):
    pack(
        tmp_path / "camvid.zip",
        camvid_files() | {"../../escaped.txt": b"x", "/tmp/escaped.png": b"x"},
    )
    load_segmentation("camvid", data_dir=tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} <= {"camvid.zip", "cache", "results"}


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DatasetNotFound, match="camvid was not found. Tried: .*--data-dir"):
        load_segmentation("camvid")
    with pytest.raises(DatasetNotFound, match="voc2012 was not found. .*VOCSegmentation"):
        load_segmentation("voc2012", data_dir=tmp_path)
    with pytest.raises(
        DatasetNotFound, match="data.name is 'cityscapes'; allowed: context, shapes, camvid"
    ):
        load_segmentation("cityscapes")
    with pytest.raises(DatasetNotFound, match="no folder or archive"):
        load_segmentation(str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="data.train is 'trainaug'; allowed for context: train"):
        load_segmentation("context", train="trainaug")
    with pytest.raises(ValueError, match="data.size is .* drawn in one size"):
        load_segmentation("context", size=(12, 12))
    with pytest.raises(
        ValueError, match="data.test_size is 101, but there are only 100 val pictures"
    ):
        load_segmentation("context", test_size=101)


def test_real_camvid():
    try:
        data = load_segmentation("camvid", data_dir=REAL_DATA, size=(60, 80))
    except DatasetNotFound:
        pytest.skip("camvid is not in TERMINATOR_DATA")
    assert data.info.sizes == {"train": 367, "val": 101, "test": 233}
    counts = torch.bincount(data.splits["train"].labels.flatten().long(), minlength=256)
    assert sorted(counts[:11].topk(3).indices.tolist()) == [0, 1, 3]  # sky, building, road
    assert counts[11:IGNORE].sum() == 0


# -- PASCAL VOC ------------------------------------------------------------------------------------


def test_voc_through_torchvision(tmp_path):
    make_voc(tmp_path)
    data = load_segmentation("voc2012", data_dir=tmp_path, train="train")
    assert data.info.sizes == {"train": 3, "val": 2}
    assert data.info.shape == (3,)
    assert len(data.info.classes) == 21
    batch = data.splits["train"].batch([2, 0])
    assert batch.sizes.tolist() == [[22, 30], [20, 30]]
    assert batch.images.shape == (2, 3, 22, 30)
    assert np.array_equal(batch.labels[0], voc_labels(2))
    assert (batch.labels[1, 20:] == IGNORE).all()
    assert load_segmentation("voc2012", data_dir=tmp_path, train="trainval").info.sizes == {
        "train": 5,
        "val": 2,
    }
    part = load_segmentation(
        "voc2012", data_dir=tmp_path, train="train", train_size=2, size=(10, 14)
    )
    assert part.splits["train"].batch([0, 1]).images.shape == (2, 3, 10, 14)


def test_trainaug_is_voc_and_both_lists_of_sbd_without_voc_val(tmp_path):
    names = make_voc(tmp_path, sbd=2)
    data = load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")
    found = [file.image.stem for file in data.splits["train"].files]
    assert found == sorted([*names["train"], "2009_000000", "2009_000001"])
    assert names["val"][0] not in found
    batch = data.splits["train"].batch([0, 3])
    # VOC's own labels where it has some
    assert np.array_equal(batch.labels[0][:20, :30], voc_labels(0))
    assert (batch.labels[1][:24, :18] == 5).all()


def test_trainaug_as_it_is_often_handed_around(tmp_path):
    make_voc(tmp_path)
    with pytest.raises(DatasetNotFound, match="neither sbd/ .*; allowed: train, trainval"):
        load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")
    base = tmp_path / "VOCdevkit/VOC2012"
    write(
        base,
        {
            "ImageSets/Segmentation/trainaug.txt": b"2007_000000\n2007_000001",
            "SegmentationClassAug/2007_000000.png": encode(np.full((20, 30), 7, np.uint8)),
            "SegmentationClassAug/2007_000001.png": encode(np.full((21, 30), 21, np.uint8)),
        },
    )
    data = load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")
    assert (data.splits["train"].batch([0]).labels == 7).all()
    with pytest.raises(
        ValueError, match="2007_000001.png has the label 21; allowed: 0 to 20, and 255"
    ):
        data.splits["train"].batch([1])
    write(base, {"ImageSets/Segmentation/trainaug.txt": b"../../../secret"})
    with pytest.raises(DatasetCorrupt, match="lies outside"):
        load_segmentation("voc2012", data_dir=tmp_path, train="trainaug")


def test_a_damaged_voc_file_is_named(tmp_path):
    make_voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png").write_bytes(
        b"\x89PNG no more"
    )
    data = load_segmentation("voc2012", data_dir=tmp_path, train="train")
    with pytest.raises(DatasetCorrupt, match="2007_000001.png cannot be used"):
        data.splits["train"].batch([1])
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png").unlink()
    with pytest.raises(DatasetCorrupt, match="2007_000001.png cannot be read"):
        load_segmentation("voc2012", data_dir=tmp_path, train="train")


def test_stacks_check_what_they_are_given():
    with pytest.raises(TypeError, match="uint8"):
        StackedPictures(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(N, C, H, W\) with \(N, H, W\)"):
        StackedPictures(
            torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(1, 4, 5, dtype=torch.uint8)
        )


# -- scale, crop, flip -----------------------------------------------------------------------------

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def batch_of(*sizes):
    """Pictures of these sizes, laid at the top left of the largest."""
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    random = torch.Generator().manual_seed(3)
    images = torch.randint(
        0, 256, (len(sizes), 3, height, width), generator=random, dtype=torch.uint8
    )
    labels = torch.randint(0, 5, (len(sizes), height, width), generator=random)
    return PictureBatch(images, labels, torch.tensor(sizes))


def test_scale_crop_and_flip_are_torchs_own_resize_padding_and_slices():
    batch, augmentation = batch_of((20, 30), (24, 16)), ScaleCropFlip((0.5, 1.5), (21, 25))
    draws = draw_crops(augmentation, 2, torch.Generator().manual_seed(1))
    draws = draws._replace(
        scales=torch.tensor([1.5, 0.5], dtype=torch.float64), flips=torch.tensor([False, True])
    )
    images, labels = apply_crops(augmentation, batch, draws, MEAN, STD)
    assert images.shape == (2, 3, 21, 25)
    for i, (height, width) in enumerate(batch.sizes.tolist()):
        factor = draws.scales[i].item()
        size = (int(height * factor), int(width * factor))
        x = normalize(batch.images[i : i + 1, :, :height, :width], MEAN, STD)
        scaled = F.interpolate(x, size, mode="bilinear", align_corners=True)
        nearest = F.interpolate(
            batch.labels[i, None, None, :height, :width].double(), size, mode="nearest"
        )
        pad = (0, max(0, 25 - size[1]), 0, max(0, 21 - size[0]))
        scaled, nearest = F.pad(scaled, pad), F.pad(nearest, pad, value=IGNORE)
        top, left = (
            int(u * (n - c + 1))
            for u, n, c in zip(draws.corners[i].tolist(), scaled.shape[2:], (21, 25))
        )
        expected = scaled[0, :, top : top + 21, left : left + 25]
        expected_labels = nearest[0, 0, top : top + 21, left : left + 25].long()
        if draws.flips[i]:
            expected, expected_labels = expected.flip(2), expected_labels.flip(1)
        torch.testing.assert_close(images[i], expected, atol=2e-5, rtol=0)
        assert torch.equal(labels[i], expected_labels)


def test_without_augmentation_a_picture_stays_as_it_is():
    batch, augmentation = batch_of((9, 7), (9, 7)), ScaleCropFlip((1.0,), None, False)
    images, labels = apply_crops(
        augmentation, batch, draw_crops(augmentation, 2, torch.Generator()), MEAN, STD
    )
    assert torch.equal(images, normalize(batch.images, MEAN, STD))
    assert torch.equal(labels, batch.labels)
    with pytest.raises(ConfigError, match="pictures differ in size"):
        apply_crops(
            augmentation,
            batch_of((9, 7), (8, 7)),
            draw_crops(augmentation, 2, torch.Generator()),
            MEAN,
            STD,
        )


def test_draws_are_those_of_the_whole_batch_whoever_takes_a_part():
    batch, augmentation = batch_of(*[(20, 20)] * 6), ScaleCropFlip((0.75, 1.0, 2.0), (16, 16))
    draws = draw_crops(augmentation, 6, torch.Generator().manual_seed(5))
    whole = apply_crops(augmentation, batch, draws, MEAN, STD)
    part = apply_crops(augmentation, batch.part(slice(2, 5)), draws.part(slice(2, 5)), MEAN, STD)
    for a, b in zip(whole, part):
        assert torch.equal(a[2:5], b)
    many = draw_crops(augmentation, 400, torch.Generator().manual_seed(0))
    assert set(many.scales.tolist()) == {0.75, 1.0, 2.0}
    assert 0.4 < many.flips.double().mean() < 0.6
    assert not draw_crops(ScaleCropFlip(flip=False), 50, torch.Generator()).flips.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, "augmentation.scales"),
        ({"scales": (0.0,)}, "augmentation.scales"),
        ({"crop": (8,)}, "augmentation.crop"),
        ({"crop": (0, 8)}, "augmentation.crop"),
        ({"crop": None}, "without"),
    ],
)
def test_impossible_augmentations_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ScaleCropFlip(**settings)
