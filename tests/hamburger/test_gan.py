"""GAN experiments: shapes and widths, the Frechet distance, resuming to the same bits, records, and
bad input.
"""

import dataclasses
import subprocess
import sys

import pytest
import torch
from gpu_rehearsal import waits_of_a_step

from terminator.__main__ import main
from terminator.classification.baselines import SmallCNN
from terminator.classification.config import NetworkConfig
from terminator.config import ModelConfig
from terminator.data import load
from terminator.hamburger.gan import report
from terminator.hamburger.gan.config import GanConfig
from terminator.hamburger.gan.frechet import Judge, frechet_distance
from terminator.hamburger.gan.layers import AttentionContext, HamContext
from terminator.hamburger.gan.networks import Context, Discriminator, Generator, build
from terminator.hamburger.gan.presets import PRESETS, preset, study
from terminator.hamburger.gan.runs import GAN
from terminator.hamburger.gan.trainer import GRID_SEED, GanImages, GanTrainer, to_uint8
from terminator.runs import records
from terminator.runtime import checkpoint
from terminator.runtime.settings import ConfigError, from_dict, identity

CONTEXTS = ("none", "attention", "NMF", "VQ", "CD")


def tiny(**changes):
    values = {
        "data": {"image_size": 8, "train_size": 60, "test_size": 40},
        "model": {"width": 8, "context": "none", "latent": 6},
        "train": {"train_steps": 5, "steps_between_saves": 2, "batch_size": 6, "device": "cpu"},
        "test": {
            "samples": 30,
            "samples_per_epoch": 20,
            "repeats": 2,
            "classifier_epochs": 1,
            "grid_rows": 2,
            "grid_classes": 3,
        },
    }
    return from_dict(GanConfig, values).updated(**changes)


WITH_HAM = {
    "data": {"image_size": 16},
    "model": {"context": "NMF", "context_size": 8, "rank_divisor": 4},
}


@pytest.fixture(scope="module")
def images():
    return {
        size: load("digits", image_size=size, channels=1, train_size=60, test_size=40)
        for size in (8, 16)
    }


def judged(images, config):
    torch.manual_seed(0)  # an untrained judge will do
    size = config.data.image_size
    model = SmallCNN(
        ModelConfig(size=size, in_channels=1, classes=10), NetworkConfig(name="cnn")
    ).eval()
    found = images[size]
    return GanImages(found, Judge(model, found.info.mean, found.info.std, {"run_id": "none"}))


def trainer_of(config, images, folder=None):
    config = config.resolved(1, 10)
    return GanTrainer(build(config), config, judged(images, config), folder)


# -- networks --------------------------------------------------------------------------------------


def test_at_the_released_size_widths_and_ranks_are_the_released_ones():
    config = GanConfig().resolved(3, 1000)
    assert config.sizes == (8, 16, 32, 64, 128)
    generator, discriminator = Generator(config), Discriminator(config)
    assert [block.conv2.out_channels for block in generator.blocks] == [1024, 512, 256, 128, 64]
    assert generator.start.out_features == 1024 * 16
    assert [block.conv2.out_channels for block in discriminator.blocks] == [
        64,
        128,
        256,
        512,
        1024,
        1024,
    ]
    (in_generator,), (in_discriminator,) = (
        generator.contexts.values(),
        discriminator.contexts.values(),
    )
    assert (in_generator.context.ham.channels, in_generator.context.ham.settings.rank) == (256, 32)
    assert (in_discriminator.context.ham.channels, in_discriminator.context.ham.settings.rank) == (
        128,
        16,
    )
    assert in_generator.norm is not None
    assert in_discriminator.norm is None


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("size", [8, 16, 32])
def test_shapes_and_range(context, size):
    config = from_dict(
        GanConfig,
        {
            "data": {"image_size": size},
            "model": {"width": 8, "context": context if size > 8 else "none", "context_size": 8},
        },
    ).resolved(3, 4)
    gan, labels = build(config), torch.tensor([0, 3])
    image = gan.generator(torch.randn(2, 128), labels)
    assert image.shape == (2, 3, size, size)
    assert image.abs().max() <= 1
    assert gan.discriminator(image, labels).shape == (2,)


