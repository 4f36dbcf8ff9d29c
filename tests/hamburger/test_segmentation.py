"""Segmentation: measures with known values, the released recipe, training that goes on to the bit,
evaluation.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from data_files import write
from gpu_rehearsal import waits_of_a_step
from segmentation_files import camvid_files, make_voc
from sklearn.metrics import confusion_matrix as their_matrix
from sklearn.metrics import jaccard_score
from torch import nn

from terminator.data.pictures.batches import IGNORE
from terminator.data.pictures.segmentation import load_segmentation
from terminator.hamburger import Ham, HamburgerSettings
from terminator.hamburger.segmentation.config import PolyOptimizer, SegmentationConfig
from terminator.hamburger.segmentation.evaluation import (
    batches,
    draws_bases,
    fixed_bases,
    logits_of,
    pad_to_fit,
)
from terminator.hamburger.segmentation.presets import PRESETS, preset
from terminator.hamburger.segmentation.runs import SEGMENTATION
from terminator.hamburger.segmentation.tasks import (
    Segmentation,
    build_network,
    confusion_matrix,
    parameter_groups,
    scores,
)
from terminator.hamburger.segmentation.trainer import SegmentationTrainer
from terminator.runtime.settings import ConfigError
from terminator.trainer import TrainingDiverged

TIMES = ("seconds", "images_per_s")


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("street")
    write(folder / "camvid", camvid_files((8, 3, 4), (16, 24)))
    return folder


@pytest.fixture
def make():
    """make("train.seed=1", ham={...}) gives a tiny configuration on CamVid."""

    def configuration(*dotlist, **changes):
        start = SegmentationConfig().updated(
            data={"name": "camvid", "train": "train"},
            augmentation={"scales": [0.75, 1.0, 1.5], "crop": [17, 17]},
            model={
                "backbone": "resnet18",
                "stem": "plain",
                "squeeze": 16,
                "align": 8,
                "bn_momentum": 0.1,
            },
            ham={"width": 16, "rank": 2},
            optimizer={"lr": 0.02, "refresh": 2},
            train={
                "train_steps": 5,
                "steps_between_saves": 2,
                "batch_size": 4,
                "device": "cpu",
                "seed": 0,
            },
            test={"batch_size": 2},
        )
        return start.updated(*dotlist, **changes)

    return configuration


@pytest.fixture
def data(camvid):
    return load_segmentation("camvid", data_dir=camvid)


def trainer_of(config, data, folder=None, kind=SegmentationTrainer):
    config = SEGMENTATION.resolve(config, data)
    return kind(SEGMENTATION.start(config, data), config, data, folder)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


# -- measures --------------------------------------------------------------------------------------


def test_intersection_over_union_by_hand():
    labels = torch.tensor([[0, 0, 1, 1], [1, 2, IGNORE, IGNORE]])
    predicted = torch.tensor([[0, 1, 1, 1], [2, 2, 0, 3]])
    confusion = confusion_matrix(predicted, labels, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    found = scores(confusion)
    assert found["iou"] == pytest.approx([50, 50, 50, None])
    assert found["miou"] == pytest.approx(50)  # class 3 is nowhere: it is left out
    assert found["accuracy"] == pytest.approx(100 * 4 / 6)
    # predicted only: it counts, as 0
    seen = confusion_matrix(torch.where(labels == 0, 3, predicted), labels, 4)
    assert scores(seen)["iou"][3] == 0
    empty = scores(torch.zeros(3, 3, dtype=torch.int64))
    assert empty == {"miou": 0.0, "accuracy": 0.0, "iou": [None] * 3}


def test_intersection_over_union_is_scikit_learns():
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (3, 40, 30), generator=random)
    predicted = torch.where(
        torch.rand(labels.shape, generator=random) < 0.6, labels, (labels + 1) % 5
    )
    confusion = confusion_matrix(predicted, labels, 5)
    assert confusion.tolist() == their_matrix(labels.flatten(), predicted.flatten()).tolist()
    assert scores(confusion)["miou"] == pytest.approx(
        100 * jaccard_score(labels.flatten(), predicted.flatten(), average="macro")
    )
    assert scores(confusion)["accuracy"] == pytest.approx(
        100 * (labels == predicted).double().mean().item()
    )


# -- the released recipe ---------------------------------------------------------------------------


def test_the_poly_schedule_is_taken_anew_every_tenth_step():
    use = PolyOptimizer()
    assert use.rate(0, 60_000) == use.rate(9, 60_000) == 9e-3
    assert use.rate(10, 60_000) == pytest.approx(9e-3 * (1 - 10 / 60_000) ** 0.9)
    assert use.rate(30_004, 60_000) == pytest.approx(9e-3 * 0.5**0.9)
    assert use.rate(59_999, 60_000) == pytest.approx(9e-3 * (10 / 60_000) ** 0.9)


def test_parameter_groups_of_the_release():
    config = SegmentationConfig().updated(
        model={"backbone": "resnet18"}, ham={"version": "V2+", "width": 512}
    )
    net = build_network(config)
    groups = {group["name"]: group for group in parameter_groups(net, 1e-4, 2.0)}
    assert {
        name: (group["weight_decay"], group["lr_factor"]) for name, group in groups.items()
    } == {"weights": (1e-4, 1.0), "scales": (0.0, 1.0), "biases": (0.0, 2.0)}
    members = {name: {id(p) for p in group["params"]} for name, group in groups.items()}
    assert sum(map(len, members.values())) == len(list(net.parameters()))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            assert id(module.weight) in members["weights"]
            assert module.bias is None or id(module.bias) in members["biases"]
        if isinstance(module, nn.BatchNorm2d):
            assert id(module.weight) in members["scales"]
            assert id(module.bias) in members["biases"]
    assert {id(net.context.ham_scale), id(net.context.shortcut_scale)} <= members["scales"]


def test_a_step_moves_each_group_by_its_own_rate_and_decay(make, data):
    config = make(
        optimizer={"momentum": 0.0, "weight_decay": 0.1, "bias_factor": 3.0, "refresh": 1},
        train={"train_steps": 1, "steps_between_saves": 1},
        model={"dropout": 0.0, "context": "none"},
    )
    trainer = trainer_of(config, data)
    before = weights(trainer.model)
    ((batch, generator),) = trainer._batches(0)
    ((x, labels),) = trainer._parts(batch, generator)
    trainer.model.train()
    terms, _ = trainer.task.loss_terms(trainer.model, x, labels)
    gradients = torch.autograd.grad(terms["cross_entropy"], list(trainer.model.parameters()))
    trainer.model.load_state_dict(before)
    trainer.fit()
    after = trainer.model.state_dict()
    for (name, parameter), gradient in zip(
        trainer.model.named_parameters(), gradients, strict=True
    ):
        rate, decay = (
            (0.06, 0.0) if name.endswith("bias") else (0.02, 0.1 if parameter.ndim > 1 else 0.0)
        )
        expected = before[name] - rate * (gradient + decay * before[name])
        torch.testing.assert_close(after[name], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("mean", ["all", "labelled"])
def test_ignored_pixels_give_no_loss_and_no_gradient(make, mean):
    config = make(train={"loss_mean": mean})
    logits = torch.randn(2, 11, 4, 5, requires_grad=True)
    labels = torch.randint(0, 11, (2, 4, 5))
    labels[0, :2] = IGNORE
    loss = Segmentation(nn.Identity(), config).cross_entropy(logits, labels)
    loss.backward()
    assert (logits.grad[0, :, :2] == 0).all()
    assert (logits.grad[0, :, 2:] != 0).all()
    parts = F.cross_entropy(logits, labels.where(labels != IGNORE, 0), reduction="none")[
        labels != IGNORE
    ]
    assert loss.item() == pytest.approx(
        parts.sum().item() / (40 if mean == "all" else 30), rel=1e-5
    )
    nothing = Segmentation(nn.Identity(), config).cross_entropy(
        logits, torch.full_like(labels, IGNORE)
    )
    assert nothing.item() == 0


def test_the_auxiliary_loss_is_weighed_and_trained(make, data):
    trainer = trainer_of(make(model={"auxiliary": True}), data)
    x, labels = torch.randn(2, 3, 17, 17), torch.randint(0, 11, (2, 17, 17))
    terms, _ = trainer.task.loss_terms(trainer.model, x, labels)
    assert terms.keys() == {"cross_entropy", "auxiliary"}
    trainer.model.eval()
    with fixed_bases(trainer.model, 0):
        terms, _ = trainer.task.loss_terms(trainer.model, x, labels)
        second = trainer.model(x, auxiliary=True)[1]
    assert terms["auxiliary"].item() == pytest.approx(
        0.4 * F.cross_entropy(second, labels).item(), rel=1e-5
    )
    assert "auxiliary" in trainer.fit()[0]


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_where_the_road_is(make, data):
    trainer = trainer_of(
        make(
            train={"train_steps": 30, "steps_between_saves": 30},
            model={"dropout": 0.0},
            augmentation={"scales": [1.0]},
        ),
        data,
    )
    before = trainer.evaluate("test")["miou"]
    (row,) = trainer.fit()
    after = trainer.evaluate("test")
    assert after["accuracy"] > 85  # half of it is road
    assert after["miou"] > before
    assert after["pictures"] == 4
    assert row["train_accuracy"] > 70


def test_rows_and_the_shorter_last_epoch(make, data):
    rows = trainer_of(make(), data).fit()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row.keys() == {
            "epoch",
            "lr",
            "cross_entropy",
            "loss",
            "train_accuracy",
            "val_miou",
            "val_accuracy",
            *TIMES,
        }
        assert 0 <= row["train_accuracy"] <= 100
    assert [row["lr"] for row in rows] == pytest.approx([0.02, 0.02 * 0.6**0.9, 0.02 * 0.2**0.9])


def test_training_accuracy_counts_labelled_pixels_only(make, data):
    class Right(SegmentationTrainer):
        def _prepare(self):
            super()._prepare()
            real = self.task.loss_terms

            def loss_terms(network, x, labels):
                terms, logits = real(network, x, labels)
                truth = (
                    F.one_hot(labels.where(labels != IGNORE, 0), logits.shape[1])
                    .movedim(3, 1)
                    .float()
                )
                return terms, truth + 0 * logits

            self.task.loss_terms = loss_terms

    assert [
        row["train_accuracy"] for row in trainer_of(make(), data, kind=Right).fit()
    ] == pytest.approx([100] * 3)


class Interrupted(SegmentationTrainer):
    """Stops in the middle of the second epoch."""

    def _step(self, batch, generator):
        self.done = getattr(self, "done", 0) + 1
        if self.done == 4:
            raise KeyboardInterrupt
        return super()._step(batch, generator)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param(
            {"ham": {"kind": "CD", "random_init": False}, "train": {"accumulate": 2}},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["random bases, dropout", "shared bases, accumulated"],
)
def test_a_stopped_training_goes_on_to_the_bit(make, data, tmp_path, changes):
    config = make(**changes)
    whole = trainer_of(config, data)
    rows = whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(config, data, tmp_path, Interrupted).fit()
    torch.manual_seed(999)
    resumed = trainer_of(config, data, tmp_path)
    assert timeless(resumed.fit()) == timeless(rows)
    assert equal(weights(resumed.model), weights(whole.model))
    other = trainer_of(config.updated("train.seed=1"), data)
    other.fit()
    assert not equal(weights(other.model), weights(whole.model))


def test_every_pass_shows_every_picture_once_in_another_order(make, data):
    trainer = trainer_of(make(train={"train_steps": 8, "steps_between_saves": 3}), data)
    seen = [batch.tolist() for epoch in range(3) for batch, _ in trainer._batches(epoch)]
    assert len(seen) == 8
    passes = [seen[i] + seen[i + 1] for i in range(0, 8, 2)]  # two batches of 4 are all 8 pictures
    assert all(sorted(one) == list(range(8)) for one in passes)
    assert len(set(map(tuple, passes))) > 1


def test_shared_bases_move_in_training_and_stay_in_evaluation(make, data):
    trainer = trainer_of(make(ham={"kind": "CD", "random_init": False}), data)
    ham = trainer.model.context.ham
    start = ham.bases.clone()
    trainer.evaluate("val")
    assert torch.equal(ham.bases, start)
    trainer.fit()
    moved = ham.bases.clone()
    assert not torch.equal(moved, start)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones_like(moved[:, 0]))
    trainer.evaluate("val")
    assert torch.equal(ham.bases, moved)


def test_what_goes_wrong_is_said(make, data):
    with pytest.raises(
        ConfigError, match="train.batch_size is 16, but there are only 8 training pictures"
    ):
        trainer_of(make("train.batch_size=16"), data).fit()
    with pytest.raises(TrainingDiverged, match="Try a lower optimizer.lr"):
        trainer_of(make("optimizer.lr=1e30"), data).fit()
    with pytest.raises(ConfigError, match="split is 'dev'; allowed: train, val, test"):
        trainer_of(make(), data).evaluate("dev")


# -- evaluation ------------------------------------------------------------------------------------


def test_pictures_are_padded_to_one_more_than_a_multiple():
    x = torch.ones(1, 3, 16, 17)
    padded = pad_to_fit(x, 8)
    assert padded.shape == (1, 3, 17, 17)
    assert padded.sum() == x.sum()
    assert torch.equal(padded[..., :16, :17], x)
    assert pad_to_fit(torch.ones(1, 3, 24, 24), 1).shape == (1, 3, 24, 24)
    assert pad_to_fit(torch.ones(1, 3, 9, 20), 8, least=20).shape == (1, 3, 25, 25)
    assert pad_to_fit(torch.ones(1, 3, 500, 375), 8).shape == (1, 3, 505, 377)


def test_one_scale_without_flip_is_the_plain_evaluation(make, data):
    trainer = trainer_of(make(test={"scales": [1.0], "flip": False}), data)
    assert trainer.evaluate("test", multi_scale=True) == trainer.evaluate("test")


def test_several_scales_and_mirrors_sum_their_logits():
    class Pixelwise(nn.Module):
        def forward(self, x):
            # knows left from right
            return torch.cat([x, 2 * x[:, :1] + torch.arange(x.shape[3])], 1)

    x, net = torch.randn(1, 2, 9, 11), Pixelwise()
    plain, mirrored = net(x), net(x.flip(3)).flip(3)
    torch.testing.assert_close(logits_of(net, x, 1), plain)
    torch.testing.assert_close(logits_of(net, x, 1, (1.0,), True), plain + mirrored)
    small = F.interpolate(x, (4, 5), mode="bilinear", align_corners=True)
    back = F.interpolate(net(small), (9, 11), mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits_of(net, x, 1, (1.0, 0.5)), plain + back)


def test_a_picture_smaller_than_the_rank_allows_is_padded(make, data):
    # 4x4 positions: 25 pixels a side
    trainer = trainer_of(make("ham.rank=16", "augmentation.crop=[33,33]"), data)
    with pytest.raises(ValueError, match="rank R of bases is 16; allowed: 1 to 12"):
        trainer.model(torch.randn(1, 3, 17, 25))
    assert trainer.evaluate("test", multi_scale=True)["pictures"] == 4


def test_evaluation_repeats_itself_and_reports_the_spread_of_random_bases(make, data):
    trainer = trainer_of(make(test={"repeats": 4}), data)
    trainer.fit()
    first, again = trainer.evaluate("test"), trainer.evaluate("test")
    assert first == again
    assert len(first["repeated"]) == 4
    assert first["repeated"][0] == first["miou"]
    x = torch.randn(2, 3, 17, 25)
    with fixed_bases(trainer.model, 1):
        one = trainer.model(x)
    with fixed_bases(trainer.model, 2):
        two = trainer.model(x)
    assert not torch.equal(one, two)
    with fixed_bases(trainer.model, 1):
        assert torch.equal(trainer.model(x), one)
    none = trainer_of(make(model={"context": "none"}, test={"repeats": 4}), data)
    assert "repeated" not in none.evaluate("test")
    assert not draws_bases(none.model)


def test_the_number_of_ham_steps_in_evaluation_can_be_changed_for_a_while(make, data):
    trainer = trainer_of(make(), data)
    ham = next(module for module in trainer.model.modules() if isinstance(module, Ham))
    with fixed_bases(trainer.model, 0, steps=2):
        assert ham.eval_steps == 2
    assert ham.eval_steps == 6
    assert trainer.evaluate("val", steps=6) == trainer.evaluate("val")


def test_pictures_of_several_sizes_are_trained_on_and_evaluated_one_by_one(make, tmp_path):
    make_voc(tmp_path, train=4, val=3)
    data = load_segmentation("voc2012", data_dir=tmp_path, train="train")
    trainer = trainer_of(make(data={"name": "voc2012"}, test={"batch_size": 3}), data)
    rows = trainer.fit()
    assert math.isfinite(rows[-1]["loss"])
    shapes = [batch.images.shape for _, batch in batches(data.splits["val"], 3)]
    assert shapes == [(1, 3, 24, 30), (1, 3, 25, 30), (1, 3, 26, 30)]
    assert trainer.evaluate("val")["pictures"] == 3
    single = trainer_of(make(data={"name": "voc2012"}, test={"batch_size": 1}), data)
    single.model.load_state_dict(trainer.model.state_dict())
    assert single.evaluate("val") == trainer.evaluate("val")
    with pytest.raises(
        ConfigError, match="augmentation.crop is nothing, but pictures of PASCAL VOC 2012 differ"
    ):
        trainer_of(
            make(data={"name": "voc2012"}, augmentation={"crop": None, "scales": [1.0]}), data
        )


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_built(name):
    config = preset(name)
    with torch.device("meta"):
        build_network(config)


def test_the_defaults_are_the_releases():
    config = preset("voc")
    assert config == SegmentationConfig()
    assert (
        config.data.train,
        config.augmentation.crop,
        config.train.train_steps,
        config.train.batch_size,
        config.train.seed,
    ) == ("trainaug", (513, 513), 60_000, 16, 66)
    assert config.ham == HamburgerSettings()
    second = preset("voc-second")
    assert (second.data.train, second.optimizer.lr, second.train.train_steps) == (
        "trainval",
        9e-4,
        20_000,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["data.train=trainaug", "data.name=camvid"],
            "data.train is 'trainaug'; allowed: train, trainval",
        ),
        (["data.size=[10]"], "data.size"),
        (["data.train_size=1"], "data.train_size"),
        (["optimizer.lr=0"], "optimizer.lr"),
        (["optimizer.momentum=1.0"], "optimizer.momentum"),
        (["optimizer.refresh=0"], "optimizer.refresh"),
        (["train.batch_size=1"], "train.batch_size"),
        (["train.accumulate=3"], "train.accumulate"),
        (["train.loss_mean=none"], "train.loss_mean is 'none'; allowed: all, labelled"),
        (["train.precision=half"], "train.precision"),
        (["test.scales=[]"], "test.scales"),
        (["ham.dimensions=1"], "ham.d"),
        (["test.pictures_per_epoch=0"], "test.pictures_per_epoch"),
        (["ham.rnk=1"], "did you mean ham.rank"),
        (["model.context=bread", "ham.mode=dual", "ham.version=V2+"], "model.context"),
        (["data.name="], "data.name"),
    ],
)
def test_impossible_settings_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        SegmentationConfig().updated(*words)


def test_settings_that_the_data_contradict_are_refused(make, data):
    with pytest.raises(ConfigError, match="model.classes is 5; allowed: 11, that of the data"):
        SEGMENTATION.resolve(make("model.classes=5"), data)
    with pytest.raises(ConfigError, match="preset is .coco.; allowed: context, shapes"):
        preset("coco")


@pytest.mark.parametrize("kind", ["NMF", "VQ", "CD"])
def test_no_step_waits_for_a_gpu(make, data, monkeypatch, kind):
    assert not waits_of_a_step(monkeypatch, lambda: trainer_of(make(ham={"kind": kind}), data))
