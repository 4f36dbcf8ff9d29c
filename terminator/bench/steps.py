"""The work that the suite measures: training steps, passes and answers of every system, data
pipelines, starts.

This file is handed over to a process of its own (measure.in_process), where it also runs on other
revisions of the kit. So it loads what a row needs by its name.
"""

import importlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from terminator.bench.network import build, inference_step, make_step


class Work(NamedTuple):
    """One call to measure, and what it gets done."""

    step: Callable[[], object]
    amount: int
    unit: str  # images, episodes, tokens, matrices, starts


def part(home: str) -> Any:
    """A public name of the kit, "module:name", wherever that revision keeps the module.

    Raises:
        ImportError: without that module.
        AttributeError: without that name in it.
    """
    module, _, name = home.partition(":")
    try:
        found = importlib.import_module(f"terminator.{module}")
    except ModuleNotFoundError as error:
        try:  # the related systems had no rooms of their own
            found = importlib.import_module(f"terminator.related.{module}")
        except ModuleNotFoundError:
            raise error from None
    return getattr(found, name)


def passes(module: nn.Module, x: Tensor, training: bool, unit: str, **options: Any) -> Work:
    """A forward and backward pass to input and weights; or an answer."""
    cotangent = torch.randn_like(x)
    x.requires_grad_(training)
    module.train(training)

    def step() -> None:
        with torch.set_grad_enabled(training):
            y = module(x, **options)
            y = y[0] if isinstance(y, tuple) else y
            if training:
                module.zero_grad(set_to_none=True)
                x.grad = None
                y.backward(cotangent)

    return Work(step, x.shape[0] * (x.shape[1] if unit == "tokens" else 1), unit)


# -- systems ---------------------------------------------------------------------------------------


def terminator(what: str, size: int, batch: int, precision: str = "float32") -> Work:
    """The released network: see network.make_step."""
    return Work(make_step(what, size, batch, precision), batch, "images")


def uncalibrated(size: int) -> Work:
    """The released network's answer to one image with the statistics of that image."""
    model, x, _ = build(size, 1, 2, "cpu")
    return Work(inference_step(model.eval(), x, "float32"), 1, "images")


def epoch(size: int, images: int, batch: int = 64) -> Work:
    """A whole small training: one epoch by the kit's own loop, with its test."""
    preset, trainer = part("classification.presets:preset"), part("classification.trainer:Trainer")
    config = preset(
        "digits",
        scheduler={"warmup_epochs": 0.25},
        train={"epochs": 1, "batch_size": batch, "device": "cpu"},
    )
    torch.manual_seed(0)
    model = part("model:Terminator")(size=size)
    shape, classes = (3, size, size), tuple("0123456789")
    pixels = torch.randint(0, 256, (images, *shape), dtype=torch.uint8)
    labels = torch.arange(images) % 10
    sizes = {"train_size": images, "test_size": batch}
    look = {"mean": (0.5,) * 3, "std": (0.3,) * 3}
    info = part("data.images:DatasetInfo")(
        "noise", "noise", shape, classes, fingerprint="noise", **look, **sizes
    )
    splits = (pixels, labels, pixels[:batch], labels[:batch])
    data = part("data.images:ImageData")(*splits, info)
    return Work(trainer(model, config, data).fit, images, "images")


def ham(kind: str, batch: int, channels: int, side: int, rank: int, training: bool = True) -> Work:
    """A ham by itself; 6 steps, random first bases."""
    torch.manual_seed(0)
    steps = {"train_steps": 6, "eval_steps": 6}
    made = part("hamburger.ham:Ham")(channels, kind=kind, rank=rank, **steps)
    return passes(made, torch.rand(batch, channels, side, side), training, "images")


def hamburger(kind: str, batch: int, channels: int, side: int, rank: int) -> Work:
    """A Hamburger block (V2) as wide as its input."""
    torch.manual_seed(0)
    made = part("hamburger.block:Hamburger")(channels, kind=kind, rank=rank, width=channels)
    return passes(made, torch.randn(batch, channels, side, side), True, "images")


def attention(batch: int, length: int, width: int, heads: int, training: bool = True) -> Work:
    """Hrrformer's attention by itself."""
    torch.manual_seed(0)
    made = part("hrrformer.attention:HolographicAttention")(width, heads)
    return passes(made, torch.randn(batch, length, width), training, "tokens")


def layer(batch: int, length: int, width: int, heads: int) -> Work:
    """A layer of Hrrformer: attention, MLP of twice the width, norms; without dropout."""
    settings = part("hrrformer.settings:task_settings")(
        "text", length=length, width=width, heads=heads, mlp_width=2 * width, dropout=0.0
    )
    torch.manual_seed(0)
    made = part("hrrformer.network:Block")(settings, 0)
    return passes(made, torch.randn(batch, length, width), True, "tokens")