def test_a_context_starts_at_nothing_and_its_sigma_learns():
    config = tiny(**WITH_HAM).resolved(1, 10)
    context = Context(config, 8, classes=10)
    x, labels = torch.randn(3, 8, 8, 8), torch.tensor([1, 2, 3])
    assert torch.equal(context(x, labels), x)
    context(x, labels).square().sum().backward()
    assert context.sigma.grad.abs() > 0
    # while sigma is 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in context.context.parameters())


def test_the_bread_has_a_spectral_norm_of_one_and_the_gan_s_first_bases_any_length():
    torch.manual_seed(0)
    module = HamContext(8, "NMF", 2)
    for _ in range(30):
        module(torch.randn(2, 8, 4, 4))  # power iterations
    assert torch.linalg.matrix_norm(module.lower.weight[:, :, 0, 0], 2).item() == pytest.approx(
        1, abs=1e-3
    )
    assert not module.ham.settings.normalized_init
    assert HamContext(8, "CD", 2).ham.settings.ridge == 0.01


def test_attention_mixes_all_positions_with_softmax_weights():
    torch.manual_seed(0)
    module, x = AttentionContext(8).eval(), torch.randn(1, 8, 3, 3)
    query, key, value = (part(x).flatten(2)[0] for part in (module.query, module.key, module.value))
    expected = module.upper((value @ (query.T @ key).softmax(-1).T).reshape(1, 4, 3, 3))
    assert torch.allclose(module(x), expected, atol=1e-6)


# -- the distance ----------------------------------------------------------------------------------


def test_frechet_distance_of_known_normals():
    torch.manual_seed(0)
    x = torch.randn(4000, 3, dtype=torch.float64)
    x = (x - x.mean(0)) @ torch.linalg.inv(
        torch.linalg.cholesky(torch.cov((x - x.mean(0)).T))
    ).T  # exactly standard
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    shift, scale = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0])
    assert frechet_distance(x, x + shift) == pytest.approx(5)
    assert frechet_distance(x, x * scale) == pytest.approx(0 + 1 + 4)  # sum of (sd - sd')^2
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    assert frechet_distance(x @ turn, (x * scale + shift) @ turn) == pytest.approx(10)
    with pytest.raises(ValueError, match=r"the features are \(1, 3\) and \(4000, 3\); allowed"):
        frechet_distance(x[:1], x)


def test_pixels_of_both_ends():
    assert to_uint8(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]


# -- training --------------------------------------------------------------------------------------


def test_each_update_moves_its_own_network_only(images):
    trainer = trainer_of(tiny(**WITH_HAM), images)
    trainer.optimizer = trainer._make_optimizer()
    generator = torch.Generator().manual_seed(0)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    loss, _ = trainer._discriminator_loss(generator)
    trainer._update(loss)
    moved = {
        name.split(".")[0]
        for name, p in trainer.model.named_parameters()
        if not torch.equal(p, before[name])
    }
    assert moved == {"discriminator"}
    before = {name: p.clone() for name, p in trainer.model.discriminator.named_parameters()}
    trainer._step(0, generator)
    assert not all(
        torch.equal(p, before[name]) for name, p in trainer.model.discriminator.named_parameters()
    )
    assert all(p.requires_grad for p in trainer.model.parameters())


@pytest.mark.parametrize("changes", [{}, WITH_HAM], ids=["without", "NMF"])
def test_going_on_gives_the_same_bits(images, tmp_path, monkeypatch, changes):
    config = tiny(**changes)
    whole = trainer_of(config, images)
    rows = whole.fit()

    class Killed(Exception):
        pass

    first = trainer_of(config, images, tmp_path)
    steps = []
    step = first._step

    def dying(batch, generator):
        steps.append(batch)
        if len(steps) == 4:
            raise Killed
        return step(batch, generator)

    monkeypatch.setattr(first, "_step", dying)
    with pytest.raises(Killed):
        first.fit()
    torch.manual_seed(99)
    second = trainer_of(config, images, tmp_path)
    again = second.fit()
    a, b = whole.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    for one, other in zip(rows, again, strict=True):
        assert {k: v for k, v in one.items() if k not in ("seconds", "images_per_s")} == {
            k: v for k, v in other.items() if k not in ("seconds", "images_per_s")
        }
    assert [one["epoch"] for one in second.observed] == [0, 1, 2, 3]
    assert all(
        torch.equal(one["fields"]["samples"], other["fields"]["samples"])
        for one, other in zip(whole.observed, second.observed, strict=True)
    )


def test_the_discriminator_has_a_rate_of_its_own(images):
    trainer = trainer_of(
        tiny(optimizer={"generator_rate": 2e-4, "discriminator_rate": 5e-4}), images
    )
    trainer.fit()
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([2e-4, 5e-4])


def test_a_checkpoint_of_other_settings_is_refused(images, tmp_path):
    trainer_of(tiny(), images, tmp_path).fit()
    with pytest.raises(checkpoint.CheckpointError, match="optimizer.beta1"):
        trainer_of(tiny(optimizer={"beta1": 0.5}), images, tmp_path).fit()


@pytest.mark.slow
def test_it_comes_nearer_to_the_images(images):
    config = tiny(
        train={"train_steps": 150, "steps_between_saves": 150, "batch_size": 16},
        optimizer={"generator_rate": 1e-3, "discriminator_rate": 2e-3},
    )
    trainer, real = trainer_of(config, images), images[8].train_images.flatten(1) / 255

    def distance():
        samples = to_uint8(trainer.model.samples(torch.arange(200) % 10, seed=5)).flatten(1) / 255
        return frechet_distance(samples, real)  # of pixels

    before = distance()
    trainer.fit()
    assert distance() < before / 2


def test_sampling_repeats_itself_and_draws_from_no_shared_generator(images):
    trainer = trainer_of(tiny(**WITH_HAM), images)
    state = torch.get_rng_state()
    first, second = (trainer.model.samples(torch.arange(7), seed=3, batch=4) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.training


def test_half_precision_takes_a_step(images):
    config = tiny(**WITH_HAM).updated("train.precision=bf16", "train.train_steps=1")
    assert all(torch.tensor(row["loss"]).isfinite() for row in trainer_of(config, images).fit())


# -- runs ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, made by the command line in a results folder of its own."""
    folder = tmp_path_factory.mktemp("gan")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERMINATOR_RESULTS", str(folder))
        patch.setenv("TERMINATOR_HEADLESS", "1")
        words = [
            "preset=digits",
            "train.train_steps=3",
            "train.steps_between_saves=2",
            "train.batch_size=4",
            "data.image_size=16",
            "data.train_size=64",
            "model.context_size=8",
            "train.device=cpu",
            "test.samples=20",
            "test.samples_per_epoch=10",
        ]
        assert main(["gan", *words, "--experiment", "gan", "--profile", "laptop"]) == 0
        yield folder, words


@pytest.fixture
def there(finished, monkeypatch):
    monkeypatch.setenv("TERMINATOR_RESULTS", str(finished[0]))
    monkeypatch.setenv("TERMINATOR_HEADLESS", "1")
    return finished[1]


def test_a_record_names_its_classifier_and_is_read_again(there, capsys):
    (record,) = [r for r in records.load_records("gan") if r["task"] == "gan"]
    (judge,) = records.load_records("classifiers")
    assert record["classifier"]["run_id"] == judge["run_id"]
    assert record["results"]["test"]["frechet"] > record["results"]["train_images"]["frechet"] >= 0
    assert {"sigma_generator", "frechet", "right_class"} <= record["epochs"][0].keys()
    assert main(["gan", *there, "--experiment", "gan", "--profile", "laptop"]) == 0
    printed = capsys.readouterr().out
    assert "epoch" not in printed
    assert judge["run_id"] in printed
    run = GAN.of_record(record)
    assert {epoch: tuple(grid.shape) for epoch, grid in run.grids().items()} == dict.fromkeys(
        (0, 1, 2), (16, 1, 16, 16)
    )
    table = report.table({"NMF": [run]})
    assert (
        table.loc["with Hamburger (NMF)", "Frechet distance"]
        == record["results"]["test"]["frechet"]
    )
    curves = report.sigma_curves({"NMF": [run]})
    assert list(curves) == ["Hamburger (NMF), generator", "Hamburger (NMF), discriminator"]
    for (curve,), last in zip(curves.values(), record["sigmas"].values(), strict=True):
        assert curve["value"].iloc[0] == 0
        assert curve["value"].iloc[-1] == pytest.approx(abs(last), rel=1e-4)
    assert GAN.rebuild_index().is_file()


@pytest.mark.slow
def test_a_sketch_has_the_form_of_the_networks_and_needs_no_compiler():
    """Spectral norms of a sketch, too: torch would import its compiler to find no values."""
    code = """
import sys
from terminator.hamburger.gan import networks
from terminator.hamburger.gan.config import GanConfig
from terminator.runtime.weights import sketch

def form(model):
    return {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}

config = GanConfig().updated("data.image_size=16", "model.width=8", "model.context_size=8").resolved(1, 10)
drawn = sketch(lambda: networks.build(config))
assert all(value.is_meta for value in drawn.state_dict().values())
assert form(drawn) == form(networks.build(config))
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_model_file_gives_the_same_samples(there):
    (record,) = [r for r in records.load_records("gan") if r["task"] == "gan"]
    run = GAN.of_record(record)
    classes = torch.arange(8).repeat(2)
    assert torch.equal(to_uint8(run.model().samples(classes, GRID_SEED)), run.grids()[2])


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_a_study_changes_the_context_and_nothing_else(profile):
    found = study(profile)
    assert {"none", "NMF"} <= found.keys()
    for name, config in found.items():
        assert config == found["NMF"].updated(model={"context": name})
        build(
            dataclasses.replace(
                config.resolved(config.data.channels or 3, 10),
                model=dataclasses.replace(config.model, width=8, classes=10),
            )
        )


def test_every_preset_is_possible_and_differs_from_the_defaults():
    assert all(identity(preset(name)) for name in PRESETS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"image_size": 24}}, "data.image_size is 24; allowed: 8, 16, 32"),
        (
            {"model": {"context": "SVD"}},
            "model.context is 'SVD'; allowed: none, attention, NMF, VQ, CD",
        ),
        (
            {"model": {"context": "NMF", "context_size": 16}, "data": {"image_size": 16}},
            "model.context_size is 16; allowed: 8 for data.image_size=16",
        ),
        ({"model": {"width": 12}}, "model.width is 12; allowed: a multiple of 8"),
        (
            {"model": {"rank_divisor": 3}},
            "model.rank_divisor is 3; allowed: a divisor of model.width=8",
        ),
        ({"optimizer": {"beta1": 1.0}}, "optimizer.beta1 is 1.0; allowed"),
        ({"train": {"distributed": True}}, "train.distributed is True; allowed: false"),
        ({"train": {"accumulate": 2}}, "train.accumulate is 2; allowed: 1"),
        ({"train": {"batch_sise": 2}}, "did you mean train.batch_size"),
        ({"test": {"samples": 1}}, "test.samples is 1; allowed: an integer of at least 2"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny().updated(**changes)


def test_bad_presets_and_unresolved_settings_are_named(images):
    with pytest.raises(ConfigError, match="preset is 'imagenet'; allowed: digits"):
        preset("imagenet")
    with pytest.raises(ConfigError, match="profile is 'phone'; allowed: smoke"):
        study("phone")
    with pytest.raises(ConfigError, match="data.channels is None, model.classes None"):
        build(tiny())
    with pytest.raises(ConfigError, match="model.classes is 7; allowed: 10, that of the data"):
        tiny(model={"classes": 7}).resolved(1, 10)
    with pytest.raises(ValueError, match="data.judge is None; allowed: a judge"):
        GanTrainer(build(tiny().resolved(1, 10)), tiny().resolved(1, 10), GanImages(images[8]))


@pytest.mark.parametrize("context", CONTEXTS)
def test_no_step_waits_for_a_gpu(images, monkeypatch, context):
    config = tiny(**(WITH_HAM | {"model": {**WITH_HAM["model"], "context": context}}))
    # which measures, and reads
    monkeypatch.setattr(Judge, "look", lambda self, images: (images, images))
    assert not waits_of_a_step(monkeypatch, lambda: trainer_of(config, images))


@pytest.mark.parametrize("change", ["model.steps=3", "model.one_step=False"])
def test_settings_of_a_hamburger_that_is_not_there_are_refused(change):
    config = preset(next(iter(PRESETS))).updated("model.context=none", change)
    with pytest.raises(ConfigError, match=r"allowed: the default, for model.context=none"):
        GAN.read_data(config)