def episode_data(size: int, classes: int, images: int = 20) -> Any:
    """Classes of noise in the form of Omniglot's."""
    pixels = torch.randint(0, 256, (classes * images, 1, size, size), dtype=torch.uint8)
    names = tuple(f"class {i}" for i in range(classes))
    source = part("data.episodes.classes:ClassImages")(
        "noise", pixels, torch.arange(classes + 1) * images, names
    )
    info = part("hypertransformer.fewshot.data:EpisodeInfo")(
        "noise", "noise", (1, size, size), {"train": classes}, (), "noise"
    )
    splits = {"train": (source, tuple(range(classes)))}
    return part("hypertransformer.fewshot.data:EpisodeData")(splits, info)


def few_shot(ways: int, size: int = 28, **model: Any) -> tuple[Any, Any, Any]:
    """Task, its episodes and network: 1 shot, 3 queries a class, the released settings."""
    config = part("hypertransformer.fewshot.presets:preset")(
        "omniglot-20way-1shot",
        episodes={
            "num_labels": ways,
            "samples_transformer": ways,
            "samples_cnn": 3 * ways,
            "image_size": size,
        },
        model=model,
    )
    data = episode_data(size, 2 * ways)
    config = config.resolved(1, 2 * ways)
    made = part("hypertransformer.fewshot.tasks:build_network")(config)
    task = part("hypertransformer.fewshot.tasks:build_task")(made, config)
    return task, data.episodes(config, "train", training=True), made


def hypertransformer(episodes: int, training: bool = True, **setting: Any) -> Work:
    """Training steps (drawing, forward, backward, update) or answers to episodes."""
    task, source, model = few_shot(**setting)
    step_of, generator_of = (
        part("hypertransformer.fewshot.tasks:Step"),
        part("data.episodes.sampling:episode_generator"),
    )
    optimizer = torch.optim.SGD(model.train(training).parameters(), 0.02)

    def step() -> None:
        drawn = source.batch(episodes, generator_of(0, 0, 0))
        if not training:
            with torch.no_grad():
                task.evaluate(drawn)
            return
        terms, _ = task.loss_terms(model, step_of(drawn, 0), task.targets(drawn))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return Work(step, episodes, "episodes")


def baseline(name: str, batch: int, size: int = 32, training: bool = True, **network: Any) -> Work:
    """ResNet-18 or CCNN: a training step with AdamW, or an answer."""
    config = part("config:ModelConfig")(size=size, in_channels=3, classes=10)
    settings = part("classification.config:NetworkConfig")(name, **network)
    torch.manual_seed(0)
    model = part("classification.networks:BASELINES")[name](config, settings).train(training)
    x, labels = torch.randn(batch, 3, size, size), torch.arange(batch) % 10
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def step() -> None:
        with torch.set_grad_enabled(training):
            logits = model(x)
            if training:
                optimizer.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(logits, labels).backward()
                optimizer.step()

    return Work(step, batch, "images")


# -- data ------------------------------------------------------------------------------------------


def decode(images: int, side: int, size: int) -> Work:
    """Class folders of JPEG files to arrays, each made smaller."""
    from PIL import Image

    decode_all = part("data.reading:decode_all")
    folder = tempfile.TemporaryDirectory()
    pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8).numpy()
    written = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(written, "JPEG")
    names = {f"{i}.jpg" for i in range(images)}
    for name in names:
        Path(folder.name, name).write_bytes(written.getvalue())

    def step() -> None:
        decode_all(Path(folder.name), names, size, 3, "refuse")

    return Work(step, images, "images")


def augment(images: int, size: int) -> Work:
    """Crops and flips of a batch, and its normalisation."""
    augmentation = part("data.augment:Augmentation")()
    normalize = part("data.augment:normalize")
    pixels = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        draws = augmentation.draw(images, generator)
        normalize(augmentation.apply(pixels, draws), (0.5,) * 3, (0.3,) * 3)

    return Work(step, images, "images")


def episodes(count: int, ways: int, size: int = 28) -> Work:
    """Episodes drawn, with the augmentation of Omniglot."""
    _, source, _ = few_shot(ways, size)
    generator_of = part("data.episodes.sampling:episode_generator")
    return Work(lambda: source.batch(count, generator_of(0, 0, 0)), count, "episodes")


def tokens(batch: int, length: int) -> Work:
    """Padded batches of texts of many lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, length + 1, (512,), generator=generator).tolist()
    texts = part("data.sequences.tokens:Sequences").of([b"a" * n for n in lengths], 1)
    index = torch.randint(0, 512, (batch,), generator=generator)
    return Work(lambda: texts.batch(index, length), batch * length, "tokens")


def trees(length: int) -> Work:
    """ListOps: trees drawn, with their values."""
    settings = part("data.sequences.settings:ListOpsSettings")(length // 4, length)
    made = part("data.sequences.listops:make_part")
    return Work(lambda: made(settings, 0), len(made(settings, 0)["ids"]), "tokens")


# -- starts ----------------------------------------------------------------------------------------


def start(code: str) -> Work:
    """A new process that runs these statements and ends."""
    return Work(lambda: subprocess.run([sys.executable, "-c", code], check=True), 1, "starts")


FIRST_STEP = """
import torch
from terminator.losses import norm_penalty
from terminator.model import Terminator
from terminator.optim import Kar3
model = Terminator(size=8)
optimizer = Kar3(model.parameters(), lr=1e-4)
model(torch.randn(64, 3, 8, 8)).sum().backward()
optimizer.step()
"""
